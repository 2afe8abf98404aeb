use std::net::Ipv4Addr;

use super::super::{Batch, Beside, native};
use super::*;
use crate::config;
use crate::enrich::exporters::ExporterLabels;
use crate::enrich::{Lane, Marks};
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

/// Marks of flows of these exporters; 0 is one that is not known.
fn marks(tables: &Tables, exporters: &[u8]) -> Marks {
    let mut marks = Marks::default();
    for (mark, last) in marks.lane_mut(Lane::Exporter).iter_mut().zip(exporters) {
        *mark = tables.exporters.find(exporter(*last));
    }
    marks
}

fn append(batch: &mut Batch, tables: &Arc<Tables>, exporters: &[u8]) {
    let marks = marks(tables, exporters);
    let beside = Beside {
        extra: None,
        marked: Some(Marked::new(tables, &marks)),
    };
    batch.append_with(&vec![Flow::EMPTY; exporters.len()], beside);
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
        append(&mut batch, &tables, &[2, 2, 0]);
        append(&mut batch, &tables, &[1, 2]);
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
    append(&mut batch, &tables, &[0, 0]);
    let block = block(&mut batch);
    assert!(!holds(&block, b"LowCardinality"));
    assert!(holds(&block, b"\x0dclient_is_src\x04Bool\x01\x01"));
}

#[test]
fn a_batch_without_room_for_labels_has_none() {
    let mut batch = Batch::new(16);
    append(&mut batch, &tables(), &[1]);
    let block = block(&mut batch);
    assert!(!holds(&block, HEAD) && !holds(&block, b"client_is_src"));
}

#[test]
fn a_batch_takes_rows_of_one_moment_only() {
    let (before, after) = (tables(), tables());
    let mut batch = Batch::new(16).with_labels();
    let marks = Marks::default();
    let marked = |tables| Beside {
        extra: None,
        marked: Some(Marked::new(tables, &marks)),
    };
    assert!(batch.fits(marked(&after)));
    append(&mut batch, &before, &[1]);
    assert!(!batch.fits(marked(&after)));
    assert!(batch.fits(marked(&before)));
    batch.clear();
    assert!(batch.fits(marked(&after)));
}

#[test]
fn flows_behind_others_have_their_own_marks() {
    let tables = tables();
    let marks = marks(&tables, &[1, 2]);
    let marked = Marked::new(&tables, &marks);
    let first = |marked: Marked<'_>| marked.text(0, Label::ExporterLabels).to_owned();
    assert_eq!(first(marked), "one\tedge\t\t\t\t");
    assert_eq!(first(marked.behind(1)), "two\tedge\t\t\t\t");
    let enriched = Enriched::of(Some(marked), 1);
    assert_eq!(enriched.part(Label::ExporterLabels, 0), "two");
    assert_eq!(enriched.part(Label::ExporterLabels, 9), "");
}

#[test]
fn the_memory_of_the_lanes_is_known_without_making_them() {
    let more = Batch::new(100).with_labels().memory_bytes() - Batch::new(100).memory_bytes();
    assert_eq!(more, Batch::label_memory_bytes_for(100));
}
