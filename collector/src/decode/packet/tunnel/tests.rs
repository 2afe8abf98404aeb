use proptest::prelude::*;

use super::*;
use crate::config::Tunnels;
use crate::decode::packet::parse;
use crate::flow::{Detail, DetailFields, Frame};

const OUTER: ([u8; 4], [u8; 4]) = ([203, 0, 113, 1], [203, 0, 113, 2]);
const INNER: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);

/// An IPv4 packet whose length is that of its bytes.
fn ipv4((src, dst): ([u8; 4], [u8; 4]), protocol: u8, upper: &[u8]) -> Vec<u8> {
    let length = (20 + upper.len() as u16).to_be_bytes();
    let fixed = [
        0x45, 0, length[0], length[1], 0, 7, 0, 0, 61, protocol, 0, 0,
    ];
    [&fixed[..], &src, &dst, upper].concat()
}

fn ipv6(last: [u8; 2], next_header: u8, upper: &[u8]) -> Vec<u8> {
    let length = (upper.len() as u16).to_be_bytes();
    let mut bytes = vec![
        0x60,
        0,
        0,
        5,
        length[0],
        length[1],
        next_header,
        62,
        0x20,
        1,
        0x0d,
        0xb8,
    ];
    bytes.resize(23, 0);
    bytes.extend([last[0], 0x20, 1, 0x0d, 0xb8]);
    bytes.resize(39, 0);
    bytes.push(last[1]);
    [&bytes[..], upper].concat()
}

fn udp(dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let fields = [40_000, dst_port, length, 0].map(u16::to_be_bytes);
    [&fields.concat()[..], payload].concat()
}

/// The packet that every tunnel here carries: a TCP segment of 40 bytes.
fn passenger() -> Vec<u8> {
    let tcp = [
        0x01, 0xbb, 0x30, 0x39, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0, 0, 0, 0, 0, 0,
    ];
    ipv4(INNER, 6, &tcp)
}

fn ethernet(last: [u8; 2], ethertype: &[u8], payload: &[u8]) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, last[1], 2, 0, 0, 0, 0, last[0]];
    [&addresses[..], ethertype, payload].concat()
}

/// `packet` in the frame that the exporter saw.
fn framed(packet: &[u8]) -> Vec<u8> {
    let ethertype = match packet[0] >> 4 {
        4 => [0x81, 0, 0, 100, 0x08, 0x00],
        _ => [0x81, 0, 0, 100, 0x86, 0xdd],
    };
    ethernet([0xa1, 0xa2], &ethertype, packet)
}

fn vxlan_of(frame: &[u8]) -> Vec<u8> {
    let header = [0x08, 0, 0, 0, 0x01, 0x02, 0x03, 0];
    ipv4(OUTER, 17, &udp(4789, &[&header[..], frame].concat()))
}

fn gre_of(flags: u16, optional: &[u32], carries: u16, inner: &[u8]) -> Vec<u8> {
    let head = [flags, carries].map(u16::to_be_bytes).concat();
    let optional: Vec<u8> = optional.iter().flat_map(|w| w.to_be_bytes()).collect();
    ipv4(OUTER, 47, &[&head[..], &optional, inner].concat())
}

fn gtpu_of(flags: u8, optional: &[u8], inner: &[u8]) -> Vec<u8> {
    let head = [0x30 | flags, 255, 0, 0, 0xde, 0xad, 0xbe, 0xef];
    ipv4(
        OUTER,
        17,
        &udp(2152, &[&head[..], optional, inner].concat()),
    )
}

fn parsed(frame: &[u8], tunnels: Tunnels) -> Flow {
    let mut flow = Flow::EMPTY;
    let layers = parse(Link::Ethernet, frame, frame.len() as u32, &mut flow);
    if tunnels == Tunnels::Inner {
        enter(frame, layers, &mut flow);
    }
    flow
}

fn inner_of(packet: &[u8]) -> Flow {
    parsed(&framed(packet), Tunnels::Inner)
}

/// The flow of [`passenger`] in the outer frame, found in such a tunnel.
fn expected(tunnel_type: TunnelType, tunnel_id: u32) -> Flow {
    Flow {
        src_addr: Address::from_v4(INNER.0),
        dst_addr: Address::from_v4(INNER.1),
        src_port: 443,
        dst_port: 12_345,
        protocol: 6,
        ttl: 61,
        tcp_flags: 0x12,
        raw_bytes: 40,
        src_vlan: 100,
        detail: Detail::from(DetailFields {
            frame: Frame {
                src_mac: 0x0200_0000_00a1,
                dst_mac: 0x0200_0000_00a2,
                ethertype: 0x0800,
                fragment_id: 7,
                ..Frame::EMPTY
            },
            tunnel_type,
            tunnel_id,
            outer_src_addr: Address::from_v4(OUTER.0),
            outer_dst_addr: Address::from_v4(OUTER.1),
            ..*Detail::EMPTY
        }),
        ..Flow::EMPTY
    }
}

