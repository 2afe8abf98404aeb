//! When each datagram of a capture is due.

use std::time::Duration;

use flowsluice::units::UnixNanos;

/// The clock of captures, one after the other, as the time since the first datagram.
#[derive(Debug)]
pub struct Schedule {
    /// How many times faster than captured; 0 does not wait.
    speed: f64,
    gap_max: Duration,
    /// Where the capture's clock stands.
    now: Option<UnixNanos>,
    /// Its time that has passed, with gaps shortened.
    captured: Duration,
}

impl Schedule {
    /// A gap of the capture that is longer than `gap_max` counts as that long, before `speed`.
    pub fn new(speed: f64, gap_max: Option<Duration>) -> Self {
        Self {
            speed,
            gap_max: gap_max.unwrap_or(Duration::MAX),
            now: None,
            captured: Duration::ZERO,
        }
    }

    /// When the datagram behind the last one is due, which was captured at `received`: the time
    /// since the first one. It is due at once where its time is unknown or before the last one's.
    pub fn due(&mut self, received: Option<UnixNanos>) -> Duration {
        if let Some(received) = received {
            self.move_to(received);
        }
        if self.speed == 0.0 {
            return Duration::ZERO;
        }
        let seconds = self.captured.as_secs_f64() / self.speed;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Time of the capture that has passed so far.
    pub fn captured(&self) -> Duration {
        self.captured
    }

    fn move_to(&mut self, received: UnixNanos) {
        let now = self.now.unwrap_or(received);
        let gap = Duration::from_nanos(received.0.saturating_sub(now.0));
        self.captured = self.captured.saturating_add(gap.min(self.gap_max));
        // Packets that are a little out of order do not move the clock back, which would make the
        // whole longer. A clock that was set back, or an older file, goes on from there.
        let is_reordered = received < now && now.0 - received.0 <= REORDERED_MAX_NANOS;
        self.now = Some(if is_reordered { now } else { received });
    }
}

/// Processors of one card write what they captured within this of each other.
const REORDERED_MAX_NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// When datagrams that were captured at these milliseconds are due, in milliseconds.
    fn due(mut schedule: Schedule, captured_ms: &[u64]) -> Vec<u128> {
        let nanos = |ms: &u64| Some(UnixNanos(1_750_000_000_000_000_000 + ms * 1_000_000));
        captured_ms
            .iter()
            .map(|ms| schedule.due(nanos(ms)).as_millis())
            .collect()
    }

    #[test]
    fn datagrams_keep_the_gaps_of_the_capture() {
        let schedule = Schedule::new(1.0, None);
        assert_eq!(due(schedule, &[70, 70, 95, 5_070]), [0, 0, 25, 5_000]);
    }

    #[test]
    fn twice_as_fast_takes_half_of_the_time_and_half_as_fast_twice() {
        let captured = [0, 100, 3_600_000];
        assert_eq!(due(Schedule::new(2.0, None), &captured), [0, 50, 1_800_000]);
        assert_eq!(
            due(Schedule::new(0.5, None), &captured),
            [0, 200, 7_200_000]
        );
    }

    #[test]
    fn speed_0_never_waits_and_one_close_to_it_does_not_overflow() {
        assert_eq!(due(Schedule::new(0.0, None), &[0, 100, 900]), [0, 0, 0]);
        let almost = due(Schedule::new(f64::MIN_POSITIVE, None), &[0, 100]);
        assert_eq!(almost, [0, Duration::MAX.as_millis()]);
    }

    #[test]
    fn longer_gaps_count_as_the_longest_allowed_before_the_speed() {
        let captured = [0, 60_000, 61_000, 90_000_000];
        let gap_max = Some(Duration::from_secs(10));
        let schedule = Schedule::new(1.0, gap_max);
        assert_eq!(due(schedule, &captured), [0, 10_000, 11_000, 21_000]);
        let schedule = Schedule::new(2.0, gap_max);
        assert_eq!(due(schedule, &captured), [0, 5_000, 5_500, 10_500]);
    }

    #[test]
    fn an_older_file_begins_at_once_and_goes_on_with_its_own_gaps() {
        let schedule = Schedule::new(1.0, None);
        let captured = [86_400_000, 86_400_500, 1_000, 1_200, 1_300];
        assert_eq!(due(schedule, &captured), [0, 500, 500, 700, 800]);
    }

    #[test]
    fn packets_that_are_out_of_order_make_nothing_longer() {
        let schedule = Schedule::new(1.0, None);
        let captured = [0, 100, 90, 95, 110, 120];
        assert_eq!(due(schedule, &captured), [0, 100, 100, 100, 110, 120]);
    }

    #[test]
    fn a_datagram_without_a_time_is_due_with_the_one_before() {
        let mut schedule = Schedule::new(1.0, None);
        let second = Duration::from_secs(1);
        assert_eq!(schedule.due(None), Duration::ZERO);
        schedule.due(Some(UnixNanos(5_000_000_000)));
        assert_eq!(schedule.due(Some(UnixNanos(6_000_000_000))), second);
        assert_eq!(schedule.due(None), second);
        assert_eq!(schedule.captured(), second);
    }
}
