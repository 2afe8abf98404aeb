//! How much one sender may send: `receive.limit`.
//!
//! In: the source of a datagram and when it arrived. Out: whether it is within its limit. Owner:
//! one worker, which counts for itself; no allocation after set-up, but at a reload.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use ipnet::IpNet;

use super::live::{Live, Watch};
use crate::config::Limit;
use crate::flow::Address;
use crate::units::UnixNanos;

/// Senders that are followed at once. One more takes the place of that of four which has sent least
/// beyond its rate; a sender within its rate leaves nothing to remember.
const SENDERS: usize = 16_384;
/// Senders that compete for the same places.
const WAYS: usize = 4;

/// The limits that are in force, which a reload replaces.
pub type Limits = Live<Limit>;

/// One worker's limits, as the configuration has them at the time.
#[derive(Debug)]
pub struct Limiting {
    limits: Watch<Limit>,
    /// `None` where nobody is limited.
    current: Option<RateLimit>,
}

impl Limiting {
    /// A worker's part in `limits`.
    #[must_use]
    pub fn new(limits: &Arc<Limits>) -> Self {
        let mut limiting = Self {
            limits: Watch::new(limits),
            current: None,
        };
        limiting.refresh();
        limiting
    }

    /// Once a turn: takes over what was replaced, which is one load when nothing was. From there on
    /// each sender is measured anew.
    #[inline]
    pub fn refresh(&mut self) {
        if let Some(limit) = self.limits.news() {
            self.current = RateLimit::of(&limit);
        }
    }

    /// The limits of this turn.
    pub fn current(&mut self) -> Option<&mut RateLimit> {
        self.current.as_mut()
    }
}

/// The limits of one worker, and what senders have used of them.
#[derive(Debug)]
pub struct RateLimit {
    sets: Box<[[Sender; WAYS]]>,
    hasher: DefaultHashBuilder,
    default: Rate,
    /// The longest prefixes first.
    exceptions: Box<[(IpNet, Rate)]>,
}

/// How often datagrams may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rate {
    /// Nanoseconds a datagram; 0 is no limit.
    interval_ns: u64,
    /// How far ahead of its rate a sender may be.
    ahead_ns: u64,
}

/// A sender, by the generic cell rate algorithm (ITU-T I.371): one figure tells all of it.
#[derive(Clone, Copy, Debug, Default)]
struct Sender {
    address: u128,
    /// When it would have sent as much as it has, had it kept to its rate.
    due_ns: u64,
    rate: Rate,
}

impl RateLimit {
    /// Memory of one, in bytes.
    pub const BYTES: usize = SENDERS * size_of::<Sender>();

    /// The limits of the configuration; none where nobody is limited.
    #[must_use]
    pub fn of(limit: &Limit) -> Option<Self> {
        if !limit.is_on() {
            return None;
        }
        let exceptions = limit.exporters.iter();
        let mut exceptions: Vec<_> = exceptions
            .map(|one| (one.source.trunc(), Rate::new(one.rate, one.burst)))
            .collect();
        exceptions.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Some(Self {
            sets: vec![[Sender::default(); WAYS]; SENDERS / WAYS].into(),
            hasher: DefaultHashBuilder::default(),
            default: Rate::new(limit.rate, limit.burst),
            exceptions: exceptions.into(),
        })
    }

    /// Whether a datagram of `source` may be taken `now`; counts it if so.
    pub fn admits(&mut self, source: IpAddr, now: UnixNanos) -> bool {
        let address = u128::from_be_bytes(Address::from(source).0);
        let set = self.hasher.hash_one(address) as usize % self.sets.len();
        let Some(set) = self.sets.get_mut(set) else {
            return true;
        };
        if let Some(sender) = set.iter_mut().find(|sender| sender.address == address) {
            return sender.admits(now.0);
        }
        let prefix = self
            .exceptions
            .iter()
            .find(|(net, _)| net.contains(&source));
        let rate = prefix.map_or(self.default, |(_, rate)| *rate);
        let Some(place) = set.iter_mut().min_by_key(|sender| sender.due_ns) else {
            return true;
        };
        *place = Sender {
            address,
            due_ns: now.0,
            rate,
        };
        place.admits(now.0)
    }
}

impl Rate {
    fn new(rate: u32, burst: u32) -> Self {
        if rate == 0 {
            return Self::default();
        }
        let interval_ns = 1_000_000_000 / u64::from(rate);
        let burst = if burst == 0 { rate } else { burst };
        Self {
            interval_ns,
            ahead_ns: interval_ns * u64::from(burst - 1),
        }
    }
}

