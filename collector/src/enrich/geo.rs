//! Places and autonomous systems of addresses, of databases in MMDB form.
//!
//! In: the databases of `[enrich.geo]`. Out: a number an address, which stands for a place and an
//! autonomous system. All networks of all databases become one table ([`Lpm`]), so that an address
//! is looked up once, whatever the databases are; without any it still tells private addresses.
//! Owner: built by a control task, read by whoever marks rows; immutable. Specs: MaxMind DB 2.0.

mod build;
mod database;
mod error;
mod labels;
mod numbers;
mod record;
mod special;

pub use error::GeoError;

use labels::Labels;

use super::lpm::Lpm;
use crate::config;
use crate::flow::Address;

/// Stands for the number of the autonomous system of a private address, to ask for its name. No
/// system has it (RFC 7300).
pub const PRIVATE_AS: u32 = u32::MAX;

/// What the databases say, by address.
#[derive(Clone, Debug, Default)]
pub struct Places {
    table: Lpm,
    /// The label of the place, by number.
    place_labels: Box<[u32]>,
    /// The autonomous system, by block of [`BLOCK`] numbers: few enough for the caches of a core,
    /// where places are not.
    block_systems: Box<[u32]>,
    /// Whether addresses are private, by block.
    block_is_private: Box<[bool]>,
    places: Labels,
    /// Numbers of systems whose names are known, in order, and the numbers of the names.
    as_numbers: Box<[u32]>,
    as_names: Box<[u32]>,
    systems: Labels,
}

/// Numbers that stand for the same autonomous system, and are all of private addresses or none.
const BLOCK: usize = 16;

impl Places {
    /// Reads the databases and makes their table. Takes seconds and, for a while, the memory of
    /// the largest database and of its table three times.
    ///
    /// # Errors
    /// When a database cannot be read, is none, is damaged or says nothing of what we ask for, or
    /// when the table would be larger than `memory_max`.
    pub fn load(config: &config::Geo) -> Result<Self, GeoError> {
        build::load(config)
    }

    /// The numbers of what is known of addresses, each in the place of its address; 0 is nothing.
    pub fn find(&self, addresses: &[Address], ids: &mut [u32]) {
        self.table.get_many(addresses, ids);
    }

    /// `country\tregion\tcity\tlatitude\tlongitude`; nothing where no place is known.
    #[must_use]
    pub fn label(&self, id: u32) -> &str {
        let place = self.place_labels.get(id as usize);
        self.places.get(place.copied().unwrap_or(0))
    }

    /// The number of the autonomous system; 0 where none is known.
    #[must_use]
    #[inline]
    pub fn as_number(&self, id: u32) -> u32 {
        let system = self.block_systems.get(id as usize / BLOCK);
        system.copied().unwrap_or(0)
    }

    /// The name of an autonomous system; nothing where none is known.
    #[must_use]
    pub fn as_name(&self, as_number: u32) -> &str {
        if as_number == PRIVATE_AS {
            return "private";
        }
        let Ok(at) = self.as_numbers.binary_search(&as_number) else {
            return "";
        };
        self.as_names
            .get(at)
            .map_or("", |&name| self.systems.get(name))
    }

    /// True for an address that is not reachable from the Internet (RFC 6890): private, link
    /// local, loopback, documentation... Multicast is not.
    #[must_use]
    #[inline]
    pub fn is_private(&self, id: u32) -> bool {
        let is_private = self.block_is_private.get(id as usize / BLOCK);
        is_private.copied().unwrap_or(false)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
            + size_of_val(&*self.place_labels)
            + size_of_val(&*self.block_systems)
            + size_of_val(&*self.block_is_private)
            + self.places.memory_bytes()
            + size_of_val(&*self.as_numbers)
            + size_of_val(&*self.as_names)
            + self.systems.memory_bytes()
    }
}

#[cfg(test)]
mod tests;
