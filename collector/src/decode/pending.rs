//! Sets that came before their template.
//!
//! In: data and options sets of ids that nobody knows, copied. Out: the same sets, for the worker
//! that learns their template, or a count of those for which none came. Owner: all workers, under
//! the lock of the registry, which alone can tell whether an id is still unknown to all.
//!
//! The bound is in bytes: routers send their templates again after 20 s to 30 min (the longest
//! default of a router), and what an exporter sends meanwhile may be much more than memory.

use std::collections::VecDeque;
use std::hash::Hash;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::record::Clock;
use super::sets::{Message, Set};
use super::shared::DomainKey;
use super::template::Dialect;
use super::window::WINDOW_LEAD;
use crate::units::UnixNanos;

/// A set is held for so long.
pub const AGE_MAX_NS: u64 = 30 * 60 * 1_000_000_000;
/// One source address may have this part of `decode.pending_max`.
const SHARE_OF_SOURCE: usize = 4;
/// One domain may have this part.
const SHARE_OF_DOMAIN: usize = 8;
/// One template id may have this part: some never come, and must not take all from the others.
const SHARE_OF_ID: usize = 16;
/// What a held set takes beside its bytes, also where its domain and id have no other: places in
/// maps and queues that are half empty.
const OVERHEAD: usize = 512;

/// When a datagram arrived, and of which domain it was.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// By the collector's clock.
    pub received: UnixNanos,
    /// As its header says; where templates hold in all domains of an exporter, it is not that of
    /// the [`DomainKey`].
    pub observation_domain: u32,
}

/// A set with all that is needed to decode it later as if it were now.
#[derive(Debug)]
pub struct HeldSet {
    /// Of its datagram.
    pub arrival: Arrival,
    id: u16,
    dialect: Dialect,
    /// The exporter's clocks in its message.
    clock: Clock,
    /// Bytes that its message did not have.
    missing: usize,
    /// Room for a window's lead, then the set without its header.
    bytes: Box<[u8]>,
}

impl HeldSet {
    fn new(message: &Message<'_>, set: &Set, arrival: Arrival) -> Self {
        let body = message.bytes.get(set.body.clone()).unwrap_or_default();
        Self {
            arrival,
            id: set.id,
            dialect: message.dialect,
            clock: message.clock,
            missing: set.missing,
            bytes: [&[0; WINDOW_LEAD][..], body].concat().into(),
        }
    }

    /// The message that it was in, which has no other set any more.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message {
            bytes: &self.bytes,
            sets_at: self.bytes.len(),
            // Its number was followed when it arrived.
            sequence: 0,
            dialect: self.dialect,
            clock: self.clock,
            received_ms: self.arrival.received.millis(),
        }
    }

    /// Where it is in that message.
    #[must_use]
    pub fn set(&self) -> Set {
        Set {
            id: self.id,
            body: WINDOW_LEAD..self.bytes.len(),
            missing: self.missing,
        }
    }

    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// All sets that are held.
#[derive(Debug, Default)]
pub struct Pending {
    ids: HashMap<(DomainKey, u16), Waiting>,
    shares: Shares,
    bytes: usize,
    count: usize,
    /// Sets of domains that ended, until somebody counts them.
    ended: u64,
}

/// What waits for one template, in the order in which it came.
#[derive(Debug, Default)]
struct Waiting {
    sets: VecDeque<HeldSet>,
    bytes: usize,
}

impl Pending {
    /// Number of sets.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Holds a set of `message`; false when it finds no room in `bytes_max`.
    pub fn hold(
        &mut self,
        key: DomainKey,
        message: &Message<'_>,
        set: &Set,
        arrival: Arrival,
        bytes_max: usize,
    ) -> bool {
        let id = (key, set.id);
        let cost = WINDOW_LEAD + set.body.len() + OVERHEAD;
        let (of_source, of_domain) = self.shares.of(key);
        let of_id = self.ids.get(&id).map_or(0, |waiting| waiting.bytes);
        let has_room = self.bytes + cost <= bytes_max
            && of_source + cost <= bytes_max / SHARE_OF_SOURCE
            && of_domain + cost <= bytes_max / SHARE_OF_DOMAIN
            && of_id + cost <= bytes_max / SHARE_OF_ID;
        if has_room {
            let waiting = self.ids.entry(id).or_default();
            waiting.sets.push_back(HeldSet::new(message, set, arrival));
            waiting.bytes += cost;
            self.shares.take(key, cost);
            self.bytes += cost;
            self.count += 1;
        }
        has_room
    }

    /// Hands out what was held for one template, in the order in which it came.
    pub fn take(&mut self, key: DomainKey, id: u16) -> VecDeque<HeldSet> {
        let taken = self.ids.remove(&(key, id)).unwrap_or_default();
        self.count -= taken.sets.len();
        self.bytes -= taken.bytes;
        self.shares.give_back(key, taken.bytes);
        taken.sets
    }

    /// Drops what is held of a domain that has ended: the next one under this key has templates of
    /// its own.
    pub fn end(&mut self, key: DomainKey) {
        let (_, of_domain) = self.shares.of(key);
        if of_domain == 0 {
            return;
        }
        self.shares.give_back(key, of_domain);
        self.bytes -= of_domain;
        let Self {
            ids, count, ended, ..
        } = self;
        ids.retain(|(domain, _), waiting| {
            let is_its = *domain == key;
            if is_its {
                *count -= waiting.sets.len();
                *ended += waiting.sets.len() as u64;
            }
            !is_its
        });
    }

