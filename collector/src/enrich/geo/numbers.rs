//! Numbers of what is known of addresses, given out in blocks of the same autonomous system.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::BLOCK;

/// Gives each pair of a place and a system a number; 0 is nothing of both.
pub(super) struct Numbers {
    /// The place of each number.
    places: Vec<u32>,
    /// The system of each block of numbers.
    blocks: Vec<u32>,
    /// Places and numbers, by place and system: the block of a number tells its system.
    known: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    /// The last number of each system; 0 of one that has none yet.
    last: Vec<usize>,
}

impl Numbers {
    /// For about so many pairs.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut numbers = Self {
            places: Vec::with_capacity(capacity),
            blocks: Vec::new(),
            known: HashTable::with_capacity(capacity),
            hasher: DefaultHashBuilder::default(),
            last: Vec::new(),
        };
        numbers.number(0, 0);
        numbers
    }

    /// The number of a place and a system, both as numbers, of which those of systems are dense.
    #[inline]
    pub(super) fn number(&mut self, place: u32, system: u32) -> u32 {
        let hash = self.hash(place, system);
        let is_it = |&(of, number): &(u32, u32)| of == place && self.system(number) == system;
        match self.known.find(hash, is_it) {
            Some(&(_, number)) => number,
            None => self.add(place, system, hash),
        }
    }

    fn hash(&self, place: u32, system: u32) -> u64 {
        self.hasher
            .hash_one(u64::from(place) << 32 | u64::from(system))
    }

    fn system(&self, number: u32) -> u32 {
        let block = self.blocks.get(number as usize / BLOCK);
        block.copied().unwrap_or(0)
    }

    fn add(&mut self, place: u32, system: u32, hash: u64) -> u32 {
        let at = system as usize;
        if self.last.len() <= at {
            self.last.resize(at + 1, 0);
        }
        let last = self.last.get_mut(at).expect("made above");
        // Number 0 begins a block, too; only its own system has it.
        let is_new = *last == 0 && system != 0;
        if is_new || self.places.is_empty() || (*last + 1).is_multiple_of(BLOCK) {
            *last = self.places.len();
            self.blocks.push(system);
            self.places.resize(*last + BLOCK, 0);
        } else {
            *last += 1;
        }
        let of = self.places.get_mut(*last).expect("blocks are whole");
        *of = place;
        let number = u32::try_from(*last).expect("of 2^28 networks at most, each in its block");
        let mut known = std::mem::take(&mut self.known);
        known.insert_unique(hash, (place, number), |&(place, number)| {
            self.hash(place, self.system(number))
        });
        self.known = known;
        number
    }

    /// The place of each number, and the system of each block.
    pub(super) fn finish(self) -> (Box<[u32]>, Vec<u32>) {
        (self.places.into(), self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_number_and_a_block_one_system() {
        let mut numbers = Numbers::with_capacity(0);
        // Interleaved, so that blocks fill beside each other; system 3 begins late.
        let pairs: Vec<(u32, u32)> = (0..3 * BLOCK as u32)
            .flat_map(|place| [(place, 0), (place, 1), (place, 2)])
            .chain([(7, 3), (0, 3)])
            .collect();
        let given: Vec<u32> = pairs.iter().map(|&(p, s)| numbers.number(p, s)).collect();
        let again: Vec<u32> = pairs.iter().map(|&(p, s)| numbers.number(p, s)).collect();
        assert_eq!(given, again);
        let (places, blocks) = numbers.finish();
        assert_eq!(given[0], 0, "nothing of both");
        assert_eq!(places.len(), BLOCK * blocks.len());
        assert_eq!(blocks.len(), 3 * 3 + 1, "full ones, and one of system 3");
        for (&number, pair) in given.iter().zip(pairs) {
            let number = number as usize;
            assert_eq!((places[number], blocks[number / BLOCK]), pair);
        }
    }
}
