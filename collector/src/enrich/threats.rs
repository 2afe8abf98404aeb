//! Addresses with a bad reputation.
//!
//! In: lists that were fetched from the internet, and the operator's whitelist. Out: ranges of
//! addresses with numbers of sets of tags. An address has the tags of all entries that have it,
//! unless it is on the whitelist. In a list, lines that are no addresses are left out and counted;
//! a list that is mostly such lines, or that has lost all its entries, is refused and the one
//! before it stays, apart from all others. The whitelist is taken whole or not at all.

mod list;
mod sets;
mod wide;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Fault, FileError, FileErrors, FileRead};
use super::labels::Labels;
use super::lpm::Ranges;
use crate::config;

use list::{List, Width};
use sets::Sets;

/// Most entries of all lists together, and of the whitelist.
pub const ENTRIES_MAX: u64 = 1 << 21;

/// All lists.
#[derive(Clone, Debug, Default)]
pub struct Threats {
    lists: Vec<(PathBuf, Arc<List>)>,
    whitelist: Arc<Ranges>,
    ranges: Ranges,
    labels: Arc<Labels>,
}

/// What came of reading the lists.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The new lists, with former ones in the place of those that are refused.
    pub threats: Threats,
    /// What was read.
    pub read: Vec<FileRead>,
    /// Lists of which lines were left out.
    pub left_out: Vec<LeftOut>,
    /// Files that are not used. Of these, what was read before still holds.
    pub refused: FileErrors,
    /// Combinations of tags for which there was no room: such addresses have some of their tags.
    pub sets_refused: u64,
}

/// Lines of a list that are no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// How many there are.
    pub lines: u64,
    /// The first of them.
    pub first: FileError,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lines, first } = self;
        write!(f, "{first} ({lines} such lines are left out)")
    }
}

impl Threats {
    /// Reads the lists of `config` (the keys `enrich.threats` and `enrich.threats_whitelist`). Of
    /// files that are refused, `before` gives what they told then.
    #[must_use]
    pub fn load(config: &config::Enrich, before: &Self) -> Loaded {
        let mut loaded = Loaded::default();
        let mut entries_left = ENTRIES_MAX;
        let mut lists = Vec::new();
        for config::ThreatList { file, tag } in &config.threats {
            let of_it = |(path, _): &&(PathBuf, Arc<List>)| path == file;
            let former = before.lists.iter().find(of_it).map(|(_, list)| list);
            let list = match read(file, former.map(|list| &**list), entries_left) {
                Ok(list) => {
                    loaded.read.push(FileRead::new(file, list.entries));
                    loaded.left_out.extend(list.left_out());
                    Some(Arc::new(list))
                }
                Err(error) => {
                    loaded.refused.append(error);
                    former.cloned()
                }
            };
            let Some(list) = list else {
                continue;
            };
            entries_left = entries_left.saturating_sub(list.entries);
            lists.push((file.clone(), tag.as_str(), list));
        }
        let whitelist = match whitelist(&config.threats_whitelist, &mut loaded.read) {
            Ok(whitelist) => Arc::new(whitelist),
            Err(errors) => {
                loaded.refused.append(errors);
                before.whitelist.clone()
            }
        };
        let mut sets = Sets::default();
        let groups = lists.iter().flat_map(|(_, tag, list)| {
            let groups = list.groups.iter();
            groups.map(move |(tags, ranges)| (*tag, tags, ranges))
        });
        let marked = sets.union(groups);
        loaded.sets_refused = sets.refused();
        loaded.threats = Self {
            ranges: marked.overlay(
                &whitelist,
                |set, is_white| if is_white == 0 { set } else { 0 },
            ),
            labels: Arc::new(sets.labels()),
            lists: lists
                .into_iter()
                .map(|(file, _, list)| (file, list))
                .collect(),
            whitelist,
        };
        loaded
    }

    /// Where which set of tags holds.
    #[must_use]
    pub const fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// `tag1,tag2` by number.
    #[must_use]
    pub const fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }
}

impl List {
    fn left_out(&self) -> Option<LeftOut> {
        let first = self.first_bad.clone()?;
        let lines = self.bad;
        Some(LeftOut { lines, first })
    }
}

/// One list.
fn read(file: &Path, before: Option<&List>, entries_max: u64) -> Result<List, FileErrors> {
    let list = list::parse(file, &files::read(file)?, Width::Narrow, entries_max);
    let List { entries, bad, .. } = list;
    let refused = |what: String, remedy: &str| Err(Fault::new(what, remedy).at(file, None).into());
    if bad > entries {
        let first = list
            .first_bad
            .map(|first| first.to_string())
            .unwrap_or_default();
        let what = format!(
            "{bad} of {} lines are no addresses, first {first}",
            bad + entries
        );
        return refused(what, "the list is not used; see what was fetched");
    }
    if entries == 0 && before.is_some_and(|before| before.entries > 0) {
        let what = "is empty, but was not before".into();
        return refused(
            what,
            "see what was fetched; take it out of the configuration to empty it",
        );
    }
    Ok(list)
}

/// All whitelists together; a bad line refuses them.
fn whitelist(files: &[PathBuf], read: &mut Vec<FileRead>) -> Result<Ranges, FileErrors> {
    let mut errors = FileErrors::default();
    let mut white = Ranges::default();
    for file in files {
        let bytes = match files::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                errors.append(error);
                continue;
            }
        };
        let list = list::parse(file, &bytes, Width::Any, ENTRIES_MAX);
        if let Some(mut first) = list.first_bad {
            if list.bad > 1 {
                first.what += &format!(" (the first of {} such lines)", list.bad);
            }
            errors.add(first);
        }
        for (_, ranges) in &list.groups {
            white = white.overlay(ranges, |a, b| a | b);
        }
        read.push(FileRead::new(file, list.entries));
    }
    errors.or(white)
}

#[cfg(test)]
mod tests;
