//! Once templates and exporters are known, a datagram is decoded without an allocation.
#![allow(unsafe_code, reason = "an allocator can only be written so")]

mod messages;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink};
use flowsluice::flow::Flow;
use flowsluice::ledger::WorkerCounts;
use messages::{
    TWENTY_FIELDS, datagram, ipfix, netflow5, netflow9, options_template_v9, set, sflow5, template,
    twenty_field_records,
};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct CountingAllocator;

// SAFETY: every call is passed on unchanged to `System`, which keeps the contract of `GlobalAlloc`;
// counting touches no memory that is handed out.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `ptr` came from `System` through `alloc` above; the rest is the caller's promise.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` through `alloc` above with this `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Total(u64);

impl FlowSink for Total {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0 += flows.iter().map(|flow| flow.raw_bytes).sum::<u64>();
    }
}

/// A variable layout, a sampler, options: everything that has a path of its own.
fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
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
        ("netflow5", netflow5(30, 30, 0x4000 | 100)),
        (
            "netflow9 templates",
            netflow9(&[v9_template, v9_options, rates, sampled]),
        ),
        ("netflow9", netflow9(&[set(256, &twenty_field_records(24))])),
        ("netflow9 sampler", netflow9(&[set(257, &[5, 0, 0, 0, 9])])),
        ("ipfix templates", ipfix(&[variable, ipv6])),
        ("ipfix variable", ipfix(&[set(256, &[1, b'a', 0, 0, 0, 5])])),
        ("ipfix both families", ipfix(&[set(257, &[1; 44])])),
        ("ipfix without its template", ipfix(&[set(999, &[1; 44])])),
        ("sflow5", sflow5(5)),
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
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        decoder.decode(&datagram(payload), &mut counts, &mut total);
        // The first makes known, the second is a turn without a datagram: it tells the status.
        decoder.turn();
        decoder.turn();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let first: u64 = datagrams.iter().map(|(_, payload)| decode(payload)).sum();
    assert!(first > 0, "the allocator counts");
    for (name, payload) in &datagrams {
        let allocations: u64 = (0..100).map(|_| decode(payload)).sum();
        assert_eq!(allocations, 0, "{name}");
    }
    assert_eq!(counts.datagrams_decoded, (datagrams.len() as u64 - 1) * 101);
    assert!(total.0 > 0, "flows came out");
}
