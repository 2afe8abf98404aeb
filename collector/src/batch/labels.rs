//! The columns that enrichment fills: numbers in a batch, text in a block.
//!
//! The rows of a sealed batch are marked with the numbers of [`Marks`], lane by lane; the encoder
//! looks them up in the tables that they are of. A column of text is a `LowCardinality(String)`: a
//! dictionary of the texts of this block, and for each row its place there.

use std::ops::Range;
use std::sync::Arc;

use crate::enrich::{Keys, LANES, Label, Locality, Marks, Tables};
use crate::flow::Flow;

pub use encoder::LabelEncoder;

mod distinct;
mod encoder;
mod memo;

/// The type of all columns of text, as a block has it.
pub(super) const TEXT_TYPE: &str = "LowCardinality(String)";

/// The marks of flows in a row.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a> {
    tables: &'a Tables,
    marks: &'a Marks,
}

impl<'a> Marked<'a> {
    /// Those of the flows that `marks` were made for, by `tables`.
    #[must_use]
    pub fn new(tables: &'a Tables, marks: &'a Marks) -> Self {
        Self { tables, marks }
    }

    /// The text of a column of flow `number`.
    #[must_use]
    pub fn text(&self, number: usize, label: Label) -> &'a str {
        let id = self.marks.lane(label.lane())[number];
        self.tables.text(label, id)
    }

    /// True when the source of flow `number` is the client.
    #[must_use]
    pub fn client_is_src(&self, number: usize) -> bool {
        self.marks.client_is_src()[number] != 0
    }

    /// Whether both sides of flow `number` are private.
    #[must_use]
    pub fn locality(&self, number: usize) -> Locality {
        Locality::from(self.marks.locality()[number])
    }
}

/// What enrichment says of one flow, where there is enrichment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Enriched<'a>(Option<(Marked<'a>, usize)>);

impl<'a> Enriched<'a> {
    /// Of flow `number` of those that are marked.
    #[must_use]
    pub fn of(marked: Option<Marked<'a>>, number: usize) -> Self {
        Self(marked.map(|marked| (marked, number)))
    }

    /// The text of a column; '' where nothing is known.
    #[must_use]
    pub fn text(&self, label: Label) -> &'a str {
        self.0
            .map_or("", |(marked, number)| marked.text(number, label))
    }

    /// Part `index` of a text of several.
    #[must_use]
    pub fn part(&self, label: Label, index: usize) -> &'a str {
        self.text(label).split('\t').nth(index).unwrap_or_default()
    }

    /// The same as a number; 0 where it is none.
    #[must_use]
    pub fn number<T: std::str::FromStr + Default>(&self, label: Label, index: usize) -> T {
        self.part(label, index).parse().unwrap_or_default()
    }

    /// The same as a word of an enumeration, `unknown` where there is none.
    #[must_use]
    pub fn word(&self, label: Label, index: usize, unknown: &'static str) -> &'a str {
        match self.part(label, index) {
            "" => unknown,
            word => word,
        }
    }

    /// True when the source is the client, as the table's default has it.
    #[must_use]
    pub fn client_is_src(&self) -> bool {
        self.0
            .is_none_or(|(marked, number)| marked.client_is_src(number))
    }

    /// Whether both sides are private.
    #[must_use]
    pub fn locality(&self) -> Locality {
        self.0.map_or(Locality::Unknown, |(marked, number)| {
            marked.locality(number)
        })
    }
}

/// The numbers of one batch, and what they are found by that has no column.
pub(super) struct LabelLanes {
    unseen: Unseen,
    /// Those that the rows are marked with; none before.
    tables: Option<Arc<Tables>>,
    lanes: [Lane; LANES],
    client_is_src: Box<[u8]>,
    locality: Box<[u8]>,
}

/// One number a row, as soon as one is not 0.
struct Lane {
    ids: Box<[u32]>,
    /// Rows that are written; those behind are 0.
    rows: usize,
}

