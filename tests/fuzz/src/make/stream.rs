//! Streams of IPFIX by several connections, cut anywhere; mostly of an exporter that does one thing
//! wrong.

use rand::RngExt;

use super::exporter::Dialect;
use super::{Rng, fault, pick};
use crate::hold::{CLOSES_BIT, REPEATED_BIT};
use crate::tape::{self, Frame, Tape};

/// Pieces of a tape.
#[must_use]
pub fn tape(rng: &mut Rng) -> Tape {
    let connections = rng.random_range(1..4);
    let streams: Vec<_> = (0..connections).map(|_| pieces(rng).0).collect();
    Tape::interleaved(&streams, rng)
}

/// What an exporter sends by one connection.
fn pieces(rng: &mut Rng) -> Tape {
    let scenario = fault::any(Dialect::Ipfix, rng);
    let messages = tape::frames(&scenario.tape().0);
    let mut stream: Vec<u8> = messages.into_iter().flat_map(|m| m.payload).collect();
    let control = rng.random_range(0..8);
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let len = match rng.random_range(0..3) {
            0 => rng.random_range(1..=20),
            _ => rng.random_range(1..=2000),
        };
        let rest = stream.split_off(len.min(stream.len()));
        let again = if rng.random_bool(0.02) {
            REPEATED_BIT
        } else {
            0
        };
        frames.push(Frame {
            control: control | again,
            delay: pick(&[0, 1, 5, 12], rng),
            payload: std::mem::replace(&mut stream, rest),
        });
    }
    if let Some(last) = frames.last_mut().filter(|_| rng.random_bool(0.7)) {
        last.control |= CLOSES_BIT;
    }
    Tape::of(&frames)
}
