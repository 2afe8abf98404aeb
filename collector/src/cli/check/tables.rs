//! How long rows are kept, and what they may take of the disk.

use std::time::Duration;

use flowsluice::config::{Config, Group, Partition, Profile, StoreTarget, display};

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
        let max = store.budget.max_bytes;
        let max = max.map_or("no limit".into(), |bytes| {
            format!("{} at most", display::bytes(bytes))
        });
        let free = store.free_min_bytes();
        let note = match free {
            0 => "no free space is kept".into(),
            _ => format!("and {} free", display::bytes(bytesize::ByteSize::b(free))),
        };
        let every = display::duration(store.budget.every);
        match (store.budget.max_bytes, free) {
            (None, 0) => self.line("budget", "no limit", "of the disk"),
            _ => self.line("budget", &max, &format!("{note}, looked at every {every}")),
        }
        if store.profile == Profile::Hdd && config.batch.age_max < HDD_AGE_MIN {
            self.warnings.push(format!(
                "store.profile: hdd, and batch.age_max is {}: each insert costs a rotating disk \
                 some ten seeks; set it to {} or more",
                display::duration(config.batch.age_max),
                display::duration(HDD_AGE_MIN)
            ));
        }
        if let (StoreTarget::Embedded, None, 0) = (store.target(), store.budget.max_bytes, free) {
            self.warnings.push(
                "store.budget: neither max_bytes nor free_min is set: when the disk is full, \
                 ClickHouse takes no more flows"
                    .into(),
            );
        }
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
    use flowsluice::config;

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
            server.contains("budget      no limit                    of the disk\n"),
            "{server}"
        );
        assert_eq!(report("[store]\nkind = \"null\"\n").text, "");
    }

    #[test]
    fn a_disk_that_fills_up_and_one_that_seeks_too_much_are_warned_of() {
        let warnings =
            report("[store]\nprofile = \"hdd\"\n[store.budget]\nfree_min = \"0B\"\n").warnings;
        assert!(warnings[0].contains("batch.age_max is 1s"), "{warnings:?}");
        assert!(
            warnings[1].contains("neither max_bytes nor free_min"),
            "{warnings:?}"
        );
        let raised = "[store]\nprofile = \"hdd\"\n[batch]\nage_max = \"5s\"\n";
        assert!(report(raised).warnings.is_empty());
    }
}
