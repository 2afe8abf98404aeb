//! What tables said of addresses a moment ago.
//!
//! Flows repeat their addresses: of traffic that follows Zipf's law a few thousand addresses are
//! most of it. They are remembered in a second cache, where the tables are too large to be.

use crate::flow::Address;

/// Numbers of an address in the tables of places, sites and hosts.
pub(super) type Ids = [u32; 3];

/// Addresses that are remembered.
const ENTRIES: usize = 1 << 13;

/// Bytes of what is remembered.
pub const MEMORY_BYTES: usize = ENTRIES * size_of::<Entry>();

/// Two of them are a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Entry {
    address: Address,
    ids: Ids,
    /// Of another generation, it is forgotten.
    generation: u32,
}

impl Entry {
    const EMPTY: Self = Self {
        address: Address::UNKNOWN,
        ids: [0; 3],
        generation: 0,
    };
}

/// The addresses of a moment, each in the one place that it may have.
#[derive(Debug)]
pub(super) struct Recent {
    entries: Box<[Entry]>,
    /// That of what is remembered.
    generation: u32,
    /// Seconds since the epoch, as flows tell them, when it was emptied last.
    emptied_s: u32,
}

/// After this it begins anew, so that names that are in use are seen to be, and what could not be
/// asked for is asked for again, seconds.
const LIFE_S: u32 = 10;

impl Recent {
    /// Remembers nothing.
    pub(super) fn new() -> Self {
        Self {
            entries: vec![Entry::EMPTY; ENTRIES].into_boxed_slice(),
            generation: 1,
            emptied_s: 0,
        }
    }

    /// Forgets everything: the tables are others.
    pub(super) fn empty(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.entries.fill(Entry::EMPTY);
            self.generation = 1;
        }
    }

    /// Forgets everything when it has remembered for too long.
    #[inline]
    pub(super) fn age(&mut self, now_s: u32) {
        if now_s.abs_diff(self.emptied_s) >= LIFE_S {
            self.emptied_s = now_s;
            self.empty();
        }
    }

    /// What is remembered of an address. Nothing is known of the unknown one, and that for ever.
    #[inline]
    pub(super) fn get(&self, address: Address) -> Option<Ids> {
        let entry = self.entries.get(place(address))?;
        if entry.address == address && entry.generation == self.generation {
            return Some(entry.ids);
        }
        address.is_unknown().then_some([0; 3])
    }

    /// Remembers an address in the place of another.
    #[inline]
    pub(super) fn put(&mut self, address: Address, ids: Ids) {
        if let Some(entry) = self.entries.get_mut(place(address)) {
            *entry = Entry {
                address,
                ids,
                generation: self.generation,
            };
        }
    }
}

/// Fibonacci hashing: the product's upper bits depend on all bits.
#[inline]
fn place(address: Address) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let bits = u128::from_be_bytes(address.0);
    let mixed = ((bits >> 64) as u64)
        .wrapping_mul(GOLDEN)
        .rotate_left(32)
        .wrapping_add(bits as u64);
    (mixed.wrapping_mul(GOLDEN) >> (u64::BITS - ENTRIES.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Address {
        Address::from_v4(n.to_be_bytes())
    }

    #[test]
    fn an_address_is_remembered_until_another_takes_its_place_or_time_is_up() {
        let mut recent = Recent::new();
        recent.age(1000);
        assert_eq!(recent.get(address(1)), None);
        recent.put(address(1), [1, 2, 3]);
        recent.age(1000 + LIFE_S - 1);
        assert_eq!(recent.get(address(1)), Some([1, 2, 3]));
        let other = (2..)
            .map(address)
            .find(|it| place(*it) == place(address(1)));
        recent.put(other.unwrap(), [4, 5, 6]);
        assert_eq!(recent.get(address(1)), None);
        assert_eq!(recent.get(other.unwrap()), Some([4, 5, 6]));
        recent.age(1000 + LIFE_S);
        assert_eq!(recent.get(other.unwrap()), None);
        assert_eq!(recent.get(Address::UNKNOWN), Some([0; 3]));
    }

    #[test]
    fn neighbouring_addresses_have_places_of_their_own() {
        for base in [0x0a14_0000_u32, 0xc0a8_0100] {
            let mut places: Vec<_> = (0..1024).map(|n| place(address(base + n))).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.len() > 900, "{}", places.len());
        }
    }
}
