//! Sets of ports, small enough for a first cache: most flows have one port of which nothing is
//! known, and this is how they do without a look at a table of all.

use std::ops::RangeInclusive;

/// Ports there are.
pub const PORTS: usize = 1 << 16;

/// Ports, a bit each.
#[derive(Clone, Debug)]
pub struct PortSet(Box<[u64]>);

impl Default for PortSet {
    /// None.
    fn default() -> Self {
        Self(vec![0; PORTS / u64::BITS as usize].into())
    }
}

impl PortSet {
    /// Adds all of a range.
    pub fn extend(&mut self, ports: RangeInclusive<u16>) {
        for port in ports {
            self.0[word(port)] |= bit(port);
        }
    }

    /// True when `port` was added.
    #[must_use]
    #[inline(always)]
    pub fn contains(&self, port: u16) -> bool {
        let word = self.0.get(word(port)).copied().unwrap_or(0);
        word & bit(port) != 0
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

#[inline(always)]
const fn word(port: u16) -> usize {
    (port / u64::BITS as u16) as usize
}

#[inline(always)]
const fn bit(port: u16) -> u64 {
    1 << (port % u64::BITS as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_added_and_nothing_else() {
        let mut set = PortSet::default();
        set.extend(0..=0);
        set.extend(63..=64);
        set.extend(65_535..=65_535);
        let held: Vec<u16> = (0..=u16::MAX).filter(|port| set.contains(*port)).collect();
        assert_eq!(held, [0, 63, 64, 65_535]);
        assert_eq!(set.memory_bytes(), 8192);
    }
}
