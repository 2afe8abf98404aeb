//! How the tables are kept: retention by group, partitions, the disk's kind and budget.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{Store, StoreTarget, display};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tables that are kept equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `flows`, and every table that is in no other group.
    Flows,
    /// `rollup_minute_*`.
    RollupMinute,
    /// `rollup_hour_*`.
    RollupHour,
    /// `interface_counters`, `discarded_packets`.
    Counters,
    /// `exporters`, `exporter_gaps`.
    Exporters,
    /// `interfaces`, `applications`, `vrfs`, `hosts`.
    Names,
    /// `collector_*`: what the collector says of itself.
    Collector,
}

impl Group {
    /// In the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Flows,
        Self::RollupMinute,
        Self::RollupHour,
        Self::Counters,
        Self::Exporters,
        Self::Names,
        Self::Collector,
    ];

    /// The group of a table, by the table's name, which ends in `_local` on a cluster.
    #[must_use]
    pub fn of(table: &str) -> Self {
        match table.strip_suffix("_local").unwrap_or(table) {
            "interface_counters" | "discarded_packets" => Self::Counters,
            "exporters" | "exporter_gaps" => Self::Exporters,
            "interfaces" | "applications" | "vrfs" | "hosts" => Self::Names,
            name if name.starts_with("rollup_minute") => Self::RollupMinute,
            name if name.starts_with("rollup_hour") => Self::RollupHour,
            name if name.starts_with("collector_") => Self::Collector,
            _ => Self::Flows,
        }
    }

    /// As `store.retention_of` and the metrics write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::RollupMinute => "rollup_minute",
            Self::RollupHour => "rollup_hour",
            Self::Counters => "counters",
            Self::Exporters => "exporters",
            Self::Names => "names",
            Self::Collector => "collector",
        }
    }

    /// Whether every insert into `flows` may write into its tables.
    #[must_use]
    pub fn follows_flows(self) -> bool {
        matches!(self, Self::Flows | Self::RollupMinute | Self::RollupHour)
    }
}

/// `[store.retention_of]`: what is kept longer or shorter than flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionOf {
    /// Tables by minute; absent: 90 days, or `store.retention` where that is longer.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub rollup_minute: Option<Duration>,
    /// Tables by hour; absent: 400 days, or `store.retention` where that is longer.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub rollup_hour: Option<Duration>,
    /// Counters of interfaces and discarded packets; absent: `store.retention`.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub counters: Option<Duration>,
    /// Exporters and what is missing of their flows; absent: `store.retention`.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub exporters: Option<Duration>,
    /// Names of interfaces, applications, VRFs and hosts since they were last seen; absent:
    /// `store.retention`.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub names: Option<Duration>,
    /// What the collector says of itself; absent: `store.retention`.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub collector: Option<Duration>,
}

impl RetentionOf {
    /// What the file says of a group.
    #[must_use]
    pub fn named(&self, group: Group) -> Option<Duration> {
        match group {
            Group::Flows => None,
            Group::RollupMinute => self.rollup_minute,
            Group::RollupHour => self.rollup_hour,
            Group::Counters => self.counters,
            Group::Exporters => self.exporters,
            Group::Names => self.names,
            Group::Collector => self.collector,
        }
    }
}

/// `store.partition`: how long the partitions of `flows` are. Decided when the table is made:
/// ClickHouse cannot alter it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Partition {
    /// By the retention: see [`Store::partition_chosen`]; an existing table stays as it is.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// An hour.
    #[serde(rename = "hour")]
    Hour,
    /// Three hours.
    #[serde(rename = "3hours")]
    Hours3,
    /// Six hours.
    #[serde(rename = "6hours")]
    Hours6,
    /// Twelve hours.
    #[serde(rename = "12hours")]
    Hours12,
    /// A day.
    #[serde(rename = "day")]
    Day,
}

impl Partition {
    /// Those that have a length, the longest first.
    pub const LENGTHS: [Self; 5] = [
        Self::Day,
        Self::Hours12,
        Self::Hours6,
        Self::Hours3,
        Self::Hour,
    ];

