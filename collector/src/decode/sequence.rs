//! Sequence numbers: what exporters have sent and nobody here received.
//!
//! In: the number of each message with what it counts, from whichever worker decoded it. Out:
//! [`SequenceCounts`], for tasks of the runtime. Owner: one [`Sequence`] a domain, shared by the
//! workers, because an exporter may use several source ports and datagrams may be lent. Nobody
//! waits: a worker that finds another one inside keeps its observation for the end of its turn.
//! Specs: RFC 3954 section 5.1, RFC 7011 section 3.1, sFlow v5; a lost number is a *gap*: lost
//! before us, or by this host's kernel, which counts its drops besides.

mod agent;
mod stream;
mod streams;
mod tracker;
mod unit;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::flow::FlowType;
use crate::units::UnixNanos;
use agent::AgentDrops;
use tracker::Tracker;

pub use agent::{AgentSample, SOURCES_BYTES};

/// What the numbers of a domain count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequenceUnit {
    /// Messages (RFC 3954 section 5.1, sFlow v5).
    #[default]
    Packets,
    /// Records before the message (NetFlow v5, RFC 7011 section 3.1).
    Records,
    /// Records up to the end of the message, as some exporters of NetFlow v9 do.
    RecordsThrough,
}

impl SequenceUnit {
    /// What an exporter of this protocol counts unless its numbers say otherwise.
    const fn of(flow_type: FlowType) -> Self {
        match flow_type {
            FlowType::Netflow5 | FlowType::Netflow7 | FlowType::Ipfix => Self::Records,
            _ => Self::Packets,
        }
    }

    /// The value of the columns `unit` and `sequence_unit`.
    #[must_use]
    pub const fn name(self, flow_type: FlowType) -> &'static str {
        match (self, flow_type) {
            (Self::Packets, _) => "packets",
            (_, FlowType::Ipfix) => "records",
            _ => "flows",
        }
    }
}

/// What a message tells.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// Its sequence number.
    pub sequence: u32,
    /// Its records as its exporter counts them, options included; `None` when they cannot be
    /// counted, as without a template.
    pub records: Option<u32>,
    /// Milliseconds since the exporter started, where the header tells.
    pub uptime_ms: Option<u32>,
    /// The UDP source port. Exporters behind one address translation, or in containers, have an
    /// address and often a domain in common, and only this is their own; but some exporters use
    /// several.
    pub source_port: u16,
    /// When it arrived.
    pub received: UnixNanos,
}

/// What was found of a domain. The first two count in the unit of the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceCounts {
    /// Numbers that arrived, each once.
    pub received: u64,
    /// Numbers that never did.
    pub lost: u64,
    /// Messages that arrived behind later ones.
    pub reordered: u64,
    /// Messages whose numbers had been there already.
    pub duplicated: u64,
    /// Times that the numbers began anew.
    pub restarts: u64,
    /// Samples that an sFlow agent says it dropped.
    pub agent_drops: u64,
}

impl SequenceCounts {
    /// What came since `before`.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received - before.received,
            lost: self.lost - before.lost,
            reordered: self.reordered - before.reordered,
            duplicated: self.duplicated - before.duplicated,
            restarts: self.restarts - before.restarts,
            agent_drops: self.agent_drops - before.agent_drops,
        }
    }

    /// Adds another domain's.
    pub const fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.restarts += other.restarts;
        self.agent_drops += other.agent_drops;
    }
}

/// A domain's numbers as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceStatus {
    /// What they count.
    pub unit: SequenceUnit,
    /// The number expected next; `None` before the first message.
    pub next: Option<u32>,
    /// What was found since the start.
    pub counts: SequenceCounts,
}

impl SequenceStatus {
    /// Adds another session of the same domain; the one that has begun tells the state.
    pub const fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        if other.next.is_some() {
            (self.unit, self.next) = (other.unit, other.next);
        }
    }
}

/// What was found of all domains since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceTotals {
    /// Numbers that never arrived, by what they count: [`SEQUENCE_UNITS`].
    pub lost: [u64; SEQUENCE_UNITS.len()],
    /// Messages that arrived behind later ones.
    pub reordered: u64,
    /// Messages whose numbers had been there already.
    pub duplicated: u64,
    /// Times that numbers began anew.
    pub restarts: u64,
    /// Samples that sFlow agents say they dropped.
    pub agent_drops: u64,
}

/// The names of what numbers count.
pub const SEQUENCE_UNITS: [&str; 3] = ["packets", "flows", "records"];

impl SequenceTotals {
    /// Adds a domain's.
    pub fn add(&mut self, flow_type: FlowType, status: &SequenceStatus) {
        let counts = &status.counts;
        let units = SEQUENCE_UNITS.iter().zip(&mut self.lost);
        for (_, lost) in units.filter(|(unit, _)| **unit == status.unit.name(flow_type)) {
            *lost += counts.lost;
        }
        self.reordered += counts.reordered;
        self.duplicated += counts.duplicated;
        self.restarts += counts.restarts;
        self.agent_drops += counts.agent_drops;
    }
}

/// What outlives a restart of the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceState {
    /// The number expected next.
    pub next: u32,
    /// What the numbers count.
    pub unit: SequenceUnit,
    /// The exporter's uptime at its last message, where it tells, in milliseconds.
    pub uptime_ms: Option<u32>,
    /// When its last message arrived.
    pub seen_ms: u64,
}

