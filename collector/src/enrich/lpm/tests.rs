use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What the longest prefix says, read prefix by prefix.
fn naive(prefixes: &[(IpNet, u32)], address: Address) -> u32 {
    let ip = address.to_ip();
    (prefixes.iter().filter(|(prefix, _)| prefix.contains(&ip)))
        // Of equals `max_by_key` takes the last.
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map_or(0, |&(_, value)| value)
}

fn table(prefixes: &[(IpNet, u32)]) -> Lpm {
    Lpm::new(&Ranges::of_prefixes(prefixes.iter().copied()))
}

fn of(prefixes: &[(&str, u32)]) -> Vec<(IpNet, u32)> {
    let parse = |&(prefix, value): &(&str, u32)| (prefix.parse().unwrap(), value);
    prefixes.iter().map(parse).collect()
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// First and last address of each prefix, and the neighbours outside.
fn edges(prefixes: &[(IpNet, u32)]) -> Vec<Address> {
    let edges = |(prefix, _): &(IpNet, u32)| {
        let (first, last) = (bits(prefix.network()), bits(prefix.broadcast()));
        let around = [first.saturating_sub(1), first, last, last.saturating_add(1)];
        around.map(|bits| Address(bits.to_be_bytes()))
    };
    prefixes.iter().flat_map(edges).collect()
}

fn bits(ip: IpAddr) -> u128 {
    u128::from_be_bytes(Address::from(ip).0)
}

fn assert_answers(prefixes: &[(IpNet, u32)], addresses: &[Address]) {
    let table = table(prefixes);
    let mut values = vec![7; addresses.len()];
    table.get_many(addresses, &mut values);
    for (&address, &value) in addresses.iter().zip(&values) {
        let expected = naive(prefixes, address);
        assert_eq!(table.get(address), expected, "{address} of {prefixes:?}");
        assert_eq!(value, expected, "{address} in a burst, of {prefixes:?}");
    }
}

#[test]
fn an_empty_table_says_nothing_and_needs_no_memory() {
    let table = Lpm::new(&Ranges::default());
    assert_eq!(table.memory_bytes(), 0);
    for text in ["0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1"] {
        assert_eq!(table.get(address(text)), 0, "{text}");
    }
    let mut values = [5; 2];
    table.get_many(&[address("10.0.0.1"), address("::1")], &mut values);
    assert_eq!(values, [0, 0]);
}

#[test]
fn the_longest_prefix_counts_from_its_first_to_its_last_address() {
    let prefixes = of(&[
        ("0.0.0.0/0", 1),
        ("10.0.0.0/8", 2),
        ("10.0.0.0/16", 3),
        ("10.1.0.0/16", 4),
        ("10.255.255.255/32", 5),
        ("255.255.255.255/32", 6),
        ("0.0.0.0/32", 7),
        ("::/0", 11),
        ("2001:db8::/32", 12),
        ("2001:db8::/64", 13),
        ("2001:db8:0:1::/64", 14),
        ("2001:db8::1/128", 15),
        ("2001:db8::ffff:ffff:ffff:ffff/128", 16),
        ("ffff:ffff:ffff:ffff::/64", 17),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 18),
        ("::/128", 19),
    ]);
    assert_answers(&prefixes, &edges(&prefixes));
}

#[test]
fn the_highest_addresses_are_found_without_and_behind_full_nodes() {
    for count in 1..200_u32 {
        let prefixes: Vec<_> = (0..count)
            .map(|n| {
                let bits = u128::from(u64::MAX - u64::from(2 * n)) << 64;
                (Ipv6Net::new(bits.into(), 64).unwrap().into(), n + 1)
            })
            .collect();
        assert_answers(&prefixes, &edges(&prefixes));
    }
}

#[test]
fn of_equal_prefixes_the_last_counts() {
    let prefixes = of(&[
        ("192.0.2.0/24", 1),
        ("192.0.2.0/24", 2),
        ("2001:db8::/48", 3),
        ("2001:db8::/48", 4),
        ("2001:db8::/48", 3),
    ]);
    let table = table(&prefixes);
    assert_eq!(table.get(address("192.0.2.9")), 2);
    assert_eq!(table.get(address("2001:db8::9")), 3);
}

#[test]
fn ipv6_says_nothing_of_ipv4_and_mapped_prefixes_are_ipv4() {
    let table = table(&of(&[("::/0", 1), ("::ffff:10.0.0.0/104", 2)]));
    assert_eq!(table.get(address("192.0.2.1")), 0);
    assert_eq!(table.get(address("10.9.9.9")), 2);
    assert_eq!(table.get(address("::ffff:10.9.9.9")), 2);
    assert_eq!(table.get(address("::fffe:10.9.9.9")), 1);
}

#[test]
fn a_value_of_zero_makes_a_hole() {
    let prefixes = of(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 0), ("10.1.1.0/24", 2)]);
    assert_answers(&prefixes, &edges(&prefixes));
}

