//! `[enrich]`: what is known of addresses, exporters, interfaces and ports beside their flows.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Secret, display};

/// `[enrich]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrich {
    /// Client and server, the names of services, locality.
    pub services: bool,
    /// CSV or JSON files of networks: prefix, name, role, site, region, tenant.
    pub networks: Vec<PathBuf>,
    /// CSV files of applications by address and port: address, ports, protocol, application.
    pub applications: Vec<PathBuf>,
    /// CSV files of what application ids mean: type, id, application.
    pub application_ids: Vec<PathBuf>,
    /// CSV files of interfaces: exporter, if_index, name, alias, speed.
    pub interfaces: Vec<PathBuf>,
    /// Files of addresses and prefixes that no threat list counts for.
    pub threats_whitelist: Vec<PathBuf>,
    /// The IEEE's list of MAC address blocks (oui.csv); empty does without.
    pub mac_vendors: PathBuf,
    /// How often files are looked at for changes.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub look_every: Duration,
    /// Places and autonomous systems.
    pub geo: Geo,
    /// Names of addresses by reverse DNS.
    pub dns: Dns,
    /// Names of interfaces by SNMP.
    pub snmp: Snmp,
    /// Names and labels of exporters; the longest prefix counts.
    pub exporters: Vec<ExporterLabels>,
    /// What the names of interfaces say of them; the first rule that fits counts.
    pub interface_rules: Vec<InterfaceRule>,
    /// Lists of addresses with a bad reputation.
    pub threats: Vec<ThreatList>,
}

impl Default for Enrich {
    fn default() -> Self {
        Self {
            services: true,
            networks: Vec::new(),
            applications: Vec::new(),
            application_ids: Vec::new(),
            interfaces: Vec::new(),
            threats_whitelist: Vec::new(),
            mac_vendors: PathBuf::new(),
            look_every: Duration::from_secs(10),
            geo: Geo::default(),
            dns: Dns::default(),
            snmp: Snmp::default(),
            exporters: Vec::new(),
            interface_rules: Vec::new(),
            threats: Vec::new(),
        }
    }
}

impl Enrich {
    /// True when nothing is to be known of flows beside what they say.
    #[must_use]
    pub fn is_off(&self) -> bool {
        let nothing = Self {
            services: false,
            look_every: self.look_every,
            ..Self::default()
        };
        *self == nothing
    }
}

/// `[enrich.geo]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Geo {
    /// Databases in MMDB form: City or Country, and ASN. Of what two of them say, the first counts.
    pub databases: Vec<PathBuf>,
    /// Language of names, as the databases write it ("en", "ja", "de", "zh-CN").
    pub language: String,
    /// Most memory of the table that is made of them; a new one is made beside the old one.
    #[serde(serialize_with = "display::serialize_bytes")]
    pub memory_max: ByteSize,
    /// Where `flowsluice geoip update` gets databases from.
    pub updates: Vec<GeoUpdate>,
}

impl Default for Geo {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            language: "en".into(),
            memory_max: ByteSize::mib(192),
            updates: Vec::new(),
        }
    }
}

/// `[[enrich.geo.updates]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GeoUpdate {
    /// The database to replace.
    pub file: PathBuf,
    /// An http(s) address, or a file or folder of this host. `.mmdb`, `.mmdb.gz`, `.tar.gz`.
    pub from: String,
    /// Where the SHA-256 of what `from` yields stands, in hex at the start of the text; empty does
    /// without.
    #[serde(default)]
    pub sha256_from: String,
    /// User (MaxMind: account id) of HTTP Basic authentication; empty sends none.
    #[serde(default)]
    pub user: String,
    /// File whose first line is the password (MaxMind: license key).
    #[serde(default)]
    pub password_file: PathBuf,
}

/// Whose names are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsNames {
    /// Nobody's.
    #[default]
    None,
    /// Those of exporters.
    Exporters,
    /// Those of sources and destinations.
    Endpoints,
    /// Those of exporters, sources and destinations.
    Both,
}

/// `[enrich.dns]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Whose names are asked for.
    pub names: DnsNames,
    /// Name servers, each an address or an address with a port; empty takes those of the host.
    pub servers: Vec<String>,
    /// Addresses of which a name is remembered, and how long.
    pub hits_max: usize,
    /// See `hits_max`.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub hit_lifetime: Duration,
    /// Addresses of which it is remembered that there is no name, and how long.
    pub misses_max: usize,
    /// See `misses_max`.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub miss_lifetime: Duration,
    /// Questions under way at once.
    pub queries_max: usize,
    /// Questions a second.
    pub rate_max: usize,
    /// How long a server may take to answer.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub timeout: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            names: DnsNames::None,
            servers: Vec::new(),
            hits_max: 25_000,
            hit_lifetime: Duration::from_secs(900),
            misses_max: 75_000,
            miss_lifetime: Duration::from_secs(3600),
            queries_max: 64,
            rate_max: 500,
            timeout: Duration::from_secs(2),
        }
    }
}

