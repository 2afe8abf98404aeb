//! The keys of `[store]`.

use super::{Key, Kind, key};

const KINDS: &[&str] = &["auto", "embedded", "server", "null"];

/// In the order of the file.
pub(super) const KEYS: &[Key] = &[
    key("store", Kind::Table),
    key("store.kind", Kind::Word(KINDS)),
    key("store.url", Kind::Text),
    key("store.database", Kind::Text),
    key("store.user", Kind::Text),
    key("store.password", Kind::Secret),
    key("store.password_file", Kind::Path),
    key("store.retention", Kind::Duration),
    key("store.queue_max", Kind::Bytes),
    key("store.inserts", Kind::Count),
    key("store.insert_timeout", Kind::Duration),
    key("store.stop_timeout", Kind::Duration),
    key("store.embedded", Kind::Table),
    key("store.embedded.library", Kind::Path),
    key("store.embedded.data_dir", Kind::Path),
    key("store.embedded.http", Kind::Socket),
    key("store.embedded.tcp", Kind::Socket),
    key("store.embedded.memory_max", Kind::Bytes),
];
