use std::net::Ipv4Addr;

use super::super::{Batch, native};
use super::*;
use crate::config;
use crate::enrich::applications::Applications;
use crate::enrich::exporters::ExporterLabels;
use crate::enrich::geo::Places;
use crate::enrich::{Enricher, Published};
use crate::flow::{Address, Flow};

/// Tables that know exporters 192.0.2.1 and 192.0.2.2.
fn tables() -> Arc<Tables> {
    let labels = |last: u8, name: &str| config::ExporterLabels {
        source: std::net::IpAddr::from([192, 0, 2, last]).into(),
        name: name.into(),
        group: "edge".into(),
        site: String::new(),
        region: String::new(),
        role: String::new(),
        tenant: String::new(),
        applications: config::ApplicationType::default(),
    };
    let known = [exporter(1), exporter(2)];
    let labels = [labels(1, "one"), labels(2, "two")];
    Arc::new(Tables {
        exporters: Arc::new(ExporterLabels::build(&labels, &known, |_| None)),
        ..Tables::default()
    })
}

fn exporter(last: u8) -> Address {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// Marks by `tables` and by nothing else.
fn enricher(tables: &Arc<Tables>) -> Enricher {
    let published = Published::default();
    published.publish(Tables::clone(tables));
    Enricher::new(Arc::new(published), None, false)
}

fn flow(last: u8) -> Flow {
    Flow {
        exporter_addr: exporter(last),
        ..Flow::EMPTY
    }
}

/// A batch of flows of these exporters; 0 is one that is not known.
fn append(batch: &mut Batch, exporters: &[u8]) {
    let flows: Vec<_> = exporters.iter().map(|last| flow(*last)).collect();
    batch.append(&flows);
}

fn block(batch: &mut Batch) -> Vec<u8> {
    let mut block = Vec::new();
    native::encode(batch, &mut block);
    block
}

fn holds(block: &[u8], part: &[u8]) -> bool {
    block.windows(part.len()).any(|window| window == part)
}

const HEAD: &[u8] = b"\x0fexporter_labels\x16LowCardinality(String)";

#[test]
fn a_column_is_the_dictionary_of_its_block_and_a_place_in_it_for_each_row() {
    let tables = tables();
    let mut batch = Batch::new(16).with_labels();
    for _ in 0..2 {
        append(&mut batch, &[2, 2, 0]);
        append(&mut batch, &[1, 2]);
        batch.mark(&mut enricher(&tables));
        let words = |words: [u64; 3]| words.map(u64::to_le_bytes).concat();
        let column = [
            HEAD,
            &words([1, 0x600, 3]),
            b"\x00\x0ctwo\tedge\t\t\t\t\x0cone\tedge\t\t\t\t",
            &5_u64.to_le_bytes(),
            &[1, 1, 0, 2, 1],
        ]
        .concat();
        assert!(holds(&block(&mut batch), &column));
        batch.clear();
    }
}

#[test]
fn what_nobody_knows_is_left_out_but_for_the_client() {
    let tables = tables();
    let mut batch = Batch::new(16).with_labels();
    append(&mut batch, &[0, 0]);
    batch.mark(&mut enricher(&tables));
    let block = block(&mut batch);
    assert!(!holds(&block, b"LowCardinality"));
    assert!(holds(&block, b"\x0dclient_is_src\x04Bool\x01\x01"));
}

#[test]
fn a_batch_without_room_for_labels_has_none() {
    let mut batch = Batch::new(16);
    append(&mut batch, &[1]);
    batch.mark(&mut enricher(&tables()));
    let block = block(&mut batch);
    assert!(!holds(&block, HEAD) && !holds(&block, b"client_is_src"));
}

#[test]
fn rows_that_are_not_marked_say_nothing() {
    let mut batch = Batch::new(16).with_labels();
    append(&mut batch, &[1]);
    let block = block(&mut batch);
    assert!(!holds(&block, HEAD) && !holds(&block, b"client_is_src"));
}

#[test]
fn the_first_of_a_thousand_rows_that_is_known_has_its_own_place_and_no_other() {
    let tables = tables();
    let mut batch = Batch::new(1000).with_labels();
    // Rows of before may not show through, wherever the known one is.
    for known in [999, 500, 64, 63, 0] {
        batch.clear();
        append(&mut batch, &[2; 1000]);
        batch.mark(&mut enricher(&tables));
        batch.clear();
        append(&mut batch, &vec![0; known]);
        append(&mut batch, &[1]);
        append(&mut batch, &vec![0; 999 - known]);
        batch.mark(&mut enricher(&tables));
        let mut column = [HEAD, &[1, 0x600, 2].map(u64::to_le_bytes).concat()].concat();
        column.extend(b"\x00\x0cone\tedge\t\t\t\t");
        column.extend(1000_u64.to_le_bytes());
        column.extend((0..1000).map(|row| u8::from(row == known)));
        assert!(holds(&block(&mut batch), &column), "{known}");
    }
}

/// Every field that marking asks for, one at a time.
fn flows_that_differ_in_one_field() -> [Flow; 13] {
    let told = |change: fn(&mut Flow)| {
        let mut flow = Flow {
            protocol: 6,
            src_port: 40_001,
            dst_port: 50_000,
            src_addr: Address::from_v4([10, 0, 0, 1]),
            dst_addr: Address::from_v4([192, 168, 0, 1]),
            ..flow(1)
        };
        change(&mut flow);
        flow
    };
    [
        told(|_| {}),
        told(|flow| flow.dst_port = 443),
        told(|flow| flow.src_port = 22),
        told(|flow| flow.protocol = 17),
        told(|flow| flow.protocol = 1),
        told(|flow| flow.tcp_flags = 0x02),
        told(|flow| flow.biflow_direction = 2),
        told(|flow| flow.biflow_direction = 1),
        told(|flow| flow.application_id = 3 << 56 | 80),
        told(|flow| flow.dst_addr = Address::from_v4([8, 8, 8, 8])),
        told(|flow| flow.src_addr = Address::UNKNOWN),
        told(|flow| flow.src_as = 64_512),
        told(|flow| flow.exporter_addr = exporter(2)),
    ]
}

#[test]
fn a_row_is_marked_as_its_flow_is() {
    let flows = flows_that_differ_in_one_field();
    let tables = Arc::new(Tables {
        applications: Arc::new(Applications::default()),
        places: Arc::new(Places::load(&config::Geo::default()).unwrap()),
        ..Tables::clone(&tables())
    });
    let published = Arc::new(Published::default());
    published.publish(Tables::clone(&tables));
    let new = || Enricher::new(Arc::clone(&published), None, true);
    let mut batch = Batch::new(500).with_labels();
    for repeated in flows.iter().cycle().take(500).collect::<Vec<_>>().chunks(7) {
        let repeated: Vec<Flow> = repeated.iter().map(|flow| **flow).collect();
        batch.append(&repeated);
    }
    batch.mark(&mut new());
    let lanes = batch.labels.as_ref().unwrap();
    for (row, flow) in flows.iter().cycle().take(500).enumerate() {
        let (mut alone, mut enricher) = (*flow, new());
        let marked = enricher.mark_flows(std::slice::from_mut(&mut alone));
        assert_eq!(
            lanes.client_is_src[row] != 0,
            marked.client_is_src(0),
            "{row}"
        );
        assert_eq!(
            Locality::from(lanes.locality[row]),
            marked.locality(0),
            "{row}"
        );
        for label in Label::ALL {
            let lane = &lanes.lanes[label.lane() as usize];
            let id = lane.ids.get(row).filter(|_| row < lane.rows);
            let text = tables.text(label, id.copied().unwrap_or(0));
            assert_eq!(text, marked.text(0, label), "{row} {}", label.name());
        }
    }
    let texts = |row: usize| {
        let of = |label: Label| tables.text(label, lanes.lanes[label.lane() as usize].ids[row]);
        (
            of(Label::Service),
            of(Label::Application),
            of(Label::SrcAsName),
        )
    };
    assert_eq!(texts(1), ("https", "", "private"));
    assert_eq!(texts(8), ("", "http", "private"));
}

#[test]
fn what_is_marked_for_printing_has_its_parts() {
    let tables = tables();
    let mut enricher = enricher(&tables);
    let mut flows = [flow(1), flow(2)];
    let marked = enricher.mark_flows(&mut flows);
    assert_eq!(marked.text(0, Label::ExporterLabels), "one\tedge\t\t\t\t");
    let enriched = Enriched::of(Some(marked), 1);
    assert_eq!(enriched.part(Label::ExporterLabels, 0), "two");
    assert_eq!(enriched.part(Label::ExporterLabels, 9), "");
}

#[test]
fn the_memory_of_the_lanes_is_known_without_making_them() {
    let more = Batch::new(100).with_labels().memory_bytes() - Batch::new(100).memory_bytes();
    assert_eq!(more, Batch::label_memory_bytes_for(100));
}
