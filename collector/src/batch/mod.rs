//! Rows in, columns out.
//!
//! In: bursts of flows. Out: sealed batches of columns, encoded as ClickHouse Native blocks.
//! Owner: a worker fills, the store marks and encodes, the empty batch comes back; memory is fixed
//! at start.
//! Drops: `store_backlog`. Spec: ClickHouse's Native format.

#![forbid(unsafe_code)]

mod batcher;
mod beside;
mod extra;
pub mod json;
mod keys;
mod labels;
pub mod native;
pub mod schema;
pub mod value;

use std::ops::Range;

use crate::decode::ExtraRows;
use crate::enrich::{Enricher, KEYS};
use crate::flow::Flow;
use extra::ExtraColumn;
use keys::KEY_COLUMNS;
use labels::LabelLanes;
use schema::{Part, Source};

pub use batcher::Batcher;
pub use beside::Beside;
pub use labels::{Enriched, LabelEncoder, Marked};

/// Rows of a full batch. What a worker writes to it (some 180 bytes a row) stays in a second cache
/// of a megabyte until the store has read it; an insert is made of many batches.
pub const BATCH_ROWS: usize = 4096;

/// Rows as columns, each already in the bytes that ClickHouse takes, behind its name and type:
/// a Native block is the columns one after the other.
pub struct Batch {
    rows: usize,
    rows_max: usize,
    columns: Box<[Buffer]>,
    rare: [Rare; 2],
    /// Only where `decode.extra` asks for it.
    extra: Option<Box<ExtraColumn>>,
    /// Only where flows are enriched.
    labels: Option<Box<LabelLanes>>,
}

/// The columns of a part that many flows do not have. Nothing is written for flows without it until
/// one with it comes.
struct Rare {
    part: Part,
    columns: Box<[Buffer]>,
    /// Rows that the columns have; those that they lack are zero.
    rows: usize,
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
        width: usize,
        values: Box<[u8]>,
        /// Bytes of `values` in use.
        used: usize,
    },
}

/// A column of a batch as it stands in a Native block.
#[derive(Clone, Copy, Debug)]
pub struct ColumnBytes<'a> {
    /// Length of the name and type that `bytes` begins with.
    pub head: usize,
    /// Bytes of one value, of one offset where it is a list.
    pub width: usize,
    /// Name, type, and a value (or end offset) a row.
    pub bytes: &'a [u8],
    /// The values of a list, the names and values of a map; empty otherwise.
    pub lists: [&'a [u8]; 2],
}

impl ColumnBytes<'_> {
    /// True when every row has the value that ClickHouse assumes for a column that is left out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        // The first is zero and each is as the one before: the fastest way to say it.
        let values = &self.bytes[self.head..];
        values.first().is_none_or(|first| *first == 0)
            && values.get(1..) == values.split_last().map(|(_, before)| before)
    }
}

const OFFSET_WIDTH: usize = size_of::<u64>();

