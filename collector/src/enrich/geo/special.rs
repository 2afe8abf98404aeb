//! Addresses that are not anybody's on the Internet.
//!
//! IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890): what is not globally
//! reachable. Not in it: `::`, which means that an address is unknown here, and multicast, which
//! is neither public nor private.

use crate::enrich::lpm::Ranges;

/// The value of a private address.
pub(super) const PRIVATE: u32 = 1;

/// [`PRIVATE`] at private addresses.
pub(super) fn ranges() -> Ranges {
    let private = PREFIXES.iter().map(|prefix| (prefix, PRIVATE));
    let public = REACHABLE.iter().map(|prefix| (prefix, 0));
    Ranges::of_prefixes(private.chain(public).map(|(prefix, value)| {
        let prefix = prefix.parse().expect("the lists below are of prefixes");
        (prefix, value)
    }))
}

const PREFIXES: [&str; 25] = [
    // "This network", RFC 791
    "0.0.0.0/8",
    // Private use, RFC 1918
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    // Shared address space, RFC 6598
    "100.64.0.0/10",
    // Loopback, RFC 1122
    "127.0.0.0/8",
    // Link local, RFC 3927
    "169.254.0.0/16",
    // IETF protocol assignments, RFC 6890
    "192.0.0.0/24",
    // Documentation, RFC 5737
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    // Benchmarking, RFC 2544
    "198.18.0.0/15",
    // Reserved, RFC 1112, and the limited broadcast, RFC 8190
    "240.0.0.0/4",
    // Loopback, RFC 4291
    "::1/128",
    // Translation within a network, RFC 8215
    "64:ff9b:1::/48",
    // Discard only, RFC 6666; dummy, RFC 9780
    "100::/64",
    "100:0:0:1::/64",
    // Benchmarking, RFC 5180
    "2001:2::/48",
    // ORCHID, RFC 4843: no longer in use
    "2001:10::/28",
    // Documentation, RFC 3849 and RFC 9637
    "2001:db8::/32",
    "3fff::/20",
    // Segment identifiers of SRv6, RFC 9602
    "5f00::/16",
    // Unique local, RFC 4193
    "fc00::/7",
    // Link local, RFC 4291; site local, RFC 3879: no longer in use
    "fe80::/10",
    "fec0::/10",
];

/// Globally reachable within those above.
const REACHABLE: [&str; 2] = [
    // Port Control Protocol anycast, RFC 7723
    "192.0.0.9/32",
    // TURN anycast, RFC 8155
    "192.0.0.10/32",
];

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::enrich::lpm::Lpm;

    const PRIVATE_ONES: [&str; 34] = [
        "0.0.0.0",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.11",
        "192.0.2.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.0",
        "255.255.255.255",
        "::1",
        "64:ff9b:1::1",
        "100::1",
        "100:0:0:1::1",
        "2001:2::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "::ffff:10.0.0.1",
    ];
    const PUBLIC_ONES: [&str; 30] = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.0.9",
        "192.0.0.10",
        "192.0.1.0",
        "192.88.99.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "224.0.0.1",
        "239.255.255.255",
        "::",
        "::2",
        "64:ff9b::1",
        "2001:4860::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:db9::1",
        "2002::1",
        "3fff:1000::1",
        "ff02::1",
        "::ffff:8.8.8.8",
    ];

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        let table = Lpm::new(&ranges());
        let value = |text: &str| table.get(text.parse::<IpAddr>().unwrap().into());
        for private in PRIVATE_ONES {
            assert_eq!(value(private), PRIVATE, "{private}");
        }
        for public in PUBLIC_ONES {
            assert_eq!(value(public), 0, "{public}");
        }
    }
}
