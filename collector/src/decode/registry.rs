//! The exporters and domains that have a place, and which of them gives it up.
//!
//! Anybody who can send a datagram can invent exporters, so a place is not for ever: when all are
//! taken, one that never produced a flow makes room, or one that has been silent for long. A
//! source has a share of the places only. The search for one to evict is bounded in time, whatever
//! arrives.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;

use super::pending::Pending;
use super::sampling::Sampling;
use super::sequence::{Sequence, SequenceTotals};
use super::shared::{DomainKey, Knowledge, Learned};
use crate::units::UnixNanos;

/// A domain that produced flows keeps its place for so long after its last datagram.
const SILENCE_NS: u64 = 10 * 60 * 1_000_000_000;

/// Evicted domains whose last sequence numbers are kept to be told, at most; of more only the sums.
const GONE_MAX: usize = 1024;

/// What workers tell of a domain while they decode: how much it deserves its place.
#[derive(Debug, Default)]
pub struct Presence {
    last_seen_ns: AtomicU64,
    has_flows: AtomicBool,
    is_evicted: AtomicBool,
    /// [`Source::weight`].
    source_weight: Arc<AtomicUsize>,
}

impl Presence {
    /// A datagram arrived. Told once a second is often enough.
    pub fn seen(&self, received: UnixNanos) {
        self.last_seen_ns.fetch_max(received.0, Ordering::Relaxed);
    }

    /// A flow came out of it.
    pub fn has_flows(&self) {
        self.has_flows.store(true, Ordering::Relaxed);
    }

    /// When its last datagram arrived, to about a second, and whether it ever produced a flow.
    #[must_use]
    pub fn facts(&self) -> (UnixNanos, bool) {
        let last_seen = UnixNanos(self.last_seen_ns.load(Ordering::Relaxed));
        (last_seen, self.has_flows.load(Ordering::Relaxed))
    }

    /// How many of `decode.templates_max` the templates of all domains of its source count for.
    #[must_use]
    pub fn source_weight(&self) -> &AtomicUsize {
        &self.source_weight
    }

    /// Its place was given to another; who holds it must forget it.
    #[must_use]
    pub fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }
}

/// All domains, under one lock.
#[derive(Debug, Default)]
pub struct Registry {
    /// Those that have a place.
    pub domains: HashMap<DomainKey, Entry>,
    /// Each domain that taught something once, by the epoch of its last change.
    pub changed: BTreeMap<u64, DomainKey>,
    /// The addresses that they send from.
    pub sources: HashMap<IpAddr, Source>,
    /// Epoch of the last change of a rate in `sources`.
    pub sources_epoch: u64,
    /// Epoch of the last eviction.
    pub evicted_epoch: u64,
    /// What was found of the sequence numbers of those that were evicted.
    pub evicted_counts: SequenceTotals,
    /// Their sequence numbers, until somebody tells what was found last.
    pub gone: Vec<(DomainKey, Arc<Sequence>)>,
    /// Data sources of sFlow agents that are followed.
    sources_followed: Arc<AtomicUsize>,
    /// Sets that came before their template.
    pub pending: Pending,
    /// When templates and those sets were last looked through for old ones.
    pub aged: UnixNanos,
    /// For an exporter, all places being taken.
    place_search: Search,
    /// For a template, as many as allowed being known.
    template_search: Search,
}

/// One domain.
#[derive(Debug, Default)]
pub struct Entry {
    /// Of its last change; 0 is none.
    pub epoch: u64,
    /// What it told of itself.
    pub learned: Arc<Learned>,
    /// How much it deserves its place.
    pub presence: Arc<Presence>,
    /// Its sequence numbers.
    pub sequence: Arc<Sequence>,
}

impl Entry {
    /// It has changed, at `epoch`.
    pub fn moves_on(&mut self, key: DomainKey, epoch: u64, changed: &mut BTreeMap<u64, DomainKey>) {
        changed.remove(&self.epoch);
        changed.insert(epoch, key);
        self.epoch = epoch;
    }
}

/// One UDP source address.
#[derive(Debug, Default)]
pub struct Source {
    domains: Vec<DomainKey>,
    /// Rates that any of its domains told.
    pub sampling: Option<Arc<Sampling>>,
    /// Sum of the weights of their templates.
    weight: Arc<AtomicUsize>,
    search: Search,
}

impl Source {
    /// Takes note of a rate; false when it is known.
    pub fn learn(&mut self, sampler: Option<u64>, rate: u32) -> bool {
        let sampling = self.sampling.get_or_insert_default();
        let is_new = !sampling.knows(sampler, rate);
        if is_new {
            Arc::make_mut(sampling).set(sampler, rate);
        }
        is_new
    }
}

/// When domains were last looked through.
#[derive(Debug, Default)]
struct Search(Option<UnixNanos>);

