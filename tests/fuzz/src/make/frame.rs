//! Sampled packets: layers on layers, cut anywhere.

use flowsluice::decode::packet::Link;
use rand::RngExt;

use super::{Rng, bytes, pick};

/// What packets begin with, in the order of an input's first byte.
pub const LINKS: [Link; 4] = [Link::Ethernet, Link::Ppp, Link::Mpls, Link::Ip];

/// Tunnels in tunnels.
const DEPTH_MAX: usize = 3;

/// An input of the target: a link, the length of the frame, and the bytes that were sampled.
#[must_use]
pub fn input(rng: &mut Rng) -> Vec<u8> {
    let (link, packet) = packet(rng);
    let number = LINKS.iter().position(|known| *known == link).unwrap_or(0);
    let mut input = vec![number as u8];
    input.extend(rng.random_range(0..10_000u32).to_be_bytes());
    input.extend(packet);
    input
}

/// `header_protocol` of sFlow's raw header.
#[must_use]
pub const fn sflow_protocol(link: Link) -> u32 {
    match link {
        Link::Ethernet => 1,
        Link::Ppp => 7,
        Link::Mpls => 13,
        Link::Ip => 11,
    }
}

/// A packet, and what it begins with.
#[must_use]
pub fn packet(rng: &mut Rng) -> (Link, Vec<u8>) {
    let link = pick(&LINKS, rng);
    let mut packet = match link {
        Link::Ethernet => ethernet(0, rng),
        Link::Ppp => ppp(0, rng),
        Link::Mpls => mpls(0, rng),
        Link::Ip => ip(0, rng),
    };
    if rng.random_bool(0.4) {
        packet.truncate(rng.random_range(0..=packet.len()));
    }
    (link, packet)
}

fn be(value: u16) -> [u8; 2] {
    value.to_be_bytes()
}

fn ethernet(depth: usize, rng: &mut Rng) -> Vec<u8> {
    let mut frame = bytes(12, rng);
    for _ in 0..rng.random_range(0..4) {
        let tag = pick(&[0x8100, 0x88a8, 0x9100], rng);
        frame.extend([be(tag), be(rng.random())].concat());
    }
    let (ethertype, inner): (u16, _) = match rng.random_range(0..10) {
        0 => (0x8847, mpls(depth, rng)),
        1 => (0x8864, {
            let inner = ppp(depth, rng);
            let head = [&[0x11, 0, 0, 9][..], &be(inner.len() as u16)].concat();
            [head, inner].concat()
        }),
        2 => (0x0806, bytes(28, rng)),
        3 => {
            let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ip(depth, rng)].concat();
            (snap.len().min(1500) as u16, snap)
        }
        4 => (rng.random(), bytes(40, rng)),
        _ => {
            let packet = ip(depth, rng);
            let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
            (if is_v4 { 0x0800 } else { 0x86dd }, packet)
        }
    };
    frame.extend(be(ethertype));
    frame.extend(inner);
    frame
}

fn ppp(depth: usize, rng: &mut Rng) -> Vec<u8> {
    let packet = ip(depth, rng);
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let protocol = if is_v4 { 0x21 } else { 0x57 };
    let head = pick(&[&[0xff, 3, 0][..], &[0], &[]], rng);
    [head, &[protocol], &packet].concat()
}

fn mpls(depth: usize, rng: &mut Rng) -> Vec<u8> {
    let mut stack = Vec::new();
    let labels = rng.random_range(1..18);
    for n in 1..=labels {
        let bottom = u32::from(n == labels) << 8;
        let label = rng.random::<u32>() & !0x100 | bottom;
        stack.extend(label.to_be_bytes());
    }
    stack.extend(ip(depth, rng));
    stack
}

