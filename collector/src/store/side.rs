//! Rows of the tables beside `flows`: what is known of exporters, not what they export.
//!
//! In: rows, one at a time, from tasks of the runtime. Out: the same rows in ClickHouse, a batch
//! exactly once as long as ClickHouse remembers its token. Owner: one task of the tokio runtime;
//! what waits is bounded in bytes, a table apart from the others, so that none crowds another out.
//! Losses, counted by table: `store_backlog`, `insert_refused`, `store_stopped`, `store_null`.
//!
//! A worker never pushes: it leaves what it knows where a task finds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use super::Phase;
use super::send::{Fate, Sender, over};
use crate::ledger::{DropReason, StoreCounts};

/// A table beside `flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum SideTable {
    /// Lost, late and repeated sequence numbers of exporters, by minute.
    ExporterGaps,
    /// The last state of each exporter and domain.
    Exporters,
    /// Counter samples of sFlow.
    InterfaceCounters,
    /// Packets that sFlow says were discarded.
    DiscardedPackets,
    /// Names of interfaces.
    Interfaces,
    /// Names of applications.
    Applications,
    /// Names of VRFs.
    Vrfs,
    /// Names of addresses.
    Hosts,
    /// What the collector says of itself, by minute.
    CollectorStats,
}

/// Number of tables beside `flows`.
pub const SIDE_TABLES: usize = SideTable::ALL.len();

impl SideTable {
    /// All of them, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::ExporterGaps,
        Self::Exporters,
        Self::InterfaceCounters,
        Self::DiscardedPackets,
        Self::Interfaces,
        Self::Applications,
        Self::Vrfs,
        Self::Hosts,
        Self::CollectorStats,
    ];

    /// Its name in ClickHouse.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExporterGaps => "exporter_gaps",
            Self::Exporters => "exporters",
            Self::InterfaceCounters => "interface_counters",
            Self::DiscardedPackets => "discarded_packets",
            Self::Interfaces => "interfaces",
            Self::Applications => "applications",
            Self::Vrfs => "vrfs",
            Self::Hosts => "hosts",
            Self::CollectorStats => "collector_stats",
        }
    }
}

/// A row as JSON: its fields are named as the columns. A `DateTime` is whole seconds as a number,
/// an `IPv6` an [`std::net::Ipv6Addr`], an `Enum8` its name.
pub trait SideRow: Serialize {
    /// Where it belongs. The table needs `non_replicated_deduplication_window`, as `flows` has it.
    const TABLE: SideTable;
}

/// Rows of one table that one insert sends. A retry sends the same bytes with the same token.
#[derive(Clone, Debug)]
pub struct SideBatch {
    /// Where they belong.
    pub table: SideTable,
    /// ClickHouse stores a batch with a token that it has stored before only once.
    pub token: String,
    /// Rows in it.
    pub rows: u64,
    /// A JSON object a line.
    pub lines: Bytes,
}

/// Where rows are pushed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SideRows(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<[Waiting; SIDE_TABLES]>,
    /// So many rows wait that they are worth an insert.
    many: Notify,
    counts: Arc<StoreCounts>,
}

/// Rows of one table that wait.
#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    rows: u64,
    /// Bytes of the batch that is being sent.
    bytes_under_way: usize,
    /// Nothing is sent any more.
    is_closed: bool,
}

impl Waiting {
    fn has_room(&self) -> bool {
        let bytes = self.lines.len() + self.bytes_under_way;
        self.is_closed || bytes < TABLE_BYTES_MAX / 2
    }
}

/// Bytes of JSON that one table may have in memory, waiting and being sent. A row is 200 to 400
/// bytes, so an outage may last for some 10,000 to 20,000 rows.
const TABLE_BYTES_MAX: usize = 4 << 20;
/// Memory that they take at most: buffers grow by doubling.
pub const TABLE_MEMORY_BYTES_MAX: usize = 2 * TABLE_BYTES_MAX;
/// So many rows of one table, or so many bytes, do not wait for their time.
const ROWS_MANY: u64 = 10_000;
const BYTES_MANY: usize = TABLE_BYTES_MAX / 4;
/// How long a row waits at most while ClickHouse takes inserts.
const INSERT_EVERY: Duration = Duration::from_secs(5);

impl SideRows {
    pub(super) fn new(counts: Arc<StoreCounts>) -> Self {
        Self(Arc::new(Queue {
            waiting: Mutex::default(),
            many: Notify::new(),
            counts,
        }))
    }

