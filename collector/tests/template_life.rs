//! How long templates are known, and what waits for them.

mod messages;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytesize::ByteSize;
use flowsluice::batch::json;
use flowsluice::config;
use flowsluice::decode::Shared;
use flowsluice::flow::{Flow, SamplingSource};
use flowsluice::ledger::DropReason;
use flowsluice::receive::Session;
use flowsluice::receive::allow::{AllowList, Followed};
use flowsluice::units::UnixNanos;
use messages::{
    Bench, RECEIVED, UPTIME_MS, datagram, ipfix, netflow9, options_template_ipfix,
    options_template_v9, set, template, twenty_field_records, twenty_field_template,
};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const EXPORTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Two benches that share what they learn.
fn two() -> (Bench, Bench) {
    let shared = Arc::<Shared>::default();
    let config = config::Decode::default();
    let one = || Bench::with(&config, Arc::clone(&shared));
    (one(), one())
}

fn as_json(flows: &[Flow]) -> Vec<String> {
    let rows = flows.iter().map(|flow| {
        let mut row = Vec::new();
        json::write_row(flow, &mut row).unwrap();
        String::from_utf8(row).unwrap()
    });
    rows.collect()
}

fn data() -> Vec<u8> {
    netflow9(&[set(256, &twenty_field_records(2))])
}

/// A NetFlow v9 datagram of `sets`, sent `later_ms` after the others by the exporter's clocks.
fn netflow9_later(later_ms: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = netflow9(sets);
    payload[4..8].copy_from_slice(&(UPTIME_MS + later_ms).to_be_bytes());
    let export_s = u32::from_be_bytes(payload[8..12].try_into().unwrap());
    payload[8..12].copy_from_slice(&(export_s + later_ms / 1000).to_be_bytes());
    payload
}

/// Lets the decoder look for what is too old, as a worker does each turn, until `after_ms`.
fn age(bench: &mut Bench, from_ms: u64, until_ms: u64) {
    for at_ms in (from_ms..=until_ms).step_by(30_000) {
        let now = UnixNanos(RECEIVED.0 + at_ms * 1_000_000);
        bench.decoder.age(now, &mut bench.counts);
    }
    bench.decoder.turn();
}

#[test]
fn a_set_before_its_template_makes_the_rows_that_it_would_have_made_after_it() {
    let mut usual = Bench::new();
    usual.decode(&netflow9(&[twenty_field_template()]));
    let expected = usual.decode(&data());
    assert_eq!(expected.len(), 2);

    let mut bench = Bench::new();
    assert_eq!(bench.decode(&data()).len(), 0);
    assert_eq!(bench.counts.sets_held, 1);
    // The template comes 20 s later, when both clocks tell another time.
    let later = netflow9_later(20_000, &[twenty_field_template()]);
    let rows = bench.decode_of(EXPORTER, 20_000, &later);
    assert_eq!(as_json(&rows), as_json(&expected));
    assert_eq!(bench.counts.sets_replayed, 1);
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 0);
    // What comes after is of its own time again.
    let data = netflow9_later(30_000, &[set(256, &twenty_field_records(1))]);
    let rows = bench.decode_of(EXPORTER, 30_000, &data);
    assert_eq!(rows[0].time_received_s, expected[0].time_received_s + 30);
}

#[test]
fn sets_wait_in_the_order_in_which_they_came() {
    let mut bench = Bench::new();
    for n in 1..=3 {
        bench.decode(&ipfix(&[set(256, &[0, 0, 0, n])]));
    }
    let rows = bench.decode(&ipfix(&[
        set(256, &[0, 0, 0, 4]),
        set(2, &template(256, &[(1, 4)])),
        set(256, &[0, 0, 0, 5]),
    ]));
    let mut bytes: Vec<_> = rows.iter().map(|row| row.raw_bytes).collect();
    assert_eq!(bytes.pop(), Some(4));
    assert_eq!(bytes, [5, 1, 2, 3]);
}

#[test]
fn a_set_that_one_worker_holds_is_decoded_by_the_one_that_gets_its_template() {
    let (mut first, mut second) = two();
    assert_eq!(first.decode(&data()).len(), 0);
    let rows = second.decode(&netflow9(&[twenty_field_template()]));
    assert_eq!(rows.len(), 2);
    assert_eq!((first.counts.sets_held, second.counts.sets_held), (1, 0));
    assert_eq!(
        (first.counts.sets_replayed, second.counts.sets_replayed),
        (0, 1)
    );
    first.end();
    second.end();
    for bench in [&first, &second] {
        assert_eq!(bench.dropped(DropReason::TemplateMissing), 0);
    }
}

