//! Disjoint sorted ranges of addresses with values: the form in which tables are combined.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::flow::Address;

/// Where something begins, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The bits of an IPv4 address.
    V4(u32),
    /// The bits of an IPv6 address.
    V6(u128),
}

/// Which value holds at which addresses. IPv4 and IPv6 are apart: an IPv6 prefix says nothing of
/// IPv4 addresses, not even `::/0`; a prefix within `::ffff:0:0/96` is the IPv4 prefix it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    pub(super) v4: Steps<u32>,
    pub(super) v6: Steps<u128>,
}

impl Ranges {
    /// What the longest prefix of each address says; of two equal ones the last counts. A value of
    /// 0 makes a hole in a shorter prefix.
    #[must_use]
    pub fn of_prefixes(prefixes: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in prefixes {
            let (first, last) = (prefix.network().into(), prefix.broadcast().into());
            match family(first, last) {
                Family::V4(start, end) => v4.push(Prefix { start, end, value }),
                Family::V6(start, end) => v6.push(Prefix { start, end, value }),
            }
        }
        Self {
            v4: Steps::of_prefixes(v4),
            v6: Steps::of_prefixes(v6),
        }
    }

    /// Adds a range (both ends inclusive) behind all those of its family. Ranges that come out of
    /// order are refused: false, and nothing is added.
    pub fn push(&mut self, start: Address, end: Address, value: u32) -> bool {
        match family(start, end) {
            Family::V4(start, end) => self.v4.push(start, end, value),
            Family::V6(start, end) => self.v6.push(start, end, value),
        }
    }

    /// Lets `value` hold from `start` up to the highest address of its family. It must begin behind
    /// where others begin, or is refused: false.
    pub fn hold(&mut self, start: Start, value: u32) -> bool {
        match start {
            Start::V4(start) => self.v4.hold(start, value),
            Start::V6(start) => self.v6.hold(start, value),
        }
    }

    /// This one, and where it says nothing, what `below` says.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            v4: self.v4.or(below.v4),
            v6: self.v6.or(below.v6),
        }
    }

    /// Both together: `f` gets the values of this one and of the other at the same addresses, and
    /// says what holds there. It is not asked where neither says anything.
    #[must_use]
    pub fn overlay(&self, other: &Self, mut f: impl FnMut(u32, u32) -> u32) -> Self {
        Self {
            v4: self.v4.overlay(&other.v4, &mut f),
            v6: self.v6.overlay(&other.v6, &mut f),
        }
    }

    /// Start, end (inclusive) and value of each range: those of IPv4, then those of IPv6, each in
    /// order. A range of IPv6 says nothing of the IPv4-mapped addresses that may lie in it.
    pub fn iter(&self) -> impl Iterator<Item = (Address, Address, u32)> {
        let v4 = |bits: u32| Address::from(Ipv4Addr::from_bits(bits));
        let v6 = |bits: u128| Address(bits.to_be_bytes());
        (self
            .v4
            .iter()
            .map(move |(start, end, value)| (v4(start), v4(end), value)))
        .chain(
            self.v6
                .iter()
                .map(move |(start, end, value)| (v6(start), v6(end), value)),
        )
    }

    /// How many ranges and holes between them there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }

    /// True where nothing is said of any address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The two ends of a range, by family.
enum Family {
    V4(u32, u32),
    V6(u128, u128),
}

fn family(start: Address, end: Address) -> Family {
    match (super::v4_of(start), super::v4_of(end)) {
        (Some(start), Some(end)) => Family::V4(start, end),
        _ => Family::V6(
            Ipv6Addr::from(start).to_bits(),
            Ipv6Addr::from(end).to_bits(),
        ),
    }
}

/// A prefix of one family.
struct Prefix<K> {
    start: K,
    end: K,
    value: u32,
}

/// The bits of an address.
pub(super) trait Key: Copy + Ord {
    /// The highest address.
    const MAX: Self;

    /// The next address; none behind the highest.
    fn next(self) -> Option<Self>;

    /// The address before; the lowest one's is itself.
    fn previous(self) -> Self;
}

impl Key for u32 {
    const MAX: Self = Self::MAX;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Self {
        self.saturating_sub(1)
    }
}

impl Key for u128 {
    const MAX: Self = Self::MAX;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Self {
        self.saturating_sub(1)
    }
}

