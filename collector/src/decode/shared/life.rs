//! How long things live: templates that nobody sends or uses any more, sets that wait for their
//! template, and what outlasts the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Change, DomainKey, Knowledge, Learned, Shared, lock};
use crate::decode::pending::{Arrival, HeldSet};
use crate::decode::registry::Registry;
use crate::decode::sequence::SequenceState;
use crate::decode::sets::{Message, Set};
use crate::decode::template::Template;
use crate::units::UnixNanos;

/// Nanoseconds between two looks for what is too old: each is a walk through all templates.
pub const AGE_EVERY_NS: u64 = 30 * 1_000_000_000;

/// Whoever looks every [`AGE_EVERY_NS`] and finds that more time has gone by was asleep, or the
/// clock was set: how old anything is cannot be told then.
const CLOCK_JUMP_NS: u64 = 20 * AGE_EVERY_NS;

/// What becomes of a set whose template a worker does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It waits for its template.
    Held,
    /// Another worker knows the template.
    Known,
    /// There is no room for it.
    Full,
}

/// What was too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aged {
    /// Templates forgotten.
    pub templates: u64,
    /// Sets that do not wait for theirs any longer.
    pub sets: u64,
}

/// A domain as it outlasts the process.
#[derive(Clone, Debug)]
pub struct Known {
    /// Whose it is.
    pub key: DomainKey,
    /// What it told of itself.
    pub learned: Arc<Learned>,
    /// When its last datagram arrived.
    pub last_seen: UnixNanos,
    /// It produced a flow once.
    pub has_flows: bool,
    /// Where its sequence numbers stand.
    pub sequence: Option<SequenceState>,
}

impl Shared {
    /// Takes a set of `message` for later, `bytes_max` bytes of all being the bound.
    pub fn hold(
        &self,
        key: DomainKey,
        message: &Message<'_>,
        set: &Set,
        arrival: Arrival,
        bytes_max: usize,
    ) -> Holding {
        let mut registry = lock(&self.registry);
        let entry = registry.domains.get(&key);
        if entry.is_some_and(|entry| entry.learned.template(set.id).is_some()) {
            return Holding::Known;
        }
        let pending = &mut registry.pending;
        let is_held = pending.hold(key, message, set, arrival, bytes_max);
        self.pending.store(pending.count(), Ordering::Relaxed);
        match is_held {
            true => Holding::Held,
            false => Holding::Full,
        }
    }