/// The same where the tunnel carries a frame, which has a tag of its own.
fn expected_in_frame(tunnel_type: TunnelType, tunnel_id: u32) -> Flow {
    let flow = expected(tunnel_type, tunnel_id);
    Flow {
        src_vlan: 5,
        detail: Detail::from(DetailFields {
            frame: Frame {
                src_mac: 0x0200_0000_00b1,
                dst_mac: 0x0200_0000_00b2,
                ..flow.detail.frame
            },
            ..*flow.detail
        }),
        ..flow
    }
}

fn passenger_frame() -> Vec<u8> {
    ethernet([0xb1, 0xb2], &[0x81, 0, 0, 5, 0x08, 0x00], &passenger())
}

/// Everything that is stepped into, with the flow that it makes.
fn tunnels() -> Vec<(&'static str, Vec<u8>, Flow)> {
    use TunnelType::{Gre, Gtpu, Ipip, Vxlan};
    let labels = [0, 1, 0x01, 64];
    let in_mpls = [&labels[..], &passenger()].concat();
    let mut with_label = expected(Gre, 0);
    with_label.detail.mpls_labels[0] = 16;
    with_label.detail.mpls_count = 1;
    let extension = [0, 0, 0, 0x85, 1, 9, 9, 0xc0, 2, 1, 2, 3, 4, 5, 6, 0];
    vec![
        ("ipip", ipv4(OUTER, 4, &passenger()), expected(Ipip, 0)),
        (
            "gre",
            gre_of(0, &[], 0x0800, &passenger()),
            expected(Gre, 0),
        ),
        (
            "gre with a key",
            gre_of(0x2000, &[77], 0x0800, &passenger()),
            expected(Gre, 77),
        ),
        (
            "gre with checksum, key and sequence number",
            gre_of(0xb000, &[1, 77, 3], 0x0800, &passenger()),
            expected(Gre, 77),
        ),
        (
            "gre of a frame",
            gre_of(0x2000, &[77 << 8], 0x6558, &passenger_frame()),
            expected_in_frame(Gre, 77 << 8),
        ),
        ("gre of mpls", gre_of(0, &[], 0x8847, &in_mpls), with_label),
        (
            "vxlan",
            vxlan_of(&passenger_frame()),
            expected_in_frame(Vxlan, 0x01_0203),
        ),
        (
            "gtp-u",
            gtpu_of(0, &[], &passenger()),
            expected(Gtpu, 0xdead_beef),
        ),
        (
            "gtp-u with a sequence number",
            gtpu_of(2, &[0, 1, 0, 0x85], &passenger()),
            expected(Gtpu, 0xdead_beef),
        ),
        (
            "gtp-u with extensions",
            gtpu_of(4, &extension, &passenger()),
            expected(Gtpu, 0xdead_beef),
        ),
    ]
}

#[test]
fn the_packet_inside_becomes_the_flow_on_request() {
    for (name, packet, flow) in tunnels() {
        assert_eq!(inner_of(&packet), flow, "{name}");
        let outer = parsed(&framed(&packet), Tunnels::Outer);
        assert_eq!(outer.src_addr, Address::from_v4(OUTER.0), "{name}");
        assert_eq!(outer.detail.tunnel_type, TunnelType::None, "{name}");
        assert_eq!(outer.raw_bytes, packet.len() as u64, "{name}");
    }
}

#[test]
fn ipv6_is_carried_and_carries() {
    let inner6 = ipv6([3, 4], 17, &udp(53, &[]));
    let in_v4 = inner_of(&ipv4(OUTER, 41, &inner6));
    assert_eq!(in_v4.src_addr.to_string(), "2001:db8::3");
    assert_eq!((in_v4.dst_port, in_v4.raw_bytes), (53, 48));
    assert_eq!((in_v4.ttl, in_v4.detail.frame.flow_label), (62, 5));
    assert_eq!(in_v4.detail.tunnel_type, TunnelType::Ipv6);
    assert_eq!(in_v4.detail.frame.ethertype, 0x86dd);
    assert_eq!(
        in_v4.detail.outer_dst_addr.to_string(),
        "203.0.113.2",
        "the packet around it"
    );

    let in_v6 = inner_of(&ipv6([1, 2], 41, &inner6));
    assert_eq!(in_v6.dst_addr.to_string(), "2001:db8::4");
    assert_eq!(in_v6.detail.outer_src_addr.to_string(), "2001:db8::1");

    // Behind a hop-by-hop header, as RFC 2473 has its limit of encapsulations.
    let options = [&[4, 0, 4, 1, 4, 1, 0, 0][..], &passenger()].concat();
    let v4_in_v6 = inner_of(&ipv6([1, 2], 60, &options));
    assert_eq!(v4_in_v6.src_addr, Address::from_v4(INNER.0));
    assert_eq!(v4_in_v6.detail.tunnel_type, TunnelType::Ipip);
    assert_eq!(v4_in_v6.detail.frame.flow_label, 0, "IPv4 has none");
}

