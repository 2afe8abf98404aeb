//! What exporters' state takes, against the sum that `flowsluice check` prints.

mod counting;
mod messages;

use std::net::Ipv4Addr;
use std::sync::Arc;

use counting::live_bytes;
use flowsluice::config::{self, Config, memory};
use flowsluice::decode::sequence::HELD_BYTES;
use flowsluice::decode::sflow::{CounterQueue, DiscardQueue, SAID_BYTES};
use flowsluice::decode::{ExtraBuffer, Shared};
use flowsluice::ledger::DropReason;
use flowsluice::names;
use messages::{Bench, TWENTY_FIELDS, netflow9, set, template, twenty_field_records};

/// Bytes that the decoder's state may take with one worker, and of these those of templates.
fn bounds(decode: &config::Decode) -> (i64, i64) {
    let config = Config {
        decode: decode.clone(),
        ..Config::default()
    };
    let sum = memory::sum(&config, 1, 0);
    let line = |what: &str| {
        let line = sum.lines.iter().find(|line| line.what == what);
        line.unwrap_or_else(|| panic!("no line for {what}")).bytes as i64
    };
    let templates = line("templates");
    (line("exporters") + templates, templates)
}

fn host(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n)
}

/// 30 fields, more than most routers send.
fn thirty_fields() -> Vec<(u16, u16)> {
    let more = [27, 28, 62, 56, 80, 32, 176, 177, 136, 89];
    let more = more.map(|id| {
        (
            id,
            if id < 63 && id != 32 && id != 56 {
                16
            } else {
                1
            },
        )
    });
    [&TWENTY_FIELDS[..], &more].concat()
}

#[test]
fn a_thousand_exporters_of_twenty_templates_stay_within_the_sum() {
    let config = config::Decode {
        exporters_max: 1000,
        templates_max: 20_000,
        ..Default::default()
    };
    let fields = thirty_fields();
    let templates: Vec<_> = (256..276)
        .map(|id| set(0, &template(id, &fields)))
        .collect();
    let payload = netflow9(&templates);
    let before = live_bytes();
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    for n in 0..1000 {
        bench.decode_of(host(n), 0, &payload);
    }
    assert_eq!(shared.templates(), 20_000, "they are of ordinary length");
    let taken = live_bytes() - before;
    let (bound, _) = bounds(&config);
    println!("1000 exporters x 20 templates of 30 fields: {taken} bytes; bound: {bound}");
    assert!(taken < bound, "{taken} of {bound}");
    assert!(
        taken > bound / 8,
        "the bound is far too high: {taken} of {bound}"
    );
}

#[test]
fn the_longest_templates_stay_within_the_sum_with_a_name_for_each_of_their_fields() {
    let config = config::Decode {
        templates_max: 4000,
        extra: vec!["*".parse().unwrap()],
        ..Default::default()
    };
    // Elements that fill no column, each with a name of its own.
    let fields: Vec<_> = (0..250).map(|n| (20_000 + n, 4)).collect();
    let before = live_bytes();
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let start = live_bytes();
    for n in 0..1000 {
        let sets: Vec<_> = (256..262)
            .map(|id| set(0, &template(id, &fields)))
            .collect();
        bench.decode_of(host(n), n.into(), &netflow9(&sets));
    }
    let taken = live_bytes() - start;
    let (bound, _) = bounds(&config);
    let names = config.templates_max as i64 * memory::EXTRA_NAMES_BYTES as i64;
    let learned = bench.counts.templates_learned;
    println!("{learned} templates of 250 fields learned: {taken} bytes; bound: {bound} + {names}");
    let own = start - before;
    let queues = CounterQueue::MEMORY_BYTES + DiscardQueue::MEMORY_BYTES + names::INBOX_BYTES;
    let of_a_worker = ExtraBuffer::MEMORY_BYTES + HELD_BYTES + SAID_BYTES;
    let named = (queues + of_a_worker) as i64;
    println!("before the first exporter: {own} bytes; of these the sum names {named}");
    assert!(own < named + (256 << 10), "{own} of {named}");
    assert!(
        bench.dropped(DropReason::TemplateLimit) > 0,
        "there were too many"
    );
    assert!(taken < bound + names, "{taken} of {bound} + {names}");
}

#[test]
fn sets_that_wait_take_no_more_than_configured_however_small_they_are() {
    let config = config::Decode::default();
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    for n in 0..100 {
        bench.decode_of(host(n), 0, &netflow9(&[]));
    }
    let before = live_bytes();
    for n in 0..100 {
        for first in (256..5256).step_by(100) {
            let sets: Vec<_> = (first..first + 100).map(|id| set(id, &[7; 4])).collect();
            bench.decode_of(host(n), first.into(), &netflow9(&sets));
        }
    }
    let (taken, bound) = (live_bytes() - before, config.pending_max.as_u64() as i64);
    println!(
        "{} sets of 4 bytes: {taken} bytes; bound: {bound}",
        bench.counts.sets_held
    );
    assert!(taken < bound, "{taken} of {bound}");
    assert!(
        taken > bound / 3,
        "the bound is far too high: {taken} of {bound}"
    );
    bench.end();
    assert!(live_bytes() - before < bound / 100, "they are gone");
}

#[test]
fn a_million_templates_from_everywhere_take_no_more_than_configured_and_cost_no_real_one() {
    const DATAGRAMS: u32 = 100_000;
    const SOURCES: u32 = 5000;
    const DOMAINS: u32 = 3;
    let config = config::Decode::default();
    let long: Vec<_> = (0..250).map(|n| (1 + n % 100, 4)).collect();
    let ten = |n: u16| {
        let first = 256 + 10 * n;
        let sets = (first..first + 10).map(|id| {
            let fields = match id % 50 {
                0 => &long[..],
                _ => &TWENTY_FIELDS[..usize::from(1 + id % 20)],
            };
            set(0, &template(id, fields))
        });
        netflow9(&sets.collect::<Vec<_>>())
    };
    // From each source and domain the same one comes once.
    let mut payloads: Vec<_> = (0..DATAGRAMS.div_ceil(SOURCES * DOMAINS) as u16)
        .map(ten)
        .collect();
    let before = live_bytes();
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config, Arc::clone(&shared));
    let real_templates = set(0, &template(256, &TWENTY_FIELDS));
    let data = netflow9(&[set(256, &twenty_field_records(1))]);
    let real = netflow9(&[real_templates, set(256, &twenty_field_records(1))]);
    assert_eq!(bench.decode_of(host(0), 0, &real).len(), 1);
    let mut most = 0;
    for n in 0..DATAGRAMS {
        // One a millisecond: a million templates in 100 s.
        let payload = &mut payloads[(n / (SOURCES * DOMAINS)) as usize];
        payload[16..20].copy_from_slice(&(n % DOMAINS).to_be_bytes());
        bench.decode_of(host(1 + n % SOURCES), n.into(), payload);
        if n % 100 == 0 {
            most = most.max(live_bytes() - before);
        }
    }
    let (bound, of_templates) = bounds(&config);
    let counts = &bench.counts;
    println!(
        "a million templates: {most} bytes at most; bound: {bound}; {} learned, {} evicted",
        counts.templates_learned, counts.templates_evicted
    );
    assert!(shared.templates() <= config.templates_max + 4);
    assert!(most < bound, "{most} of {bound}");
    assert!(most > of_templates / 4, "it was a flood: {most}");
    assert!(counts.templates_learned > 30_000);
    assert_eq!(bench.decode_of(host(0), DATAGRAMS.into(), &data).len(), 1);
}
