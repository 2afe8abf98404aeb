//! IPv6: a static B-tree over the upper halves of addresses.
//!
//! A node is a cache line of eight keys, and each level above holds the first keys of the nodes
//! below, so that a node's children need no pointers. Where a value changes within a /64, its entry
//! leads to a list over the lower halves instead of a value.

use super::BURST;

/// The table of IPv6.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Upper halves at which an entry begins, in order; the lowest level of the tree.
    keys: Box<[u64]>,
    /// The levels above, the root's first.
    above: Box<[Box<[u64]>]>,
    /// Of each key: a value, or [`LIST`] and the number of a list.
    entries: Box<[u32]>,
    /// Where each list begins in `low_keys` and `low_values`; one more than there are lists.
    lists: Box<[u32]>,
    /// Lower halves at which a value begins, in order within a list; the first of a list is 0.
    low_keys: Box<[u64]>,
    low_values: Box<[u32]>,
}

/// Keys of a node: a cache line.
const NODE: usize = 8;
/// Marks an entry that is the number of a list. Values that have this bit are in lists.
const LIST: u32 = 1 << 31;

/// IPv6 addresses of a burst, and what the steps of a look-up leave for the next one.
pub(super) struct Burst {
    len: usize,
    /// Places in the burst that the addresses came from.
    places: [u8; BURST],
    upper: [u64; BURST],
    lower: [u64; BURST],
    /// Node of the next level, then the entry.
    at: [u32; BURST],
}

impl Default for Burst {
    #[inline]
    fn default() -> Self {
        Self {
            len: 0,
            places: [0; BURST],
            upper: [0; BURST],
            lower: [0; BURST],
            at: [0; BURST],
        }
    }
}

impl Burst {
    /// Adds an address; what is beyond [`BURST`] is not looked up.
    #[inline]
    pub(super) fn push(&mut self, place: u8, address: u128) {
        if let (Some(to), Some(upper), Some(lower)) = (
            self.places.get_mut(self.len),
            self.upper.get_mut(self.len),
            self.lower.get_mut(self.len),
        ) {
            *to = place;
            (*upper, *lower) = halves(address);
            self.len += 1;
        }
    }
}

impl Table {
    /// Of steps in order, of which there are `steps_max` at most.
    pub(super) fn new(steps: impl Iterator<Item = (u128, u32)>, steps_max: usize) -> Self {
        let mut builder = Builder::new(steps_max);
        let mut steps = steps.peekable();
        let mut value = 0;
        // The first key is 0, so that each address has an entry.
        if steps.peek().is_some_and(|&(at, _)| halves(at).0 > 0) {
            builder.entry(0, 0, &[]);
        }
        let mut changes = Vec::new();
        while let Some(&(at, _)) = steps.peek() {
            let (upper, _) = halves(at);
            let before = value;
            changes.clear();
            while let Some((at, new)) = steps.next_if(|&(at, _)| halves(at).0 == upper) {
                value = new;
                changes.push((halves(at).1, new));
            }
            builder.entry(upper, before, &changes);
            // Behind a /64 with changes of its own the last of them goes on.
            let next = steps.peek().map(|&(at, _)| halves(at).0);
            if let Some(behind) = upper.checked_add(1)
                && changes.iter().any(|&(lower, _)| lower > 0)
                && next != Some(behind)
            {
                builder.entry(behind, value, &[]);
            }
        }
        builder.table()
    }

    #[inline]
    pub(super) fn get(&self, address: u128) -> u32 {
        let (upper, lower) = halves(address);
        let mut at = 0;
        for level in &self.above {
            at = child(level, at, upper);
        }
        self.value(self.entry(child(&self.keys, at, upper)), lower)
    }

    /// Looks all of them up, each level of the tree for all before the next one.
    pub(super) fn get_burst(&self, burst: &mut Burst, values: &mut [u32]) {
        let Burst {
            len,
            places,
            upper,
            lower,
            at,
        } = burst;
        let len = *len;
        if len == 0 {
            return;
        }
        for level in self.above.iter().chain(std::iter::once(&self.keys)) {
            for (at, &upper) in at.iter_mut().zip(upper.iter()).take(len) {
                *at = child(level, *at, upper);
            }
        }
        for at in at.iter_mut().take(len) {
            *at = self.entry(*at);
        }
        let found = at.iter().zip(lower.iter()).zip(places.iter());
        for ((&entry, &lower), &place) in found.take(len) {
            if let Some(value) = values.get_mut(usize::from(place)) {
                *value = self.value(entry, lower);
            }
        }
    }

