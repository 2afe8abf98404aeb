//! What is killed when.

use std::time::Duration;

/// Who runs ClickHouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is a server beside the collector.
    Server,
    /// The collector, as its child.
    Embedded,
}

/// What is done at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to ClickHouse; it stays away until [`Action::StartClickHouse`]. A child of the
    /// collector is killed again whenever there is another one.
    KillClickHouse,
    /// ClickHouse is started, or may stay; the step lasts until it answers.
    StartClickHouse,
    /// SIGTERM to the collector; the step lasts until it has ended.
    TerminateCollector,
    /// SIGKILL to the collector.
    KillCollector,
    /// The collector is started; the step lasts until its workers turn.
    StartCollector,
}

/// An action and its time, from the first flow on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// Rate, length and steps of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who runs ClickHouse.
    pub kind: Kind,
    /// Flows a second.
    pub rate: u64,
    /// How long is sent.
    pub duration: Duration,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// `batch.age_max` of the collector.
    pub batch_age: &'static str,
    /// How long before SIGKILL the oldest flow in the collector's memory may have been sent: twice
    /// [`Plan::batch_age`], until a batch is sealed and until a block is, and what writing one
    /// takes.
    pub memory_age_max: Duration,
}

impl Plan {
    /// ClickHouse is killed three times, once for two fifths of the time: two minutes of five. In
    /// the middle of that the collector gets SIGTERM: its queue must outlast it. SIGKILL hits it
    /// soon after ClickHouse is back, while what was kept is drained beside what comes.
    #[must_use]
    pub fn full(kind: Kind, rate: u64, duration: Duration) -> Self {
        use Action::{
            KillClickHouse, KillCollector, StartClickHouse, StartCollector, TerminateCollector,
        };
        // In seconds of five minutes.
        let steps = [
            (20, KillClickHouse),
            (30, StartClickHouse),
            (50, KillClickHouse),
            (110, TerminateCollector),
            (113, StartCollector),
            (170, StartClickHouse),
            (175, KillCollector),
            (178, StartCollector),
            (230, KillClickHouse),
            (240, StartClickHouse),
        ];
        let step = |(second, action)| Step {
            at: duration * second / 300,
            action,
        };
        Self {
            kind,
            rate,
            duration,
            steps: steps.map(step).to_vec(),
            batch_age: "1s",
            memory_age_max: Duration::from_secs(3),
        }
    }

    /// One kill of each kind in 18 seconds.
    #[must_use]
    pub fn short(kind: Kind) -> Self {
        use Action::{
            KillClickHouse, KillCollector, StartClickHouse, StartCollector, TerminateCollector,
        };
        let steps = [
            (2_000, KillClickHouse),
            // What it holds it keeps for the next one; until then it waits for ClickHouse.
            (4_000, TerminateCollector),
            (9_500, StartCollector),
            (12_000, StartClickHouse),
            (13_500, KillCollector),
            (14_000, StartCollector),
        ];
        let step = |(ms, action)| Step {
            at: Duration::from_millis(ms),
            action,
        };
        Self {
            kind,
            rate: 5_000,
            duration: Duration::from_secs(18),
            steps: steps.map(step).to_vec(),
            batch_age: "1s",
            // Tests run beside others, and with a build that nothing is optimized in.
            memory_age_max: Duration::from_secs(4),
        }
    }

    /// How often an action is taken.
    #[must_use]
    pub fn count(&self, action: Action) -> usize {
        let steps = self.steps.iter();
        steps.filter(|step| step.action == action).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_hold_the_kills_that_are_claimed_and_two_minutes_without_clickhouse() {
        let plan = Plan::full(Kind::Server, 50_000, Duration::from_secs(300));
        assert!(plan.steps.is_sorted_by_key(|step| step.at));
        assert_eq!(plan.count(Action::KillClickHouse), 3);
        assert_eq!(plan.count(Action::TerminateCollector), 1);
        assert_eq!(plan.count(Action::KillCollector), 1);
        let at = |action| {
            let steps = plan.steps.iter().filter(move |step| step.action == action);
            steps.map(|step| step.at)
        };
        let away = at(Action::KillClickHouse).zip(at(Action::StartClickHouse));
        let longest = away.map(|(killed, started)| started - killed).max();
        assert_eq!(longest, Some(Duration::from_secs(120)));
    }
}
