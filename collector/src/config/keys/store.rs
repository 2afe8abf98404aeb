//! The keys of `[store]`.

use super::{Key, Kind, key};

const COMPRESSIONS: &[&str] = &["lz4", "none"];
const KINDS: &[&str] = &["auto", "embedded", "server", "null"];
const SPOOL_MODES: &[&str] = &["always", "overflow"];
const SPOOL_FSYNCS: &[&str] = &["never", "interval", "always"];

/// In the order of the file.
pub(super) const KEYS: &[Key] = &[
    key("store", Kind::Table),
    key("store.kind", Kind::Word(KINDS)),
    key("store.url", Kind::Text),
    key("store.urls", Kind::Texts),
    key("store.failback_after", Kind::Duration),
    key("store.cluster", Kind::Text),
    key("store.database", Kind::Text),
    key("store.user", Kind::Text),
    key("store.password", Kind::Secret),
    key("store.password_file", Kind::Path),
    key("store.retention", Kind::Duration),
    key("store.queue_max", Kind::Bytes),
    key("store.compression", Kind::Word(COMPRESSIONS)),
    key("store.inserts", Kind::Count),
    key("store.insert_timeout", Kind::Duration),
    key("store.stop_timeout", Kind::Duration),
    key("store.tls", Kind::Table),
    key("store.tls.ca", Kind::Path),
    key("store.tls.cert", Kind::Path),
    key("store.tls.key", Kind::Path),
    key("store.embedded", Kind::Table),
    key("store.embedded.library", Kind::Path),
    key("store.embedded.data_dir", Kind::Path),
    key("store.embedded.http", Kind::Socket),
    key("store.embedded.tcp", Kind::Socket),
    key("store.embedded.memory_max", Kind::Bytes),
    key("store.spool", Kind::Table),
    key("store.spool.dir", Kind::Path),
    key("store.spool.mode", Kind::Word(SPOOL_MODES)),
    key("store.spool.max_bytes", Kind::Bytes),
    key("store.spool.fsync", Kind::Word(SPOOL_FSYNCS)),
    key("store.spool.fsync_interval", Kind::Duration),
    key("store.spool.quarantine_max", Kind::Bytes),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SpoolFsync, SpoolMode, StoreKind};

    #[test]
    fn the_words_are_those_that_the_types_know() {
        let word = |word: &str| toml::Value::String(word.to_owned());
        for name in KINDS {
            let _: StoreKind = word(name).try_into().unwrap();
        }
        for name in SPOOL_MODES {
            let mode: SpoolMode = word(name).try_into().unwrap();
            assert_eq!(mode.name(), *name);
        }
        for name in SPOOL_FSYNCS {
            let fsync: SpoolFsync = word(name).try_into().unwrap();
            assert_eq!(fsync.name(), *name);
        }
    }
}
