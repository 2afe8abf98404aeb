//! Capture files: pcap and pcapng in both byte orders, of every link type that is read, with whole
//! datagrams and fragments, mostly with one thing wrong.

use rand::RngExt;

use super::{EDGES, Rng, bytes, pick};

/// Writes numbers as the machine that captured does.
#[derive(Clone, Copy)]
struct Order {
    is_big: bool,
}

impl Order {
    fn half(self, value: u16) -> [u8; 2] {
        if self.is_big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn word(self, value: u32) -> [u8; 4] {
        if self.is_big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.word(*value)).collect()
    }

    /// A block of pcapng, its length on both sides.
    fn block(self, kind: u32, mut body: Vec<u8>) -> Vec<u8> {
        body.resize(body.len().next_multiple_of(4), 0);
        let len = body.len() as u32 + 12;
        [self.words(&[kind, len]), body, self.words(&[len])].concat()
    }
}

/// One file.
#[must_use]
pub fn file(rng: &mut Rng) -> Vec<u8> {
    let order = Order {
        is_big: rng.random(),
    };
    let link = pick(
        &[1, 1, 1, 0, 12, 14, 101, 108, 113, 228, 229, 276, 147],
        rng,
    );
    let mut framed_packets = Vec::new();
    for _ in 0..rng.random_range(0..6) {
        for packet in packets(rng) {
            framed_packets.push(framed(link, packet, rng));
        }
    }
    let mut file = match rng.random_range(0..3) {
        0 => pcapng(order, link, &framed_packets, rng),
        _ => pcap(order, link, &framed_packets, rng),
    };
    match rng.random_range(0..6) {
        0 => file.truncate(rng.random_range(0..=file.len())),
        1 => {
            let at = 4 * rng.random_range(0..file.len() / 4);
            file[at..at + 4].copy_from_slice(&order.word(pick(&EDGES, rng)));
        }
        _ => {}
    }
    file
}

fn pcap(order: Order, link: u16, packets: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let magic = pick(&[0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34], rng);
    let mut file = order.word(magic).to_vec();
    file.extend([order.half(2), order.half(4)].concat());
    file.extend(order.words(&[0, 0, 262_144, link.into()]));
    for packet in packets {
        let len = packet.len() as u32;
        file.extend(order.words(&[1_700_000_000, rng.random_range(0..1_000_000), len, len]));
        if magic == 0xa1b2_cd34 {
            file.extend([0; 8]);
        }
        file.extend(packet);
    }
    file
}

fn pcapng(order: Order, link: u16, packets: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut section = order.word(0x1a2b_3c4d).to_vec();
    section.extend([order.half(1), order.half(0)].concat());
    section.extend([0xff; 8]);
    let mut file = order.block(0x0a0d_0d0a, section);
    let mut interface = [order.half(link), [0, 0], order.half(0), order.half(0)].concat();
    if rng.random() {
        // if_tsresol: nanoseconds, and the end of options.
        interface.extend([order.half(9), order.half(1)].concat());
        interface.extend([9, 0, 0, 0, 0, 0, 0, 0]);
    }
    file.extend(order.block(1, interface));
    for packet in packets {
        let len = packet.len() as u32;
        match rng.random_range(0..4) {
            0 => file.extend(order.block(3, [&order.word(len)[..], packet].concat())),
            _ => {
                let head = order.words(&[0, 0x0006_0000, rng.random(), len, len]);
                file.extend(order.block(6, [&head[..], packet].concat()));
            }
        }
        if rng.random_bool(0.1) {
            file.extend(order.block(0xbad, bytes(7, rng)));
        }
    }
    file
}

/// A UDP datagram over IP, whole or in fragments.
fn packets(rng: &mut Rng) -> Vec<Vec<u8>> {
    let data = bytes(rng.random_range(0..120), rng);
    let mut udp = [50_000u16, 2055, 8 + data.len() as u16, 0]
        .map(u16::to_be_bytes)
        .concat();
    udp.extend(data);
    let (is_v4, id): (bool, u16) = (rng.random(), rng.random());
    if rng.random_bool(0.6) {
        return vec![ip(is_v4, id, None, &udp)];
    }
    let pieces: Vec<_> = udp.chunks(8 * rng.random_range(1..5)).collect();
    let last = pieces.len() - 1;
    let mut offset = 0;
    let mut fragments: Vec<_> = (0..)
        .zip(&pieces)
        .map(|(n, piece)| {
            let at = offset;
            offset += piece.len() as u16 / 8;
            ip(is_v4, id, Some((at, n < last)), piece)
        })
        .collect();
    match rng.random_range(0..4) {
        0 => fragments.reverse(),
        1 => drop(fragments.pop()),
        2 => fragments.push(fragments[0].clone()),
        _ => {}
    }
    fragments
}

/// A packet that is whole, or the fragment at an offset with more behind it or not.
fn ip(is_v4: bool, id: u16, fragment: Option<(u16, bool)>, upper: &[u8]) -> Vec<u8> {
    let (at, more) = fragment.unwrap_or((0, false));
    if is_v4 {
        let field = at | u16::from(more) << 13;
        let head = [0x4500, 20 + upper.len() as u16, id, field, 0x4011, 0];
        let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
        return [&head.map(u16::to_be_bytes).concat()[..], &addresses, upper].concat();
    }
    let mut behind = Vec::new();
    if fragment.is_some() {
        behind.extend([17, 0]);
        behind.extend((at << 3 | u16::from(more)).to_be_bytes());
        behind.extend(u32::from(id).to_be_bytes());
    }
    let next = if fragment.is_some() { 44 } else { 17 };
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((behind.len() + upper.len()) as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    [packet, behind, upper.to_vec()].concat()
}

fn framed(link: u16, packet: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    let ethertype = if is_v4 { 0x0800u16 } else { 0x86dd }.to_be_bytes();
    let head = match link {
        1 => [&bytes(12, rng)[..], &ethertype].concat(),
        0 | 108 => vec![0, 0, 0, 2],
        113 => [&[0; 14][..], &ethertype].concat(),
        276 => [&ethertype[..], &[0; 18]].concat(),
        _ => Vec::new(),
    };
    [head, packet].concat()
}
