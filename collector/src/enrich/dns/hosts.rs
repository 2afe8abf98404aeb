//! The names of addresses at one moment, for whoever asks for many at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::Asker;
use crate::flow::Address;

/// Makes slots out of addresses. Its key is drawn at the start, so that nobody who invents
/// addresses can have them meet in one slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash {
    high: u64,
    low: u64,
}

impl Hash {
    pub fn random() -> Self {
        // Odd, so that no factor is 0 for the addresses that are most: IPv4 ones.
        Self {
            high: rand::random::<u64>() | 1,
            low: rand::random::<u64>() | 1,
        }
    }

    #[inline]
    pub fn of(self, address: Address) -> u64 {
        let bits = u128::from_ne_bytes(address.0);
        let [high, low] = [(bits >> 64) as u64, bits as u64];
        let product = u128::from(high ^ self.high) * u128::from(low ^ self.low);
        (product >> 64) as u64 ^ product as u64
    }
}

/// The names known at one moment, by address. Nobody changes it any more.
#[derive(Debug)]
pub struct Hosts {
    hash: Hash,
    /// A power of two, of which at most half are filled; an address lies in the first free slot
    /// from its own on.
    slots: Box<[Slot]>,
    /// All labels one after the other.
    text: Box<str>,
    /// Where the label of each id ends; that of 0 is empty.
    ends: Box<[u32]>,
}

/// Two of them are a cache line.
#[derive(Debug)]
#[repr(align(32))]
struct Slot {
    address: Address,
    what: u32,
    /// Somebody found it since this snapshot was made.
    is_used: AtomicBool,
}

/// Of a slot: nobody lies in it.
const EMPTY: u32 = 0;
/// It is known that the address has no name, or that there is none to be had just now. Above: the
/// id of its name and this.
const NAMELESS: u32 = 1;

/// Addresses whose slots are loaded together.
const AT_ONCE: usize = 64;

impl Default for Hosts {
    /// Knows nothing.
    fn default() -> Self {
        Self::new(Hash::random(), 0, std::iter::empty())
    }
}

impl Hosts {
    /// A table of `count` addresses at most, each with its name or with none.
    pub(super) fn new<'a>(
        hash: Hash,
        count: usize,
        known: impl Iterator<Item = (Address, Option<&'a str>)>,
    ) -> Self {
        let slots = (2 * count.max(1)).next_power_of_two();
        let empty = || Slot {
            address: Address::UNKNOWN,
            what: EMPTY,
            is_used: AtomicBool::new(false),
        };
        let mut hosts = Self {
            hash,
            slots: std::iter::repeat_with(empty).take(slots).collect(),
            text: Box::default(),
            ends: Box::default(),
        };
        let (mut text, mut ends) = (String::new(), vec![0]);
        // One id a name: the encoder's dictionary has each text once.
        let mut ids: HashMap<&str, u32> = HashMap::new();
        for (address, name) in known.take(count) {
            let what = match name {
                None => NAMELESS,
                Some(name) => *ids.entry(name).or_insert_with(|| {
                    text.push_str(name);
                    ends.push(u32::try_from(text.len()).expect("4 M names of 255 bytes"));
                    NAMELESS + u32::try_from(ends.len() - 1).expect("as many as addresses")
                }),
            };
            hosts.put(address, what);
        }
        hosts.text = text.into();
        hosts.ends = ends.into();
        hosts
    }

    fn put(&mut self, address: Address, what: u32) {
        let mask = self.slots.len() - 1;
        let mut place = self.place(address);
        while self.slots[place].what != EMPTY && self.slots[place].address != address {
            place = (place + 1) & mask;
        }
        let slot = &mut self.slots[place];
        (slot.address, slot.what) = (address, what);
    }

    /// Writes the id of each address's name into `ids`, 0 where none is known. Two slices of one
    /// length.
    pub fn find(&self, addresses: &[Address], ids: &mut [u32]) {
        self.each(addresses, ids, |_| {});
    }

    /// The same, and asks for those of which nothing is known: neither a name nor that there is
    /// none.
    pub fn find_or_ask(&self, addresses: &[Address], ids: &mut [u32], asker: &mut Asker) {
        self.each(addresses, ids, |address| asker.ask(address));
    }

    /// The name with this id; '' for 0, and for one of another snapshot that is too large.
    #[must_use]
    pub fn label(&self, id: u32) -> &str {
        let end = |id: usize| self.ends.get(id).map(|end| *end as usize);
        let id = id as usize;
        let of = id
            .checked_sub(1)
            .and_then(|before| Some((end(before)?, end(id)?)));
        of.and_then(|(start, end)| self.text.get(start..end))
            .unwrap_or("")
    }

    /// The name of an address.
    #[must_use]
    pub fn name(&self, address: Address) -> Option<&str> {
        let mut id = [0];
        self.find(&[address], &mut id);
        Some(self.label(id[0])).filter(|name| !name.is_empty())
    }

