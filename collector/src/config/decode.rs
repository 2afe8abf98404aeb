//! `[decode]`: which protocols are taken, how much is remembered of exporters, and what the
//! operator knows better than they do.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::display;

/// An export protocol that can be switched on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// NetFlow version 1.
    Netflow1,
    /// NetFlow version 5.
    Netflow5,
    /// NetFlow version 7.
    Netflow7,
    /// NetFlow version 9.
    Netflow9,
    /// IPFIX.
    Ipfix,
    /// sFlow version 5.
    Sflow5,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Netflow1,
        Self::Netflow5,
        Self::Netflow7,
        Self::Netflow9,
        Self::Ipfix,
        Self::Sflow5,
    ];
}

/// `[decode]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Protocols that are taken at all.
    pub protocols: Vec<Protocol>,
    /// Elements that fill no column and go to the column `extra` all the same; empty: none, and it
    /// costs nothing.
    pub extra: Vec<crate::decode::ElementPattern>,
    /// Pairs of exporter and observation domain. When there are as many, a new one takes the place
    /// of one that never produced a flow or has been silent for ten minutes; without such a one its
    /// datagrams are dropped and counted. One source address may have a sixteenth, at least 8.
    pub exporters_max: usize,
    /// Templates in all; one of very many fields counts as several.
    pub templates_max: usize,
    /// Templates of one exporter and domain; a further one takes the place of the least used.
    pub templates_per_exporter_max: usize,
    /// A template that was neither sent again nor used for this long is forgotten; 0 keeps it.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub template_lifetime: Duration,
    /// Memory for data that came before their template. One source address may have a quarter, one
    /// domain an eighth, one template a sixteenth.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub pending_max: ByteSize,
    /// Folder of what was learned from exporters, so that a restart does not forget it; empty does
    /// without.
    pub state_dir: PathBuf,
    /// Sampling rate of rows whose exporter never says one; 0 leaves it unknown (counts as 1).
    pub sampling_rate_default: u32,
    /// Which packet is the flow where a sampled packet carries another one.
    pub tunnels: Tunnels,
    /// What is known of single exporters; the longest prefix that has the source address counts.
    pub exporters: Vec<ExporterOverride>,
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            protocols: Protocol::ALL.into(),
            extra: Vec::new(),
            exporters_max: 4096,
            templates_max: 32_768,
            templates_per_exporter_max: 1024,
            template_lifetime: Duration::from_secs(24 * 3600),
            pending_max: ByteSize::mib(16),
            state_dir: "/var/lib/flowsluice/state".into(),
            sampling_rate_default: 0,
            tunnels: Tunnels::default(),
            exporters: Vec::new(),
        }
    }
}

/// Which packet is the flow where a sampled packet (sFlow, IPFIX element 315) carries another one
/// in GRE, VXLAN, GTP-U or IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tunnels {
    /// The packet that the exporter saw.
    #[default]
    Outer,
    /// The packet inside, as far as it was sampled.
    Inner,
}

/// `[[decode.exporters]]`: what the operator knows of the exporters in a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExporterOverride {
    /// UDP source addresses that it is for.
    pub source: IpNet,
    /// Sampling rate of flows for which the exporter says none; 0 has none to offer.
    #[serde(default)]
    pub sampling_rate: u32,
    /// `sampling_rate` counts whatever NetFlow or IPFIX exporters say themselves.
    #[serde(default)]
    pub sampling_force: bool,
    /// Where templates and sampling rates are valid.
    #[serde(default)]
    pub scope: TemplateScope,
    /// Whose clock says when flows were.
    #[serde(default)]
    pub time: TimeSource,
}

/// Where what an exporter tells of itself is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateScope {
    /// In the observation domain that it was told in (RFC 7011 section 3.4.1).
    #[default]
    Domain,
    /// In all observation domains of the exporter: some send templates under one source id and
    /// flows under others. Sequence numbers are then not followed.
    Exporter,
}

/// Whose clock says when flows were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The exporter's, as its records say.
    #[default]
    Exporter,
    /// The collector's: a flow ends when its datagram arrived, and keeps its duration.
    Received,
}