/// `[enrich.snmp]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snmp {
    /// How often an exporter is asked for its interfaces.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub every: Duration,
    /// How long an agent may take to answer.
    #[serde(deserialize_with = "humantime_serde::deserialize")]
    #[serde(serialize_with = "display::serialize_duration")]
    pub timeout: Duration,
    /// How often a question is asked again.
    pub retries: usize,
    /// Exporters asked at once.
    pub exporters_at_once: usize,
    /// Who is asked, and how; the longest prefix counts. Exporters without one are not asked.
    pub targets: Vec<SnmpTarget>,
}

impl Default for Snmp {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(600),
            timeout: Duration::from_secs(2),
            retries: 1,
            exporters_at_once: 8,
            targets: Vec::new(),
        }
    }
}

/// Version of SNMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum SnmpVersion {
    /// SNMPv2c (RFC 1901).
    #[default]
    #[serde(rename = "2c")]
    V2c,
    /// SNMPv3 with the user-based security model (RFC 3414).
    #[serde(rename = "3")]
    V3,
}

/// Authentication of SNMPv3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they say their names")]
pub enum SnmpAuth {
    None,
    Md5,
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

/// Encryption of SNMPv3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they say their names")]
pub enum SnmpPrivacy {
    None,
    Des,
    #[default]
    Aes128,
    Aes256,
}

/// `[[enrich.snmp.targets]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SnmpTarget {
    /// Exporters (column `exporter_addr`) that it is for.
    pub source: IpNet,
    /// Where their agent answers, if elsewhere; only sensible for a prefix of one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
    /// UDP port of the agents.
    #[serde(default = "snmp_port")]
    pub port: u16,
    /// `2c` or `3`.
    #[serde(default)]
    pub version: SnmpVersion,
    /// Community of 2c; `community_file` wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub community: Option<Secret>,
    /// File whose first line is the community.
    #[serde(default)]
    pub community_file: PathBuf,
    /// User of version 3.
    #[serde(default)]
    pub user: String,
    /// Authentication of version 3.
    #[serde(default)]
    pub auth: SnmpAuth,
    /// File whose first line is its password.
    #[serde(default)]
    pub auth_password_file: PathBuf,
    /// Encryption of version 3.
    #[serde(default)]
    pub privacy: SnmpPrivacy,
    /// File whose first line is its password.
    #[serde(default)]
    pub privacy_password_file: PathBuf,
}

const fn snmp_port() -> u16 {
    161
}

/// What the application ids of an exporter mean (IE 95).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationType {
    /// What its options tell, and IANA's engines (RFC 6759).
    #[default]
    CiscoNbar2,
    /// Fortinet's, of the files in `enrich.application_ids`.
    Fortinet,
    /// VeloCloud's, likewise.
    Velocloud,
}

/// `[[enrich.exporters]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExporterLabels {
    /// Exporters (column `exporter_addr`) that it is for.
    pub source: IpNet,
    /// Column `exporter_name`; empty takes sysName (SNMP), else the DNS name.
    #[serde(default)]
    pub name: String,
    /// Column `exporter_group`.
    #[serde(default)]
    pub group: String,
    /// Column `exporter_site`.
    #[serde(default)]
    pub site: String,
    /// Column `exporter_region`.
    #[serde(default)]
    pub region: String,
    /// Column `exporter_role`.
    #[serde(default)]
    pub role: String,
    /// Column `exporter_tenant`.
    #[serde(default)]
    pub tenant: String,
    /// What its application ids mean.
    #[serde(default)]
    pub applications: ApplicationType,
}

/// On which side of the network an interface is; columns `in_if_boundary`, `out_if_boundary`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Nobody said.
    #[default]
    Undefined,
    /// Towards others' networks.
    External,
    /// Within one's own.
    Internal,
}

/// `[[enrich.interface_rules]]`: fits when everything that it names fits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceRule {
    /// Regular expression that is found in the name (ifName); empty fits any.
    #[serde(default)]
    pub name: String,
    /// Regular expression that is found in the alias (ifAlias); empty fits any.
    #[serde(default)]
    pub alias: String,
    /// Least speed, bit/s.
    #[serde(default)]
    pub speed_min: usize,
    /// Highest speed, bit/s; 0 is any.
    #[serde(default)]
    pub speed_max: usize,
    /// The side that it then has.
    #[serde(default)]
    pub boundary: Boundary,
    /// Who is behind it; `$1` is the first group of `alias`, else of `name`.
    #[serde(default)]
    pub provider: String,
    /// What kind of connection it is ("transit", "peering"), likewise.
    #[serde(default)]
    pub connectivity: String,
}

/// `[[enrich.threats]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ThreatList {
    /// Addresses and prefixes, one a line; in a CSV the first column, tags in the column `tags`.
    pub file: PathBuf,
    /// What is on it; columns `src_threats`, `dst_threats`.
    pub tag: String,
}
