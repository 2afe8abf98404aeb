//! Capture files: every packet is accounted for, and how the file comes in pieces does not matter.

use std::io::{self, Read};
use std::path::Path;

use flowsluice::receive::Datagram;
use flowsluice::receive::replay::{self, CaptureCounts, CaptureError};

/// Reads a file.
///
/// # Panics
/// When a property does not hold.
pub fn pcap(input: &[u8]) {
    if !input
        .first_chunk::<4>()
        .is_some_and(|magic| replay::packets::is_capture(magic))
    {
        return;
    }
    let at_once = read(input);
    let in_pieces = read(Pieces {
        rest: input,
        next: 1,
    });
    assert_eq!(at_once, in_pieces, "in pieces");
    let (counts, datagrams, _) = at_once;
    let parts = [
        counts.datagrams,
        counts.not_udp,
        counts.unreadable,
        counts.link_unknown,
        counts.fragments,
    ];
    let sum: u64 = parts.iter().sum();
    assert_eq!(counts.packets + counts.reassembled, sum, "{counts:?}");
    assert_eq!(counts.datagrams, datagrams.len() as u64);
    assert!(counts.truncated <= counts.datagrams);
    assert!(counts.fragments_unfinished <= counts.fragments);
    // A packet's header takes more than that.
    assert!(counts.packets <= input.len() as u64 / 8);
}

/// What came of a file: counters, each datagram, and the error if there was one.
type Outcome = (CaptureCounts, Vec<Came>, Option<String>);

/// A datagram as it came.
type Came = (std::net::IpAddr, [u16; 2], u64, Vec<u8>, bool);

fn read(source: impl Read) -> Outcome {
    let mut counts = CaptureCounts::default();
    let mut datagrams = Vec::new();
    let mut keep = |datagram: &Datagram<'_>| {
        datagrams.push((
            datagram.source,
            [datagram.source_port, datagram.local_port],
            datagram.received.0,
            datagram.payload.to_vec(),
            datagram.cut,
        ));
    };
    let outcome = replay::read(Path::new("input"), source, &mut counts, &mut keep);
    let error = outcome.err().map(|error: CaptureError| error.to_string());
    (counts, datagrams, error)
}

/// Hands out one byte, then two, and so on up to seven, and begins again.
struct Pieces<'a> {
    rest: &'a [u8],
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.next.min(self.rest.len()).min(into.len());
        let (piece, rest) = self.rest.split_at(len);
        into[..len].copy_from_slice(piece);
        self.rest = rest;
        self.next = self.next % 7 + 1;
        Ok(len)
    }
}
