//! Forwards datagrams to other collectors, as they came.
//!
//! In: datagrams of all workers' sockets. Out: the same bytes to each target of `receive.tee` whose
//! exporters they are of. Owner: a thread of its own; workers hand copies over in bounded lock-free
//! queues whose buffers are allocated at start, and wait for nothing. A copy that finds no room is
//! counted, and so is one that the kernel does not send. Without a target there is neither thread
//! nor queue.

mod outlet;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::Datagram;
use super::allow::Allowed;
use crate::config;

use outlet::Outlet;

/// Most targets: each is a bit of a copy.
pub const TEES_MAX: usize = 16;
/// Copies that wait at most: a tenth of a second of 40,000 datagrams.
const PARCELS: usize = 4096;
/// Bytes that a copy has room for from the start; a longer one makes room once.
const PARCEL_BYTES: usize = 2048;
/// Copies that are sent by one system call a target.
const BURST: usize = 64;
/// How long the thread sleeps when nothing waits: nobody wakes it, which would cost workers time.
const NAP: Duration = Duration::from_millis(2);

/// Memory of the copies while datagrams are of ordinary length, in bytes.
pub const MEMORY_BYTES: usize = PARCELS * PARCEL_BYTES;

/// A copy of a datagram on its way.
#[derive(Debug)]
struct Parcel {
    /// A bit a target.
    targets: u16,
    source: SocketAddr,
    payload: Vec<u8>,
}

/// What became of copies for one target.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    backlog: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Target {
    to: String,
    exporters: Allowed,
    counts: CachePadded<Counts>,
}

/// What workers and the thread have in common.
#[derive(Debug)]
struct Exchange {
    targets: Box<[Target]>,
    filled: ArrayQueue<Parcel>,
    /// With those in `filled` and those in hand always [`PARCELS`].
    empty: ArrayQueue<Parcel>,
    has_stopped: AtomicBool,
}

/// A worker's part: where it hands datagrams over.
#[derive(Clone, Debug)]
pub struct Tee(Arc<Exchange>);

/// What became of the copies for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeeFacts {
    /// As the configuration names it.
    pub to: String,
    /// Handed to the kernel.
    pub sent: u64,
    /// Lost here because too many waited.
    pub dropped_backlog: u64,
    /// Not sent: no address, no route, nobody listens, too long for the way.
    pub dropped_refused: u64,
}

impl Tee {
    /// What became of copies so far, by target.
    #[must_use]
    pub fn facts(&self) -> Vec<TeeFacts> {
        let fact = |target: &Target| TeeFacts {
            to: target.to.clone(),
            sent: target.counts.sent.load(Ordering::Relaxed),
            dropped_backlog: target.counts.backlog.load(Ordering::Relaxed),
            dropped_refused: target.counts.refused.load(Ordering::Relaxed),
        };
        self.0.targets.iter().map(fact).collect()
    }

    /// Hands a copy of `datagram` over to whom it is for. One that the kernel cut is for nobody.
    #[inline(never)]
    pub fn offer(&self, datagram: &Datagram<'_>) {
        let Exchange {
            targets,
            filled,
            empty,
            ..
        } = &*self.0;
        let mut wanted = 0;
        for (index, target) in targets.iter().enumerate() {
            let is_for = target.exporters.contains(datagram.source);
            wanted |= u16::from(is_for) << index;
        }
        if wanted == 0 || datagram.cut {
            return;
        }
        if let Some(mut parcel) = empty.pop() {
            parcel.targets = wanted;
            parcel.source = SocketAddr::new(datagram.source, datagram.source_port);
            parcel.payload.clear();
            parcel.payload.extend_from_slice(datagram.payload);
            let pushed = filled.push(parcel);
            debug_assert!(pushed.is_ok(), "there are as many places as parcels");
            return;
        }
        for target in marked(targets, wanted) {
            target.counts.backlog.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn marked(targets: &[Target], bits: u16) -> impl Iterator<Item = &Target> {
    let targets = targets.iter().enumerate();
    targets
        .filter(move |(index, _)| bits & 1 << index != 0)
        .map(|(_, target)| target)
}

/// The thread that sends.
#[derive(Debug)]
pub struct Forwarding {
    tee: Tee,
    thread: JoinHandle<()>,
}

impl Forwarding {
    /// Starts it for `config.tee`; `None` when nothing is to be forwarded. Sockets that need
    /// capabilities are opened by the calling thread; `on_start` is called in the new one.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        config: &config::Receive,
        on_start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Option<Self>> {
        if config.tee.is_empty() {
            return Ok(None);
        }
        let target = |tee: &config::Tee| Target {
            to: tee.to.clone(),
            exporters: Allowed::new(&tee.exporters),
            counts: CachePadded::default(),
        };
        let exchange = Exchange {
            targets: config.tee.iter().map(target).collect(),
            filled: ArrayQueue::new(PARCELS),
            empty: ArrayQueue::new(PARCELS),
            has_stopped: AtomicBool::new(false),
        };
        for _ in 0..PARCELS {
            let parcel = Parcel {
                targets: 0,
                source: SocketAddr::from(([0; 4], 0)),
                payload: Vec::with_capacity(PARCEL_BYTES),
            };
            exchange.empty.push(parcel).expect("it is as long as that");
        }
        let tee = Tee(Arc::new(exchange));
        let outlets: Vec<Outlet> = config.tee.iter().map(Outlet::open).collect();
        let exchange = Arc::clone(&tee.0);
        let thread = thread::Builder::new().name("tee".into()).spawn(move || {
            on_start();
            forward(&exchange, outlets);
        })?;
        Ok(Some(Self { tee, thread }))
    }

    /// For a worker, or whoever asks what became of copies.
    #[must_use]
    pub fn tee(&self) -> Tee {
        self.tee.clone()
    }

    /// Sends what waits and ends; the workers have ended before.
    pub fn stop(self) {
        self.tee.0.has_stopped.store(true, Ordering::Release);
        // One that panicked has ended the process (panic = "abort").
        let _ = self.thread.join();
    }
}

fn forward(exchange: &Exchange, mut outlets: Vec<Outlet>) {
    let mut burst = Vec::with_capacity(BURST);
    loop {
        // Before the look: what was handed over before the stop is still found.
        let is_last = exchange.has_stopped.load(Ordering::Acquire);
        burst.extend(std::iter::from_fn(|| exchange.filled.pop()).take(BURST));
        if burst.is_empty() {
            if is_last {
                return;
            }
            thread::sleep(NAP);
            continue;
        }
        for (index, outlet) in outlets.iter_mut().enumerate() {
            let own = burst
                .iter()
                .filter(|parcel| parcel.targets & 1 << index != 0);
            let copies: Vec<(SocketAddr, &[u8])> = own
                .map(|parcel| (parcel.source, &parcel.payload[..]))
                .collect();
            let sent = outlet.send(&copies);
            let counts = &exchange.targets[index].counts;
            counts.sent.fetch_add(sent as u64, Ordering::Relaxed);
            let refused = copies.len() - sent;
            counts.refused.fetch_add(refused as u64, Ordering::Relaxed);
        }
        for parcel in burst.drain(..) {
            let pushed = exchange.empty.push(parcel);
            debug_assert!(pushed.is_ok(), "there are as many places as parcels");
        }
    }
}

#[cfg(test)]
mod tests;
