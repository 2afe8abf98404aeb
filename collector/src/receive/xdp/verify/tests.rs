use etherparse::{PacketBuilder, VlanId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const V4: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [198, 51, 100, 2]);
const V6: ([u8; 16], [u8; 16]) = (v6(1), v6(2));
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Where things are in an untagged frame.
const IP: usize = 14;
const UDP_V4: usize = IP + 20;
const UDP_V6: usize = IP + 40;

const fn v6(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// A frame from port 5000 to port 2055, whose checksums another implementation made.
fn frame_v4(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(V4.0, V4.1, 64);
    let mut frame = Vec::new();
    builder.udp(5000, 2055).write(&mut frame, payload).unwrap();
    frame
}

/// Likewise over IPv6, with a VLAN tag when `vlan` says so.
fn frame_v6(payload: &[u8], vlan: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(MAC, MAC);
    let ip = if vlan {
        let tagged = ethernet.single_vlan(VlanId::try_new(7).unwrap());
        tagged.ipv6(V6.0, V6.1, 64)
    } else {
        ethernet.ipv6(V6.0, V6.1, 64)
    };
    ip.udp(5000, 2055).write(&mut frame, payload).unwrap();
    frame
}

/// A plain frame over IPv4 after `change`, with a header checksum that fits.
fn changed_v4(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = frame_v4(b"datagram");
    change(&mut frame);
    frame[IP + 10..IP + 12].fill(0);
    let checksum = !naive(&frame[IP..UDP_V4]);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// RFC 1071 as it is written, 16 bits at a time.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

proptest! {
    #[test]
    fn the_sum_is_that_of_16_bits_at_a_time(bytes in vec(any::<u8>(), 0..4000)) {
        let folded = u16::try_from(fold(sum(&bytes))).unwrap();
        prop_assert_eq!(u16::from_be(folded) % 0xffff, naive(&bytes) % 0xffff);
        // Only a sum of zeros folds to zero.
        prop_assert_eq!(folded == 0, bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn intact_frames_are_handed_on_whole(payload in vec(any::<u8>(), 0..1500), vlan: bool) {
        for (frame, source) in [
            (frame_v4(&payload), IpAddr::from(V4.0)),
            (frame_v6(&payload, vlan), IpAddr::from(V6.0)),
        ] {
            let datagram = datagram(&frame, true);
            let local_port = 2055;
            prop_assert_eq!(
                datagram,
                Ok(Verified { source, source_port: 5000, local_port, payload: &payload })
            );
        }
    }

    #[test]
    fn a_flipped_bit_behind_ethernet_is_noticed(
        payload in vec(any::<u8>(), 1..200),
        vlan: bool,
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        for (mut frame, ip) in [
            (frame_v4(&payload), IP),
            (frame_v6(&payload, vlan), if vlan { IP + 4 } else { IP }),
        ] {
            let at = ip + at.index(frame.len() - ip);
            frame[at] ^= 1 << bit;
            // Of an IPv6 header no sum covers traffic class, flow label and hop limit.
            let uncovered = frame[ip] >> 4 == 6 && (at < ip + 4 || at == ip + 7);
            // And no checksum at all is allowed over IPv4.
            let no_checksum = frame[ip] >> 4 == 4 && frame[UDP_V4 + 6..UDP_V4 + 8] == [0, 0];
            if !uncovered && !no_checksum {
                prop_assert!(datagram(&frame, true).is_err(), "byte {}", at);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200), cut: prop::sample::Index) {
        let _ = datagram(&bytes, true);
        for frame in [frame_v4(&bytes), frame_v6(&bytes, true)] {
            let cut = &frame[..cut.index(frame.len())];
            prop_assert!(datagram(cut, true).is_err());
        }
    }
}

#[test]
fn a_published_header_checksum_is_right() {
    // The example of https://en.wikipedia.org/wiki/Internet_checksum.
    #[rustfmt::skip]
    let header = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
        0xc7,
    ];
    assert_eq!(fold(sum(&header)), ALL_ONES);
}

#[test]
fn padding_behind_the_packet_is_not_payload() {
    let mut frame = frame_v4(b"short");
    frame.resize(60, 0xaa);
    assert_eq!(datagram(&frame, true).unwrap().payload, b"short");
}

#[test]
fn a_packet_that_is_longer_than_its_frame_is_malformed() {
    let frame = frame_v4(b"datagram");
    let cut = &frame[..frame.len() - 1];
    assert_eq!(datagram(cut, false), Err(Malformed::Length));
    let frame = frame_v6(b"datagram", false);
    let cut = &frame[..frame.len() - 1];
    assert_eq!(datagram(cut, false), Err(Malformed::Length));
}

#[test]
fn a_wrong_header_checksum_is_malformed_whatever_is_configured() {
    let mut frame = frame_v4(b"datagram");
    frame[IP + 10] ^= 1;
    for verify_checksum in [false, true] {
        let outcome = datagram(&frame, verify_checksum);
        assert_eq!(outcome, Err(Malformed::HeaderChecksum));
    }
}

#[test]
fn the_udp_checksum_is_looked_at_only_when_configured() {
    for (mut frame, udp) in [
        (frame_v4(b"datagram"), UDP_V4),
        (frame_v6(b"datagram", false), UDP_V6),
    ] {
        frame[udp + 7] ^= 1;
        assert_eq!(datagram(&frame, true), Err(Malformed::Checksum));
        assert_eq!(datagram(&frame, false).unwrap().payload, b"datagram");
    }
}

#[test]
fn no_checksum_is_allowed_over_ipv4_and_not_over_ipv6() {
    let mut frame = frame_v4(b"datagram");
    frame[UDP_V4 + 6..UDP_V4 + 8].fill(0);
    assert_eq!(datagram(&frame, true).unwrap().payload, b"datagram");
    let mut frame = frame_v6(b"datagram", false);
    frame[UDP_V6 + 6..UDP_V6 + 8].fill(0);
    assert_eq!(datagram(&frame, true), Err(Malformed::Checksum));
}

#[test]
fn sources_that_no_host_has_are_malformed() {
    let from =
        |source: [u8; 4]| changed_v4(|frame| frame[IP + 12..IP + 16].copy_from_slice(&source));
    for source in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
    ] {
        let frame = from(source);
        assert_eq!(
            datagram(&frame, false),
            Err(Malformed::Source),
            "{source:?}"
        );
    }
    for source in [[10, 0, 0, 1], [223, 255, 255, 255]] {
        let frame = from(source);
        assert_eq!(
            datagram(&frame, false).unwrap().source,
            IpAddr::from(source)
        );
    }
}

#[test]
fn an_ipv6_packet_cannot_pretend_to_come_from_an_ipv4_exporter() {
    let from = |source: &str| {
        let mut frame = frame_v6(b"datagram", false);
        let source: Ipv6Addr = source.parse().unwrap();
        frame[IP + 8..IP + 24].copy_from_slice(&source.octets());
        datagram(&frame, false).map(|datagram| datagram.source)
    };
    assert_eq!(from("::ffff:192.0.2.1"), Err(Malformed::Source));
    assert_eq!(from("::1"), Err(Malformed::Source));
    assert_eq!(from("ff02::1"), Err(Malformed::Source));
    assert_eq!(from("fe80::1"), Ok("fe80::1".parse().unwrap()));
}

#[test]
fn what_is_no_plain_datagram_is_malformed() {
    let fragment = changed_v4(|frame| frame[IP + 6] = 0x20);
    let expected = Err(Malformed::Headers(Pass::Fragment));
    assert_eq!(datagram(&fragment, false), expected);
    let tcp = changed_v4(|frame| frame[IP + 9] = 6);
    assert_eq!(datagram(&tcp, false), Err(Malformed::Headers(Pass::NotUdp)));
}
