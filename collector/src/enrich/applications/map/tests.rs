use proptest::prelude::*;

use super::*;
use crate::enrich::services::has_ports;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn rule(ports: Option<RangeInclusive<u16>>, protocol: Option<u8>, id: u32) -> Rule {
    Rule {
        ports,
        protocol,
        id,
    }
}

fn map(rules: &[(&str, Rule)]) -> AddressMap {
    let rules = rules.iter().cloned();
    AddressMap::new(rules.map(|(prefix, rule)| (prefix.parse().unwrap(), rule))).unwrap()
}

fn at(map: &AddressMap, address: &str, protocol: u8, port: u16) -> u32 {
    both_at(map, address, protocol, port).id()
}

/// Looked up as the source and as the destination, which must be the same.
fn both_at(map: &AddressMap, address: &str, protocol: u8, port: u16) -> Mapped {
    let address: std::net::IpAddr = address.parse().unwrap();
    let keys = Keys {
        count: 1,
        addresses: [[address.into(); KEYS]; 2],
        protocols: [protocol; KEYS],
        ports: [[port; KEYS]; 2],
        ..Keys::default()
    };
    let mut mapped = [Default::default(); KEYS];
    map.find(&keys, &mut mapped);
    assert_eq!(mapped[0].0, mapped[0].1);
    assert_eq!(mapped[1], Default::default(), "nothing beyond the flows");
    mapped[0].0
}

#[test]
fn the_longest_prefix_counts_then_the_narrowest_range_then_the_protocol() {
    let map = map(&[
        ("192.0.2.0/24", rule(None, None, 1)),
        ("192.0.2.0/24", rule(Some(1000..=1999), None, 2)),
        ("192.0.2.0/24", rule(Some(1500..=1599), Some(UDP), 3)),
        ("192.0.2.0/24", rule(Some(1500..=1599), None, 4)),
        ("192.0.2.0/24", rule(Some(1550..=1550), None, 5)),
        ("192.0.2.128/25", rule(Some(0..=65_535), Some(TCP), 6)),
        ("192.0.2.200/32", rule(None, Some(ICMP), 7)),
    ]);
    for (address, protocol, port, expected) in [
        ("192.0.2.1", TCP, 999, 1),
        ("192.0.2.1", TCP, 1000, 2),
        ("192.0.2.1", TCP, 1999, 2),
        ("192.0.2.1", TCP, 2000, 1),
        ("192.0.2.1", TCP, 1500, 4),
        ("192.0.2.1", UDP, 1500, 3),
        ("192.0.2.1", UDP, 1599, 3),
        ("192.0.2.1", UDP, 1600, 2),
        ("192.0.2.1", UDP, 1550, 5),
        // A rule with ports is none of protocols without them.
        ("192.0.2.1", ICMP, 1500, 1),
        ("192.0.2.129", TCP, 1550, 6),
        ("192.0.2.129", TCP, 65_535, 6),
        // What the longer prefix does not tell, the shorter does.
        ("192.0.2.129", UDP, 1550, 5),
        ("192.0.2.200", ICMP, 0, 7),
        ("192.0.2.200", ICMP, 65_535, 7),
        ("192.0.2.200", TCP, 0, 6),
        ("192.0.2.200", 2, 0, 1),
        ("192.0.3.1", TCP, 1500, 0),
        ("2001:db8::1", TCP, 1500, 0),
    ] {
        let found = at(&map, address, protocol, port);
        assert_eq!(found, expected, "{address} {protocol} {port}");
    }
}

#[test]
fn of_equal_rules_the_last_counts() {
    let map = map(&[
        ("2001:db8::/32", rule(Some(80..=80), None, 1)),
        ("2001:db8::/32", rule(Some(80..=80), None, 2)),
        ("2001:db8::/32", rule(None, None, 3)),
        ("2001:db8::/32", rule(None, None, 4)),
    ]);
    assert_eq!(at(&map, "2001:db8::1", TCP, 80), 2);
    assert_eq!(at(&map, "2001:db8::1", TCP, 81), 4);
}

#[test]
fn a_rule_without_ports_is_no_sign_of_a_server() {
    let map = map(&[
        ("10.0.0.0/8", rule(None, Some(TCP), 1)),
        ("10.0.0.0/8", rule(Some(443..=443), None, 2)),
    ]);
    assert!(!both_at(&map, "10.0.0.1", TCP, 80).is_of_port());
    assert!(both_at(&map, "10.0.0.1", TCP, 443).is_of_port());
    assert!(!both_at(&map, "10.0.0.1", ICMP, 443).is_of_port());
}

