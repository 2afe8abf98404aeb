//! The column `extra`: what exporters say in elements that have no column of their own.

mod counting;
mod messages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use counting::allocations;
use flowsluice::batch::Batcher;
use flowsluice::config;
use flowsluice::decode::{Decoder, ElementPattern, ExtraRows, FlowSink};
use flowsluice::flow::Flow;
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::receive::replay::Capture;
use flowsluice::store::{Null, Store};
use flowsluice::units::UnixNanos;
use messages::{datagram, ipfix, netflow9, set, template};

/// A decoder that yields those of `patterns`.
fn decoder(patterns: &[&str]) -> Decoder {
    let patterns = patterns.iter().map(|text| text.parse().unwrap());
    let config = config::Decode {
        extra: patterns.collect::<Vec<ElementPattern>>(),
        ..config::Decode::default()
    };
    Decoder::new(&config, &[], Arc::default())
}

/// Rows, each with what it says.
#[derive(Default)]
struct Rows(Vec<(Flow, BTreeMap<String, String>)>);

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.flows_with_extra(flows, ExtraRows::default());
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        for (number, flow) in flows.iter().enumerate() {
            let said = extra.of(number);
            let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.0.push((*flow, said.collect()));
        }
    }
}

fn decoded(patterns: &[&str], payloads: &[Vec<u8>]) -> Rows {
    let (mut decoder, mut counts) = (decoder(patterns), WorkerCounts::default());
    let mut rows = Rows::default();
    for payload in payloads {
        decoder.decode(&datagram(payload), &mut counts, &mut rows);
    }
    assert_eq!(counts.flows_decoded, rows.0.len() as u64);
    rows
}

/// 1200 records of NetFlow v9 with a class name, 20 a datagram and more than a burst in all.
fn classes() -> Vec<Vec<u8>> {
    let fields = [(1, 4), (100, 8), (39, 1), (4, 1)];
    let mut payloads = vec![netflow9(&[set(0, &template(256, &fields))])];
    for datagram in 0..60_u32 {
        let record = |number: u32| {
            let mut record = (datagram * 20 + number).to_be_bytes().to_vec();
            record.extend(format!("c{:07}", datagram * 20 + number).bytes());
            record.extend([7, 6]);
            record
        };
        let records: Vec<_> = (0..20).flat_map(record).collect();
        payloads.push(netflow9(&[set(256, &records)]));
    }
    payloads
}

#[test]
fn each_row_says_what_its_record_says() {
    let rows = decoded(&["className"], &classes());
    assert_eq!(rows.0.len(), 1200);
    for (flow, said) in &rows.0 {
        let class = format!("c{:07}", flow.raw_bytes);
        let expected = BTreeMap::from([("0.className".to_owned(), class)]);
        assert_eq!(*said, expected, "39 was not asked for");
    }
}

#[test]
fn nothing_is_said_that_nobody_asked_for() {
    let rows = decoded(&[], &classes());
    assert_eq!(rows.0.len(), 1200);
    assert!(rows.0.iter().all(|(_, said)| said.is_empty()));
}

#[test]
fn the_row_of_the_other_direction_does_not_say_it_again() {
    let fields = [(82, 65_535), (231, 4), (232, 4)];
    let payloads = [ipfix(&[
        set(2, &template(256, &fields)),
        set(256, &[1, b'a', 0, 0, 0, 5, 0, 0, 0, 6]),
    ])];
    let rows = decoded(&["*"], &payloads);
    let said: Vec<_> = rows.0.iter().map(|(_, said)| said.len()).collect();
    assert_eq!(said, [1, 0]);
    assert_eq!(rows.0[1].0.raw_bytes, 6);
}

#[test]
fn known_templates_are_decoded_without_an_allocation_also_with_all_that_they_say() {
    let fields = [
        (1, 4),
        (100, 8),
        (323, 8),
        (154, 8),
        (311, 8),
        (365, 6),
        (140, 16),
        (95, 4),
    ];
    let template = netflow9(&[set(0, &template(256, &fields))]);
    let records = netflow9(&[set(256, &[0x41; 62 * 4])]);
    let (mut decoder, mut counts) = (decoder(&["*"]), WorkerCounts::default());
    let mut total = Total::default();
    for payload in [&template, &records] {
        decoder.decode(&datagram(payload), &mut counts, &mut total);
        decoder.turn();
    }
    let before = allocations();
    for _ in 0..100 {
        decoder.decode(&datagram(&records), &mut counts, &mut total);
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!((total.flows, total.values), (404, 404 * 5));
}

/// Counts without keeping.
#[derive(Default)]
struct Total {
    flows: usize,
    values: usize,
}

impl FlowSink for Total {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.flows += flows.len();
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        self.flows += flows.len();
        self.values += (0..flows.len())
            .map(|flow| extra.of(flow).count())
            .sum::<usize>();
    }
}

