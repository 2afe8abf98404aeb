//! What became of the rows of tables beside `flows`.
//!
//! In: rows offered, acknowledgements and losses, from the store's tasks. Out: a copy for whoever
//! reads the ledger. For each table `rows_offered = rows_waiting + rows_stored + rows_dropped`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{DROP_REASONS, DropCells, DropReason};

/// The figures of one table. A few changes a second, so plain shared atomics.
#[derive(Debug, Default)]
pub struct SideCounts {
    rows_offered: AtomicU64,
    rows_waiting: AtomicU64,
    rows_stored: AtomicU64,
    rows_dropped: DropCells,
}

impl SideCounts {
    /// A row is there to be stored.
    pub fn offered(&self) {
        self.rows_waiting.fetch_add(1, Ordering::AcqRel);
        self.rows_offered.fetch_add(1, Ordering::AcqRel);
    }

    /// ClickHouse acknowledged `rows` of those that waited.
    pub fn stored(&self, rows: u64) {
        self.rows_stored.fetch_add(rows, Ordering::AcqRel);
        self.rows_waiting.fetch_sub(rows, Ordering::AcqRel);
    }

    /// `rows` of those that waited will not be stored.
    pub fn dropped(&self, reason: DropReason, rows: u64) {
        self.rows_dropped.add(reason, rows);
        self.rows_waiting.fetch_sub(rows, Ordering::AcqRel);
    }

    /// None of those that wait will be stored, for want of time; yields how many.
    pub fn give_up(&self) -> u64 {
        let rows = self.rows_waiting.load(Ordering::Acquire);
        self.dropped(DropReason::StoreStopped, rows);
        rows
    }

    /// A copy for whoever reads.
    #[must_use]
    pub fn read(&self) -> SideSnapshot {
        SideSnapshot {
            rows_offered: self.rows_offered.load(Ordering::Acquire),
            rows_waiting: self.rows_waiting.load(Ordering::Acquire),
            rows_stored: self.rows_stored.load(Ordering::Acquire),
            rows_dropped: self.rows_dropped.read(),
        }
    }
}

/// A copy of [`SideCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideSnapshot {
    /// Rows that somebody wanted stored.
    pub rows_offered: u64,
    /// Rows that are neither stored nor dropped.
    pub rows_waiting: u64,
    /// Rows that ClickHouse acknowledged.
    pub rows_stored: u64,
    /// Rows that are not stored, by [`DropReason`].
    pub rows_dropped: [u64; DROP_REASONS],
}

impl SideSnapshot {
    /// What became of the rows offered; equal to them unless there is a fault.
    #[must_use]
    pub fn rows_known(&self) -> u64 {
        let dropped: u64 = self.rows_dropped.iter().sum();
        self.rows_waiting + self.rows_stored + dropped
    }
}
