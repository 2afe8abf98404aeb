//! Makes inputs: what exporters send, what they get wrong, and mutations that know the formats.

pub mod capture;
pub mod config;
pub mod exporter;
pub mod fault;
pub mod fixed;
pub mod frame;
pub mod sflow;
pub mod state;
pub mod stream;

use rand::{RngExt, SeedableRng};

use crate::Target;
use crate::tape::{self, Frame, Tape};

/// The same numbers for the same seed on every machine.
pub type Rng = rand::rngs::Xoshiro256PlusPlus;

/// One of `of`.
///
/// # Panics
/// When there is none.
pub fn pick<T: Copy>(of: &[T], rng: &mut Rng) -> T {
    of[rng.random_range(0..of.len())]
}

/// `count` bytes, none of them 0: zeros at the end of a set are padding.
#[must_use]
pub fn bytes(count: usize, rng: &mut Rng) -> Vec<u8> {
    (0..count).map(|_| rng.random_range(1..=u8::MAX)).collect()
}

/// Numbers that stand at the edge of something.
const EDGES: [u32; 14] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    255,
    256,
    65_534,
    65_535,
    0x7fff_ffff,
    u32::MAX,
];

/// `input` changed as its format suggests; `None` leaves it to the fuzzer's own mutations.
#[must_use]
pub fn mutate(target: Target, input: &[u8], seed: u64) -> Option<Vec<u8>> {
    let rng = &mut Rng::seed_from_u64(seed);
    match rng.random_range(0..16) {
        0..8 => None,
        8 => Some(target.fresh(rng.random())),
        _ => match target {
            Target::Config => Some(config::mutated(input, rng)),
            Target::State => Some(state::mutated(input, rng)),
            Target::Packet | Target::Pcap => None,
            _ => Some(mutated_tape(target, input, rng)),
        },
    }
}

fn mutated_tape(target: Target, input: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut frames = tape::frames(input);
    if frames.is_empty() {
        return target.fresh(rng.random());
    }
    let at = rng.random_range(0..frames.len());
    match rng.random_range(0..12) {
        0 => drop(frames.remove(at)),
        1 => frames.push(frames[at].clone()),
        2 => frames.rotate_left(at),
        3 => frames[at].control = rng.random(),
        4 => frames[at].delay = rng.random(),
        5 => {
            let other = tape::frames(&target.fresh(rng.random()));
            frames.extend(other);
        }
        6 => {
            let cut = rng.random_range(0..=frames[at].payload.len());
            frames[at].payload.truncate(cut);
        }
        7 => {
            let more = rng.random_range(1..64);
            let len = frames[at].payload.len() + more;
            frames[at].payload.resize(len, 0);
        }
        _ => mutate_message(&mut frames[at], rng),
    }
    Tape::of(&frames).0
}

/// Changes a length, a count or an id of a message, where its sets or samples begin.
fn mutate_message(frame: &mut Frame, rng: &mut Rng) {
    let payload = &mut frame.payload;
    let is_sflow = payload.starts_with(&[0, 0]);
    let starts = match payload.get(1) {
        Some(9) => units(payload, 20, false),
        Some(10) => units(payload, 16, false),
        _ if is_sflow => units(payload, 28, true),
        _ => vec![0],
    };
    let start = pick(&starts, rng);
    // The header of a set, the one of a template in it, and its first fields; or words of sFlow.
    let width = if is_sflow { 4 } else { 2 };
    let at = start + width * rng.random_range(0..8);
    let edge = pick(&EDGES, rng).to_be_bytes();
    let value = match rng.random_range(0..3) {
        0 => rng.random::<u32>().to_be_bytes(),
        _ => edge,
    };
    if let Some(into) = payload.get_mut(at..at + width) {
        match rng.random_range(0..3) {
            // One more or less than right is what off-by-one faults are about.
            0 => {
                let last = into.len() - 1;
                into[last] = into[last].wrapping_add(pick(&[1, 2, 4, 255, 254, 252], rng));
            }
            _ => into.copy_from_slice(&value[4 - width..]),
        }
    }
}

/// Where the sets (16-bit id and length) or samples (32-bit format and length) begin.
fn units(payload: &[u8], first: usize, is_sflow: bool) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = first;
    while starts.len() < 64 {
        let len = if is_sflow {
            let word = payload.get(at + 4..).and_then(<[u8]>::first_chunk);
            word.map(|word| (u32::from_be_bytes(*word) as usize).saturating_add(8))
        } else {
            let half = payload.get(at + 2..).and_then(<[u8]>::first_chunk);
            half.map(|half| usize::from(u16::from_be_bytes(*half)).max(4))
        };
        let Some(len) = len else { break };
        starts.push(at);
        at = at.saturating_add(len);
    }
    starts
}