    /// The entry of a key.
    #[inline]
    fn entry(&self, at: u32) -> u32 {
        self.entries.get(at as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn value(&self, entry: u32, lower: u64) -> u32 {
        if entry & LIST == 0 {
            return entry;
        }
        let list = (entry & !LIST) as usize;
        let Some(&[from, to]) = self.lists.get(list..list + 2) else {
            return 0;
        };
        let keys = self.low_keys.get(from as usize..to as usize).unwrap_or(&[]);
        let passed = keys.partition_point(|&key| key <= lower);
        // The first key is 0, so that one at least was passed.
        let at = (from as usize + passed).saturating_sub(1);
        self.low_values.get(at).copied().unwrap_or(0)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let above: usize = self.above.iter().map(|level| size_of_val(&**level)).sum();
        size_of_val(&*self.keys)
            + size_of_val(&*self.above)
            + above
            + size_of_val(&*self.entries)
            + size_of_val(&*self.lists)
            + size_of_val(&*self.low_keys)
            + size_of_val(&*self.low_values)
    }
}

/// The place of the last key of a node that is not above `upper`; it is the number of the node
/// below. Behind the last key are others as high as can be: who passes them is led to the last.
#[inline]
fn child(level: &[u64], node: u32, upper: u64) -> u32 {
    let (nodes, _) = level.as_chunks::<NODE>();
    let node = (node as usize).min(nodes.len().saturating_sub(1));
    let Some(keys) = nodes.get(node) else {
        return 0;
    };
    // Halved three times without a jump: where addresses go cannot be foreseen. The first key is
    // passed by all that come here.
    let mut passed = 0;
    for half in [4, 2, 1] {
        let next = (passed + half) % NODE;
        passed += half * usize::from(keys[next] <= upper);
    }
    (node * NODE + passed) as u32
}

#[inline]
const fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}

/// Makes entries and lists, then the tree.
struct Builder {
    keys: Vec<u64>,
    entries: Vec<u32>,
    lists: Vec<u32>,
    low_keys: Vec<u64>,
    low_values: Vec<u32>,
}

impl Builder {
    fn new(steps: usize) -> Self {
        Self {
            keys: Vec::with_capacity(steps + NODE),
            entries: Vec::with_capacity(steps + NODE),
            lists: Vec::new(),
            low_keys: Vec::new(),
            low_values: Vec::new(),
        }
    }

    /// Adds the entry of an upper half: the value before, and the changes at lower halves.
    fn entry(&mut self, upper: u64, before: u32, changes: &[(u64, u32)]) {
        self.keys.push(upper);
        let (first, changes) = match changes {
            [(0, value), changes @ ..] => (*value, changes),
            changes => (before, changes),
        };
        if changes.is_empty() && first & LIST == 0 {
            self.entries.push(first);
            return;
        }
        self.entries.push(LIST | narrow(self.lists.len()));
        self.lists.push(narrow(self.low_keys.len()));
        for &(lower, value) in [(0, first)].iter().chain(changes) {
            self.low_keys.push(lower);
            self.low_values.push(value);
        }
    }

    fn table(mut self) -> Table {
        if self.keys.is_empty() {
            return Table::default();
        }
        self.lists.push(narrow(self.low_keys.len()));
        let last = self.entries.last().copied().unwrap_or(0);
        let nodes = self.keys.len().div_ceil(NODE);
        self.keys.resize(nodes * NODE, u64::MAX);
        self.entries.resize(nodes * NODE, last);
        let mut above = Vec::new();
        let mut below: &[u64] = &self.keys;
        while below.len() > NODE {
            let mut level: Vec<u64> = below.iter().step_by(NODE).copied().collect();
            level.resize(level.len().next_multiple_of(NODE), u64::MAX);
            above.push(level.into_boxed_slice());
            below = above.last().expect("one was pushed");
        }
        above.reverse();
        Table {
            above: above.into_boxed_slice(),
            keys: self.keys.into_boxed_slice(),
            entries: self.entries.into_boxed_slice(),
            lists: self.lists.into_boxed_slice(),
            low_keys: self.low_keys.into_boxed_slice(),
            low_values: self.low_values.into_boxed_slice(),
        }
    }
}

/// A number of entries or lists as the table holds it.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("a step has 12 bytes at least: there are not 2^32")
}
