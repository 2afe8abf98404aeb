//! What is known of the interfaces of exporters: name, alias, speed, and what rules say of them.
//!
//! In: static files, what agents said by SNMP, and names out of options; of each field the first of
//! these that says something counts. Out: an immutable table; a datagram's exporter is looked up
//! once, each of its interfaces by index. Owner: a control task builds it, at most once a second.
//! Bounds: [`INTERFACES_MAX`] interfaces, [`TEXT_MAX`](crate::names::TEXT_MAX) bytes a text. Texts
//! come from the network: they hold no control characters.

mod files;
pub mod rows;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::snmp::Polled;
use crate::flow::Address;
use crate::names::{Names, Text};

pub use files::{InterfaceFileError, StaticInterfaces};
pub use rules::{InterfaceRuleError, InterfaceRules};

/// Interfaces kept in all.
pub const INTERFACES_MAX: usize = 131_072;

/// One interface, as somebody describes it. What he does not say is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Interface {
    /// ifName: what the exporter's own commands call it.
    pub name: Box<str>,
    /// ifAlias: what its operator calls it.
    pub alias: Box<str>,
    /// bit/s.
    pub speed: u64,
}

/// A text as tables may have it: bounded, and without control characters.
pub(super) fn clean(text: &[u8]) -> Box<str> {
    Text::of(text).to_string().into()
}

/// What is known at one moment. Nobody changes it any more.
#[derive(Debug, Default)]
pub struct Interfaces {
    exporters: HashMap<Address, OfExporter>,
    /// All labels, one behind the other.
    text: String,
    /// Where the label of each id ends in `text`; that of id 0 is empty.
    ends: Vec<u32>,
    left_out: usize,
}

/// The ids of one exporter's interfaces.
#[derive(Debug, Default)]
struct OfExporter {
    /// By index, as far as indexes stand close together.
    near: Vec<u32>,
    /// The others.
    far: HashMap<u32, u32>,
}

/// The interfaces of one exporter.
#[derive(Clone, Copy, Debug)]
pub struct ExporterInterfaces<'a>(&'a OfExporter);

impl ExporterInterfaces<'_> {
    /// The id of the interface with this index (ifIndex), 0 when nothing is known of it.
    #[must_use]
    #[inline]
    pub fn get(self, if_index: u32) -> u32 {
        let Self(OfExporter { near, far }) = self;
        match near.get(if_index as usize) {
            Some(id) => *id,
            None if far.is_empty() => 0,
            None => far.get(&if_index).copied().unwrap_or(0),
        }
    }
}

impl Interfaces {
    /// Puts together what is said of each interface: by files first, then by SNMP, then by options
    /// records. Takes time in proportion to all interfaces, for each as many rules as do not fit.
    #[must_use]
    pub fn new(
        files: &StaticInterfaces,
        polled: &Polled,
        names: &Names,
        rules: &InterfaceRules,
    ) -> Self {
        let mut said = Vec::new();
        for (exporter, if_index, interface) in files.iter() {
            said.push(Said::of(exporter, if_index, Source::Files, interface));
        }
        for (exporter, if_index, interface) in polled.iter() {
            said.push(Said::of(exporter, if_index, Source::Snmp, interface));
        }
        for (exporter, if_index, named) in names.interfaces() {
            said.push(Said {
                exporter,
                if_index,
                source: Source::Options,
                name: &named.name,
                alias: &named.description,
                speed: 0,
            });
        }
        // Stable: of what options say in several domains the lowest domain comes first.
        said.sort_by_key(|said| (said.exporter, said.if_index, said.source));
        let mut interfaces = Self {
            ends: vec![0],
            ..Self::default()
        };
        for of_exporter in said.chunk_by(|a, b| a.exporter == b.exporter) {
            interfaces.add_exporter(of_exporter, rules);
        }
        interfaces
    }

