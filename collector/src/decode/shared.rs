//! What workers learn from exporters and tell each other.
//!
//! The kernel spreads an exporter's datagrams over the workers, and a template comes in one of
//! them. Whoever learns something publishes it here: the domain's [`Learned`] is copied, changed
//! and replaced, and the epoch moves on. A worker reads with its own copy and looks at the epoch
//! once a turn, so datagrams are decoded without a lock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::registry::{Presence, Registry};
use super::sampling::Sampling;
use super::sequence::{Sequence, SequenceStatus, SequenceTotals};
use super::template::{Kind, Template};
use crate::flow::{Address, FlowType, SamplingSource};
use crate::units::UnixNanos;

/// Template ids are local to these (RFC 7011 section 3.4.1). The UDP source port is left out: some
/// exporters use several for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainKey {
    /// UDP source address.
    pub source: IpAddr,
    /// Export protocol.
    pub flow_type: FlowType,
    /// Source id, domain id, sub-agent or engine.
    pub observation_domain: u32,
}

impl DomainKey {
    /// The same as integers, for a table that is asked once a datagram: they are made in registers,
    /// where the key itself would be read back in other pieces than it was just written in.
    #[inline]
    pub fn packed(&self) -> (u128, u64) {
        let source = match self.source {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) | 0xffff << 32,
            IpAddr::V6(v6) => u128::from(v6),
        };
        let flow_type = self.flow_type as u8;
        let domain = u64::from(self.observation_domain) << 8 | u64::from(flow_type);
        (source, domain)
    }
}

/// All that one domain has told of itself.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    templates: HashMap<u16, Arc<Template>>,
    /// Rates from its options.
    pub sampling: Sampling,
    /// IE 130 or 131 of its options.
    pub exporter_addr: Address,
    /// IE 160 of its options, milliseconds since the epoch; 0 is unknown.
    pub boot_ms: u64,
}

/// One thing learned.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new template, or a new meaning of an old id.
    Template(Arc<Template>),
    /// One template is gone.
    Withdraw(u16),
    /// All templates of a kind are gone.
    WithdrawAll(Kind),
    /// A sampling rate, of a sampler or of none.
    Rate(Option<u64>, u32),
    /// The exporter's own address.
    ExporterAddr(Address),
    /// When the exporter was started.
    Boot(u64),
}

impl Learned {
    /// The template `id`.
    #[must_use]
    #[inline]
    pub fn template(&self, id: u16) -> Option<&Arc<Template>> {
        self.templates.get(&id)
    }

    /// Number of templates.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.templates.len()
    }

    /// Number of templates of one kind.
    #[must_use]
    pub fn templates_of(&self, kind: Kind) -> usize {
        self.templates.values().filter(|t| t.kind == kind).count()
    }

    /// Takes `change` in.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Template(template) => {
                self.templates.insert(template.id, Arc::clone(template));
            }
            Change::Withdraw(id) => {
                self.templates.remove(id);
            }
            Change::WithdrawAll(kind) => self.templates.retain(|_, t| t.kind != *kind),
            Change::Rate(sampler, rate) => self.sampling.set(*sampler, *rate),
            Change::ExporterAddr(addr) => self.exporter_addr = *addr,
            Change::Boot(boot_ms) => self.boot_ms = *boot_ms,
        }
    }
}

/// What a worker holds of a domain: two snapshots that nobody changes any more, and its place.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// Of the domain itself.
    pub learned: Arc<Learned>,
    /// Rates that any domain of the exporter has told: some send options under another source id
    /// than the flows.
    pub elsewhere: Arc<Sampling>,
    /// Where the worker tells that the domain is alive, and hears that it was evicted.
    pub presence: Arc<Presence>,
    /// Its sequence numbers, which all workers follow together.
    pub sequence: Arc<Sequence>,
}

