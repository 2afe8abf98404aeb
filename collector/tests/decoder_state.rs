//! What decoders keep between datagrams: what workers learn from each other, and its bounds.

mod messages;

use std::net::Ipv4Addr;
use std::sync::Arc;

use flowsluice::config;
use flowsluice::decode::Shared;
use flowsluice::ledger::DropReason;
use messages::{
    Bench, datagram, ipfix, netflow9, set, template, twenty_field_records, twenty_field_template,
};

#[test]
fn template_learned_by_one_worker_is_known_to_the_other_after_its_turn() {
    let shared = Arc::<Shared>::default();
    let config = config::Decode::default();
    let mut first = Bench::with(&config, Arc::clone(&shared));
    let mut second = Bench::with(&config, Arc::clone(&shared));
    let data = netflow9(&[set(256, &twenty_field_records(2))]);
    first.decode(&netflow9(&[twenty_field_template()]));
    second.decoder.turn();
    assert_eq!(second.decode(&data).len(), 2);
    first.decoder.turn();
    second.decoder.turn();
    let exporters = shared.exporters();
    assert_eq!(exporters.len(), 1);
    assert_eq!((exporters[0].datagrams, exporters[0].flows), (2, 2));
    assert_eq!(exporters[0].templates, 1);
}

#[test]
fn what_two_workers_learn_at_the_same_time_is_not_lost() {
    let shared = Arc::<Shared>::default();
    let config = config::Decode::default();
    let mut first = Bench::with(&config, Arc::clone(&shared));
    let mut second = Bench::with(&config, Arc::clone(&shared));
    second.decode(&ipfix(&[]));
    first.decode(&ipfix(&[set(2, &template(256, &[(1, 4)]))]));
    let Bench {
        decoder,
        counts,
        rows,
    } = &mut second;
    // Without a turn between: it does not know 256 yet when it learns 257.
    let payload = ipfix(&[set(2, &template(257, &[(1, 4)]))]);
    decoder.decode(&datagram(&payload), counts, rows);
    let both = ipfix(&[set(256, &[0; 4]), set(257, &[0; 4])]);
    assert_eq!(second.decode(&both).len(), 2);
    first.decoder.turn();
    assert_eq!(first.decode(&both).len(), 2);
    let mut third = Bench::with(&config, shared);
    assert_eq!(third.decode(&both).len(), 2);
}

#[test]
fn same_template_id_of_two_domains_is_two_templates() {
    let mut bench = Bench::new();
    bench.decode(&ipfix(&[set(2, &template(256, &[(1, 4)]))]));
    let mut other = ipfix(&[set(2, &template(256, &[(2, 4)]))]);
    other[15] = 8;
    bench.decode(&other);
    let rows = bench.decode(&ipfix(&[set(256, &[0, 0, 0, 9])]));
    assert_eq!((rows[0].raw_bytes, rows[0].raw_packets), (9, 0));
}

