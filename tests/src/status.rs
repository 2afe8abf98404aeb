//! What a collector says of itself at `/status`, read without its code.

use std::process::ExitStatus;

use anyhow::{Context, Result};
use serde_json::Value;

/// One reading of `/status`.
#[derive(Clone, Debug)]
pub struct Status(Value);

impl Status {
    /// Parses the answer of `/status`.
    ///
    /// # Errors
    /// When it is not JSON or has no ledger.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("parse /status")?;
        value.get("ledger").context("/status has no ledger")?;
        Ok(Self(value))
    }

    /// The value at a JSON pointer such as `/receive/mode`.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }

    /// Its ledger.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger(self.0["ledger"].clone())
    }

    /// The process id of the embedded ClickHouse, while it runs.
    #[must_use]
    pub fn engine_pid(&self) -> Option<u32> {
        let pid = self.at("/store/engine_pid").and_then(Value::as_u64);
        pid.and_then(|pid| u32::try_from(pid).ok())
    }

    /// How often the embedded ClickHouse was started again.
    #[must_use]
    pub fn engine_restarts(&self) -> u64 {
        let restarts = self.at("/store/engine_restarts").and_then(Value::as_u64);
        restarts.unwrap_or(0)
    }

    /// The text at a JSON pointer.
    ///
    /// # Errors
    /// When there is none.
    pub fn text(&self, pointer: &str) -> Result<&str> {
        let text = self.at(pointer).and_then(Value::as_str);
        text.with_context(|| format!("/status has no text at {pointer}: {}", self.0))
    }

    /// The number at a JSON pointer.
    ///
    /// # Errors
    /// When there is none.
    pub fn number(&self, pointer: &str) -> Result<u64> {
        let number = self.at(pointer).and_then(Value::as_u64);
        number.with_context(|| format!("/status has no number at {pointer}: {}", self.0))
    }
}

/// The collector's counters and equations.
#[derive(Clone, Debug)]
pub struct Ledger(Value);

impl Ledger {
    /// A worker counter, all workers together.
    ///
    /// # Panics
    /// When there is no such counter: a test that reads a wrong name must not pass.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.number(&format!("/counters/{name}"))
    }

    /// A figure of the store.
    ///
    /// # Panics
    /// When there is no such figure.
    #[must_use]
    pub fn store(&self, name: &str) -> u64 {
        self.number(&format!("/store/{name}"))
    }

    /// Losses for a reason.
    ///
    /// # Panics
    /// When there is no such reason.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.number(&format!("/dropped/{reason}"))
    }

    /// Frames on which the XDP programs gave this verdict.
    ///
    /// # Panics
    /// When there is no such verdict.
    #[must_use]
    pub fn frames(&self, verdict: &str) -> u64 {
        self.number(&format!("/frames/{verdict}"))
    }

    /// Every reason with losses.
    #[must_use]
    pub fn losses(&self) -> Vec<(String, u64)> {
        let all = self.0.get("dropped").and_then(Value::as_object);
        (all.into_iter().flatten())
            .filter_map(|(reason, n)| Some((reason.clone(), n.as_u64()?)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Every reason with losses since an earlier reading, and how many.
    ///
    /// # Panics
    /// When the earlier reading lacks a reason.
    #[must_use]
    pub fn losses_since(&self, earlier: &Self) -> Vec<(String, u64)> {
        let losses = self.losses().into_iter().map(|(reason, n)| {
            let new = n - earlier.dropped(&reason);
            (reason, new)
        });
        losses.filter(|(_, new)| *new > 0).collect()
    }

    /// What the equations leave over; 0 when everything is stored or counted.
    ///
    /// # Panics
    /// When the ledger does not say.
    #[must_use]
    pub fn unaccounted(&self) -> u64 {
        self.number("/unaccounted")
    }

    /// Datagrams that arrived at the host: taken by the collector, or dropped by the kernel for it.
    #[must_use]
    pub fn datagrams_arrived(&self) -> u64 {
        self.counter("datagrams_received") + self.counter("datagrams_dropped_by_kernel")
    }

    /// Flows in an open batch, on their way to ClickHouse, or on the disk until it takes them.
    #[must_use]
    pub fn flows_under_way(&self) -> u64 {
        self.counter("flows_open") + self.store("flows_in_flight") + self.store("flows_spooled")
    }

    /// The equations, a line each, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let equations = self.0.get("equations").and_then(Value::as_array);
        let mut lines: Vec<_> = (equations.into_iter().flatten())
            .map(|equation| {
                let [name, left, right] = ["name", "left", "right"].map(|key| &equation[key]);
                let name = name.as_str().unwrap_or("?");
                format!("  {name:<20}{left:>14} = {right:<14}")
            })
            .collect();
        let losses = self.losses();
        for (reason, n) in &losses {
            lines.push(format!("  dropped, {reason}: {n}"));
        }
        if losses.is_empty() {
            lines.push("  dropped: nothing".into());
        }
        lines.push(format!("  unaccounted: {}", self.unaccounted()));
        lines.join("\n")
    }

    fn number(&self, pointer: &str) -> u64 {
        let number = self.0.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("the ledger has no number at {pointer}: {}", self.0))
    }
}

