//! Columns of text, of the numbers in a batch.

use super::distinct::Distinct;
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
    distinct: Distinct,
    dictionary: Dictionary,
    /// What texts numbers stand for.
    memos: [Memo; Texts::COUNT],
}

impl LabelEncoder {
    /// The columns of the first `rows` rows of `lanes` that say anything, each as it stands in a
    /// Native block. Those of one lane stand together: its numbers are told apart once.
    pub(in crate::batch) fn encode(&mut self, lanes: &LabelLanes, rows: usize) {
        self.used = 0;
        let Some(tables) = &lanes.tables else { return };
        for (number, lane) in lanes.lanes.iter().enumerate() {
            if lane.rows == rows {
                self.distinct.fill(&lane.ids[..rows]);
                let is_of_lane = |label: &Label| label.lane() as usize == number;
                for label in Label::ALL.into_iter().filter(is_of_lane) {
                    self.text(tables, label);
                }
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

    fn flags(&mut self, (name, sql_type): (&str, &str), values: &[u8]) {
        let Self { columns, used, .. } = self;
        begin(columns, used, name, sql_type).extend_from_slice(values);
    }

    /// <https://clickhouse.com/docs/interfaces/formats/Native>: version, form of the indexes, the
    /// dictionary, the indexes.
    fn text(&mut self, tables: &Tables, label: Label) {
        let Self {
            columns,
            used,
            distinct,
            dictionary,
            memos,
        } = self;
        let memo = &mut memos[label.texts() as usize];
        dictionary.fill(&distinct.numbers, memo, tables, label.texts());
        let Dictionary { texts, len, places } = dictionary;
        // Otherwise a network without threats, or threats without a network.
        if *len <= 1 {
            return;
        }
        let column = begin(columns, used, label.name(), TEXT_TYPE);
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
        column.extend_from_slice(&(distinct.rows.len() as u64).to_le_bytes());
        let places = distinct.rows.iter().map(|row| places[*row as usize]);
        match width {
            Width::One => column.extend(places.map(|place| place as u8)),
            Width::Two => push_places(column, places.map(|place| (place as u16).to_le_bytes())),
            Width::Four => push_places(column, places.map(u32::to_le_bytes)),
        }
    }
}

/// An empty buffer for the next column, which begins with `name` and `sql_type`.
fn begin<'a>(
    columns: &'a mut Vec<Vec<u8>>,
    used: &mut usize,
    name: &str,
    sql_type: &str,
) -> &'a mut Vec<u8> {
    if *used == columns.len() {
        columns.push(Vec::new());
    }
    let column = &mut columns[*used];
    *used += 1;
    column.clear();
    column.extend_from_slice(&native::column_head(name, sql_type));
    column
}

/// Appends what has several bytes each, as many as there are rows.
fn push_places<const WIDTH: usize>(
    column: &mut Vec<u8>,
    places: impl ExactSizeIterator<Item = [u8; WIDTH]>,
) {
    let start = column.len();
    column.resize(start + WIDTH * places.len(), 0);
    let (to, _) = column[start..].as_chunks_mut();
    to.iter_mut()
        .zip(places)
        .for_each(|(to, place)| *to = place);
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
    /// For each number its place among them.
    places: Vec<u32>,
}

impl Dictionary {
    /// Makes it that of `numbers`, of which the first is 0.
    fn fill(&mut self, numbers: &[u32], memo: &mut Memo, tables: &Tables, texts: Texts) {
        memo.begin(tables.table_of(texts));
        self.texts.clear();
        self.texts.push(0);
        self.len = 1;
        self.places.clear();
        self.places.push(0);
        self.places.extend(numbers[1..].iter().map(|number| {
            memo.place(
                *number,
                || tables.text_of(texts, *number),
                |text| {
                    native::push_string(&mut self.texts, text);
                    self.len += 1;
                    self.len - 1
                },
            )
        }));
    }
}
