//! All databases into one table.

use std::path::Path;

use hashbrown::HashMap;

use super::database::{self, Database, Network};
use super::numbers::Numbers;
use super::record::Said;
use super::{GeoError, PRIVATE_AS, Places, labels, special};
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

/// Networks of a City database to what is said of them, about.
const PER_NUMBER: usize = 8;

/// An autonomous system, and whether an address that is in it is private.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct System {
    as_number: u32,
    is_private: bool,
}

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
        let mut known = Known::of(bytes.len());
        let mut networks = 0_usize;
        let mut last = (0, (0, 0));
        database.networks(|network| {
            let Network { start, record } = network;
            if last.0 != record {
                let pair = match known.get(record) {
                    _ if record == 0 => (0, 0),
                    Some(pair) => pair,
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
        let mut rest = vec![System::default()];
        let mut known = HashMap::new();
        let systems = systems.overlay(&special::ranges(), |as_number, special| {
            let system = System {
                as_number,
                is_private: special == special::PRIVATE,
            };
            *known.entry(system).or_insert_with(|| {
                rest.push(system);
                rest.len() as u32 - 1
            })
        });
        let mut numbers = Numbers::with_capacity((places.len() + systems.len()) / PER_NUMBER);
        let table = Lpm::of_overlay(places, systems, |place, system| {
            numbers.number(place, system)
        });
        let (place_labels, blocks) = numbers.finish();
        let blocks = blocks
            .iter()
            .filter_map(|&system| rest.get(system as usize));
        let (block_systems, block_is_private): (Vec<_>, Vec<_>) = blocks
            .map(|system| (system.as_number, system.is_private))
            .unzip();
        let mut as_names: Vec<(u32, u32)> = as_names.into_iter().collect();
        as_names.sort_unstable();
        let places = Places {
            table,
            place_labels,
            block_systems: block_systems.into(),
            block_is_private: block_is_private.into(),
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

/// What records lead to. Found by where it is in the file, as hashes would scatter what networks
/// close to each other say; what shares a place there with another is in a map.
struct Known {
    places: Vec<(u32, Pair)>,
    others: HashMap<u32, Pair>,
}

/// Bytes that what is said of a place has at least, as a rule.
const SAID_BYTES: usize = 32;

impl Known {
    /// For a file of so many bytes; of the room only what is used is ever touched.
    fn of(bytes: usize) -> Self {
        Self {
            places: vec![(0, (0, 0)); bytes / SAID_BYTES + 1],
            others: HashMap::new(),
        }
    }

    fn get(&self, record: u32) -> Option<Pair> {
        match self.places.get(record as usize / SAID_BYTES) {
            Some(&(of, pair)) if of == record => Some(pair),
            _ => self.others.get(&record).copied(),
        }
    }

    fn insert(&mut self, record: u32, pair: Pair) {
        match self.places.get_mut(record as usize / SAID_BYTES) {
            Some(place) if place.0 == 0 => *place = (record, pair),
            _ => {
                self.others.insert(record, pair);
            }
        }
    }
}
