//! What a worker holds of each exporter and observation domain.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;

use super::pending::Refused;
use super::record::Extras;
use super::registry::Paced;
use super::sampling::of_interface;
use super::sets::TemplateLimits;
use super::shared::{
    Change, DomainKey, ExporterStatus, Knowledge, Learned, Shared, StatusSlot, lock,
};
use super::template::Template;
use crate::flow::{Address, Direction, Flow, SamplingSource};
use crate::units::UnixNanos;

/// A sampling rate and where it came from.
pub type Rate = (u32, SamplingSource);

/// One exporter and domain.
#[derive(Debug)]
pub struct Domain {
    key: DomainKey,
    knowledge: Knowledge,
    /// What every flow of the domain begins as.
    base: Flow,
    /// `decode.sampling_rate_default`.
    rate_default: u32,
    /// Options told rates of single interfaces.
    is_by_interface: bool,
    /// The rate of the latest flow.
    latest_rate: Rate,
    /// `learned` before the changes of this datagram.
    before: Option<Arc<Learned>>,
    /// What this datagram taught, at most one for each four bytes of it.
    changes: Vec<Change>,
    /// Ids that got a template by them and had none before.
    new_ids: Vec<u16>,
    /// Templates forgotten for others.
    evictions: Paced,
    /// Sets for which there was no room.
    refused: Refused,
    datagrams: u64,
    flows: u64,
    last_seen: UnixNanos,
    /// The `last_seen` that the other workers know.
    told: UnixNanos,
}

/// Nanoseconds between two times that a domain's presence is told: workers write to the same line
/// of cache.
const TELL_EVERY_NS: u64 = 1_000_000_000;

impl Domain {
    fn new(key: DomainKey, knowledge: Knowledge, rate_default: u32) -> Self {
        let mut domain = Self {
            key,
            knowledge,
            base: Flow {
                exporter_source: key.source.into(),
                flow_type: key.flow_type,
                observation_domain: key.observation_domain,
                ..Flow::EMPTY
            },
            rate_default,
            is_by_interface: false,
            latest_rate: Rate::default(),
            before: None,
            changes: Vec::new(),
            new_ids: Vec::new(),
            evictions: Paced::default(),
            refused: Refused::default(),
            datagrams: 0,
            flows: 0,
            last_seen: UnixNanos::default(),
            told: UnixNanos::default(),
        };
        domain.refresh();
        domain
    }

    /// What every flow of the domain begins as.
    #[must_use]
    #[inline]
    pub const fn base(&self) -> &Flow {
        &self.base
    }