#[test]
fn a_template_that_another_worker_learned_in_this_turn_is_used_at_once() {
    let (mut first, mut second) = two();
    first.decode(&netflow9(&[]));
    second.decode(&netflow9(&[twenty_field_template()]));
    // The first has had no turn since.
    assert_eq!(first.decode(&data()).len(), 2);
    assert_eq!(first.counts.sets_held, 0);
}

#[test]
fn options_before_their_template_tell_their_rate_when_it_comes() {
    let mut bench = Bench::new();
    let rate = set(300, &[0, 0, 0, 1, 0, 0, 3, 232]);
    bench.decode(&netflow9(&[twenty_field_template(), rate]));
    let options = options_template_v9(300, &[(1, 4)], &[(34, 4)]);
    bench.decode(&netflow9(&[set(1, &options)]));
    let rows = bench.decode(&data());
    assert_eq!(rows[0].sampling_rate, 1000);
    assert_eq!(rows[0].sampling_source, SamplingSource::Options);
}

#[test]
fn a_held_set_is_decoded_with_the_first_template_of_its_id_only() {
    let packets = || set(2, &template(256, &[(2, 4)]));
    let bytes = || set(2, &template(256, &[(1, 4)]));
    let data = || set(256, &[0, 0, 0, 9]);
    for gone in [set(2, &template(256, &[(2, 4)])), set(2, &[1, 0, 0, 0])] {
        let mut bench = Bench::new();
        bench.decode(&ipfix(&[data()]));
        let rows = bench.decode(&ipfix(&[bytes(), gone]));
        assert_eq!((rows.len(), rows[0].raw_bytes), (1, 9));
    }
    let all_gone = set(2, &[0, 2, 0, 0]);
    let mut bench = Bench::new();
    bench.decode(&ipfix(&[data()]));
    assert_eq!(bench.decode(&ipfix(&[bytes(), all_gone])).len(), 1);
    // Withdrawn, another one comes, and only what came after the withdrawal is read with that.
    bench.decode(&ipfix(&[data()]));
    let rows = bench.decode(&ipfix(&[packets()]));
    assert_eq!((rows.len(), rows[0].raw_packets), (1, 9));
    assert_eq!(bench.decode(&ipfix(&[bytes()])).len(), 0);
}

#[test]
fn uptimes_of_a_held_ipfix_set_are_dated_by_the_boot_time_that_came_meanwhile() {
    let mut bench = Bench::new();
    let uptime = 5000_u32.to_be_bytes();
    bench.decode(&ipfix(&[set(256, &uptime)]));
    let boot_ms: u64 = 1_699_999_000_000;
    let options = set(3, &options_template_ipfix(400, 1, &[(144, 4), (160, 8)]));
    let boot = [&[0, 0, 0, 1][..], &boot_ms.to_be_bytes()].concat();
    bench.decode(&ipfix(&[options, set(400, &boot)]));
    let rows = bench.decode(&ipfix(&[set(2, &template(256, &[(21, 4)]))]));
    assert_eq!(rows[0].flow_end_ms, boot_ms + 5000);
}

#[test]
fn what_the_operator_knows_of_an_exporter_holds_for_its_held_sets() {
    let config = config::Decode {
        exporters: vec![config::ExporterOverride {
            source: "192.0.2.0/24".parse().unwrap(),
            sampling_rate: 0,
            sampling_force: false,
            scope: config::TemplateScope::Exporter,
            time: config::TimeSource::Received,
        }],
        ..Default::default()
    };
    let mut bench = Bench::with(&config, Arc::default());
    let of_domain = |domain: u8, sets: &[Vec<u8>]| {
        let mut payload = ipfix(sets);
        payload[15] = domain;
        payload
    };
    let data = |n: u8| set(256, &[0, 0, 0, n]);
    bench.decode(&of_domain(1, &[data(1)]));
    bench.decode_of(EXPORTER, 5000, &of_domain(2, &[data(2)]));
    let templates = set(2, &template(256, &[(1, 4)]));
    let last = of_domain(3, &[templates, data(3)]);
    let rows = bench.decode_of(EXPORTER, 20_000, &last);
    let told = |row: &Flow| (row.raw_bytes, row.observation_domain, row.flow_end_ms);
    let received_ms = RECEIVED.millis();
    let expected = [
        (3, 3, received_ms + 20_000),
        (1, 1, received_ms),
        (2, 2, received_ms + 5000),
    ];
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn a_held_set_that_was_cut_short_is_counted_as_such_when_it_is_decoded() {
    let mut bench = Bench::new();
    let mut cut = data();
    cut.truncate(cut.len() - 10);
    bench.decode(&cut);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 0);
    let rows = bench.decode(&netflow9(&[twenty_field_template()]));
    assert_eq!(rows.len(), 1);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 1);
}