impl Batch {
    /// An empty batch that takes `rows_max` rows and never more memory than now.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        let buffers = |part| {
            schema::stored_of(part)
                .map(|column| Buffer::new(column, rows_max))
                .collect()
        };
        Self {
            rows: 0,
            rows_max,
            columns: buffers(Part::Flow),
            rare: [Part::Detail, Part::Tunnel].map(|part| Rare {
                part,
                columns: buffers(part),
                rows: 0,
            }),
            extra: None,
            labels: None,
        }
    }

    /// The same with room for the column `extra`.
    #[must_use]
    pub fn with_extra(self) -> Self {
        let extra = ExtraColumn::new(self.rows_max);
        Self {
            extra: Some(Box::new(extra)),
            ..self
        }
    }

    /// The same with room for what enrichment says.
    #[must_use]
    pub fn with_labels(self) -> Self {
        let labels = LabelLanes::new(self.rows_max);
        Self {
            labels: Some(Box::new(labels)),
            ..self
        }
    }

    /// True when [`Batch::mark`] has something to do.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
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
        for rare in &mut self.rare {
            if flows.iter().any(|flow| rare.part.is_in(flow)) {
                rare.append(self.rows, flows);
            }
        }
        if let Some(lanes) = &mut self.labels {
            lanes.append(self.rows, flows);
        }
        self.rows += flows.len();
    }

    /// True when what comes beside flows has room, be it that nobody wants it.
    #[must_use]
    pub fn fits(&self, extra: ExtraRows<'_>) -> bool {
        let column = self.extra.as_deref();
        column.is_none_or(|column| column.fits(extra))
    }

    /// Appends a row a flow, with what comes beside them.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline]
    pub fn append_with(&mut self, flows: &[Flow], extra: ExtraRows<'_>) {
        let rows = self.rows;
        self.append(flows);
        if let Some(column) = &mut self.extra {
            column.append(rows, extra);
        }
    }

    /// Marks all rows with what is known of them now, if there is room for that, and gives those
    /// without AS numbers the ones that are known. Once a batch, when no further row comes.
    pub fn mark(&mut self, enricher: &mut Enricher) {
        let Some(lanes) = &mut self.labels else {
            return;
        };
        let [detail, _] = &mut self.rare;
        let detail = detail.columns(self.rows);
        lanes.begin(enricher.tables());
        for first in (0..self.rows).step_by(KEYS) {
            let rows = first..self.rows.min(first + KEYS);
            let keys = enricher.keys();
            KEY_COLUMNS.read(&self.columns, detail, &rows, keys);
            lanes.read(&rows, keys);
            let (keys, marks) = enricher.mark();
            KEY_COLUMNS.write(&mut self.columns, &rows, keys);
            lanes.write(&rows, marks);
        }
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        for rare in &mut self.rare {
            rare.clear();
        }
        if let Some(column) = &mut self.extra {
            column.clear();
        }
        if let Some(lanes) = &mut self.labels {
            lanes.clear();
        }
    }

    /// Bytes of memory of all columns, used or not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let rare = self.rare.iter().flat_map(|rare| &rare.columns);
        let all = self.columns.iter().chain(rare);
        let columns: usize = all.map(Buffer::memory_bytes).sum();
        let extra = self.extra.as_ref().map(|column| column.memory_bytes());
        let labels = self
            .labels
            .as_ref()
            .map(|_| LabelLanes::memory_bytes_for(self.rows_max));
        columns + extra.unwrap_or_default() + labels.unwrap_or_default()
    }

    /// What [`Batch::with_labels`] adds for `rows_max` rows.
    #[must_use]
    pub const fn label_memory_bytes_for(rows_max: usize) -> usize {
        LabelLanes::memory_bytes_for(rows_max)
    }

    /// What [`Batch::with_extra`] adds for `rows_max` rows.
    #[must_use]
    pub fn extra_memory_bytes_for(rows_max: usize) -> usize {
        ExtraColumn::memory_bytes_for(rows_max)
    }

    /// What [`Batch::memory_bytes`] of a batch of `rows_max` rows is, without making one.
    #[must_use]
    pub fn memory_bytes_for(rows_max: usize) -> usize {
        schema::stored()
            .filter(|column| column.is_of_flow())
            .map(|column| {
                let row = match column.source {
                    Source::Fixed { width, .. } => width,
                    Source::List {
                        width, items_max, ..
                    } => OFFSET_WIDTH + width * items_max,
                    _ => 0,
                };
                native::column_head(column.name, column.sql_type).len() + row * rows_max
            })
            .sum()
    }

    /// The columns that have anything but zeros, and always the first. ClickHouse fills those that
    /// an insert leaves out with their defaults, which are zeros too.
    pub fn columns(&mut self) -> impl Iterator<Item = ColumnBytes<'_>> {
        let rows = self.rows;
        let rare = self
            .rare
            .iter_mut()
            .flat_map(move |rare| rare.columns(rows));
        let all = self.columns.iter().chain(rare);
        let extra = self.extra.as_mut().map(|column| column.bytes(rows));
        all.map(move |column| column.bytes(rows))
            .chain(extra)
            .enumerate()
            .filter(|(number, column)| *number == 0 || !column.is_default())
            .map(|(_, column)| column)
    }
}

impl Batch {
    /// Makes the columns of what enrichment says.
    pub fn encode_labels(&self, encoder: &mut LabelEncoder) {
        match &self.labels {
            Some(lanes) => encoder.encode(lanes, self.rows),
            None => encoder.clear(),
        }
    }
}

impl Rare {
    fn append(&mut self, rows: usize, flows: &[Flow]) {
        self.complete(rows);
        for column in &mut self.columns {
            column.append(rows, flows);
        }
        self.rows = rows + flows.len();
    }

    /// Gives the columns the rows that they lack of `rows`.
    fn complete(&mut self, rows: usize) {
        if self.rows < rows {
            for column in &mut self.columns {
                column.append_zeros(self.rows..rows);
            }
            self.rows = rows;
        }
    }

