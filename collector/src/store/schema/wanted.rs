//! What the configuration wants of the tables.

use std::time::Duration;

use crate::config::{Group, Partition, Profile, Store, StoreTarget};

/// Parts whose tokens `flows` and the tables behind its views remember, so that a block that is
/// sent again is stored once. A collector needs a thousand (it sends nothing new behind a block
/// whose fate it does not know for so long), so ten may share a table. One takes some 250 bytes of
/// ClickHouse's memory a table.
pub const BLOCKS_REMEMBERED: u64 = 10_000;

/// What the tables are to be like.
#[derive(Clone, Debug)]
pub struct Wanted(Store);

impl Wanted {
    /// As the file says it.
    #[must_use]
    pub fn new(config: &Store) -> Self {
        Self(config.clone())
    }

    /// The cluster that the tables are on, if they are.
    pub(super) fn cluster(&self) -> Option<&str> {
        let cluster = self.0.cluster.as_deref();
        cluster.filter(|_| matches!(self.0.target(), StoreTarget::Server(_)))
    }

    /// How long the rows of a table are kept, in seconds.
    pub(super) fn retention_seconds_of(&self, table: &str) -> u64 {
        self.0.retention_for(table).as_secs().max(1)
    }

    /// The partition key of a table that is made, unless it is that of `sql/`.
    pub(super) fn partition_of(&self, table: &str) -> Option<String> {
        let length = self.0.partition_chosen();
        (is_flows(table) && length != Partition::Day).then(|| key_of(length))
    }

    /// The length of partitions that the file insists on.
    pub(super) fn partition_named(&self) -> Option<Partition> {
        (self.0.partition != Partition::Auto).then_some(self.0.partition)
    }

    /// Settings that a table is made with in place of those of `sql/`.
    pub(super) fn settings_of(&self, table: &str) -> Vec<(&'static str, u64)> {
        if !Group::of(table).follows_flows() {
            return Vec::new();
        }
        let mut settings = vec![(WINDOW, BLOCKS_REMEMBERED)];
        if self.0.profile == Profile::Hdd {
            settings.extend(HDD);
        }
        settings
    }

    /// What to do with a setting of an existing table that has the value `found`, and that `sql/`
    /// makes with `declared`. Settings that somebody has given a value of their own are left.
    pub(super) fn setting(
        &self,
        table: &str,
        name: &str,
        found: Option<u64>,
        declared: Option<u64>,
    ) -> Change {
        let wanted = self.settings_of(table);
        let wanted = wanted.iter().find(|(other, _)| *other == name);
        let wanted = wanted.map(|(_, value)| *value);
        if name == WINDOW {
            // Lowered it would forget what may still be sent again.
            return match wanted.filter(|wanted| found.is_none_or(|found| found < *wanted)) {
                Some(wanted) => Change::To(wanted),
                None => Change::Nothing,
            };
        }
        let hdd = HDD.iter().find(|(other, _)| *other == name);
        let is_ours = found == declared || found == hdd.map(|(_, value)| *value);
        match wanted.or(declared) {
            _ if !is_ours => Change::Nothing,
            target if target == found => Change::Nothing,
            Some(value) => Change::To(value),
            None => Change::ToDefault,
        }
    }
}

/// What to do with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    To(u64),
    /// What ClickHouse has without.
    ToDefault,
}

/// The partition key of `flows` with partitions of this length. ClickHouse writes it just so.
pub(super) fn key_of(length: Partition) -> String {
    match length.hours() {
        0 | 24 => "toDate(time_received)".into(),
        1 => "toStartOfHour(time_received)".into(),
        hours => format!("toStartOfInterval(time_received, toIntervalHour({hours}))"),
    }
}

/// Seconds for people: `30days`.
pub(super) fn shown(seconds: u64) -> String {
    crate::config::display::duration(Duration::from_secs(seconds))
}

/// Whether a table is the one whose partitions are as long as the configuration says.
pub(super) fn is_flows(table: &str) -> bool {
    table == "flows" || table == "flows_local"
}

/// How many tokens of blocks a table remembers.
pub(super) const WINDOW: &str = "non_replicated_deduplication_window";

/// All settings that follow the configuration.
pub(super) const SETTINGS: [&str; 3] = [WINDOW, HDD[0].0, HDD[1].0];

/// `store.profile = "hdd"`. A wide part of `flows` is some 250 files, each of which costs a seek to
/// make, to sync and to open again for a merge; below half a gigabyte, which a disk reads in three
/// seconds, one file is faster. A merge of 32 GiB holds the disk for some ten minutes; larger ones
/// gain nothing for queries, which read partitions one by one.
const HDD: [(&str, u64); 2] = [
    ("min_bytes_for_wide_part", 512 << 20),
    ("max_bytes_to_merge_at_max_space_in_pool", 32 << 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(profile: Profile) -> Wanted {
        Wanted::new(&Store {
            profile,
            ..Store::default()
        })
    }

    #[test]
    fn a_window_is_raised_and_never_lowered() {
        let change = |table, found| wanted(Profile::Ssd).setting(table, WINDOW, found, Some(1000));
        assert_eq!(change("flows", Some(1000)), Change::To(BLOCKS_REMEMBERED));
        assert_eq!(change("flows", None), Change::To(BLOCKS_REMEMBERED));
        assert_eq!(
            change("flows", Some(BLOCKS_REMEMBERED + 1)),
            Change::Nothing
        );
        assert_eq!(
            change("rollup_minute_x", Some(1000)),
            Change::To(BLOCKS_REMEMBERED)
        );
        assert_eq!(change("exporters", Some(1000)), Change::Nothing);
    }

    #[test]
    fn a_profile_comes_and_goes_and_leaves_what_an_operator_chose() {
        let (wide, merge) = (HDD[0].0, HDD[1].0);
        let (ssd, hdd) = (wanted(Profile::Ssd), wanted(Profile::Hdd));
        let declared = Some(134_217_728);
        assert_eq!(
            hdd.setting("flows", wide, declared, declared),
            Change::To(512 << 20)
        );
        assert_eq!(
            ssd.setting("flows", wide, Some(512 << 20), declared),
            Change::To(134_217_728)
        );
        assert_eq!(
            hdd.setting("flows", merge, None, None),
            Change::To(32 << 30)
        );
        assert_eq!(
            ssd.setting("flows", merge, Some(32 << 30), None),
            Change::ToDefault
        );
        assert_eq!(ssd.setting("flows", merge, None, None), Change::Nothing);
        for wanted in [&ssd, &hdd] {
            assert_eq!(
                wanted.setting("flows", wide, Some(7), declared),
                Change::Nothing
            );
        }
        assert_eq!(hdd.setting("exporters", merge, None, None), Change::Nothing);
    }
}
