//! `[store]`: whether retention, partitions and budget mean something together.

use std::time::Duration;

use bytesize::ByteSize;

use super::{Problem, Problems, RETENTION_MAX};
use crate::config::{Group, Partition, Store};

/// Most partitions of `flows`: each is a part at least, and one costs a query that reads it about
/// a millisecond.
const PARTITIONS_MAX: u64 = 3000;
/// Least budget: a table's newest partition is never dropped, so a smaller one holds nothing.
const BUDGET_MIN: ByteSize = ByteSize::mib(256);
const BUDGET_MAX: ByteSize = ByteSize::pib(64);
/// Most paths that are looked at beside the tables.
const PATHS_MAX: usize = 16;

impl Problems {
    pub(super) fn tables(&mut self, store: &Store) {
        let hour = Duration::from_secs(3600);
        for group in Group::ALL {
            if let Some(kept) = store.retention_of.named(group) {
                let key = format!("store.retention_of.{}", group.name());
                self.time(&key, kept, hour..=RETENTION_MAX);
            }
        }
        let (partition, count) = (store.partition, store.partitions(store.partition));
        let is_free = matches!(partition, Partition::Auto | Partition::Day);
        if count > PARTITIONS_MAX && !is_free {
            let text = format!(
                "\"{}\" cuts store.retention into {count} partitions, of which every query that \
                 reads many is slow; allowed: {PARTITIONS_MAX}; take a longer one or \"auto\"",
                partition.name()
            );
            let problem = Problem::new("store.partition", text);
            self.0.push(problem.with("store.retention"));
        }
        let budget = &store.budget;
        if let Some(max) = budget.max_bytes {
            self.bytes("store.budget.max_bytes", max, BUDGET_MIN..=BUDGET_MAX);
        }
        if let Some(min) = budget.free_min {
            self.bytes("store.budget.free_min", min, ByteSize::b(0)..=BUDGET_MAX);
        }
        self.time(
            "store.budget.every",
            budget.every,
            Duration::from_secs(1)..=hour,
        );
        let key = "store.budget.paths";
        self.count(key, budget.paths.len(), 0..=PATHS_MAX);
        for path in &budget.paths {
            self.absolute(key, path);
        }
    }
}
