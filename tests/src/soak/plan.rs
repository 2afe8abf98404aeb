//! What is done when.

use std::net::Ipv4Addr;
use std::time::Duration;

/// What is done at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The configuration is replaced and SIGHUP sent: in turn `receive.allow` and a retention
    /// differ from before.
    Reload,
    /// The database of places is replaced by the other one.
    SwapPlaces,
    /// Networks and the threat list are replaced by the others.
    RewriteLists,
    /// SIGKILL to ClickHouse.
    KillClickHouse,
    /// ClickHouse is started; the step lasts until it answers.
    StartClickHouse,
    /// More exporters begin to send.
    GuestsCome,
    /// They fall silent.
    GuestsGo,
}

/// An action and its time, from the first flow on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// Rate, length, steps and bounds of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Flows a second, the mean of the whole time.
    pub rate: u64,
    /// How long is sent.
    pub duration: Duration,
    /// Between two reloads; all other pauses follow from it. A line is told as often.
    pub every: Duration,
    /// How long ClickHouse is away.
    pub away: Duration,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// By how many percent the memory of the last third may differ from that of the second: 5. In
    /// less than a quarter of an hour, where buffers are still being used for the first time and an
    /// outage is much of a third, 25: only what runs away shows.
    pub rss_percent_max: u64,
}

impl Plan {
    /// Reloads, swaps and new lists every minute, guests every 40 seconds, ClickHouse away for 10
    /// seconds every three minutes; closer together when that would be fewer than six reloads.
    #[must_use]
    pub fn new(rate: u64, duration: Duration) -> Self {
        let every = Duration::from_secs(60).min(duration / REPEATS_MIN);
        let away = Duration::from_secs(10).min(every / 4);
        let mut steps = Vec::new();
        let mut repeat = |from: Duration, pause: Duration, actions: &[(Action, Duration)]| {
            // One begins only where all of it fits.
            let whole = actions.iter().map(|(_, after)| *after).max();
            let mut begin = from;
            while begin + whole.unwrap_or_default() + every / 5 <= duration {
                let step = |(action, after): &(Action, Duration)| Step {
                    at: begin + *after,
                    action: *action,
                };
                steps.extend(actions.iter().map(step));
                begin += pause;
            }
        };
        let none = Duration::ZERO;
        repeat(every / 10, every, &[(Action::SwapPlaces, none)]);
        repeat(every * 3 / 10, every, &[(Action::Reload, none)]);
        repeat(every * 8 / 10, every, &[(Action::RewriteLists, none)]);
        let outage = [
            (Action::KillClickHouse, none),
            (Action::StartClickHouse, away),
        ];
        repeat(every * 3 / 2, every * 3, &outage);
        let visit = [
            (Action::GuestsCome, none),
            (Action::GuestsGo, every * 2 / 3 * GUEST_TIME_PERCENT / 100),
        ];
        repeat(every / 20, every * 2 / 3, &visit);
        steps.sort_by_key(|step| step.at);
        Self {
            rate,
            duration,
            every,
            away,
            steps,
            rss_percent_max: if duration < LONG { 25 } else { 5 },
        }
    }

    /// How often an action is taken.
    #[must_use]
    pub fn count(&self, action: Action) -> u64 {
        let steps = self.steps.iter();
        steps.filter(|step| step.action == action).count() as u64
    }

    /// Flows a second of the exporters that stay.
    #[must_use]
    pub fn rate_steady(&self) -> u64 {
        (self.rate - self.rate * GUEST_PERCENT / 100).max(1)
    }

    /// Flows a second of guests while they are there: the mean of both is [`Plan::rate`].
    #[must_use]
    pub fn rate_guests(&self) -> u64 {
        (self.rate * GUEST_PERCENT / u64::from(GUEST_TIME_PERCENT)).max(1)
    }