#[test]
fn sets_are_held_as_far_as_memory_allows_and_no_domain_or_template_takes_all_of_it() {
    let config = config::Decode {
        pending_max: ByteSize::mib(1),
        ..Default::default()
    };
    let mut bench = Bench::with(&config, Arc::default());
    let mut held = |domain: u8, id: u16| {
        let before = bench.counts.sets_held;
        // The room that is told to be none is asked for again in the next tenth of a second.
        for after_ms in 0..400 {
            let mut payload = ipfix(&[set(id, &[7; 1000])]);
            payload[15] = domain;
            // Each of an exporter of its own: an address may have a quarter.
            let exporter = Ipv4Addr::new(192, 0, 2, domain);
            bench.decode_of(exporter, after_ms, &payload);
        }
        bench.counts.sets_held - before
    };
    // Of 1 MiB a sixteenth a template, an eighth a domain; half a KiB around each set.
    assert_eq!([held(1, 256), held(1, 257), held(1, 258)], [43, 43, 0]);
    let others: u64 = (2..=9)
        .map(|domain| held(domain, 256) + held(domain, 257))
        .sum();
    assert_eq!(86 + others, (1 << 20) / (1000 + 8 + 512));
    bench.end();
    let (counts, missing) = (&bench.counts, bench.dropped(DropReason::TemplateMissing));
    assert_eq!(counts.sets_given_up, counts.sets_held);
    assert_eq!(missing, counts.datagrams_decoded);
}

#[test]
fn a_set_waits_for_half_an_hour_and_is_then_counted() {
    let mut bench = Bench::new();
    bench.decode(&data());
    age(&mut bench, 0, 29 * MINUTE_MS);
    bench.decode_of(EXPORTER, 29 * MINUTE_MS, &data());
    assert_eq!(bench.counts.sets_given_up, 0);
    age(&mut bench, 29 * MINUTE_MS, 31 * MINUTE_MS);
    assert_eq!(bench.counts.sets_given_up, 1);
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 1);
    let template = netflow9(&[twenty_field_template()]);
    let rows = bench.decode_of(EXPORTER, 31 * MINUTE_MS, &template);
    assert_eq!(rows.len(), 2, "the younger one");
}

#[test]
fn what_still_waits_at_the_stop_is_counted_by_the_last_worker() {
    let (mut first, mut second) = two();
    first.decode(&data());
    first.end();
    assert_eq!(first.counts.sets_given_up, 0, "the other may still learn");
    second.end();
    assert_eq!(second.counts.sets_given_up, 1);
    assert_eq!(second.dropped(DropReason::TemplateMissing), 1);
}

#[test]
fn a_template_that_is_neither_sent_nor_used_for_its_lifetime_is_forgotten_by_all() {
    let shared = Arc::<Shared>::default();
    let config = config::Decode::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let mut other = Bench::with(&config, Arc::clone(&shared));
    let of = |id: u16| set(2, &template(id, &[(1, 4)]));
    bench.decode(&ipfix(&[of(256), of(257), of(258)]));
    age(&mut bench, 0, 12 * HOUR_MS);
    // One is used, one is sent again.
    other.decode_of(EXPORTER, 12 * HOUR_MS, &ipfix(&[set(257, &[0; 4])]));
    other.decode_of(EXPORTER, 12 * HOUR_MS, &ipfix(&[of(258)]));
    age(&mut bench, 12 * HOUR_MS, 24 * HOUR_MS);
    assert_eq!(bench.counts.templates_expired, 0);
    age(&mut bench, 24 * HOUR_MS, 24 * HOUR_MS + MINUTE_MS);
    assert_eq!(bench.counts.templates_expired, 1);
    assert_eq!(shared.templates(), 2);
    for bench in [&mut bench, &mut other] {
        bench.decoder.turn();
        let each = |id| ipfix(&[set(id, &[0; 4])]);
        let rows = |bench: &mut Bench, id| bench.decode_of(EXPORTER, 24 * HOUR_MS, &each(id)).len();
        assert_eq!([256, 257, 258].map(|id| rows(bench, id)), [0, 1, 1]);
    }
}

