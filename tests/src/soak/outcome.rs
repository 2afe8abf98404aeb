//! What is seen of a run, and what the collector says of it.

use std::time::Duration;

use anyhow::Result;

use crate::process::usage;
use crate::{Ledger, Status, Totals};

/// One look at the collector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Since the first flow.
    pub at: Duration,
    /// Its resident memory.
    pub rss_bytes: u64,
    /// File descriptors that it has open.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
    /// Flows decoded so far.
    pub decoded: u64,
    /// Flows stored so far.
    pub stored: u64,
    /// Flows and datagrams lost so far, for whatever reason.
    pub lost: u64,
    /// Flows neither stored nor lost.
    pub under_way: u64,
    /// Bytes on the disk that wait for ClickHouse.
    pub spool_bytes: u64,
}

/// How often something was done to it, or it said that it noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The configuration was read again.
    pub reloads: u64,
    /// With another list of those who may send.
    pub allow_changes: u64,
    /// With another retention, which ClickHouse took.
    pub retention_changes: u64,
    /// The database of places was loaded.
    pub places: u64,
    /// Networks were.
    pub networks: u64,
    /// The threat list was.
    pub threats: u64,
}

/// ClickHouse was away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absence {
    /// When it was killed, from the first flow on.
    pub from: Duration,
    /// Until it answered again.
    pub lasted: Duration,
    /// The most that waited on the disk meanwhile.
    pub spool_bytes_max: u64,
}

/// What happened, and what the collector and ClickHouse have.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One a second while it is sent.
    pub samples: Vec<Sample>,
    /// What was done.
    pub done: Counts,
    /// What the collector says of it.
    pub told: Counts,
    /// How often files were refused.
    pub files_refused: u64,
    /// When ClickHouse was away.
    pub absences: Vec<Absence>,
    /// Visits of exporters.
    pub visits: u64,
    /// Exporters and observation domains that the collector knows at the end.
    pub exporters: u64,
    /// Datagrams and flows of all generators.
    pub sent: (u64, u64),
    /// Datagrams taken.
    pub received: u64,
    /// Datagrams that the kernel dropped.
    pub dropped_by_kernel: u64,
    /// Flows decoded.
    pub decoded: u64,
    /// Flows that ClickHouse acknowledged.
    pub stored: u64,
    /// Losses by reason.
    pub losses: Vec<(String, u64)>,
    /// Bytes left on the disk.
    pub spool_bytes: u64,
    /// What the ledger's equations leave over, before the stop and behind it.
    pub unaccounted: u64,
    /// How long it took from the last flow until nothing was under way; `None`: too long.
    pub settled: Option<Duration>,
    /// `SELECT count()`.
    pub rows: u64,
    /// Rows whose source is in the country of one and of the other database of places.
    pub rows_of_places: [u64; 2],
    /// The highest resident memory that there was.
    pub rss_peak_bytes: u64,
}

impl Counts {
    /// What a collector with this status and log has noticed.
    pub(super) fn told(status: &Status, log: &str) -> Result<Self> {
        let lines = |text| log.lines().filter(|line| line.contains(text)).count() as u64;
        // The first time is that of the start.
        let loaded = |part| {
            let times = status.number(&format!("/enrich/parts/{part}/loaded"));
            times.map(|times| times.saturating_sub(1))
        };
        Ok(Self {
            reloads: lines("SIGHUP: the configuration was read again"),
            allow_changes: lines("SIGHUP: receive.allow is taken over"),
            retention_changes: lines("SIGHUP: the tables keep their rows as configured"),
            places: loaded("geo")?,
            networks: loaded("networks")?,
            threats: loaded("threats")?,
        })
    }

    /// Is each at least as often as in `done`?
    pub(super) fn has_all(&self, done: &Self) -> bool {
        self.reloads >= done.reloads
            && self.allow_changes >= done.allow_changes
            && self.retention_changes >= done.retention_changes
            && self.places >= done.places
            && self.networks >= done.networks
            && self.threats >= done.threats
    }
}

impl Sample {
    /// By /proc and the ledger.
    pub(super) fn of(pid: u32, ledger: &Ledger) -> Self {
        Self {
            rss_bytes: usage(pid).rss_bytes,
            decoded: ledger.counter("flows_decoded"),
            stored: ledger.store("flows_stored"),
            lost: ledger.losses().iter().map(|(_, n)| n).sum(),
            under_way: ledger.flows_under_way(),
            spool_bytes: ledger.store("spool_bytes"),
            ..Self::default()
        }
    }
}

impl Outcome {
    pub(super) fn add_sent(&mut self, totals: &Totals) {
        self.sent.0 += totals.datagrams;
        self.sent.1 += totals.flows;
    }

    /// The last figures of a collector that has nothing to do any more.
    pub(super) fn read(&mut self, status: &Status, log: &str) -> Result<()> {
        let ledger = status.ledger();
        self.received = ledger.counter("datagrams_received");
        self.dropped_by_kernel = ledger.counter("datagrams_dropped_by_kernel");
        self.decoded = ledger.counter("flows_decoded");
        self.stored = ledger.store("flows_stored");
        self.losses = ledger.losses();
        self.spool_bytes = ledger.store("spool_bytes");
        self.unaccounted = ledger.unaccounted();
        let exporters = status.at("/exporters").and_then(|all| all.as_array());
        self.exporters = exporters.map_or(0, |all| all.len() as u64);
        self.told = Counts::told(status, log)?;
        for part in ["geo", "networks", "threats"] {
            self.files_refused += status.number(&format!("/enrich/parts/{part}/refused"))?;
        }
        Ok(())
    }
}
