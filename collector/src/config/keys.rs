//! Every key of the file: where it stands and what it takes.
//!
//! The structs of [`super`] say the same to the compiler; this table says it to people, so that all
//! the mistakes of a file can be told at once. A test holds the two against each other.

mod store;
mod tables;

use std::net::{IpAddr, SocketAddr};

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::decode::ElementPattern;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A table of further keys.
    Table,
    /// An array of tables, each with the keys below `path[]`.
    Tables,
    /// A whole number.
    Count,
    /// A whole number that fits 32 bits.
    Count32,
    /// A UDP or TCP port.
    Port,
    /// `true` or `false`.
    Flag,
    /// A size with its unit.
    Bytes,
    /// A time with its unit.
    Duration,
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path of the file system.
    Path,
    /// An address without a port.
    Address,
    /// An address with a port.
    Socket,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A list of whole numbers.
    Counts,
    /// A list of any texts.
    Texts,
    /// A list of addresses without ports.
    Addresses,
    /// A prefix of addresses, or one address.
    Prefix,
    /// A list of prefixes.
    Prefixes,
    /// A list of patterns of information elements.
    Elements,
}

/// One key; `[]` stands for the index into an array of tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind }
}

const MODES: &[&str] = &["auto", "af_xdp", "io_uring", "recvmmsg"];
const ATTACH: &[&str] = &["auto", "native", "skb"];
const COPY: &[&str] = &["auto", "zero_copy", "copy"];
const PROTOCOLS: &[&str] = &[
    "netflow1", "netflow5", "netflow7", "netflow9", "ipfix", "sflow5",
];
const SCOPES: &[&str] = &["domain", "exporter"];
const TIMES: &[&str] = &["exporter", "received"];
const TUNNELS: &[&str] = &["outer", "inner"];
const DNS_NAMES: &[&str] = &["none", "exporters", "endpoints", "both"];
const SNMP_VERSIONS: &[&str] = &["2c", "3"];
const SNMP_AUTHS: &[&str] = &["none", "md5", "sha1", "sha256", "sha512"];
const SNMP_PRIVACIES: &[&str] = &["none", "des", "aes128", "aes256"];
const APPLICATION_TYPES: &[&str] = &["cisco_nbar2", "fortinet", "velocloud"];
const BOUNDARIES: &[&str] = &["undefined", "external", "internal"];
const FORMATS: &[&str] = &["text", "json"];

/// All keys, in the order of the file.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    let store = store::KEYS.iter().chain(tables::KEYS);
    KEYS.iter().chain(store).chain(LAST)
}