#[test]
fn exporters_and_templates_are_bounded() {
    let config = config::Decode {
        exporters_max: 2,
        templates_max: 3,
        templates_per_exporter_max: 2,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let three = (256..259).map(|id| set(2, &template(id, &[(1, 4)])));
    let sets = [three.collect::<Vec<_>>().concat()];
    let payload = ipfix(&[&sets[..], &[set(258, &[0; 4]), set(256, &[0; 4])]].concat());
    for n in 1..=3 {
        bench.decode_of(host(n), 0, &payload);
    }
    assert_eq!(bench.dropped(DropReason::ExporterLimit), 1);
    // The first has two at most, of which one gave way, and so one is left for the second.
    assert_eq!(bench.counts.templates_evicted, 1);
    assert_eq!(bench.dropped(DropReason::TemplateLimit), 2);
    assert_eq!(shared.templates(), 3);
    assert_eq!(bench.counts.flows_decoded, 2);
    // Another worker has no room for them either.
    let mut second = Bench::with(&config, shared);
    second.decode_of(host(9), 0, &payload);
    assert_eq!(second.dropped(DropReason::ExporterLimit), 1);
}

#[test]
fn one_source_address_does_not_take_the_templates_of_all() {
    let config = config::Decode {
        templates_max: 40,
        templates_per_exporter_max: 10,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let real = ipfix(&[set(2, &template(256, &[(1, 4)])), set(256, &[0; 4])]);
    assert_eq!(bench.decode_of(host(1), 0, &real).len(), 1);
    for n in 0..50 {
        let mut other = ipfix(&[set(2, &template(300 + n, &[(1, 4)])), set(300 + n, &[0; 4])]);
        other[15] = 10 + (n % 5) as u8;
        bench.decode_of(host(1), 1000 + u64::from(n), &other);
    }
    assert_eq!(shared.templates(), 10);
    // None that is in use gave way, be it that of another domain.
    assert_eq!(bench.dropped(DropReason::TemplateLimit), 41);
    let data = ipfix(&[set(256, &[0; 4])]);
    assert_eq!(bench.decode_of(host(1), 2000, &data).len(), 1);
    assert_eq!(bench.decode_of(host(2), 2000, &real).len(), 1);
}

/// A NetFlow v9 header of source `id` and nothing else.
fn bare(id: u32) -> Vec<u8> {
    let mut payload = netflow9(&[]);
    payload[16..20].copy_from_slice(&id.to_be_bytes());
    payload
}

fn host(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n)
}

#[test]
fn five_thousand_domains_of_one_source_do_not_lock_out_the_others_nor_itself() {
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config::Decode::default(), Arc::clone(&shared));
    for id in 0..5000 {
        bench.decode_of(host(1), 0, &bare(id));
    }
    assert_eq!(bench.counts.datagrams_decoded, 4096 / 16 + 1);
    bench.decoder.turn();
    assert_eq!(shared.exporters().len(), 4096 / 16);
    let real = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(2))]);
    assert_eq!(bench.decode_of(host(2), 0, &real).len(), 2);
    assert_eq!(bench.decode_of(host(1), 1000, &real).len(), 2);
}

#[test]
fn invented_sources_do_not_lock_out_a_real_exporter() {
    let config = config::Decode::default();
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let mut second = Bench::with(&config, Arc::clone(&shared));
    let data = netflow9(&[set(256, &twenty_field_records(2))]);
    let real = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(2))]);
    bench.decode_of(host(0), 0, &real);
    for n in 1..=5000 {
        // One a millisecond.
        let by = if n % 2 == 0 { &mut bench } else { &mut second };
        by.decode_of(host(n), n.into(), &bare(7));
    }
    assert!(bench.dropped(DropReason::ExporterLimit) > 0, "it was full");
    assert_eq!(bench.decode_of(host(9000), 6000, &real).len(), 2);
    assert_eq!(bench.decode_of(host(0), 6000, &data).len(), 2, "known");
    assert_eq!(second.decode_of(host(9000), 6000, &data).len(), 2);
    assert_eq!(shared.templates(), 2);
    for by in [&mut bench, &mut second] {
        by.decoder.turn();
        by.decoder.turn();
    }
    assert_eq!(shared.exporters().len(), 4096);
}

#[test]
fn a_search_for_somebody_to_evict_happens_at_most_every_ten_milliseconds() {
    let config = config::Decode {
        exporters_max: 4,
        ..Default::default()
    };
    let mut bench = Bench::with(&config, Arc::default());
    for n in 0..1000 {
        bench.decode_of(host(n), 0, &bare(7));
    }
    assert_eq!(bench.dropped(DropReason::ExporterLimit), 1000 - 4 - 1);
    for n in 0..1000 {
        bench.decode_of(host(2000 + n), 1 + u64::from(n), &bare(7));
    }
    assert!(bench.counts.datagrams_decoded <= 4 + 1 + 100);
}

