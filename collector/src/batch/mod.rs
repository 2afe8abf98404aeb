//! Rows in, columns out.
//!
//! In: bursts of flows. Out: sealed batches of columns, encoded as ClickHouse Native blocks.
//! Owner: a worker fills, the store encodes, the empty batch comes back; memory is fixed at start.
//! Drops: `store_backlog`. Spec: ClickHouse's Native format.

#![forbid(unsafe_code)]

mod batcher;
pub mod json;
pub mod native;
pub mod schema;
pub mod value;

use crate::flow::Flow;
use schema::Source;

pub use batcher::Batcher;

/// Rows as columns, each already in the bytes that ClickHouse takes, behind its name and type:
/// a block is the columns one after the other.
pub struct Batch {
    rows: usize,
    rows_max: usize,
    columns: Box<[Buffer]>,
}

/// The bytes of one stored column.
enum Buffer {
    Fixed {
        /// Length of the name and type at the start of `bytes`.
        head: usize,
        width: usize,
        fill: fn(&[Flow], &mut [u8]),
        bytes: Box<[u8]>,
    },
    List {
        head: usize,
        fill: fn(&[Flow], &mut [u8], &mut [u8], usize) -> usize,
        /// Name, type and end offsets.
        offsets: Box<[u8]>,
        values: Box<[u8]>,
        /// Bytes of `values` in use.
        used: usize,
    },
}

const OFFSET_WIDTH: usize = size_of::<u64>();

impl Batch {
    /// An empty batch that takes `rows_max` rows and never more memory than now.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self {
            rows: 0,
            rows_max,
            columns: schema::stored()
                .map(|column| Buffer::new(column, rows_max))
                .collect(),
        }
    }

    /// Rows held.
    #[must_use]
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that still fit.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        self.rows_max - self.rows
    }

    /// Appends a row a flow.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline]
    pub fn append(&mut self, flows: &[Flow]) {
        assert!(flows.len() <= self.room(), "the caller cuts to the room");
        for column in &mut self.columns {
            column.append(self.rows, flows);
        }
        self.rows += flows.len();
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            if let Buffer::List { used, .. } = column {
                *used = 0;
            }
        }
    }

    /// Bytes of memory of all columns, used or not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(Buffer::memory_bytes).sum()
    }

    /// What [`Batch::memory_bytes`] of a batch of `rows_max` rows is, without making one.
    #[must_use]
    pub fn memory_bytes_for(rows_max: usize) -> usize {
        schema::stored()
            .map(|column| {
                let row = match column.source {
                    Source::Fixed { width, .. } => width,
                    Source::List {
                        width, items_max, ..
                    } => OFFSET_WIDTH + width * items_max,
                    Source::Alias(_) => 0,
                };
                native::column_head(column.name, column.sql_type).len() + row * rows_max
            })
            .sum()
    }

    /// The bytes of the columns in the order of the table, names and types included.
    fn columns(&self) -> impl Iterator<Item = &[u8]> {
        self.columns
            .iter()
            .flat_map(|column| column.pieces(self.rows))
    }
}

impl Buffer {
    fn new(column: &schema::Column, rows_max: usize) -> Self {
        let name_and_type = native::column_head(column.name, column.sql_type);
        let head = name_and_type.len();
        let with_room = |width: usize| {
            // Zeroed memory is mapped by the kernel when it is first written to.
            let mut bytes = vec![0; head + width * rows_max].into_boxed_slice();
            bytes[..head].copy_from_slice(&name_and_type);
            bytes
        };
        match column.source {
            Source::Fixed { width, fill } => Self::Fixed {
                head,
                width,
                fill,
                bytes: with_room(width),
            },
            Source::List {
                width,
                items_max,
                fill,
            } => Self::List {
                head,
                fill,
                offsets: with_room(OFFSET_WIDTH),
                values: vec![0; width * items_max * rows_max].into_boxed_slice(),
                used: 0,
            },
            Source::Alias(_) => unreachable!("only stored columns have buffers"),
        }
    }

    #[inline]
    fn append(&mut self, rows: usize, flows: &[Flow]) {
        match self {
            Self::Fixed {
                head,
                width,
                fill,
                bytes,
            } => {
                let start = *head + rows * *width;
                fill(flows, &mut bytes[start..start + flows.len() * *width]);
            }
            Self::List {
                head,
                fill,
                offsets,
                values,
                used,
            } => {
                let start = *head + rows * OFFSET_WIDTH;
                let offsets = &mut offsets[start..start + flows.len() * OFFSET_WIDTH];
                *used = fill(flows, offsets, values, *used);
            }
        }
    }

    fn pieces(&self, rows: usize) -> impl Iterator<Item = &[u8]> {
        let (first, second) = match self {
            Self::Fixed {
                head, width, bytes, ..
            } => (&bytes[..*head + rows * *width], None),
            Self::List {
                head,
                offsets,
                values,
                used,
                ..
            } => (
                &offsets[..*head + rows * OFFSET_WIDTH],
                Some(&values[..*used]),
            ),
        };
        std::iter::once(first).chain(second)
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Fixed { bytes, .. } => bytes.len(),
            Self::List {
                offsets, values, ..
            } => offsets.len() + values.len(),
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} of {} rows)", self.rows, self.rows_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_batch_is_known_without_making_one() {
        assert_eq!(Batch::new(100).memory_bytes(), Batch::memory_bytes_for(100));
        let row = Batch::memory_bytes_for(1001) - Batch::memory_bytes_for(1000);
        assert!((250..350).contains(&row), "{row} bytes a row");
    }

    #[test]
    #[should_panic(expected = "the caller cuts to the room")]
    fn a_full_batch_takes_no_row() {
        let mut batch = Batch::new(1);
        batch.append(&[Flow::EMPTY]);
        assert_eq!(batch.room(), 0);
        batch.append(&[Flow::EMPTY]);
    }
}
