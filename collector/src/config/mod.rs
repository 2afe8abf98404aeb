//! The configuration: one struct a stage, every default and unit written down, no unknown keys.
//!
//! The comments of the fields are what an operator reads; `deploy/flowsluice.toml` says the same.
//! [`load`] reads a file and tells everything that is wrong with it, [`display`] writes one,
//! [`memory`] adds up what it will take. [`minimal`] is a file to begin with, [`json_schema`] what
//! editors check one by.

mod changed;
mod decode;
pub mod display;
mod documented;
mod enrich;
mod error;
mod http;
mod json_schema;
mod keys;
mod limit;
mod live;
mod load;
pub mod memory;
pub mod minimal;
mod secret;
mod servers;
mod store;
mod tables;
mod tcp;
mod tee;
mod validate;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use decode::{Decode, ExporterOverride, Protocol, TemplateScope, TimeSource, Tunnels};
pub use enrich::{
    ApplicationType, Boundary, Dns, DnsNames, Enrich, ExporterLabels, Geo, GeoUpdate,
    InterfaceRule, Snmp, SnmpAuth, SnmpPrivacy, SnmpTarget, SnmpVersion, ThreatList,
};
pub use error::{ConfigError, Problem};
pub use http::{Http, HttpTls, PAGE_PASSWORD_MIN, TOKEN_VARIABLE};
pub use json_schema::json_schema;
pub use limit::{ExporterLimit, Limit};
pub use live::LiveRetention;
pub use load::{DEFAULT_PATH, load, load_or_default, locate, parse};
pub use secret::{
    FirstLineError, PASSWORD_MAX, PASSWORD_VARIABLE, SecretError, first_line, first_line_text,
};
pub use servers::{Compression, Tls, USER_VARIABLE};
pub use store::{Embedded, Spool, SpoolFsync, SpoolMode, Store, StoreKind, StoreTarget};
pub use tables::{Budget, Group, Partition, Profile, RetentionOf};
pub use tcp::{Tcp, TcpListener};
pub use tee::Tee;
pub use validate::{BATCH_ROWS_MAX, BURST_MAX, LISTENERS_MAX, WORKERS_MAX};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sockets, workers and buffers.
    pub receive: Receive,
    /// Protocols and the bounds of decoder state.
    pub decode: Decode,
    /// What is known of addresses and exporters beside their flows.
    pub enrich: Enrich,
    /// How rows are gathered into blocks.
    pub batch: Batch,
    /// Where rows go.
    pub store: Store,
    /// Metrics, health, status and the page.
    pub http: Http,
    /// What the collector says of itself.
    pub log: Log,
}

/// How datagrams are taken from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiveMode {
    /// The fastest that the kernel allows here.
    #[default]
    Auto,
    /// AF_XDP on every interface of `receive.xdp.interfaces`; refuses to start where one of them
    /// cannot have it.
    AfXdp,
    /// io_uring multishot recvmsg; refuses to start where the kernel refuses it.
    IoUring,
    /// recvmmsg.
    Recvmmsg,
}

impl ReceiveMode {
    /// As the configuration and the status page write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AfXdp => "af_xdp",
            Self::IoUring => "io_uring",
            Self::Recvmmsg => "recvmmsg",
        }
    }
}

