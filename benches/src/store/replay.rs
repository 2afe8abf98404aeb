//! Datagrams from memory for a worker that runs as it does on sockets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flowsluice::config;
use flowsluice::ledger::StoreCounts;
use flowsluice::receive::{Datagram, Receive};
use flowsluice::units::UnixNanos;

use crate::streams::Data;

/// How often a replay that waits looks whether the store has room again.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// Hands out the datagrams of a stream again and again, in bursts of `receive.burst` with one clock
/// reading each, until so many flows are out; then it sets `stop`.
///
/// A socket cannot wait, a replay can: it holds the next burst back until the worker's batches have
/// room for it, so that the worker never drops a flow as `store_backlog`.
pub struct Replay<'a> {
    data: Data<'a>,
    next: usize,
    burst: usize,
    flows_out: u64,
    flows_wanted: u64,
    /// Rows that all batches of the worker hold together.
    rows_max: u64,
    /// Most flows of a burst.
    burst_flows_max: u64,
    store: Arc<StoreCounts>,
    stop: &'a AtomicBool,
}

impl<'a> Replay<'a> {
    /// Hands out `flows_wanted` flows or the rest of a burst more.
    #[must_use]
    pub fn new(
        data: Data<'a>,
        flows_wanted: u64,
        batch: &config::Batch,
        store: Arc<StoreCounts>,
        stop: &'a AtomicBool,
    ) -> Self {
        let burst = config::Receive::default().burst;
        let flows_max = (0..data.len()).map(|index| data.flows_of(index)).max();
        Self {
            data,
            next: 0,
            burst,
            flows_out: 0,
            flows_wanted,
            rows_max: (batch.rows_max * batch.per_worker) as u64,
            burst_flows_max: flows_max.unwrap_or(0) * burst as u64,
            store,
            stop,
        }
    }

    /// Batches are handed over full, so whatever is out and not stored fills them without a gap.
    fn has_room(&self) -> bool {
        let stored = self.store.flows_stored.load(Ordering::Acquire);
        self.flows_out - stored + self.burst_flows_max <= self.rows_max
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
            on_datagram(&self.data.get(self.next, received));
            self.flows_out += self.data.flows_of(self.next);
            self.next = (self.next + 1) % self.data.len();
        }
        Ok(())
    }

    fn kernel_drops(&mut self) -> u64 {
        0
    }
}
