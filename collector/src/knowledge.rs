//! What is known of exporters, told to ClickHouse beside their flows.
//!
//! In: [`Shared`], looked at every [`LOOK_EVERY`]. Out: rows of `exporter_gaps`, what sequence
//! numbers said in the last ten seconds, of `exporters`, the state of those that were heard of in
//! the last minute, and what sFlow told beside flows, as it comes. Owner: one task of the runtime
//! beside the workers.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use crate::decode::sequence::SequenceCounts;
use crate::decode::sflow::Beside;
use crate::decode::{DomainKey, ExporterStatus, Shared};
use crate::flow::{Address, FlowType, SamplingSource};
use crate::store::{SideRow, SideRows, SideTable};
use crate::units::UnixNanos;

/// How often the clock is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sequence numbers are told so often, as their sum since the last time; ClickHouse adds the rows
/// of a minute up. A minute is a multiple, so what belongs to two of them is apart.
const GAPS_EVERY_S: u32 = 10;
/// The state of exporters is told so often.
const STATE_EVERY_S: u32 = 60;
/// The unit of what sFlow agents dropped; the column `agent_drops` reads these rows.
const SAMPLES: &str = "samples";

/// A row of `exporter_gaps`.
#[derive(Debug, Serialize)]
struct GapsRow {
    minute: u32,
    exporter_addr: Ipv6Addr,
    exporter_source: Ipv6Addr,
    flow_type: FlowType,
    observation_domain: u32,
    unit: &'static str,
    received: u64,
    lost: u64,
    reordered: u64,
    duplicated: u64,
    restarts: u64,
}

impl SideRow for GapsRow {
    const TABLE: SideTable = SideTable::ExporterGaps;
}

/// A row of `exporters`.
#[derive(Debug, Serialize)]
struct ExporterRow {
    exporter_addr: Ipv6Addr,
    exporter_source: Ipv6Addr,
    flow_type: FlowType,
    observation_domain: u32,
    last_seen: u32,
    counted_since: u32,
    datagrams: u64,
    flows: u64,
    templates: u64,
    sampling_rate: u32,
    sampling_source: SamplingSource,
    sequence_unit: &'static str,
    sequence_next: u32,
    lost: u64,
    reordered: u64,
    duplicated: u64,
    restarts: u64,
}

impl SideRow for ExporterRow {
    const TABLE: SideTable = SideTable::Exporters;
}

/// Tells until `stop` is sent or dropped, then what is left. The workers have ended before.
pub async fn tell(shared: Arc<Shared>, rows: SideRows, mut stop: oneshot::Receiver<()>) {
    let mut teller = Teller::new(shared, rows, UnixNanos::now());
    let mut every = looks();
    loop {
        tokio::select! {
            _ = every.tick() => teller.look(UnixNanos::now()),
            _ = &mut stop => break,
        }
    }
    teller.finish(UnixNanos::now());
}