    /// All that the domain has told of itself.
    #[must_use]
    #[inline]
    pub fn learned(&self) -> &Learned {
        &self.knowledge.learned
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> DomainKey {
        self.key
    }

    /// When the datagram arrived that is being decoded.
    #[must_use]
    pub const fn received(&self) -> UnixNanos {
        self.last_seen
    }

    /// Finds room for another template among those of all exporters, of which `max` may be known.
    /// Returns whether there is any, and how many templates another one gave up for it.
    #[must_use]
    pub fn room_among_all(&self, max: usize, shared: &Shared) -> (bool, u64) {
        let (weight, published) = (self.learned().weight(), self.weight_published());
        let has_room = || shared.templates() + weight < max + published;
        let evicted = match has_room() {
            true => 0,
            false => shared.free_templates(&self.key, self.last_seen),
        };
        (has_room(), evicted as u64)
    }

    /// How many of all templates this domain's count for, as far as the others know.
    fn weight_published(&self) -> usize {
        let before = self.before.as_deref();
        before.unwrap_or_else(|| self.learned()).weight()
    }

    /// The template to forget before a new one can be taken in, if `limits` ask for one: `Ok(None)`
    /// when there is room, [`NoRoom`] when there is none and none can be made, or that was done too
    /// often in this second.
    pub fn who_gives_way(&mut self, limits: TemplateLimits) -> Result<Option<u16>, NoRoom> {
        let source_weight = self.knowledge.presence.source_weight();
        let of_source = source_weight.load(Ordering::Relaxed) + self.learned().weight();
        let has_own_room = self.learned().templates() < limits.per_domain;
        let source_has_room = of_source < limits.of_source() + self.weight_published();
        if has_own_room && source_has_room {
            return Ok(None);
        }
        let now_s = self.base.time_received_s;
        let least = match self.evictions.may_be(now_s) {
            true => self.learned().least_used(now_s),
            false => None,
        };
        // What its neighbours at the same address take does not cost a domain what it uses.
        let least = least.filter(|(_, in_use)| !has_own_room || !in_use);
        least.map(|(id, _)| Some(id)).ok_or(NoRoom)
    }

    /// A datagram arrived.
    #[inline]
    pub fn begin(&mut self, received: UnixNanos) {
        self.base.time_received_s = received.seconds();
        self.last_seen = received;
    }

    /// It is decoded: `flows` came out of it. What it taught goes to the other workers.
    #[inline]
    pub fn finish(&mut self, flows: u64, shared: &Shared) {
        if flows > 0 && self.flows == 0 {
            self.knowledge.presence.has_flows();
        }
        if self.last_seen.0.abs_diff(self.told.0) >= TELL_EVERY_NS {
            self.told = self.last_seen;
            self.knowledge.presence.seen(self.last_seen);
        }
        self.datagrams += 1;
        self.flows += flows;
        if !self.changes.is_empty() {
            self.publish(shared);
        }
    }

    /// The exporter's own address and the rate, where the datagram's header tells them.
    #[inline]
    pub fn observe(&mut self, exporter_addr: Option<Address>, rate: Option<Rate>) {
        if let Some(addr) = exporter_addr {
            self.base.exporter_addr = addr;
        }
        if let Some(rate) = rate {
            self.latest_rate = rate;
        }
    }

    /// True when the rate of a flow depends on its interface.
    #[must_use]
    #[inline]
    pub const fn is_by_interface(&self) -> bool {
        self.is_by_interface
    }

    /// The rate for `flow` with these `extras`: its own, that of the sampler that it names, of its
    /// interface, of the domain, of the exporter, the operator's default.
    #[must_use]
    #[inline]
    pub fn rate(&self, flow: &Flow, extras: &Extras) -> Rate {
        let own = extras.rate.rate();
        if own > 0 {
            return (own, SamplingSource::Record);
        }
        let Knowledge {
            learned, elsewhere, ..
        } = &self.knowledge;
        let of = |id| learned.sampling.of(id).or_else(|| elsewhere.of(id));
        let if_index = match flow.direction {
            Direction::Egress => flow.out_if,
            _ => flow.in_if,
        };
        let of_interface = || match self.is_by_interface {
            true => of(of_interface(if_index)),
            false => None,
        };
        match extras.sampler.and_then(of).or_else(of_interface) {
            Some(rate) => (rate, SamplingSource::Options),
            None => (self.base.sampling_rate, self.base.sampling_source),
        }
    }

    /// Takes note of the facts in an options record. `facts` is the flow that its fields filled.
    pub fn learn_options(&mut self, facts: &Flow, extras: &Extras) {
        let rate = extras.rate.rate();
        let interface = (facts.in_if != 0).then(|| of_interface(facts.in_if));
        let sampler = extras.sampler.or(interface);
        if rate > 0 && !self.learned().sampling.knows(sampler, rate) {
            self.change(Change::Rate(sampler, rate));
        }
        let addr = facts.exporter_addr;
        let unspecified = addr.to_ip().is_unspecified();
        if !unspecified && addr != self.learned().exporter_addr {
            self.change(Change::ExporterAddr(addr));
        }
        // Some exporters compute it anew each time and are a few milliseconds off.
        const BOOT_JITTER_MS: u64 = 1000;
        let boot_ms = extras.boot_ms;
        if boot_ms > 0 && boot_ms.abs_diff(self.learned().boot_ms) > BOOT_JITTER_MS {
            self.change(Change::Boot(boot_ms));
        }
    }

    /// Takes in a template.
    pub fn learn_template(&mut self, template: Template) {
        template.life.sent(self.base.time_received_s);
        if self.learned().template(template.id).is_none() {
            self.new_ids.push(template.id);
        }
        self.change(Change::Template(Arc::new(template)));
    }

    /// Ids that got a template by this datagram and had none before.
    #[must_use]
    #[inline]
    pub fn new_ids(&self) -> &[u16] {
        &self.new_ids
    }

    /// Tells the others what this datagram taught so far, and returns the new ids.
    #[cold]
    pub fn publish_templates(&mut self, shared: &Shared) -> Vec<u16> {
        self.publish(shared);
        std::mem::take(&mut self.new_ids)
    }

    /// Takes over what others have published meanwhile.
    #[cold]
    pub fn catch_up(&mut self, shared: &Shared) {
        if !self.changes.is_empty() {
            self.publish(shared);
        } else if let Some(knowledge) = shared.knowledge(&self.key) {
            self.knowledge = knowledge;
            self.refresh();
        }
    }

    /// Sets that are decoded from here on belong to a datagram of this time.
    pub const fn received_at(&mut self, received_s: u32) {
        self.base.time_received_s = received_s;
    }

    /// Sets that found no room to wait for their template.
    pub const fn refused(&mut self) -> &mut Refused {
        &mut self.refused
    }

    /// Makes a change here at once; the others hear of it when the datagram is done.
    pub fn change(&mut self, change: Change) {
        if self.before.is_none() {
            self.before = Some(Arc::clone(&self.knowledge.learned));
        }
        Arc::make_mut(&mut self.knowledge.learned).apply(&change);
        self.changes.push(change);
        self.refresh();
    }

    #[cold]
    fn publish(&mut self, shared: &Shared) {
        if let Some(before) = self.before.take() {
            self.knowledge = shared.publish(self.key, &before, &self.knowledge, &self.changes);
        }
        self.changes = Vec::new();
        self.refresh();
    }

    /// Sets what follows from the knowledge.
    fn refresh(&mut self) {
        let Knowledge {
            learned, elsewhere, ..
        } = &self.knowledge;
        let rate = learned.sampling.plain().or_else(|| elsewhere.plain());
        self.is_by_interface = learned.sampling.is_by_interface() || elsewhere.is_by_interface();
        let (rate, source) = match (rate, self.rate_default) {
            (Some(rate), _) => (rate, SamplingSource::Options),
            (None, 0) => Rate::default(),
            (None, rate) => (rate, SamplingSource::Default),
        };
        self.base.sampling_rate = rate;
        self.base.sampling_source = source;
        self.base.exporter_addr = if learned.exporter_addr.is_unknown() {
            self.base.exporter_source
        } else {
            learned.exporter_addr
        };
        self.latest_rate = (rate, source);
    }

    fn status(&self) -> ExporterStatus {
        ExporterStatus {
            source: self.key.source,
            exporter_addr: self.base.exporter_addr.to_ip(),
            flow_type: self.key.flow_type,
            observation_domain: self.key.observation_domain,
            last_seen: self.last_seen,
            datagrams: self.datagrams,
            flows: self.flows,
            templates: self.learned().templates() as u64,
            sampling_rate: self.latest_rate.0,
            sampling_source: self.latest_rate.1,
        }
    }
}

/// An exporter, or its address, has as many templates as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A worker's exporters and domains.
#[derive(Debug)]
pub struct Domains {
    /// By [`DomainKey::packed`].
    index: HashMap<(u128, u64), usize>,
    list: Vec<Domain>,
    exporters_max: usize,
    rate_default: u32,
    shared: Arc<Shared>,
    /// The changes of others up to here are taken over.
    epoch: u64,
    slot: StatusSlot,
}

impl Domains {
    /// None yet. `exporters_max` holds for all workers together.
    #[must_use]
    pub fn new(exporters_max: usize, rate_default: u32, shared: Arc<Shared>) -> Self {
        Self {
            index: HashMap::new(),
            list: Vec::new(),
            exporters_max,
            rate_default,
            epoch: 0,
            slot: shared.status_slot(),
            shared,
        }
    }