/// Hands flows to a store that drops them.
struct Stored {
    batcher: Batcher,
    counts: WorkerCounts,
}

impl FlowSink for Stored {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.flows_with_extra(flows, ExtraRows::default());
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        while self.batcher.batches_free() == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        (self.batcher).add_with(flows, extra, UnixNanos(1), &mut self.counts);
    }
}

#[test]
fn what_rows_say_fills_batches_before_rows_do_and_no_row_is_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let batch = config::Batch::default();
    let ledger = Ledger::new(1);
    let (store, mut queues) = {
        let _inside = runtime.enter();
        let (config, counts) = (config::Store::default(), Arc::clone(&ledger.store));
        Store::start_with(Box::new(Null), &config, counts, 1, &batch)
    };
    let mut stored = Stored {
        batcher: Batcher::new(&batch, queues.pop().unwrap()).with_extra(true),
        counts: WorkerCounts::default(),
    };
    // 250 bytes in each of three elements: a batch of 4096 rows has no room for them.
    let fields = [(1, 4), (82, 250), (83, 250), (84, 250), (4, 1)];
    let (mut decoder, mut counts) = (decoder(&["*"]), WorkerCounts::default());
    let template = netflow9(&[set(0, &template(256, &fields))]);
    let records = netflow9(&[set(256, &[b'x'; 755 * 10])]);
    decoder.decode(&datagram(&template), &mut counts, &mut stored);
    for _ in 0..1000 {
        decoder.decode(&datagram(&records), &mut counts, &mut stored);
    }
    stored.batcher.finish(&mut stored.counts);
    assert_eq!(counts.extra_cut, 0);
    assert_eq!(stored.counts.flows_batched, 10_000);
    assert_eq!(runtime.block_on(store.stop()).flows_lost, 0);
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.dropped(DropReason::StoreNull), 10_000);
}

/// The files of a capture, in the order of its `expected.json`.
fn files_of(folder: &Path) -> Option<Vec<PathBuf>> {
    let text = std::fs::read_to_string(folder.join("expected.json")).ok()?;
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let files = expected["files"].as_array().unwrap();
    Some(
        files
            .iter()
            .map(|file| folder.join(file.as_str().unwrap()))
            .collect(),
    )
}

fn rows_of(files: Vec<PathBuf>, patterns: &[&str]) -> Rows {
    let (mut decoder, mut counts) = (decoder(patterns), WorkerCounts::default());
    let mut rows = Rows::default();
    let read = Capture::new(files).for_each(&mut |datagram| {
        decoder.decode(datagram, &mut counts, &mut rows);
        decoder.turn();
    });
    read.unwrap();
    rows
}

#[test]
fn captures_say_what_their_exporters_put_into_elements_without_a_column() {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if !captures.is_dir() {
        assert!(std::env::var_os("CI").is_none(), "CI has the captures");
        eprintln!("skipped: there are no captures in ../shared/captures");
        return;
    }
    let mut compared = 0;
    for source in std::fs::read_dir(&captures).unwrap() {
        let source = source.unwrap().path();
        for folder in source.read_dir().into_iter().flatten() {
            let Some(files) = files_of(&folder.unwrap().path()) else {
                continue;
            };
            // A bare payload is received when it is read.
            let timeless = |(flow, _): (Flow, _)| Flow {
                time_received_s: 0,
                flow_start_ms: 0,
                flow_end_ms: 0,
                ..flow
            };
            let flows = |rows: Rows| rows.0.into_iter().map(timeless).collect::<Vec<_>>();
            let (without, with) = (rows_of(files.clone(), &[]), rows_of(files.clone(), &["*"]));
            assert!(
                flows(without) == flows(with),
                "{files:?}: extra changes nothing else"
            );
            compared += 1;
        }
    }
    assert!(compared > 90, "{compared} captures were compared");
    for (capture, key, value) in SAID {
        let files = files_of(&captures.join(capture)).unwrap();
        let rows = rows_of(files, &["*"]);
        let found = rows.0.iter().filter_map(|(_, said)| said.get(key));
        let found: Vec<_> = found.collect();
        assert!(
            found.iter().any(|found| *found == value),
            "{capture}: {key}: {found:?}"
        );
    }
}

/// What is to be read in captures, by the source's own tests or by eye in the bytes.
const SAID: [(&str, &str, &str); 5] = [
    (
        "logstash-codec-netflow/nf9-paloalto-panos-appid",
        "0.panAppId",
        "incomplete",
    ),
    (
        "logstash-codec-netflow/nf9-paloalto-panos-appid",
        "0.privateEnterpriseNumber",
        "25461",
    ),
    (
        "logstash-codec-netflow/ipfix-procera",
        "15397.service",
        "BGP-4",
    ),
    ("telegraf/ipfix_pen_35632", "35632.L7_PROTO", "37"),
    (
        "netflow_parser/ipfix-cisco-avc-enterprise",
        "9.connectionId",
        "2378383328",
    ),
];
