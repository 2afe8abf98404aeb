//! IPFIX over TCP: how a stream is cut makes no difference, what is no stream of messages ends its
//! connection, and connections have nothing of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use flowsluice::config;
use flowsluice::flow::Flow;
use flowsluice::receive::tcp::{BUFFER_BYTES, Framing, StreamState};
use flowsluice::receive::{Datagram, Session};
use flowsluice::units::UnixNanos;

use super::Watched;
use super::decoding::assert_rows;
use crate::tape::{self, Frame};

/// In the control byte of a frame: the peer closes behind it.
pub const CLOSES_BIT: u8 = 16;
/// The bytes come so often that they fill a connection's buffer.
pub const REPEATED_BIT: u8 = 32;
const REPEATS: usize = 12;
/// Bytes of the streams of a source: more of them find nothing new.
const BYTES_MAX: usize = 256 << 10;

/// Reads the streams of a tape, each frame a piece of one of eight connections.
///
/// # Panics
/// When a property does not hold.
pub fn stream(input: &[u8]) {
    let frames = tape::frames(input);
    let all = received(&frames, |_| true);
    let sources: BTreeSet<_> = frames.iter().map(Frame::source).collect();
    for source in &sources {
        let alone = received(&frames, |other| other == source);
        let [expected, rows] = [&alone, &all].map(|flows| flows.get(source));
        let of_it = |flows: Option<&Vec<Flow>>| flows.cloned().unwrap_or_default();
        assert_rows(&of_it(expected), &of_it(rows), "beside other connections");
    }
}

/// One connection, and what came by it.
struct Connection {
    session: Session,
    framing: Framing,
    stream: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

/// What the connections of some sources come to, by source.
fn received(frames: &[Frame], is_one: impl Fn(&IpAddr) -> bool) -> BTreeMap<IpAddr, Vec<Flow>> {
    let shared = Arc::default();
    let mut watched = Watched::new(&config::Decode::default(), &shared).by_session();
    let mut open = BTreeMap::<(IpAddr, u16), Connection>::new();
    let (mut taken, mut flows) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
    tape::play(frames, |frame, datagram| {
        if !is_one(&datagram.source) {
            return;
        }
        let session = Session {
            source: datagram.source,
            source_port: datagram.source_port + u16::from(frame.is_for_second()),
        };
        let key = (session.source, session.source_port);
        let connection = open.entry(key).or_insert_with(|| Connection::new(session));
        let mut state = StreamState::Open;
        let repeats = if frame.control & REPEATED_BIT != 0 {
            REPEATS
        } else {
            1
        };
        for _ in 0..repeats {
            let taken: &mut usize = taken.entry(session.source).or_default();
            *taken += frame.payload.len();
            if *taken <= BYTES_MAX && state == StreamState::Open {
                let before = watched.rows.0.len();
                state = connection.read(&frame.payload, datagram.received, &mut watched);
                let new = watched.rows.0[before..].iter().copied();
                flows.entry(session.source).or_default().extend(new);
            }
        }
        if state == StreamState::Open && frame.control & CLOSES_BIT != 0 {
            state = connection.framing.end();
        }
        if state != StreamState::Open
            && let Some(connection) = open.remove(&key)
        {
            connection.check(state);
            watched.decoder.end_session(&session);
        }
    });
    for connection in open.into_values() {
        connection.check(connection.framing.end());
        watched.decoder.end_session(&connection.session);
    }
    assert!(shared.known().is_empty(), "state ends with its connection");
    watched.decoder.finish(&mut watched.counts);
    let counts = &watched.counts;
    let done = counts.sets_replayed + counts.sets_given_up;
    assert_eq!(counts.sets_held, done, "what waited was decoded or counted");
    flows
}

impl Connection {
    fn new(session: Session) -> Self {
        Self {
            session,
            framing: Framing::default(),
            stream: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// Takes a piece in as many reads as it needs, until there is something wrong.
    fn read(&mut self, piece: &[u8], received: UnixNanos, watched: &mut Watched) -> StreamState {
        let Self {
            session,
            framing,
            stream,
            messages,
        } = self;
        let mut rest = piece;
        while !rest.is_empty() {
            let (state, read) = read(framing, rest, rest.len(), |message| {
                messages.push(message.to_vec());
                watched.decode(&Datagram {
                    source: session.source,
                    source_port: session.source_port,
                    local_port: 4739,
                    received,
                    payload: message,
                    cut: false,
                });
            });
            stream.extend_from_slice(&rest[..read]);
            rest = &rest[read..];
            if state != StreamState::Open {
                return state;
            }
        }
        StreamState::Open
    }

    /// Its messages are those of the stream, and so is its end, however it is cut.
    fn check(&self, state: StreamState) {
        let (messages, expected) = expected(&self.stream);
        assert_eq!(self.messages, messages);
        assert_eq!(state, expected);
        let mut framing = Framing::default();
        let (mut rest, mut in_pieces) = (&self.stream[..], Vec::new());
        let (mut state, mut next) = (StreamState::Open, 1);
        while state == StreamState::Open && !rest.is_empty() {
            let (after, read) = read(&mut framing, rest, next, |message| {
                in_pieces.push(message.to_vec());
            });
            state = after;
            rest = &rest[read..];
            next = next % 7 + 1;
        }
        if state == StreamState::Open {
            state = framing.end();
        }
        assert_eq!(in_pieces, messages, "in pieces");
        assert_eq!(state, expected, "in pieces");
    }
}

/// One read of at most `max` bytes of `rest`; also says how many those were.
fn read(
    framing: &mut Framing,
    rest: &[u8],
    max: usize,
    on_message: impl FnMut(&[u8]),
) -> (StreamState, usize) {
    let room = framing.room();
    assert!(!room.is_empty(), "a read of nothing looks like the end");
    assert!(room.len() <= BUFFER_BYTES);
    let bytes = room.len().min(rest.len()).min(max);
    room[..bytes].copy_from_slice(&rest[..bytes]);
    let mut handed = 0;
    let mut on_message = on_message;
    let (messages, state) = framing.take(bytes, |message| {
        handed += 1;
        on_message(message);
    });
    assert_eq!(messages, handed);
    (state, bytes)
}

/// The messages of a whole stream, and how it ends (RFC 7011 section 3.1).
fn expected(mut stream: &[u8]) -> (Vec<Vec<u8>>, StreamState) {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let is_ipfix = stream.len() >= 4 && stream[..2] == [0, 10];
        let len = stream
            .get(2..4)
            .map(|len| usize::from(len[0]) << 8 | usize::from(len[1]));
        match len.filter(|len| is_ipfix && (16..=stream.len()).contains(len)) {
            Some(len) => {
                let (message, rest) = stream.split_at(len);
                messages.push(message.to_vec());
                stream = rest;
            }
            None => return (messages, StreamState::Malformed),
        }
    }
    (messages, StreamState::Ended)
}
