//! What records say in elements that fill no column: names and values for the column `extra`.
//!
//! Only for operators that ask (`decode.extra`). A template is compiled into the fields that go
//! here ([`ExtraPlan`]); their values are written as text into a buffer of the burst
//! ([`ExtraBuffer`]), in the bytes that ClickHouse takes, and go on as [`ExtraRows`] beside the
//! flows. Nothing here is touched while nobody asks.

mod plan;
mod text;
mod wanted;

#[cfg(test)]
mod tests;

use super::BURST_FLOWS;
use super::elements::DataType;
use text::Text;

pub use plan::ExtraPlan;
pub use text::EXTRA_VALUE_MAX;
pub use wanted::{ElementPattern, PatternError, Wanted};

/// Names with their values of one flow; no template has room for more.
pub const EXTRA_ENTRIES_MAX: usize = 64;

/// Bytes of the names and values of one flow, with their lengths.
pub const EXTRA_BYTES_MAX: usize = 1024;

/// Room for what the flows of a burst say; made once a worker.
#[derive(Debug)]
pub struct ExtraBuffer {
    /// Names one after the other, each behind its length; no room at all while nobody asks.
    names: Box<[u8]>,
    values: Box<[u8]>,
    /// Where what a flow says ends, by its number in the burst, for the first `told` of them.
    ends: [End; BURST_FLOWS],
    told: usize,
    /// After the last value.
    end: End,
}

impl Default for ExtraBuffer {
    /// Without any room.
    fn default() -> Self {
        Self {
            names: Box::default(),
            values: Box::default(),
            ends: [End::default(); BURST_FLOWS],
            told: 0,
            end: End::default(),
        }
    }
}

/// A place between what two flows say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct End {
    entries: usize,
    names: usize,
    values: usize,
}

impl ExtraBuffer {
    /// Bytes of the names and of the values that there is room for.
    pub const MEMORY_BYTES: usize = 2 * BURST_FLOWS * EXTRA_BYTES_MAX;

    /// With room for a burst in which every flow says as much as it may.
    #[must_use]
    pub fn with_room() -> Self {
        let bytes = || vec![0; Self::MEMORY_BYTES / 2].into_boxed_slice();
        Self {
            names: bytes(),
            values: bytes(),
            ..Self::default()
        }
    }

    /// True while no flow of the burst was asked what it says.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.told | self.end.entries == 0
    }

    /// What the first `flows` flows of the burst say.
    #[must_use]
    pub fn rows(&mut self, flows: usize) -> ExtraRows<'_> {
        self.tell(flows);
        ExtraRows {
            names: &self.names,
            values: &self.values,
            start: End::default(),
            ends: self.ends.get(..flows).unwrap_or_default(),
        }
    }

    /// Forgets the burst.
    pub fn clear(&mut self) {
        self.told = 0;
        self.end = End::default();
    }

    /// Begins what flow `number` of the burst says; those before it say no more.
    fn begin(&mut self, number: usize) -> ExtraWriter<'_> {
        self.tell(number);
        ExtraWriter {
            start: self.end,
            cut: 0,
            buffer: self,
        }
    }

    /// The flows before `number` have said what they say.
    fn tell(&mut self, number: usize) {
        let ends = self.ends.iter_mut().take(number).skip(self.told);
        ends.for_each(|end| *end = self.end);
        self.told = self.told.max(number);
    }

    /// Appends an entry, `name` with its length before it.
    fn push(&mut self, name: &[u8], value: &str) -> Option<()> {
        let End {
            entries,
            names,
            values,
        } = self.end;
        let (head, head_len) = varuint(value.len());
        let head = head.get(..head_len)?;
        let value_at = values + head.len();
        let end = End {
            entries: entries + 1,
            names: names + name.len(),
            values: value_at + value.len(),
        };
        let name_place = self.names.get_mut(names..end.names)?;
        let head_place = self.values.get_mut(values..value_at)?;
        head_place.copy_from_slice(head);
        let value_place = self.values.get_mut(value_at..end.values)?;
        name_place.copy_from_slice(name);
        value_place.copy_from_slice(value.as_bytes());
        self.end = end;
        Some(())
    }
}

/// LEB128 of a length below 2^14.
fn varuint(len: usize) -> ([u8; 2], usize) {
    match len {
        0..0x80 => ([len as u8, 0], 1),
        _ => ([len as u8 | 0x80, (len >> 7) as u8], 2),
    }
}

const _: () = assert!(EXTRA_VALUE_MAX < 1 << 14, "two bytes say its length");

/// Takes what one flow says.
struct ExtraWriter<'a> {
    buffer: &'a mut ExtraBuffer,
    start: End,
    /// Entries for which there was no room, and values that were cut.
    cut: u64,
}

impl ExtraWriter<'_> {
    /// Appends `name` (with its length before it) and what `field` says, if anything.
    fn put(&mut self, name: &[u8], data_type: DataType, field: &[u8]) {
        let text = Text::of(data_type, field);
        if text.as_str().is_empty() {
            return;
        }
        let End { names, values, .. } = self.buffer.end;
        let used = (names - self.start.names) + (values - self.start.values);
        let (_, head_len) = varuint(text.as_str().len());
        let more = name.len() + head_len + text.as_str().len();
        let is_full =
            used + more > EXTRA_BYTES_MAX || self.buffer.push(name, text.as_str()).is_none();
        self.cut += u64::from(is_full || text.is_cut());
    }
}

/// What flows in a row say, as many as there are flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtraRows<'a> {
    names: &'a [u8],
    values: &'a [u8],
    start: End,
    ends: &'a [End],
}

impl<'a> ExtraRows<'a> {
    /// That of the first `flows` flows, and that of the others.
    #[must_use]
    pub fn split_at(self, flows: usize) -> (Self, Self) {
        let (first, others) = self.ends.split_at(flows.min(self.ends.len()));
        let start = first.last().copied().unwrap_or(self.start);
        let with = |start, ends| Self {
            start,
            ends,
            ..self
        };
        (with(self.start, first), with(start, others))
    }

    /// All names and all values, each behind its length, in the bytes of a Native block.
    #[must_use]
    pub fn strings(self) -> (&'a [u8], &'a [u8]) {
        let end = self.ends.last().copied().unwrap_or(self.start);
        let names = self.names.get(self.start.names..end.names);
        let values = self.values.get(self.start.values..end.values);
        (names.unwrap_or_default(), values.unwrap_or_default())
    }

    /// After each flow, how many entries there are with those before it.
    pub fn entries(self) -> impl Iterator<Item = usize> {
        let before = self.start.entries;
        self.ends.iter().map(move |end| end.entries - before)
    }

    /// The names and values of flow `number`.
    #[must_use]
    pub fn of(self, number: usize) -> ExtraRow<'a> {
        let (_, from) = self.split_at(number);
        let (names, values) = from.split_at(1).0.strings();
        ExtraRow { names, values }
    }
}

/// What one flow says: names and values.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtraRow<'a> {
    names: &'a [u8],
    values: &'a [u8],
}

impl<'a> Iterator for ExtraRow<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((string(&mut self.names)?, string(&mut self.values)?))
    }
}

/// Takes the first string off `bytes`.
fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let all: &'a [u8] = bytes;
    let (len, rest) = match *all {
        [low, high, ..] if low >= 0x80 => (
            usize::from(low & 0x7f) | usize::from(high) << 7,
            all.get(2..)?,
        ),
        [len, ..] => (usize::from(len), all.get(1..)?),
        [] => return None,
    };
    let (text, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}
