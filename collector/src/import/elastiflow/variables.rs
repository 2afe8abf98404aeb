//! What each variable but those of the listeners becomes.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::document::{list, quoted};
use super::environment::{Variable, Variables};
use super::{At, Is, Making, dictionaries};
use crate::config::{Dns, DnsNames, Receive, display};

/// Where Debian's package ieee-data has the list of the IEEE.
const OUI: &str = "/usr/share/ieee-data/oui.csv";
/// Where ElastiFlow keeps its databases, and how they are called there.
const GEOIP_PATH: &str = "/etc/logstash/elastiflow/geoipdbs";
const DATABASES: [(&str, &str); 2] = [
    ("ELASTIFLOW_GEOIP_LOOKUP", "GeoLite2-City.mmdb"),
    ("ELASTIFLOW_ASN_LOOKUP", "GeoLite2-ASN.mmdb"),
];
/// Variables without counterpart: how their names begin and end, and why.
const LEFT: [(&str, &str, &str); 16] = [
    (
        "ELASTIFLOW_ES_",
        "",
        "not needed: flows go to ClickHouse, see [store]",
    ),
    (
        "ELASTIFLOW_AGENT_ID",
        "",
        "not needed: every row names its exporter",
    ),
    (
        "ELASTIFLOW_DICT_PATH",
        "",
        "not needed: the files that were found are taken",
    ),
    (
        "ELASTIFLOW_USER_SETTINGS_PATH",
        "",
        "not needed: the files that were found are taken",
    ),
    (
        "ELASTIFLOW_DEFINITION_PATH",
        "",
        "not needed: elements are built in; decode.extra stores further ones",
    ),
    (
        "ELASTIFLOW_TEMPLATE_PATH",
        "",
        "not needed: the tables are made by themselves",
    ),
    (
        "ELASTIFLOW_GEOIP_CACHE_SIZE",
        "",
        "not needed: looking up costs too little for a cache",
    ),
    (
        "ELASTIFLOW_POPULATE_LOGS",
        "",
        "no counterpart: a row is no log message",
    ),
    (
        "ELASTIFLOW_KEEP_ORIG_DATA",
        "",
        "no counterpart: all columns are always there; decode.extra stores further elements",
    ),
    (
        "ELASTIFLOW_",
        "_UDP_WORKERS",
        "not needed: receive.workers follows the processors",
    ),
    (
        "ELASTIFLOW_",
        "_UDP_QUEUE_SIZE",
        "not needed: receive.socket_buffer is the queue",
    ),
    (
        "ELASTIFLOW_NETFLOW_TZ",
        "",
        "not needed: exporters send UTC",
    ),
    (
        "ELASTIFLOW_NETFLOW_LASTSW_TIMESTAMP",
        "",
        "not needed: a row has the times of reception, of its start and of its end",
    ),
    (
        "ELASTIFLOW_",
        "",
        "no counterpart: it is no variable of ElastiFlow 4.0 that is known here",
    ),
    (
        "LS_",
        "",
        "not needed: there is no Logstash; 'flowsluice check' tells the memory",
    ),
    ("", "", "not needed: it is no variable of ElastiFlow"),
];

