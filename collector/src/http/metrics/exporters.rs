//! Series of single exporters, and of what is stored of them beside their flows.

use std::fmt;

use super::{Labels, Out};
use crate::decode::ExporterStatus;
use crate::decode::sequence::{SEQUENCE_UNITS, SequenceTotals};
use crate::ledger::{DropReason, LedgerSnapshot, SideSnapshot};
use crate::store::SideTable;

/// Exporters with series of their own; the others are only counted. A forged source address must
/// not fill the memory of whoever scrapes.
pub const EXPORTER_SERIES_MAX: usize = 1000;

impl Out<'_> {
    /// How many there are.
    pub(super) fn exporters(&mut self, exporters: &[ExporterStatus]) -> fmt::Result {
        let listed = listed(exporters);
        self.gauge(
            "flowsluice_exporters",
            "Exporters and observation domains seen",
            exporters.len() as u64,
        )?;
        self.gauge(
            "flowsluice_exporters_without_series",
            "Those of them that have no series here, because there are too many",
            (exporters.len() - listed.len()) as u64,
        )
    }

    /// The first ones by address have series: which ones does not change while none comes or goes.
    pub(super) fn exporter_series(&mut self, exporters: &[ExporterStatus]) -> fmt::Result {
        let listed = listed(exporters);
        let of = |value: fn(&ExporterStatus) -> u64| {
            listed
                .iter()
                .map(move |status| (by_exporter(status), value(status)))
        };
        self.counters(
            "flowsluice_exporter_datagrams",
            "Datagrams decoded of the exporter",
            of(|status| status.datagrams),
        )?;
        self.counters(
            "flowsluice_exporter_flows",
            "Flows decoded of the exporter",
            of(|status| status.flows),
        )?;
        self.counters(
            "flowsluice_exporter_sequence_lost",
            "Sequence numbers of the exporter that never arrived, in the unit that /status tells",
            of(|status| status.sequence.counts.lost),
        )?;
        self.counters(
            "flowsluice_exporter_sequence_restarts",
            "Times that the exporter's sequence numbers began anew",
            of(|status| status.sequence.counts.restarts),
        )?;
        self.gauges(
            "flowsluice_exporter_templates",
            "Templates known of the exporter",
            of(|status| status.templates),
        )?;
        self.gauges(
            "flowsluice_exporter_sampling_rate",
            "Sampling rate of the exporter's latest flows; 0 is unknown",
            of(|status| u64::from(status.sampling_rate)),
        )?;
        self.gauges(
            "flowsluice_exporter_last_seen_timestamp_seconds",
            "When the exporter's last datagram arrived",
            listed
                .iter()
                .map(|status| (by_exporter(status), status.last_seen.millis() as f64 / 1e3)),
        )
    }

    /// What sequence numbers say, all exporters together.
    pub(super) fn sequences(&mut self, totals: &SequenceTotals) -> fmt::Result {
        let SequenceTotals {
            lost,
            reordered,
            duplicated,
            restarts,
            agent_drops,
        } = totals;
        let lost = SEQUENCE_UNITS.iter().zip(lost).map(|(unit, lost)| {
            let labels: Labels = vec![("unit", (*unit).to_owned())];
            (labels, *lost)
        });
        self.counters(
            "flowsluice_sequence_lost",
            "Sequence numbers of exporters that never arrived: lost before the collector, or \
             dropped by this host's kernel",
            lost,
        )?;
        self.counter(
            "flowsluice_sequence_reordered_messages",
            "Messages that arrived behind later ones",
            *reordered,
        )?;
        self.counter(
            "flowsluice_sequence_duplicated_messages",
            "Messages whose sequence numbers had arrived already",
            *duplicated,
        )?;
        self.counter(
            "flowsluice_sequence_restarts",
            "Times that sequence numbers began anew",
            *restarts,
        )?;
        self.counter(
            "flowsluice_agent_dropped_samples",
            "Samples that sFlow agents say they took and dropped for want of resources",
            *agent_drops,
        )
    }

    /// Rows of the tables beside `flows`.
    pub(super) fn side(&mut self, ledger: &LedgerSnapshot) -> fmt::Result {
        let tables = || SideTable::ALL.iter().zip(&ledger.store.side);
        let of = |value: fn(&SideSnapshot) -> u64| {
            tables().map(move |(table, side)| (by_table(*table), value(side)))
        };
        self.counters(
            "flowsluice_side_rows_offered",
            "Rows for the tables beside flows",
            of(|side| side.rows_offered),
        )?;
        self.counters(
            "flowsluice_side_rows_stored",
            "Rows of them that ClickHouse acknowledged",
            of(|side| side.rows_stored),
        )?;
        self.gauges(
            "flowsluice_side_rows_waiting",
            "Rows of them that are neither stored nor dropped",
            of(|side| side.rows_waiting),
        )?;
        let reasons = [
            DropReason::StoreBacklog,
            DropReason::InsertRefused,
            DropReason::StoreStopped,
            DropReason::StoreNull,
        ];
        let dropped = tables().flat_map(|(table, side)| {
            reasons.map(|reason| {
                let mut labels = by_table(*table);
                labels.push(("reason", reason.label().to_owned()));
                (labels, side.rows_dropped[reason as usize])
            })
        });
        self.counters(
            "flowsluice_side_rows_dropped",
            "Rows of them that are not stored: no room while ClickHouse was away, refused, not \
             acknowledged before the stop, or no store at all",
            dropped,
        )
    }
}

fn listed(exporters: &[ExporterStatus]) -> &[ExporterStatus] {
    &exporters[..exporters.len().min(EXPORTER_SERIES_MAX)]
}

fn by_table(table: SideTable) -> Labels {
    vec![("table", table.name().to_owned())]
}

fn by_exporter(status: &ExporterStatus) -> Labels {
    vec![
        ("source", status.source.to_string()),
        ("flow_type", status.flow_type.name().to_owned()),
        ("observation_domain", status.observation_domain.to_string()),
    ]
}
