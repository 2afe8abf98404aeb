//! `[store]`: whether retention, partitions and budget mean something together.

use std::time::Duration;

use bytesize::ByteSize;

use super::{Problem, Problems, RETENTION_MAX};
use crate::config::{Group, Partition, Store, display};

/// Most partitions of `flows`: each is a part at least, and one costs a query that reads it about
/// a millisecond.
const PARTITIONS_MAX: u64 = 3000;
/// Least retention of sums by hour: the four days that `sql/010_rollups.sql` keeps what is to be
/// folded, and a day until ClickHouse has dropped that. How far folding has come is known by the
/// newest sums alone: once all are dropped, what is still there would be folded again, without end.
const ROLLUP_HOUR_MIN: Duration = Duration::from_secs(5 * 24 * 3600);
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
                match group {
                    Group::RollupHour if kept < ROLLUP_HOUR_MIN => {
                        self.add(key, rollup_hour_too_short(kept));
                    }
                    Group::RollupHour => self.time(&key, kept, ROLLUP_HOUR_MIN..=RETENTION_MAX),
                    _ => self.time(&key, kept, hour..=RETENTION_MAX),
                }
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

#[cold]
fn rollup_hour_too_short(kept: Duration) -> String {
    format!(
        "found {}; allowed: {} to {}, as sums that are dropped sooner would be made again and \
         again of what came in during the last four days; raise it, or remove the key for 400 days",
        display::duration(kept),
        display::duration(ROLLUP_HOUR_MIN),
        display::duration(RETENTION_MAX)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hour_outlive_what_they_are_folded_of() {
        let sql = include_str!("../../../../sql/010_rollups.sql");
        let open = sql.split("\nTTL stored + toIntervalDay(").skip(1);
        let days: Vec<u64> = open
            .map(|rest| rest.split(')').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(days.len(), 2, "hosts and conversations");
        for open in days {
            let least = Duration::from_secs((open + 1) * 24 * 3600);
            assert!(ROLLUP_HOUR_MIN >= least, "{open} days are kept open");
        }
    }
}
