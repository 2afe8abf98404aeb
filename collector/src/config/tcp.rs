//! `[receive.tcp]`: IPFIX over TCP.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{any_address, display};

/// `[receive.tcp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tcp {
    /// Where IPFIX is taken by TCP (RFC 7011 section 10.4); none leaves it off.
    pub listeners: Vec<TcpListener>,
    /// Connections at once; further ones are closed at once and counted as
    /// `tcp_connections_refused`. One source address may have a sixteenth, at least 8.
    pub connections_max: usize,
    /// A connection that brings no whole message for so long is closed.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub idle_max: Duration,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            connections_max: 256,
            idle_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// `[[receive.tcp.listeners]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TcpListener {
    /// Address to bind; `::` takes IPv4 and IPv6.
    #[serde(default = "any_address")]
    pub address: IpAddr,
    /// TCP port; 4739 is IPFIX's.
    pub port: u16,
}