/// `[receive]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Receive {
    /// `auto`, `af_xdp`, `io_uring` or `recvmmsg`.
    pub mode: ReceiveMode,
    /// Worker threads, each with its own sockets; 0 takes half of the processors, at least one.
    pub workers: usize,
    /// Processors to pin the workers to, one each, in order; empty takes the last ones.
    pub cpus: Vec<usize>,
    /// Leave the workers unpinned (containers that forbid sched_setaffinity).
    pub pin: bool,
    /// The sockets; any of them takes any protocol unless `protocols` says otherwise.
    pub listeners: Vec<Listener>,
    /// SO_RCVBUF of each socket. The kernel silently caps it at net.core.rmem_max.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub socket_buffer: ByteSize,
    /// Longest datagram taken whole; a longer one is dropped and counted as `datagram_cut`.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub datagram_max: ByteSize,
    /// Datagrams taken in one turn of a worker.
    pub burst: usize,
    /// A worker that gets more than it can decode hands datagrams to others that have time.
    pub share: bool,
    /// UDP_GRO: take merged datagrams in one piece; the kernel merges those of one exporter and one
    /// length that it found in one poll of the card. Each of the `burst` buffers then has 64 KiB,
    /// and a merged piece that the kernel drops may count as one datagram. recvmmsg only.
    pub gro: bool,
    /// Prefixes that exporters may send from; datagrams of others are dropped and counted as
    /// `exporter_not_allowed`. Empty allows all.
    pub allow: Vec<IpNet>,
    /// How much one sender may send by UDP.
    pub limit: Limit,
    /// Receiving without the kernel's UDP stack.
    pub xdp: Xdp,
    /// IPFIX over TCP.
    pub tcp: Tcp,
    /// Other collectors that get the same datagrams.
    pub tee: Vec<Tee>,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            mode: ReceiveMode::Auto,
            workers: 0,
            cpus: Vec::new(),
            pin: true,
            listeners: [2055, 4739, 6343, 9995].map(Listener::any_address).into(),
            socket_buffer: ByteSize::mib(32),
            datagram_max: ByteSize::b(9216),
            burst: 256,
            share: false,
            gro: false,
            allow: Vec::new(),
            limit: Limit::default(),
            xdp: Xdp::default(),
            tcp: Tcp::default(),
            tee: Vec::new(),
        }
    }
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpAttach {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// Generic: after the socket buffer is made; for drivers without XDP.
    Skb,
}

/// Whether frames are copied into the socket's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpCopy {
    /// Zero-copy where the driver can, else copied.
    #[default]
    Auto,
    /// The card writes to the socket's memory; refuses drivers that cannot.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// `[receive.xdp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Xdp {
    /// Interfaces that export datagrams come in by; empty leaves AF_XDP off.
    pub interfaces: Vec<String>,
    /// `auto`, `native` or `skb`.
    pub attach: XdpAttach,
    /// `auto`, `zero_copy` or `copy`.
    pub copy: XdpCopy,
    /// Addresses that datagrams are sent to; empty takes the interface's own, as they come and go.
    pub destinations: Vec<IpAddr>,
    /// Frames of a queue's memory, 2 or 4 KiB each; a power of two.
    pub frames: u32,
    /// Microseconds that a waiting worker polls the card instead of sleeping; 0 does not.
    pub busy_poll_us: u32,
    /// Take the frames' memory from huge pages (vm.nr_hugepages).
    pub huge_pages: bool,
    /// Verify the UDP checksum; false for interfaces that leave it unfinished, like veth.
    pub verify_checksum: bool,
    /// Load the program that needs CAP_PERFMON; the one without is slower.
    pub perfmon: bool,
}

impl Default for Xdp {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            attach: XdpAttach::Auto,
            copy: XdpCopy::Auto,
            destinations: Vec::new(),
            frames: 4096,
            busy_poll_us: 0,
            huge_pages: false,
            verify_checksum: true,
            perfmon: true,
        }
    }
}

/// `[[receive.listeners]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address to bind; `::` takes IPv4 and IPv6.
    #[serde(default = "any_address")]
    pub address: IpAddr,
    /// UDP port.
    pub port: u16,
    /// Protocols taken on this port; empty takes all that `decode.protocols` has on.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
}

impl Listener {
    fn any_address(port: u16) -> Self {
        Self {
            address: any_address(),
            port,
            protocols: Vec::new(),
        }
    }
}

fn any_address() -> IpAddr {
    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

/// `[batch]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Rows of one insert. More make fewer, larger inserts, which are less work for ClickHouse, and
    /// cost about 60 bytes of memory each.
    pub rows_max: usize,
    /// Rows are inserted at this age even when they are few: the delay until they can be asked for.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub age_max: Duration,
    /// Batches of 4096 rows of a worker: one is being filled, the others are encoded. They bridge
    /// the time that the encoder waits for a CPU, and cost up to 1.4 MiB of memory each.
    pub per_worker: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            rows_max: 262_144,
            age_max: Duration::from_secs(5),
            per_worker: 24,
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,flowsluice::store=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people and journald.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A password: never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("********")
    }
}

#[cfg(test)]
mod tests;