/// Those before `[store]`.
const KEYS: &[Key] = &[
    key("receive", Kind::Table),
    key("receive.mode", Kind::Word(MODES)),
    key("receive.workers", Kind::Count),
    key("receive.cpus", Kind::Counts),
    key("receive.pin", Kind::Flag),
    key("receive.listeners", Kind::Tables),
    key("receive.listeners[].address", Kind::Address),
    key("receive.listeners[].port", Kind::Port),
    key("receive.listeners[].protocols", Kind::Words(PROTOCOLS)),
    key("receive.socket_buffer", Kind::Bytes),
    key("receive.datagram_max", Kind::Bytes),
    key("receive.burst", Kind::Count),
    key("receive.share", Kind::Flag),
    key("receive.gro", Kind::Flag),
    key("receive.allow", Kind::Prefixes),
    key("receive.limit", Kind::Table),
    key("receive.limit.rate", Kind::Count32),
    key("receive.limit.burst", Kind::Count32),
    key("receive.limit.exporters", Kind::Tables),
    key("receive.limit.exporters[].source", Kind::Prefix),
    key("receive.limit.exporters[].rate", Kind::Count32),
    key("receive.limit.exporters[].burst", Kind::Count32),
    key("receive.tee", Kind::Tables),
    key("receive.tee[].to", Kind::Text),
    key("receive.tee[].exporters", Kind::Prefixes),
    key("receive.tee[].keep_source", Kind::Flag),
    key("receive.xdp", Kind::Table),
    key("receive.xdp.interfaces", Kind::Texts),
    key("receive.xdp.attach", Kind::Word(ATTACH)),
    key("receive.xdp.copy", Kind::Word(COPY)),
    key("receive.xdp.destinations", Kind::Addresses),
    key("receive.xdp.frames", Kind::Count32),
    key("receive.xdp.busy_poll_us", Kind::Count32),
    key("receive.xdp.huge_pages", Kind::Flag),
    key("receive.xdp.verify_checksum", Kind::Flag),
    key("receive.xdp.perfmon", Kind::Flag),
    key("receive.tcp", Kind::Table),
    key("receive.tcp.listeners", Kind::Tables),
    key("receive.tcp.listeners[].address", Kind::Address),
    key("receive.tcp.listeners[].port", Kind::Port),
    key("receive.tcp.connections_max", Kind::Count),
    key("receive.tcp.idle_max", Kind::Duration),
    key("decode", Kind::Table),
    key("decode.protocols", Kind::Words(PROTOCOLS)),
    key("decode.extra", Kind::Elements),
    key("decode.exporters_max", Kind::Count),
    key("decode.templates_max", Kind::Count),
    key("decode.templates_per_exporter_max", Kind::Count),
    key("decode.template_lifetime", Kind::Duration),
    key("decode.pending_max", Kind::Bytes),
    key("decode.state_dir", Kind::Path),
    key("decode.sampling_rate_default", Kind::Count32),
    key("decode.tunnels", Kind::Word(TUNNELS)),
    key("decode.exporters", Kind::Tables),
    key("decode.exporters[].source", Kind::Prefix),
    key("decode.exporters[].sampling_rate", Kind::Count32),
    key("decode.exporters[].sampling_force", Kind::Flag),
    key("decode.exporters[].scope", Kind::Word(SCOPES)),
    key("decode.exporters[].time", Kind::Word(TIMES)),
    key("enrich", Kind::Table),
    key("enrich.services", Kind::Flag),
    key("enrich.networks", Kind::Texts),
    key("enrich.applications", Kind::Texts),
    key("enrich.application_ids", Kind::Texts),
    key("enrich.interfaces", Kind::Texts),
    key("enrich.threats_whitelist", Kind::Texts),
    key("enrich.mac_vendors", Kind::Path),
    key("enrich.look_every", Kind::Duration),
    key("enrich.geo", Kind::Table),
    key("enrich.geo.databases", Kind::Texts),
    key("enrich.geo.language", Kind::Text),
    key("enrich.geo.memory_max", Kind::Bytes),
    key("enrich.geo.updates", Kind::Tables),
    key("enrich.geo.updates[].file", Kind::Path),
    key("enrich.geo.updates[].from", Kind::Text),
    key("enrich.geo.updates[].sha256_from", Kind::Text),
    key("enrich.geo.updates[].user", Kind::Text),
    key("enrich.geo.updates[].password_file", Kind::Path),
    key("enrich.dns", Kind::Table),
    key("enrich.dns.names", Kind::Word(DNS_NAMES)),
    key("enrich.dns.servers", Kind::Texts),
    key("enrich.dns.hits_max", Kind::Count),
    key("enrich.dns.hit_lifetime", Kind::Duration),
    key("enrich.dns.misses_max", Kind::Count),
    key("enrich.dns.miss_lifetime", Kind::Duration),
    key("enrich.dns.queries_max", Kind::Count),
    key("enrich.dns.rate_max", Kind::Count),
    key("enrich.dns.timeout", Kind::Duration),
    key("enrich.snmp", Kind::Table),
    key("enrich.snmp.every", Kind::Duration),
    key("enrich.snmp.timeout", Kind::Duration),
    key("enrich.snmp.retries", Kind::Count),
    key("enrich.snmp.exporters_at_once", Kind::Count),
    key("enrich.snmp.targets", Kind::Tables),
    key("enrich.snmp.targets[].source", Kind::Prefix),
    key("enrich.snmp.targets[].address", Kind::Address),
    key("enrich.snmp.targets[].port", Kind::Port),
    key("enrich.snmp.targets[].version", Kind::Word(SNMP_VERSIONS)),
    key("enrich.snmp.targets[].community", Kind::Secret),
    key("enrich.snmp.targets[].community_file", Kind::Path),
    key("enrich.snmp.targets[].user", Kind::Text),
    key("enrich.snmp.targets[].auth", Kind::Word(SNMP_AUTHS)),
    key("enrich.snmp.targets[].auth_password_file", Kind::Path),
    key("enrich.snmp.targets[].privacy", Kind::Word(SNMP_PRIVACIES)),
    key("enrich.snmp.targets[].privacy_password_file", Kind::Path),
    key("enrich.exporters", Kind::Tables),
    key("enrich.exporters[].source", Kind::Prefix),
    key("enrich.exporters[].name", Kind::Text),
    key("enrich.exporters[].group", Kind::Text),
    key("enrich.exporters[].site", Kind::Text),
    key("enrich.exporters[].region", Kind::Text),
    key("enrich.exporters[].role", Kind::Text),
    key("enrich.exporters[].tenant", Kind::Text),
    key(
        "enrich.exporters[].applications",
        Kind::Word(APPLICATION_TYPES),
    ),
    key("enrich.interface_rules", Kind::Tables),
    key("enrich.interface_rules[].name", Kind::Text),
    key("enrich.interface_rules[].alias", Kind::Text),
    key("enrich.interface_rules[].speed_min", Kind::Count),
    key("enrich.interface_rules[].speed_max", Kind::Count),
    key("enrich.interface_rules[].boundary", Kind::Word(BOUNDARIES)),
    key("enrich.interface_rules[].provider", Kind::Text),
    key("enrich.interface_rules[].connectivity", Kind::Text),
    key("enrich.threats", Kind::Tables),
    key("enrich.threats[].file", Kind::Path),
    key("enrich.threats[].tag", Kind::Text),
    key("batch", Kind::Table),
    key("batch.rows_max", Kind::Count),
    key("batch.age_max", Kind::Duration),
    key("batch.per_worker", Kind::Count),
];

