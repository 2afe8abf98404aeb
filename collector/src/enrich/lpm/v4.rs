//! IPv4: an index over the upper bits leads to a list of where values change in that part.
//!
//! A list lies in one piece, so that it is one cache miss as a rule: how many changes there are
//! (n), where (n times the lower bits of an address, in order), and the n + 1 values between, each
//! as two halves. All numbers have 16 bits.

use super::BURST;

/// The table of IPv4.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Lower bits of an address, those that a list is about; 0 without a table.
    low_bits: u32,
    /// Where in `lists` the list of a part begins.
    index: Box<[u32]>,
    lists: Box<[u16]>,
}

/// IPv4 addresses of a burst, and what the steps of a look-up leave for the next one.
pub(super) struct Burst {
    len: usize,
    /// Places in the burst that the addresses came from.
    places: [u8; BURST],
    addresses: [u32; BURST],
    lists: [u32; BURST],
    lens: [u16; BURST],
}

const _: () = assert!(BURST <= u8::MAX as usize + 1, "a place is a u8");

impl Default for Burst {
    #[inline]
    fn default() -> Self {
        Self {
            len: 0,
            places: [0; BURST],
            addresses: [0; BURST],
            lists: [0; BURST],
            lens: [0; BURST],
        }
    }
}

impl Burst {
    /// Adds an address; what is beyond [`BURST`] is not looked up.
    #[inline]
    pub(super) fn push(&mut self, place: u8, address: u32) {
        if let (Some(to), Some(into)) = (
            self.places.get_mut(self.len),
            self.addresses.get_mut(self.len),
        ) {
            (*to, *into) = (place, address);
            self.len += 1;
        }
    }
}

impl Table {
    /// Of steps in order, of which there are `steps_max` at most.
    pub(super) fn new(steps: impl Iterator<Item = (u32, u32)>, steps_max: usize) -> Self {
        if steps_max == 0 {
            return Self::default();
        }
        // A part has two to four changes in a large table; a small one's index is 256 KiB.
        let index_bits = (steps_max.ilog2().saturating_sub(1)).clamp(16, 20);
        let low_bits = u32::BITS - index_bits;
        let mut builder = Builder::new(1 << index_bits, steps_max);
        let mut steps = steps.peekable();
        let mut value = 0;
        for part in 0..1_u32 << index_bits {
            let start = part << low_bits;
            if let Some((_, new)) = steps.next_if(|&(at, _)| at == start) {
                value = new;
            }
            builder.begin(value);
            while let Some((at, new)) = steps.next_if(|&(at, _)| at >> low_bits == part) {
                if new != value {
                    value = new;
                    builder.change((at - start) as u16, new);
                }
            }
            builder.end();
        }
        Self {
            low_bits,
            index: builder.index.into_boxed_slice(),
            lists: builder.lists.into_boxed_slice(),
        }
    }

    #[inline]
    pub(super) fn get(&self, address: u32) -> u32 {
        let list = self.list_of(address);
        self.search(list, self.len_of(list), address)
    }

    /// Looks all of them up, each step for all before the next one.
    pub(super) fn get_burst(&self, burst: &mut Burst, values: &mut [u32]) {
        let Burst {
            len,
            places,
            addresses,
            lists,
            lens,
        } = burst;
        let len = *len;
        for (list, &address) in lists.iter_mut().zip(addresses.iter()).take(len) {
            *list = self.list_of(address);
        }
        for (list_len, &list) in lens.iter_mut().zip(lists.iter()).take(len) {
            *list_len = self.len_of(list);
        }
        let found = (lists.iter().zip(lens.iter())).zip(addresses.iter().zip(places.iter()));
        for ((&list, &list_len), (&address, &place)) in found.take(len) {
            if let Some(value) = values.get_mut(usize::from(place)) {
                *value = self.search(list, list_len, address);
            }
        }
    }

    #[inline]
    fn list_of(&self, address: u32) -> u32 {
        let part = address.checked_shr(self.low_bits).unwrap_or(0);
        self.index.get(part as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn len_of(&self, list: u32) -> u16 {
        self.lists.get(list as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn search(&self, list: u32, len: u16, address: u32) -> u32 {
        let low = (address & !(u32::MAX << self.low_bits)) as u16;
        let first = list as usize + 1;
        let behind = first + usize::from(len);
        let Some(mut changes) = self.lists.get(first..behind) else {
            return 0;
        };
        let mut passed = 0;
        while changes.len() > SCAN {
            let (lower, upper) = changes.split_at(changes.len() / 2);
            if upper.first().is_some_and(|&change| change <= low) {
                passed += lower.len();
                changes = upper;
            } else {
                changes = lower;
            }
        }
        // Counting in 16 bits and without a way out is what the compiler makes vectors of.
        let counted: u16 = changes.iter().map(|&change| u16::from(change <= low)).sum();
        let at = behind + 2 * (passed + usize::from(counted));
        match self.lists.get(at..at + 2) {
            Some(&[upper, lower]) => u32::from(upper) << 16 | u32::from(lower),
            _ => 0,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.lists)
    }
}

/// Changes that are counted through instead of halved: two cache lines.
const SCAN: usize = 64;

/// Numbers of a cache line.
const LINE: usize = 32;

/// Makes index and lists.
struct Builder {
    index: Vec<u32>,
    lists: Vec<u16>,
    changes: Vec<u16>,
    values: Vec<u32>,
    /// The list of the part before, if that has no change, and its value.
    plain: Option<(u32, u32)>,
}

impl Builder {
    fn new(parts: usize, steps: usize) -> Self {
        Self {
            index: Vec::with_capacity(parts),
            lists: Vec::with_capacity(3 * steps),
            changes: Vec::new(),
            values: Vec::new(),
            plain: None,
        }
    }

    fn begin(&mut self, value: u32) {
        self.changes.clear();
        self.values.clear();
        self.values.push(value);
    }

    fn change(&mut self, at: u16, value: u32) {
        self.changes.push(at);
        self.values.push(value);
    }

    fn end(&mut self) {
        let only = self
            .changes
            .is_empty()
            .then(|| self.values.first().copied().unwrap_or(0));
        // Parts without a change share the list of the one before, if that says the same.
        if let (Some(value), Some((list, plain))) = (only, self.plain)
            && value == plain
        {
            self.index.push(list);
            return;
        }
        self.pad(1 + self.changes.len() + 2 * self.values.len());
        let list = u32::try_from(self.lists.len())
            .expect("three numbers a change and a part: there are not 2^30 networks of IPv4");
        self.index.push(list);
        self.lists.push(self.changes.len() as u16);
        self.lists.extend_from_slice(&self.changes);
        for &value in &self.values {
            self.lists.extend([(value >> 16) as u16, value as u16]);
        }
        self.plain = only.map(|value| (list, value));
    }

    /// A list that has room in a cache line does not begin near the end of one. Only speed depends
    /// on where the lists are in memory.
    fn pad(&mut self, len: usize) {
        let at = self.lists.as_ptr().addr() / 2 + self.lists.len();
        let room = LINE - at % LINE;
        if room < len && len <= LINE {
            self.lists.resize(self.lists.len() + room, 0);
        }
    }
}
