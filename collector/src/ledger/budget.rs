//! What the disk budget dropped of rows that were stored.
//!
//! In: partitions dropped and sizes read, from the task that keeps `store.budget`. Out: a copy for
//! whoever reads the ledger. These rows were stored before: no equation holds them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Group;

const GROUPS: usize = Group::ALL.len();

/// Figures of `store.budget`. A few changes a minute, so plain shared atomics.
#[derive(Debug, Default)]
pub struct BudgetCounts {
    expired: [ExpiredCells; GROUPS],
    bytes_used: AtomicU64,
    bytes_over: AtomicU64,
    disk_free_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct ExpiredCells {
    rows: AtomicU64,
    bytes: AtomicU64,
    partitions: AtomicU64,
}

/// What was dropped of a group's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Rows.
    pub rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Partitions of which something was dropped.
    pub partitions: u64,
}

/// A copy of [`BudgetCounts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetSnapshot {
    /// By [`Group`], in the order of [`Group::ALL`].
    pub expired: [Expired; GROUPS],
    /// Bytes of all that counts toward `store.budget.max_bytes`, at the last look; of several
    /// servers, on the one that was looked at last.
    pub bytes_used: u64,
    /// Bytes that the last look found too much and could not drop.
    pub bytes_over: u64,
    /// Free bytes of ClickHouse's disk, of the fullest if there are several, at the last look.
    pub disk_free_bytes: u64,
}

impl BudgetCounts {
    /// Something was dropped of one partition.
    pub fn expired(&self, group: Group, rows: u64, bytes: u64) {
        let cells = &self.expired[group as usize];
        cells.rows.fetch_add(rows, Ordering::Relaxed);
        cells.bytes.fetch_add(bytes, Ordering::Relaxed);
        cells.partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// What a look found: bytes used, and free bytes of the disk.
    pub fn looked(&self, bytes_used: u64, disk_free_bytes: u64) {
        self.bytes_used.store(bytes_used, Ordering::Relaxed);
        self.disk_free_bytes
            .store(disk_free_bytes, Ordering::Relaxed);
    }

    /// What a look had to leave.
    pub fn over(&self, bytes: u64) {
        self.bytes_over.store(bytes, Ordering::Relaxed);
    }

    /// A copy.
    #[must_use]
    pub fn read(&self) -> BudgetSnapshot {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        BudgetSnapshot {
            expired: std::array::from_fn(|group| {
                let cells = &self.expired[group];
                Expired {
                    rows: read(&cells.rows),
                    bytes: read(&cells.bytes),
                    partitions: read(&cells.partitions),
                }
            }),
            bytes_used: read(&self.bytes_used),
            bytes_over: read(&self.bytes_over),
            disk_free_bytes: read(&self.disk_free_bytes),
        }
    }
}

const _: () = {
    let mut index = 0;
    while index < GROUPS {
        assert!(Group::ALL[index] as usize == index);
        index += 1;
    }
};
