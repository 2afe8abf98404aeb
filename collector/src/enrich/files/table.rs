//! CSV (RFC 4180) with a line of titles: columns in any order, '#' begins a line of comment.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{Fault, FileErrors, as_text, checked, quoted, read};

/// A column that somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    name: &'static str,
    is_required: bool,
}

/// A column that each file has, with a value in each row.
#[must_use]
pub const fn required(name: &'static str) -> Column {
    Column {
        name,
        is_required: true,
    }
}

/// A column that may be left out, and so may its values.
#[must_use]
pub const fn optional(name: &'static str) -> Column {
    Column {
        name,
        is_required: false,
    }
}

/// What becomes of columns that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are an error: a misspelt title would lose a column in silence.
    Refused,
    /// They are passed over: the file is somebody else's. Its values are not checked either, so
    /// whoever takes one makes it clean ([`super::cleaned`]).
    Ignored,
}

/// Reads the CSV file at `path`; see [`parse_csv`].
///
/// # Errors
/// Those of [`super::read`] and of [`parse_csv`].
pub fn read_csv<const N: usize>(
    path: &Path,
    columns: &[Column; N],
    others: Others,
    row: impl FnMut(u64, [&str; N]) -> Result<(), Fault>,
) -> Result<u64, FileErrors> {
    parse_csv(path, &read(path)?, columns, others, row)
}

/// Gives each row of `bytes`, which messages call `path`, to `row`: its line, from 1, and the
/// values of `columns` in the order in which they stand there; '' for a column that the file does
/// not have. Values are trimmed and, in files of the operator's own, [`checked`]. Empty rows are
/// passed over. Yields how many rows there were.
///
/// # Errors
/// When it is no UTF-8, titles are missing or unknown, rows are longer or shorter than the titles,
/// or `row` refuses them. All rows are looked at, so that one error does not hide the next.
pub fn parse_csv<const N: usize>(
    path: &Path,
    bytes: &[u8],
    columns: &[Column; N],
    others: Others,
    mut row: impl FnMut(u64, [&str; N]) -> Result<(), Fault>,
) -> Result<u64, FileErrors> {
    let text = as_text(path, bytes)?;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .comment(Some(b'#'))
        .from_reader(bytes);
    let mut record = StringRecord::new();
    let mut errors = FileErrors::default();
    let mut titles: Option<Titles<N>> = None;
    let mut rows = 0;
    // Of reading from memory, only UTF-8 could go wrong, and that was looked at.
    while reader.read_record(&mut record).unwrap_or(false) {
        if record.iter().all(str::is_empty) {
            continue;
        }
        let line = line_of(text, &record);
        let Some(titles) = &titles else {
            match Titles::of(&record, columns, others) {
                Ok(found) => titles = Some(found),
                Err(fault) => return Err(fault.at(path, Some(line)).into()),
            }
            continue;
        };
        rows += 1;
        let taken = titles.values(&record, columns);
        if let Err(fault) = taken.and_then(|values| row(line, values)) {
            errors.add(fault.at(path, Some(line)));
        }
    }
    if titles.is_none() {
        let fault = Fault::new("is empty", first_line_has(columns));
        return Err(fault.at(path, None).into());
    }
    errors.or(rows)
}

/// Where each column stands in a row.
struct Titles<const N: usize> {
    places: [Option<usize>; N],
    count: usize,
    others: Others,
}

impl<const N: usize> Titles<N> {
    fn of(record: &StringRecord, columns: &[Column; N], others: Others) -> Result<Self, Fault> {
        let allowed = || first_line_has(columns);
        let only = record.get(0).filter(|_| record.len() == 1);
        let divider = only.and_then(|title| title.chars().find(|c| matches!(c, ';' | '\t' | '|')));
        if let Some(divider) = divider {
            let what = format!("the columns are divided by {divider:?}");
            return Err(Fault::new(what, "divide them by commas"));
        }
        let mut places = [None; N];
        for (place, title) in record.iter().enumerate() {
            let is_it = |column: &Column| column.name.eq_ignore_ascii_case(title);
            let known = columns.iter().position(is_it);
            match known.and_then(|column| places.get_mut(column)) {
                Some(Some(_)) => {
                    let what = format!("column {} is there twice", quoted(title));
                    return Err(Fault::new(what, "leave one out"));
                }
                Some(free) => *free = Some(place),
                None if others == Others::Ignored => {}
                None => {
                    let what = format!("unknown column {}", quoted(title));
                    return Err(Fault::new(what, allowed()));
                }
            }
        }
        let mut found = columns.iter().zip(&places);
        match found.find(|(column, place)| column.is_required && place.is_none()) {
            Some((column, _)) => {
                let what = format!("column '{}' is missing", column.name);
                Err(Fault::new(what, allowed()))
            }
            None => Ok(Self {
                places,
                count: record.len(),
                others,
            }),
        }
    }

    fn values<'a>(
        &self,
        record: &'a StringRecord,
        columns: &[Column; N],
    ) -> Result<[&'a str; N], Fault> {
        let Self {
            places,
            count,
            others,
        } = self;
        let is_longer = record.iter().skip(*count).any(|value| !value.is_empty());
        if is_longer || record.len() < *count {
            let what = format!("{} values, but {count} titles", record.len());
            let remedy = "write a comma for each title, also where there is no value, and quotes \
                          around a value that has a comma";
            return Err(Fault::new(what, remedy));
        }
        let mut values = [""; N];
        for ((value, place), column) in values.iter_mut().zip(places).zip(columns) {
            let found = place.and_then(|place| record.get(place));
            *value = found.unwrap_or_default();
            if *others == Others::Refused {
                checked(column.name, value)?;
            }
            if column.is_required && value.is_empty() {
                let what = format!("{} is empty", column.name);
                return Err(Fault::new(
                    what,
                    "each row has one; begin comments with '#'",
                ));
            }
        }
        Ok(values)
    }
}

fn first_line_has<const N: usize>(columns: &[Column; N]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    format!("the first line names the columns, of {}", names.join(", "))
}

/// The reader tells where it began to look; comments and empty lines may stand before the record.
fn line_of(text: &str, record: &StringRecord) -> u64 {
    let Some(position) = record.position() else {
        return 1;
    };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let mut rest = text.get(start..).unwrap_or_default();
    let mut line = position.line();
    while rest.starts_with(['#', '\n', '\r']) {
        let Some((_, after)) = rest.split_once('\n') else {
            break;
        };
        (rest, line) = (after, line + 1);
    }
    line
}