/// One exporter and domain, for the status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExporterStatus {
    /// UDP source address.
    pub source: IpAddr,
    /// The exporter's own address.
    pub exporter_addr: IpAddr,
    /// Export protocol.
    pub flow_type: FlowType,
    /// Source id, domain id, sub-agent or engine.
    pub observation_domain: u32,
    /// When its last datagram arrived.
    pub last_seen: UnixNanos,
    /// Datagrams decoded.
    pub datagrams: u64,
    /// Flows decoded.
    pub flows: u64,
    /// Templates known.
    pub templates: u64,
    /// The rate of its latest flows; 0 is unknown.
    pub sampling_rate: u32,
    /// Where that rate came from.
    pub sampling_source: SamplingSource,
    /// Its sequence numbers.
    pub sequence: SequenceStatus,
}

/// One worker's part of the status page.
pub type StatusSlot = Arc<Mutex<Vec<ExporterStatus>>>;

/// Shared by all workers of a collector.
#[derive(Debug, Default)]
pub struct Shared {
    epoch: AtomicU64,
    templates: AtomicUsize,
    registry: Mutex<Registry>,
    statuses: Mutex<Vec<StatusSlot>>,
}

impl Shared {
    /// Moves on whenever something is learned.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Templates of all domains.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.templates.load(Ordering::Relaxed)
    }

    /// What is known of `key`, which has a place as an exporter from now on; `None` when there are
    /// `exporters_max` others, or too many of its source, and none of them may be evicted.
    pub fn register(
        &self,
        key: DomainKey,
        now: UnixNanos,
        exporters_max: usize,
    ) -> Option<Knowledge> {
        let mut registry = lock(&self.registry);
        if let Some(knowledge) = registry.knowledge(&key) {
            return Some(knowledge);
        }
        if !registry.has_place(&key.source, exporters_max) {
            let other = registry.who_makes_place(&key.source, exporters_max, now)?;
            self.evict(&mut registry, &other);
        }
        if !registry.has_place(&key.source, exporters_max) {
            return None;
        }
        registry.admit(key, now);
        registry.knowledge(&key)
    }

    /// Evicts an exporter, if one may be, so that `key` can have more templates.
    pub fn free_templates(&self, key: &DomainKey, now: UnixNanos) {
        let mut registry = lock(&self.registry);
        if let Some(other) = registry.who_frees_templates(key, now) {
            self.evict(&mut registry, &other);
        }
    }

    fn evict(&self, registry: &mut Registry, key: &DomainKey) {
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        let templates = self.templates() - registry.evict(key, epoch);
        self.templates.store(templates, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Tells the other workers. `mine` is the domain with `changes` made to `before`; what comes
    /// back has also what others changed meanwhile. Of an evicted domain nobody is told: it begins
    /// anew with its next datagram after the turn.
    pub fn publish(
        &self,
        key: DomainKey,
        before: &Arc<Learned>,
        mine: &Knowledge,
        changes: &[Change],
    ) -> Knowledge {
        let mut registry = lock(&self.registry);
        let Registry {
            domains,
            changed,
            sources,
            sources_epoch,
            ..
        } = &mut *registry;
        let entry = domains.get_mut(&key);
        let Some(entry) = entry.filter(|entry| Arc::ptr_eq(&entry.presence, &mine.presence)) else {
            return mine.clone();
        };
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        let templates_before = entry.learned.templates();
        if Arc::ptr_eq(&entry.learned, before) {
            entry.learned = Arc::clone(&mine.learned);
        } else {
            let learned = Arc::make_mut(&mut entry.learned);
            changes.iter().for_each(|change| learned.apply(change));
        }
        let all = self.templates() + entry.learned.templates() - templates_before;
        self.templates.store(all, Ordering::Relaxed);
        changed.remove(&entry.epoch);
        changed.insert(epoch, key);
        entry.epoch = epoch;
        for change in changes {
            if let Change::Rate(sampler, rate) = change {
                let source = sources.entry(key.source).or_default();
                let sampling = source.sampling.get_or_insert_default();
                if !sampling.knows(*sampler, *rate) {
                    Arc::make_mut(sampling).set(*sampler, *rate);
                    *sources_epoch = epoch;
                }
            }
        }
        self.epoch.store(epoch, Ordering::Release);
        registry.knowledge(&key).unwrap_or_else(|| mine.clone())
    }

    /// Hands every change since `epoch` to the worker and returns the epoch it then knows.
    /// `on_domain` gets the changed domains; `on_source`, when rates changed, the rates of any
    /// exporter that it asks for; `on_evictions` is called when a domain was evicted.
    pub fn changes_since(
        &self,
        epoch: u64,
        mut on_domain: impl FnMut(&DomainKey, &Arc<Learned>),
        on_sources: impl FnOnce(&dyn Fn(&IpAddr) -> Option<Arc<Sampling>>),
        on_evictions: impl FnOnce(),
    ) -> u64 {
        let registry = lock(&self.registry);
        for key in registry.changed.range(epoch + 1..).map(|(_, key)| key) {
            if let Some(entry) = registry.domains.get(key) {
                on_domain(key, &entry.learned);
            }
        }
        if registry.sources_epoch > epoch {
            on_sources(&|source| registry.sources.get(source)?.sampling.clone());
        }
        if registry.evicted_epoch > epoch {
            on_evictions();
        }
        self.epoch.load(Ordering::Relaxed)
    }

    /// A place for one more worker's part of the status.
    #[must_use]
    pub fn status_slot(&self) -> StatusSlot {
        let slot = StatusSlot::default();
        lock(&self.statuses).push(Arc::clone(&slot));
        slot
    }

    /// Every exporter and domain seen, all workers together, by address.
    #[must_use]
    pub fn exporters(&self) -> Vec<ExporterStatus> {
        let mut merged = BTreeMap::<DomainKey, ExporterStatus>::new();
        for slot in lock(&self.statuses).iter() {
            for status in lock(slot).iter() {
                merged
                    .entry(status.key())
                    .and_modify(|all| all.add(status))
                    .or_insert(*status);
            }
        }
        // The lock is let go before those of the numbers are taken: workers may wait for it.
        for (key, sequence) in self.sequences() {
            if let Some(status) = merged.get_mut(&key) {
                status.sequence = sequence.status();
            }
        }
        merged.into_values().collect()
    }

    /// The sequence numbers of every domain that has a place.
    #[must_use]
    pub fn sequences(&self) -> Vec<(DomainKey, Arc<Sequence>)> {
        let registry = lock(&self.registry);
        let entries = registry.domains.iter();
        entries
            .map(|(key, entry)| (*key, Arc::clone(&entry.sequence)))
            .collect()
    }

    /// What the sequence numbers of all domains told since the start.
    #[must_use]
    pub fn sequence_totals(&self) -> SequenceTotals {
        let (mut totals, sequences) = {
            let registry = lock(&self.registry);
            let all = registry.domains.iter();
            let sequences: Vec<_> = all
                .map(|(key, entry)| (key.flow_type, Arc::clone(&entry.sequence)))
                .collect();
            (registry.evicted_counts, sequences)
        };
        for (flow_type, sequence) in sequences {
            totals.add(flow_type, &sequence.status());
        }
        totals
    }
}

impl ExporterStatus {
    /// Which one it is.
    #[must_use]
    pub fn key(&self) -> DomainKey {
        DomainKey {
            source: self.source,
            flow_type: self.flow_type,
            observation_domain: self.observation_domain,
        }
    }

    /// Adds what another worker saw of the same domain; the later one tells the state.
    fn add(&mut self, other: &Self) {
        let (datagrams, flows) = (self.datagrams + other.datagrams, self.flows + other.flows);
        if other.last_seen > self.last_seen {
            *self = *other;
        }
        (self.datagrams, self.flows) = (datagrams, flows);
    }
}

/// A worker that panics takes the process with it, so what a lock guards is whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