    /// Ids are below this.
    #[must_use]
    pub fn ids(&self) -> usize {
        self.ends.len()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.text.len() + size_of_val(&*self.ends)
    }

    /// The addresses that somebody found a name for since it was made.
    pub(super) fn used(&self) -> impl Iterator<Item = Address> {
        let used = |slot: &&Slot| slot.what > NAMELESS && slot.is_used.load(Relaxed);
        self.slots.iter().filter(used).map(|slot| slot.address)
    }

    #[inline]
    fn each(&self, addresses: &[Address], ids: &mut [u32], mut on_unknown: impl FnMut(Address)) {
        let bursts = addresses.chunks(AT_ONCE).zip(ids.chunks_mut(AT_ONCE));
        for (addresses, ids) in bursts {
            let mut places = [0; AT_ONCE];
            // First of all: what lies in the slots is under way while others are computed.
            for ((address, place), id) in addresses.iter().zip(&mut places).zip(&mut *ids) {
                *place = self.place(*address);
                *id = self.slots.get(*place).map_or(EMPTY, |slot| slot.what);
            }
            for ((address, place), id) in addresses.iter().zip(places).zip(&mut *ids) {
                let what = if *id == EMPTY {
                    EMPTY
                } else {
                    self.walk(place, *address)
                };
                if what == EMPTY && !address.is_unknown() {
                    on_unknown(*address);
                }
                *id = what.saturating_sub(NAMELESS);
            }
        }
    }

    /// What is known of `address`, whose own slot is `place`.
    #[inline]
    fn walk(&self, mut place: usize, address: Address) -> u32 {
        let mask = self.slots.len() - 1;
        // Half of the slots are empty, so it ends.
        while let Some(slot) = self.slots.get(place & mask) {
            if slot.what == EMPTY {
                break;
            }
            if slot.address == address {
                // Written once: others read this cache line.
                if !slot.is_used.load(Relaxed) {
                    slot.is_used.store(true, Relaxed);
                }
                return slot.what;
            }
            place += 1;
        }
        EMPTY
    }

    #[inline]
    fn place(&self, address: Address) -> usize {
        (self.hash.of(address) as usize) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Address {
        Address::from_v4(number.to_be_bytes())
    }

    fn table(known: &[(Address, Option<&str>)]) -> Hosts {
        Hosts::new(Hash::random(), known.len(), known.iter().copied())
    }

    fn labels<'a>(hosts: &'a Hosts, addresses: &[Address]) -> Vec<&'a str> {
        let mut ids = vec![9; addresses.len()];
        hosts.find(addresses, &mut ids);
        ids.iter().map(|id| hosts.label(*id)).collect()
    }

    #[test]
    fn every_address_finds_its_own_name_and_no_other_finds_any() {
        let names: Vec<_> = (0..5000).map(|n| format!("host{n}.example")).collect();
        let of = |n: u32| {
            (
                address(n * 3),
                (!n.is_multiple_of(4)).then(|| &*names[n as usize]),
            )
        };
        let known: Vec<_> = (0..5000).map(of).collect();
        let hosts = table(&known);
        let asked: Vec<_> = (0..20_000).map(address).collect();
        let found = labels(&hosts, &asked);
        for (n, found) in found.iter().enumerate() {
            let is_named = n % 3 == 0 && n / 3 < 5000 && n / 3 % 4 != 0;
            let wanted = if is_named { &*names[n / 3] } else { "" };
            assert_eq!(*found, wanted, "{n}");
        }
    }

    #[test]
    fn ipv4_and_ipv6_addresses_are_told_apart() {
        let mapped = address(7);
        let mut other = mapped;
        other.0[0] = 0x20;
        let hosts = table(&[(mapped, Some("four")), (other, Some("six"))]);
        assert_eq!(labels(&hosts, &[other, mapped]), ["six", "four"]);
    }

    #[test]
    fn equal_names_have_one_id_and_strange_ids_no_name() {
        let hosts = table(&[
            (address(1), Some("a")),
            (address(2), Some("b")),
            (address(3), Some("a")),
            (address(4), None),
        ]);
        let mut ids = [0; 5];
        hosts.find(&[1, 2, 3, 4, 5].map(address), &mut ids);
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[3..], [0, 0]);
        assert_eq!(hosts.ids(), 3);
        assert_eq!([0, 3, u32::MAX].map(|id| hosts.label(id)), ["", "", ""]);
    }

    #[test]
    fn what_is_found_counts_as_used_and_nothing_else() {
        let hosts = table(&[
            (address(1), Some("a")),
            (address(2), Some("b")),
            (address(3), None),
        ]);
        let mut ids = [0; 3];
        hosts.find(&[2, 3, 9].map(address), &mut ids);
        assert_eq!(hosts.used().collect::<Vec<_>>(), [address(2)]);
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        let hosts = table(&[]);
        assert_eq!(labels(&hosts, &[address(1), Address::UNKNOWN]), ["", ""]);
    }
}
