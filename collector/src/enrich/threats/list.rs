//! One list of addresses: plain, or CSV whose first column they are.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, Trim};
use hashbrown::HashMap;

use super::wide::is_too_wide;
use crate::enrich::files::{Fault, FileError, parse_prefix, quoted};
use crate::enrich::lpm::Ranges;
use crate::flow::Address;

/// Most tags of one line, and characters of a tag.
const TAGS_MAX: usize = 16;
const TAG_CHARS_MAX: usize = 64;

/// Most different sets of tags in one list. Each is a text of its own in the columns.
const SETS_MAX: usize = 256;

/// Texts of tags that are remembered as read, so that each is read once.
const TEXTS_MAX: usize = 4096;

/// Addresses, both ends inclusive.
type Range = (Address, Address);

/// Tags of some lines, sorted.
pub(super) type Tags = Box<[Box<str>]>;

/// A list as it was read.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Where the tags of which lines hold, beside the tag of the list.
    pub groups: Vec<(Tags, Ranges)>,
    /// Lines that were taken.
    pub entries: u64,
    /// Lines that were not.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Option<FileError>,
}

/// Which addresses a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Any: the operator's own list.
    Any,
    /// Not those that would mark half of the internet, or all of one's own hosts.
    Narrow,
}

/// Reads `bytes`, which messages call `path`.
///
/// Lines that begin with '#' or ';' are comments, and so is what stands behind these in the first
/// column. A first line without dots and colons in its first column is one of titles.
pub(super) fn parse(path: &Path, bytes: &[u8], width: Width, entries_max: u64) -> List {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(bytes);
    let mut record = ByteRecord::new();
    let mut building = Building {
        tags_column: None,
        groups: Vec::new(),
        sets: HashMap::new(),
        texts: HashMap::new(),
        width,
        entries_left: entries_max,
    };
    let mut list = List::default();
    let mut is_first = true;
    // Nothing fails in reading bytes from memory.
    while reader.read_byte_record(&mut record).unwrap_or(false) {
        let lines = 1 + record
            .as_slice()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count() as u64;
        // What a quote that nobody closed swallowed is lines, not one line.
        let taken = match lines {
            1 => building.line(&record, is_first),
            _ => Err(Fault::new("a quote is not closed", "close it")),
        };
        match taken {
            Ok(Line::Comment) => continue,
            Ok(Line::Titles) => {}
            Ok(Line::Entry) => list.entries += 1,
            Err(fault) => {
                list.bad += lines;
                let first = || fault.at(path, Some(line_of(bytes, &record)));
                list.first_bad.get_or_insert_with(first);
            }
        }
        is_first = false;
    }
    list.groups = building.finish();
    list
}

/// What a line was.
enum Line {
    Comment,
    Titles,
    Entry,
}

struct Building {
    tags_column: Option<usize>,
    groups: Vec<(Tags, Vec<Range>)>,
    sets: HashMap<Tags, usize>,
    /// The group of what stands in the column of tags.
    texts: HashMap<Box<[u8]>, usize>,
    width: Width,
    entries_left: u64,
}

impl Building {
    fn line(&mut self, record: &ByteRecord, is_first: bool) -> Result<Line, Fault> {
        let field = record.get(0).unwrap_or_default();
        let mut parts = field.split(|byte| matches!(byte, b'#' | b';'));
        let address = parts.next().unwrap_or_default().trim_ascii();
        let is_comment = parts.next().is_some() || record.len() == 1;
        if address.is_empty() && is_comment {
            return Ok(Line::Comment);
        }
        if is_first && !address.iter().any(|byte| matches!(byte, b'.' | b':')) {
            let is_tags = |title: &[u8]| title.eq_ignore_ascii_case(b"tags");
            self.tags_column = record
                .iter()
                .skip(1)
                .position(is_tags)
                .map(|place| place + 1);
            return Ok(Line::Titles);
        }
        let range = range(address).ok_or_else(|| {
            let what = format!("found {}", quoted(&String::from_utf8_lossy(address)));
            Fault::new(
                what,
                "allowed: an address, a prefix, or a range of addresses",
            )
        })?;
        if self.width == Width::Narrow && is_too_wide(range) {
            let what = format!("{} is too wide", quoted(&String::from_utf8_lossy(address)));
            let remedy = "at most a /8 (IPv6: /16), and no block of private or special addresses \
                          as a whole";
            return Err(Fault::new(what, remedy));
        }
        let group = self.group(record)?;
        let left = self.entries_left.checked_sub(1).ok_or_else(|| {
            Fault::new(
                "too many entries",
                "take shorter lists, or lists of prefixes",
            )
        })?;
        if let Some((_, ranges)) = self.groups.get_mut(group) {
            ranges.push(range);
        }
        self.entries_left = left;
        Ok(Line::Entry)
    }

