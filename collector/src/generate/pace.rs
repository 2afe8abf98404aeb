//! How many flows are due: a rate that holds over the whole run, in small bursts.

use std::time::Duration;

/// When to stop and how fast to go until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Flows a second; 0 goes as fast as it can.
    pub rate: u64,
    /// How long.
    pub duration: Option<Duration>,
    /// How many flows, exactly.
    pub flows: Option<u64>,
}

impl Limits {
    /// Flows that may be sent now, when `sent` are sent since the start, `elapsed` ago.
    ///
    /// What was missed while the machine was busy is caught up, ten times as fast as the rate at
    /// most: a receiver shall be measured with the rate, not with the scheduler's pauses.
    #[must_use]
    pub fn due(&self, sent: u64, elapsed: Duration) -> u64 {
        let elapsed = self
            .duration
            .map_or(elapsed, |duration| elapsed.min(duration));
        let by_rate = if self.rate == 0 {
            FREE_BURST
        } else {
            let burst_max = (self.rate / BURSTS_A_SECOND).max(1);
            self.scheduled(elapsed).saturating_sub(sent).min(burst_max)
        };
        by_rate.min(self.left(sent))
    }

    /// Flows that are still allowed at all.
    #[must_use]
    pub fn left(&self, sent: u64) -> u64 {
        self.flows
            .map_or(u64::MAX, |flows| flows.saturating_sub(sent))
    }

    /// True when there is nothing more to send.
    #[must_use]
    pub fn is_over(&self, sent: u64, elapsed: Duration) -> bool {
        let is_late = self.duration.is_some_and(|duration| elapsed >= duration);
        (is_late && (self.rate == 0 || self.due(sent, elapsed) == 0)) || self.left(sent) == 0
    }

    /// How long to sleep until the next flow is due; nothing when one is overdue.
    #[must_use]
    pub fn pause(&self, sent: u64, elapsed: Duration) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let next = Duration::from_secs_f64((sent + 1) as f64 / self.rate as f64);
        let until_end = self.duration.map_or(next, |duration| next.min(duration));
        until_end.saturating_sub(elapsed).max(TICK)
    }

    fn scheduled(&self, elapsed: Duration) -> u64 {
        let flows = u128::from(self.rate) * elapsed.as_nanos() / 1_000_000_000;
        u64::try_from(flows).unwrap_or(u64::MAX)
    }
}

/// The shortest sleep: a timer of the kernel is not much finer and each costs a wake-up.
const TICK: Duration = Duration::from_millis(1);
/// A burst is a hundredth of a second's flows at most.
const BURSTS_A_SECOND: u64 = 100;
/// Flows between two looks at the clock when nothing is paced.
const FREE_BURST: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_long_pause_is_caught_up_in_bursts_of_ten_milliseconds() {
        let limits = Limits {
            rate: 10_000,
            ..Limits::default()
        };
        assert_eq!(limits.due(0, SECOND), 100);
        assert_eq!(limits.due(9_990, SECOND), 10);
        assert_eq!(limits.due(10_024, SECOND), 0);
    }

    #[test]
    fn the_run_is_over_when_all_flows_of_its_duration_are_sent() {
        let limits = Limits {
            rate: 10,
            duration: Some(SECOND),
            ..Limits::default()
        };
        assert!(!limits.is_over(9, SECOND * 2));
        assert!(limits.is_over(10, SECOND * 2));
        assert!(!limits.is_over(10, SECOND / 2));
    }

    #[test]
    fn the_number_of_flows_ends_a_run_before_its_duration() {
        let limits = Limits {
            rate: 0,
            flows: Some(100),
            duration: Some(SECOND),
        };
        assert_eq!(limits.due(90, Duration::ZERO), 10);
        assert!(limits.is_over(100, Duration::ZERO));
    }

    #[test]
    fn a_slow_rate_sleeps_until_its_next_flow() {
        let limits = Limits {
            rate: 2,
            ..Limits::default()
        };
        assert_eq!(limits.pause(1, SECOND / 4), SECOND * 3 / 4);
    }
}