    /// Queues `row`; when there is no room for it, or nothing is stored any more, it is dropped
    /// and counted.
    pub fn push<R: SideRow>(&self, row: &R) {
        let Queue { many, counts, .. } = &*self.0;
        let counts = counts.side(R::TABLE);
        counts.offered();
        let mut waiting = self.waiting();
        let waiting = &mut waiting[R::TABLE as usize];
        if waiting.is_closed {
            return counts.dropped(DropReason::StoreStopped, 1);
        }
        let Waiting { lines, rows, .. } = waiting;
        let before = lines.len();
        serde_json::to_writer(&mut *lines, row).expect("a row is a struct of plain fields");
        lines.push(b'\n');
        let after = lines.len();
        if after + waiting.bytes_under_way > TABLE_BYTES_MAX {
            lines.truncate(before);
            return counts.dropped(DropReason::StoreBacklog, 1);
        }
        *rows += 1;
        if *rows == ROWS_MANY || (before < BYTES_MANY && after >= BYTES_MANY) {
            many.notify_one();
        }
    }

    /// True while every table is less than half full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting().iter().all(Waiting::has_room)
    }

    /// True while `table` is less than half full.
    #[must_use]
    pub fn has_room_in(&self, table: SideTable) -> bool {
        self.waiting()[table as usize].has_room()
    }

    /// All that waits of `table`, to be sent; [`Self::done`] makes room for more.
    fn take(&self, table: SideTable, token: impl FnOnce() -> String) -> Option<SideBatch> {
        let mut waiting = self.waiting();
        let Waiting {
            lines,
            rows,
            bytes_under_way,
            ..
        } = &mut waiting[table as usize];
        if *rows == 0 {
            return None;
        }
        *bytes_under_way = lines.len();
        Some(SideBatch {
            table,
            token: token(),
            rows: std::mem::take(rows),
            lines: std::mem::take(lines).into(),
        })
    }

    /// What became of a batch.
    fn done(&self, batch: &SideBatch, fate: &Fate) {
        self.waiting()[batch.table as usize].bytes_under_way = 0;
        let counts = self.0.counts.side(batch.table);
        match fate {
            Fate::Stored(_) => counts.stored(batch.rows),
            Fate::Discarded => counts.dropped(DropReason::StoreNull, batch.rows),
            Fate::Refused(_) => counts.dropped(DropReason::InsertRefused, batch.rows),
        }
    }

    /// From now on nothing is stored: what waits is lost, and so is what comes. Yields how many
    /// rows waited.
    pub(super) fn close(&self) -> u64 {
        let mut waiting = self.waiting();
        let tables = SideTable::ALL.iter().zip(&mut *waiting);
        let lost = tables.map(|(table, waiting)| {
            *waiting = Waiting {
                is_closed: true,
                ..Waiting::default()
            };
            self.0.counts.side(*table).give_up()
        });
        lost.sum()
    }

    /// Whatever panicked while it held them: a row that was cut short is the last one there is.
    fn waiting(&self) -> MutexGuard<'_, [Waiting; SIDE_TABLES]> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends rows every [`INSERT_EVERY`] until the store ends.
pub(super) struct SideTask {
    pub(super) rows: SideRows,
    pub(super) sender: Arc<Sender>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) phase: watch::Receiver<Phase>,
}

impl SideTask {
    /// Runs until no further row comes and all that there were are sent, or time is up.
    pub(super) async fn run(mut self) {
        tokio::select! {
            _ = self.ready.wait_for(|ready| *ready) => {}
            () = over(&mut self.phase) => return,
        }
        let instance: u64 = rand::random();
        let mut number = 0_u64;
        loop {
            // Looked at before the rows: whoever says that no more come has pushed before.
            let phase = *self.phase.borrow_and_update();
            for table in SideTable::ALL {
                let token = || format!("side-{instance:016x}-{number}");
                let Some(batch) = self.rows.take(*table, token) else {
                    continue;
                };
                number += 1;
                tokio::select! {
                    fate = self.sender.side(&batch) => self.rows.done(&batch, &fate),
                    () = over(&mut self.phase) => return,
                }
            }
            if phase != Phase::Running {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(INSERT_EVERY) => {}
                () = self.rows.0.many.notified() => {}
                _ = self.phase.changed() => {}
            }
        }
    }
}
