//! The table of columns: the only place that says what a row of `flows` holds.
//!
//! From it follow the column buffers, the header of a Native block, the column list of the insert
//! and the JSON of a row. `sql/` declares the same table to ClickHouse; a test holds them together.

mod columns;

use std::io::{self, Write};

use super::labels::Enriched;
use super::value::Value;
use crate::enrich::Label;
use crate::flow::{DetailFields, Flow};

pub use columns::COLUMNS;
pub(super) use columns::{CLIENT_IS_SRC, LOCALITY};

/// One column of `flows`.
pub struct Column {
    /// Its name: a public interface.
    pub name: &'static str,
    /// Its ClickHouse type, as ClickHouse prints it.
    pub sql_type: &'static str,
    /// Where its values come from.
    pub source: Source,
    /// Prints the value of a flow as JSON.
    pub json: fn(&Flow, &Enriched<'_>, &mut dyn Write) -> io::Result<()>,
}

/// A part of a flow that many flows do not have: its columns are zero for those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What every flow has.
    Flow,
    /// The detail.
    Detail,
    /// The detail, of flows in a tunnel.
    Tunnel,
}

impl Part {
    /// True when `flow` has it.
    #[must_use]
    #[inline]
    pub fn is_in(self, flow: &Flow) -> bool {
        match self {
            Self::Flow => true,
            Self::Detail => flow.detail.is_written(),
            Self::Tunnel => flow.detail.is_written() && flow.detail.has_tunnel(),
        }
    }
}

/// Where the values of a column come from.
pub enum Source {
    /// Stored, `width` bytes a row.
    Fixed {
        /// Bytes of one value.
        width: usize,
        /// Which part of a flow it is read from.
        part: Part,
        /// Writes the values of the flows into exactly as much room as they take.
        fill: fn(&[Flow], &mut [u8]),
    },
    /// Stored, an array of values a row; read from the flow's detail only.
    List {
        /// Bytes of one value.
        width: usize,
        /// Most values of a row.
        items_max: usize,
        /// Writes offsets and values, given the bytes of `values` in use; returns them after.
        fill: fn(&[Flow], offsets: &mut [u8], values: &mut [u8], used: usize) -> usize,
    },
    /// Stored, names and values that come beside the flow.
    Map,
    /// Stored, text that enrichment knows.
    Label(Label),
    /// Stored, a byte that enrichment says.
    Mark,
    /// Computed by ClickHouse when it is asked for.
    Alias(&'static str),
}

impl Source {
    /// The part of a flow that the values come from.
    #[must_use]
    pub const fn part(&self) -> Part {
        match self {
            Self::Fixed { part, .. } => *part,
            Self::List { .. } => Part::Detail,
            Self::Map | Self::Label(_) | Self::Mark | Self::Alias(_) => Part::Flow,
        }
    }
}

impl Column {
    /// True when a batch has a buffer for it, whatever else it has.
    #[must_use]
    pub fn is_of_flow(&self) -> bool {
        matches!(self.source, Source::Fixed { .. } | Source::List { .. })
    }

    /// True when the column is part of an insert.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !matches!(self.source, Source::Alias(_))
    }
}

/// The columns that an insert sends, in its order.
pub fn stored() -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(|column| column.is_stored())
}

/// Those of a part of a flow that a batch has buffers for, in the order of these.
pub(super) fn stored_of(part: Part) -> impl Iterator<Item = &'static Column> {
    stored()
        .filter(|column| column.is_of_flow())
        .filter(move |column| column.source.part() == part)
}

/// Fixes the types of a closure over a flow or its detail.
#[inline]
fn of<F, T>(flow: &F, value: impl Fn(&F) -> T) -> T {
    value(flow)
}

#[inline]
fn fill<T: Value>(flows: &[Flow], out: &mut [u8], value: impl Fn(&Flow) -> T) {
    debug_assert_eq!(out.len(), flows.len() * T::WIDTH);
    for (place, flow) in out.chunks_exact_mut(T::WIDTH).zip(flows) {
        place.copy_from_slice(value(flow).wire().as_ref());
    }
}

#[inline]
fn fill_list<T: Value>(
    flows: &[Flow],
    offsets: &mut [u8],
    values: &mut [u8],
    used: usize,
    items: impl Fn(&DetailFields) -> &[T],
) -> usize {
    let mut end = used;
    for (offset, flow) in offsets.chunks_exact_mut(size_of::<u64>()).zip(flows) {
        let items = items(&flow.detail);
        let place = &mut values[end..end + items.len() * T::WIDTH];
        for (place, item) in place.chunks_exact_mut(T::WIDTH).zip(items) {
            place.copy_from_slice(item.wire().as_ref());
        }
        end += items.len() * T::WIDTH;
        offset.copy_from_slice(&((end / T::WIDTH) as u64).to_le_bytes());
    }
    end
}