/// What few flows say and no column has: nothing is written until one says it.
struct Unseen {
    applications: Box<[u64]>,
    biflow_directions: Box<[u8]>,
    /// Rows that are written; those behind say nothing.
    rows: usize,
}

impl LabelLanes {
    /// For `rows_max` rows.
    pub(super) fn new(rows_max: usize) -> Self {
        Self {
            unseen: Unseen {
                applications: vec![0; rows_max].into_boxed_slice(),
                biflow_directions: vec![0; rows_max].into_boxed_slice(),
                rows: 0,
            },
            tables: None,
            lanes: std::array::from_fn(|_| Lane {
                ids: vec![0; rows_max].into_boxed_slice(),
                rows: 0,
            }),
            client_is_src: vec![0; rows_max].into_boxed_slice(),
            locality: vec![0; rows_max].into_boxed_slice(),
        }
    }

    /// Bytes of memory of one for `rows_max` rows.
    pub(super) const fn memory_bytes_for(rows_max: usize) -> usize {
        const UNSEEN: usize = size_of::<u64>() + size_of::<u8>();
        rows_max * (LANES * size_of::<u32>() + 2 + UNSEEN)
    }

    /// Takes from flows, behind the first `rows` rows, what no column has.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline]
    pub(super) fn append(&mut self, rows: usize, flows: &[Flow]) {
        let says = |flow: &Flow| flow.application_id != 0 || flow.biflow_direction != 0;
        if flows.iter().any(says) {
            self.unseen.append(rows, flows);
        }
    }

    /// Begins to mark the rows by `tables`.
    pub(super) fn begin(&mut self, tables: &Arc<Tables>) {
        self.tables = Some(Arc::clone(tables));
    }

    /// Takes out what no column has of `rows`.
    pub(super) fn read(&self, rows: &Range<usize>, keys: &mut Keys) {
        let Unseen {
            applications,
            biflow_directions,
            rows: written,
        } = &self.unseen;
        let said = rows.start.min(*written)..rows.end.min(*written);
        let silent = said.len()..rows.len();
        keys.applications[..said.len()].copy_from_slice(&applications[said.clone()]);
        keys.applications[silent.clone()].fill(0);
        keys.biflow_directions[..said.len()].copy_from_slice(&biflow_directions[said]);
        keys.biflow_directions[silent].fill(0);
    }

    /// Marks `rows`, which are behind those that are marked.
    pub(super) fn write(&mut self, rows: &Range<usize>, marks: &Marks) {
        let n = rows.len();
        for (lane, marks) in self.lanes.iter_mut().zip(marks.lanes()) {
            let marks = &marks[..n];
            if lane.rows > 0 || marks.iter().any(|id| *id != 0) {
                lane.ids[lane.rows..rows.start].fill(0);
                lane.ids[rows.clone()].copy_from_slice(marks);
                lane.rows = rows.end;
            }
        }
        self.client_is_src[rows.clone()].copy_from_slice(&marks.client_is_src()[..n]);
        self.locality[rows.clone()].copy_from_slice(&marks.locality()[..n]);
    }

    /// Forgets the rows, and the tables with them.
    pub(super) fn clear(&mut self) {
        self.tables = None;
        self.unseen.rows = 0;
        self.lanes.iter_mut().for_each(|lane| lane.rows = 0);
    }
}

impl Unseen {
    fn append(&mut self, rows: usize, flows: &[Flow]) {
        self.applications[self.rows..rows].fill(0);
        self.biflow_directions[self.rows..rows].fill(0);
        let applications = &mut self.applications[rows..rows + flows.len()];
        let directions = &mut self.biflow_directions[rows..rows + flows.len()];
        for ((flow, application), direction) in flows.iter().zip(applications).zip(directions) {
            (*application, *direction) = (flow.application_id, flow.biflow_direction);
        }
        self.rows = rows + flows.len();
    }
}

#[cfg(test)]
mod tests;
