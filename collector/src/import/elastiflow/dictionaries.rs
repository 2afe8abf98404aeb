//! What the dictionaries that an operator edits become.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, Spanned};

use super::document::list;
use super::found::{self, Dictionary, Found};
use super::{At, Making};

const APPLICATIONS: &str = "applications.csv";
const INTERFACES: &str = "interfaces.csv";
const WHITELIST: &str = "threats_whitelist.txt";
const DEFAULT_TYPE: &str = "cisco_nbar2";
const TYPES: [&str; 3] = [DEFAULT_TYPE, "fortinet", "velocloud"];

/// One entry.
struct Entry {
    key: String,
    value: String,
    at: At,
}

pub(super) fn import(found: &Found, installed: &Path, making: &mut Making) {
    for kind in [
        Dictionary::ApplicationTypes,
        Dictionary::SamplingRates,
        Dictionary::InterfaceNames,
        Dictionary::Applications,
        Dictionary::Whitelist,
    ] {
        let files = found
            .dictionaries
            .iter()
            .filter(|(_, other)| *other == kind);
        let mut entries = Vec::new();
        for (file, _) in files {
            entries.extend(read(file, making));
        }
        let entries = last(entries, making);
        if entries.is_empty() {
            continue;
        }
        match kind {
            Dictionary::ApplicationTypes => types(&entries, making),
            Dictionary::SamplingRates => rates(&entries, making),
            Dictionary::InterfaceNames => interfaces(&entries, installed, making),
            Dictionary::Applications => applications(&entries, installed, making),
            Dictionary::Whitelist => whitelist(&entries, installed, making),
        }
    }
}

/// `ELASTIFLOW_DEFAULT_APPID_SRCTYPE`: what the ids of the other exporters mean.
pub(super) fn default_type(kind: &str, at: &At, making: &mut Making) {
    let said = format!("ELASTIFLOW_DEFAULT_APPID_SRCTYPE={kind}");
    match kind {
        // "__UNKNOWN" shows the ids; here the names that the exporter's options tell are shown.
        "__UNKNOWN" | DEFAULT_TYPE => {
            let text = format!("{said} -> applications = \"{DEFAULT_TYPE}\" (the default)");
            making.report.taken(at, text);
        }
        _ if TYPES.contains(&kind) => {
            for source in ["0.0.0.0/0", "::/0"] {
                exporter(&format!("\"{source}\""), kind, at, making);
            }
            making
                .report
                .taken(at, format!("{said} -> enrich.exporters of every address"));
        }
        _ => {
            let text = format!("{said} is none of {}", TYPES.join(", "));
            making.report.odd(at, text);
        }
    }
}

fn exporter(source: &str, kind: &str, at: &At, making: &mut Making) {
    let lines = vec![
        format!("source = {source}"),
        format!("applications = \"{kind}\""),
    ];
    making.document.table("enrich.exporters", at, lines);
}

fn types(entries: &[Entry], making: &mut Making) {
    let mut wants_table = None;
    for Entry { key, value, at } in entries {
        let Some(address) = address(key, at, making) else {
            continue;
        };
        if !TYPES.contains(&value.as_str()) {
            let text = format!("{key}: {value:?} is none of {}", TYPES.join(", "));
            making.report.odd(at, text);
            continue;
        }
        let source = IpNet::from(address);
        exporter(&format!("\"{source}\""), value, at, making);
        let text = format!("{key}: {value} -> enrich.exporters: applications = \"{value}\"");
        making.report.taken(at, text);
        if value != DEFAULT_TYPE {
            wants_table = Some(at);
        }
    }
    if let Some(at) = wants_table {
        making.report.left(
            at,
            "ElastiFlow's own names of the application ids: give the vendor's table in \
             enrich.application_ids (type, id, application); until then the ids are shown",
        );
    }
}

/// ElastiFlow takes them where the exporter says none, and so does this.
fn rates(entries: &[Entry], making: &mut Making) {
    for Entry { key, value, at } in entries {
        let Some(address) = address(key, at, making) else {
            continue;
        };
        match value.parse::<u32>() {
            Ok(rate) if rate > 0 => {
                let source = IpNet::from(address);
                let lines = vec![
                    format!("source = \"{source}\""),
                    format!("sampling_rate = {rate}"),
                ];
                making.document.table("decode.exporters", at, lines);
                let text = format!(
                    "{key}: {rate} -> decode.exporters: sampling_rate = {rate}, where the exporter \
                     says none"
                );
                making.report.taken(at, text);
            }
            _ => {
                let text = format!("{key}: {value:?} is no sampling rate; write 1 to 4294967295");
                making.report.odd(at, text);
            }
        }
    }
}

fn interfaces(entries: &[Entry], installed: &Path, making: &mut Making) {
    let mut rows = vec![["exporter", "if_index", "name", "alias", "speed"].map(str::to_owned)];
    for entry in entries {
        let Entry { key, value, at } = entry;
        let parts = key.split_once("::ifName.");
        let index = parts.and_then(|(_, index)| index.parse::<u32>().ok());
        let (Some((exporter, _)), Some(index)) = (parts, index) else {
            let text = format!("{key:?} is no interface; write \"ADDRESS::ifName.INDEX\"");
            making.report.odd(at, text);
            continue;
        };
        if let Some(exporter) = address(exporter, at, making)
            && is_name(entry, making)
        {
            let row = [exporter.to_string(), index.to_string(), value.clone()];
            let [exporter, index, name] = row;
            rows.push([exporter, index, name, String::new(), String::new()]);
        }
    }
    put(
        INTERFACES,
        "interfaces",
        csv(&rows),
        rows.len() - 1,
        entries,
        installed,
        making,
    );
}

