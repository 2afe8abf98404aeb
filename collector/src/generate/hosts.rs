//! The hosts that talk, inside and outside: popularity by Zipf's law, addresses by hash.
//!
//! Addresses do not depend on the seed: a host keeps its address, and with it its name, its subnet
//! and its autonomous system, from one run to the next.

use rand::distr::Distribution;
use rand_distr::Zipf;

use super::{Family, SimRng};

/// Both populations.
#[derive(Debug)]
pub struct Hosts {
    inside: Zipf<f64>,
    outside_v4: Zipf<f64>,
    outside_v6: Zipf<f64>,
    /// Access switches; at least one, so that every host has a port.
    switches: u32,
    /// Inside subnets: a multiple of the switches, so that a subnet belongs to one switch.
    subnets: u32,
}

/// An inside host: its place in the order of popularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsideHost(pub u32);

impl Hosts {
    /// The populations of a network with `switches` access switches.
    pub fn new(switches: u32) -> Self {
        let zipf = |n: u32, exponent| {
            Zipf::new(f64::from(n), exponent).expect("a positive number of hosts and exponent")
        };
        let switches = switches.clamp(1, INSIDE_HOSTS);
        Self {
            inside: zipf(INSIDE_HOSTS, 1.1),
            outside_v4: zipf(OUTSIDE_HOSTS, 1.05),
            outside_v6: zipf(OUTSIDE_PREFIXES_V6, 1.05),
            switches,
            subnets: switches * (SUBNETS_MAX / switches).max(1),
        }
    }

    /// Draws an inside host, of one switch when it is given.
    #[inline]
    pub fn inside(&self, switch: Option<u32>, rng: &mut SimRng) -> InsideHost {
        let rank = self.inside.sample(rng) as u32 - 1;
        let Some(switch) = switch else {
            return InsideHost(rank);
        };
        // The nearest rank that lives on this switch: popularity stays as it was drawn.
        let on_switch = rank - rank % self.switches + switch % self.switches;
        InsideHost(if on_switch < INSIDE_HOSTS {
            on_switch
        } else {
            on_switch - self.switches
        })
    }

    /// The switch that a host is connected to.
    #[inline]
    pub fn switch_of(&self, InsideHost(rank): InsideHost) -> u32 {
        rank % self.switches
    }

    /// The port of its switch, from 0 to 47.
    #[inline]
    pub fn port_of(&self, InsideHost(rank): InsideHost) -> u32 {
        (rank / self.switches) % SWITCH_PORTS
    }

    /// The subnet of a host: a /24 and a /64.
    #[inline]
    pub fn subnet_of(&self, InsideHost(rank): InsideHost) -> u32 {
        rank % self.subnets
    }

    /// The VLAN of a host's subnet, numbered within its switch.
    #[inline]
    pub fn vlan_of(&self, host: InsideHost) -> u16 {
        (100 + self.subnet_of(host) / self.switches) as u16
    }

    /// The address of a host in 10.20.0.0/14 or 2001:db8::/40.
    #[inline]
    pub fn address_of(&self, family: Family, host: InsideHost) -> u128 {
        let subnet = self.subnet_of(host);
        let in_subnet = host.0 / self.subnets;
        match family {
            Family::V4 => u128::from(INSIDE_V4 + (subnet << 8) + 10 + in_subnet),
            Family::V6 => {
                let interface_id = scramble(u64::from(host.0)) | 1 << 57;
                INSIDE_V6 | u128::from(subnet) << 64 | u128::from(interface_id)
            }
        }
    }

    /// Draws the address of an outside host.
    #[inline]
    pub fn outside(&self, family: Family, rng: &mut SimRng) -> u128 {
        match family {
            Family::V4 => outside_v4(self.outside_v4.sample(rng) as u32),
            Family::V6 => outside_v6(self.outside_v6.sample(rng) as u32),
        }
    }
}

fn outside_v4(rank: u32) -> u128 {
    let mut hash = scramble(u64::from(rank));
    while !is_routed(hash as u32) {
        hash = scramble(hash);
    }
    u128::from(hash as u32)
}