fn ip(depth: usize, rng: &mut Rng) -> Vec<u8> {
    let (protocol, upper) = upper(depth, rng);
    if rng.random_bool(0.6) {
        let options = rng.random_range(0..3usize);
        let len = (20 + 4 * options + upper.len()) as u16;
        let fragment = pick(&[0, 0, 0x4000, 0x2000, 0x00b9], rng);
        let mut packet = vec![0x45 + options as u8, rng.random()];
        packet.extend(
            [
                be(pick(&[len, len, 0, 9], rng)),
                be(rng.random()),
                be(fragment),
            ]
            .concat(),
        );
        packet.extend([rng.random(), protocol, 0, 0]);
        packet.extend(bytes(8, rng));
        packet.resize(packet.len() + 4 * options, 1);
        packet.extend(upper);
        return packet;
    }
    let mut behind = Vec::new();
    let mut next = protocol;
    for _ in 0..rng.random_range(0..4) {
        // Hop-by-hop, routing, fragment, destination options, authentication.
        let kind = pick(&[0, 43, 44, 60, 51], rng);
        let mut header = vec![next, 0];
        header.extend(bytes(6, rng));
        if kind == 51 {
            header[1] = 4;
            header.extend(bytes(16, rng));
        }
        behind.splice(0..0, header);
        next = kind;
    }
    let len = (behind.len() + upper.len()) as u16;
    let mut packet = vec![0x60 | rng.random_range(0..16), rng.random(), 1, 2];
    packet.extend(be(pick(&[len, len, 0], rng)));
    packet.extend([next, rng.random()]);
    packet.extend(bytes(32, rng));
    packet.extend(behind);
    packet.extend(upper);
    packet
}

/// A protocol and what it carries.
fn upper(depth: usize, rng: &mut Rng) -> (u8, Vec<u8>) {
    let kinds = if depth < DEPTH_MAX { 12 } else { 6 };
    match rng.random_range(0..kinds) {
        0 | 1 => {
            let mut tcp = bytes(20, rng);
            tcp[12] = 0x50;
            (6, tcp)
        }
        2 => (17, udp(rng.random(), bytes(12, rng), rng)),
        3 => (pick(&[1, 58], rng), bytes(8, rng)),
        4 => (132, bytes(12, rng)),
        5 => (rng.random(), bytes(16, rng)),
        6 => (4, ip(depth + 1, rng)),
        7 => (41, ip(depth + 1, rng)),
        8 | 9 => (47, gre(depth, rng)),
        10 => {
            let vxlan = [0x08, 0, 0, 0, 0, 0, 77, 0];
            let inner = [&vxlan[..], &ethernet(depth + 1, rng)].concat();
            (17, udp(4789, inner, rng))
        }
        _ => {
            let inner = ip(depth + 1, rng);
            let flags = pick(&[0x30, 0x32, 0x34, 0x37], rng);
            let mut gtp = [&[flags, 0xff][..], &be(inner.len() as u16)].concat();
            gtp.extend([0, 0, 0, 5]);
            if flags & 7 != 0 {
                gtp.extend([0, 0, 0, 0]);
            }
            gtp.extend(inner);
            (17, udp(2152, gtp, rng))
        }
    }
}

fn udp(port: u16, inner: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let mut datagram = [
        be(rng.random()),
        be(port),
        be(8 + inner.len() as u16),
        [0, 0],
    ]
    .concat();
    datagram.extend(inner);
    datagram
}

fn gre(depth: usize, rng: &mut Rng) -> Vec<u8> {
    let flags = pick(&[0u16, 0x2000, 0xb000, 0x3001], rng);
    let (carries, inner): (u16, _) = match rng.random_range(0..3) {
        0 => (0x6558, ethernet(depth + 1, rng)),
        _ => (0x0800, ip(depth + 1, rng)),
    };
    let options = (flags & 0xb000).count_ones() as usize;
    let mut packet = [be(flags), be(carries)].concat();
    packet.extend(bytes(4 * options, rng));
    packet.extend(inner);
    packet
}
