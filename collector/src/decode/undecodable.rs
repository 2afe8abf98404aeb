//! The last datagrams that nothing could be made of, for whoever wants to know why.
//!
//! In: a datagram as it is dropped, copied then and only then. Out: `/debug/undecodable.pcap`.
//! Bounded in bytes, the oldest go. A worker that finds the list in use keeps nothing and goes on;
//! the first one that keeps something makes the room, and from then on nobody allocates.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;

use super::shared::lock;
use crate::generate::capture::Capture;
use crate::ledger::DropReason;
use crate::receive::{Datagram, packet};
use crate::units::UnixNanos;

/// Memory of them once there was one, in bytes.
pub const MEMORY_BYTES: usize = BYTES_MAX + BYTES_MAX / AROUND_BYTES * size_of::<Dropped>();
/// Bytes of the datagrams that are kept, each with [`AROUND_BYTES`].
const BYTES_MAX: usize = 1 << 20;
/// What a datagram takes beside its payload.
const AROUND_BYTES: usize = 128;

/// The datagrams, the oldest first.
#[derive(Debug, Default)]
pub struct Undecodable(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    datagrams: VecDeque<Dropped>,
    /// Of all datagrams, one after the other.
    payloads: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Dropped {
    received: UnixNanos,
    source: SocketAddr,
    local_port: u16,
    /// Bytes of its payload.
    len: usize,
}

impl Undecodable {
    /// Keeps a copy of `datagram`, where `reason` says that its bytes are to blame.
    #[cold]
    #[inline(never)]
    pub fn keep(&self, datagram: &Datagram<'_>, reason: DropReason) {
        let is_to_blame = matches!(
            reason,
            DropReason::DatagramCut
                | DropReason::DatagramTruncated
                | DropReason::VersionUnknown
                | DropReason::HeaderMalformed
        );
        if !is_to_blame {
            return;
        }
        if let Ok(mut kept) = self.0.try_lock() {
            kept.keep(datagram);
        }
    }

    /// A capture of them. The address that a datagram came to is not known: it is written as
    /// 0.0.0.0 or `::`, with the right port.
    #[must_use]
    pub fn pcap(&self) -> Vec<u8> {
        let (datagrams, payloads) = {
            let kept = lock(&self.0);
            (kept.datagrams.clone(), kept.payloads.clone())
        };
        written(&datagrams, &Vec::from(payloads)).expect("memory takes what is written")
    }
}

impl Kept {
    fn keep(&mut self, datagram: &Datagram<'_>) {
        if self.payloads.capacity() == 0 {
            self.payloads.reserve_exact(BYTES_MAX);
            self.datagrams.reserve_exact(BYTES_MAX / AROUND_BYTES);
        }
        let len = datagram.payload.len();
        while self.bytes() + len + AROUND_BYTES > BYTES_MAX
            && let Some(oldest) = self.datagrams.pop_front()
        {
            self.payloads.drain(..oldest.len);
        }
        self.payloads.extend(datagram.payload);
        self.datagrams.push_back(Dropped {
            received: datagram.received,
            source: SocketAddr::new(datagram.source, datagram.source_port),
            local_port: datagram.local_port,
            len,
        });
    }

    fn bytes(&self) -> usize {
        self.payloads.len() + AROUND_BYTES * self.datagrams.len()
    }
}

fn written(datagrams: &VecDeque<Dropped>, mut payloads: &[u8]) -> io::Result<Vec<u8>> {
    let mut capture = Capture::of_packets(Vec::new())?;
    let mut built = Vec::new();
    for dropped in datagrams {
        let Some((payload, rest)) = payloads.split_at_checked(dropped.len) else {
            break;
        };
        payloads = rest;
        let any: IpAddr = match dropped.source {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let to = SocketAddr::new(any, dropped.local_port);
        built.clear();
        if packet::write(dropped.source, to, payload, &mut built) {
            capture.packet(dropped.received, &built)?;
        }
    }
    capture.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            source: "2001:db8::1".parse().unwrap(),
            source_port: 5000,
            local_port: 2055,
            received: UnixNanos(1_700_000_000_000_000_000),
            payload,
            cut: false,
        }
    }

    #[test]
    fn the_last_ones_are_kept_within_the_bound() {
        let undecodable = Undecodable::default();
        for number in 0..2000_u16 {
            let mut payload = vec![0; 1000];
            payload[..2].copy_from_slice(&number.to_be_bytes());
            undecodable.keep(&datagram(&payload), DropReason::VersionUnknown);
        }
        let kept = undecodable.0.lock().unwrap();
        assert!(kept.bytes() <= BYTES_MAX && kept.bytes() > BYTES_MAX - 2000);
        assert_eq!(kept.datagrams.len(), BYTES_MAX / (1000 + AROUND_BYTES));
        let mut latest = kept.payloads.range(kept.payloads.len() - 1000..);
        let number = [(); 2].map(|()| *latest.next().unwrap());
        assert_eq!(number, 1999_u16.to_be_bytes());
    }

    #[test]
    fn what_was_dropped_for_another_reason_than_its_bytes_is_not_kept() {
        let undecodable = Undecodable::default();
        for reason in [DropReason::ExporterNotAllowed, DropReason::ProtocolDisabled] {
            undecodable.keep(&datagram(b"x"), reason);
        }
        assert_eq!(undecodable.pcap().len(), 24, "the header of the file");
        undecodable.keep(&datagram(b"x"), DropReason::DatagramTruncated);
        assert_eq!(undecodable.pcap().len(), 24 + 16 + 40 + 8 + 1);
    }
}