    /// True when some set waits for its template. Who has just published a template sees every set
    /// that was held for it before.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
    }

    /// Hands out what waits for the template `id`, which is published, in the order in which it
    /// came.
    pub fn take_pending(&self, key: DomainKey, id: u16) -> VecDeque<HeldSet> {
        let mut registry = lock(&self.registry);
        let taken = registry.pending.take(key, id);
        let left = registry.pending.count();
        self.pending.store(left, Ordering::Relaxed);
        taken
    }

    /// What is known of a domain that has a place.
    pub fn knowledge(&self, key: &DomainKey) -> Option<Knowledge> {
        lock(&self.registry).knowledge(key)
    }

    /// Forgets what is too old, unless somebody has just looked, or holds the lock. A template
    /// is that was neither sent nor used for `lifetime_s` seconds; 0 is for ever.
    pub fn age(&self, now: UnixNanos, lifetime_s: u32) -> Aged {
        let Ok(mut registry) = self.registry.try_lock() else {
            return Aged::default();
        };
        let is_first = registry.aged == UnixNanos::default();
        let since_ns = now.0.abs_diff(registry.aged.0);
        if since_ns < AGE_EVERY_NS {
            return Aged::default();
        }
        registry.aged = now;
        let sets = registry.pending.expire(now);
        self.pending
            .store(registry.pending.count(), Ordering::Relaxed);
        let now_s = now.seconds();
        let has_jumped = since_ns > CLOCK_JUMP_NS;
        if has_jumped && !is_first {
            for entry in registry.domains.values() {
                let templates = entry.learned.each_template();
                templates.for_each(|template| template.life.sent(now_s));
            }
        }
        let templates = match has_jumped || lifetime_s == 0 {
            true => 0,
            false => self.expire_templates(&mut registry, now_s, lifetime_s),
        };
        Aged { templates, sets }
    }

    fn expire_templates(&self, registry: &mut Registry, now_s: u32, lifetime_s: u32) -> u64 {
        let is_old =
            |template: &&Arc<Template>| now_s.saturating_sub(template.life.last_s()) > lifetime_s;
        let Registry {
            domains, changed, ..
        } = registry;
        let mut epoch = self.epoch.load(Ordering::Relaxed);
        let mut expired = 0;
        // What is told by TCP holds until the session ends (RFC 7011 section 8.4 is for UDP).
        let by_udp = domains.iter_mut().filter(|(key, _)| key.session == 0);
        for (key, entry) in by_udp {
            let old = entry.learned.each_template().filter(is_old);
            let old: Vec<u16> = old.map(|template| template.id).collect();
            if old.is_empty() {
                continue;
            }
            let learned = Arc::make_mut(&mut entry.learned);
            let weight = learned.weight();
            old.iter()
                .for_each(|id| learned.apply(&Change::Withdraw(*id)));
            self.weigh(&entry.presence, weight, learned.weight());
            expired += old.len() as u64;
            epoch += 1;
            entry.moves_on(*key, epoch, changed);
        }
        self.epoch.store(epoch, Ordering::Release);
        expired
    }

    /// One more decoder works on this.
    pub fn decoder_begins(&self) {
        self.decoders.fetch_add(1, Ordering::Relaxed);
    }

    /// One decodes nothing more.
    pub fn decoder_ends(&self) {
        self.decoders.fetch_sub(1, Ordering::AcqRel);
    }

    /// Drops the sets that wait for their template, and returns how many, once no decoder is left
    /// that could learn it.
    pub fn give_up(&self) -> u64 {
        if self.decoders.load(Ordering::Acquire) > 0 {
            return 0;
        }
        self.pending.store(0, Ordering::Relaxed);
        lock(&self.registry).pending.clear()
    }

    /// Everything that is worth knowing after a restart.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        let found: Vec<_> = {
            let registry = lock(&self.registry);
            let entries = registry.domains.iter().map(|(key, entry)| {
                let learned = Arc::clone(&entry.learned);
                let sequence = Arc::clone(&entry.sequence);
                (*key, learned, entry.presence.facts(), sequence)
            });
            entries.collect()
        };
        // The lock is let go before those of the numbers are taken: workers may wait for it.
        let known = found.into_iter().map(|(key, learned, facts, sequence)| {
            let (last_seen, has_flows) = facts;
            Known {
                key,
                learned,
                last_seen,
                has_flows,
                sequence: sequence.state(),
            }
        });
        known.collect()
    }

    /// Takes in what was known before a restart; false when it has a place already, or none of
    /// `exporters_max` is left. With `is_exact` nothing was received after this was known.
    pub fn restore(&self, known: Known, is_exact: bool, exporters_max: usize) -> bool {
        let Known {
            key,
            learned,
            last_seen,
            has_flows,
            sequence,
        } = known;
        let mut registry = lock(&self.registry);
        let has_one = registry.domains.contains_key(&key);
        if has_one || !registry.has_place(&key.source, exporters_max) {
            return false;
        }
        registry.admit(key, last_seen);
        let Registry {
            domains,
            changed,
            sources,
            sources_epoch,
            ..
        } = &mut *registry;
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        let source = sources.entry(key.source).or_default();
        for (sampler, rate) in learned.sampling.rates() {
            source.learn(sampler, rate);
            *sources_epoch = epoch;
        }
        let entry = domains.entry(key).or_default();
        if has_flows {
            entry.presence.has_flows();
        }
        self.weigh(&entry.presence, 0, learned.weight());
        if let Some(sequence) = &sequence {
            entry.sequence.restore(sequence, is_exact);
        }
        entry.learned = learned;
        entry.moves_on(key, epoch, changed);
        self.epoch.store(epoch, Ordering::Release);
        true
    }
}
