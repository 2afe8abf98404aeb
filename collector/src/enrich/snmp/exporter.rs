//! One exporter in the eyes of the poller: when it is asked, and how it answers.

use std::sync::Arc;
use std::time::Duration;

use snmp2::v3::KeyExtension;
use tokio::time::Instant;

use super::told::Told;

/// Silent agents are asked so often at least, unless all are asked less often.
const SILENT_EVERY: Duration = Duration::from_secs(3600);
/// A new exporter waits so long at most, so that not all are asked at once at the start.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// An exporter that was wanted once, or of which a file told.
#[derive(Debug, Default)]
pub struct Exporter {
    /// The number of its target, as long as it is wanted and has one.
    pub target: Option<usize>,
    /// When it is asked next; `None` while it is being asked or is not wanted.
    pub due: Option<Instant>,
    /// What it said last.
    pub told: Option<Arc<Told>>,
    /// When that was, seconds since the epoch.
    pub told_s: u32,
    /// When all of it last became rows, seconds since the epoch; 0 when some of it did not.
    pub rows_s: u32,
    /// How long keys were made that it took.
    pub extension: Option<KeyExtension>,
    /// It had more interfaces than there was room for.
    pub is_cut: bool,
    /// Polls that failed since the last one that did not.
    failures: u32,
    /// It is being asked.
    pub is_under_way: bool,
}

impl Exporter {
    /// It failed when it was asked last.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// It answered: asked again in `every`.
    pub fn answered(&mut self) {
        self.failures = 0;
    }

    /// It did not answer: asked again later and later.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// How long to wait until it is asked again; `chance` is 0 to 1.
    pub fn wait(&self, every: Duration, chance: f64) -> Duration {
        let doubled = self.failures.saturating_sub(1).min(16);
        let wait = every.saturating_mul(1 << doubled);
        let wait = wait.min(SILENT_EVERY.max(every));
        // Exporters that were asked together drift apart.
        wait.mul_f64(0.9 + 0.2 * chance)
    }

    /// How long a new one waits; `chance` is 0 to 1.
    pub fn first_wait(every: Duration, chance: f64) -> Duration {
        FIRST_WAIT.min(every / 10).mul_f64(chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_silent_agent_is_asked_less_and_less_often_and_a_speaking_one_as_before() {
        let mut exporter = Exporter::default();
        let every = 10 * MINUTE;
        let middle = |exporter: &Exporter| exporter.wait(every, 0.5).as_secs() / 60;
        assert_eq!(middle(&exporter), 10);
        let waits = [0; 6].map(|_| {
            exporter.failed();
            middle(&exporter)
        });
        assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
        for _ in 0..100 {
            exporter.failed();
        }
        assert_eq!(middle(&exporter), 60);
        assert_eq!(exporter.wait(100 * MINUTE, 0.5), 100 * MINUTE);
        exporter.answered();
        assert_eq!(middle(&exporter), 10);
    }

    #[test]
    fn chance_spreads_questions_by_a_tenth() {
        let exporter = Exporter::default();
        let wait = |chance| exporter.wait(10 * MINUTE, chance).as_secs();
        assert_eq!((wait(0.0), wait(1.0)), (540, 660));
        assert_eq!(Exporter::first_wait(10 * MINUTE, 1.0), FIRST_WAIT);
        assert_eq!(Exporter::first_wait(MINUTE / 60, 1.0), MINUTE / 600);
    }
}
