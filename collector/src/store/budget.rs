//! Keeps what the tables take of the disk within `store.budget`.
//!
//! In: sizes, from ClickHouse's system tables and of a few files, every `store.budget.every`. Out:
//! partitions dropped, each told and counted. Owner: one task of the runtime.
//!
//! Order: the partition that is closest to the end of its table's retention goes first, whatever
//! the table: of flows kept for 30 days and sums kept for 90, a week of each may go together with
//! three weeks of the other, so all are shortened by the same factor. The newest partition of a
//! table is never dropped, and none that is ahead of ClickHouse's clock: sums go by the clocks of
//! exporters, and of those one may be wrong. Two collectors on one database see the same order and
//! drop part by part, which succeeds once: nothing is dropped or counted twice. The same holds for
//! replicas.

mod usage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::{Client, Row};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::clickhouse::client;
use super::cluster::ACCESS_DENIED;
use super::insert::{InsertError, in_time};
use super::{Endpoint, schema};
use crate::config::{self, Group, StoreTarget};
use crate::ledger::StoreCounts;

pub use usage::{Partition, Usage};

/// Looks at the disk and drops what is too much.
pub struct Keeper {
    client: Client,
    url: String,
    database: String,
    config: config::Store,
    limits: Limits,
    /// Files of this host that count.
    paths: Vec<PathBuf>,
    /// Tables whose partitions may be dropped.
    tables: Vec<String>,
    counts: Arc<StoreCounts>,
    told: Told,
}

/// What may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    bytes_max: Option<u64>,
    free_min: u64,
}

/// What was logged and lasts.
#[derive(Default)]
struct Told {
    failure: bool,
    over: bool,
    coarse: bool,
}

/// What one look did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Bytes that were too much.
    pub excess_bytes: u64,
    /// Rows that were dropped by this process.
    pub rows: u64,
    /// Bytes of the partitions that were dropped.
    pub bytes: u64,
}

impl Keeper {
    /// One for each server of `endpoint`: each has a disk of its own.
    #[must_use]
    pub fn of_each(
        endpoint: &Endpoint,
        config: &config::Store,
        counts: &Arc<StoreCounts>,
    ) -> Vec<Self> {
        endpoint
            .each()
            .map(|server| Self::new(&server, config, Arc::clone(counts)))
            .collect()
    }

    /// Of the tables at `endpoint`; nothing is sent yet.
    #[must_use]
    pub fn new(endpoint: &Endpoint, config: &config::Store, counts: Arc<StoreCounts>) -> Self {
        let mut paths = config.budget.paths.clone();
        paths.extend(config.spool_dir());
        if config.target() == StoreTarget::Embedded {
            // The engine's log and settings; its tables it tells itself.
            paths.push(config.embedded.data_dir.join("engine"));
        }
        Self {
            client: client(endpoint),
            url: endpoint.url.clone(),
            database: endpoint.database.clone(),
            limits: Limits {
                bytes_max: config.budget.max_bytes.map(|bytes| bytes.as_u64()),
                free_min: config.free_min_bytes(),
            },
            config: config.clone(),
            paths,
            tables: schema::kept(&schema::Wanted::new(config)),
            counts,
            told: Told::default(),
        }
    }

    /// Keeps the budget for ever, once the store is `ready`; without a budget it ends at once.
    pub async fn keep(mut self, mut ready: watch::Receiver<bool>) {
        if self.limits.bytes_max.is_none() && self.limits.free_min == 0 {
            return;
        }
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        loop {
            let looked = in_time(LOOK_MAX, self.look()).await;
            self.told_failure(looked.err());
            // Not at the same moment as another collector.
            let jitter = rand::random_range(0.9..=1.1);
            tokio::time::sleep(self.config.budget.every.mul_f64(jitter)).await;
        }
    }

