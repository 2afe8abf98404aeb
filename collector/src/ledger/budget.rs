//! What the disk budget dropped of rows that were stored.
//!
//! In: partitions dropped and sizes read, from the task that keeps `store.budget`. Out: a copy for
//! whoever reads the ledger. These rows were stored before: no equation holds them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::config::Group;

const GROUPS: usize = Group::ALL.len();

/// Figures of `store.budget`. A few changes a minute, so plain shared atomics and a lock.
#[derive(Debug, Default)]
pub struct BudgetCounts {
    expired: [ExpiredCells; GROUPS],
    /// The last look at each server, by its URL.
    looks: Mutex<BTreeMap<String, Look>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    bytes_used: u64,
    bytes_over: u64,
    disk_free_bytes: u64,
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
    /// servers, on the one that has most.
    pub bytes_used: u64,
    /// Bytes that the last look found too much and could not drop; likewise.
    pub bytes_over: u64,
    /// Free bytes of ClickHouse's disk, of the fullest if there are several, at the last look; of
    /// several servers, on the one that has least.
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

    /// What a look at `server` found: bytes used, and free bytes of the disk.
    pub fn looked(&self, server: &str, bytes_used: u64, disk_free_bytes: u64) {
        let mut looks = self.looks();
        let look = looks.entry(server.to_owned()).or_default();
        look.bytes_used = bytes_used;
        look.disk_free_bytes = disk_free_bytes;
    }

    /// What a look at `server`, which was told to [`Self::looked`], had to leave.
    pub fn over(&self, server: &str, bytes: u64) {
        if let Some(look) = self.looks().get_mut(server) {
            look.bytes_over = bytes;
        }
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<String, Look>> {
        self.looks
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// A copy.
    #[must_use]
    pub fn read(&self) -> BudgetSnapshot {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let looks = self.looks();
        let most = |of: fn(&Look) -> u64| looks.values().map(of).max().unwrap_or(0);
        let free = looks.values().map(|look| look.disk_free_bytes);
        BudgetSnapshot {
            expired: std::array::from_fn(|group| {
                let cells = &self.expired[group];
                Expired {
                    rows: read(&cells.rows),
                    bytes: read(&cells.bytes),
                    partitions: read(&cells.partitions),
                }
            }),
            bytes_used: most(|look| look.bytes_used),
            bytes_over: most(|look| look.bytes_over),
            disk_free_bytes: free.min().unwrap_or(0),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_servers_the_fullest_is_told_whichever_was_looked_at_last() {
        let counts = BudgetCounts::default();
        assert_eq!(counts.read(), BudgetSnapshot::default());
        for _ in 0..2 {
            counts.looked("http://a", 900, 10);
            counts.over("http://a", 50);
            counts.looked("http://b", 100, 800);
            counts.over("http://b", 0);
        }
        let read = counts.read();
        assert_eq!((read.bytes_used, read.bytes_over), (900, 50));
        assert_eq!(read.disk_free_bytes, 10);
        counts.looked("http://a", 200, 700);
        counts.over("http://a", 0);
        let read = counts.read();
        assert_eq!((read.bytes_used, read.bytes_over), (200, 0));
        assert_eq!(read.disk_free_bytes, 700);
    }
}