#[test]
fn templates_outlive_a_clock_that_is_set_and_lifetime_0() {
    let mut bench = Bench::new();
    bench.decode(&netflow9(&[twenty_field_template()]));
    age(&mut bench, 0, 0);
    // Ten years later, at once; and back.
    age(&mut bench, 87_600 * HOUR_MS, 87_601 * HOUR_MS);
    age(&mut bench, 0, 24 * HOUR_MS - MINUTE_MS);
    assert_eq!(bench.counts.templates_expired, 0);
    assert_eq!(bench.decode(&data()).len(), 2);

    let config = config::Decode {
        template_lifetime: std::time::Duration::ZERO,
        ..Default::default()
    };
    let mut bench = Bench::with(&config, Arc::default());
    bench.decode(&netflow9(&[twenty_field_template()]));
    age(&mut bench, 0, 100 * HOUR_MS);
    assert_eq!(bench.decode(&data()).len(), 2);
}

#[test]
fn the_template_used_least_gives_way_when_an_exporter_has_as_many_as_it_may() {
    let config = config::Decode {
        templates_per_exporter_max: 3,
        ..Default::default()
    };
    let mut bench = Bench::with(&config, Arc::default());
    let of = |id: u16| set(2, &template(id, &[(1, 4)]));
    let data = |id: u16| set(id, &[0; 4]);
    bench.decode(&ipfix(&[of(256), of(257), of(258)]));
    bench.decode_of(EXPORTER, 5000, &ipfix(&[data(256), data(258)]));
    bench.decode_of(EXPORTER, 6000, &ipfix(&[of(259), data(259)]));
    assert_eq!(bench.counts.templates_evicted, 1);
    assert_eq!(bench.dropped(DropReason::TemplateLimit), 0);
    let sets = [256, 258, 259].map(data);
    assert_eq!(bench.decode_of(EXPORTER, 7000, &ipfix(&sets)).len(), 3);
    assert_eq!(
        bench.decode_of(EXPORTER, 7000, &ipfix(&[data(257)])).len(),
        0
    );
    // All are in use: the one that was used longest ago.
    bench.decode_of(EXPORTER, 8000, &ipfix(&[data(256), data(259)]));
    bench.decode_of(EXPORTER, 9000, &ipfix(&[of(260)]));
    assert_eq!(
        bench.decode_of(EXPORTER, 9000, &ipfix(&[data(258)])).len(),
        0
    );
}

#[test]
fn templates_invented_in_an_exporters_name_do_not_push_out_those_in_use() {
    let config = config::Decode {
        templates_per_exporter_max: 64,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let real = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(1))]);
    bench.decode(&real);
    for n in 0..20_000_u64 {
        let id = 1000 + (n % 50_000) as u16;
        let payload = netflow9(&[set(0, &template(id, &[(1, 4)]))]);
        bench.decode_of(EXPORTER, n, &payload);
    }
    assert!(bench.counts.templates_evicted > 2000);
    // That costs time, so it is done 128 times a second at most.
    assert!(bench.dropped(DropReason::TemplateLimit) > 15_000);
    assert_eq!(shared.templates(), 64);
    let rows = bench.decode_of(EXPORTER, 20_000, &data());
    assert_eq!(rows.len(), 2);
}

#[test]
fn what_came_in_a_session_lives_and_ends_with_it() {
    let Bench {
        decoder,
        counts,
        rows,
    } = Bench::new();
    let mut bench = Bench {
        decoder: decoder.by_session(),
        counts,
        rows,
    };
    let templates = ipfix(&[set(2, &template(256, &[(1, 4)]))]);
    let data = |id| ipfix(&[set(id, &[0; 4])]);
    bench.decode(&templates);
    bench.decode(&data(257));
    // A template is sent once in a session.
    age(&mut bench, 0, 48 * HOUR_MS);
    assert_eq!(bench.counts.templates_expired, 0);
    assert_eq!(bench.counts.sets_given_up, 1);
    assert_eq!(bench.decode(&data(256)).len(), 1);
    bench.decode(&data(257));
    bench.decoder.end_session(&Session {
        source: EXPORTER.into(),
        source_port: datagram(&[]).source_port,
    });
    // The next one from the same port has other templates.
    assert_eq!(bench.decode(&data(256)).len(), 0);
    let rows = bench.decode(&ipfix(&[set(2, &template(257, &[(1, 4)]))]));
    assert_eq!(rows.len(), 0);
    assert_eq!(bench.decode(&templates).len(), 1);
    bench.end();
    let counts = &bench.counts;
    assert_eq!((counts.sets_held, counts.sets_given_up), (3, 2));
    assert_eq!(counts.sets_replayed, 1);
}