/// Those behind it.
const LAST: &[Key] = &[
    key("http", Kind::Table),
    key("http.listen", Kind::Socket),
    key("http.user", Kind::Text),
    key("http.password_file", Kind::Path),
    key("http.token_file", Kind::Path),
    key("http.tls", Kind::Table),
    key("http.tls.cert", Kind::Path),
    key("http.tls.key", Kind::Path),
    key("log", Kind::Table),
    key("log.level", Kind::Text),
    key("log.format", Kind::Word(FORMATS)),
];

/// Keys without which their table means nothing.
pub(super) const REQUIRED: &[&str] = &[
    "receive.listeners[].port",
    "receive.tcp.listeners[].port",
    "receive.limit.exporters[].source",
    "receive.limit.exporters[].rate",
    "receive.tee[].to",
    "decode.exporters[].source",
    "enrich.geo.updates[].file",
    "enrich.geo.updates[].from",
    "enrich.snmp.targets[].source",
    "enrich.exporters[].source",
    "enrich.threats[].file",
    "enrich.threats[].tag",
];

/// The key at `path`, indexes written as `[]`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path == path)
}

/// The names of the keys directly below `table` (`""` for the whole file).
pub(super) fn below(table: &str) -> impl Iterator<Item = &'static str> {
    within(table).map(|(name, _)| name)
}

/// The keys directly below `table`, and their names there.
pub(super) fn within(table: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    all().filter_map(move |key| {
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        (parent == table).then_some((name, key))
    })
}

