//! Puts fragmented datagrams together again.

use collector_ebpf::Ip;
use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};
use hashbrown::HashMap;

use crate::units::UnixNanos;

/// Datagrams that wait for fragments at once; the oldest gives way.
pub const FRAGMENTED_DATAGRAMS_MAX: usize = 1024;

/// Bytes of fragments that wait at once; the oldest datagrams give way.
pub const FRAGMENT_BYTES_MAX: usize = 16 << 20;

/// Fragments kept of one datagram: 65,535 bytes in pieces of the smallest MTU of IPv4 (RFC 791:
/// 68 octets, 48 of them data). More are duplicates, and the datagram is given up.
pub const FRAGMENTS_A_DATAGRAM_MAX: u64 = 1366;

//= https://www.rfc-editor.org/rfc/rfc8200#section-4.5
//# If insufficient fragments are received to complete reassembly
//# of a packet within 60 seconds of the reception of the first-
//# arriving fragment of that packet, reassembly of that packet
//# must be abandoned
const WAIT_MAX: u64 = 60_000_000_000;

/// Buffers kept for the next datagrams.
const SPARE_BUFFERS_MAX: usize = 8;

/// One fragment with its IP header.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The header, which says where the piece belongs.
    pub ip: &'a Ip,
    /// The fragment's data.
    pub data: &'a [u8],
    /// When it was captured.
    pub received: UnixNanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: [u8; 16],
    dst: [u8; 16],
    id: u32,
    protocol: u8,
    version: u8,
}

#[derive(Debug)]
struct Waiting {
    buffer: IpDefragBuf,
    first: UnixNanos,
    fragments: u64,
    /// Bytes that it counts for: the highest end seen, which is what the buffer holds.
    bytes: usize,
    /// Tells which one came first when the clock does not.
    order: u64,
}

/// Datagrams of which some fragments are still missing.
#[derive(Debug, Default)]
pub struct Fragments {
    waiting: HashMap<Key, Waiting>,
    bytes: usize,
    order: u64,
    spare: Vec<Vec<u8>>,
}

impl Fragments {
    /// Takes a fragment. Returns the datagram when it was the last one missing, and the number of
    /// fragments that were given up for it: too old, in the way, or contradicting each other.
    pub fn add(&mut self, piece: &Piece<'_>) -> (Option<Vec<u8>>, u64) {
        let Piece { ip, data, received } = *piece;
        let key = Key {
            src: ip.src,
            dst: ip.dst,
            id: ip.fragment.id,
            // RFC 791 tells datagrams apart by protocol too, RFC 8200 does not: only the first
            // fragment's next header is meant to count.
            protocol: match ip.version {
                4 => ip.fragment.protocol,
                _ => 0,
            },
            version: ip.version,
        };
        let mut abandoned = 0;
        if let Some(waiting) = self.waiting.get(&key)
            && received.0.saturating_sub(waiting.first.0) > WAIT_MAX
        {
            abandoned += self.give_up(&key);
        }
        if !self.waiting.contains_key(&key) {
            if self.waiting.len() >= FRAGMENTED_DATAGRAMS_MAX {
                abandoned += self.give_up_oldest();
            }
            self.begin(key, received);
        }
        let Some(waiting) = self.waiting.get_mut(&key) else {
            unreachable!("it waits, or was begun above");
        };
        waiting.fragments += 1;
        let end = usize::from(ip.fragment.offset) * 8 + data.len();
        let fits = IpFragOffset::try_new(ip.fragment.offset)
            .is_ok_and(|at| waiting.buffer.add(at, ip.fragment.more, data).is_ok());
        if !fits || waiting.fragments > FRAGMENTS_A_DATAGRAM_MAX {
            return (None, abandoned + self.give_up(&key));
        }
        self.bytes += end.saturating_sub(waiting.bytes);
        waiting.bytes = waiting.bytes.max(end);
        if waiting.buffer.is_complete() {
            return (self.take(&key), abandoned);
        }
        while self.bytes > FRAGMENT_BYTES_MAX {
            abandoned += self.give_up_oldest();
        }
        (None, abandoned)
    }

    /// Takes a datagram's buffer back for the next one.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.push(buffer);
        }
    }

    /// Ends: the number of fragments whose datagram never became whole.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.waiting.values().map(|w| w.fragments).sum()
    }

    fn begin(&mut self, key: Key, received: UnixNanos) {
        let buffer = self.spare.pop().unwrap_or_default();
        self.order += 1;
        self.waiting.insert(
            key,
            Waiting {
                buffer: IpDefragBuf::new(IpNumber::UDP, buffer, Vec::new()),
                first: received,
                fragments: 0,
                bytes: 0,
                order: self.order,
            },
        );
    }

    fn take(&mut self, key: &Key) -> Option<Vec<u8>> {
        let waiting = self.waiting.remove(key)?;
        self.bytes -= waiting.bytes;
        Some(waiting.buffer.take_bufs().0)
    }

    fn give_up(&mut self, key: &Key) -> u64 {
        let Some(waiting) = self.waiting.remove(key) else {
            return 0;
        };
        self.bytes -= waiting.bytes;
        self.give_back(waiting.buffer.take_bufs().0);
        waiting.fragments
    }

    /// Looks at all of them: it happens only when the bounds are reached.
    fn give_up_oldest(&mut self) -> u64 {
        let oldest = self.waiting.iter().min_by_key(|(_, w)| w.order);
        let Some(key) = oldest.map(|(key, _)| *key) else {
            return 0;
        };
        self.give_up(&key)
    }
}
