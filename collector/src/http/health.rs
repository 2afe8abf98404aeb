//! Earlier readings, kept to tell what has changed since: rates, and workers that stand still.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::decode::ExporterStatus;
use crate::flow::FlowType;

/// What rates are averaged over.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(10);
/// A worker turns at least once a second, so this silence is no idleness.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Readings kept; at two seconds each they reach a little beyond the window.
const READINGS_MAX: usize = 8;
/// Exporters whose flows are remembered from one reading to the next.
const EXPORTERS_MAX: usize = 65_536;

type Key = (IpAddr, FlowType, u32);

/// Bounded in both directions: by age and by number.
#[derive(Debug)]
pub(super) struct Readings {
    /// Oldest first: when, and the flows of each exporter until then.
    flows: VecDeque<(Instant, HashMap<Key, u64>)>,
    /// Of each worker: its turns, and when they last were other than before.
    workers: Vec<(u64, Instant)>,
}

impl Readings {
    /// Before anything was received.
    pub(super) fn new(started: Instant) -> Self {
        Self {
            flows: VecDeque::from([(started, HashMap::new())]),
            workers: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, now: Instant, turns: &[u64], exporters: &[ExporterStatus]) {
        self.note_turns(now, turns);
        let known = exporters.iter().take(EXPORTERS_MAX);
        let flows = known.map(|status| (key(status), status.flows)).collect();
        self.flows.push_back((now, flows));
        // One reading of the window's age or older is kept, to measure from.
        let is_old = |reading: &(Instant, _)| now.duration_since(reading.0) >= RATE_WINDOW;
        while self.flows.len() > READINGS_MAX || self.flows.get(1).is_some_and(is_old) {
            self.flows.pop_front();
        }
    }

    /// Flows a second of the exporter, over the last [`RATE_WINDOW`] or since the start.
    pub(super) fn flows_per_s(&self, now: Instant, status: &ExporterStatus) -> f64 {
        let mut rate = 0.0;
        if let Some((then, flows)) = self.flows.front() {
            let before = flows.get(&key(status)).copied().unwrap_or_default();
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            rate = status.flows.saturating_sub(before) as f64 / seconds.max(1.0);
        }
        rate
    }

    /// The worker that has been silent for the longest beyond [`SILENCE_MAX`], and for how long.
    pub(super) fn silent(&mut self, now: Instant, turns: &[u64]) -> Option<(usize, Duration)> {
        self.note_turns(now, turns);
        let silence = |(_, changed): &(u64, Instant)| now.saturating_duration_since(*changed);
        let workers = self.workers.iter().map(silence).enumerate();
        workers
            .filter(|(_, silence)| *silence > SILENCE_MAX)
            .max_by_key(|(_, silence)| *silence)
    }

    fn note_turns(&mut self, now: Instant, turns: &[u64]) {
        self.workers.resize(turns.len(), (0, now));
        for (known, turns) in self.workers.iter_mut().zip(turns) {
            if known.0 != *turns {
                *known = (*turns, now);
            }
        }
    }
}

fn key(status: &ExporterStatus) -> Key {
    (status.source, status.flow_type, status.observation_domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::exporter;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_the_mean_of_the_last_ten_seconds_whoever_asks_and_when() {
        let start = Instant::now();
        let mut readings = Readings::new(start);
        // 100 flows a second for 20 s, then none.
        let flows_at = |second: u64| 100 * second.min(20);
        for second in (2..=20).step_by(2) {
            let status = exporter(1, flows_at(second));
            readings.take(start + SECOND * second as u32, &[], &[status]);
        }
        let rate = readings.flows_per_s(start + SECOND * 20, &exporter(1, flows_at(20)));
        assert!((rate - 100.0).abs() < 1.0, "{rate}");
        for second in (22..=32).step_by(2) {
            let status = exporter(1, flows_at(second));
            readings.take(start + SECOND * second as u32, &[], &[status]);
        }
        let rate = readings.flows_per_s(start + SECOND * 32, &exporter(1, flows_at(32)));
        assert!(rate < 1.0, "{rate}");
        assert!(readings.flows.len() <= READINGS_MAX);
    }

    #[test]
    fn an_exporter_that_is_new_has_a_rate_at_once() {
        let start = Instant::now();
        let readings = Readings::new(start);
        let rate = readings.flows_per_s(start + SECOND * 4, &exporter(1, 400));
        assert!((rate - 100.0).abs() < 1.0, "{rate}");
    }

    #[test]
    fn a_worker_is_silent_only_when_its_turns_stand_still_for_long() {
        let start = Instant::now();
        let mut readings = Readings::new(start);
        readings.take(start, &[1, 1], &[]);
        assert_eq!(readings.silent(start + SECOND * 9, &[1, 1]), None);
        assert_eq!(
            readings.silent(start + SECOND * 11, &[2, 1]),
            Some((1, SECOND * 11))
        );
        assert_eq!(readings.silent(start + SECOND * 12, &[3, 2]), None);
    }
}
