//! The keys of `[store]` that say how the tables are kept.

use super::{Key, Kind, key};

const PARTITIONS: &[&str] = &["auto", "hour", "3hours", "6hours", "12hours", "day"];
const PROFILES: &[&str] = &["ssd", "hdd"];

/// In the order of the file.
pub(super) const KEYS: &[Key] = &[
    key("store.partition", Kind::Word(PARTITIONS)),
    key("store.profile", Kind::Word(PROFILES)),
    key("store.retention_of", Kind::Table),
    key("store.retention_of.rollup_minute", Kind::Duration),
    key("store.retention_of.rollup_hour", Kind::Duration),
    key("store.retention_of.counters", Kind::Duration),
    key("store.retention_of.exporters", Kind::Duration),
    key("store.retention_of.names", Kind::Duration),
    key("store.retention_of.collector", Kind::Duration),
    key("store.budget", Kind::Table),
    key("store.budget.max_bytes", Kind::Bytes),
    key("store.budget.free_min", Kind::Bytes),
    key("store.budget.every", Kind::Duration),
    key("store.budget.paths", Kind::Texts),
];

/// `store` with nothing of this absent.
#[cfg(test)]
pub(super) fn full(mut store: crate::config::Store) -> crate::config::Store {
    let day = Some(std::time::Duration::from_secs(86_400));
    store.retention_of = crate::config::RetentionOf {
        rollup_minute: day,
        rollup_hour: day,
        counters: day,
        exporters: day,
        names: day,
        collector: day,
    };
    store.budget.max_bytes = Some(bytesize::ByteSize::gib(100));
    store.budget.free_min = Some(bytesize::ByteSize::gib(1));
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Group, Partition, Profile, Store};

    #[test]
    fn the_words_are_those_that_the_types_know() {
        let word = |word: &str| toml::Value::String(word.to_owned());
        for name in PARTITIONS {
            let partition: Partition = word(name).try_into().unwrap();
            assert_eq!(partition.name(), *name);
        }
        for name in PROFILES {
            let _: Profile = word(name).try_into().unwrap();
        }
    }

    #[test]
    fn every_group_but_flows_has_a_key_that_it_follows() {
        let store = full(Store::default());
        for group in Group::ALL {
            let key = format!("store.retention_of.{}", group.name());
            let is_key = KEYS.iter().any(|other| other.path == key);
            assert_eq!(is_key, group != Group::Flows, "{key}");
            assert_eq!(store.retention_of.named(group).is_some(), is_key, "{key}");
        }
    }
}