fn applications(entries: &[Entry], installed: &Path, making: &mut Making) {
    let mut rows = vec![["address", "ports", "protocol", "application"].map(str::to_owned)];
    for entry in entries {
        let Entry { key, value, at } = entry;
        let parts = key.rsplit_once(':');
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
        let (Some((host, _)), Some(port)) = (parts, port) else {
            let text = format!("{key:?} is no application; write \"ADDRESS:PORT\"");
            making.report.odd(at, text);
            continue;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Some(host) = address(host, at, making)
            && is_name(entry, making)
        {
            let (host, port) = (host.to_string(), port.to_string());
            rows.push([host, port, String::new(), value.clone()]);
        }
    }
    put(
        APPLICATIONS,
        "applications",
        csv(&rows),
        rows.len() - 1,
        entries,
        installed,
        making,
    );
}

fn whitelist(entries: &[Entry], installed: &Path, making: &mut Making) {
    let mut lines = String::new();
    let mut count = 0;
    for Entry { key, value, at } in entries {
        // What ElastiFlow takes an address for that is not listed.
        if value == "false" {
            making.report.left(
                at,
                format!("{key}: false: not needed, it is not whitelisted"),
            );
        } else if let Some(address) = address(key, at, making) {
            lines.push_str(&format!("{address}\n"));
            count += 1;
        }
    }
    put(
        WHITELIST,
        "threats_whitelist",
        lines,
        count,
        entries,
        installed,
        making,
    );
}

/// Keeps a file of `count` entries, and names it in the configuration.
fn put(
    name: &'static str,
    key: &str,
    contents: String,
    count: usize,
    entries: &[Entry],
    installed: &Path,
    making: &mut Making,
) {
    let (Some(first), Some(end)) = (entries.first(), entries.last()) else {
        return;
    };
    if count == 0 {
        return;
    }
    let path = installed.join(name).display().to_string();
    let line = format!("{key} = {}", list([path.as_str()]));
    let file = At {
        line: 0,
        ..first.at.clone()
    };
    making.document.key("enrich", &file, &line);
    let text = format!(
        "to line {}: {count} of {} entries -> {name}, enrich.{key}",
        end.at.line,
        entries.len()
    );
    making.report.taken(&first.at, text);
    making.files.push((name, contents));
}

fn csv<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("a Vec takes everything");
    }
    let bytes = writer.into_inner().expect("a Vec takes everything");
    String::from_utf8(bytes).expect("texts make a text")
}

fn address(text: &str, at: &At, making: &mut Making) -> Option<IpAddr> {
    let parsed = text.trim().parse::<IpAddr>();
    if parsed.is_err() {
        let text = format!("{text:?} is no address; write one such as 192.0.2.1, no name");
        making.report.odd(at, text);
    }
    parsed.ok().map(|address| address.to_canonical())
}

fn is_name(Entry { key, value, at }: &Entry, making: &mut Making) -> bool {
    let is_good = !value.is_empty() && !value.contains(|c: char| c.is_control());
    if !is_good {
        let text = format!("{key}: {value:?} is no name; write some text");
        making.report.odd(at, text);
    }
    is_good
}

/// Of entries with the same key the last one, at its place.
fn last(entries: Vec<Entry>, making: &mut Making) -> Vec<Entry> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries {
        match places.get(&entry.key) {
            Some(&place) => {
                let former = std::mem::replace(&mut kept[place], entry);
                let now = &kept[place];
                if former.value != now.value {
                    let text = format!("{} is there again at {}, which counts", now.key, now.at);
                    making.report.left(&former.at, text);
                }
            }
            None => {
                places.insert(entry.key.clone(), kept.len());
                kept.push(entry);
            }
        }
    }
    kept
}

fn read(file: &Path, making: &mut Making) -> Vec<Entry> {
    let at = |line| At {
        file: file.to_owned(),
        line,
    };
    let text = match found::text(file) {
        Ok(text) => text,
        Err(error) => {
            making.report.odd(&at(0), format!("{error:#}"));
            return Vec::new();
        }
    };
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.budget = None;
    let pairs = match serde_saphyr::from_str_with_options::<Pairs>(&text, options) {
        Ok(Pairs(pairs)) => pairs,
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line());
            let why = error.without_snippet().to_string();
            let why = why.lines().next().unwrap_or_default().to_owned();
            let text = format!(
                "the file cannot be read ({why}), nothing of it is taken over; write lines of \
                 \"KEY\": \"VALUE\""
            );
            making.report.odd(&at(line), text);
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (key, value) in pairs {
        let at = at(key.referenced.line());
        match (key.value.0, value.0) {
            (Some(key), Some(value)) => entries.push(Entry { key, value, at }),
            (key, _) => {
                let key = key.unwrap_or_default();
                let text = format!("{key:?} has no plain value; write \"KEY\": \"VALUE\"");
                making.report.odd(&at, text);
            }
        }
    }
    entries
}

/// A mapping in its order, keys that are there twice included.
struct Pairs(Vec<(Spanned<Scalar>, Scalar)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mapping;
        impl<'de> Visitor<'de> for Mapping {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lines of \"KEY\": \"VALUE\"")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }

            /// A file of comments.
            fn visit_unit<E>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }
        }
        deserializer.deserialize_any(Mapping)
    }
}

/// A plain value as text; `None` for lists and mappings.
struct Scalar(Option<String>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Plain;
        impl<'de> Visitor<'de> for Plain {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(Some(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(Some(number.to_string())))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar(Some(flag.to_string())))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(Some(String::new())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar(None))
            }
        }
        deserializer.deserialize_any(Plain)
    }
}
