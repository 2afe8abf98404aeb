//! How to ask without waiting.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::hosts::Hash;
use crate::flow::Address;

/// Addresses of flows that wait for the task: a tenth of a second at 80,000 new ones a second.
const ENDPOINTS_MAX: usize = 8192;
/// Exporters that wait for it; they do not stand behind those.
const EXPORTERS_MAX: usize = 1024;
/// Addresses of which an asker remembers that it asked: a power of two, 64 KiB.
const SEEN: usize = 8192;

/// Bytes of what waits.
pub(super) const QUEUES_BYTES: usize = (ENDPOINTS_MAX + EXPORTERS_MAX) * 24;

/// The queues between the askers and the task.
#[derive(Debug)]
pub(super) struct Questions {
    pub exporters: ArrayQueue<Address>,
    pub endpoints: ArrayQueue<Address>,
    pub hash: Hash,
    /// What was asked in another one is asked again.
    pub generation: AtomicU32,
    refused: Mutex<Vec<Refused>>,
}

/// Questions of one asker that found no room; it alone writes.
type Refused = Arc<CachePadded<AtomicU64>>;

impl Questions {
    pub fn new() -> Self {
        Self {
            exporters: ArrayQueue::new(EXPORTERS_MAX),
            endpoints: ArrayQueue::new(ENDPOINTS_MAX),
            hash: Hash::random(),
            generation: AtomicU32::new(1),
            refused: Mutex::default(),
        }
    }

    /// Questions that found no room since the start.
    pub fn refused(&self) -> u64 {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().map(|one| one.load(Relaxed)).sum()
    }

    pub fn asker(self: &Arc<Self>) -> Asker {
        let mine = Refused::default();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push(Arc::clone(&mine));
        Asker(Some(Asking {
            questions: Arc::clone(self),
            seen: [0; SEEN].into(),
            refused: mine,
        }))
    }
}

/// Asks for names of addresses; one a thread. Nothing of it waits or allocates.
#[derive(Debug)]
pub struct Asker(Option<Asking>);

#[derive(Debug)]
struct Asking {
    questions: Arc<Questions>,
    /// The hash of an address without its lowest byte, where the generation stands. Two that meet
    /// in one place are asked for more often, which costs a look of the task.
    seen: Box<[u64; SEEN]>,
    refused: Refused,
}

impl Asker {
    /// One that asks nobody.
    #[must_use]
    pub const fn silent() -> Self {
        Self(None)
    }

    /// Asks for the name of an address of a flow, unless it just did. What the queue has no room
    /// for is counted, and asked again the next time.
    #[inline]
    pub fn ask(&mut self, address: Address) {
        if let Some(asking) = &mut self.0 {
            asking.ask(address, |questions| &questions.endpoints);
        }
    }

    /// The same for an exporter, before all addresses of flows.
    #[inline]
    pub fn ask_exporter(&mut self, address: Address) {
        if let Some(asking) = &mut self.0 {
            asking.ask(address, |questions| &questions.exporters);
        }
    }
}

impl Asking {
    #[inline]
    fn ask(&mut self, address: Address, queue: fn(&Questions) -> &ArrayQueue<Address>) {
        let questions = &*self.questions;
        let hash = questions.hash.of(address);
        let generation = questions.generation.load(Relaxed);
        let mark = hash & !0xff | u64::from(generation & 0xff);
        // Bits of the hash that `mark` keeps.
        let Some(seen) = self.seen.get_mut((hash >> 8) as usize % SEEN) else {
            return;
        };
        if *seen == mark {
            return;
        }
        if is_askable(address) && queue(questions).push(address).is_err() {
            let refused = self.refused.load(Relaxed);
            return self.refused.store(refused + 1, Relaxed);
        }
        *seen = mark;
    }
}

/// Has this address a name that anybody could know? Private ones have: operators run servers of
/// their own for them.
fn is_askable(address: Address) -> bool {
    match address.to_ip() {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            // 0/8 is this network, 240/4 reserved, with the broadcast (RFC 6890).
            first != 0
                && first < 240
                && !v4.is_loopback()
                && !v4.is_multicast()
                && !v4.is_documentation()
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            // 2001:db8::/32 (RFC 3849), 3fff::/20 (RFC 9637).
            let is_documentation =
                (first == 0x2001 && second == 0xdb8) || (first == 0x3fff && second < 0x1000);
            !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast() && !is_documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_address_is_asked_once_a_generation() {
        let questions = Arc::new(Questions::new());
        let mut asker = questions.asker();
        for _ in 0..3 {
            asker.ask(address("10.0.0.1"));
            asker.ask(address("10.0.0.2"));
        }
        assert_eq!(questions.endpoints.len(), 2);
        questions.generation.fetch_add(1, Relaxed);
        asker.ask(address("10.0.0.1"));
        assert_eq!(questions.endpoints.len(), 3);
    }

    #[test]
    fn a_full_queue_is_counted_and_holds_up_nobody() {
        let questions = Arc::new(Questions::new());
        let mut askers = [questions.asker(), questions.asker()];
        let all = 2 * ENDPOINTS_MAX as u32;
        for number in 0..all {
            let address = Address::from_v4((0x0a00_0000 + number).to_be_bytes());
            askers[number as usize % 2].ask(address);
        }
        assert_eq!(questions.endpoints.len(), ENDPOINTS_MAX);
        assert_eq!(questions.refused(), u64::from(all) - ENDPOINTS_MAX as u64);
        // Those of exporters have a queue of their own.
        askers[0].ask_exporter(address("10.255.0.1"));
        assert_eq!(questions.exporters.len(), 1);
        // What found no room is asked again.
        questions.endpoints.pop().unwrap();
        let last = Address::from_v4((0x0a00_0000 + all - 1).to_be_bytes());
        askers[1].ask(last);
        assert_eq!(questions.endpoints.len(), ENDPOINTS_MAX);
    }

    #[test]
    fn addresses_that_cannot_have_a_name_are_not_asked() {
        let asked = [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "169.254.1.1",
            "2001:4860::1",
            "fd00::1",
            "fe80::1",
        ];
        let not = [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.5",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "::",
            "::1",
            "ff02::1",
            "2001:db8::1",
            "3fff:fff::1",
        ];
        for text in asked {
            assert!(is_askable(address(text)), "{text}");
        }
        for text in not {
            assert!(!is_askable(address(text)), "{text}");
        }
    }

    #[test]
    fn a_silent_asker_asks_nobody() {
        Asker::silent().ask(address("10.0.0.1"));
    }
}