    /// Looks once, and drops partitions until the budget is kept or nothing is left to drop.
    ///
    /// # Errors
    /// When ClickHouse fails; what was dropped before is told and counted.
    pub async fn look(&mut self) -> Result<Look, InsertError> {
        let usage = Usage::read(&self.client, &self.database, self.paths.clone()).await?;
        let budget = &self.counts.budget;
        budget.looked(&self.url, usage.bytes(), usage.disk_free_bytes);
        self.tell_coarse(&usage);
        let mut look = Look {
            excess_bytes: self.limits.excess(&usage),
            ..Look::default()
        };
        let kept = |table: &str| self.config.retention_for(table).as_secs();
        let chosen: Vec<_> = choose(&usage, &self.tables, look.excess_bytes, kept)
            .into_iter()
            .cloned()
            .collect();
        for partition in &chosen {
            look.rows += self.drop(partition).await?;
            look.bytes += partition.bytes + partition.bytes_leaving;
        }
        let over = look.excess_bytes.saturating_sub(look.bytes);
        self.counts.budget.over(&self.url, over);
        self.tell_over(over);
        Ok(look)
    }

    /// Drops the rows of a partition; returns how many this process dropped.
    async fn drop(&self, partition: &Partition) -> Result<u64, InsertError> {
        let (mut rows, mut bytes) = (0, 0);
        let outcome = self.drop_parts(partition, &mut rows, &mut bytes).await;
        if rows > 0 {
            let Partition {
                table,
                id,
                oldest,
                newest,
                ..
            } = partition;
            self.counts.budget.expired(Group::of(table), rows, bytes);
            warn!(
                server = self.url,
                %table,
                partition = %id,
                rows,
                bytes,
                oldest = %time(*oldest),
                newest = %time(*newest),
                "store.budget is used up: the oldest partition was dropped"
            );
        }
        outcome.map(|()| rows)
    }

