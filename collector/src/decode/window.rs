//! Reads the fields of records.
//!
//! A number of one to eight bytes is read as the eight bytes that end where it ends, and what
//! stands before it is masked out: one load for every length. So a record is read through a window
//! that begins eight bytes before it. They are always there, because a message header and a set
//! header come first.

use super::record::{Extras, Field, Records};
use crate::flow::{Address, Flow};

/// Bytes before the record that a window begins with.
pub const WINDOW_LEAD: usize = 8;

/// One field of records of a fixed layout, in a row.
#[derive(Debug)]
pub struct FixedRecords<'a> {
    /// The records, with the lead of the first.
    pub windows: &'a [u8],
    /// Bytes of a record.
    pub len: usize,
    /// One past the field's last byte in the first record.
    pub end: usize,
    /// [`mask`] of the field.
    pub mask: u64,
    /// A flow for each record.
    pub flows: &'a mut [Flow],
    /// As many.
    pub extras: &'a mut [Extras],
}

impl<'a> Records for FixedRecords<'a> {
    type Field = FixedField<'a>;

    #[inline(always)]
    fn each(self, mut store: impl FnMut(FixedField<'a>, &mut Flow, &mut Extras)) {
        let Self {
            windows,
            len,
            mut end,
            mask,
            flows,
            extras,
        } = self;
        for (flow, extras) in flows.iter_mut().zip(extras) {
            store(FixedField { windows, end, mask }, flow, extras);
            end += len;
        }
    }
}

/// One of them.
#[derive(Debug)]
pub struct FixedField<'a> {
    windows: &'a [u8],
    end: usize,
    mask: u64,
}

impl Field for FixedField<'_> {
    #[inline(always)]
    fn number(&self) -> u64 {
        number(self.windows, self.end, self.mask)
    }

    #[inline(always)]
    fn address(&self) -> Address {
        Address(sixteen(self.windows, self.end))
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

impl<'a> Records for OneRecord<'a> {
    type Field = ReadField<'a>;

    #[inline(always)]
    fn each(self, mut store: impl FnMut(ReadField<'a>, &mut Flow, &mut Extras)) {
        store(self.field, self.flow, self.extras);
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
}

impl Field for ReadField<'_> {
    #[inline(always)]
    fn number(&self) -> u64 {
        self.value
    }

    #[inline(always)]
    fn address(&self) -> Address {
        Address(sixteen(self.window, self.end))
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

/// The sixteen bytes that end `end` bytes into the record.
#[inline(always)]
fn sixteen(window: &[u8], end: usize) -> [u8; 16] {
    let end = end + WINDOW_LEAD;
    let bytes = end.checked_sub(16).and_then(|start| window.get(start..));
    bytes
        .and_then(<[u8]>::first_chunk::<16>)
        .copied()
        .unwrap_or_default()
}
