//! Messages in a byte stream.
//!
//! In: what a connection brings, cut anywhere. Out: each whole message, by callback, borrowed from
//! the one buffer, whose size is fixed. Owner: one connection. Spec: RFC 7011 section 3.1.

/// A message has at most 65,535 bytes; with one more, a buffer without a whole one has room.
pub const BUFFER_BYTES: usize = 65_536;

/// What a stream is after some of it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// More may come.
    Open,
    /// Ended between two messages.
    Ended,
    /// What came is no IPFIX, or ended within a message.
    Malformed,
}

/// The part of a stream that is no whole message yet.
#[derive(Debug)]
pub struct Framing {
    /// What arrived of the message stands at the beginning.
    buffer: Box<[u8]>,
    filled: usize,
}

impl Default for Framing {
    /// Of a stream that begins.
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into(),
            filled: 0,
        }
    }
}

impl Framing {
    /// Where to read to; never empty while the stream is open.
    #[must_use]
    pub fn room(&mut self) -> &mut [u8] {
        // A message that is not whole leaves room: the buffer is longer than any of them.
        &mut self.buffer[self.filled..]
    }

    /// Takes `bytes` that were read into [`Framing::room`], hands over the messages that are whole
    /// now, and keeps what is left. Returns how many those were, and what the stream is; one that
    /// is malformed must not be read any more.
    ///
    /// # Panics
    /// When there are more than there was room for.
    pub fn take(
        &mut self,
        bytes: usize,
        mut on_message: impl FnMut(&[u8]),
    ) -> (usize, StreamState) {
        self.filled += bytes;
        let (mut at, mut messages) = (0, 0);
        let state = loop {
            let rest = &self.buffer[at..self.filled];
            match message_len(rest) {
                Length::Known(len) if len <= rest.len() => {
                    on_message(&rest[..len]);
                    at += len;
                    messages += 1;
                }
                Length::Known(_) | Length::Unknown => break StreamState::Open,
                Length::Impossible => break StreamState::Malformed,
            }
        };
        if at > 0 {
            self.buffer.copy_within(at..self.filled, 0);
            self.filled -= at;
        }
        (messages, state)
    }

    /// What the stream is when nothing more comes.
    #[must_use]
    pub const fn end(&self) -> StreamState {
        match self.filled {
            0 => StreamState::Ended,
            _ => StreamState::Malformed,
        }
    }
}

/// How long a message is by its header.
enum Length {
    Known(usize),
    /// Too little of the header is there.
    Unknown,
    /// This is no IPFIX message.
    Impossible,
}

/// RFC 7011 section 3.1: the version, then the length with the header.
fn message_len(bytes: &[u8]) -> Length {
    const VERSION: [u8; 2] = [0, 10];
    const HEADER_BYTES: u16 = 16;
    match *bytes {
        [v0, v1, high, low, ..] if [v0, v1] == VERSION => match u16::from_be_bytes([high, low]) {
            len @ HEADER_BYTES.. => Length::Known(len.into()),
            _ => Length::Impossible,
        },
        [v0, v1, ..] if [v0, v1] != VERSION => Length::Impossible,
        [v0] if v0 != VERSION[0] => Length::Impossible,
        _ => Length::Unknown,
    }
}