impl Kind {
    /// What the key takes, as it ends the sentence "allowed: ...".
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Table => "a table, written [name]".into(),
            Self::Tables => "tables, each written [[name]]".into(),
            Self::Count => "a whole number, 0 or more".into(),
            Self::Count32 => format!("a whole number, 0 to {}", u32::MAX),
            Self::Port => "a port, 1 to 65535".into(),
            Self::Flag => "true or false".into(),
            Self::Bytes => "a size with its unit, such as \"64MiB\"".into(),
            Self::Duration => "a time with its unit, such as \"30s\" or \"30days\"".into(),
            Self::Text | Self::Secret => "text in quotes".into(),
            Self::Path => "a path in quotes".into(),
            Self::Address => "an IPv4 or IPv6 address, such as \"::\"".into(),
            Self::Socket => "an address with a port, such as \"127.0.0.1:8123\"".into(),
            Self::Word(words) => quoted(words, " or "),
            Self::Words(words) => format!("a list of {}", quoted(words, ", ")),
            Self::Counts => "a list of whole numbers, such as [2, 3]".into(),
            Self::Texts => "a list of texts in quotes, such as [\"eth0\"]".into(),
            Self::Addresses => {
                "a list of addresses, such as [\"192.0.2.1\", \"2001:db8::1\"]".into()
            }
            Self::Prefix => "a prefix, such as \"192.0.2.0/24\" or \"192.0.2.1/32\"".into(),
            Self::Prefixes => {
                "a list of prefixes, such as [\"192.0.2.0/24\", \"2001:db8::/32\"]".into()
            }
            Self::Elements => format!("a list of elements, each {ELEMENT}"),
        }
    }

    /// Whether `value` is of this kind. Tables are looked into by whoever walks them.
    pub(super) fn accepts(self, value: &Spanned<DeValue<'_>>) -> bool {
        let words = |allowed: &[&str], found: &[String]| {
            found.iter().all(|word| allowed.contains(&word.as_str()))
        };
        match self {
            Self::Table => value.get_ref().is_table(),
            Self::Tables => value.get_ref().is_array(),
            Self::Count => read::<usize>(value).is_some(),
            Self::Count32 => read::<u32>(value).is_some(),
            Self::Port => read::<u16>(value).is_some(),
            Self::Flag => read::<bool>(value).is_some(),
            // A bare number would be bytes; the unit is asked for all the same.
            Self::Bytes => value.get_ref().is_str() && read::<ByteSize>(value).is_some(),
            Self::Duration => {
                read::<String>(value).is_some_and(|text| humantime::parse_duration(&text).is_ok())
            }
            Self::Text | Self::Secret | Self::Path => value.get_ref().is_str(),
            Self::Address => read::<IpAddr>(value).is_some(),
            Self::Socket => read::<SocketAddr>(value).is_some(),
            Self::Word(allowed) => {
                read::<String>(value).is_some_and(|word| words(allowed, &[word]))
            }
            Self::Words(allowed) => {
                read::<Vec<String>>(value).is_some_and(|found| words(allowed, &found))
            }
            Self::Counts => read::<Vec<usize>>(value).is_some(),
            Self::Texts => read::<Vec<String>>(value).is_some(),
            Self::Addresses => read::<Vec<IpAddr>>(value).is_some(),
            Self::Prefix => read::<IpNet>(value).is_some(),
            Self::Prefixes => read::<Vec<IpNet>>(value).is_some(),
            Self::Elements => read::<Vec<ElementPattern>>(value).is_some(),
        }
    }
}

/// One of [`Kind::Elements`].
pub(super) const ELEMENT: &str = "\"PEN.id\", \"PEN.name\", \"PEN.*\", the name of one of IANA's, \
                                  or \"*\" for all; write one that no list names as \"PEN.id\"";

fn read<'de, T: Deserialize<'de>>(value: &Spanned<DeValue<'de>>) -> Option<T> {
    T::deserialize(ValueDeserializer::from(value.clone())).ok()
}

