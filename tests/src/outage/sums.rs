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
            "SELECT sum(bytes), sum(packets), count() FROM flows",
        )
    }

    /// Those of each rollup table, with its name.
    ///
    /// # Errors
    /// When ClickHouse does not say.
    pub fn rollups(clickhouse: &ClickHouse) -> Result<Vec<(String, Self)>> {
        let names = clickhouse.query(ROLLUPS)?;
        let sums = names.lines().map(|name| {
            let sql = format!("SELECT sum(bytes), sum(packets), sum(flows) FROM {name}");
            Ok((name.to_owned(), Self::of(clickhouse, &sql)?))
        });
        sums.collect()
    }

    fn of(clickhouse: &ClickHouse, sql: &str) -> Result<Self> {
        let answer = clickhouse.query(sql)?;
        let mut numbers = answer.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        let mut sums = || {
            Some(Self {
                bytes: next()?,
                packets: next()?,
                flows: next()?,
            })
        };
        sums().with_context(|| format!("{sql}: not three numbers: {answer}"))
    }
}

/// Tables that keep bytes, packets and flows of many rows in one.
const ROLLUPS: &str = "SELECT table FROM system.columns WHERE database = currentDatabase() \
    AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() \
    AND engine LIKE '%SummingMergeTree') AND name IN ('bytes', 'packets', 'flows') \
    GROUP BY table HAVING count() = 3 ORDER BY table";