impl Sender {
    fn admits(&mut self, now_ns: u64) -> bool {
        let Rate {
            interval_ns,
            ahead_ns,
        } = self.rate;
        let ahead = self.due_ns.saturating_sub(now_ns);
        // Nobody gets as far ahead as that: the clock was set back.
        if ahead > ahead_ns + interval_ns {
            self.due_ns = now_ns;
        } else if ahead > ahead_ns {
            return false;
        }
        self.due_ns = self.due_ns.max(now_ns) + interval_ns;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ExporterLimit;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1_700_000_000 * SECOND;

    fn limit(rate: u32, burst: u32) -> Limit {
        Limit {
            rate,
            burst,
            exporters: Vec::new(),
        }
    }

    /// How many of `count` datagrams of `source`, evenly over `seconds` from `start_ns`, are taken.
    fn taken(
        limit: &mut RateLimit,
        source: &str,
        (start_ns, seconds): (u64, u64),
        count: u64,
    ) -> u64 {
        let source = source.parse().unwrap();
        let step = seconds * SECOND / count;
        let at = |datagram| UnixNanos(start_ns + datagram * step);
        (0..count)
            .filter(|datagram| limit.admits(source, at(*datagram)))
            .count() as u64
    }

    #[test]
    fn nobody_is_limited_by_default() {
        assert!(RateLimit::of(&Limit::default()).is_none());
    }

    #[test]
    fn a_sender_gets_its_burst_and_then_its_rate_and_others_do_not_suffer() {
        let mut limit = RateLimit::of(&limit(100, 20)).unwrap();
        // Ten times as much as allowed, for ten seconds.
        let hot = taken(&mut limit, "192.0.2.1", (START, 10), 10_000);
        assert!((1_018..=1_021).contains(&hot), "{hot}");
        assert_eq!(taken(&mut limit, "192.0.2.2", (START, 10), 1_000), 1_000);
        // It has to pause for as long as it was ahead.
        let again = taken(&mut limit, "192.0.2.1", (START + 11 * SECOND, 1), 20);
        assert_eq!(again, 20);
    }

    #[test]
    fn all_at_once_a_sender_gets_its_burst_and_without_one_what_it_may_send_in_a_second() {
        let source = "2001:db8::1".parse().unwrap();
        for (burst, expected) in [(20, 20), (0, 100)] {
            let mut limit = RateLimit::of(&limit(100, burst)).unwrap();
            let mut admitted = (0..1000).filter(|_| limit.admits(source, UnixNanos(START)));
            assert_eq!(admitted.by_ref().count(), expected);
        }
    }

    #[test]
    fn the_longest_prefix_counts_and_zero_is_no_limit() {
        let mut limits = limit(10, 10);
        let exception = |source: &str, rate| ExporterLimit {
            source: source.parse().unwrap(),
            rate,
            burst: 0,
        };
        limits.exporters = vec![exception("192.0.2.0/24", 100), exception("192.0.2.7/32", 0)];
        let mut limit = RateLimit::of(&limits).unwrap();
        let at_once = |limit: &mut RateLimit, source: &str| {
            let source = source.parse().unwrap();
            let admitted = (0..500).filter(|_| limit.admits(source, UnixNanos(START)));
            admitted.count()
        };
        assert_eq!(at_once(&mut limit, "198.51.100.1"), 10);
        assert_eq!(at_once(&mut limit, "192.0.2.1"), 100);
        assert_eq!(at_once(&mut limit, "192.0.2.7"), 500);
    }

    #[test]
    fn replaced_limits_hold_from_the_next_turn_on() {
        let source = "192.0.2.1".parse().unwrap();
        let limits = Limits::new(Limit::default());
        let mut limiting = Limiting::new(&limits);
        limits.replace(limit(1, 2));
        assert!(limiting.current().is_none(), "this turn goes on as it was");
        limiting.refresh();
        let current = limiting.current().unwrap();
        let admitted = (0..5).filter(|_| current.admits(source, UnixNanos(START)));
        assert_eq!(admitted.count(), 2);
        limits.replace(Limit::default());
        limiting.refresh();
        assert!(limiting.current().is_none(), "none limits nobody");
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_waiting() {
        let mut limit = RateLimit::of(&limit(100, 20)).unwrap();
        taken(&mut limit, "192.0.2.1", (START, 1), 1_000);
        let hour = 3600 * SECOND;
        let source = "192.0.2.1".parse().unwrap();
        assert!(limit.admits(source, UnixNanos(START - hour)));
    }

    #[test]
    fn forged_senders_do_not_take_the_place_of_one_that_is_ahead() {
        let mut limit = RateLimit::of(&limit(1, 100)).unwrap();
        let hot = "192.0.2.1".parse().unwrap();
        let now = UnixNanos(START);
        assert_eq!((0..200).filter(|_| limit.admits(hot, now)).count(), 100);
        for forged in 0..100_000_u32 {
            limit.admits(IpAddr::V4((0x0a00_0000 + forged).into()), now);
        }
        assert!(!limit.admits(hot, now), "its place was taken");
    }
}
