//! `[store]`: where rows go.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::tables::{Budget, Partition, Profile, RetentionOf};
use super::{Compression, LiveRetention, Secret, Tls, display};

/// Where rows go, as the file says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A server when `store.url` or `store.urls` names one, else the embedded ClickHouse.
    #[default]
    Auto,
    /// The embedded ClickHouse.
    Embedded,
    /// The server at `store.url`.
    Server,
    /// Nowhere: rows are encoded, compressed, counted as `store_null` and dropped.
    Null,
}

/// Where rows go, as [`Store::target`] decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTarget<'a> {
    /// The embedded ClickHouse.
    Embedded,
    /// The server at this address, the preferred one of several.
    Server(&'a str),
    /// Nowhere.
    Null,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `auto`, `embedded`, `server` or `null`.
    pub kind: StoreKind,
    /// A ClickHouse server, `http://host:8123` or `https://host:8443`; without it the embedded one.
    pub url: Option<String>,
    /// Several servers instead, the preferred one first. One is written to, until it fails.
    pub urls: Vec<String>,
    /// How long a preferred server must have answered before it is written to again.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub failback_after: Duration,
    /// The ClickHouse cluster that the servers belong to, as `remote_servers` names it. They are
    /// the replicas of one shard then, and rows go to its local tables.
    pub cluster: Option<String>,
    /// Database; made when it does not exist.
    pub database: String,
    /// User of the server.
    pub user: String,
    /// Password of the server's user. Better: `password_file`, or FLOWSLUICE_STORE_PASSWORD.
    pub password: Option<Secret>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// How long flows are kept, and whatever `retention_of` does not name; a multiple of the
    /// partitions' length keeps them no longer than that.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub retention: Duration,
    /// `auto`, `hour`, `3hours`, `6hours`, `12hours` or `day`: how long a partition of `flows` is.
    pub partition: Partition,
    /// `ssd` or `hdd`: the disk under the tables.
    pub profile: Profile,
    /// Compressed blocks held in memory while ClickHouse is slow or away; beyond, they wait in the
    /// spool.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub queue_max: ByteSize,
    /// `lz4` or `none`.
    pub compression: Compression,
    /// Inserts under way at once.
    pub inserts: usize,
    /// An insert without an answer for this long is tried again.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub insert_timeout: Duration,
    /// At stop, how long to wait until everything is stored. What is left waits in the spool for
    /// the next start; without a spool it is counted as lost.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub stop_timeout: Duration,
    /// What is kept longer or shorter than flows.
    pub retention_of: RetentionOf,
    /// What the tables may take of the disk.
    pub budget: Budget,
    /// What HTTPS believes and shows.
    pub tls: Tls,
    /// The embedded ClickHouse.
    pub embedded: Embedded,
    /// Blocks on the disk.
    pub spool: Spool,
    /// What a reload made of the retention.
    #[serde(skip)]
    pub live: LiveRetention,
}

impl Store {
    /// Where rows go. A `kind` that [`super::Config::validate`] refuses is taken as far as it can
    /// be: a server without an address has an empty one.
    #[must_use]
    pub fn target(&self) -> StoreTarget<'_> {
        match (self.kind, self.servers().next()) {
            (StoreKind::Auto, Some(url)) => StoreTarget::Server(url),
            (StoreKind::Auto, None) | (StoreKind::Embedded, _) => StoreTarget::Embedded,
            (StoreKind::Server, url) => StoreTarget::Server(url.unwrap_or_default()),
            (StoreKind::Null, _) => StoreTarget::Null,
        }
    }

    /// The spool's folder; none where nothing is kept on the disk.
    #[must_use]
    pub fn spool_dir(&self) -> Option<PathBuf> {
        if self.spool.max_bytes == ByteSize::b(0) || self.target() == StoreTarget::Null {
            return None;
        }
        Some(match self.spool.dir.as_os_str().is_empty() {
            true => self.embedded.data_dir.join("spool"),
            false => self.spool.dir.clone(),
        })
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Auto,
            url: None,
            urls: Vec::new(),
            failback_after: Duration::from_secs(30),
            cluster: None,
            database: "flowsluice".into(),
            user: "default".into(),
            password: None,
            password_file: None,
            retention: Duration::from_secs(30 * 24 * 3600),
            partition: Partition::Auto,
            profile: Profile::Ssd,
            queue_max: ByteSize::mib(64),
            compression: Compression::Lz4,
            inserts: 2,
            insert_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
            retention_of: RetentionOf::default(),
            budget: Budget::default(),
            tls: Tls::default(),
            embedded: Embedded::default(),
            spool: Spool::default(),
            live: LiveRetention::default(),
        }
    }
}

/// `[store.embedded]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embedded {
    /// `libchdb.so`; by default looked for beside the binary and in the usual library folders.
    pub library: Option<PathBuf>,
    /// Where tables, generated passwords and the engine's own configuration live.
    pub data_dir: PathBuf,
    /// Where ClickHouse listens for HTTP; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where ClickHouse listens for its native protocol; absent means not at all.
    pub tcp: Option<SocketAddr>,
    /// ClickHouse's `max_server_memory_usage`.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub memory_max: ByteSize,
}

impl Default for Embedded {
    fn default() -> Self {
        Self {
            library: None,
            data_dir: "/var/lib/flowsluice".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 8123)),
            tcp: None,
            memory_max: ByteSize::gib(2),
        }
    }
}

/// Which blocks are written to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolMode {
    /// Each one before it is sent: a collector that is killed loses only what is not in a block
    /// yet.
    #[default]
    Always,
    /// Those that `store.queue_max` has no room for, and at the stop those that are not stored.
    Overflow,
}

impl SpoolMode {
    /// As the configuration and `flowsluice check` write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Overflow => "overflow",
        }
    }
}

/// When a block is safe from a loss of power. None is lost when only the process dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolFsync {
    /// When the kernel thinks fit, half a minute later as a rule.
    Never,
    /// Within `store.spool.fsync_interval`. What was stored before that need not reach the disk.
    #[default]
    Interval,
    /// Before the next block is encoded.
    Always,
}

impl SpoolFsync {
    /// As the configuration and `flowsluice check` write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Interval => "interval",
            Self::Always => "always",
        }
    }
}

/// `[store.spool]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// The folder; empty takes `spool` in `store.embedded.data_dir`, whatever the store is.
    pub dir: PathBuf,
    /// `always` or `overflow`.
    pub mode: SpoolMode,
    /// Bytes of the blocks that wait; 0 does without a spool. A full one makes drops, counted as
    /// `spool_full`.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub max_bytes: ByteSize,
    /// `never`, `interval` or `always`.
    pub fsync: SpoolFsync,
    /// How old a block may be that a loss of power takes, where `fsync` is `interval`.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub fsync_interval: Duration,
    /// Bytes of the blocks that ClickHouse refused for good, and of files that cannot be read; in
    /// addition to `max_bytes`.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub quarantine_max: ByteSize,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            mode: SpoolMode::Always,
            max_bytes: ByteSize::gib(4),
            fsync: SpoolFsync::Interval,
            fsync_interval: Duration::from_secs(1),
            quarantine_max: ByteSize::gib(1),
        }
    }
}