/// Tells, of readings some time apart, when nothing arrives any more and nothing is under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settling {
    arrived: Option<u64>,
}

impl Settling {
    /// Is it so with this reading? Never with the first.
    pub fn is_over(&mut self, ledger: &Ledger) -> bool {
        let arrived = Some(ledger.datagrams_arrived());
        let before = std::mem::replace(&mut self.arrived, arrived);
        arrived == before && ledger.flows_under_way() == 0
    }
}

/// The last word of a collector: the figures of its log line `stopped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Datagrams taken from the sockets.
    pub datagrams_received: u64,
    /// Datagrams that the kernel dropped because a buffer was full.
    pub datagrams_dropped_by_kernel: u64,
    /// Flows decoded.
    pub flows_decoded: u64,
    /// Flows that ClickHouse acknowledged.
    pub flows_stored: u64,
    /// Flows that an earlier process left on the disk.
    pub flows_recovered: u64,
    /// Flows left on the disk for the next process.
    pub flows_spooled: u64,
    /// What the equations leave over.
    pub unaccounted: u64,
    /// Losses, `reason=number` each, or `none`.
    pub dropped: String,
}

impl Stopped {
    /// Finds the line in what a collector logged.
    ///
    /// # Errors
    /// When there is none, or a figure is missing.
    pub fn last_of(output: &str) -> Result<Self> {
        let lines = output.lines().rev();
        let found = lines
            .filter_map(|line| line.split_once(" stopped datagrams_received="))
            .next();
        let (_, figures) = found.context("the collector logged no line 'stopped'")?;
        let figures = format!("datagrams_received={figures}");
        let (_, dropped) = figures
            .split_once(" dropped=")
            .context("no figure dropped")?;
        let (dropped, _) = dropped
            .split_once(" unaccounted=")
            .context("no figure unaccounted")?;
        let number = |key: &str| {
            let value =
                (figures.split(' ')).find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let number = value.and_then(|value| value.parse().ok());
            number.with_context(|| format!("no figure {key}: {figures}"))
        };
        Ok(Self {
            datagrams_received: number("datagrams_received")?,
            datagrams_dropped_by_kernel: number("datagrams_dropped_by_kernel")?,
            flows_decoded: number("flows_decoded")?,
            flows_stored: number("flows_stored")?,
            flows_recovered: number("flows_recovered")?,
            flows_spooled: number("flows_spooled")?,
            unaccounted: number("unaccounted")?,
            dropped: dropped.to_owned(),
        })
    }

    /// Datagrams that arrived at the host for the collector.
    #[must_use]
    pub fn datagrams_arrived(&self) -> u64 {
        self.datagrams_received + self.datagrams_dropped_by_kernel
    }
}

/// How a collector ended after SIGTERM.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// The figures that it logged last.
    pub stopped: Stopped,
    /// The last lines that it printed.
    pub tail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: &str = r#"{"counters":{"datagrams_received":4,"datagrams_dropped_by_kernel":1,
        "flows_open":2},"dropped":{"version_unknown":3,"template_missing":0},
        "store":{"flows_in_flight":3,"flows_spooled":2},
        "equations":[{"name":"datagrams","left":4,"right":4}],
        "unaccounted":0}"#;

    fn status() -> Status {
        Status::parse(&format!("{{\"ledger\":{LEDGER}}}")).expect("it parses")
    }

    #[test]
    fn what_arrived_and_what_is_under_way_are_sums() {
        let ledger = status().ledger();
        assert_eq!(ledger.datagrams_arrived(), 5);
        assert_eq!(ledger.flows_under_way(), 7);
        assert_eq!(ledger.losses(), [("version_unknown".to_owned(), 3)]);
    }

    #[test]
    fn the_last_word_of_a_collector_is_read() {
        let output = "INFO flowsluice: starting\n2026 INFO flowsluice::cli::run: stopped \
            datagrams_received=7 datagrams_dropped_by_kernel=1 flows_decoded=40 flows_stored=30 \
            flows_recovered=4 flows_spooled=5 dropped=version_unknown=2 store_stopped=10 \
            unaccounted=0\n";
        let stopped = Stopped::last_of(output).expect("the line is there");
        assert_eq!(stopped.datagrams_arrived(), 8);
        assert_eq!((stopped.flows_decoded, stopped.flows_stored), (40, 30));
        assert_eq!((stopped.flows_recovered, stopped.flows_spooled), (4, 5));
        assert_eq!(stopped.dropped, "version_unknown=2 store_stopped=10");
        assert!(Stopped::last_of("stopped").is_err());
    }

    #[test]
    #[should_panic(expected = "the ledger has no number at /counters/flows_stord")]
    fn a_counter_that_does_not_exist_is_not_zero() {
        let _ = status().ledger().counter("flows_stord");
    }
}
