//! One exporter that sends more than its worker can decode, beside a worker that has time.

use std::time::{Duration, Instant};

use anyhow::Result;
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::wire::{Sender, netflow9};
use flowsluice_tests::{Collector, Ledger, Settings, Store};

/// Fields of a template with their lengths.
const FIELDS: [(u16, u16); 12] = [
    (8, 4),
    (12, 4),
    (7, 2),
    (11, 2),
    (4, 1),
    (5, 1),
    (1, 4),
    (2, 4),
    (10, 4),
    (14, 4),
    (22, 4),
    (21, 4),
];
const RECORDS: usize = 30;

fn template() -> Vec<u8> {
    let mut body = vec![1, 0, 0, FIELDS.len() as u8];
    for (element, length) in FIELDS {
        body.extend([element, length].map(u16::to_be_bytes).concat());
    }
    netflow9(1, &[(0, body)])
}

fn data() -> Vec<u8> {
    let length: usize = FIELDS.iter().map(|(_, length)| usize::from(*length)).sum();
    netflow9(RECORDS as u16, &[(256, vec![1; length * RECORDS])])
}

/// Sends a template once and then `count` datagrams of it, all from one port, each after `wait`
/// said that it may go; returns the closed ledger.
fn send(settings: &Settings, count: u64, mut wait: impl FnMut(u64)) -> Result<Ledger> {
    let collector = Collector::start(settings)?;
    let mut sender = Sender::new(collector.target())?;
    sender.send(&template())?;
    let data = data();
    for number in 0..count {
        wait(number);
        sender.send(&data)?;
    }
    let ledger = collector.settle(sender.sent)?;
    assert_accounted(&ledger, sender.sent);
    let (lent, taken) = (
        ledger.counter("datagrams_lent"),
        ledger.counter("datagrams_taken_over"),
    );
    assert_eq!(lent, taken, "all that was lent was decoded");
    assert_eq!(ledger.dropped("template_missing"), 0);
    let decoded = ledger.counter("datagrams_decoded") - 1;
    assert_eq!(ledger.counter("flows_decoded"), decoded * RECORDS as u64);
    let stopped = collector.stop()?;
    assert_eq!(stopped.unaccounted, 0);
    Ok(ledger)
}

fn two_workers(receive_mode: &'static str) -> Settings {
    Settings {
        receive_mode,
        workers: 2,
        ..Settings::new(Store::Null)
    }
}

#[test]
fn one_exporter_that_floods_its_worker_is_decoded_by_two_and_all_of_it_is_accounted() -> Result<()>
{
    for mode in ["auto", "recvmmsg"] {
        let ledger = send(&two_workers(mode), 40_000, |_| ())?;
        let lent = ledger.counter("datagrams_lent");
        assert!(lent > 0, "{mode}: nothing is lent\n{}", ledger.table());
    }
    Ok(())
}

#[test]
fn at_a_moderate_rate_and_with_sharing_switched_off_nothing_is_lent() -> Result<()> {
    let mut start = None;
    let ledger = send(&two_workers("auto"), 4_000, |number| {
        // Four a millisecond.
        let due = Duration::from_micros(250 * number);
        let elapsed = start.get_or_insert_with(Instant::now).elapsed();
        std::thread::sleep(due.saturating_sub(elapsed));
    })?;
    assert_eq!(ledger.counter("datagrams_lent"), 0);
    let alone = Settings {
        share: false,
        ..two_workers("auto")
    };
    let ledger = send(&alone, 40_000, |_| ())?;
    assert_eq!(ledger.counter("datagrams_lent"), 0);
    Ok(())
}
