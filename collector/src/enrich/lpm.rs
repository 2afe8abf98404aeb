//! Longest-prefix match for IPv4 and IPv6: what a table says of an address, as a small number.
//!
//! In: prefixes with values. Out: the value of the longest prefix that holds an address; 0 is none.
//! Owner: built by a control task, read by all; immutable, no locks, no allocation in a look-up.
//! IPv4 is an index over the upper bits with short lists behind it, as DXR has it ("DXR: towards a
//! billion routing lookups per second in software", 2012); IPv6 is a static B-tree over the upper
//! halves, with lists for what is longer than /64.

mod ranges;
mod v4;
mod v6;

pub use ranges::{Ranges, Start};

use crate::flow::Address;

/// Addresses that are looked up at once at most; longer bursts are cut. What a core can have
/// under way in cache misses is far less.
pub const BURST: usize = 64;

/// A table from addresses to values.
#[derive(Clone, Debug, Default)]
pub struct Lpm {
    v4: v4::Table,
    v6: v6::Table,
}

impl Lpm {
    /// The table that answers as the ranges do.
    #[must_use]
    pub fn new(ranges: &Ranges) -> Self {
        let Ranges { v4, v6 } = ranges;
        Self {
            v4: v4::Table::new(v4.steps(), v4.len()),
            v6: v6::Table::new(v6.steps(), v6.len()),
        }
    }

    /// The table of [`Ranges::overlay`], without making its ranges first: they may be as large as
    /// the table. What both are made of is let go family by family.
    #[must_use]
    pub fn of_overlay(a: Ranges, b: Ranges, mut f: impl FnMut(u32, u32) -> u32) -> Self {
        let v4_max = a.v4.len() + b.v4.len();
        let v4 = v4::Table::new(a.v4.overlaid(&b.v4, &mut f), v4_max);
        drop((a.v4, b.v4));
        let v6_max = a.v6.len() + b.v6.len();
        let v6 = v6::Table::new(a.v6.overlaid(&b.v6, &mut f), v6_max);
        Self { v4, v6 }
    }

    /// The value at an address; 0 where there is none.
    #[must_use]
    #[inline]
    pub fn get(&self, address: Address) -> u32 {
        match v4_of(address) {
            Some(v4) => self.v4.get(v4),
            None => self.v6.get(u128::from_be_bytes(address.0)),
        }
    }

    /// The values at many addresses, each in the place of its address; of slices of unequal length
    /// the longer one's end is left alone. Goes step by step over all of them, so that their cache
    /// misses overlap.
    pub fn get_many(&self, addresses: &[Address], values: &mut [u32]) {
        for (addresses, values) in addresses.chunks(BURST).zip(values.chunks_mut(BURST)) {
            self.get_burst(addresses, values);
        }
    }

    fn get_burst(&self, addresses: &[Address], values: &mut [u32]) {
        let mut v4 = v4::Burst::default();
        let mut v6 = v6::Burst::default();
        for (place, &address) in (0..).zip(addresses) {
            match v4_of(address) {
                Some(address) => v4.push(place, address),
                None => v6.push(place, u128::from_be_bytes(address.0)),
            }
        }
        self.v4.get_burst(&mut v4, values);
        self.v6.get_burst(&mut v6, values);
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.v4.memory_bytes() + self.v6.memory_bytes()
    }
}

/// The IPv4 address that an address is, if it is one.
#[inline]
const fn v4_of(address: Address) -> Option<u32> {
    let bits = u128::from_be_bytes(address.0);
    if bits >> 32 == 0xffff {
        Some(bits as u32)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