#[test]
fn values_use_all_of_their_bits() {
    let all = [1, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let v4 = |n: u32| IpNet::from(Ipv4Net::new((n << 8).into(), 24).unwrap());
    let v6 = |n: u32| IpNet::from(Ipv6Net::new((u128::from(n) << 80).into(), 48).unwrap());
    let prefixes: Vec<_> = (1..)
        .zip(all)
        .flat_map(|(n, value)| [(v4(n), value), (v6(n), value)])
        .collect();
    assert_answers(&prefixes, &edges(&prefixes));
}

#[test]
fn small_tables_stay_small() {
    let prefixes: Vec<(IpNet, u32)> = (0..10)
        .flat_map(|n: u32| {
            let v6 = Ipv6Net::new(((0x2001_0db8_0000 + u128::from(n)) << 80).into(), 48).unwrap();
            let v4 = Ipv4Net::new((n << 24).into(), 8).unwrap();
            [(IpNet::from(v4), n + 1), (v6.into(), n + 1)]
        })
        .collect();
    let bytes = table(&prefixes).memory_bytes();
    assert!(bytes < 300 << 10, "{bytes} bytes");
}

#[test]
fn lists_longer_than_a_scan_are_searched_right() {
    let prefixes: Vec<(IpNet, u32)> = (0..5000_u32)
        .flat_map(|n| {
            let v4 = Ipv4Net::new((0x0a00_0000 + 3 * n).into(), 32).unwrap();
            let low = (0x2001_0db8_u128 << 96) + u128::from(3 * n);
            [
                (v4.into(), n + 1),
                (Ipv6Net::new(low.into(), 128).unwrap().into(), n + 1),
            ]
        })
        .collect();
    let table = table(&prefixes);
    for n in 0..15_000_u32 {
        let expected = if n % 3 == 0 { n / 3 + 1 } else { 0 };
        assert_eq!(
            table.get(Address::from_v4((0x0a00_0000 + n).to_be_bytes())),
            expected
        );
        let v6 = (0x2001_0db8_u128 << 96) + u128::from(n);
        assert_eq!(table.get(Address(v6.to_be_bytes())), expected);
    }
}

#[test]
fn of_slices_of_unequal_length_the_rest_is_left_alone() {
    let table = table(&of(&[("10.0.0.0/8", 1)]));
    let addresses = [address("10.0.0.1"); 300];
    let mut values = [9; 400];
    table.get_many(&addresses, &mut values);
    assert!(values[..300].iter().all(|&value| value == 1));
    assert!(values[300..].iter().all(|&value| value == 9));
    let mut values = [9; 2];
    table.get_many(&addresses, &mut values);
    assert_eq!(values, [1, 1]);
}

#[test]
fn ranges_are_read_back_in_order_and_without_their_holes() {
    let prefixes = of(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("2001:db8::/32", 3)]);
    let ranges = Ranges::of_prefixes(prefixes);
    let range = |start, end, value| (address(start), address(end), value);
    let expected = [
        range("10.0.0.0", "10.0.255.255", 1),
        range("10.1.0.0", "10.1.255.255", 2),
        range("10.2.0.0", "10.255.255.255", 1),
        range("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 3),
    ];
    assert_eq!(ranges.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn ranges_are_pushed_in_order_or_refused() {
    let mut ranges = Ranges::default();
    assert!(ranges.push(address("10.0.0.0"), address("10.0.0.9"), 1));
    assert!(
        ranges.push(address("10.0.0.10"), address("10.0.0.19"), 1),
        "joined"
    );
    assert!(ranges.push(address("10.0.0.30"), address("255.255.255.255"), 2));
    assert!(ranges.push(address("2001:db8::"), address("2001:db8::5"), 3));
    let before = ranges.clone();
    assert!(
        !ranges.push(address("10.0.0.15"), address("10.0.0.16"), 9),
        "behind the last"
    );
    assert!(
        !ranges.push(address("255.255.255.255"), address("255.255.255.255"), 9),
        "overlaps"
    );
    assert!(
        !ranges.push(address("2001:db8::9"), address("2001:db8::7"), 9),
        "ends before"
    );
    assert_eq!(ranges, before);
    let starts: Vec<_> = ranges.iter().map(|(start, ..)| start.to_string()).collect();
    assert_eq!(starts, ["10.0.0.0", "10.0.0.30", "2001:db8::"]);
}

#[test]
fn values_hold_up_to_the_next_one_or_are_refused() {
    let mut ranges = Ranges::default();
    for (start, value) in [(0, 0), (5, 1), (9, 1), (12, 2), (12, 3), (20, 0)] {
        assert!(ranges.hold(Start::V4(start), value), "{start}");
        assert!(ranges.hold(Start::V6(u128::from(start) << 64), value));
    }
    assert!(!ranges.hold(Start::V4(19), 9), "before the last");
    assert!(!ranges.hold(Start::V6(19 << 64), 9), "before the last");
    assert_eq!(ranges.len(), 6, "equal neighbours are one");
    let v4 = |n: u32| Address::from_v4(n.to_be_bytes());
    let v6 = |n: u128| Address((n << 64).to_be_bytes());
    let end = |n: u128| Address(((n << 64) - 1).to_be_bytes());
    let expected = [
        (v4(5), v4(11), 1),
        (v4(12), v4(19), 3),
        (v6(5), end(12), 1),
        (v6(12), end(20), 3),
    ];
    assert_eq!(ranges.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_below_counts_where_nothing_is_said_above() {
    let ranges = |prefixes: &[(&str, u32)]| Ranges::of_prefixes(of(prefixes));
    let v4 = [("10.0.0.0/8", 1)];
    let wider = [("10.0.0.0/7", 2), ("2001:db8::/32", 3)];
    let both = ranges(&[v4[0], ("11.0.0.0/8", 2), wider[1]]);
    assert_eq!(ranges(&v4).or(ranges(&wider)), both);
    assert_eq!(ranges(&wider).or(ranges(&v4)), ranges(&wider));
    assert_eq!(Ranges::default().or(ranges(&wider)), ranges(&wider));
}

/// Prefixes close together, so that they nest, touch and repeat.
fn prefix() -> impl Strategy<Value = (IpNet, u32)> {
    let value = prop_oneof![8 => 1..9_u32, 1 => Just(0), 1 => any::<u32>()];
    let bits = prop_oneof![
        3 => (0..64_u128, 0..128_u32).prop_map(|(few, shift)| few << shift),
        1 => any::<u128>(),
        1 => (0..9_u128).prop_map(|few| u128::MAX - few),
    ];
    let net = (bits, any::<bool>(), 0..=128_u8).prop_map(|(bits, is_v4, len)| match is_v4 {
        true => IpNet::from(Ipv4Net::new((bits as u32).into(), len % 33).unwrap()),
        // Those within ::ffff:0:0/96 mean IPv4; `contains` does not know that.
        false if bits >> 32 == 0xffff => IpNet::from(Ipv6Net::default()),
        false => IpNet::from(Ipv6Net::new(bits.into(), len).unwrap()),
    });
    (net, value)
}

fn any_address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Address::from_v4(bits.to_be_bytes())),
        any::<u128>().prop_map(|bits| Address(bits.to_be_bytes())),
        (0..64_u128, 0..128_u32).prop_map(|(few, shift)| Address((few << shift).to_be_bytes())),
    ]
}

proptest! {
    #[test]
    fn the_table_answers_as_reading_prefix_by_prefix(
        prefixes in vec(prefix(), 0..60),
        others in vec(any_address(), 0..60),
    ) {
        let mut addresses = edges(&prefixes);
        addresses.extend(others);
        assert_answers(&prefixes, &addresses);
    }

    #[test]
    fn an_overlay_asks_for_both_values_at_each_address(
        mine in vec(prefix(), 0..30),
        others in vec(prefix(), 0..30),
    ) {
        let both = |a: u32, b: u32| a.wrapping_mul(31).wrapping_add(b);
        let (left, right) = (
            Ranges::of_prefixes(mine.iter().copied()),
            Ranges::of_prefixes(others.iter().copied()),
        );
        let checked = |a: u32, b: u32| {
            assert!((a, b) != (0, 0), "nobody says anything");
            both(a, b)
        };
        let overlaid = Lpm::new(&left.overlay(&right, checked));
        let at_once = Lpm::of_overlay(left.clone(), right.clone(), checked);
        let mut addresses = edges(&mine);
        addresses.extend(edges(&others));
        for address in addresses {
            let expected = both(naive(&mine, address), naive(&others, address));
            prop_assert_eq!(overlaid.get(address), expected, "{}", address);
            prop_assert_eq!(at_once.get(address), expected, "{} at once", address);
        }
    }

    #[test]
    fn ranges_that_are_read_are_disjoint_and_say_what_the_table_says(
        prefixes in vec(prefix(), 0..60),
    ) {
        let ranges = Ranges::of_prefixes(prefixes.iter().copied());
        let table = Lpm::new(&ranges);
        let mut again = Ranges::default();
        for (start, end, value) in ranges.iter() {
            prop_assert!(start <= end && value != 0);
            prop_assert_eq!(table.get(start), value);
            // ::/80 ends with the IPv4-mapped addresses, of which it says nothing.
            if v4_of(start).is_some() == v4_of(end).is_some() {
                prop_assert_eq!(table.get(end), value);
            }
            prop_assert!(again.push(start, end, value), "in order, without overlap");
        }
        prop_assert_eq!(again, ranges);
    }
}
