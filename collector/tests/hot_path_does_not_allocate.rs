//! Once templates and exporters are known, a datagram is decoded and its flows are batched without
//! an allocation.

mod counting;
mod messages;

use std::sync::Arc;
use std::time::Duration;

use counting::allocations;
use flowsluice::batch::{Batch, Batcher};
use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Teaching};
use flowsluice::enrich::applications::{Applications, Told};
use flowsluice::enrich::parts::{Learned, Parts};
use flowsluice::enrich::sides::{self, Sides};
use flowsluice::enrich::{Enricher, KEYS, Keys, Published};
use flowsluice::flow::{Address, Detail, DetailFields, Flow};
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::names::Names;
use flowsluice::store::{Null, Store};
use flowsluice::units::UnixNanos;
use flowsluice::worker::sharing::among;
use messages::{
    TWENTY_FIELDS, datagram, ipfix, netflow1, netflow5, netflow7, netflow9, options_template_v9,
    set, sflow5, sflow5_beside, template, twenty_field_records,
};

struct Total(u64);

impl FlowSink for Total {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0 += flows.iter().map(|flow| flow.raw_bytes).sum::<u64>();
    }
}

/// A variable layout, a sampler, options, names, events, lists: everything that has a path of its
/// own.
fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let names = set(1, &options_template_v9(301, &[(1, 4)], &[(10, 2), (82, 4)]));
    let name = set(301, b"\0\0\0\x01\0\x05eth5");
    let events = [(148, 4), (233, 1), (323, 8), (231, 4), (232, 4)];
    let events = set(0, &template(302, &events));
    let update = [&[0, 0, 0, 1, 5][..], &[1; 8], &[0, 0, 0, 9, 0, 0, 0, 8]].concat();
    let lists = [
        template(303, &[(292, 65_535), (1, 4)]),
        template(304, &[(58, 2)]),
    ];
    let lists = set(2, &lists.concat());
    let list = [5, 3, 1, 48, 0, 42, 0, 0, 0, 7];
    let v9_template = set(0, &template(256, &TWENTY_FIELDS));
    let v9_options = set(1, &options_template_v9(300, &[(1, 4)], &[(48, 1), (50, 4)]));
    let rates = set(300, &[0, 0, 0, 1, 5, 0, 0, 3, 232]);
    let sampled = set(0, &template(257, &[(48, 1), (1, 4)]));
    let variable = set(2, &template(256, &[(82, 65_535), (1, 4)]));
    let ipv6 = set(
        2,
        &template(257, &[(27, 16), (28, 16), (8, 4), (12, 4), (1, 4)]),
    );
    vec![
        ("netflow1", netflow1(24, 24)),
        ("netflow5", netflow5(30, 30, 0x4000 | 100)),
        ("netflow7", netflow7(27, 27)),
        (
            "netflow9 templates",
            netflow9(&[v9_template, v9_options, rates, sampled]),
        ),
        ("netflow9", netflow9(&[set(256, &twenty_field_records(24))])),
        ("netflow9 sampler", netflow9(&[set(257, &[5, 0, 0, 0, 9])])),
        ("ipfix templates", ipfix(&[variable, ipv6])),
        ("ipfix variable", ipfix(&[set(256, &[1, b'a', 0, 0, 0, 5])])),
        ("ipfix both families", ipfix(&[set(257, &[1; 44])])),
        // One that is held, which allocates until there is no room.
        ("ipfix without its template", ipfix(&[set(999, &[1; 44])])),
        ("netflow9 more templates", netflow9(&[names, events])),
        ("netflow9 name", netflow9(&[name])),
        ("netflow9 event", netflow9(&[set(302, &update)])),
        ("ipfix more templates", ipfix(&[lists])),
        ("ipfix list", ipfix(&[set(303, &list)])),
        ("sflow5", sflow5(5)),
        ("sflow5 beside flows", sflow5_beside()),
        ("nothing known", vec![0xff; 100]),
    ]
}

#[test]
fn a_datagram_of_a_known_exporter_is_decoded_without_an_allocation() {
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::default());
    let mut counts = WorkerCounts::default();
    let mut total = Total(0);
    let datagrams = datagrams();
    let mut decode = |payload: &[u8]| {
        let before = allocations();
        decoder.decode(&datagram(payload), &mut counts, &mut total);
        // The first makes known, the second is a turn without a datagram: it tells the status.
        decoder.turn();
        decoder.turn();
        allocations() - before
    };
    let first: u64 = datagrams.iter().map(|(_, payload)| decode(payload)).sum();
    assert!(first > 0, "the allocator counts");
    let is_held = |(name, _): &&(&str, _)| *name == "ipfix without its template";
    let (_, held) = datagrams.iter().find(is_held).expect("one is held");
    let times_held = (1..).take_while(|_| decode(held) > 0).count() as u64;
    assert!(times_held > 1000, "{times_held}");
    for (name, payload) in &datagrams {
        let taken: u64 = (0..100).map(|_| decode(payload)).sum();
        assert_eq!(taken, 0, "{name}");
    }
    let known = datagrams.len() as u64 - 1;
    assert_eq!(counts.datagrams_decoded, known * 101 + times_held + 1);
    assert!(total.0 > 0, "flows came out");
}

