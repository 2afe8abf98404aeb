//! What is known of exporters, told to ClickHouse beside their flows.
//!
//! In: [`Shared`], looked at every [`LOOK_EVERY`]. Out: rows of `exporter_gaps`, what sequence
//! numbers said in the last ten seconds, and of `exporters`, the state of those that were heard of
//! in the last minute. Owner: one task of the runtime beside the workers.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::decode::sequence::SequenceCounts;
use crate::decode::{DomainKey, ExporterStatus, Shared};
use crate::flow::{FlowType, SamplingSource};
use crate::store::{SideRow, SideRows, SideTable};
use crate::units::UnixNanos;

/// How often the clock is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sequence numbers are told so often, as their sum since the last time; ClickHouse adds the rows
/// of a minute up. A minute is a multiple, so what belongs to two of them is apart.
const GAPS_EVERY_S: u32 = 10;
/// The state of exporters is told so often.
const STATE_EVERY_S: u32 = 60;
const MINUTE_S: u32 = 60;

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
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => teller.look(UnixNanos::now()),
            _ = &mut stop => break,
        }
    }
    teller.finish(UnixNanos::now());
}

/// What was told when.
#[derive(Debug)]
struct Teller {
    shared: Arc<Shared>,
    rows: SideRows,
    /// Since when exporters' figures count, in seconds since the epoch.
    counted_since: u32,
    /// When it looked last, in seconds since the epoch.
    looked: u32,
    /// The `last_seen` of exporters as it was told.
    told: HashMap<DomainKey, UnixNanos>,
}

impl Teller {
    fn new(shared: Arc<Shared>, rows: SideRows, now: UnixNanos) -> Self {
        Self {
            shared,
            rows,
            counted_since: now.seconds(),
            looked: now.seconds(),
            told: HashMap::new(),
        }
    }

    fn look(&mut self, now: UnixNanos) {
        let before = std::mem::replace(&mut self.looked, now.seconds());
        let is_due = |every_s| before / every_s != self.looked / every_s;
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
        for (_, sequence) in self.shared.sequences() {
            sequence.finish();
        }
        let statuses = self.shared.exporters();
        self.gaps(&statuses, self.looked, now);
        self.state(&statuses, true);
    }

    /// Tells what sequence numbers said since the last time, as of the minute of `second`.
    fn gaps(&self, statuses: &[ExporterStatus], second: u32, now: UnixNanos) {
        let own = statuses.iter().map(|s| (s.key(), s.exporter_addr));
        let own: HashMap<DomainKey, IpAddr> = own.collect();
        for (key, sequence) in self.shared.sequences() {
            let (unit, counts) = sequence.drain(now);
            if counts == SequenceCounts::default() {
                continue;
            }
            let SequenceCounts {
                received,
                lost,
                reordered,
                duplicated,
                restarts,
            } = counts;
            self.rows.push(&GapsRow {
                minute: second / MINUTE_S * MINUTE_S,
                exporter_addr: column(*own.get(&key).unwrap_or(&key.source)),
                exporter_source: column(key.source),
                flow_type: key.flow_type,
                observation_domain: key.observation_domain,
                unit: unit.name(key.flow_type),
                received,
                lost,
                reordered,
                duplicated,
                restarts,
            });
        }
    }

    /// Tells the state of the exporters that are new, or of all that were heard of since it was
    /// told.
    fn state(&mut self, statuses: &[ExporterStatus], of_all: bool) {
        let before = std::mem::take(&mut self.told);
        for status in statuses {
            let (key, now) = (status.key(), status.last_seen);
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
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