fn by_session(config: &config::Decode, shared: &Arc<Shared>) -> Bench {
    let bench = Bench::with(config, Arc::clone(shared));
    Bench {
        decoder: bench.decoder.by_session(),
        ..bench
    }
}

#[test]
fn an_open_session_keeps_its_templates_while_others_could_give_way() {
    let config = config::Decode {
        exporters_max: 2,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut session = by_session(&config, &shared);
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let data = set(256, &[0; 4]);
    session.decode(&ipfix(&[set(2, &template(256, &[(1, 4)])), data.clone()]));
    let real = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(1))]);
    let host = |n| Ipv4Addr::new(198, 51, 100, n);
    bench.decode_of(host(1), MINUTE_MS, &real);
    // Both have been silent for ten minutes, the session for longer.
    assert_eq!(bench.decode_of(host(2), 12 * MINUTE_MS, &real).len(), 1);
    session.decoder.turn();
    assert_eq!(
        session
            .decode_of(EXPORTER, 12 * MINUTE_MS, &ipfix(&[data]))
            .len(),
        1
    );
}

#[test]
fn what_a_session_lost_is_shown_while_it_lasts_and_told_when_it_has_ended() {
    let shared = Arc::<Shared>::default();
    let mut bench = by_session(&config::Decode::default(), &shared);
    let mut message = ipfix(&[set(2, &template(256, &[(1, 4)]))]);
    message[8..12].fill(0);
    bench.decode(&message);
    let mut send = |sequence: u32, after_ms| {
        let mut message = ipfix(&[set(256, &[0; 4])]);
        message[8..12].copy_from_slice(&sequence.to_be_bytes());
        bench.decode_of(EXPORTER, after_ms, &message);
    };
    // Seven of twenty are left out, and three seconds pass.
    (0..10).for_each(|n| send(n, u64::from(n)));
    (17..27).for_each(|n| send(n, u64::from(n) + 3000));
    send(27, 6100);
    bench.decoder.turn();
    let [exporter] = *shared.exporters() else {
        panic!("one exporter");
    };
    assert_eq!(exporter.sequence.counts.lost, 7);
    bench.decoder.end_session(&Session {
        source: EXPORTER.into(),
        source_port: datagram(&[]).source_port,
    });
    let gone = shared.take_gone();
    let [(key, sequence)] = &*gone else {
        panic!("one session: {gone:?}");
    };
    assert_eq!(key.source, EXPORTER);
    let (_, counts) = sequence.drain(RECEIVED);
    assert_eq!((counts.received, counts.lost), (21, 7));
    assert!(shared.take_gone().is_empty(), "once");
}

#[test]
fn strangers_teach_nothing_where_exporters_are_listed() {
    let shared = Arc::<Shared>::default();
    let config = config::Decode::default();
    let Bench {
        decoder,
        counts,
        rows,
    } = Bench::with(&config, Arc::clone(&shared));
    let allowed = Followed::new(&AllowList::new(vec!["192.0.2.0/24".parse().unwrap()]));
    let mut bench = Bench {
        decoder: decoder.allowing(allowed),
        counts,
        rows,
    };
    let real = netflow9(&[twenty_field_template()]);
    bench.decode(&real);
    for n in 0..1000 {
        let stranger = Ipv4Addr::from(0x0a00_0000 + n);
        bench.decode_of(stranger, 0, &netflow9(&[set(999, &[1; 44])]));
        bench.decode_of(stranger, 0, &real);
    }
    assert_eq!(bench.dropped(DropReason::ExporterNotAllowed), 2000);
    assert_eq!(bench.counts.sets_held, 0);
    assert_eq!(shared.templates(), 1);
}