#[test]
fn the_last_port_of_the_last_protocol_is_no_end_of_what_comes_behind() {
    let map = map(&[
        ("10.0.0.0/8", rule(None, None, 1)),
        ("10.0.0.0/8", rule(None, Some(255), 2)),
        ("10.0.0.0/8", rule(Some(65_535..=65_535), Some(UDP), 3)),
    ]);
    assert_eq!(at(&map, "10.0.0.1", 255, 65_535), 2);
    assert_eq!(at(&map, "10.0.0.1", 254, 65_535), 1);
    assert_eq!(at(&map, "10.0.0.1", UDP, 65_535), 3);
    assert_eq!(at(&map, "10.0.0.1", 18, 0), 1);
}

#[test]
fn more_entries_than_there_is_room_for_are_refused() {
    // 60,000 ports in a wide prefix, worked into a hundred hosts.
    let ports = (0..60_000_u16).map(|port| {
        let prefix = "10.0.0.0/8".parse().unwrap();
        (
            prefix,
            rule(Some(port..=port), Some(TCP), u32::from(port) + 1),
        )
    });
    let hosts = (0..100_u8).map(|host| {
        let prefix: IpNet = std::net::IpAddr::from([10, 0, 0, host]).into();
        (prefix, rule(Some(53..=53), Some(UDP), 1))
    });
    assert!(AddressMap::new(ports.chain(hosts)).is_err());
    assert_eq!(at(&AddressMap::default(), "10.0.0.1", TCP, 1), 0);
}

/// The rule that fits best, looked for one by one.
fn slowly(rules: &[(IpNet, Rule)], address: std::net::IpAddr, protocol: u8, port: u16) -> u32 {
    let fitting = rules.iter().enumerate().filter(|(_, (prefix, rule))| {
        let fits = match &rule.ports {
            Some(ports) => has_ports(protocol) && ports.contains(&port),
            None => true,
        };
        prefix.contains(&address) && fits && rule.protocol.is_none_or(|its| its == protocol)
    });
    let best = fitting.max_by_key(|(line, (prefix, rule))| {
        let width = rule
            .ports
            .as_ref()
            .map_or(usize::MAX, |ports| ports.clone().count());
        let narrowness = usize::MAX - width;
        (
            prefix.prefix_len(),
            narrowness,
            rule.protocol.is_some(),
            *line,
        )
    });
    best.map_or(0, |(_, (_, rule))| rule.id)
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u8>(), 24..=32_u8).prop_map(|(host, len)| {
        IpNet::new(std::net::IpAddr::from([192, 0, 2, host]), len).unwrap()
    });
    let wide = Just("192.0.0.0/8".parse::<IpNet>().unwrap());
    let v6 = (any::<u8>(), 120..=128_u8).prop_map(|(host, len)| {
        let address = [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)];
        IpNet::new(std::net::IpAddr::from(address), len).unwrap()
    });
    prop_oneof![v4, wide, v6].prop_map(|prefix| prefix.trunc())
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let protocols = [None, Some(TCP), Some(UDP), Some(ICMP)];
    (0..12_u16, 0..12_u16, any::<bool>(), 0..4_usize, 1..1000_u32).prop_map(
        move |(from, to, has_ports, protocol, id)| {
            let protocol = protocols[protocol];
            let ports = (has_ports && protocol != Some(ICMP)).then(|| from.min(to)..=from.max(to));
            rule(ports, protocol, id)
        },
    )
}

proptest! {
    #[test]
    fn the_tables_say_what_the_rules_say(
        rules in proptest::collection::vec((any_prefix(), any_rule()), 1..30),
    ) {
        let map = AddressMap::new(rules.clone()).unwrap();
        for host in 0..=255_u8 {
            for address in [
                std::net::IpAddr::from([192, 0, 2, host]),
                std::net::IpAddr::from([192, 0, 3, host]),
                std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)]),
            ] {
                let port = u16::from(host % 13);
                for protocol in [TCP, UDP, ICMP, 47] {
                    let expected = slowly(&rules, address, protocol, port);
                    let found = at(&map, &address.to_string(), protocol, port);
                    prop_assert_eq!(found, expected, "{} {} {}", address, protocol, port);
                }
            }
        }
    }
}