pub(super) fn import(variables: &Variables, making: &mut Making) {
    buffer(variables, making);
    geo(variables, making);
    for variable in &variables.all {
        let Variable { name, value, at } = variable;
        let is_taken = match name.as_str() {
            "ELASTIFLOW_RESOLVE_IP2HOST" => names(variable, making),
            "ELASTIFLOW_NAMESERVER" => server(variable, making),
            "ELASTIFLOW_DNS_HIT_CACHE_SIZE" => {
                count(variable, "hits_max", Dns::default().hits_max, making)
            }
            "ELASTIFLOW_DNS_HIT_CACHE_TTL" => seconds(
                variable,
                "hit_lifetime",
                Dns::default().hit_lifetime,
                making,
            ),
            "ELASTIFLOW_DNS_FAILED_CACHE_SIZE" => {
                count(variable, "misses_max", Dns::default().misses_max, making)
            }
            "ELASTIFLOW_DNS_FAILED_CACHE_TTL" => seconds(
                variable,
                "miss_lifetime",
                Dns::default().miss_lifetime,
                making,
            ),
            "ELASTIFLOW_OUI_LOOKUP" => vendors(variable, making),
            "ELASTIFLOW_DEFAULT_APPID_SRCTYPE" => {
                dictionaries::default_type(value, at, making);
                true
            }
            _ => is_elsewhere(name),
        };
        if !is_taken {
            let fits = |(begin, end, _): &&(&str, &str, &str)| {
                name.starts_with(begin) && name.ends_with(end)
            };
            let why = LEFT.iter().find(fits).map_or("", |(_, _, why)| *why);
            // Values may be passwords.
            making.report.left(at, format!("{name}: {why}"));
        }
    }
}

/// Told by [`buffer`], [`geo`] or the listeners.
fn is_elsewhere(name: &str) -> bool {
    let is_socket = ["NETFLOW", "SFLOW", "IPFIX_UDP", "IPFIX_TCP"]
        .iter()
        .any(|input| {
            let rest = name.strip_prefix("ELASTIFLOW_");
            let rest = rest.and_then(|rest| rest.strip_prefix(input));
            rest.is_some_and(|rest| {
                ["_IPV4_HOST", "_IPV4_PORT", "_IPV6_HOST", "_IPV6_PORT"].contains(&rest)
            })
        });
    let is_geo = name == "ELASTIFLOW_GEOIP_DB_PATH" || DATABASES.iter().any(|it| it.0 == name);
    is_socket || is_geo || name.ends_with("_UDP_RCV_BUFF")
}

/// The largest of the receive buffers: here every socket takes any protocol.
fn buffer(variables: &Variables, making: &mut Making) {
    let mut largest: Option<(ByteSize, &Variable)> = None;
    for variable in &variables.all {
        let Variable { name, value, at } = variable;
        if !name.ends_with("_UDP_RCV_BUFF") {
            continue;
        }
        let size = value.parse::<u64>().map(ByteSize::b);
        match size {
            Ok(size) if (ByteSize::kib(64)..=ByteSize::mib(1023)).contains(&size) => {
                if largest.is_none_or(|(other, _)| size > other) {
                    largest = Some((size, variable));
                }
            }
            _ => {
                let text =
                    format!("{name}={value} is no size of a buffer; write 65536 to 1072693248");
                making.report.odd(at, text);
            }
        }
    }
    if let Some((size, Variable { name, value, at })) = largest {
        let said = format!("{name}={value} (the largest of them)");
        let is = Is::of(&size, &Receive::default().socket_buffer);
        let size = quoted(&display::bytes(size));
        making.set(at, &said, "receive", "socket_buffer", &size, is);
    }
}

/// ElastiFlow looks up unless it is told not to.
fn geo(variables: &Variables, making: &mut Making) {
    if !variables.is_there {
        return;
    }
    let folder = variables.get("ELASTIFLOW_GEOIP_DB_PATH");
    let path = folder.map_or(GEOIP_PATH, |variable| &variable.value);
    let mut files = Vec::new();
    let mut at = folder.map(|variable| variable.at.clone());
    for (key, name) in DATABASES {
        match variables.get(key) {
            Some(Variable { value, at, .. }) if value == "false" => {
                making
                    .report
                    .taken(at, format!("{key}=false -> {name} is not used"));
            }
            set => {
                at = at.or_else(|| set.map(|variable| variable.at.clone()));
                files.push(PathBuf::from(path).join(name));
            }
        }
    }
    let at = at.unwrap_or_else(|| At {
        file: "ElastiFlow's default".into(),
        line: 0,
    });
    if files.is_empty() {
        return;
    }
    if !PathBuf::from(path).is_absolute() {
        let text = format!("ELASTIFLOW_GEOIP_DB_PATH={path} is not absolute; write it from '/' on");
        return making.report.odd(&at, text);
    }
    for file in files.iter().filter(|file| !file.exists()) {
        let text = format!(
            "{}: it is not on this host yet; copy it there",
            file.display()
        );
        making.report.left(&at, text);
    }
    let files: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let value = list(files.iter().map(String::as_str));
    let said = format!("ELASTIFLOW_GEOIP_DB_PATH={path}");
    making.set(&at, &said, "enrich.geo", "databases", &value, Is::Other);
    making.report.left(
        &at,
        "the script that updates these databases: name their origin in [[enrich.geo.updates]], \
         and let flowsluice-geoip.timer run 'flowsluice geoip update'",
    );
}

