//! What a host must have: cores, memory and disk of so many flows/s for so many days.
//!
//! In: a [`Demand`]. Out: a [`Plan`], computed from the figures of [`constants`] and from nothing
//! else, so a plan is as good as they are. Nothing here looks at the host it runs on.

pub mod constants;
mod text;

#[cfg(test)]
mod tests;

pub use text::{json, table, text};

use std::time::Duration;

use serde::Serialize;

use crate::config::{Group, Store};
use constants::{Figure, Kept};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Demand {
    flows_per_second: u64,
    days: u64,
}

/// A demand that no host is built for, most likely a slip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absurd {
    /// No flows, or more than [`FLOWS_PER_SECOND_MAX`].
    #[error(
        "--flows-per-second: {0} is no rate to plan for; allowed: 1 to {max}; \
         give the mean of a day",
        max = FLOWS_PER_SECOND_MAX
    )]
    FlowsPerSecond(u64),
    /// No day, or more than [`DAYS_MAX`].
    #[error(
        "--days: {0} is no time to keep flows for; allowed: 1 to {max}; give whole days",
        max = DAYS_MAX
    )]
    Days(u64),
}

/// A hundred shards of [`constants::SHARD_RATE`].
pub const FLOWS_PER_SECOND_MAX: u64 = 100_000_000;
/// Ten years.
pub const DAYS_MAX: u64 = 3_650;

impl Demand {
    /// `flows_per_second` on average, each kept for `days`.
    ///
    /// # Errors
    /// When either is 0 or beyond what can be planned for.
    pub fn new(flows_per_second: u64, days: u64) -> Result<Self, Absurd> {
        if !(1..=FLOWS_PER_SECOND_MAX).contains(&flows_per_second) {
            return Err(Absurd::FlowsPerSecond(flows_per_second));
        }
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(Absurd::Days(days));
        }
        Ok(Self {
            flows_per_second,
            days,
        })
    }
}

/// Hosts that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hosts {
    /// How many.
    pub count: u64,
    /// Of each.
    pub cores: u64,
    /// Of each; none where nobody has measured it.
    pub memory_bytes: Option<u64>,
}

/// Bytes on the disk, of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `flows`.
    pub rows_bytes: u64,
    /// Rollups that are kept as long as `flows`, and those that wait to be folded.
    pub rollups_bytes: u64,
    /// Both, with room for merges and free space.
    pub bytes: u64,
    /// How long tables by minute are kept where the configuration says nothing of them.
    pub default_minute_days: u64,
    /// The same of tables by hour.
    pub default_hour_days: u64,
    /// As `bytes`, with rollups kept that long.
    pub bytes_with_default_rollups: u64,
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// For what.
    #[serde(flatten)]
    pub demand: Demand,
    /// The rate that cores are planned for.
    pub peak_flows_per_second: u64,
    /// Rows of `flows`.
    pub rows: u64,
    /// Cores that collectors keep busy on average.
    pub collector_cores_busy: f64,
    /// Cores that ClickHouse keeps busy on average, without questions.
    pub clickhouse_cores_busy: f64,
    /// In all shards.
    pub disk: Disk,
    /// For how long a full spool of the default size holds back what comes, one a collector.
    pub spool_holds_s: u64,
    /// Hosts with a collector.
    pub collectors: Hosts,
    /// Hosts with a ClickHouse server; none where it is embedded in the collector.
    pub clickhouse: Option<Hosts>,
    /// Into how many parts the rows are dealt out.
    pub shards: u64,
}

impl Plan {
    /// What `demand` takes.
    #[must_use]
    pub fn new(demand: Demand) -> Self {
        let rate = demand.flows_per_second as f64;
        let peak = rate * constants::PEAK.value;
        let collector_us = constants::COLLECTOR_CPU.value;
        let clickhouse_us = constants::CLICKHOUSE_CPU.value;
        let (collectors, clickhouse, shards) = hosts(
            peak,
            cores(peak, collector_us),
            cores(peak, clickhouse_us) * (1.0 + constants::QUESTIONS.value),
        );
        let spool = Store::default().spool.max_bytes.as_u64() as f64;
        let spooled_a_second = rate * constants::BLOCK_ROW.value / collectors.count as f64;
        Self {
            demand,
            peak_flows_per_second: peak.round() as u64,
            rows: demand.flows_per_second * SECONDS_A_DAY * demand.days,
            collector_cores_busy: rate * collector_us / MICROSECONDS
                + collectors.count as f64 * constants::COLLECTOR_IDLE.value,
            clickhouse_cores_busy: rate * clickhouse_us / MICROSECONDS
                + shards as f64 * constants::CLICKHOUSE_IDLE.value,
            disk: disk(demand),
            spool_holds_s: (spool / spooled_a_second) as u64,
            collectors,
            clickhouse,
            shards,
        }
    }

    /// Cores that are busy on average, without questions.
    #[must_use]
    pub fn cores_busy(&self) -> f64 {
        self.collector_cores_busy + self.clickhouse_cores_busy
    }
}

/// Cores to plan for `rate` flows/s of `cpu_us` each.
fn cores(rate: f64, cpu_us: f64) -> f64 {
    rate * cpu_us / MICROSECONDS / constants::CORE_USE.value
}