    /// `store.queue_max` for which an outage is too long: what comes in its second half is on the
    /// disk alone.
    #[must_use]
    pub fn queue_mib(&self) -> u64 {
        ((self.rate * ROW_BYTES * self.away.as_secs() / 2) >> 20).max(1)
    }
}

/// Where the guests of a visit send from, and to: the address is the collector's host, too. Every
/// second visit is one of the few that come again, the others are new.
#[must_use]
pub fn guest_address(visit: u32) -> Ipv4Addr {
    let number = visit / 2;
    let last = match visit % 2 {
        0 => 1 + number % GUESTS_AGAIN,
        _ => 0x100 + number,
    };
    Ipv4Addr::from_bits(GUESTS.to_bits() | last)
}

/// The network of guests, for benchmarks (RFC 2544); a /15.
pub const GUESTS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Addresses that come again.
const GUESTS_AGAIN: u32 = 4;
/// Part of all flows that is guests'.
const GUEST_PERCENT: u64 = 15;
/// Part of the time that they are there.
const GUEST_TIME_PERCENT: u32 = 75;
/// From here on memory has to be flat.
const LONG: Duration = Duration::from_secs(900);
/// Of each kind of step, at least.
const REPEATS_MIN: u32 = 6;
/// Of a row in the queue.
const ROW_BYTES: u64 = 60;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn half_an_hour() -> Plan {
        Plan::new(50_000, Duration::from_secs(1800))
    }

    #[test]
    fn half_an_hour_holds_what_is_claimed() {
        let plan = half_an_hour();
        assert!(plan.steps.is_sorted_by_key(|step| step.at));
        for action in [Action::Reload, Action::SwapPlaces, Action::RewriteLists] {
            assert_eq!(plan.count(action), 30, "{action:?}");
        }
        assert_eq!(plan.count(Action::KillClickHouse), 10);
        assert_eq!(plan.count(Action::GuestsCome), 44);
        assert_eq!((plan.away.as_secs(), plan.rss_percent_max), (10, 5));
        // Three quarters of the time guests are there.
        let mean = plan.rate_steady() + plan.rate_guests() * 3 / 4;
        assert_eq!(mean, plan.rate);
        assert_eq!(plan.queue_mib(), 14);
    }

    #[test]
    fn memory_is_judged_less_strictly_where_it_has_had_no_time_to_become_flat() {
        let percent =
            |minutes: u64| Plan::new(1, Duration::from_secs(60 * minutes)).rss_percent_max;
        assert_eq!([2, 14, 15, 60].map(percent), [25, 25, 5, 5]);
    }

    #[test]
    fn whoever_goes_away_comes_back_in_time_to_be_judged() {
        for minutes in [1, 2, 3, 5, 30, 60] {
            let plan = Plan::new(1, Duration::from_secs(60 * minutes));
            let at = |action| {
                let steps = plan.steps.iter().filter(move |step| step.action == action);
                steps.map(|step| step.at)
            };
            let killed = at(Action::KillClickHouse);
            let pauses = killed.zip(at(Action::StartClickHouse));
            assert!(pauses.clone().all(|(from, to)| from + plan.away == to));
            assert!(pauses.count() > 0, "{minutes}");
            let mut starts = at(Action::StartClickHouse);
            assert!(starts.all(|at| at + plan.away / 2 <= plan.duration));
            let (come, go) = (at(Action::GuestsCome), at(Action::GuestsGo));
            assert!(come.clone().zip(go).all(|(come, go)| come < go));
            assert_eq!(come.count() as u64, plan.count(Action::GuestsGo));
            assert!(plan.count(Action::Reload) >= 5, "{minutes}");
        }
    }

    #[test]
    fn some_guests_come_again_and_the_others_are_new() {
        let addresses: Vec<_> = (0..46).map(guest_address).collect();
        let different: HashSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), 4 + 23);
        assert_eq!(addresses[0], Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(addresses[8], addresses[0]);
        assert_eq!(addresses[1], Ipv4Addr::new(198, 18, 1, 0));
    }
}
