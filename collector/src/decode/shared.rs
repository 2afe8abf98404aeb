//! What workers learn from exporters and tell each other.
//!
//! The kernel spreads an exporter's datagrams over the workers, and a template comes in one of
//! them. Whoever learns something publishes it here: the domain's [`Learned`] is copied, changed
//! and replaced, and the epoch moves on. A worker reads with its own copy and looks at the epoch
//! once a turn, so datagrams are decoded without a lock.

mod life;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::nsel::Updated;
use super::registry::{Presence, Registry};
use super::sampling::Sampling;
use super::sequence::{Sequence, SequenceStatus, SequenceTotals};
use super::sflow;
use super::template::{Kind, Template};
use super::undecodable::Undecodable;
use crate::flow::{Address, FlowType, SamplingSource};
use crate::names::NameBook;
use crate::units::UnixNanos;

pub use life::{AGE_EVERY_NS, Aged, Holding, Known};

/// Template ids are local to these (RFC 7011 section 3.4.1). The UDP source port is left out: some
/// exporters use several for one session. By TCP it names the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainKey {
    /// UDP source address.
    pub source: IpAddr,
    /// Export protocol.
    pub flow_type: FlowType,
    /// Source id, domain id, sub-agent or engine.
    pub observation_domain: u32,
    /// TCP source port, with whose connection the state ends; 0 by UDP.
    pub session: u16,
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
        (source, u64::from(self.session) << 40 | domain)
    }
}

/// All that one domain has told of itself.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    templates: HashMap<u16, Arc<Template>>,
    /// Sum of [`Template::weight`].
    weight: usize,
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

    /// True when it told nothing that is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_rate = self.sampling.rates().next().is_some();
        self.templates.is_empty()
            && !has_rate
            && self.exporter_addr.is_unknown()
            && self.boot_ms == 0
    }

    /// Number of templates.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.templates.len()
    }

    /// How many of `decode.templates_max` they count for.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// All templates, in no order.
    pub fn each_template(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.templates.values()
    }

    /// Number of templates of one kind.
    #[must_use]
    pub fn templates_of(&self, kind: Kind) -> usize {
        self.templates.values().filter(|t| t.kind == kind).count()
    }

    /// The template that is missed least, and whether it is in use all the same: of those that no
    /// records were read with for [`IN_USE_S`], else of all, the one that was of use longest ago.
    /// So whoever invents templates in an exporter's name takes the place of his own first.
    #[must_use]
    pub fn least_used(&self, now_s: u32) -> Option<(u16, bool)> {
        let rank = |template: &Template| {
            let life = &template.life;
            let in_use = now_s.saturating_sub(life.used_s()) < IN_USE_S;
            (in_use, life.last_s(), template.id)
        };
        let ranks = self.templates.values().map(|template| rank(template));
        ranks.min().map(|(in_use, _, id)| (id, in_use))
    }

    /// Takes `change` in.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Template(template) => {
                self.weight += template.weight();
                let before = self.templates.insert(template.id, Arc::clone(template));
                self.weight -= before.map_or(0, |before| before.weight());
            }
            Change::Withdraw(id) => {
                let before = self.templates.remove(id);
                self.weight -= before.map_or(0, |before| before.weight());
            }
            Change::WithdrawAll(kind) => {
                self.templates.retain(|_, t| t.kind != *kind);
                self.weight = self.templates.values().map(|t| t.weight()).sum();
            }
            Change::Rate(sampler, rate) => self.sampling.set(*sampler, *rate),
            Change::ExporterAddr(addr) => self.exporter_addr = *addr,
            Change::Boot(boot_ms) => self.boot_ms = *boot_ms,
        }
    }
}

/// Records are read with a template that is in use at least so often, seconds.
const IN_USE_S: u32 = 10 * 60;

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
    /// Sum of [`Template::weight`].
    templates: AtomicUsize,
    /// Sets that wait for their template.
    pending: AtomicUsize,
    /// Decoders that have not ended yet.
    decoders: AtomicUsize,
    registry: Mutex<Registry>,
    statuses: Mutex<Vec<StatusSlot>>,
    /// Firewall connections whose volume updates tell.
    pub updated: Updated,
    /// What exporters call their interfaces, VRFs and applications.
    pub names: Arc<NameBook>,
    /// The last datagrams that nothing could be made of.
    pub undecodable: Undecodable,
    sflow: sflow::Beside,
}

impl Shared {
    /// What sFlow told beside flows, waiting to be stored.
    #[must_use]
    #[inline]
    pub const fn sflow(&self) -> &sflow::Beside {
        &self.sflow
    }

    /// Moves on whenever something is learned.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many of `decode.templates_max` the templates of all domains count for.
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

    /// Evicts an exporter, if one may be, so that `key` can have more templates. Returns how many
    /// that one had.
    pub fn free_templates(&self, key: &DomainKey, now: UnixNanos) -> usize {
        let mut registry = lock(&self.registry);
        match registry.who_frees_templates(key, now) {
            Some(other) => self.evict(&mut registry, &other),
            None => 0,
        }
    }

    /// Takes the places of `keys` away: their session has ended.
    pub fn end(&self, keys: impl Iterator<Item = DomainKey>) {
        let mut registry = lock(&self.registry);
        for key in keys {
            registry.pending.end(key);
            self.evict(&mut registry, &key);
        }
        let left = registry.pending.count();
        self.pending.store(left, Ordering::Relaxed);
    }

    fn evict(&self, registry: &mut Registry, key: &DomainKey) -> usize {
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        let gone = registry.evict(key, epoch);
        self.weigh(&gone.presence, gone.learned.weight(), 0);
        self.epoch.store(epoch, Ordering::Release);
        gone.learned.templates()
    }

    /// The templates of a domain count for so many now. Whoever calls has the lock.
    fn weigh(&self, presence: &Presence, before: usize, after: usize) {
        for sum in [&self.templates, presence.source_weight()] {
            let all = sum.load(Ordering::Relaxed) + after - before;
            sum.store(all, Ordering::Relaxed);
        }
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
        let weight_before = entry.learned.weight();
        if Arc::ptr_eq(&entry.learned, before) {
            entry.learned = Arc::clone(&mine.learned);
        } else {
            let learned = Arc::make_mut(&mut entry.learned);
            changes.iter().for_each(|change| learned.apply(change));
        }
        self.weigh(&entry.presence, weight_before, entry.learned.weight());
        entry.moves_on(key, epoch, changed);
        for change in changes {
            if let Change::Rate(sampler, rate) = change
                && sources
                    .entry(key.source)
                    .or_default()
                    .learn(*sampler, *rate)
            {
                *sources_epoch = epoch;
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
            // The sessions of an exporter are shown together.
            if let Some(status) = merged.get_mut(&DomainKey { session: 0, ..key }) {
                status.sequence.add(&sequence.status());
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

    /// The sequence numbers of domains that gave up their place since the last call, sessions that
    /// ended among them; what was found of them since they were drained is still to be told.
    #[must_use]
    pub fn take_gone(&self) -> Vec<(DomainKey, Arc<Sequence>)> {
        std::mem::take(&mut lock(&self.registry).gone)
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
            // The status page shows the sessions of an exporter together.
            session: 0,
        }
    }

    /// Adds what another worker saw of the same domain; the later one tells the state.
    pub(super) fn add(&mut self, other: &Self) {
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