/// Collectors, ClickHouse servers and shards. One host does as long as one was measured to do;
/// then ClickHouse gets its own, and beyond a shard's rate several shards of two replicas each.
fn hosts(peak: f64, collector: f64, clickhouse: f64) -> (Hosts, Option<Hosts>, u64) {
    let mib = constants::MIB;
    let store = Store::default();
    let collector_bytes = constants::COLLECTOR_MEMORY.value * mib + store.queue_max.as_u64() as f64;
    let of = |count: u64, cores: f64, memory_bytes: Option<f64>| Hosts {
        count,
        cores: (cores.ceil() as u64).max(constants::CORES_MIN.value as u64),
        memory_bytes: memory_bytes.map(memory),
    };
    if peak <= constants::ONE_HOST_RATE.value {
        let engine = store.embedded.memory_max.as_u64() as f64;
        let both = of(1, collector + clickhouse, Some(collector_bytes + engine));
        return (both, None, 1);
    }
    let shards = (peak / constants::SHARD_RATE.value).ceil();
    if shards <= 1.0 {
        let collectors = of(1, collector, Some(collector_bytes));
        return (collectors, Some(of(1, clickhouse, None)), 1);
    }
    // One more than needed, so that any one may die.
    let by_cores = collector / constants::COLLECTOR_CORES.value;
    let by_encoder = peak / constants::ENCODER_RATE.value;
    let needed = by_cores.max(by_encoder).ceil() as u64;
    let collectors = of(
        needed + 1,
        constants::COLLECTOR_CORES.value,
        Some(collector_bytes),
    );
    let replicas = constants::REPLICAS.value as u64 * shards as u64;
    let servers = of(replicas, clickhouse / shards, None);
    (collectors, Some(servers), shards as u64)
}

/// The memory of a host whose processes take `bytes`: the next power of two GiB that leaves room.
fn memory(bytes: f64) -> u64 {
    let gib = 1024.0 * constants::MIB;
    let least = ((bytes + constants::HOST_MEMORY.value * gib) / gib).ceil() as u64;
    least.next_power_of_two() << 30
}

fn disk(demand: Demand) -> Disk {
    let kept = Store {
        retention: Duration::from_secs(demand.days * SECONDS_A_DAY),
        ..Store::default()
    };
    let default_days = |group| kept.retention_of_group(group).as_secs() / SECONDS_A_DAY;
    let rate = demand.flows_per_second as f64;
    let rows = rate * (SECONDS_A_DAY * demand.days) as f64 * constants::ROW.value;
    let rollups = rollup_bytes(rate, kept_for(demand.days, demand.days));
    let minute_days = default_days(Group::RollupMinute);
    let hour_days = default_days(Group::RollupHour);
    let by_default = rollup_bytes(rate, kept_for(minute_days, hour_days));
    let room = constants::ROOM.value;
    Disk {
        rows_bytes: rows.round() as u64,
        rollups_bytes: rollups.round() as u64,
        bytes: ((rows + rollups) * room).round() as u64,
        default_minute_days: minute_days,
        default_hour_days: hour_days,
        bytes_with_default_rollups: ((rows + by_default) * room).round() as u64,
    }
}

/// Bytes of the rollups at `rate`, each table kept for so many `days`.
fn rollup_bytes(rate: f64, days: impl Fn(Kept) -> u64) -> f64 {
    let mib = |rollup: &constants::Rollup| rollup.mib_a_day * days(rollup.kept) as f64;
    let measured: f64 = constants::ROLLUPS.iter().map(mib).sum();
    measured * constants::MIB * rate / constants::ROLLUP_RATE.value
}

/// For how long each table is kept, where those by minute and by hour are kept so many days.
fn kept_for(minute_days: u64, hour_days: u64) -> impl Fn(Kept) -> u64 {
    move |kept| match kept {
        Kept::ByMinute => minute_days,
        Kept::ByHour => hour_days,
        Kept::Open => constants::OPEN_DAYS.value as u64,
    }
}

/// The mean rate up to which one host does.
fn one_host_max() -> f64 {
    constants::ONE_HOST_RATE.value / constants::PEAK.value
}

/// Every figure that a plan rests on; the rollups as two.
fn figures() -> impl Iterator<Item = Figure> {
    let is_open = |kept| kept == Kept::Open;
    let rate = constants::ROLLUP_RATE.value;
    let origin = constants::ROLLUP_RATE.origin;
    let kept = Figure {
        value: rollup_bytes(1.0, |kept| u64::from(!is_open(kept))) / SECONDS_A_DAY as f64,
        unit: "bytes",
        what: "rollups by minute and hour beside a row, kept as long",
        origin,
    };
    let open = Figure {
        value: rollup_bytes(rate, |kept| u64::from(is_open(kept))) / constants::MIB,
        unit: "MiB",
        what: "open rollups of a day at that rate, from which hours are folded",
        origin,
    };
    FIGURES.into_iter().copied().chain([kept, open])
}

/// All but the rollups.
const FIGURES: [&Figure; 20] = [
    &constants::ROW,
    &constants::ROLLUP_RATE,
    &constants::OPEN_DAYS,
    &constants::ROOM,
    &constants::COLLECTOR_CPU,
    &constants::CLICKHOUSE_CPU,
    &constants::COLLECTOR_IDLE,
    &constants::CLICKHOUSE_IDLE,
    &constants::CORE_USE,
    &constants::QUESTIONS,
    &constants::PEAK,
    &constants::CORES_MIN,
    &constants::COLLECTOR_MEMORY,
    &constants::HOST_MEMORY,
    &constants::BLOCK_ROW,
    &constants::ONE_HOST_RATE,
    &constants::SHARD_RATE,
    &constants::REPLICAS,
    &constants::COLLECTOR_CORES,
    &constants::ENCODER_RATE,
];
const SECONDS_A_DAY: u64 = 86_400;
const MICROSECONDS: f64 = 1e6;
