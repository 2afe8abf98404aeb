//! Columns of text, of the numbers in a batch.

use super::memo::Memo;
use super::{LabelLanes, TEXT_TYPE};
use crate::batch::value::Value;
use crate::batch::{native, schema};
use crate::enrich::{Label, Locality, Tables, Texts};

/// Makes columns of numbers; keeps its buffers.
#[derive(Debug, Default)]
pub struct LabelEncoder {
    columns: Vec<Vec<u8>>,
    used: usize,
    dictionary: Dictionary,
    /// What texts numbers stand for.
    memos: [Memo; Texts::COUNT],
}

impl LabelEncoder {
    /// The columns of the first `rows` rows of `lanes` that say anything, each as it stands in a
    /// Native block.
    pub(in crate::batch) fn encode(&mut self, lanes: &LabelLanes, rows: usize) {
        self.used = 0;
        let Some(tables) = &lanes.tables else { return };
        for label in Label::ALL {
            let lane = &lanes.lanes[label.lane() as usize];
            if lane.rows == rows {
                self.text(tables, label, &lane.ids[..rows]);
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
    pub(in crate::batch) fn clear(&mut self) {
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
        let memo = &mut self.memos[label.texts() as usize];
        let mut dictionary = std::mem::take(&mut self.dictionary);
        dictionary.fill(ids, memo, tables, label.texts());
        let Dictionary { texts, len, places } = &dictionary;
        // Otherwise a network without threats, or threats without a network.
        if *len > 1 {
            let column = self.begin(label.name(), TEXT_TYPE);
            let width = match len {
                ..=0x100 => Width::One,
                0x101..=0x1_0000 => Width::Two,
                _ => Width::Four,
            };
            let words = [VERSION, FLAGS | width as u64, u64::from(*len)];
            words
                .iter()
                .for_each(|word| column.extend_from_slice(&word.to_le_bytes()));
            column.extend_from_slice(texts);
            column.extend_from_slice(&(ids.len() as u64).to_le_bytes());
            match width {
                Width::One => column.extend(places.iter().map(|place| *place as u8)),
                Width::Two => {
                    let places = places.iter().map(|place| *place as u16);
                    column.extend(places.flat_map(u16::to_le_bytes));
                }
                Width::Four => column.extend(places.iter().flat_map(|place| place.to_le_bytes())),
            }
        }
        self.dictionary = dictionary;
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

/// The texts of a column, '' first.
#[derive(Debug, Default)]
struct Dictionary {
    /// Each behind its length.
    texts: Vec<u8>,
    len: u32,
    /// For each row its place among them.
    places: Vec<u32>,
}

impl Dictionary {
    /// Makes it that of `ids`.
    fn fill(&mut self, ids: &[u32], memo: &mut Memo, tables: &Tables, texts: Texts) {
        memo.begin(tables.table_of(texts));
        self.texts.clear();
        self.texts.push(0);
        self.len = 1;
        self.places.clear();
        let mut before = (0, 0);
        self.places.extend(ids.iter().map(|id| {
            // Flows of one datagram often say the same.
            if *id != before.0 {
                let place = memo.place(
                    *id,
                    || tables.text_of(texts, *id),
                    |text| {
                        native::push_string(&mut self.texts, text);
                        self.len += 1;
                        self.len - 1
                    },
                );
                before = (*id, place);
            }
            before.1
        }));
    }
}