#[test]
fn two_tunnels_are_stepped_into_and_a_third_is_not() {
    let between = ([198, 51, 100, 1], [198, 51, 100, 2]);
    let once = ipv4(between, 4, &passenger());
    let twice = gre_of(0, &[], 0x0800, &once);
    let flow = inner_of(&twice);
    assert_eq!(flow.src_addr, Address::from_v4(INNER.0));
    assert_eq!(flow.detail.tunnel_type, TunnelType::Ipip);
    assert_eq!(flow.detail.outer_src_addr, Address::from_v4(between.0));

    let thrice = ipv4(OUTER, 4, &twice);
    let flow = inner_of(&thrice);
    assert_eq!(flow.src_addr, Address::from_v4(between.0));
    assert_eq!(flow.detail.tunnel_type, TunnelType::Gre);
}

#[test]
fn what_only_looks_like_a_tunnel_is_left_alone() {
    let mut fragment = ipv4(OUTER, 4, &passenger());
    fragment[6..8].copy_from_slice(&[0, 0xb9]);
    let arp = ethernet([0xb1, 0xb2], &[0x08, 0x06], &[0; 28]);
    let untold = udp(4789, &[&[0; 8][..], &passenger_frame()].concat());
    let endless = [&[0, 0, 0, 0x85][..], &[1, 9, 9, 0x85].repeat(9)].concat();
    let echo = udp(2152, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    let cases = [
        ("another version inside", ipv4(OUTER, 41, &passenger())),
        ("a later fragment", fragment),
        ("no packet in the frame", vxlan_of(&arp)),
        ("vxlan without an identifier", ipv4(OUTER, 17, &untold)),
        ("gtp-u's echo", ipv4(OUTER, 17, &echo)),
        ("gtp-u of no packet", gtpu_of(0, &[], &[0xff; 60])),
        (
            "gtp-u's endless extensions",
            gtpu_of(4, &endless, &passenger()),
        ),
        (
            "gtp-u's extension of no length",
            gtpu_of(4, &[0, 0, 0, 0x85, 0, 0, 0, 0], &passenger()),
        ),
        ("pptp", gre_of(0x3001, &[1, 2], 0x880b, &passenger())),
        ("source routing", gre_of(0x4000, &[0], 0x0800, &passenger())),
        ("keepalive", gre_of(0, &[], 0, &[])),
    ];
    for (name, packet) in cases {
        let outer = parsed(&framed(&packet), Tunnels::Outer);
        assert_eq!(outer.src_addr, Address::from_v4(OUTER.0), "{name}");
        assert_eq!(inner_of(&packet), outer, "{name}");
    }
}

#[test]
fn a_tunnel_cut_anywhere_gives_the_outer_packet_or_the_inner() {
    for (name, packet, whole) in tunnels() {
        let frame = framed(&packet);
        let mut was_inner = false;
        for length in 0..=frame.len() {
            let flow = parsed(&frame[..length], Tunnels::Inner);
            let is_inner = flow.detail.tunnel_type != TunnelType::None;
            assert!(is_inner || !was_inner, "{name}: {length}");
            was_inner = is_inner;
            if is_inner {
                assert_eq!(flow.src_addr, whole.src_addr, "{name}: {length}");
                assert_eq!(flow.detail, whole.detail, "{name}: {length}");
            } else {
                let outer = parsed(&frame[..length], Tunnels::Outer);
                assert_eq!(flow, outer, "{name}: {length}");
            }
        }
        assert!(was_inner, "{name}");
    }
}

#[test]
fn without_a_length_inside_the_outer_one_less_the_headers_counts() {
    let mut inner = passenger();
    inner[2..4].fill(0);
    assert_eq!(inner_of(&gre_of(0, &[], 0x0800, &inner)).raw_bytes, 40);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_tunnel_is_endless(
        which in 0..10_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut frame = framed(&tunnels().swap_remove(which).1);
        frame.extend(tail);
        for (at, value) in edits {
            *at.get_mut(&mut frame) = value;
        }
        frame.truncate(cut.index(frame.len()) + 1);
        for link in [Link::Ethernet, Link::Ppp, Link::Mpls, Link::Ip] {
            let mut flow = Flow::EMPTY;
            let layers = parse(link, &frame, 1500, &mut flow);
            enter(&frame, layers, &mut flow);
            let is_inner = flow.detail.tunnel_type != TunnelType::None;
            prop_assert!(is_inner || flow.detail.outer_src_addr.is_unknown());
        }
    }
}