    /// Those that have anything in `rows`.
    fn columns(&mut self, rows: usize) -> &[Buffer] {
        if self.rows == 0 {
            return &[];
        }
        self.complete(rows);
        &self.columns
    }

    fn clear(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            if let Buffer::List { used, .. } = column {
                *used = 0;
            }
        }
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
            Source::Fixed { width, fill, .. } => Self::Fixed {
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
                width,
                offsets: with_room(OFFSET_WIDTH),
                values: vec![0; width * items_max * rows_max].into_boxed_slice(),
                used: 0,
            },
            _ => unreachable!("they have no buffer of this kind"),
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
                ..
            } => {
                let start = *head + rows * OFFSET_WIDTH;
                let offsets = &mut offsets[start..start + flows.len() * OFFSET_WIDTH];
                *used = fill(flows, offsets, values, *used);
            }
        }
    }

    /// The values of `rows`, of a column of fixed width.
    fn values(&self, rows: &Range<usize>) -> &[u8] {
        match self {
            Self::Fixed {
                head, width, bytes, ..
            } => &bytes[head + rows.start * width..head + rows.end * width],
            Self::List { .. } => &[],
        }
    }

    /// The same, to be changed.
    fn values_mut(&mut self, rows: &Range<usize>) -> &mut [u8] {
        match self {
            Self::Fixed {
                head, width, bytes, ..
            } => &mut bytes[*head + rows.start * *width..*head + rows.end * *width],
            Self::List { .. } => &mut [],
        }
    }

    /// Rows that have the default: zero, or no items.
    fn append_zeros(&mut self, rows: Range<usize>) {
        match self {
            Self::Fixed {
                head, width, bytes, ..
            } => bytes[*head + rows.start * *width..*head + rows.end * *width].fill(0),
            Self::List {
                head,
                width,
                offsets,
                used,
                ..
            } => {
                let items = (*used / *width) as u64;
                let offsets = &mut offsets[*head..][rows.start * OFFSET_WIDTH..];
                let offsets = offsets.chunks_exact_mut(OFFSET_WIDTH).take(rows.len());
                offsets.for_each(|offset| offset.copy_from_slice(&items.to_le_bytes()));
            }
        }
    }

    fn bytes(&self, rows: usize) -> ColumnBytes<'_> {
        match self {
            Self::Fixed {
                head, width, bytes, ..
            } => ColumnBytes {
                head: *head,
                width: *width,
                bytes: &bytes[..*head + rows * *width],
                lists: [&[], &[]],
            },
            Self::List {
                head,
                offsets,
                values,
                used,
                ..
            } => ColumnBytes {
                head: *head,
                width: OFFSET_WIDTH,
                bytes: &offsets[..*head + rows * OFFSET_WIDTH],
                lists: [&values[..*used], &[]],
            },
        }
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

    /// Names of the columns that a block of `flows` has.
    fn columns_of(batch: &mut Batch, flows: &[Flow]) -> Vec<(String, usize)> {
        batch.clear();
        for flow in flows {
            batch.append(&[*flow]);
        }
        let names = batch.columns().map(|column| {
            let name = &column.bytes[1..][..usize::from(column.bytes[0])];
            let name = String::from_utf8(name.to_vec()).unwrap();
            (name, (column.bytes.len() - column.head) / column.width)
        });
        names.collect()
    }

    #[test]
    fn columns_of_a_part_are_there_when_a_flow_has_it_and_have_all_rows() {
        let mut batch = Batch::new(4);
        let mut detail = Flow::EMPTY;
        detail.detail.frame.src_mac = 1;
        let mut tunnel = Flow::EMPTY;
        tunnel.detail.tunnel_id = 2;
        let named = |name: &str| (name.to_owned(), 4);
        let first = named("time_received");
        let plain = [Flow::EMPTY; 4];
        assert_eq!(columns_of(&mut batch, &plain), std::slice::from_ref(&first));
        for at in 0..4 {
            let mut flows = plain;
            flows[at] = detail;
            let expected = [first.clone(), named("src_mac")];
            assert_eq!(columns_of(&mut batch, &flows), expected, "{at}");
            flows[at] = tunnel;
            let expected = [first.clone(), named("tunnel_id")];
            assert_eq!(columns_of(&mut batch, &flows), expected, "{at}");
        }
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