    /// The group of the line's tags.
    fn group(&mut self, record: &ByteRecord) -> Result<usize, Fault> {
        let text = self.tags_column.and_then(|column| record.get(column));
        let text = text.unwrap_or_default();
        if let Some(group) = self.texts.get(text) {
            return Ok(*group);
        }
        let tags = tags(text)?;
        let group = match self.sets.get(&tags) {
            Some(group) => *group,
            None if self.sets.len() >= SETS_MAX => {
                let what = format!("more than {SETS_MAX} different sets of tags");
                return Err(Fault::new(what, "divide the list into several"));
            }
            None => {
                self.groups.push((tags.clone(), Vec::new()));
                self.sets.insert(tags, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        if self.texts.len() < TEXTS_MAX {
            self.texts.insert(text.into(), group);
        }
        Ok(group)
    }

    fn finish(self) -> Vec<(Tags, Ranges)> {
        let joined = |(tags, ranges)| (tags, join(ranges));
        self.groups.into_iter().map(joined).collect()
    }
}

/// Tags that ';', '|' or commas divide.
fn tags(text: &[u8]) -> Result<Tags, Fault> {
    let is_bad =
        |tag: &&str| tag.chars().any(char::is_control) || tag.chars().count() > TAG_CHARS_MAX;
    let lossy = || quoted(&String::from_utf8_lossy(text));
    let bad = || {
        let remedy = format!(
            "allowed: at most {TAGS_MAX} tags of at most {TAG_CHARS_MAX} characters, divided by \
             ';' or '|'"
        );
        Fault::new(format!("tags: found {}", lossy()), remedy)
    };
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let tags = text.split([';', '|', ',']).map(str::trim);
    let mut tags: Vec<_> = tags.filter(|tag| !tag.is_empty()).collect();
    tags.sort_unstable();
    tags.dedup();
    match tags.len() > TAGS_MAX || tags.iter().any(is_bad) {
        true => Err(bad()),
        false => Ok(tags.into_iter().map(Box::from).collect()),
    }
}

/// An address, `address:port`, a prefix, or two addresses with '-' between.
fn range(text: &[u8]) -> Option<Range> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((ip.into(), ip.into()));
    }
    if text.contains('/') {
        let prefix = parse_prefix(text)?;
        return Some((prefix.network().into(), prefix.broadcast().into()));
    }
    if let Some((first, last)) = text.split_once('-') {
        let [first, last] = [first, last].map(|text| text.trim().parse::<IpAddr>().ok());
        let (first, last) = (first?.to_canonical(), last?.to_canonical());
        let is_range = first.is_ipv4() == last.is_ipv4() && first <= last;
        return is_range.then(|| (first.into(), last.into()));
    }
    // The address of somebody bad is bad, whatever the port.
    let ip = text.parse::<SocketAddr>().ok()?.ip();
    Some((ip.into(), ip.into()))
}

/// Those that overlap become one.
fn join(mut ranges: Vec<Range>) -> Ranges {
    ranges.sort_unstable();
    let (v4, v6): (Vec<_>, Vec<_>) = ranges
        .into_iter()
        .partition(|(start, _)| start.to_ip().is_ipv4());
    let mut joined = Ranges::default();
    for family in [v4, v6] {
        let mut open: Option<Range> = None;
        for (start, end) in family {
            open = Some(match open {
                Some((first, last)) if start <= last => (first, last.max(end)),
                Some(before) => {
                    push(&mut joined, before);
                    (start, end)
                }
                None => (start, end),
            });
        }
        if let Some(last) = open {
            push(&mut joined, last);
        }
    }
    joined
}

fn push(joined: &mut Ranges, (start, end): Range) {
    let is_in_order = joined.push(start, end, 1);
    debug_assert!(is_in_order, "ranges are sorted and apart");
}

/// The reader tells where it began to look; empty lines may stand before the record.
fn line_of(bytes: &[u8], record: &ByteRecord) -> u64 {
    let Some(position) = record.position() else {
        return 1;
    };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = bytes.get(start..).unwrap_or_default();
    let ends = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
    position.line() + ends.filter(|byte| **byte == b'\n').count() as u64
}
