//! Reads the fields of records.
//!
//! A number of one to eight bytes is read as the eight bytes that end where it ends, and what
//! stands before it is masked out: one load for every length. So a record is read through a window
//! that begins eight bytes before it. They are always there, because a message header and a set
//! header come first.

use super::fields::selector_bytes;
use super::record::{Extras, Field, Records};
use crate::flow::{Address, Flow};

/// Bytes before the record that a window begins with.
pub const WINDOW_LEAD: usize = 8;

/// One field of records of a fixed layout, in a row.
///
/// Read through chunks as long as a record, so that whether the field lies within them is the same
/// for all and is checked once: the records themselves when eight bytes of the record come before
/// the field's end, else records that begin with the lead.
#[derive(Debug)]
pub struct FixedRecords<'a> {
    /// A chunk a record, one after the other.
    chunks: &'a [u8],
    /// Bytes of a chunk.
    len: usize,
    /// Where the eight bytes that hold the number begin in each chunk.
    at: u16,
    /// [`mask`] of the field.
    mask: u64,
    flows: &'a mut [Flow],
    extras: &'a mut [Extras],
}

/// Bytes of the shortest record that can be read in chunks.
pub const CHUNK_MIN: usize = 2 * WINDOW_LEAD;

impl<'a> FixedRecords<'a> {
    /// The field that ends `end` bytes into each of the records of `len` bytes that `windows`
    /// holds, with the lead of the first. There are as many `flows` and `extras`.
    #[inline]
    pub fn new(
        windows: &'a [u8],
        len: usize,
        (end, mask): (u16, u64),
        flows: &'a mut [Flow],
        extras: &'a mut [Extras],
    ) -> Self {
        debug_assert!(len >= CHUNK_MIN && usize::from(end) <= len);
        let (skip, at) = match end.checked_sub(WINDOW_LEAD as u16) {
            Some(at) => (WINDOW_LEAD, at),
            None => (0, end),
        };
        Self {
            chunks: windows.get(skip..).unwrap_or_default(),
            len,
            at,
            mask,
            flows,
            extras,
        }
    }

    /// Calls `store` with the field of each record and its place in `into`.
    ///
    /// Not inlined: a loop of its own for each kind of field keeps all it needs in registers.
    #[inline(never)]
    fn each<T>(
        chunks: &[u8],
        len: usize,
        at: u16,
        mask: u64,
        into: &mut [T],
        mut store: impl FnMut(FixedField<'_>, &mut T),
    ) {
        debug_assert!(chunks.len() >= into.len() * len);
        // What the loop would check for each record.
        if usize::from(at) + WINDOW_LEAD > len {
            return;
        }
        for (chunk, into) in chunks.chunks_exact(len).zip(into) {
            store(FixedField { chunk, at, mask }, into);
        }
    }
}

impl Records for FixedRecords<'_> {
    type Field<'f> = FixedField<'f>;

    #[inline(always)]
    fn each_flow(self, store: impl FnMut(FixedField<'_>, &mut Flow)) {
        let Self {
            chunks,
            len,
            at,
            mask,
            flows,
            ..
        } = self;
        Self::each(chunks, len, at, mask, flows, store);
    }

    #[inline(always)]
    fn each_extras(self, store: impl FnMut(FixedField<'_>, &mut Extras)) {
        let Self {
            chunks,
            len,
            at,
            mask,
            extras,
            ..
        } = self;
        Self::each(chunks, len, at, mask, extras, store);
    }
}

/// One of them.
#[derive(Debug)]
pub struct FixedField<'a> {
    chunk: &'a [u8],
    at: u16,
    mask: u64,
}

impl Field for FixedField<'_> {
    #[inline(always)]
    fn number(&self) -> u64 {
        let at = usize::from(self.at);
        let bytes = self.chunk.get(at..at + WINDOW_LEAD);
        let bytes = bytes.and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |b| u64::from_be_bytes(*b)) & self.mask
    }

    #[inline(always)]
    fn v4(&self) -> Address {
        let at = usize::from(self.at);
        let bytes = self.chunk.get(at + 4..at + WINDOW_LEAD);
        let bytes = bytes.and_then(<[u8]>::first_chunk);
        bytes.map_or(Address::UNKNOWN, |b| Address::from_v4(*b))
    }

    #[inline(always)]
    fn v6(&self) -> Address {
        sixteen(self.chunk, usize::from(self.at))
    }

    #[inline(always)]
    fn ninth(&self) -> u8 {
        byte_before(self.chunk, usize::from(self.at))
    }

    #[inline(always)]
    fn selector_bytes(&self, of_template: u8) -> u8 {
        of_template
    }
}