fn outside_v6(rank: u32) -> u128 {
    let hash = scramble(u64::from(rank) | 1 << 40);
    let registry = REGISTRIES_V6[(hash & 7) as usize];
    // Few networks hold many prefixes: the square of a uniform number leans towards zero.
    let network = u128::from((hash >> 8 & 0xffff).pow(2) >> 16);
    let subnet = u128::from(hash >> 24 & 0xffff_ffff);
    let interface_id = u128::from(scramble(hash));
    registry << 112 | network << 96 | subnet << 64 | interface_id
}

/// False for private, shared, loopback, link-local, documentation, benchmark, multicast and
/// reserved space (RFC 6890).
pub fn is_routed(address: u32) -> bool {
    let [a, b, c, _] = address.to_be_bytes();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..128, _)
            | (169, 254, _)
            | (172, 16..32, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (198, 18..20, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

/// The autonomous system of an outside address. A tenth of them is beyond 16 bits.
#[inline]
pub fn autonomous_system(family: Family, address: u128) -> u32 {
    let network = match family {
        Family::V4 => (address >> 16) as u64,
        Family::V6 => (address >> 96) as u64,
    };
    let hash = scramble(network ^ 0x0a50_0000_0000);
    let uniform = hash & 0xffff;
    // The cube leans hard towards the few systems that originate most of the space.
    let rank = ((uniform * uniform * uniform) >> 35) as u32 % AUTONOMOUS_SYSTEMS;
    if rank % 10 == 9 {
        131_072 + rank * 13
    } else {
        1_000 + rank * 11
    }
}

/// The length of the routed prefix of an outside address.
#[inline]
pub fn prefix_length(family: Family, address: u128) -> u8 {
    match family {
        Family::V4 => 16 + (scramble((address >> 16) as u64) % 9) as u8,
        Family::V6 => 32 + (scramble((address >> 96) as u64) % 17) as u8,
    }
}

/// True for an address of an inside host.
#[inline]
pub fn is_inside(family: Family, address: u128) -> bool {
    match family {
        Family::V4 => address >> 18 == u128::from(INSIDE_V4 >> 18),
        Family::V6 => address >> 88 == INSIDE_V6 >> 88,
    }
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of `x`.
#[inline]
#[must_use]
pub const fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const INSIDE_HOSTS: u32 = 20_000;
const OUTSIDE_HOSTS: u32 = 300_000;
const OUTSIDE_PREFIXES_V6: u32 = 60_000;
const AUTONOMOUS_SYSTEMS: u32 = 8_000;
const SWITCH_PORTS: u32 = 48;
/// Leaves 10.23.232.0 and above for the equipment itself.
const SUBNETS_MAX: u32 = 1_000;
/// 10.20.0.0/14
const INSIDE_V4: u32 = 0x0a14_0000;
/// 2001:db8::/40
const INSIDE_V6: u128 = 0x2001_0db8_u128 << 96;
/// First 16 bits of allocations of the regional registries.
const REGISTRIES_V6: [u128; 8] = [
    0x2600, 0x2a00, 0x2607, 0x2404, 0x2a02, 0x2409, 0x2804, 0x2c0f,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_inside_host_has_an_address_of_its_own() {
        for switches in [1, 3, 40, 600] {
            let hosts = Hosts::new(switches);
            for family in [Family::V4, Family::V6] {
                let addresses: HashSet<u128> = (0..INSIDE_HOSTS)
                    .map(|rank| hosts.address_of(family, InsideHost(rank)))
                    .collect();
                assert_eq!(addresses.len(), INSIDE_HOSTS as usize);
                assert!(addresses.iter().all(|&address| is_inside(family, address)));
            }
        }
    }

    #[test]
    fn a_host_drawn_for_a_switch_and_its_subnet_belong_to_that_switch() {
        let hosts = Hosts::new(40);
        let mut rng = SimRng::seed_from_u64(1);
        for switch in 0..40 {
            for _ in 0..100 {
                let host = hosts.inside(Some(switch), &mut rng);
                assert_eq!(hosts.switch_of(host), switch);
                assert_eq!(hosts.subnet_of(host) % 40, switch);
            }
        }
    }

    #[test]
    fn outside_addresses_are_routed_and_not_inside() {
        for rank in 1..=OUTSIDE_HOSTS {
            let address = outside_v4(rank);
            assert!(is_routed(address as u32) && !is_inside(Family::V4, address));
        }
        for rank in 1..=OUTSIDE_PREFIXES_V6 {
            assert!(!is_inside(Family::V6, outside_v6(rank)));
        }
    }
}