    /// Part by part: of two collectors that drop the same, each part fails for one of them.
    async fn drop_parts(
        &self,
        partition: &Partition,
        rows: &mut u64,
        bytes: &mut u64,
    ) -> Result<(), InsertError> {
        let Partition { table, id, .. } = partition;
        let place = format!(
            "{}.{}",
            schema::quoted(&self.database),
            schema::quoted(table)
        );
        // A merge or a late insert may make new parts meanwhile; they are found the next time.
        for _ in 0..ROUNDS_MAX {
            let parts = self.client.query(PARTS);
            let parts = parts.bind(&self.database).bind(table).bind(id);
            let parts: Vec<Part> = parts.fetch_all().await?;
            if parts.is_empty() {
                break;
            }
            for part in parts {
                // ClickHouse guards large partitions (50 GB) from people who mistype.
                let sql = format!(
                    "ALTER TABLE {place} DROP PART '{}' SETTINGS max_partition_size_to_drop = 0",
                    part.name.replace('\\', "\\\\").replace('\'', "\\'")
                );
                let dropped = self.client.query_raw(&sql).execute().await;
                match dropped.map_err(InsertError::from) {
                    Ok(()) => {
                        *rows += part.row_count;
                        *bytes += part.bytes;
                    }
                    Err(error) if is_left_to_others(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn told_failure(&mut self, error: Option<InsertError>) {
        match error {
            Some(error) if !self.told.failure => {
                self.told.failure = true;
                warn!(
                    server = self.url,
                    %error,
                    remedy = remedy(&error),
                    "store.budget cannot be kept at the moment"
                );
            }
            Some(_) => {}
            None if self.told.failure => {
                self.told.failure = false;
                info!(server = self.url, "store.budget is kept again");
            }
            None => {}
        }
    }

    fn tell_over(&mut self, over_bytes: u64) {
        if over_bytes > 0 && !self.told.over {
            error!(
                server = self.url,
                over_bytes,
                remedy = "raise store.budget.max_bytes or free the disk of other things; shorter \
                          store.partition leaves less",
                "store.budget is exceeded, and only the newest partition of each table, and what \
                 is ahead of the clock, are left"
            );
        }
        self.told.over = over_bytes > 0;
    }

    /// A drop should not take much of what the budget can hold.
    fn tell_coarse(&mut self, usage: &Usage) {
        let flows = usage
            .partitions
            .iter()
            .filter(|one| Group::of(&one.table) == Group::Flows);
        let largest = flows.map(|one| one.bytes).max().unwrap_or(0);
        let bytes_max = self.limits.bytes_max.unwrap_or(u64::MAX);
        if largest > bytes_max / STEPS_MIN && !self.told.coarse {
            self.told.coarse = true;
            warn!(
                server = self.url,
                partition_bytes = largest,
                bytes_max,
                remedy = "raise store.budget.max_bytes, or have flows made with a shorter \
                          store.partition",
                "a partition of flows is large for store.budget, which drops whole ones"
            );
        }
    }
}

impl Limits {
    /// Bytes that are too much.
    fn excess(self, usage: &Usage) -> u64 {
        let above = usage
            .bytes()
            .saturating_sub(self.bytes_max.unwrap_or(u64::MAX));
        let free = usage.disk_free_bytes + usage.bytes_leaving();
        above.max(self.free_min.saturating_sub(free))
    }
}

/// The partitions to drop so that `excess` bytes become free, in order; fewer bytes where only the
/// newest of each table, and those that begin ahead of now, are left. `kept` is the retention of a
/// table in seconds.
fn choose<'a>(
    usage: &'a Usage,
    tables: &[String],
    excess: u64,
    kept: impl Fn(&str) -> u64,
) -> Vec<&'a Partition> {
    let mut all: Vec<_> = usage
        .partitions
        .iter()
        .filter(|one| one.row_count > 0 && tables.contains(&one.table))
        .map(|one| {
            (
                one,
                u64::from(usage.now.saturating_sub(one.newest)),
                kept(&one.table),
            )
        })
        .collect();
    let newest = |one: &Partition| {
        let same = usage
            .partitions
            .iter()
            .filter(|other| other.table == one.table && other.oldest <= usage.now);
        same.map(|other| other.newest).max()
    };
    all.retain(|(one, ..)| Some(one.newest) < newest(one));
    // The age as a share of the retention, without rounding.
    let share = |age: u64, of: u64| u128::from(age) * u128::from(of);
    all.sort_by(|(one, age, kept), (other, other_age, other_kept)| {
        let by_share = share(*other_age, *kept).cmp(&share(*age, *other_kept));
        by_share.then_with(|| (&one.table, &one.id).cmp(&(&other.table, &other.id)))
    });
    let mut freed = 0;
    let needed = all.into_iter().map_while(|(one, ..)| {
        let is_needed = freed < excess;
        freed += one.bytes + one.bytes_leaving;
        is_needed.then_some(one)
    });
    needed.collect()
}

#[derive(Row, Deserialize)]
struct Part {
    name: String,
    row_count: u64,
    bytes: u64,
}

fn time(seconds: u32) -> String {
    let time = Timestamp::from_second(i64::from(seconds));
    time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

const PARTS: &str = "SELECT name, rows AS row_count, bytes_on_disk AS bytes FROM system.parts \
     WHERE database = ? AND table = ? AND partition_id = ? AND active AND rows > 0 \
     ORDER BY name LIMIT 1000";

/// Whether somebody else dropped or merged the part, or is at it.
fn is_left_to_others(error: &InsertError) -> bool {
    matches!(
        error.code,
        Some(NO_SUCH_DATA_PART | PART_IS_TEMPORARILY_LOCKED)
    )
}

fn remedy(error: &InsertError) -> &'static str {
    match error.code {
        Some(ACCESS_DENIED) => {
            "let store.user SELECT system.parts, system.detached_parts and system.disks, and ALTER \
             DELETE its database"
        }
        _ => error.remedy(),
    }
}

/// <https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp>
const NO_SUCH_DATA_PART: u32 = 232;
const PART_IS_TEMPORARILY_LOCKED: u32 = 384;

/// How often the parts of a partition are read again while it is dropped.
const ROUNDS_MAX: usize = 8;

/// A budget that holds fewer of the largest partitions is told.
const STEPS_MIN: u64 = 8;

/// Longest look; dropping a hundred partitions takes seconds.
const LOOK_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
