//! NetFlow of fixed records: versions 1, 5 and 7, mostly with one thing wrong.

use rand::RngExt;

use super::{EDGES, Rng, bytes, pick};
use crate::tape::{Frame, Tape};

/// Versions, with the lengths of their headers and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 16 bytes and up to 24 records of 52.
    One,
    /// 24 bytes and up to 30 records of 48.
    Five,
    /// 24 bytes and up to 27 records of 52.
    Seven,
}

impl Version {
    const fn layout(self) -> (u16, usize, usize) {
        match self {
            Self::One => (1, 16, 52),
            Self::Five => (5, 24, 48),
            Self::Seven => (7, 24, 52),
        }
    }
}

/// A datagram that announces `count` records and has `present`.
#[must_use]
pub fn datagram(version: Version, count: u16, present: usize, rng: &mut Rng) -> Vec<u8> {
    let (number, header, record) = version.layout();
    let mut payload = [number, count].map(u16::to_be_bytes).concat();
    payload.extend(rng.random::<u32>().to_be_bytes());
    payload.extend(
        [1_700_000_000u32, 500_000_000]
            .map(u32::to_be_bytes)
            .concat(),
    );
    payload.resize(header, 0);
    payload.extend(bytes(record * present, rng));
    payload
}

/// A few datagrams of two exporters.
#[must_use]
pub fn tape(version: Version, rng: &mut Rng) -> Tape {
    let mut tape = Tape::default();
    for _ in 0..rng.random_range(1..4) {
        let present = rng.random_range(0..12);
        let count = match rng.random_range(0..3) {
            0 => pick(&EDGES, rng) as u16,
            _ => present as u16,
        };
        let mut payload = datagram(version, count, present, rng);
        if rng.random_bool(0.2) {
            payload.truncate(rng.random_range(0..=payload.len()));
        }
        tape.push(&Frame {
            control: rng.random_range(0..8),
            delay: rng.random_range(0..12),
            payload,
        });
    }
    tape
}