    /// Drops what has been held for too long; returns how many sets that were, with those of
    /// domains that ended.
    pub fn expire(&mut self, now: UnixNanos) -> u64 {
        let Self {
            ids,
            shares,
            bytes,
            count,
            ended,
        } = self;
        let ended = std::mem::take(ended);
        let count_before = *count;
        let is_old = |set: &HeldSet| now.0.saturating_sub(set.arrival.received.0) > AGE_MAX_NS;
        ids.retain(|(key, _), waiting| {
            while waiting.sets.front().is_some_and(is_old) {
                let cost = waiting.sets.pop_front().map_or(0, |set| set.cost());
                waiting.bytes -= cost;
                shares.give_back(*key, cost);
                *bytes -= cost;
                *count -= 1;
            }
            !waiting.sets.is_empty()
        });
        ended + (count_before - self.count) as u64
    }

    /// Drops everything; returns how many sets that were, with those of domains that ended.
    pub fn clear(&mut self) -> u64 {
        let Self { count, ended, .. } = std::mem::take(self);
        ended + count as u64
    }
}

/// Template ids whose sets found no room a moment ago: others like them are not tried, so that
/// workers do not meet at the lock for nothing.
#[derive(Debug, Default)]
pub struct Refused {
    /// One bit for all ids that are the same modulo 64.
    ids: u64,
    until: UnixNanos,
}

impl Refused {
    const FOR_NS: u64 = 100_000_000;

    /// Takes note of one.
    pub const fn note(&mut self, id: u16, now: UnixNanos) {
        // From the first one on, or it would never end while they keep coming.
        if self.ids == 0 {
            self.until = UnixNanos(now.0.saturating_add(Self::FOR_NS));
        }
        self.ids |= 1 << (id % 64);
    }

    /// True when a set of `id` was refused a moment ago.
    pub fn has(&mut self, id: u16, now: UnixNanos) -> bool {
        // The clock may have been set back.
        if self.until.0.abs_diff(now.0) > Self::FOR_NS || now >= self.until {
            self.ids = 0;
        }
        self.ids & (1 << (id % 64)) != 0
    }
}

/// Bytes by who sent them: anybody can invent domains, and more than one address is harder.
#[derive(Debug, Default)]
struct Shares {
    sources: HashMap<IpAddr, usize>,
    domains: HashMap<DomainKey, usize>,
}

impl Shares {
    /// Bytes of the source address and of the domain.
    fn of(&self, key: DomainKey) -> (usize, usize) {
        let of_source = self.sources.get(&key.source).copied();
        let of_domain = self.domains.get(&key).copied();
        (of_source.unwrap_or_default(), of_domain.unwrap_or_default())
    }

    fn take(&mut self, key: DomainKey, bytes: usize) {
        *self.sources.entry(key.source).or_default() += bytes;
        *self.domains.entry(key).or_default() += bytes;
    }

    fn give_back(&mut self, key: DomainKey, bytes: usize) {
        give_back(&mut self.sources, &key.source, bytes);
        give_back(&mut self.domains, &key, bytes);
    }
}

fn give_back<K: Eq + Hash>(shares: &mut HashMap<K, usize>, key: &K, bytes: usize) {
    if let Some(share) = shares.get_mut(key) {
        *share -= bytes;
        if *share == 0 {
            shares.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::decode::template::Dialect;
    use crate::flow::FlowType;

    /// Sets of so many invented domains of one address are held.
    fn held_of(pending: &mut Pending, host: u8, bytes_max: usize) -> usize {
        let bytes = [0; 1024];
        let message = Message {
            bytes: &bytes,
            sets_at: 16,
            sequence: 0,
            dialect: Dialect::Ipfix,
            clock: Clock {
                export_ms: 0,
                uptime_ms: None,
            },
            received_ms: 0,
        };
        let set = Set {
            id: 256,
            body: 20..1024,
            missing: 0,
        };
        let arrival = Arrival {
            received: UnixNanos::default(),
            observation_domain: 0,
        };
        let hold = |observation_domain: &u32| {
            let key = DomainKey {
                source: Ipv4Addr::new(192, 0, 2, host).into(),
                flow_type: FlowType::Ipfix,
                observation_domain: *observation_domain,
                session: 0,
            };
            pending.hold(key, &message, &set, arrival, bytes_max)
        };
        (0..1000).filter(hold).count()
    }

    #[test]
    fn one_address_does_not_take_all_the_memory_however_many_domains_it_invents() {
        let mut pending = Pending::default();
        let first = held_of(&mut pending, 1, 256 << 10);
        assert!((30..=45).contains(&first), "{first}");
        assert_eq!(held_of(&mut pending, 2, 256 << 10), first);
        assert_eq!(pending.expire(UnixNanos(2 * AGE_MAX_NS)), 2 * first as u64);
        assert_eq!(held_of(&mut pending, 1, 256 << 10), first);
    }

    #[test]
    fn a_refusal_ends_although_sets_of_the_id_keep_coming() {
        let mut refused = Refused::default();
        let tried = (0..100).map(|n| UnixNanos(1_000_000_000 + n * 10_000_000));
        let tried = tried.filter(|now| {
            let is_tried = !refused.has(7, *now);
            refused.note(7, *now);
            is_tried
        });
        assert_eq!(tried.count(), 10, "once in 100 ms");
    }
}
