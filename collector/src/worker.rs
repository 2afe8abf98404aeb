//! The loop: receive, decode, enrich, batch, hand over.
//!
//! In: datagrams of this worker's own sockets, and those that an overloaded worker hands over.
//! Out: sealed batches to the store. Owner: one pinned thread; nothing here allocates, locks or
//! waits for another thread (but [`Sharing::take_back`], hardly ever), and the clock is read once a
//! turn. What cannot be kept is counted and the next datagram is taken: UDP cannot be pushed back.

pub mod sharing;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::batch::Batcher;
use crate::decode::{Decoder, ExtraRows, FlowSink, Teaching};
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts, WorkerLedger};
use crate::receive::limit::Limiting;
use crate::receive::tee::Tee;
use crate::receive::{Connections, Datagram, Receive};
use crate::units::UnixNanos;

use sharing::Sharing;

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
    stages: Stages,
    /// `None` for a worker that is alone.
    sharing: Option<Sharing>,
    /// `None` where nobody can be limited.
    limit: Option<Limiting>,
    /// `None` where nothing is forwarded.
    tee: Option<Tee>,
    ledger: WorkerLedger,
    kernel_drops_read: UnixNanos,
    /// What the receiver said of connections the last time.
    connections: Connections,
}

/// What a datagram goes through once it is received.
struct Stages {
    decoder: Decoder,
    rows: Rows,
    /// What the receiver and the decoder count.
    counts: WorkerCounts,
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
        self.settle_clocks(flows);
        self.batcher.add(flows, self.received, &mut self.counts);
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        self.settle_clocks(flows);
        let Self {
            batcher,
            received,
            counts,
        } = self;
        batcher.add_with(flows, extra, *received, counts);
    }
}

impl Rows {
    #[inline]
    fn settle_clocks(&mut self, flows: &mut [Flow]) {
        let received_ms = self.received.millis();
        for flow in flows {
            self.counts.clocks_corrected += u64::from(flow.settle_clock(received_ms));
        }
    }
}

impl Stages {
    /// From a datagram to rows in a batch.
    #[inline(always)]
    fn take(&mut self, datagram: &Datagram<'_>) {
        self.rows.received = datagram.received;
        self.decoder
            .decode(datagram, &mut self.counts, &mut self.rows);
    }

    /// The same for one that another worker received, and may just have learned the template of.
    #[inline(never)]
    fn take_over(&mut self, datagram: &Datagram<'_>) {
        self.counts.datagrams_taken_over += 1;
        self.decoder.take_over();
        self.take(datagram);
    }

    /// Hands `datagram` to another worker where that is of use and does no harm; false when it has
    /// to be decoded here. Behind this, datagrams of one exporter have no order any more; what
    /// follows their sequence numbers tolerates that.
    #[inline(never)]
    fn lend(&mut self, datagram: &Datagram<'_>, sharing: &mut Sharing) -> bool {
        match self.decoder.teaching(datagram) {
            Teaching::Nothing => {
                let is_lent = sharing.lend(datagram);
                self.counts.datagrams_lent += u64::from(is_lent);
                is_lent
            }
            Teaching::Something => false,
            Teaching::OtherMeaning => {
                sharing.take_back(|earlier| self.take_over(earlier));
                false
            }
        }
    }

    /// Counts one that is not looked at any further.
    #[cold]
    fn refuse(&mut self, datagram: &Datagram<'_>, reason: DropReason) {
        self.counts.datagrams_received += 1;
        self.counts.bytes_received += datagram.payload.len() as u64;
        self.counts.drop_one(reason);
    }

    /// Datagrams of this worker's own sockets, whoever decodes them.
    fn own_datagrams(&self) -> u64 {
        let counts = &self.counts;
        counts.datagrams_received + counts.datagrams_lent - counts.datagrams_taken_over
    }
}

impl<R: Receive> Worker<R> {
    /// Puts the stages together; everything they need is allocated already.
    pub fn new(receiver: R, decoder: Decoder, batcher: Batcher, ledger: WorkerLedger) -> Self {
        Self {
            receiver,
            stages: Stages {
                decoder,
                rows: Rows {
                    batcher,
                    received: UnixNanos::default(),
                    counts: WorkerCounts::default(),
                },
                counts: WorkerCounts::default(),
            },
            sharing: None,
            limit: None,
            tee: None,
            ledger,
            kernel_drops_read: UnixNanos::default(),
            connections: Connections::default(),
        }
    }

    /// Lets it help other workers, and be helped.
    #[must_use]
    pub fn sharing(self, sharing: Option<Sharing>) -> Self {
        Self { sharing, ..self }
    }

