//! What a worker holds of each exporter and observation domain.

mod agent;
mod room;

use std::sync::Arc;

use hashbrown::HashMap;

use super::ended::Ended;
use super::naming::Told;
use super::overrides::{Known, Overrides};
use super::pending::Refused;
use super::record::Extras;
use super::registry::Paced;
use super::sampling::of_interface;
use super::sequence::{Held, Observation, SequenceStatus};
use super::sflow::Run;
use super::shared::{
    Change, DomainKey, ExporterStatus, Knowledge, Learned, Shared, StatusSlot, lock,
};
use super::template::Template;
use crate::flow::{Address, Direction, Flow, SamplingSource};
use crate::ledger::WorkerCounts;
use crate::names::Fact;
use crate::receive::Session;
use crate::units::UnixNanos;

pub use room::NoRoom;

/// A sampling rate and where it came from.
pub type Rate = (u32, SamplingSource);

/// One exporter and domain.
#[derive(Debug)]
pub struct Domain {
    key: DomainKey,
    knowledge: Knowledge,
    /// What every flow of the domain begins as.
    base: Flow,
    /// What the operator knows of the exporter.
    known: Known,
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
    /// Of its sFlow agent.
    run: Run,
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
    fn new(key: DomainKey, knowledge: Knowledge, known: Known, rate_default: u32) -> Self {
        let mut domain = Self {
            key,
            knowledge,
            base: Flow {
                exporter_source: key.source.into(),
                flow_type: key.flow_type,
                observation_domain: key.observation_domain,
                ..Flow::EMPTY
            },
            known,
            rate_default,
            is_by_interface: false,
            latest_rate: Rate::default(),
            before: None,
            changes: Vec::new(),
            new_ids: Vec::new(),
            evictions: Paced::default(),
            refused: Refused::default(),
            run: Run::default(),
            datagrams: 0,
            flows: 0,
            last_seen: UnixNanos::default(),
            told: UnixNanos::default(),
        };
        domain.refresh();
        domain
    }

    /// Which domain it is.
    #[must_use]
    pub const fn key(&self) -> DomainKey {
        self.key
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

    /// A datagram of `observation_domain` arrived.
    #[inline]
    pub fn begin(&mut self, received: UnixNanos, observation_domain: u32) {
        self.base.time_received_s = received.seconds();
        // Where templates hold in all domains of the exporter, it is not always the same.
        self.base.observation_domain = observation_domain;
        self.last_seen = received;
        self.knowledge.sequence.expect();
    }

    /// When all flows of the datagram end, milliseconds since the epoch; 0 is for the records to
    /// say.
    #[must_use]
    #[inline]
    pub fn flows_end_ms(&self) -> u64 {
        match self.known.at_receipt {
            true => self.last_seen.millis(),
            false => 0,
        }
    }

    /// The rate that a datagram's header tells, unless the operator overrules it.
    #[must_use]
    #[inline]
    pub fn of_header(&self, rate: Option<Rate>) -> Option<Rate> {
        rate.filter(|_| !self.known.is_forced)
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

    /// When its last datagram arrived.
    #[must_use]
    #[inline]
    pub const fn last_seen(&self) -> UnixNanos {
        self.last_seen
    }

    /// Hands in the sequence number of a message. Where all domains of an exporter are one, each
    /// still has numbers of its own, and nothing can be told from them.
    #[inline]
    pub fn follow(&self, observation: &Observation, held: &mut Held) {
        if !self.known.is_one_scope {
            self.knowledge.sequence.observe(observation, held);
        }
    }

    /// True when the rate of a flow depends on its interface.
    #[must_use]
    #[inline]
    pub const fn is_by_interface(&self) -> bool {
        self.is_by_interface
    }

    /// The rate for `flow` with these `extras`: its own, that of the sampler that it names, of its
    /// interface, of the domain, of the exporter, the operator's for the exporter, his default.
    #[must_use]
    #[inline]
    pub fn rate(&self, flow: &Flow, extras: &Extras) -> Rate {
        let own = extras.rate.rate();
        if self.known.is_forced {
            return (self.base.sampling_rate, self.base.sampling_source);
        }
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

    /// Leaves a name in the book, if the record `told` one.
    pub fn tell_name(&self, told: Option<Told>, shared: &Shared, counts: &mut WorkerCounts) {
        let Some(told) = told else { return };
        let is_taken = shared.names.offer(Fact {
            exporter: self.base.exporter_addr,
            observation_domain: self.base.observation_domain,
            seen_s: self.base.time_received_s,
            subject: told.subject,
            name: told.name,
            description: told.description,
        });
        counts.names_told += 1;
        counts.names_dropped += u64::from(!is_taken);
    }

    /// Takes in a template.
    pub fn learn_template(&mut self, template: Template) {
        template.life.sent(self.base.time_received_s);
        if self.learned().template(template.id).is_none() {
            self.new_ids.push(template.id);
        }
        self.change(Change::Template(Arc::new(template)));
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
        let (rate, source) = match (rate, self.known.rate, self.rate_default) {
            (_, rate, _) if self.known.is_forced => (rate, SamplingSource::Static),
            (Some(rate), ..) => (rate, SamplingSource::Options),
            (None, 0, 0) => Rate::default(),
            (None, 0, rate) => (rate, SamplingSource::Default),
            (None, rate, _) => (rate, SamplingSource::Static),
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
            sequence: SequenceStatus::default(),
        }
    }
}

/// A worker's exporters and domains.
#[derive(Debug)]
pub struct Domains {
    /// By [`DomainKey::packed`].
    index: HashMap<(u128, u64), usize>,
    list: Vec<Domain>,
    exporters_max: usize,
    rate_default: u32,
    overrides: Overrides,
    shared: Arc<Shared>,
    /// The changes of others up to here are taken over.
    epoch: u64,
    slot: StatusSlot,
    /// By TCP.
    ended: Ended,
}

impl Domains {
    /// None yet. `exporters_max` holds for all workers together.
    #[must_use]
    pub fn new(
        exporters_max: usize,
        rate_default: u32,
        overrides: Overrides,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            index: HashMap::new(),
            list: Vec::new(),
            exporters_max,
            rate_default,
            overrides,
            epoch: 0,
            slot: shared.status_slot(),
            ended: Ended::default(),
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
        let known = self.overrides.of(key.source);
        self.list
            .push(Domain::new(key, knowledge, known, self.rate_default));
        self.index.insert(key.packed(), at);
        Some(at)
    }

    /// Gives the places back that the domains of `session` have.
    pub fn end_session(&mut self, session: &Session) {
        let Session {
            source,
            source_port,
        } = *session;
        let is_its = |key: &DomainKey| (key.source, key.session) == (source, source_port);
        let ending = self.list.iter().filter(|domain| is_its(&domain.key));
        self.shared.end(ending.clone().map(|domain| domain.key));
        for domain in ending {
            self.ended.add(domain.status());
        }
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
        slot.extend_from_slice(self.ended.statuses());
        true
    }
}

impl Drop for Domains {
    fn drop(&mut self) {
        let statuses = self.list.iter().map(Domain::status);
        *lock(&self.slot) = statuses
            .chain(self.ended.statuses().iter().copied())
            .collect();
    }
}
