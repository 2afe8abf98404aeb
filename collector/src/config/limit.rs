//! `[receive.limit]`: how much one sender may send.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[receive.limit]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Datagrams a second of one source address; 0 takes all. Further ones are dropped and counted
    /// as `exporter_rate_limited`.
    pub rate: u32,
    /// Datagrams at once; 0 takes as many as in a second.
    pub burst: u32,
    /// Other limits of single senders, by prefix.
    pub exporters: Vec<ExporterLimit>,
}

impl Limit {
    /// Whether anybody is limited.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.rate > 0 || self.exporters.iter().any(|one| one.rate > 0)
    }
}

/// `[[receive.limit.exporters]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExporterLimit {
    /// The longest prefix that has the source of a datagram counts.
    pub source: IpNet,
    /// As `receive.limit.rate`.
    pub rate: u32,
    /// As `receive.limit.burst`.
    #[serde(default)]
    pub burst: u32,
}
