//! The loop: receive, decode, batch, hand over.
//!
//! In: datagrams of this worker's own sockets. Out: sealed batches to the store. Owner: one pinned
//! thread; nothing here allocates, locks or waits for another thread, and the clock is read once a
//! turn. What cannot be kept is counted and the next datagram is taken: UDP cannot be pushed back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::batch::Batcher;
use crate::decode::{Decoder, FlowSink};
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts, WorkerLedger};
use crate::receive::{Datagram, Receive};
use crate::units::UnixNanos;

/// Longest wait for a datagram: how late a batch is sealed by age, and a stop noticed.
const TURN_MAX: Duration = Duration::from_millis(100);
/// How often the kernel is asked for its drops: one system call a socket.
const KERNEL_DROPS_EVERY_NS: u64 = 1_000_000_000;
/// How long a stopping worker goes on taking what its sockets still hold. With full buffers of
/// 32 MiB and 1.4 kB a datagram that is 24,000 datagrams a socket.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// One worker: its stages and its counters.
pub struct Worker<R> {
    receiver: R,
    decoder: Decoder,
    rows: Rows,
    ledger: WorkerLedger,
    /// What the receiver and the decoder count.
    counts: WorkerCounts,
    kernel_drops_read: UnixNanos,
}

/// Where decoded flows go. It counts apart from the decoder, which is calling it.
struct Rows {
    batcher: Batcher,
    /// When the datagram being decoded arrived: the age of a batch begins with its first row.
    received: UnixNanos,
    counts: WorkerCounts,
}

impl FlowSink for Rows {
    #[inline]
    fn flows(&mut self, flows: &mut [Flow]) {
        let received_ms = self.received.millis();
        for flow in &mut *flows {
            self.counts.clocks_corrected += u64::from(flow.settle_clock(received_ms));
        }
        self.batcher.add(flows, self.received, &mut self.counts);
    }
}

impl<R: Receive> Worker<R> {
    /// Puts the stages together; everything they need is allocated already.
    pub fn new(receiver: R, decoder: Decoder, batcher: Batcher, ledger: WorkerLedger) -> Self {
        Self {
            receiver,
            decoder,
            rows: Rows {
                batcher,
                received: UnixNanos::default(),
                counts: WorkerCounts::default(),
            },
            ledger,
            counts: WorkerCounts::default(),
            kernel_drops_read: UnixNanos::default(),
        }
    }

    /// Turns until `stop`, then takes what the sockets still hold and hands over the last batch.
    ///
    /// # Errors
    /// When the sockets cannot be read any more. What was taken before is handed over all the same.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut outcome = Ok(());
        while outcome.is_ok() && !stop.load(Ordering::Relaxed) {
            outcome = self.turn(TURN_MAX);
        }
        if outcome.is_ok() {
            outcome = self.drain();
        }
        self.rows.batcher.finish(&mut self.rows.counts);
        self.counts.datagrams_dropped_by_kernel = self.receiver.kernel_drops();
        self.publish();
        outcome
    }

    /// One burst, from the sockets to the batch, and what is due by the clock.
    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        let Self {
            receiver,
            decoder,
            rows,
            counts,
            ..
        } = self;
        let outcome = receiver.receive(timeout, &mut |datagram: &Datagram<'_>| {
            rows.received = datagram.received;
            decoder.decode(datagram, counts, rows);
        });
        count_malformed(counts, receiver.frames_malformed());
        decoder.turn();
        let now = UnixNanos::now();
        rows.batcher.turn(now, &mut rows.counts);
        if now.0.saturating_sub(self.kernel_drops_read.0) >= KERNEL_DROPS_EVERY_NS {
            self.counts.datagrams_dropped_by_kernel = self.receiver.kernel_drops();
            self.kernel_drops_read = now;
        }
        self.publish();
        outcome
    }

    fn publish(&mut self) {
        let mut counts = self.counts;
        counts.add(&self.rows.counts);
        self.ledger.publish(&counts);
    }

    /// Takes what the sockets still hold, so that a stop loses nothing that the kernel accepted.
    fn drain(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.counts.datagrams_received;
            self.turn(Duration::ZERO)?;
            let empty = self.counts.datagrams_received == before;
            if empty || begun.elapsed() >= DRAIN_MAX {
                return Ok(());
            }
        }
    }
}

/// Counts the frames that the receiver could not hand over, `total` of them so far: they arrived,
/// and the ledger says what became of them.
fn count_malformed(counts: &mut WorkerCounts, total: u64) {
    let new = total - counts.dropped(DropReason::FrameMalformed);
    counts.datagrams_received += new;
    counts.drop_many(DropReason::FrameMalformed, new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn malformed_frames_are_received_and_dropped_once_each() {
        let mut counts = WorkerCounts::default();
        for total in [0, 3, 3, 5] {
            count_malformed(&mut counts, total);
        }
        assert_eq!(counts.datagrams_received, 5);
        assert_eq!(counts.dropped(DropReason::FrameMalformed), 5);
        let ledger = Ledger::new(1);
        ledger.worker(0).publish(&counts);
        assert_eq!(ledger.snapshot().unaccounted(), 0);
    }
}
