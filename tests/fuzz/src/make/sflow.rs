//! sFlow version 5: every kind of sample and record, mostly with one thing wrong.

use rand::RngExt;

use super::{EDGES, Rng, bytes, frame, pick};
use crate::tape::{Frame, Tape};

/// A few datagrams of two agents.
#[must_use]
pub fn tape(rng: &mut Rng) -> Tape {
    let mut tape = Tape::default();
    for _ in 0..rng.random_range(1..4) {
        let mut payload = datagram(rng);
        match rng.random_range(0..6) {
            0 => payload.truncate(rng.random_range(0..=payload.len())),
            1 => {
                // Some word: a count, a length, a format or a value.
                let at = 4 * rng.random_range(0..payload.len() / 4);
                payload[at..at + 4].copy_from_slice(&pick(&EDGES, rng).to_be_bytes());
            }
            _ => {}
        }
        tape.push(&Frame {
            control: rng.random_range(0..8),
            delay: rng.random_range(0..12),
            payload,
        });
    }
    tape
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A format and a body with its length, padded to words.
fn block(format: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    [words(&[format, body.len() as u32]), body].concat()
}

fn datagram(rng: &mut Rng) -> Vec<u8> {
    let samples: Vec<_> = (0..rng.random_range(0..5)).map(|_| sample(rng)).collect();
    let mut payload = words(&[5]);
    payload.extend(address(rng));
    let count = samples.len() as u32;
    payload.extend(words(&[rng.random_range(0..3), rng.random(), 1000, count]));
    payload.extend(samples.concat());
    payload
}

fn sample(rng: &mut Rng) -> Vec<u8> {
    let format = pick(&[1, 1, 3, 2, 4, 5, 6, 0x0000_1001], rng);
    let is_flow = matches!(format, 1 | 3 | 5);
    let records: Vec<_> = (0..rng.random_range(0..4))
        .map(|_| {
            if is_flow {
                flow_record(rng)
            } else {
                counters(rng)
            }
        })
        .collect();
    let (number, source) = (rng.random(), rng.random_range(0..50));
    let interface = |rng: &mut Rng| rng.random_range(0..4) << 30 | rng.random_range(0..300);
    let mut fixed = match format {
        3 => vec![number, 0, source, 100, 0, 0, 0, interface(rng), 1, 300],
        2 => vec![number, source],
        4 => vec![number, 0, source],
        5 => vec![number, 0, source, 7, 1, 2, 258],
        _ => vec![number, source, 100, 0, 0, interface(rng), interface(rng)],
    };
    fixed.push(records.len() as u32);
    block(format, [words(&fixed), records.concat()].concat())
}

fn address(rng: &mut Rng) -> Vec<u8> {
    match rng.random_range(0..3) {
        0 => [words(&[2]), bytes(16, rng)].concat(),
        _ => [words(&[1]), bytes(4, rng)].concat(),
    }
}

/// A raw header around `packet`, `frame_len` bytes on the wire.
#[must_use]
pub fn raw_header(protocol: u32, frame_len: u32, packet: &[u8]) -> Vec<u8> {
    let head = words(&[protocol, frame_len, 4, packet.len() as u32]);
    block(1, [head, packet.to_vec()].concat())
}

/// A datagram of one flow sample with this one record.
#[must_use]
pub fn of_record(record: &[u8]) -> Vec<u8> {
    let fixed = words(&[1, 3, 100, 100, 0, 3, 4, 1]);
    let sample = block(1, [&fixed[..], record].concat());
    let header = words(&[5, 1, 0xc000_0209, 0, 1, 1000, 1]);
    [header, sample].concat()
}

fn flow_record(rng: &mut Rng) -> Vec<u8> {
    let body = |rng: &mut Rng, n| bytes(4 * n, rng);
    match rng.random_range(0..13) {
        0..3 => {
            let (link, packet) = frame::packet(rng);
            raw_header(
                frame::sflow_protocol(link),
                rng.random_range(0..2000),
                &packet,
            )
        }
        3 => block(2, body(rng, 6)),
        4 => block(3, body(rng, 8)),
        5 => block(4, body(rng, 14)),
        6 => block(1001, words(&[7, 0, 9, 1])),
        7 => block(1002, [address(rng), words(&[24, 16])].concat()),
        8 => {
            let path = rng.random_range(0..5u32);
            let segments = [words(&[2, path]), body(rng, path as usize)].concat();
            let head = [address(rng), words(&[64_500, 64_501, 64_502, 1])].concat();
            let communities = words(&[2, 65_536, 65_537, 100]);
            block(1003, [head, segments, communities].concat())
        }
        9 => block(
            1006,
            [address(rng), words(&[2, 0x1_0040, 0x2_0140, 0])].concat(),
        ),
        10 => block(1007, [address(rng), address(rng)].concat()),
        11 => block(1012, words(&[2, 0x8100_0064, 0x8100_00c8])),
        _ => {
            let words = rng.random_range(0..12);
            block(
                pick(&[1004, 1020, 1022, 2100, 4096, 0], rng),
                body(rng, words),
            )
        }
    }
}

fn counters(rng: &mut Rng) -> Vec<u8> {
    let (format, count) = pick(
        &[
            (1, 22),
            (2, 13),
            (3, 18),
            (5, 7),
            (1001, 7),
            (1005, 3),
            (2000, 5),
        ],
        rng,
    );
    block(format, bytes(4 * count, rng))
}
