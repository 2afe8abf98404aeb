//! The columns that enrichment fills: numbers in a batch, text in a block.
//!
//! A worker appends the numbers of [`Marks`], lane by lane; the encoder looks them up in the tables
//! that the batch was filled with. A column of text is a `LowCardinality(String)`: a dictionary of
//! the texts of this block, and for each row its place there.

use std::sync::Arc;

use hashbrown::HashMap;

use super::value::Value;
use super::{native, schema};
use crate::decode::BURST_FLOWS;
use crate::enrich::{LANES, Label, Locality, Marks, Tables};

/// The type of all columns of text, as a block has it.
pub(super) const TEXT_TYPE: &str = "LowCardinality(String)";

/// The marks of flows in a row.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a> {
    tables: &'a Arc<Tables>,
    marks: &'a Marks,
    /// The first flow's place in `marks`.
    first: usize,
}

impl<'a> Marked<'a> {
    /// Those of the flows that `marks` were made for, by `tables`.
    #[must_use]
    pub fn new(tables: &'a Arc<Tables>, marks: &'a Marks) -> Self {
        Self {
            tables,
            marks,
            first: 0,
        }
    }

    /// Those behind the first `flows` flows.
    #[must_use]
    pub fn behind(self, flows: usize) -> Self {
        Self {
            first: self.first + flows,
            ..self
        }
    }

    /// The text of a column of flow `number`.
    #[must_use]
    pub fn text(&self, number: usize, label: Label) -> &'a str {
        let id = self.marks.lane(label.lane())[self.first + number];
        self.tables.text(label, id)
    }

    /// True when the source of flow `number` is the client.
    #[must_use]
    pub fn client_is_src(&self, number: usize) -> bool {
        self.marks.client_is_src()[self.first + number] != 0
    }

    /// Whether both sides of flow `number` are private.
    #[must_use]
    pub fn locality(&self, number: usize) -> Locality {
        Locality::from(self.marks.locality()[self.first + number])
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

/// The numbers of one batch.
pub(super) struct LabelLanes {
    /// Those that the rows were marked with; none while there are no rows.
    tables: Option<Arc<Tables>>,
    lanes: [Box<[u32]>; LANES],
    client_is_src: Box<[u8]>,
    locality: Box<[u8]>,
}

impl LabelLanes {
    /// For `rows_max` rows.
    pub(super) fn new(rows_max: usize) -> Self {
        Self {
            tables: None,
            lanes: std::array::from_fn(|_| vec![0; rows_max].into_boxed_slice()),
            client_is_src: vec![0; rows_max].into_boxed_slice(),
            locality: vec![0; rows_max].into_boxed_slice(),
        }
    }

    /// Bytes of memory of one for `rows_max` rows.
    pub(super) const fn memory_bytes_for(rows_max: usize) -> usize {
        rows_max * (LANES * size_of::<u32>() + 2)
    }

    /// True when rows that are `marked` so can stand beside those that are here.
    pub(super) fn takes(&self, marked: Marked<'_>) -> bool {
        (self.tables.as_ref()).is_none_or(|own| Arc::ptr_eq(own, marked.tables))
    }

    /// Appends the marks of `flows` flows behind the first `rows` rows.
    ///
    /// # Panics
    /// When they do not fit, or other tables marked them than the rows before.
    #[inline]
    pub(super) fn append(&mut self, rows: usize, flows: usize, marked: Marked<'_>) {
        let Marked {
            tables,
            marks,
            first,
        } = marked;
        let own = self.tables.get_or_insert_with(|| Arc::clone(tables));
        assert!(Arc::ptr_eq(own, tables), "a batch is sealed before");
        let (to, from) = (rows..rows + flows, first..first + flows);
        for (lane, marks) in self.lanes.iter_mut().zip(marks.lanes()) {
            lane[to.clone()].copy_from_slice(&marks[from.clone()]);
        }
        self.client_is_src[to.clone()].copy_from_slice(&marks.client_is_src()[from.clone()]);
        self.locality[to].copy_from_slice(&marks.locality()[from]);
    }

    /// Forgets the rows, and the tables with them.
    pub(super) fn clear(&mut self) {
        self.tables = None;
    }
}

const _: () = assert!(BURST_FLOWS <= 4096, "marks are copied a burst at a time");

/// Makes columns of numbers; keeps its buffers.
#[derive(Debug, Default)]
pub struct LabelEncoder {
    columns: Vec<Vec<u8>>,
    used: usize,
    /// For each row its place in the dictionary.
    places: Vec<u32>,
    /// Places of numbers, as far as they do not need the same slot.
    slots: Slots,
}

impl LabelEncoder {
    /// The columns of the first `rows` rows of `lanes` that say anything, each as it stands in a
    /// Native block.
    pub(super) fn encode(&mut self, lanes: &LabelLanes, rows: usize) {
        self.used = 0;
        let Some(tables) = &lanes.tables else { return };
        for label in Label::ALL {
            let ids = &lanes.lanes[label.lane() as usize][..rows];
            if ids.iter().any(|id| *id != 0) {
                self.text(tables, label, ids);
            }
        }
        self.flags(
            (schema::CLIENT_IS_SRC, "Bool"),
            &lanes.client_is_src[..rows],
        );
        if lanes.locality[..rows].iter().any(|locality| *locality != 0) {
            self.flags(
                (schema::LOCALITY, Locality::SQL_TYPE),
                &lanes.locality[..rows],
            );
        }
    }

    /// There are none.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// The columns of the last batch.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.columns[..self.used].iter().map(Vec::as_slice)
    }

    /// An empty buffer for the next column, which begins with `name` and `sql_type`.
    fn begin(&mut self, name: &str, sql_type: &str) -> &mut Vec<u8> {
        if self.used == self.columns.len() {
            self.columns.push(Vec::new());
        }
        let column = &mut self.columns[self.used];
        self.used += 1;
        column.clear();
        column.extend_from_slice(&native::column_head(name, sql_type));
        column
    }

    fn flags(&mut self, (name, sql_type): (&str, &str), values: &[u8]) {
        self.begin(name, sql_type).extend_from_slice(values);
    }

    /// <https://clickhouse.com/docs/interfaces/formats/Native>: version, form of the indexes, the
    /// dictionary, the indexes.
    fn text(&mut self, tables: &Tables, label: Label, ids: &[u32]) {
        let mut places = std::mem::take(&mut self.places);
        let dictionary = Dictionary::of(tables, label, ids, &mut places, &mut self.slots);
        if dictionary.len == 1 {
            // A network without threats, threats without a network.
            self.places = places;
            return;
        }
        let column = self.begin(label.name(), TEXT_TYPE);
        let width = match dictionary.len {
            ..=0x100 => Width::One,
            0x101..=0x1_0000 => Width::Two,
            _ => Width::Four,
        };
        let words = [VERSION, FLAGS | width as u64, dictionary.len as u64];
        words
            .iter()
            .for_each(|word| column.extend_from_slice(&word.to_le_bytes()));
        column.extend_from_slice(&dictionary.texts);
        column.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        match width {
            Width::One => column.extend(places.iter().map(|place| *place as u8)),
            Width::Two => {
                column.extend(
                    places
                        .iter()
                        .flat_map(|place| (*place as u16).to_le_bytes()),
                );
            }
            Width::Four => column.extend(places.iter().flat_map(|place| place.to_le_bytes())),
        }
        self.places = places;
    }
}