fn names(variable: &Variable, making: &mut Making) -> bool {
    let Variable { name, value, at } = variable;
    let (names, word) = match value.as_str() {
        "false" => (DnsNames::None, "none"),
        "exporters" => (DnsNames::Exporters, "exporters"),
        "endpoints" => (DnsNames::Endpoints, "endpoints"),
        "true" => (DnsNames::Both, "both"),
        _ => {
            let allowed = "write true, false, exporters or endpoints";
            making.report.odd(
                at,
                format!("{name}={value} is none of its values; {allowed}"),
            );
            return true;
        }
    };
    let is = Is::of(&names, &DnsNames::None);
    let said = format!("{name}={value}");
    making.set(at, &said, "enrich.dns", "names", &quoted(word), is);
    true
}

fn server(variable: &Variable, making: &mut Making) -> bool {
    let Variable { name, value, at } = variable;
    if value.parse::<IpAddr>().is_err() && value.parse::<SocketAddr>().is_err() {
        let text = format!("{name}={value} is no address; write one such as 192.0.2.53");
        making.report.odd(at, text);
        return true;
    }
    let said = format!("{name}={value}");
    let servers = list([value.as_str()]);
    making.set(at, &said, "enrich.dns", "servers", &servers, Is::Other);
    true
}

fn count(variable: &Variable, key: &str, default: usize, making: &mut Making) -> bool {
    if let Some(count) = number(variable, 1..=4_000_000, making) {
        let said = format!("{}={count}", variable.name);
        let is = Is::of(&count, &(default as u64));
        making.set(
            &variable.at,
            &said,
            "enrich.dns",
            key,
            &count.to_string(),
            is,
        );
    }
    true
}

fn seconds(variable: &Variable, key: &str, default: Duration, making: &mut Making) -> bool {
    if let Some(seconds) = number(variable, 1..=30 * 24 * 3600, making) {
        let time = Duration::from_secs(seconds);
        let said = format!("{}={seconds}", variable.name);
        let value = quoted(&display::duration(time));
        making.set(
            &variable.at,
            &said,
            "enrich.dns",
            key,
            &value,
            Is::of(&time, &default),
        );
    }
    true
}

fn number(
    Variable { name, value, at }: &Variable,
    range: RangeInclusive<u64>,
    making: &mut Making,
) -> Option<u64> {
    let found = value.parse().ok().filter(|number| range.contains(number));
    if found.is_none() {
        let (least, most) = (range.start(), range.end());
        let text = format!("{name}={value} cannot be taken over; write {least} to {most}");
        making.report.odd(at, text);
    }
    found
}

fn vendors(variable: &Variable, making: &mut Making) -> bool {
    let Variable { name, value, at } = variable;
    let said = format!("{name}={value}");
    if value == "true" {
        making.set(at, &said, "enrich", "mac_vendors", &quoted(OUI), Is::Other);
        making.report.left(
            at,
            format!(
                "the dictionary of MAC vendors: {OUI} is of Debian's package ieee-data; install it"
            ),
        );
    } else {
        making.set(at, &said, "enrich", "mac_vendors", "\"\"", Is::Default);
    }
    true
}
