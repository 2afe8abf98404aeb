//! What the disk budget found and dropped.

use std::fmt;

use super::{Labels, Out};
use crate::config::Group;
use crate::ledger::{BudgetSnapshot, Expired};

impl Out<'_> {
    pub(super) fn budget(&mut self, budget: &BudgetSnapshot) -> fmt::Result {
        for (name, help, value) in [
            (
                "rows_expired_by_budget",
                "Rows that were stored and dropped before the end of their retention, because \
                 the disk's budget was used up",
                (|expired| expired.rows) as fn(&Expired) -> u64,
            ),
            (
                "bytes_expired_by_budget",
                "Bytes on disk of those rows",
                |expired| expired.bytes,
            ),
            (
                "partitions_expired_by_budget",
                "Partitions of those rows",
                |expired| expired.partitions,
            ),
        ] {
            let groups = Group::ALL.iter().zip(&budget.expired);
            let series = groups.map(|(group, expired)| {
                let labels: Labels = vec![("tables", group.name().to_owned())];
                (labels, value(expired))
            });
            self.counters(&format!("flowsluice_store_{name}"), help, series)?;
        }
        for (name, help, value) in [
            (
                "budget_bytes_used",
                "Bytes of all that counts toward store.budget.max_bytes; 0 without a budget",
                budget.bytes_used,
            ),
            (
                "budget_bytes_over",
                "Bytes that are too much and that cannot be dropped, as only the newest \
                 partitions are left",
                budget.bytes_over,
            ),
            (
                "disk_free_bytes",
                "Free bytes of ClickHouse's fullest disk; 0 without a budget",
                budget.disk_free_bytes,
            ),
        ] {
            self.gauge(&format!("flowsluice_store_{name}"), help, value)?;
        }
        Ok(())
    }
}