/// A dictionary of this block alone follows, with all keys in it.
const FLAGS: u64 = 0x600;
/// `SharedDictionariesWithAdditionalKeys`.
const VERSION: u64 = 1;

/// Bytes of an index, as the flags of a column say it.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Width {
    One = 0,
    Two = 1,
    Four = 2,
}

/// Numbers and their places in a dictionary, each in the one slot that it may have: a text that is
/// looked up once more is found in the dictionary, so nothing has to be kept for sure.
#[derive(Debug)]
struct Slots {
    slots: Box<[Slot]>,
    /// Those with another mark are of other columns.
    mark: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    mark: u32,
    id: u32,
    place: u32,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); Self::COUNT].into_boxed_slice(),
            mark: 0,
        }
    }
}

impl Slots {
    /// As many as a batch has rows.
    const COUNT: usize = 4096;

    /// Forgets all.
    fn begin(&mut self) {
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            self.slots.fill(Slot::default());
            self.mark = 1;
        }
    }

    /// The place of a number, which `find` finds if it is not here.
    #[inline]
    fn get_or(&mut self, id: u32, find: impl FnOnce() -> u32) -> u32 {
        // Fibonacci hashing: the upper bits of the product depend on all bits.
        let at = id.wrapping_mul(0x9e37_79b9) >> (u32::BITS - Self::COUNT.ilog2());
        let slot = &mut self.slots[at as usize];
        if slot.mark != self.mark || slot.id != id {
            *slot = Slot {
                mark: self.mark,
                id,
                place: find(),
            };
        }
        slot.place
    }
}

/// The texts of a column, '' first.
struct Dictionary {
    /// Each behind its length.
    texts: Vec<u8>,
    len: usize,
}

impl Dictionary {
    /// Of the texts of `ids`; `places` then has the place of each.
    fn of(
        tables: &Tables,
        label: Label,
        ids: &[u32],
        places: &mut Vec<u32>,
        slots: &mut Slots,
    ) -> Self {
        let mut by_text: HashMap<&str, u32> = HashMap::new();
        by_text.insert("", 0);
        slots.begin();
        let mut texts = vec![0];
        places.clear();
        let mut before = (0, 0);
        places.extend(ids.iter().map(|id| {
            // Flows of one datagram often say the same.
            if *id != before.0 {
                let place = slots.get_or(*id, || {
                    let text = tables.text(label, *id);
                    let next = by_text.len() as u32;
                    *by_text.entry(text).or_insert_with(|| {
                        native::push_string(&mut texts, text);
                        next
                    })
                });
                before = (*id, place);
            }
            before.1
        }));
        Self {
            texts,
            len: by_text.len(),
        }
    }
}

#[cfg(test)]
mod tests;