    /// Takes in all that is said of the interfaces of one exporter.
    fn add_exporter(&mut self, said: &[Said<'_>], rules: &InterfaceRules) {
        let mut own = OfExporter::default();
        let mut count = 0;
        for of_interface in said.chunk_by(|a, b| a.if_index == b.if_index) {
            let [
                Said {
                    if_index, source, ..
                },
                ..,
            ] = of_interface
            else {
                continue;
            };
            let if_index = *if_index;
            // Exporters write 0 where they do not know an interface (RFC 3954 section 8), so only
            // an operator can say what it is.
            let id = match (if_index, source) {
                (0, Source::Snmp | Source::Options) => 0,
                _ => self.add(of_interface, rules),
            };
            if id == 0 {
                continue;
            }
            count += 1;
            let place = if_index as usize;
            if place < NEAR_ALWAYS + NEAR_SPARSE * count {
                own.near.resize(place + 1, 0);
                own.near[place] = id;
            } else {
                own.far.insert(if_index, id);
            }
        }
        if let [first, ..] = said
            && count > 0
        {
            own.near.shrink_to_fit();
            self.exporters.insert(first.exporter, own);
        }
    }

    /// Takes one interface in; its id, 0 when nothing is said of it or there are too many.
    fn add(&mut self, said: &[Said<'_>], rules: &InterfaceRules) -> u32 {
        let name = first_text(said.iter().map(|said| said.name));
        let alias = first_text(said.iter().map(|said| said.alias));
        let mut speeds = said.iter().map(|said| said.speed);
        let speed = speeds.find(|speed| *speed > 0).unwrap_or(0);
        if name.is_empty() && alias.is_empty() && speed == 0 {
            return 0;
        }
        if self.len() >= INTERFACES_MAX {
            self.left_out += 1;
            return 0;
        }
        let begin = self.text.len();
        let label = &mut self.text;
        let class = rules.classify(name, alias, speed);
        label.extend([name, "\t", alias, "\t"]);
        if speed > 0 {
            write!(label, "{speed}").expect("a String takes everything");
        }
        let [boundary, provider, connectivity] = class.columns();
        label.extend(["\t", boundary, "\t", provider, "\t", connectivity]);
        let Ok(end) = u32::try_from(self.text.len()) else {
            self.text.truncate(begin);
            self.left_out += 1;
            return 0;
        };
        self.ends.push(end);
        // At most `INTERFACES_MAX`.
        (self.ends.len() - 1) as u32
    }

    /// The interfaces of `exporter` (column `exporter_addr`); `None` when none is known. To be
    /// asked once a datagram.
    #[must_use]
    #[inline]
    pub fn exporter(&self, exporter: Address) -> Option<ExporterInterfaces<'_>> {
        self.exporters.get(&exporter).map(ExporterInterfaces)
    }

    /// `name\talias\tspeed\tboundary\tprovider\tconnectivity` of the interface that has this id;
    /// what is not known is empty. `''` for 0 and for ids that were not given.
    #[must_use]
    pub fn label(&self, id: u32) -> &str {
        let id = id as usize;
        let begin = id.checked_sub(1).and_then(|before| self.ends.get(before));
        let (Some(begin), Some(end)) = (begin, self.ends.get(id)) else {
            return "";
        };
        self.text
            .get(*begin as usize..*end as usize)
            .unwrap_or_default()
    }

    /// Interfaces of which something is known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    /// True when nothing is known of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Interfaces that were left out because there are more than [`INTERFACES_MAX`].
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Bytes of memory, but for what the allocator adds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let of_map = |entries: usize, bytes: usize| entries * (bytes + 1);
        let own = |of: &OfExporter| {
            let near = of.near.capacity() * size_of::<u32>();
            near + of_map(of.far.capacity(), size_of::<(u32, u32)>())
        };
        let exporters = self.exporters.values().map(own).sum::<usize>();
        let entry = size_of::<(Address, OfExporter)>();
        let labels = self.text.capacity() + self.ends.capacity() * size_of::<u32>();
        labels + exporters + of_map(self.exporters.capacity(), entry)
    }
}

fn first_text<'a>(mut texts: impl Iterator<Item = &'a str>) -> &'a str {
    texts.find(|text| !text.is_empty()).unwrap_or("")
}

/// Indexes below this one stand in an array; of each exporter 256 bytes.
const NEAR_ALWAYS: usize = 64;
/// Larger ones do, too, as long as one in so many is taken.
const NEAR_SPARSE: usize = 8;

/// Who says something; the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Files,
    Snmp,
    Options,
}

/// What one source says of one interface.
#[derive(Clone, Copy, Debug)]
struct Said<'a> {
    exporter: Address,
    if_index: u32,
    source: Source,
    name: &'a str,
    alias: &'a str,
    speed: u64,
}

impl<'a> Said<'a> {
    fn of(exporter: Address, if_index: u32, source: Source, interface: &'a Interface) -> Self {
        let Interface { name, alias, speed } = interface;
        Self {
            exporter,
            if_index,
            source,
            name,
            alias,
            speed: *speed,
        }
    }
}