#[test]
fn the_sides_of_flows_are_found_without_an_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("applications.csv");
    let lines = "address,ports,protocol,application\n192.0.2.0/24,1-1000,tcp,web\n";
    std::fs::write(&file, lines).unwrap();
    let config = config::Enrich {
        applications: vec![file],
        ..config::Enrich::default()
    };
    let told = Arc::new(Told::load(&config).unwrap());
    let applications = Applications::new(Arc::default(), told, &[], &Names::default());
    let mut flows = [Flow::EMPTY; 64];
    for (number, flow) in (0..).zip(&mut flows) {
        flow.dst_addr = Address::from_v4([192, 0, 2, number]);
        flow.dst_port = 443;
        flow.protocol = [6, 17, 1][usize::from(number) % 3];
        flow.application_id = 3 << 56 | 53;
    }
    let mut keys = Keys::default();
    let mut found = [Sides::default(); KEYS];
    let before = allocations();
    for _ in 0..100 {
        keys.read(&flows);
        sides::find(&applications, &keys, &mut found);
    }
    assert_eq!(allocations() - before, 0);
    let names = |range: std::ops::Range<usize>| {
        let found = found[range].iter();
        let names = found.map(|sides| applications.label(sides.application));
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(0..3), ["web", "domain", "domain"]);
    assert_eq!(names(63..64), ["web"]);
}

#[test]
fn batches_are_marked_without_an_allocation() {
    let published = Arc::new(Published::default());
    published.publish(Parts::new(&config::Enrich::default()).tables(&Learned::default()));
    let mut enricher = Enricher::new(Arc::clone(&published), None, true);
    let mut batch = Batch::new(4096).with_labels();
    let flows: [Flow; 32] = std::array::from_fn(|number| Flow {
        src_addr: Address::from_v4([10, 0, 0, number as u8]),
        dst_addr: Address::from_v4([198, 51, 100, number as u8]),
        dst_port: 443,
        protocol: 6,
        application_id: 3 << 56 | 53,
        ..Flow::EMPTY
    });
    let before = allocations();
    for _ in 0..10 {
        while batch.room() > 0 {
            batch.append(&flows);
        }
        batch.mark(&mut enricher);
        batch.clear();
    }
    assert_eq!(allocations() - before, 0);
}

#[test]
fn datagrams_are_handed_to_another_worker_and_taken_over_without_an_allocation() {
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::default());
    let mut counts = WorkerCounts::default();
    let mut total = Total(0);
    let payload = netflow9(&[set(256, &twenty_field_records(20))]);
    let learns = netflow9(&[set(0, &template(256, &TWENTY_FIELDS))]);
    for payload in [&learns, &payload] {
        decoder.decode(&datagram(payload), &mut counts, &mut total);
    }
    // Its own template counts as news once.
    decoder.take_over();
    let config = config::Receive {
        share: true,
        ..config::Receive::default()
    };
    let mut parts = among(2, &config).into_iter().flatten();
    let (mut lender, helper) = (parts.next().unwrap(), parts.next().unwrap());
    let mut now = UnixNanos(1_800_000_000_000_000_000);
    let mut lent = 0;
    let before = allocations();
    for _ in 0..10_000 {
        now.0 += 1_000_000;
        lender.turn(256, now);
        let datagram = datagram(&payload);
        if lender.is_overloaded() && decoder.teaching(&datagram) == Teaching::Nothing {
            lent += u64::from(lender.lend(&datagram));
        }
        helper.take(|datagram| {
            decoder.take_over();
            decoder.decode(datagram, &mut counts, &mut total);
        });
    }
    assert_eq!(allocations() - before, 0);
    assert!(lent > 4000, "{lent}");
    assert_eq!(counts.datagrams_decoded, lent + 2);
}

#[test]
fn batches_are_filled_sealed_and_taken_back_without_an_allocation() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let batch = config::Batch {
        rows_max: 500,
        ..config::Batch::default()
    };
    let ledger = Ledger::new(1);
    let (store, mut queues) = {
        let _inside = runtime.enter();
        let (config, counts) = (config::Store::default(), Arc::clone(&ledger.store));
        Store::start_with(Box::new(Null), &config, counts, 1, &batch)
    };
    let mut batcher = Batcher::new(&batch, queues.pop().unwrap());
    let mut counts = WorkerCounts::default();
    let mut now = UnixNanos(1_800_000_000_000_000_000);
    let flow = Flow {
        detail: Detail::from(DetailFields {
            mpls_labels: [7; 10],
            mpls_count: 10,
            ..*Detail::EMPTY
        }),
        ..Flow::EMPTY
    };
    let flows = [flow; 64];
    let before = allocations();
    for _ in 0..1000 {
        // Some batches are sealed full, some by age.
        batcher.add(&flows, now, &mut counts);
        now.0 += 300_000_000;
        batcher.turn(now, &mut counts);
        while batcher.batches_free() == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    batcher.finish(&mut counts);
    assert_eq!(allocations() - before, 0);
    assert_eq!(counts.flows_batched, 64_000, "nothing was dropped");
    assert_eq!(runtime.block_on(store.stop()).flows_lost, 0);
    let through = ledger.snapshot().dropped(DropReason::StoreNull);
    assert_eq!(through, 64_000);
}