fn quoted(words: &[&str], between: &str) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ApplicationType, Boundary, Config, DnsNames, Enrich, ExporterLabels, ExporterLimit,
        ExporterOverride, GeoUpdate, HttpTls, InterfaceRule, Listener, Protocol, ReceiveMode,
        Secret, SnmpAuth, SnmpPrivacy, SnmpTarget, SnmpVersion, TcpListener, Tee, TemplateScope,
        ThreatList, TimeSource, Tls, XdpAttach, XdpCopy,
    };

    /// A configuration in which nothing is absent, so that every key of the structs is seen.
    fn full() -> Config {
        let mut config = Config::default();
        let listener = Listener {
            protocols: vec![Protocol::Ipfix],
            ..config.receive.listeners[0].clone()
        };
        config.receive.listeners = vec![listener];
        config.receive.tcp.listeners = vec![TcpListener {
            address: "::".parse().unwrap(),
            port: 4739,
        }];
        config.receive.limit.exporters = vec![ExporterLimit {
            source: "192.0.2.0/24".parse().unwrap(),
            rate: 1,
            burst: 1,
        }];
        config.receive.tee = vec![Tee {
            to: "192.0.2.20:2055".into(),
            exporters: vec!["192.0.2.0/24".parse().unwrap()],
            keep_source: true,
        }];
        config.decode.exporters = vec![ExporterOverride {
            source: "192.0.2.0/24".parse().unwrap(),
            sampling_rate: 1000,
            sampling_force: true,
            scope: TemplateScope::Exporter,
            time: TimeSource::Received,
        }];
        fill_enrich(&mut config.enrich);
        config.store = tables::full(config.store);
        config.store.url = Some("http://localhost:8123".into());
        config.store.cluster = Some("x".into());
        config.store.tls = Tls {
            ca: Some("/x".into()),
            cert: Some("/x".into()),
            key: Some("/x".into()),
        };
        config.store.password = Some(Secret::new("x"));
        config.store.password_file = Some("/x".into());
        config.http.password_file = Some("/x".into());
        config.http.token_file = Some("/x".into());
        config.http.tls = HttpTls {
            cert: Some("/x".into()),
            key: Some("/x".into()),
        };
        config.store.embedded.library = Some("/x".into());
        config.store.embedded.tcp = Some(SocketAddr::from(([127, 0, 0, 1], 9000)));
        config
    }

    fn fill_enrich(enrich: &mut Enrich) {
        let source = "192.0.2.0/24".parse().unwrap();
        enrich.geo.updates = vec![GeoUpdate {
            file: "/x".into(),
            from: "/y".into(),
            sha256_from: String::new(),
            user: String::new(),
            password_file: "".into(),
        }];
        enrich.snmp.targets = vec![SnmpTarget {
            source,
            address: Some(source.addr()),
            port: 161,
            version: SnmpVersion::V3,
            community: Some(Secret::new("x")),
            community_file: "".into(),
            user: "x".into(),
            auth: SnmpAuth::Sha1,
            auth_password_file: "/x".into(),
            privacy: SnmpPrivacy::Des,
            privacy_password_file: "/x".into(),
        }];
        let text = String::new;
        enrich.exporters = vec![ExporterLabels {
            source,
            name: text(),
            group: text(),
            site: text(),
            region: text(),
            role: text(),
            tenant: text(),
            applications: ApplicationType::Fortinet,
        }];
        enrich.interface_rules = vec![InterfaceRule::default()];
        enrich.threats = vec![ThreatList {
            file: "/x".into(),
            tag: text(),
        }];
    }

    fn paths(table: &toml::Table, prefix: &str, paths: &mut Vec<String>) {
        for (name, value) in table {
            let path = format!("{prefix}{name}");
            paths.push(path.clone());
            match value {
                toml::Value::Table(inner) => self::paths(inner, &format!("{path}."), paths),
                toml::Value::Array(list) => {
                    for inner in list.iter().filter_map(toml::Value::as_table) {
                        self::paths(inner, &format!("{path}[]."), paths);
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_table_of_keys_and_the_structs_name_the_same_keys() {
        let table = toml::Table::try_from(full()).unwrap();
        let mut of_structs = Vec::new();
        paths(&table, "", &mut of_structs);
        let mut of_table: Vec<_> = all().map(|key| key.path.to_owned()).collect();
        of_structs.sort();
        of_table.sort();
        assert_eq!(of_structs, of_table);
    }

    #[test]
    fn the_words_are_those_that_the_types_know() {
        let word = |word: &str| toml::Value::String(word.to_owned());
        for name in PROTOCOLS {
            let protocol: Protocol = word(name).try_into().unwrap();
            assert!(Protocol::ALL.contains(&protocol));
        }
        assert_eq!(PROTOCOLS.len(), Protocol::ALL.len());
        for name in MODES {
            let _: ReceiveMode = word(name).try_into().unwrap();
        }
        for name in ATTACH {
            let _: XdpAttach = word(name).try_into().unwrap();
        }
        for name in COPY {
            let _: XdpCopy = word(name).try_into().unwrap();
        }
        for name in SCOPES {
            let _: TemplateScope = word(name).try_into().unwrap();
        }
        for name in TIMES {
            let _: TimeSource = word(name).try_into().unwrap();
        }
        for name in DNS_NAMES {
            let _: DnsNames = word(name).try_into().unwrap();
        }
        for name in SNMP_VERSIONS {
            let _: SnmpVersion = word(name).try_into().unwrap();
        }
        for name in SNMP_AUTHS {
            let _: SnmpAuth = word(name).try_into().unwrap();
        }
        for name in SNMP_PRIVACIES {
            let _: SnmpPrivacy = word(name).try_into().unwrap();
        }
        for name in APPLICATION_TYPES {
            let _: ApplicationType = word(name).try_into().unwrap();
        }
        for name in BOUNDARIES {
            let _: Boundary = word(name).try_into().unwrap();
        }
        for name in FORMATS {
            let _: crate::config::LogFormat = word(name).try_into().unwrap();
        }
    }
}
