//! What is too much for a list of bad addresses.

use std::sync::LazyLock;

use ipnet::IpNet;

use crate::flow::Address;

/// An entry that has one of these as a whole marks one's own hosts, or flows whose addresses nobody
/// told, and no attacker (RFC 6890). One address of theirs may be a host that was taken over.
const SPECIAL: [&str; 17] = [
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "64:ff9b::/96",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// Most addresses of an entry, as a power of two: a /8 of IPv4 and a /16 of IPv6.
const V4_BITS_MAX: u32 = 24;
const V6_BITS_MAX: u32 = 112;

static BLOCKS: LazyLock<Vec<(Address, Address)>> = LazyLock::new(|| {
    let block = |text: &&str| {
        let prefix: IpNet = text.parse().expect("SPECIAL has prefixes");
        (prefix.network().into(), prefix.broadcast().into())
    };
    SPECIAL.iter().map(block).collect()
});

/// True for a range that no list may mark. Both ends are of one family.
pub(super) fn is_too_wide((start, end): (Address, Address)) -> bool {
    let bits = |address: Address| u128::from_be_bytes(address.0);
    let bits_max = match start.to_ip().is_ipv4() {
        true => V4_BITS_MAX,
        false => V6_BITS_MAX,
    };
    let is_whole = |(first, last): &(Address, Address)| start <= *first && *last <= end;
    bits(end) - bits(start) >= 1 << bits_max || BLOCKS.iter().any(is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wide(prefix: &str) -> bool {
        let prefix: IpNet = prefix.parse().unwrap();
        is_too_wide((prefix.network().into(), prefix.broadcast().into()))
    }

    #[test]
    fn half_of_the_internet_is_too_wide() {
        for prefix in [
            "0.0.0.0/0",
            "128.0.0.0/1",
            "44.0.0.0/7",
            "::/0",
            "2000::/3",
            "2a00::/15",
        ] {
            assert!(is_wide(prefix), "{prefix}");
        }
        for prefix in ["45.0.0.0/8", "2a00::/16", "2a00::1/128", "198.51.100.0/24"] {
            assert!(!is_wide(prefix), "{prefix}");
        }
    }

    #[test]
    fn ones_own_addresses_as_a_whole_are_too_wide_but_one_of_them_is_not() {
        for prefix in [
            "0.0.0.0/8",
            "10.0.0.0/8",
            "192.168.0.0/16",
            "192.0.0.0/8",
            "127.0.0.0/8",
        ] {
            assert!(is_wide(prefix), "{prefix}");
        }
        for prefix in [
            "0.0.0.0/32",
            "::/128",
            "fc00::/7",
            "fe00::/8",
            "ff00::/8",
            "fe80::/9",
        ] {
            assert!(is_wide(prefix), "{prefix}");
        }
        for prefix in [
            "10.1.2.3/32",
            "10.128.0.0/9",
            "192.168.7.0/24",
            "fe80::1/128",
        ] {
            assert!(!is_wide(prefix), "{prefix}");
        }
    }
}