#[test]
fn an_exporter_with_flows_keeps_its_place_for_ten_minutes_of_silence() {
    const MINUTE_MS: u64 = 60_000;
    let config = config::Decode {
        exporters_max: 2,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let mut second = Bench::with(&config, Arc::clone(&shared));
    let template = twenty_field_template();
    let data = netflow9(&[set(256, &twenty_field_records(1))]);
    let real = netflow9(&[template.clone(), set(256, &twenty_field_records(1))]);
    bench.decode_of(host(1), 0, &real);
    bench.decode_of(host(2), 0, &real);
    assert_eq!(second.decode_of(host(1), 1, &data).len(), 1);
    assert_eq!(bench.decode_of(host(3), 9 * MINUTE_MS, &real).len(), 0);
    assert_eq!(bench.dropped(DropReason::ExporterLimit), 1);
    // Host 2 is heard again, by the other worker; host 1 has been silent for longer.
    assert_eq!(second.decode_of(host(2), 9 * MINUTE_MS, &data).len(), 1);
    assert_eq!(bench.decode_of(host(3), 11 * MINUTE_MS, &real).len(), 1);
    assert_eq!(shared.templates(), 2);
    // Both workers have forgotten it: it is a new one, for which there is no place.
    for by in [&mut bench, &mut second] {
        by.decoder.turn();
        assert_eq!(by.decode_of(host(1), 11 * MINUTE_MS, &data).len(), 0);
        assert_eq!(by.dropped(DropReason::TemplateMissing), 0);
        by.decoder.turn();
    }
    let sources: Vec<_> = shared.exporters().iter().map(|e| e.source).collect();
    assert_eq!(sources, [host(2), host(3)]);
    // When there is one, it begins with its template again.
    assert_eq!(second.decode_of(host(1), 30 * MINUTE_MS, &data).len(), 0);
    assert_eq!(second.counts.sets_held, 1);
    assert_eq!(second.decode_of(host(1), 30 * MINUTE_MS, &real).len(), 2);
}

#[test]
fn one_who_has_a_template_gives_way_after_those_who_have_nothing() {
    let config = config::Decode {
        exporters_max: 2,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let template = netflow9(&[twenty_field_template()]);
    bench.decode_of(host(1), 0, &template);
    bench.decode_of(host(2), 100, &bare(7));
    bench.decode_of(host(3), 200, &template);
    assert_eq!(shared.templates(), 2, "host 2 made room");
    bench.decode_of(host(4), 300, &bare(7));
    assert_eq!(shared.templates(), 1, "host 1 made room");
    let data = netflow9(&[set(256, &twenty_field_records(1))]);
    assert_eq!(bench.decode_of(host(3), 300, &data).len(), 1);
}

#[test]
fn templates_of_one_who_never_sends_a_flow_do_not_take_the_room_of_others() {
    let config = config::Decode {
        templates_max: 10,
        templates_per_exporter_max: 10,
        ..Default::default()
    };
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let ten: Vec<_> = (300..310)
        .map(|id| set(0, &template(id, &[(1, 4)])))
        .collect();
    bench.decode_of(host(1), 0, &netflow9(&ten));
    assert_eq!(shared.templates(), 10);
    let real = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(1))]);
    assert_eq!(bench.decode_of(host(2), 100, &real).len(), 1);
    assert_eq!(shared.templates(), 1);
    assert_eq!(bench.counts.templates_evicted, 10);
    // Those of one who does are never taken for others: the bound holds, for him by what he uses
    // least.
    bench.decode_of(host(2), 200, &netflow9(&ten));
    assert_eq!(shared.templates(), 10);
    assert_eq!(bench.counts.templates_evicted, 11);
    assert_eq!(bench.dropped(DropReason::TemplateLimit), 0);
    assert_eq!(bench.decode_of(host(3), 300, &real).len(), 0);
    assert_eq!(bench.dropped(DropReason::TemplateLimit), 1);
    let data = netflow9(&[set(256, &twenty_field_records(1))]);
    assert_eq!(bench.decode_of(host(2), 400, &data).len(), 1);
}
