//! Datagrams from memory for a worker that runs as it does on sockets.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flowsluice::batch::BATCH_ROWS;
use flowsluice::config;
use flowsluice::receive::{Datagram, Receive};
use flowsluice::store::Backlog;
use flowsluice::units::UnixNanos;

use crate::streams::Stream;

/// How often a replay that waits looks whether the store has room again.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// Hands out the datagrams of a stream again and again, in bursts of `receive.burst` with one clock
/// reading each, until so many flows are out; then it sets `stop`. Sequence numbers go on from pass
/// to pass, as exporters' do.
///
/// A socket cannot wait, a replay can: it holds the next burst back until the worker's batches have
/// room for it, so that the worker never drops a flow as `store_backlog`.
pub struct Replay<'a> {
    stream: Stream,
    next: usize,
    burst: usize,
    flows_out: u64,
    flows_wanted: u64,
    /// Sealed batches that may wait, so that there are enough empty ones for a burst.
    backlog_max: usize,
    backlog: Backlog,
    stop: &'a AtomicBool,
}

impl<'a> Replay<'a> {
    /// Hands out `flows_wanted` flows or the rest of a burst more.
    #[must_use]
    pub fn new(
        stream: Stream,
        flows_wanted: u64,
        batch: &config::Batch,
        backlog: Backlog,
        stop: &'a AtomicBool,
    ) -> Self {
        let burst = config::Receive::default().burst;
        let data = stream.data();
        let flows_max = (0..data.len()).map(|index| data.flows_of(index)).max();
        let burst_flows_max = flows_max.unwrap_or(0) as usize * burst;
        let batches_of_a_burst = burst_flows_max.div_ceil(BATCH_ROWS);
        Self {
            stream,
            next: 0,
            burst,
            flows_out: 0,
            flows_wanted,
            // One more is being filled, and one being encoded.
            backlog_max: batch.per_worker - 2 - batches_of_a_burst,
            backlog,
            stop,
        }
    }

    fn has_room(&self) -> bool {
        self.backlog.batches() <= self.backlog_max
    }
}

impl Receive for Replay<'_> {
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        if self.flows_out >= self.flows_wanted {
            self.stop.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let begun = Instant::now();
        while !self.has_room() {
            if begun.elapsed() >= timeout {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        let received = UnixNanos::now();
        for _ in 0..self.burst {
            let data = self.stream.data();
            on_datagram(&data.get(self.next, received));
            self.flows_out += data.flows_of(self.next);
            self.next += 1;
            if self.next == data.len() {
                self.next = 0;
                self.stream.go_on();
            }
        }
        Ok(())
    }

    fn kernel_drops(&mut self) -> u64 {
        0
    }
}
