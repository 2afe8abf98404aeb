//! Datagrams one after the other, with who sent them and when: the input of most targets.
//!
//! A frame is a byte of control, a byte of delay, two bytes of length and the payload. Bytes that
//! end early shorten the last payload, so that any input is a tape.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flowsluice::receive::Datagram;
use flowsluice::units::UnixNanos;
use rand::RngExt;

use crate::make::Rng;

/// When the first datagram of every tape arrives.
pub const RECEIVED: UnixNanos = UnixNanos(1_700_000_000_500_000_000);
/// Frames that are looked at: an input that makes more of them finds nothing new.
pub const FRAMES_MAX: usize = 64;

/// Who sends, in the two lowest bits of the control byte.
const SOURCE_MASK: u8 = 3;
/// Which of two workers decodes.
const WORKER_BIT: u8 = 4;
/// Elements without a column are wanted as well.
const EXTRA_BIT: u8 = 8;
const HEADER: usize = 4;

/// Frames as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape(pub Vec<u8>);

/// One datagram of a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Sender and worker.
    pub control: u8,
    /// Time since the frame before, see [`delay_ms`].
    pub delay: u8,
    /// The datagram.
    pub payload: Vec<u8>,
}

impl Frame {
    /// One of four exporters; the last has an IPv6 address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        match self.control & SOURCE_MASK {
            3 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            n => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + n)),
        }
    }

    /// The second of two workers receives it.
    #[must_use]
    pub fn is_for_second(&self) -> bool {
        self.control & WORKER_BIT != 0
    }

    /// Of the first frame: elements without a column are wanted as well.
    #[must_use]
    pub fn wants_extra(&self) -> bool {
        self.control & EXTRA_BIT != 0
    }
}

/// From nothing over milliseconds to 24 days, so that anything that ages can.
#[must_use]
pub fn delay_ms(delay: u8) -> u64 {
    match delay % 32 {
        0 => 0,
        bits => 1 << bits,
    }
}

impl Tape {
    /// Appends a frame. Payloads are short enough for their length field, or are cut.
    pub fn push(&mut self, frame: &Frame) {
        let len = frame.payload.len().min(usize::from(u16::MAX));
        self.0.extend([frame.control, frame.delay]);
        self.0.extend((len as u16).to_be_bytes());
        self.0.extend(&frame.payload[..len]);
    }

    /// A tape of these frames.
    #[must_use]
    pub fn of(frames: &[Frame]) -> Self {
        let mut tape = Self::default();
        frames.iter().for_each(|frame| tape.push(frame));
        tape
    }

    /// The frames of several tapes, each in its order, one taken from any of them at a time.
    #[must_use]
    pub fn interleaved(tapes: &[Vec<u8>], rng: &mut Rng) -> Self {
        let mut left: Vec<_> = tapes.iter().map(|tape| frames(tape).into_iter()).collect();
        let mut all = Self::default();
        while !left.is_empty() {
            let from = rng.random_range(0..left.len());
            match left[from].next() {
                Some(frame) => all.push(&frame),
                None => drop(left.swap_remove(from)),
            }
        }
        all
    }
}

/// The frames that any bytes make.
#[must_use]
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>()
        && frames.len() < FRAMES_MAX
    {
        let [control, delay, len @ ..] = *header;
        let len = usize::from(u16::from_be_bytes(len)).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        frames.push(Frame {
            control,
            delay,
            payload: payload.into(),
        });
        bytes = rest;
    }
    frames
}

/// Calls `on_datagram` with each frame as it arrives.
pub fn play(frames: &[Frame], mut on_datagram: impl FnMut(&Frame, &Datagram<'_>)) {
    let mut received = RECEIVED;
    for frame in frames {
        received.0 = received.0.saturating_add(delay_ms(frame.delay) * 1_000_000);
        let datagram = Datagram {
            source: frame.source(),
            source_port: 50_000,
            local_port: 2055,
            received,
            payload: &frame.payload,
            cut: false,
        };
        on_datagram(frame, &datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_read_back_and_a_cut_tape_loses_its_end_only() {
        let frame = |control, payload: &[u8]| Frame {
            control,
            delay: 7,
            payload: payload.into(),
        };
        let two = [frame(5, b"first"), frame(3, b"second")];
        let tape = Tape::of(&two);
        assert_eq!(frames(&tape.0), two);
        assert!(two[0].is_for_second() && two[1].source().is_ipv6());
        let cut = frames(&tape.0[..tape.0.len() - 2]);
        assert_eq!(cut, [frame(5, b"first"), frame(3, b"seco")]);
    }
}