/// A step function: from each start on its value holds, up to the next start. 0 before the first.
/// Neighbours differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steps<K> {
    starts: Vec<K>,
    values: Vec<u32>,
}

impl<K> Default for Steps<K> {
    fn default() -> Self {
        Self {
            starts: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<K: Key> Steps<K> {
    fn of_prefixes(mut prefixes: Vec<Prefix<K>>) -> Self {
        // A longer prefix comes behind the shorter one that begins at the same address. Stable, so
        // of equal ones the last stays last, and covers the others.
        prefixes.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
        let mut steps = Self::default();
        let mut around: Vec<Prefix<K>> = Vec::new();
        for prefix in prefixes {
            while let Some(ended) = around.pop_if(|outer| outer.end < prefix.start) {
                steps.end(&ended, around.last());
            }
            steps.set(prefix.start, prefix.value);
            around.push(prefix);
        }
        while let Some(ended) = around.pop() {
            steps.end(&ended, around.last());
        }
        steps
    }

    /// Behind a prefix the value of the one around it holds again.
    fn end(&mut self, ended: &Prefix<K>, around: Option<&Prefix<K>>) {
        let Some(behind) = ended.end.next() else {
            return;
        };
        match around {
            // It ends there too, and says itself what is behind it.
            Some(around) if around.end < behind => {}
            Some(around) => self.set(behind, around.value),
            None => self.set(behind, 0),
        }
    }

    fn push(&mut self, start: K, end: K, value: u32) -> bool {
        if end < start || self.starts.last().is_some_and(|&last| start < last) {
            return false;
        }
        // The last range reaches up to the highest address, or the last step is the hole behind it.
        if self.values.last().is_some_and(|&last| last != 0) {
            return false;
        }
        self.set(start, value);
        if let Some(behind) = end.next() {
            self.set(behind, 0);
        }
        true
    }

    #[inline]
    fn hold(&mut self, start: K, value: u32) -> bool {
        if self.starts.last().is_some_and(|&last| start < last) {
            return false;
        }
        self.set(start, value);
        true
    }

    fn or(self, below: Self) -> Self {
        if below.starts.is_empty() {
            self
        } else if self.starts.is_empty() {
            below
        } else {
            self.overlay(
                &below,
                |above, below| if above == 0 { below } else { above },
            )
        }
    }

    /// Lets `value` hold from `start` on, which is no lower than the last start.
    fn set(&mut self, start: K, value: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last().copied().unwrap_or(0) != value {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    fn overlay(&self, other: &Self, f: impl FnMut(u32, u32) -> u32) -> Self {
        let mut steps = Self::default();
        for (start, value) in self.overlaid(other, f) {
            steps.set(start, value);
        }
        steps.starts.shrink_to_fit();
        steps.values.shrink_to_fit();
        steps
    }

    /// The steps of an overlay, made one by one; neighbours may be equal.
    pub(super) fn overlaid(
        &self,
        other: &Self,
        mut f: impl FnMut(u32, u32) -> u32,
    ) -> impl Iterator<Item = (K, u32)> {
        let (mut mine, mut others) = (self.steps().peekable(), other.steps().peekable());
        let (mut value, mut others_value) = (0, 0);
        std::iter::from_fn(move || {
            let start = match (mine.peek(), others.peek()) {
                (Some(&(a, _)), Some(&(b, _))) => a.min(b),
                (Some(&(start, _)), None) | (None, Some(&(start, _))) => start,
                (None, None) => return None,
            };
            if let Some((_, new)) = mine.next_if(|&(at, _)| at == start) {
                value = new;
            }
            if let Some((_, new)) = others.next_if(|&(at, _)| at == start) {
                others_value = new;
            }
            let both = match (value, others_value) {
                (0, 0) => 0,
                (value, others_value) => f(value, others_value),
            };
            Some((start, both))
        })
    }

    /// Start and value of each step, holes too.
    pub(super) fn steps(&self) -> impl Iterator<Item = (K, u32)> {
        self.starts.iter().copied().zip(self.values.iter().copied())
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    fn iter(&self) -> impl Iterator<Item = (K, K, u32)> {
        let ends = self.starts.iter().skip(1).map(|&next| next.previous());
        let ends = ends.chain(std::iter::once(K::MAX));
        (self.steps().zip(ends))
            .filter(|&((_, value), _)| value != 0)
            .map(|((start, value), end)| (start, end, value))
    }
}