/// Ticks when the clock is to be looked at.
pub(crate) fn looks() -> Interval {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// What was told when.
#[derive(Debug)]
struct Teller {
    shared: Arc<Shared>,
    rows: SideRows,
    /// Since when exporters' figures count, in seconds since the epoch.
    counted_since: u32,
    /// When it looked last.
    looked: UnixNanos,
    /// The `last_seen` of exporters and what was found of their numbers, as they were told.
    told: HashMap<DomainKey, (UnixNanos, SequenceCounts)>,
}

/// Under what the status of a domain stands.
const fn of_all_sessions(key: &DomainKey) -> DomainKey {
    DomainKey { session: 0, ..*key }
}

impl Teller {
    fn new(shared: Arc<Shared>, rows: SideRows, now: UnixNanos) -> Self {
        Self {
            shared,
            rows,
            counted_since: now.seconds(),
            looked: now,
            told: HashMap::new(),
        }
    }

    fn look(&mut self, now: UnixNanos) {
        self.beside_flows();
        let before = std::mem::replace(&mut self.looked, now);
        let is_due = |every_s| before.seconds() / every_s != now.seconds() / every_s;
        let (is_gaps_due, is_state_due) = (is_due(GAPS_EVERY_S), is_due(STATE_EVERY_S));
        if is_gaps_due || is_state_due {
            let statuses = self.shared.exporters();
            // What has come by now came before the clock struck, but for a second.
            self.gaps(&statuses, before, now);
            self.state(&statuses, is_state_due);
        }
    }

    /// Nothing comes any more.
    fn finish(&mut self, now: UnixNanos) {
        self.beside_flows();
        for (_, sequence) in self.shared.sequences() {
            sequence.finish();
        }
        let statuses = self.shared.exporters();
        self.gaps(&statuses, self.looked, now);
        self.state(&statuses, true);
    }

    /// Hands on what sFlow told beside flows.
    fn beside_flows(&self) {
        let Beside { counters, discards } = self.shared.sflow();
        counters.drain(|row| self.rows.push(&row));
        discards.drain(|row| self.rows.push(&row));
    }

    /// Tells what sequence numbers said since the last time, as of the minute of `then`.
    fn gaps(&self, statuses: &[ExporterStatus], then: UnixNanos, now: UnixNanos) {
        let own = statuses.iter().map(|s| (s.key(), s.exporter_addr));
        let own: HashMap<DomainKey, IpAddr> = own.collect();
        let gone = self.shared.take_gone();
        for (key, sequence) in gone.into_iter().chain(self.shared.sequences()) {
            let (unit, mut counts) = sequence.drain(now);
            let dropped = std::mem::take(&mut counts.agent_drops);
            let row = |unit, counts: SequenceCounts| GapsRow {
                minute: then.minute_s(),
                exporter_addr: column(*own.get(&of_all_sessions(&key)).unwrap_or(&key.source)),
                exporter_source: column(key.source),
                flow_type: key.flow_type,
                observation_domain: key.observation_domain,
                unit,
                received: counts.received,
                lost: counts.lost,
                reordered: counts.reordered,
                duplicated: counts.duplicated,
                restarts: counts.restarts,
            };
            if counts != SequenceCounts::default() {
                self.rows.push(&row(unit.name(key.flow_type), counts));
            }
            if dropped > 0 {
                let counts = SequenceCounts {
                    lost: dropped,
                    ..SequenceCounts::default()
                };
                self.rows.push(&row(SAMPLES, counts));
            }
        }
    }

    /// Tells the state of the exporters that are new, or of all that were heard of since it was
    /// told.
    fn state(&mut self, statuses: &[ExporterStatus], of_all: bool) {
        let before = std::mem::take(&mut self.told);
        for status in statuses {
            // What is missing is known to be lost only after the last message.
            let (key, now) = (status.key(), (status.last_seen, status.sequence.counts));
            let told = before.get(&key).copied();
            let is_due = told.is_none_or(|told| of_all && told != now);
            if is_due {
                self.rows.push(&self.row(status));
            }
            let told = told.filter(|_| !is_due).unwrap_or(now);
            self.told.insert(key, told);
        }
    }

    fn row(&self, status: &ExporterStatus) -> ExporterRow {
        let ExporterStatus {
            source,
            exporter_addr,
            flow_type,
            observation_domain,
            last_seen,
            datagrams,
            flows,
            templates,
            sampling_rate,
            sampling_source,
            sequence,
        } = *status;
        let counts = sequence.counts;
        ExporterRow {
            exporter_addr: column(exporter_addr),
            exporter_source: column(source),
            flow_type,
            observation_domain,
            last_seen: last_seen.seconds(),
            counted_since: self.counted_since,
            datagrams,
            flows,
            templates,
            sampling_rate,
            sampling_source,
            sequence_unit: sequence
                .next
                .map_or("unknown", |_| sequence.unit.name(flow_type)),
            sequence_next: sequence.next.unwrap_or_default(),
            lost: counts.lost,
            reordered: counts.reordered,
            duplicated: counts.duplicated,
            restarts: counts.restarts,
        }
    }
}

/// An address as a column of the type IPv6 has it.
fn column(ip: IpAddr) -> Ipv6Addr {
    Address::from(ip).into()
}

/// What tests of those that tell rows need.
#[cfg(test)]
pub(crate) mod rig {
    use super::*;
    use crate::config;
    use crate::ledger::StoreCounts;
    use crate::store::{Insert, Store};

    const SECOND: u64 = 1_000_000_000;
    /// A whole minute.
    pub const START_S: u32 = 1_800_000_000;

    /// So many seconds from [`START_S`].
    pub fn at(second: u64) -> UnixNanos {
        UnixNanos((u64::from(START_S) + second) * SECOND)
    }

    /// A store, and what it counts.
    pub struct Stored {
        pub store: Store,
        counts: Arc<StoreCounts>,
    }

    impl Stored {
        pub fn new(target: impl Insert + 'static) -> Self {
            let counts = Arc::new(StoreCounts::default());
            let (config, batch) = (config::Store::default(), config::Batch::default());
            let target = Box::new(target);
            let (store, _) = Store::start_with(target, &config, Arc::clone(&counts), 1, &batch);
            Self { store, counts }
        }

        /// Rows of a table so far.
        pub fn offered(&self, table: SideTable) -> u64 {
            self.counts.side(table).read().rows_offered
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rig::{Stored, at};
    use super::*;
    use crate::decode::sequence::{AgentSample, Held, Observation, SequenceStatus};
    use crate::store::Null;

    /// A teller over the null store, and one exporter.
    struct Rig {
        teller: Teller,
        shared: Arc<Shared>,
        held: Held,
        stored: Stored,
    }

    const KEY: DomainKey = DomainKey {
        source: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        flow_type: FlowType::Sflow5,
        observation_domain: 3,
        session: 0,
    };

    impl Rig {
        fn new() -> Self {
            let stored = Stored::new(Null);
            let shared = Arc::new(Shared::default());
            let rows = stored.store.side_rows();
            Self {
                teller: Teller::new(Arc::clone(&shared), rows, at(0)),
                shared,
                held: Held::default(),
                stored,
            }
        }

        /// A datagram of the exporter, so many seconds from the start.
        fn hear(&mut self, second: u64, sequence: u32) {
            let received = at(second);
            let known = self.shared.register(KEY, received, 8).unwrap();
            let observation = Observation {
                sequence,
                records: None,
                uptime_ms: None,
                source_port: 1,
                received,
            };
            known.sequence.observe(&observation, &mut self.held);
            let slot = self.shared.status_slot();
            slot.lock().unwrap().push(ExporterStatus {
                source: KEY.source,
                exporter_addr: KEY.source,
                flow_type: KEY.flow_type,
                observation_domain: KEY.observation_domain,
                last_seen: received,
                datagrams: 1,
                flows: 1,
                templates: 0,
                sampling_rate: 1,
                sampling_source: SamplingSource::Header,
                sequence: SequenceStatus::default(),
            });
        }

        fn look(&mut self, second: u64) {
            self.teller.look(at(second));
        }

        /// Rows of `exporter_gaps` and of `exporters` so far.
        fn rows(&self) -> [u64; 2] {
            let tables = [SideTable::ExporterGaps, SideTable::Exporters];
            tables.map(|table| self.stored.offered(table))
        }
    }

    #[tokio::test]
    async fn numbers_are_told_every_ten_seconds_and_states_every_minute() {
        let mut rig = Rig::new();
        rig.hear(1, 1);
        rig.look(9);
        assert_eq!(rig.rows(), [0, 0]);
        rig.look(10);
        assert_eq!(rig.rows(), [1, 1], "a new exporter is told at once");
        rig.look(20);
        assert_eq!(rig.rows(), [1, 1], "nothing came");
        rig.hear(21, 2);
        rig.look(30);
        assert_eq!(rig.rows(), [2, 1]);
        rig.look(60);
        assert_eq!(rig.rows(), [2, 2]);
        rig.look(120);
        assert_eq!(rig.rows(), [2, 2], "it was not heard of");
    }

    #[tokio::test]
    async fn what_is_known_to_be_lost_after_the_last_message_is_told_as_well() {
        let mut rig = Rig::new();
        rig.hear(59, 1);
        rig.hear(59, 4);
        rig.look(60);
        assert_eq!(rig.rows()[1], 1, "two numbers may still come");
        rig.look(120);
        assert_eq!(rig.shared.sequence_totals().lost, [2, 0, 0]);
        rig.look(180);
        assert_eq!(rig.rows()[1], 2);
        rig.look(240);
        assert_eq!(rig.rows()[1], 2, "nothing is new");
    }

    #[tokio::test]
    async fn what_an_agent_dropped_is_a_row_of_its_own() {
        let mut rig = Rig::new();
        rig.hear(1, 1);
        rig.look(10);
        assert_eq!(rig.rows(), [1, 1]);
        let now = at(11);
        let known = rig.shared.register(KEY, now, 8).unwrap();
        for drops in [5, 7] {
            assert!(known.sequence.sampled(&AgentSample {
                source: 3,
                drops,
                boot_s: 0,
                received_s: now.seconds(),
            }));
        }
        rig.look(20);
        assert_eq!(rig.rows(), [2, 1], "no message came");
        rig.look(30);
        assert_eq!(rig.rows(), [2, 1]);
        assert_eq!(rig.shared.sequence_totals().agent_drops, 2);
    }

    #[tokio::test]
    async fn at_the_end_what_is_missing_is_lost_and_told() {
        let mut rig = Rig::new();
        rig.hear(1, 1);
        rig.hear(1, 4);
        rig.teller.finish(at(1));
        assert_eq!(rig.rows(), [1, 1]);
        assert_eq!(rig.shared.sequence_totals().lost, [2, 0, 0]);
    }
}