/// A single record.
#[derive(Debug)]
pub struct OneRecord<'a> {
    /// The field.
    pub field: ReadField<'a>,
    /// What it fills.
    pub flow: &'a mut Flow,
    /// What else it may fill.
    pub extras: &'a mut Extras,
}

impl Records for OneRecord<'_> {
    type Field<'f> = ReadField<'f>;

    #[inline(always)]
    fn each_flow(self, mut store: impl FnMut(ReadField<'_>, &mut Flow)) {
        store(self.field, self.flow);
    }

    #[inline(always)]
    fn each_extras(self, mut store: impl FnMut(ReadField<'_>, &mut Extras)) {
        store(self.field, self.extras);
    }
}

/// A field that is read already.
#[derive(Debug)]
pub struct ReadField<'a> {
    /// The record with its lead.
    pub window: &'a [u8],
    /// The field as a number.
    pub value: u64,
    /// One past its last byte.
    pub end: usize,
    /// Its bytes, where they are not the same for all records; else 0.
    pub len: u16,
}

impl Field for ReadField<'_> {
    #[inline(always)]
    fn number(&self) -> u64 {
        self.value
    }

    #[inline(always)]
    fn v4(&self) -> Address {
        Address::from_v4((self.value as u32).to_be_bytes())
    }

    #[inline(always)]
    fn v6(&self) -> Address {
        sixteen(self.window, self.end)
    }

    #[inline(always)]
    fn ninth(&self) -> u8 {
        byte_before(self.window, self.end)
    }

    #[inline(always)]
    fn selector_bytes(&self, of_template: u8) -> u8 {
        match self.len {
            0 => of_template,
            len => selector_bytes(len),
        }
    }
}

/// Bits that stand before a number of `len` bytes in its eight.
#[must_use]
pub fn shift_for(len: u16) -> u8 {
    64 - 8 * len.min(8) as u8
}

/// The bits of a number that has `shift` bits before it in its eight bytes.
#[must_use]
pub const fn mask(shift: u8) -> u64 {
    u64::MAX >> (shift & 63)
}

/// The number that ends `end` bytes into the record.
#[inline(always)]
#[must_use]
pub fn number(window: &[u8], end: usize, mask: u64) -> u64 {
    let bytes = window
        .get(end..)
        .and_then(<[u8]>::first_chunk::<WINDOW_LEAD>);
    // A plan's ends lie within the record, so zero only stands in for what cannot be.
    debug_assert!(bytes.is_some());
    bytes.map_or(0, |b| u64::from_be_bytes(*b)) & mask
}

/// The byte before the one at `at`; 0 when there is none.
#[inline(always)]
fn byte_before(bytes: &[u8], at: usize) -> u8 {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    before.copied().unwrap_or(0)
}

/// The address whose last eight bytes begin at `at`.
#[inline(always)]
fn sixteen(bytes: &[u8], at: usize) -> Address {
    let last = at + WINDOW_LEAD;
    let bytes = last
        .checked_sub(16)
        .and_then(|first| bytes.get(first..last));
    let bytes = bytes.and_then(<[u8]>::first_chunk);
    bytes.map_or(Address::UNKNOWN, |b| Address(*b))
}