    /// Lets nobody send more than that.
    #[must_use]
    pub fn limiting(self, limit: Option<Limiting>) -> Self {
        Self { limit, ..self }
    }

    /// Has it forward what its sockets bring.
    #[must_use]
    pub fn forwarding(self, tee: Option<Tee>) -> Self {
        Self { tee, ..self }
    }

    /// Turns until `stop`, then takes what the sockets still hold and what others handed over, and
    /// hands over the last batch.
    ///
    /// # Errors
    /// When the sockets cannot be read any more. What was taken before is handed over all the same.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut outcome = Ok(());
        while outcome.is_ok() && !stop.load(Ordering::Relaxed) {
            outcome = self.turn(TURN_MAX);
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.stop();
        }
        self.receiver.shut();
        if outcome.is_ok() {
            outcome = self.drain();
        }
        let stages = &mut self.stages;
        if let Some(sharing) = &self.sharing {
            sharing.take_rest(|datagram| stages.take_over(datagram));
        }
        stages.decoder.finish(&mut stages.counts);
        stages.rows.batcher.finish(&mut stages.rows.counts);
        stages.counts.datagrams_dropped_by_kernel = self.receiver.kernel_drops();
        self.publish();
        outcome
    }

    /// One burst, from the sockets to the batch, and what is due by the clock.
    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        let Self {
            receiver,
            stages,
            sharing,
            limit,
            tee,
            connections,
            ..
        } = self;
        let patience = match sharing {
            Some(sharing) => sharing.patience(timeout),
            None => timeout,
        };
        let before = stages.own_datagrams();
        let mut limits = limit.as_mut().and_then(Limiting::current);
        let outcome = receiver.receive(patience, &mut |datagram: &Datagram<'_>| {
            // Of others it is counted below that they are not.
            let is_allowed = || stages.decoder.allows(datagram.source);
            if let Some(limits) = &mut limits
                && is_allowed()
                && !limits.admits(datagram.source, datagram.received)
            {
                return stages.refuse(datagram, DropReason::ExporterRateLimited);
            }
            if let Some(tee) = tee
                && is_allowed()
            {
                tee.offer(datagram);
            }
            let is_lent = match sharing {
                Some(sharing) if sharing.is_overloaded() => stages.lend(datagram, sharing),
                _ => false,
            };
            if !is_lent {
                stages.take(datagram);
            }
        });
        count_malformed(&mut stages.counts, receiver.frames_malformed());
        while let Some(session) = receiver.session_ended() {
            stages.decoder.end_session(&session);
        }
        let before_now = std::mem::replace(connections, receiver.connections());
        count_connections(&mut stages.counts, &before_now, connections);
        let taken = stages.own_datagrams() - before;
        if let Some(sharing) = sharing {
            sharing.take(|datagram| stages.take_over(datagram));
        }
        stages.decoder.turn();
        if let Some(limit) = limit {
            limit.refresh();
        }
        let now = UnixNanos::now();
        stages.decoder.age(now, &mut stages.counts);
        if let Some(sharing) = sharing {
            sharing.turn(taken, now);
        }
        stages.rows.batcher.turn(now, &mut stages.rows.counts);
        if now.0.abs_diff(self.kernel_drops_read.0) >= KERNEL_DROPS_EVERY_NS {
            stages.counts.datagrams_dropped_by_kernel = self.receiver.kernel_drops();
            self.kernel_drops_read = now;
        }
        self.publish();
        outcome
    }

    fn publish(&mut self) {
        let mut counts = self.stages.counts;
        counts.add(&self.stages.rows.counts);
        self.ledger.publish(&counts);
    }

    /// Takes what the sockets still hold, so that a stop loses nothing that the kernel accepted.
    fn drain(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.stages.own_datagrams();
            self.turn(Duration::ZERO)?;
            let empty = self.stages.own_datagrams() == before;
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

/// Counts what became of connections. One that is not allowed, or that brought something else than
/// messages, is a datagram that came in and was dropped.
fn count_connections(counts: &mut WorkerCounts, before: &Connections, now: &Connections) {
    counts.tcp_connections_accepted = now.accepted;
    counts.tcp_connections_refused = now.refused;
    counts.tcp_connections_closed = now.closed;
    let not_allowed = now.not_allowed - before.not_allowed;
    let malformed = now.malformed - before.malformed;
    counts.datagrams_received += not_allowed + malformed;
    counts.drop_many(DropReason::ExporterNotAllowed, not_allowed);
    counts.drop_many(DropReason::StreamMalformed, malformed);
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