    /// The domain of `key`, made when it is new; `None` when there are too many others. A datagram
    /// of it arrived at `now`.
    #[inline]
    pub fn get(&mut self, key: DomainKey, now: UnixNanos) -> Option<&mut Domain> {
        let at = match self.index.get(&key.packed()) {
            Some(at) => *at,
            None => self.add(key, now)?,
        };
        self.list.get_mut(at)
    }

    /// What `key` has told of itself, if it has a place.
    #[must_use]
    pub fn learned(&self, key: &DomainKey) -> Option<&Learned> {
        let at = self.index.get(&key.packed())?;
        self.list.get(*at).map(Domain::learned)
    }

    #[cold]
    fn add(&mut self, key: DomainKey, now: UnixNanos) -> Option<usize> {
        let knowledge = self.shared.register(key, now, self.exporters_max)?;
        let at = self.list.len();
        self.list
            .push(Domain::new(key, knowledge, self.rate_default));
        self.index.insert(key.packed(), at);
        Some(at)
    }

    /// Takes over what other workers learned since the last time; one load when that is nothing.
    /// True when a domain is gone.
    #[inline]
    pub fn take_over(&mut self) -> bool {
        self.shared.epoch() != self.epoch && self.take_over_changes()
    }

    #[cold]
    fn take_over_changes(&mut self) -> bool {
        let Self {
            index,
            list,
            shared,
            epoch,
            ..
        } = self;
        let (mut rates, mut someone_left) = (None, false);
        let mut changed = Vec::new();
        *epoch = shared.changes_since(
            *epoch,
            |key, learned| changed.push((*key, Arc::clone(learned))),
            |rates_of| {
                let all = list.iter().map(|domain| rates_of(&domain.key.source));
                rates = Some(all.collect::<Vec<_>>());
            },
            || someone_left = true,
        );
        for (key, learned) in changed {
            if let Some(domain) = index.get(&key.packed()).and_then(|at| list.get_mut(*at)) {
                domain.knowledge.learned = learned;
                domain.refresh();
            }
        }
        for (domain, rates) in list.iter_mut().zip(rates.into_iter().flatten()) {
            if let Some(rates) = rates {
                domain.knowledge.elsewhere = rates;
                domain.refresh();
            }
        }
        someone_left && self.forget_evicted()
    }

    /// True when there was one.
    fn forget_evicted(&mut self) -> bool {
        let Self { index, list, .. } = self;
        let before = list.len();
        list.retain(|domain| !domain.knowledge.presence.is_evicted());
        let is_any = list.len() < before;
        if is_any {
            index.clear();
            index.extend(list.iter().enumerate().map(|(at, d)| (d.key.packed(), at)));
        }
        is_any
    }

    /// Shows the state to the status page; waits for nobody, and says whether it got through.
    pub fn publish_status(&self) -> bool {
        let Ok(mut slot) = self.slot.try_lock() else {
            return false;
        };
        slot.clear();
        slot.extend(self.list.iter().map(Domain::status));
        true
    }
}

impl Drop for Domains {
    fn drop(&mut self) {
        let statuses = self.list.iter().map(Domain::status).collect();
        *lock(&self.slot) = statuses;
    }
}
