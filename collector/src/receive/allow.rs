//! Who may send: the prefixes of `receive.allow`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::live::{Live, Watch};
use crate::flow::Address;

/// A set of prefixes, as ranges of addresses that neither touch nor overlap, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// First and last address of each, IPv4 as v4-mapped IPv6.
    ranges: Box<[(u128, u128)]>,
}

impl Allowed {
    /// The set of `prefixes`; none allows everybody.
    #[must_use]
    pub fn new(prefixes: &[IpNet]) -> Self {
        let mut all: Vec<_> = prefixes
            .iter()
            .map(|prefix| (number(prefix.network()), number(prefix.broadcast())))
            .collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => ranges.push((first, last)),
            }
        }
        Self {
            ranges: ranges.into(),
        }
    }

    /// True when `source` is in a prefix, or there is none. IPv4 must not be v4-mapped.
    #[inline]
    #[must_use]
    pub fn contains(&self, source: IpAddr) -> bool {
        self.ranges.is_empty() || self.finds(number(source))
    }

    fn finds(&self, source: u128) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= source);
        let range = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|(_, last)| source <= *last)
    }
}

/// The list that is in force, which a reload replaces; none allows everybody.
pub type AllowList = Live<Vec<IpNet>>;

/// A reader's own copy of the list, taken anew when that was replaced.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    list: Watch<Vec<IpNet>>,
    allowed: Allowed,
}

impl Followed {
    /// A copy of `list`.
    #[must_use]
    pub fn new(list: &Arc<AllowList>) -> Self {
        let mut followed = Self {
            list: Watch::new(list),
            ..Self::default()
        };
        followed.refresh();
        followed
    }

    /// Once a turn: takes over what was replaced, which is one load when nothing was.
    #[inline]
    pub fn refresh(&mut self) {
        if let Some(prefixes) = self.list.news() {
            self.allowed = Allowed::new(&prefixes);
        }
    }

    /// As [`Allowed::contains`].
    #[inline]
    #[must_use]
    pub fn contains(&self, source: IpAddr) -> bool {
        self.allowed.contains(source)
    }
}

fn number(address: IpAddr) -> u128 {
    u128::from_be_bytes(Address::from(address).0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(prefixes: &[&str]) -> Allowed {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        Allowed::new(&prefixes)
    }

    #[test]
    fn a_replaced_list_holds_from_the_next_turn_on() {
        let net = |text: &str| -> IpNet { text.parse().unwrap() };
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let list = AllowList::new(vec![net("192.0.2.0/24")]);
        let mut followed = Followed::new(&list);
        list.replace(vec![net("198.51.100.0/24")]);
        assert!(
            followed.contains(address("192.0.2.1")),
            "this turn goes on as it was"
        );
        followed.refresh();
        assert!(!followed.contains(address("192.0.2.1")));
        assert!(followed.contains(address("198.51.100.1")));
        list.replace(Vec::new());
        followed.refresh();
        assert!(followed.contains(address("192.0.2.1")), "none allows all");
    }

    #[test]
    fn no_prefix_allows_everybody() {
        assert!(allowed(&[]).contains("192.0.2.1".parse().unwrap()));
        assert!(allowed(&[]).contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn an_ipv4_prefix_allows_no_ipv6_but_the_one_that_covers_all() {
        let ipv4 = allowed(&["0.0.0.0/0"]);
        assert!(ipv4.contains("255.255.255.255".parse().unwrap()));
        assert!(!ipv4.contains("::1".parse().unwrap()));
        assert!(allowed(&["::/0"]).contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn neighbours_and_nested_prefixes_become_one_range() {
        let set = allowed(&["192.0.2.128/25", "192.0.2.0/25", "192.0.2.7/32"]);
        assert_eq!(set.ranges.len(), 1);
        assert!(set.contains("192.0.2.255".parse().unwrap()));
        assert!(!set.contains("192.0.3.0".parse().unwrap()));
        assert!(!set.contains("192.0.1.255".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn it_finds_what_a_walk_finds(
            prefixes in prop::collection::vec((any::<u32>(), 0..=32_u8), 1..20),
            asked in any::<u32>(),
            near in any::<prop::sample::Index>(),
        ) {
            let net = |(bits, length): (u32, u8)| {
                IpNet::new(IpAddr::V4(bits.into()), length).unwrap()
            };
            let prefixes: Vec<IpNet> = prefixes.into_iter().map(net).collect();
            let set = Allowed::new(&prefixes);
            let edge = near.get(&prefixes).broadcast();
            for source in [IpAddr::V4(asked.into()), edge] {
                let walk = prefixes.iter().any(|prefix| prefix.contains(&source));
                prop_assert_eq!(set.contains(source), walk, "{}", source);
            }
        }
    }
}