/// The numbers of one domain, shared by all workers. Each message enters the lock, and waits for
/// its line of cache: what a message that comes next looks at stands in the same and in the next
/// line, which processors fetch with it.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Sequence {
    /// An observation was dropped: what follows it is no gap.
    is_unsure: AtomicBool,
    tracker: Mutex<Tracker>,
    agent: Mutex<AgentDrops>,
}

impl Sequence {
    /// Nothing observed yet, of an exporter of this protocol.
    #[must_use]
    pub fn new(flow_type: FlowType) -> Self {
        Self {
            tracker: Mutex::new(Tracker::new(flow_type)),
            agent: Mutex::default(),
            is_unsure: AtomicBool::new(false),
        }
    }

    /// The same with the data sources of an sFlow agent in `places`, where all domains' count.
    #[must_use]
    pub fn counting(self, places: Arc<AtomicUsize>) -> Self {
        Self {
            agent: Mutex::new(AgentDrops::new(places)),
            ..self
        }
    }

    /// Takes note of a message, or keeps it in `held` when another thread is inside.
    #[inline]
    pub fn observe(self: &Arc<Self>, observation: &Observation, held: &mut Held) {
        if !self.try_observe(observation) {
            held.keep(self, observation);
        }
    }

    /// A message will be observed soon. The line of cache is asked for now: the lock, which waits
    /// for it, is taken only behind the records, and is fetched meanwhile. An atomic load is made
    /// although nobody looks at what it yields.
    #[inline]
    pub fn expect(&self) {
        let _ = self.is_unsure.load(Ordering::Relaxed);
    }

    #[inline]
    fn try_observe(&self, observation: &Observation) -> bool {
        let Ok(mut tracker) = self.tracker.try_lock() else {
            return false;
        };
        if self.is_unsure.load(Ordering::Relaxed) {
            self.is_unsure.store(false, Ordering::Relaxed);
            tracker.doubt();
        }
        tracker.observe(observation);
        true
    }

    /// Takes note of what an sFlow agent says that it dropped; false when another thread is inside
    /// or it is not taken, so that it has to be told again.
    #[cold]
    pub fn sampled(&self, sample: &AgentSample) -> bool {
        let agent = self.agent.try_lock();
        agent.is_ok_and(|mut agent| agent.observe(sample))
    }

    /// What was found since the last call, with what the numbers count. Numbers that have been
    /// missing for too long at `now` are lost from here on.
    #[must_use]
    pub fn drain(&self, now: UnixNanos) -> (SequenceUnit, SequenceCounts) {
        let (unit, mut counts) = self.lock().drain(now);
        counts.agent_drops = self.agent().drain();
        (unit, counts)
    }

    /// Nothing comes any more: what is missing is lost.
    pub fn finish(&self) {
        self.lock().finish();
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> SequenceStatus {
        let mut status = self.lock().status();
        status.counts.agent_drops = self.agent().total;
        status
    }

    /// What to keep over a restart; `None` while nothing is certain, or when several exporters
    /// have the domain in common.
    #[must_use]
    pub fn state(&self) -> Option<SequenceState> {
        self.lock().state()
    }

    /// Goes on where an earlier run of the collector stopped; without effect once a message was
    /// observed. With `is_exact` nothing was received after `state` was written, so what is missing
    /// behind it was lost; else it only tells what the numbers count.
    pub fn restore(&self, state: &SequenceState, is_exact: bool) {
        self.lock().restore(state, is_exact);
    }

    /// For whoever may wait. A worker that panics takes the process with it.
    fn lock(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agent(&self) -> MutexGuard<'_, AgentDrops> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Observations of one worker that met another thread at the same domain.
#[derive(Debug)]
pub struct Held(Vec<(Arc<Sequence>, Observation)>);

/// Observations that a worker keeps. Who else is inside stays there for a tenth of a microsecond,
/// or until it gets its processor back, which is some milliseconds where threads outnumber
/// processors; what comes beyond makes its domain unsure instead. (With 256, one run in four of two
/// workers and a sender on two processors got there.)
const HELD_MAX: usize = 2048;

/// Bytes that a worker has for them.
pub const HELD_BYTES: usize = HELD_MAX * size_of::<(Arc<Sequence>, Observation)>();

impl Default for Held {
    fn default() -> Self {
        Self(Vec::with_capacity(HELD_MAX))
    }
}

impl Held {
    #[cold]
    fn keep(&mut self, sequence: &Arc<Sequence>, observation: &Observation) {
        if self.0.len() < HELD_MAX {
            self.0.push((Arc::clone(sequence), *observation));
        } else {
            sequence.is_unsure.store(true, Ordering::Relaxed);
        }
    }

    /// Once a turn: hands in what is kept, as far as nobody is inside. Of a domain that became
    /// unsure it is too late.
    #[inline]
    pub fn hand_in(&mut self) {
        if !self.0.is_empty() {
            self.0.retain(|(sequence, kept)| {
                !sequence.is_unsure.load(Ordering::Relaxed) && !sequence.try_observe(kept)
            });
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (sequence, kept) in &self.0 {
            sequence.lock().observe(kept);
        }
    }
}

#[cfg(test)]
mod tests;
