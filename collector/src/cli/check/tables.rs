//! How long rows are kept, and what they may take of the disk.

use std::time::Duration;

use bytesize::ByteSize;
use flowsluice::config::{self, Config, Group, Partition, Profile, StoreTarget, display};
use flowsluice::store::window::WINDOW_PARTS_MIN;

use super::Report;

/// A rotating disk makes some ten seeks an insert, of the hundred that it can make in a second.
const HDD_AGE_MIN: Duration = Duration::from_secs(5);

impl Report {
    pub(super) fn tables(&mut self, config: &Config) {
        let store = &config.store;
        if store.target() == StoreTarget::Null {
            return;
        }
        for group in Group::ALL {
            let kept = display::duration(store.retention_of_group(group));
            let note = match group {
                Group::Flows => format!(
                    "{kept}, in partitions of {}",
                    length(store.partition_chosen())
                ),
                _ => kept,
            };
            self.line("retention", group.name(), &note);
        }
        self.budget(store);
        // Replicated tables have settings of their own.
        if store.cluster.is_none() {
            self.line(
                "window",
                &WINDOW_PARTS_MIN.to_string(),
                "non_replicated_deduplication_window of the tables at least, for each collector: \
                 so a block that is sent again is stored once",
            );
        }
        if store.profile == Profile::Hdd && config.batch.age_max < HDD_AGE_MIN {
            self.warnings.push(format!(
                "store.profile: hdd, and batch.age_max is {}: each insert costs a rotating disk \
                 some ten seeks; set it to {} or more",
                display::duration(config.batch.age_max),
                display::duration(HDD_AGE_MIN)
            ));
        }
        let limits = (store.budget.max_bytes, store.free_min_bytes());
        if let (StoreTarget::Embedded, (None, 0)) = (store.target(), limits) {
            self.warnings.push(
                "store.budget: neither max_bytes nor free_min is set: when the disk is full, \
                 ClickHouse takes no more flows"
                    .into(),
            );
        }
    }

    fn budget(&mut self, store: &config::Store) {
        let every = display::duration(store.budget.every);
        let free = match store.free_min_bytes() {
            0 => None,
            bytes => Some(display::bytes(ByteSize::b(bytes))),
        };
        let (limit, note) = match (store.budget.max_bytes, free) {
            (None, None) => ("none".into(), "rows go by their retention alone".into()),
            (None, Some(free)) => (
                format!("{free} left free"),
                format!("on ClickHouse's disks, looked at every {every}"),
            ),
            (Some(max), free) => {
                let free = free.map_or("no free space is kept".into(), |free| {
                    format!("and {free} free")
                });
                let max = display::bytes(max);
                (
                    format!("{max} at most"),
                    format!("{free}, looked at every {every}"),
                )
            }
        };
        self.line("budget", &limit, &note);
    }
}

fn length(partition: Partition) -> &'static str {
    match partition {
        Partition::Auto | Partition::Day => "a day",
        Partition::Hour => "an hour",
        Partition::Hours3 => "3 hours",
        Partition::Hours6 => "6 hours",
        Partition::Hours12 => "12 hours",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        let config = config::parse("f.toml", text).unwrap();
        let mut report = Report::default();
        report.tables(&config);
        report
    }

    #[test]
    fn retention_is_told_by_table_and_the_budget_with_what_it_leaves() {
        let found = report(
            "[store]\nretention = \"7days\"\n[store.retention_of]\nnames = \"1days\"\n\
             [store.budget]\nmax_bytes = \"100GiB\"\n",
        );
        for line in [
            "retention   flows                       7days, in partitions of 6 hours\n",
            "retention   rollup_minute               90days\n",
            "retention   rollup_hour                 400days\n",
            "retention   counters                    7days\n",
            "retention   names                       1days\n",
            "budget      100GiB at most              and 2GiB free, looked at every 30s\n",
        ] {
            assert!(found.text.contains(line), "{line}{}", found.text);
        }
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        let server = report("[store]\nurl = \"http://db:8123\"\n").text;
        assert!(
            server.contains("budget      none                        rows go by their retention"),
            "{server}"
        );
        let embedded = report("").text;
        for line in [
            "budget      2GiB left free              on ClickHouse's disks, looked at every 30s\n",
            "window      928                         non_replicated_deduplication_window of the",
        ] {
            assert!(embedded.contains(line), "{line}{embedded}");
        }
        let cluster = "[store]\nurl = \"http://db:8123\"\ncluster = \"main\"\n";
        assert!(!report(cluster).text.contains("window "));
        assert_eq!(report("[store]\nkind = \"null\"\n").text, "");
    }

    #[test]
    fn a_disk_that_fills_up_and_one_that_seeks_too_much_are_warned_of() {
        let hdd = "[batch]\nage_max = \"1s\"\n[store]\nprofile = \"hdd\"\n";
        let warnings = report(&format!("{hdd}[store.budget]\nfree_min = \"0B\"\n")).warnings;
        assert!(warnings[0].contains("batch.age_max is 1s"), "{warnings:?}");
        assert!(
            warnings[1].contains("neither max_bytes nor free_min"),
            "{warnings:?}"
        );
        let by_default = "[store]\nprofile = \"hdd\"\n";
        assert!(report(by_default).warnings.is_empty());
    }
}