impl Search {
    /// True when it is time to look through `count` domains. One takes some 60 to 90 nanoseconds
    /// (measured), so a flood of inventions costs at most two percent of a core.
    fn begins(&mut self, now: UnixNanos, count: usize) -> bool {
        const PAUSE_NS: u64 = 10_000_000;
        const PAUSE_OF_ONE_NS: u64 = 5_000;
        let pause_ns = PAUSE_NS.saturating_add(PAUSE_OF_ONE_NS.saturating_mul(count as u64));
        let is_due = self.0.is_none_or(|last| now.0.abs_diff(last.0) >= pause_ns);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

/// Something that costs time and may happen so often a second, whoever asks for it.
#[derive(Debug, Default)]
pub struct Paced {
    second: u32,
    times: u32,
}

impl Paced {
    const A_SECOND: u32 = 128;

    /// True when it may be once more.
    pub fn may_be(&mut self, now_s: u32) -> bool {
        if self.second != now_s {
            *self = Self {
                second: now_s,
                times: 0,
            };
        }
        self.times += 1;
        self.times <= Self::A_SECOND
    }
}

/// Domains that one source address may have of `exporters_max`.
fn source_max(exporters_max: usize) -> usize {
    const SHARE: usize = 16;
    const AT_LEAST: usize = 8;
    (exporters_max / SHARE).max(AT_LEAST)
}

impl Registry {
    /// What is known of a domain that has a place.
    #[must_use]
    pub fn knowledge(&self, key: &DomainKey) -> Option<Knowledge> {
        let entry = self.domains.get(key)?;
        let source = self.sources.get(&key.source);
        Some(Knowledge {
            learned: Arc::clone(&entry.learned),
            elsewhere: source
                .and_then(|source| source.sampling.clone())
                .unwrap_or_default(),
            presence: Arc::clone(&entry.presence),
            sequence: Arc::clone(&entry.sequence),
        })
    }

    /// Gives `key` a place.
    pub fn admit(&mut self, key: DomainKey, now: UnixNanos) {
        let source = self.sources.entry(key.source).or_default();
        source.domains.push(key);
        let presence = Presence {
            source_weight: Arc::clone(&source.weight),
            ..Presence::default()
        };
        presence.seen(now);
        let entry = Entry {
            presence: Arc::new(presence),
            sequence: Arc::new(
                Sequence::new(key.flow_type).counting(Arc::clone(&self.sources_followed)),
            ),
            ..Entry::default()
        };
        self.domains.insert(key, entry);
    }

    /// True when there is a place for another domain of `source`.
    #[must_use]
    pub fn has_place(&self, source: &IpAddr, exporters_max: usize) -> bool {
        self.domains.len() < exporters_max && !self.is_share_taken(source, exporters_max)
    }

    fn is_share_taken(&self, source: &IpAddr, exporters_max: usize) -> bool {
        let source = self.sources.get(source);
        source.is_some_and(|source| source.domains.len() >= source_max(exporters_max))
    }

    /// Who should make room for a new domain of `source`: one of its own when it has its share.
    pub fn who_makes_place(
        &mut self,
        source: &IpAddr,
        exporters_max: usize,
        now: UnixNanos,
    ) -> Option<DomainKey> {
        let count = self.domains.len();
        if self.is_share_taken(source, exporters_max) {
            let Self {
                domains, sources, ..
            } = self;
            let source = sources.get_mut(source)?;
            if !source.search.begins(now, count) {
                return None;
            }
            let own = source.domains.iter();
            return least_deserving(own.filter_map(|key| domains.get_key_value(key)), now);
        }
        let begins = self.place_search.begins(now, count);
        begins.then(|| least_deserving(self.domains.iter(), now))?
    }

    /// Who should give its templates back for another one of `key`.
    pub fn who_frees_templates(&mut self, key: &DomainKey, now: UnixNanos) -> Option<DomainKey> {
        if !self.template_search.begins(now, self.domains.len()) {
            return None;
        }
        let others = self.domains.iter();
        let others = others.filter(|(k, entry)| *k != key && entry.learned.weight() > 0);
        least_deserving(others, now)
    }

    /// Takes the place of `key` away and returns what was known of it.
    pub fn evict(&mut self, key: &DomainKey, epoch: u64) -> Entry {
        let Some(entry) = self.domains.remove(key) else {
            return Entry::default();
        };
        entry.presence.is_evicted.store(true, Ordering::Relaxed);
        if key.session != 0 {
            // What comes next from this port is another session, with templates of its own.
            self.pending.end(*key);
        }
        // What is missing by now is lost.
        entry.sequence.finish();
        self.evicted_counts
            .add(key.flow_type, &entry.sequence.status());
        if self.gone.len() < GONE_MAX {
            self.gone.push((*key, Arc::clone(&entry.sequence)));
        }
        self.changed.remove(&entry.epoch);
        self.evicted_epoch = epoch;
        if let Some(source) = self.sources.get_mut(&key.source) {
            source.domains.retain(|own| own != key);
            if source.domains.is_empty() {
                self.sources.remove(&key.source);
            }
        }
        entry
    }
}

/// Of `domains`, the one whose place is worth least, if that may be taken: one that never produced
/// a flow, before all others one that taught nothing either; else one that has been silent for
/// [`SILENCE_NS`]. Among equals it is the one that has been silent longest. A TCP session goes
/// last: it sends its templates once.
fn least_deserving<'a>(
    domains: impl Iterator<Item = (&'a DomainKey, &'a Entry)>,
    now: UnixNanos,
) -> Option<DomainKey> {
    let rank = |key: &DomainKey, entry: &Entry| {
        let presence = &entry.presence;
        let has_flows = presence.has_flows.load(Ordering::Relaxed);
        let has_templates = entry.learned.templates() > 0;
        let last_seen_ns = presence.last_seen_ns.load(Ordering::Relaxed);
        let is_session = key.session != 0 && has_flows;
        (is_session, has_flows, has_templates, last_seen_ns)
    };
    let ranked = domains.map(|(key, entry)| (rank(key, entry), *key));
    let ((_, has_flows, _, last_seen_ns), key) = ranked.min_by_key(|(rank, _)| *rank)?;
    let may_be_taken = !has_flows || now.0.saturating_sub(last_seen_ns) >= SILENCE_NS;
    may_be_taken.then_some(key)
}
