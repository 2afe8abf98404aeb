//! Sums of `flows` and of the tables that are made from it.

use anyhow::{Context, Result};

use crate::ClickHouse;

/// What a table adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Octets, scaled by the sampling rate.
    pub bytes: u128,
    /// Packets, scaled by the sampling rate.
    pub packets: u128,
    /// Octets as they were reported.
    pub raw_bytes: u128,
    /// Packets as they were reported.
    pub raw_packets: u128,
    /// Flows.
    pub flows: u128,
}

impl Sums {
    /// Those of the rows as they came.
    ///
    /// # Errors
    /// When ClickHouse does not say.
    pub fn raw(clickhouse: &ClickHouse) -> Result<Self> {
        Self::of(
            clickhouse,
            "SELECT sum(bytes), sum(packets), sum(raw_bytes), sum(raw_packets), count() FROM flows",
        )
    }

    /// Those of each table and view that people ask for sums, with its name. Where a flow counts
    /// once on each side, each side is one.
    ///
    /// # Errors
    /// When ClickHouse does not say.
    pub fn rollups(clickhouse: &ClickHouse) -> Result<Vec<(String, Self)>> {
        let mut rollups = Vec::new();
        for row in clickhouse.rows(ROLLUPS)? {
            let name = row.first().context("a name")?;
            let sums = format!(
                "SELECT sum(bytes), sum(packets), sum(raw_bytes), sum(raw_packets), sum(flows) \
                 FROM {name}"
            );
            if row.get(1).is_none_or(|sided| sided == "0") {
                rollups.push((name.clone(), Self::of(clickhouse, &sums)?));
                continue;
            }
            for side in ["source", "destination"] {
                let sql = format!("{sums} WHERE side = '{side}'");
                rollups.push((format!("{name}, {side}"), Self::of(clickhouse, &sql)?));
            }
        }
        Ok(rollups)
    }

    fn of(clickhouse: &ClickHouse, sql: &str) -> Result<Self> {
        let answer = clickhouse.query(sql)?;
        let mut numbers = answer.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        let mut sums = || {
            Some(Self {
                bytes: next()?,
                packets: next()?,
                raw_bytes: next()?,
                raw_packets: next()?,
                flows: next()?,
            })
        };
        sums().with_context(|| format!("{sql}: not five numbers: {answer}"))
    }
}

/// Tables and views that have bytes, packets and flows of many rows in one, and whether a flow is
/// in them once on each side. Hosts and conversations by hour lie in two tables each with one view
/// over both; none of these tables has everything.
const ROLLUPS: &str = "SELECT table, countIf(name = 'side') FROM system.columns \
    WHERE database = currentDatabase() AND table NOT LIKE 'rollup_open_%' \
    AND table NOT IN ('rollup_hour_hosts', 'rollup_hour_conversations') \
    AND table IN (SELECT name FROM system.tables \
    WHERE database = currentDatabase() AND engine IN ('SummingMergeTree', 'View')) \
    GROUP BY table HAVING countIf(name IN ('bytes', 'packets', 'flows')) = 3 ORDER BY table";
