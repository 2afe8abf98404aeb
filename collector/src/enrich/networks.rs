//! The operator's networks: what a prefix is called, what it is for, where it is and whose.
//!
//! In: CSV or JSON files. Out: ranges of addresses with numbers of labels. The longest prefix
//! counts. One bad line refuses all files: half of a plan of addresses would be wrong in silence.

mod json;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use ipnet::IpNet;

use super::files::{self, Fault, FileErrors, FileRead, Others, optional, required};
use super::labels::{Labels, LabelsBuilder};
use super::lpm::Ranges;

/// Most prefixes of all files together.
pub const NETWORKS_MAX: usize = 1 << 20;

/// What is told of a network, in the order of its label.
const PARTS: [&str; 5] = ["name", "role", "site", "region", "tenant"];

/// All networks that are known.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    ranges: Ranges,
    labels: Arc<Labels>,
    read: Vec<FileRead>,
}

impl Networks {
    /// Reads `files` (the key `enrich.networks`).
    ///
    /// # Errors
    /// When one of them cannot be read, or a line of one is no network, or a prefix is there twice.
    pub fn load(files: &[PathBuf]) -> Result<Self, FileErrors> {
        let mut building = Building::default();
        let mut read = Vec::new();
        let mut errors = FileErrors::default();
        for file in files {
            match building.read(file) {
                Ok(entries) => read.push(FileRead::new(file, entries)),
                Err(others) => errors.append(others),
            }
        }
        errors.or(())?;
        let Building { found, labels, .. } = building;
        let prefixes = found.into_iter().map(|(prefix, place)| (prefix, place.id));
        Ok(Self {
            ranges: Ranges::of_prefixes(prefixes),
            labels: Arc::new(labels.finish()),
            read,
        })
    }

    /// Where which label holds.
    #[must_use]
    pub const fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// `name\trole\tsite\tregion\ttenant` by number.
    #[must_use]
    pub const fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// What was read.
    #[must_use]
    pub fn read(&self) -> &[FileRead] {
        &self.read
    }
}

#[derive(Default)]
struct Building {
    files: Vec<PathBuf>,
    found: HashMap<IpNet, Place>,
    labels: LabelsBuilder,
}

/// Where a prefix stands, and its label.
struct Place {
    /// Which of the files.
    file: usize,
    line: u64,
    id: u32,
}

impl Building {
    fn read(&mut self, file: &Path) -> Result<u64, FileErrors> {
        let bytes = files::read(file)?;
        self.files.push(file.to_owned());
        let mut add =
            |line, prefix: &str, parts: [&str; PARTS.len()]| self.add(line, prefix, parts);
        if is_json(file, &bytes) {
            return json::parse(file, &bytes, add);
        }
        let [name, role, site, region, tenant] = PARTS.map(optional);
        let columns = [required("prefix"), name, role, site, region, tenant];
        files::parse_csv(file, &bytes, &columns, Others::Refused, |line, row| {
            let [prefix, parts @ ..] = row;
            add(line, prefix, parts)
        })
    }

    fn add(&mut self, line: u64, prefix: &str, parts: [&str; PARTS.len()]) -> Result<(), Fault> {
        let prefix = files::prefix("prefix", prefix)?;
        let label = match parts.iter().all(|part| part.is_empty()) {
            true => String::new(),
            false => parts.join("\t"),
        };
        let Self {
            files,
            found,
            labels,
        } = self;
        let count = found.len();
        let free = match found.entry(prefix) {
            Entry::Occupied(first) => {
                let Place { file, line, .. } = first.get();
                let file = files.get(*file).map(|file| file.display().to_string());
                let first = file.unwrap_or_default();
                let what = format!("{prefix} is there twice, first in {first}:{line}");
                return Err(Fault::new(what, "leave one of them out"));
            }
            Entry::Vacant(free) => free,
        };
        let id = labels.id(&label).filter(|_| count < NETWORKS_MAX);
        let id = id.ok_or_else(|| {
            let remedy = format!("at most {NETWORKS_MAX} prefixes and 64 MiB of text; join some");
            Fault::new("too many networks", remedy)
        })?;
        let file = files.len() - 1;
        free.insert(Place { file, line, id });
        Ok(())
    }
}

/// By its name, else by how it begins.
fn is_json(file: &Path, bytes: &[u8]) -> bool {
    let extension = file.extension().map(OsStr::to_ascii_lowercase);
    match extension.as_deref().and_then(|text| text.to_str()) {
        Some("json") => true,
        Some("csv") => false,
        _ => matches!(bytes.trim_ascii_start().first(), Some(b'[' | b'{')),
    }
}

#[cfg(test)]
mod tests;
