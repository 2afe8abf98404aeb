//! Which files there are, and what they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Deeper folders are not looked into, and no more files than these.
const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 20_000;
/// An edited file is not longer.
pub(super) const BYTES_MAX: u64 = 64 << 20;

/// Files that an operator edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dictionary {
    ApplicationTypes,
    SamplingRates,
    InterfaceNames,
    Applications,
    Whitelist,
}

const DICTIONARIES: [(&str, Dictionary); 5] = [
    ("app_id.srctype.yml", Dictionary::ApplicationTypes),
    ("sampling_interval.yml", Dictionary::SamplingRates),
    ("ifName.yml", Dictionary::InterfaceNames),
    ("applications.yml", Dictionary::Applications),
    ("ip_rep_whitelist.yml", Dictionary::Whitelist),
];

/// Files without counterpart: how their names begin or what they are, and why.
const LEFT: [(&str, &str); 18] = [
    (
        "app_id.yml",
        "not needed for cisco_nbar2, whose exporters tell the names; for fortinet and \
                    velocloud give a table of your own in enrich.application_ids",
    ),
    (
        "ip_rep_basic.yml",
        "not taken over: name lists of your own under [[enrich.threats]]",
    ),
    (
        "ieee_oui.yml",
        "not needed: enrich.mac_vendors takes the IEEE's own list",
    ),
    (
        "iana_",
        "not needed: services and protocols have their IANA names",
    ),
    (
        "sonicwall_app_id.yml",
        "no counterpart: give the table in enrich.application_ids",
    ),
    (
        "sophos_app_id.yml",
        "no counterpart: give the table in enrich.application_ids",
    ),
    (
        "netflow",
        "not needed: elements are built in; decode.extra stores further ones",
    ),
    (
        "ipfix",
        "not needed: elements are built in; decode.extra stores further ones",
    ),
    ("elasticsearch.yml", "not needed: there is no Elasticsearch"),
    (
        "kibana.yml",
        "not needed: there is no Kibana; Grafana asks ClickHouse",
    ),
    ("logstash.yml", "not needed: there is no Logstash"),
    ("pipelines.yml", "not needed: there is no Logstash"),
    ("log4j2.properties", "not needed: see [log]"),
    (
        "jvm.options",
        "not needed: there is no Java heap; 'flowsluice check' tells the memory",
    ),
    ("startup.options", "not needed: there is no Logstash"),
    (
        "elastiflow.template.json",
        "not needed: the tables are made by themselves",
    ),
    ("curator", "not needed: set store.retention"),
    ("action_file", "not needed: set store.retention"),
];

/// What was found; all lists in the order of their paths.
#[derive(Default)]
pub(super) struct Found {
    pub(super) dictionaries: Vec<(PathBuf, Dictionary)>,
    /// With variables of ElastiFlow.
    pub(super) environments: Vec<PathBuf>,
    /// Inputs of Logstash that are on and off: "netflow_ipv4".
    pub(super) inputs_on: BTreeSet<String>,
    pub(super) inputs_off: BTreeSet<String>,
    /// Without counterpart, and why.
    pub(super) left: Vec<(PathBuf, &'static str)>,
}

impl Found {
    pub(super) fn below(folders: &[PathBuf]) -> Result<Self> {
        let mut found = Self::default();
        let mut files = 0;
        for folder in folders {
            let look = || {
                format!(
                    "{} cannot be read; name a folder of this host",
                    folder.display()
                )
            };
            let metadata = fs::metadata(folder).with_context(look)?;
            if metadata.is_dir() {
                found.folder(folder, DEPTH_MAX, &mut files)?;
            } else {
                found.file(folder)?;
            }
        }
        Ok(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dictionaries.is_empty()
            && self.environments.is_empty()
            && self.inputs_on.is_empty()
            && self.inputs_off.is_empty()
    }

    fn folder(&mut self, folder: &Path, depth: usize, files: &mut usize) -> Result<()> {
        let unreadable = || format!("{} cannot be read", folder.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).with_context(unreadable)? {
            paths.push(entry.with_context(unreadable)?.path());
        }
        paths.sort();
        for path in paths {
            *files += 1;
            ensure!(
                *files <= FILES_MAX,
                "there are more than {FILES_MAX} files; name the folders of ElastiFlow only"
            );
            let is_link = fs::symlink_metadata(&path).is_ok_and(|it| it.is_symlink());
            // A link to a folder may lead back to it.
            if path.is_dir() {
                if depth > 0 && !is_link {
                    self.folder(&path, depth - 1, files)?;
                }
            } else if path.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some((_, kind)) = DICTIONARIES.iter().find(|(known, _)| *known == name) {
            self.dictionaries.push((path.to_owned(), *kind));
            return Ok(());
        }
        if let Some(rest) = name.strip_prefix("10_input_") {
            if let Some(input) = rest.strip_suffix(".logstash.conf") {
                self.inputs_on.insert(input.to_owned());
            } else if let Some(input) = rest.strip_suffix(".logstash.conf.disabled") {
                self.inputs_off.insert(input.to_owned());
            }
            return Ok(());
        }
        if let Some((_, why)) = LEFT.iter().find(|(known, _)| name.starts_with(known)) {
            self.left.push((path.to_owned(), *why));
            return Ok(());
        }
        let is_environment = [".conf", ".env", ".sh"]
            .iter()
            .any(|end| name.ends_with(end));
        if is_environment && !name.ends_with(".logstash.conf") {
            if super::environment::is_one(&text(path)?) {
                self.environments.push(path.to_owned());
            }
        } else if name.ends_with(".yml") {
            let why = "not read: it is none of the files that this import knows";
            self.left.push((path.to_owned(), why));
        }
        Ok(())
    }
}

/// A file as text; what is no UTF-8 in it is replaced.
pub(super) fn text(path: &Path) -> Result<String> {
    let length = fs::metadata(path).map(|metadata| metadata.len());
    let read = || format!("{} cannot be read", path.display());
    ensure!(
        length.with_context(read)? <= BYTES_MAX,
        "{} is longer than 64 MiB; no file that this import knows is",
        path.display()
    );
    let bytes = fs::read(path).with_context(read)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
