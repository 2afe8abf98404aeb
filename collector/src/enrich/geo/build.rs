//! All databases into one table.

use std::path::Path;

use hashbrown::HashMap;

use super::database::{self, Database, Network};
use super::record::Said;
use super::{GeoError, PRIVATE_AS, PRIVATE_BIT, Places, Record, labels, special};
use crate::config;
use crate::enrich::lpm::{Lpm, Ranges};

/// Reads the databases of `config` and makes their table.
pub(super) fn load(config: &config::Geo) -> Result<Places, GeoError> {
    let mut builder = Builder {
        language: &config.language,
        memory_max: config.memory_max.as_u64(),
        ..Builder::default()
    };
    for file in &config.databases {
        builder.add(file)?;
    }
    builder.finish()
}

/// A database may have as many times the bytes of its table: it repeats, and it has what we do not
/// ask for.
const FILE_TIMES: u64 = 4;

/// Bytes of a range in the table at least.
const RANGE_BYTES: usize = 6;

/// Networks between two looks at the memory that is needed.
const NETWORKS_BETWEEN: usize = 1 << 14;

#[derive(Default)]
struct Builder<'a> {
    language: &'a str,
    memory_max: u64,
    labels: labels::Builder,
    /// Numbers of labels.
    places: Ranges,
    names: labels::Builder,
    /// Numbers of autonomous systems.
    systems: Ranges,
    /// The number of the name of each.
    as_names: HashMap<u32, u32>,
    /// Where texts are put together.
    text: String,
}

/// What one database says: number of a label, and of an autonomous system.
type Pair = (u32, u32);

impl Builder<'_> {
    /// Adds what a database says where those before said nothing.
    fn add(&mut self, file: &Path) -> Result<(), GeoError> {
        let (places, systems) = self.ranges(file)?;
        self.places = std::mem::take(&mut self.places).or(places);
        self.systems = std::mem::take(&mut self.systems).or(systems);
        self.check(0)
    }

    /// Where a database says which place and which system. Its bytes are let go.
    fn ranges(&mut self, file: &Path) -> Result<(Ranges, Ranges), GeoError> {
        let bytes = database::read(file, self.memory_max.saturating_mul(FILE_TIMES))?;
        let database = Database::new(file, &bytes)?;
        let (mut places, mut systems) = (Ranges::default(), Ranges::default());
        let mut known: HashMap<u32, Pair> = HashMap::new();
        let mut networks = 0_usize;
        let mut last = (0, (0, 0));
        database.networks(|network| {
            let Network { start, record } = network;
            if last.0 != record {
                let pair = match known.get(&record) {
                    _ if record == 0 => (0, 0),
                    Some(&pair) => pair,
                    None => {
                        let pair = self.pair(&database.said(&network)?)?;
                        known.insert(record, pair);
                        pair
                    }
                };
                last = (record, pair);
            }
            let (place, system) = last.1;
            // The tree is in order, so nothing is refused.
            places.hold(start, place);
            systems.hold(start, system);
            networks += 1;
            if networks.is_multiple_of(NETWORKS_BETWEEN) {
                self.check(places.len() + systems.len())?;
            }
            Ok(())
        })?;
        if places.is_empty() && systems.is_empty() {
            return Err(GeoError::Kind {
                file: file.to_path_buf(),
                kind: database.kind().chars().take(100).collect(),
            });
        }
        Ok((places, systems))
    }

    fn pair(&mut self, said: &Said<'_>) -> Result<Pair, GeoError> {
        self.text.clear();
        said.write_place(self.language, &mut self.text);
        let place = self.labels.number(&self.text);
        let place = place.filter(|place| place & PRIVATE_BIT == 0);
        let place = place.ok_or_else(|| self.too_large(u64::from(u32::MAX)))?;
        let system = match said.as_number {
            PRIVATE_AS => 0,
            number => number,
        };
        if system != 0 && !self.as_names.contains_key(&system) {
            self.text.clear();
            said.write_as_name(&mut self.text);
            let name = self.names.number(&self.text);
            let name = name.ok_or_else(|| self.too_large(u64::from(u32::MAX)))?;
            // Another record, or another database, may know it.
            if name != 0 {
                self.as_names.insert(system, name);
            }
        }
        Ok((place, system))
    }

    /// Gives up as soon as it is sure that the table gets too large; `ranges` are not in it yet.
    fn check(&self, ranges: usize) -> Result<(), GeoError> {
        let ranges = ranges + self.places.len().max(self.systems.len());
        let labels = self.labels.memory_bytes() + self.names.memory_bytes();
        let bytes = (RANGE_BYTES * ranges + labels) as u64;
        match bytes > self.memory_max {
            true => Err(self.too_large(bytes)),
            false => Ok(()),
        }
    }

    fn too_large(&self, bytes: u64) -> GeoError {
        GeoError::Memory {
            bytes,
            max: self.memory_max,
        }
    }

    fn finish(self) -> Result<Places, GeoError> {
        let Self {
            memory_max,
            labels,
            places,
            names,
            systems,
            as_names,
            ..
        } = self;
        // The small ones first: the large one is laid over them only once.
        let mut rest = Numbers::new();
        let systems = systems.overlay(&special::ranges(), |as_number, special| {
            let place = if special == special::PRIVATE {
                PRIVATE_BIT
            } else {
                0
            };
            rest.number(Record { place, as_number })
        });
        let mut records = Numbers::new();
        let table = Lpm::of_overlay(places, systems, |place, number| {
            let mut record = rest.record(number);
            record.place |= place;
            records.number(record)
        });
        drop(rest);
        let mut as_names: Vec<(u32, u32)> = as_names.into_iter().collect();
        as_names.sort_unstable();
        let places = Places {
            table,
            records: records.records.into_boxed_slice(),
            places: labels.finish(),
            as_numbers: as_names.iter().map(|&(number, _)| number).collect(),
            as_names: as_names.iter().map(|&(_, name)| name).collect(),
            systems: names.finish(),
        };
        match places.memory_bytes() as u64 {
            bytes if bytes > memory_max => Err(GeoError::Memory {
                bytes,
                max: memory_max,
            }),
            _ => Ok(places),
        }
    }
}

/// Records and their numbers.
struct Numbers {
    records: Vec<Record>,
    numbers: HashMap<Record, u32>,
    /// What was asked for last: neighbours are often alike.
    last: (Record, u32),
}

impl Numbers {
    fn new() -> Self {
        Self {
            records: vec![Record::default()],
            numbers: HashMap::from_iter([(Record::default(), 0)]),
            last: Default::default(),
        }
    }

    fn number(&mut self, record: Record) -> u32 {
        let Self {
            records,
            numbers,
            last,
        } = self;
        if last.0 != record {
            let number = *numbers.entry(record).or_insert_with(|| {
                let number = u32::try_from(records.len());
                records.push(record);
                number.expect("each stands for a range, of which there are fewer than 2^32")
            });
            *last = (record, number);
        }
        last.1
    }

    fn record(&self, number: u32) -> Record {
        self.records
            .get(number as usize)
            .copied()
            .unwrap_or_default()
    }
}
