//! How fast things came in during the last minutes, by what the ledger said every two seconds.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};

use crate::ledger::{DropReason, LedgerSnapshot};
use crate::units::UnixNanos;

/// Readings that are kept: five minutes.
const READINGS_MAX: usize = 151;

/// What is shown a second: name, and how much there was at a reading.
type Figure = (&'static str, fn(&LedgerSnapshot) -> u64);

const FIGURES: [Figure; 5] = [
    ("datagrams", |ledger| ledger.total.datagrams_received),
    ("bytes", |ledger| ledger.total.bytes_received),
    ("flows", |ledger| ledger.total.flows_decoded),
    ("stored", |ledger| ledger.store.flows_stored),
    ("drops", drops),
];

/// The readings, the oldest first.
#[derive(Debug, Default)]
pub(in crate::http) struct Live(VecDeque<Reading>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    time: UnixNanos,
    counts: [u64; FIGURES.len()],
}

impl Live {
    /// Notes what the ledger says now.
    pub fn take(&mut self, at: Instant, time: UnixNanos, ledger: &LedgerSnapshot) {
        let counts = FIGURES.map(|(_, count)| count(ledger));
        while self.0.len() >= READINGS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Reading { at, time, counts });
    }

    /// The end of each interval in milliseconds since the epoch, and what came a second in it.
    pub fn json(&self) -> Value {
        let pairs = || self.0.iter().zip(self.0.iter().skip(1));
        let times: Vec<u64> = pairs().map(|(_, reading)| reading.time.millis()).collect();
        let mut rates = json!({"times_ms": times});
        for (index, (name, _)) in FIGURES.iter().enumerate() {
            let rate = |(before, after): (&Reading, &Reading)| {
                let seconds = after.at.duration_since(before.at).as_secs_f64();
                let count = after.counts[index].saturating_sub(before.counts[index]);
                (count as f64 / seconds.max(0.001) * 10.0).round() / 10.0
            };
            rates[format!("{name}_per_s")] = pairs().map(rate).collect();
        }
        rates
    }
}

/// All that is lost here, whatever the unit, and what the kernel dropped before.
fn drops(ledger: &LedgerSnapshot) -> u64 {
    let dropped = DropReason::ALL.iter().map(|reason| ledger.dropped(*reason));
    dropped.sum::<u64>() + ledger.total.datagrams_dropped_by_kernel
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::{Ledger, WorkerCounts};

    #[test]
    fn rates_are_what_came_between_two_readings() {
        let ledger = Ledger::new(1);
        let mut worker = ledger.worker(0);
        let (start, mut live) = (Instant::now(), Live::default());
        for turn in 0..400u64 {
            let counts = WorkerCounts {
                datagrams_received: turn * 10,
                datagrams_decoded: turn * 10,
                bytes_received: turn * 1000,
                ..WorkerCounts::default()
            };
            worker.publish(&counts);
            let time = UnixNanos(turn * 2_000_000_000);
            live.take(
                start + Duration::from_secs(turn * 2),
                time,
                &ledger.snapshot(),
            );
        }
        let rates = live.json();
        assert_eq!(
            rates["times_ms"].as_array().unwrap().len(),
            READINGS_MAX - 1
        );
        assert_eq!(rates["times_ms"][READINGS_MAX - 2], 798_000);
        assert_eq!(rates["datagrams_per_s"][0], 5.0);
        assert_eq!(rates["bytes_per_s"][149], 500.0);
        assert_eq!(rates["drops_per_s"][0], 0.0);
    }

    #[test]
    fn one_reading_alone_has_no_rate() {
        let mut live = Live::default();
        let ledger = Ledger::new(1).snapshot();
        live.take(Instant::now(), UnixNanos::now(), &ledger);
        assert_eq!(live.json()["flows_per_s"], json!([]));
    }
}
