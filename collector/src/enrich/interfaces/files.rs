//! Static interfaces, out of CSV files: exporter, `if_index`, name, alias, speed.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};
use hashbrown::HashMap;
use thiserror::Error;

use super::{INTERFACES_MAX, Interface, clean};
use crate::flow::Address;
use crate::names::TEXT_MAX;

/// Why the files are of no use.
#[derive(Debug, Error)]
pub enum InterfaceFileError {
    /// One cannot be opened or read.
    #[error(
        "{file}: {error}; let the collector's user read it, or take it out of \
             enrich.interfaces"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line says something that cannot be.
    #[error("{file}:{line}: {text}")]
    Line {
        /// The file.
        file: PathBuf,
        /// Its line, counted from 1.
        line: u64,
        /// What was found, and what is allowed.
        text: String,
    },
}

/// The interfaces that the files of `enrich.interfaces` name.
#[derive(Debug, Default)]
pub struct StaticInterfaces(Vec<(Address, u32, Interface)>);

impl StaticInterfaces {
    /// Reads all of `files`, or none. In the first line of each stand the names of the columns, in
    /// any order: `exporter` and `if_index`, and those of `name`, `alias` and `speed` (bit/s) that
    /// it has. A line that begins with `#` is a remark.
    ///
    /// # Errors
    /// When a file cannot be read, or with the first line that cannot be understood.
    pub fn load(files: &[PathBuf]) -> Result<Self, InterfaceFileError> {
        let mut loading = Loading::default();
        for file in files {
            loading.load(file)?;
        }
        Ok(loading.interfaces)
    }

    /// Exporter, ifIndex, and what is said of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Address, u32, &Interface)> {
        let all = self.0.iter();
        all.map(|(exporter, if_index, interface)| (*exporter, *if_index, interface))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Default)]
struct Loading {
    interfaces: StaticInterfaces,
    /// Where each stands, so that one that is there twice can be told.
    places: HashMap<(Address, u32), (PathBuf, u64)>,
}

/// Bytes of a file.
const BYTES_MAX: u64 = 1024 * INTERFACES_MAX as u64;

const COLUMNS: [&str; 5] = ["exporter", "if_index", "name", "alias", "speed"];

impl Loading {
    fn load(&mut self, file: &Path) -> Result<(), InterfaceFileError> {
        let bytes = read(file).map_err(|error| InterfaceFileError::Unreadable {
            file: file.to_path_buf(),
            error,
        })?;
        let mut columns = None;
        let mut record = StringRecord::new();
        // Line by line, since a reader of the whole file does not count those that it passes over.
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let outcome = match fields(bytes, &mut record) {
                Ok(false) => Ok(()),
                Ok(true) => match &columns {
                    None => Columns::of(&record).map(|found| columns = Some(found)),
                    Some(columns) => self.row(columns, &record, file, line),
                },
                Err(text) => Err(text),
            };
            outcome.map_err(|text| InterfaceFileError::Line {
                file: file.to_path_buf(),
                line,
                text,
            })?;
        }
        Ok(())
    }

    fn row(
        &mut self,
        columns: &Columns,
        record: &StringRecord,
        file: &Path,
        line: u64,
    ) -> Result<(), String> {
        if record.len() != columns.count {
            return Err(format!(
                "found {} fields, the first line has {}; a field with a comma in it stands in \
                 double quotes",
                record.len(),
                columns.count
            ));
        }
        let [exporter, if_index, name, alias, speed] = columns.fields(record);
        let exporter: IpAddr = exporter.parse().map_err(|_| {
            format!("exporter: found {exporter:?}; allowed: an address, such as 192.0.2.1")
        })?;
        // 0 is no ifIndex (RFC 2863), but what some exporters write for one.
        let index: u32 = if_index
            .parse()
            .map_err(|_| format!("if_index: found {if_index:?}; allowed: 0 to 4294967295"))?;
        let interface = Interface {
            name: text("name", name)?,
            alias: text("alias", alias)?,
            speed: match speed {
                "" => 0,
                _ => speed.parse().map_err(|_| {
                    format!("speed: found {speed:?}; allowed: bit/s, such as 1000000000")
                })?,
            },
        };
        let exporter = Address::from(exporter);
        let place = (file.to_path_buf(), line);
        if let Some((file, line)) = self.places.insert((exporter, index), place) {
            return Err(format!(
                "interface {index} of {exporter} stands in {}:{line} already; which one counts?",
                file.display()
            ));
        }
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err(format!(
                "more than {INTERFACES_MAX} interfaces in all files"
            ));
        }
        self.interfaces.0.push((exporter, index, interface));
        Ok(())
    }
}

/// Where each of [`COLUMNS`] stands.
struct Columns {
    places: [Option<usize>; COLUMNS.len()],
    count: usize,
}

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, String> {
        let mut places = [None; COLUMNS.len()];
        for (place, found) in header.iter().enumerate() {
            // A mark that some editors put before the first letter.
            let found = found.trim_start_matches('\u{feff}');
            let column = COLUMNS.iter().position(|column| *column == found);
            let column = column.and_then(|column| places.get_mut(column));
            match column {
                Some(none @ None) => *none = Some(place),
                _ => {
                    return Err(format!(
                        "found the column {found:?}; allowed in the first line: {}, each once",
                        COLUMNS.join(", ")
                    ));
                }
            }
        }
        match places {
            [Some(_), Some(_), ..] => Ok(Self {
                places,
                count: header.len(),
            }),
            _ => Err("the first line has to name the columns exporter and if_index".into()),
        }
    }

    fn fields<'r>(&self, record: &'r StringRecord) -> [&'r str; COLUMNS.len()] {
        let field = |place: Option<usize>| place.and_then(|place| record.get(place));
        self.places.map(|place| field(place).unwrap_or_default())
    }
}

fn text(key: &str, found: &str) -> Result<Box<str>, String> {
    let kept = clean(found.as_bytes());
    if *kept != *found {
        return Err(format!(
            "{key}: found {found:?}; allowed: {TEXT_MAX} bytes at most, without control \
             characters"
        ));
    }
    Ok(kept)
}

/// The whole file, which is not longer than a file with so many interfaces may be.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        let text = format!("it is longer than {BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Cuts a line into `record`; false when there is nothing in it, or a remark.
fn fields(line: &[u8], record: &mut StringRecord) -> Result<bool, String> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(false);
    }
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .buffer_capacity(line.len())
        .from_reader(line);
    let is_there = reader.read_record(record);
    is_there.map_err(|_| "this line is not UTF-8".into())
}
