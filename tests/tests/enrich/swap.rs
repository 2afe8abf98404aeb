//! Tables change in the middle of batches: each row keeps the name of its own network.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::collector::assert_all_stored;
use flowsluice_tests::wire::Sender;
use flowsluice_tests::{Collector, Totals};

use super::kit::{Files, LONG, Record, figure, flows, settings};

const SWAPS: u64 = 5;

/// The networks under their names of `version`. The numbers of labels follow from the order of the
/// addresses, and every other version has a network before these two: a number that is looked up in
/// the wrong table names another network.
fn networks(version: u64) -> String {
    let (left, right) = ("10.1.0.0/16,left", "10.2.0.0/16,right");
    match version % 2 {
        0 => format!("prefix,name\n{left}-a\n{right}-a\n"),
        _ => format!("prefix,name\n{right}-b\n{left}-b\n1.0.0.0/8,first\n"),
    }
}

/// Sends flows from left to right and back, a datagram a millisecond, until it is to end.
fn send(mut sender: Sender, ends: &AtomicBool) -> Result<Totals> {
    let there = Record::new("10.1.0.1:1000", "10.2.0.1:1001");
    let back = Record::new("10.2.0.1:1001", "10.1.0.1:1000");
    let datagram = flows(100, &[there, back].repeat(8));
    while !ends.load(Ordering::Relaxed) {
        sender.send(&datagram)?;
        thread::sleep(Duration::from_millis(1));
    }
    let mut sent = Totals::default();
    sent.datagrams = sender.sent;
    sent.flows = sender.sent * 16;
    Ok(sent)
}

#[test]
fn rows_before_and_after_a_change_keep_the_names_of_their_own_networks() -> Result<()> {
    let files = Files::new()?;
    files.put("networks.csv", networks(0))?;
    let config = "[enrich]\nlook_every = \"100ms\"\nnetworks = [\"DIR/networks.csv\"]\n";
    let Some(mut settings) = settings(files.config(config)) else {
        return Ok(());
    };
    // Longer than a change takes: without a change nothing ends a batch.
    settings.batch_age = "3s";
    let collector = Collector::start(&settings)?;
    let (ends, sender) = (AtomicBool::new(false), Sender::new(collector.target())?);
    let sent = thread::scope(|scope| -> Result<Totals> {
        let sending = scope.spawn(|| send(sender, &ends));
        let swapped = (1..=SWAPS).try_for_each(|version| -> Result<()> {
            files.put("networks.csv", networks(version))?;
            let loaded = |status: &_| figure(status, "parts/networks/loaded") > version;
            collector.wait_until("the other networks are loaded", LONG, loaded)?;
            thread::sleep(Duration::from_millis(200));
            Ok(())
        });
        ends.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender does not panic");
        swapped.and(sent)
    })?;
    let clickhouse = collector.clickhouse()?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_all_stored(&ledger, &clickhouse, &sent);
    let found = clickhouse.rows(
        "SELECT DISTINCT src_port, src_net_name, dst_net_name FROM flows \
         ORDER BY src_port, src_net_name, dst_net_name",
    )?;
    let expected = [
        ["1000", "left-a", "right-a"],
        ["1000", "left-b", "right-b"],
        ["1001", "right-a", "left-a"],
        ["1001", "right-b", "left-b"],
    ];
    assert_eq!(found, expected);
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}