    /// Hours; 0 for `auto`.
    #[must_use]
    pub fn hours(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Hour => 1,
            Self::Hours3 => 3,
            Self::Hours6 => 6,
            Self::Hours12 => 12,
            Self::Day => 24,
        }
    }

    /// As the file writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Hour => "hour",
            Self::Hours3 => "3hours",
            Self::Hours6 => "6hours",
            Self::Hours12 => "12hours",
            Self::Day => "day",
        }
    }
}

/// `store.profile`: the disk under the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Many small accesses cost little.
    #[default]
    Ssd,
    /// Each seek costs as much as a megabyte read: fewer and larger files, fewer merges at once.
    Hdd,
}

/// `[store.budget]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Most bytes on disk of everything that is counted; absent: no limit.
    #[serde(with = "maybe_bytes", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Free space that is left on ClickHouse's disks; absent: 2 GiB for the embedded ClickHouse,
    /// none for a server, whose disk may be filled by others.
    #[serde(with = "maybe_bytes", skip_serializing_if = "Option::is_none")]
    pub free_min: Option<ByteSize>,
    /// How often it is looked at.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub every: Duration,
    /// Further files and folders of this host that count.
    pub paths: Vec<PathBuf>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_bytes: None,
            free_min: None,
            every: Duration::from_secs(30),
            paths: Vec::new(),
        }
    }
}

impl Store {
    /// How long the rows of `table` are kept.
    #[must_use]
    pub fn retention_for(&self, table: &str) -> Duration {
        self.retention_of_group(Group::of(table))
    }

    /// How long the rows of a group's tables are kept.
    #[must_use]
    pub fn retention_of_group(&self, group: Group) -> Duration {
        let least = match group {
            Group::RollupMinute => 90 * DAY,
            Group::RollupHour => 400 * DAY,
            _ => Duration::ZERO,
        };
        let live = self.live.get();
        let (retention, retention_of) = match &live {
            Some((retention, retention_of)) => (*retention, retention_of),
            None => (self.retention, &self.retention_of),
        };
        retention_of.named(group).unwrap_or(retention.max(least))
    }

    /// The length of the partitions of `flows` when it is made now. `auto` takes the longest that
    /// cuts the retention into at least [`PARTITIONS_MIN`] pieces: whoever has many flows keeps
    /// them for fewer days, and retention and budget take steps of 4 % at most.
    #[must_use]
    pub fn partition_chosen(&self) -> Partition {
        if self.partition != Partition::Auto {
            return self.partition;
        }
        let mut lengths = Partition::LENGTHS.into_iter();
        let fits = lengths.find(|length| self.partitions(*length) >= PARTITIONS_MIN);
        fits.unwrap_or(Partition::Hour)
    }

    /// Partitions of `flows` within the retention.
    #[must_use]
    pub fn partitions(&self, length: Partition) -> u64 {
        self.retention.as_secs() / (u64::from(length.hours().max(1)) * 3600)
    }

    /// `store.budget.free_min` in bytes; 0 is none.
    #[must_use]
    pub fn free_min_bytes(&self) -> u64 {
        let default = match self.target() {
            StoreTarget::Embedded => FREE_MIN_EMBEDDED,
            StoreTarget::Server(_) | StoreTarget::Null => ByteSize::b(0),
        };
        self.budget.free_min.unwrap_or(default).as_u64()
    }
}

/// Partitions that `auto` wants within the retention.
const PARTITIONS_MIN: u64 = 24;

/// Free space that an embedded ClickHouse leaves by itself: more than what comes in between two
/// looks at 100,000 flows/s (60 MiB) and what a usual merge takes.
const FREE_MIN_EMBEDDED: ByteSize = ByteSize::gib(2);

/// An optional time with its unit.
mod maybe_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use super::display;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => display::serialize_duration(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        humantime_serde::deserialize(deserializer).map(Some)
    }
}

/// An optional size with its unit.
mod maybe_bytes {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::display;

    pub(super) fn serialize<S: Serializer>(
        size: &Option<ByteSize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => display::serialize_bytes(size, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ByteSize>, D::Error> {
        ByteSize::deserialize(deserializer).map(Some)
    }
}
