//! The batch that a worker is filling.

use super::Batch;
use crate::config;
use crate::decode::ExtraRows;
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts};
use crate::store::WorkerQueue;
use crate::units::UnixNanos;

/// Fills batches with a worker's flows and hands them to the store when they are full or old.
/// Neither allocates nor waits.
#[derive(Debug)]
pub struct Batcher {
    queue: WorkerQueue,
    open: Option<Open>,
    age_max_ns: u64,
}

#[derive(Debug)]
struct Open {
    batch: Batch,
    /// When its first row came.
    since: UnixNanos,
}

impl Batcher {
    /// Batches go and come through `queue`.
    #[must_use]
    pub fn new(config: &config::Batch, queue: WorkerQueue) -> Self {
        Self {
            open: None,
            queue,
            age_max_ns: u64::try_from(config.age_max.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Gives every batch room for what fills no column, if somebody asks for that.
    #[must_use]
    pub fn with_extra(mut self, is_wanted: bool) -> Self {
        if is_wanted {
            self.queue.change_empty(Batch::with_extra);
        }
        self
    }

    /// Takes `flows`; those that no batch has room for are dropped as `store_backlog`.
    #[inline]
    pub fn add(&mut self, mut flows: &[Flow], now: UnixNanos, counts: &mut WorkerCounts) {
        while !flows.is_empty() {
            let Some(open) = self.open(now) else {
                counts.drop_many(DropReason::StoreBacklog, flows.len() as u64);
                return;
            };
            let (fit, rest) = flows.split_at(flows.len().min(open.batch.room()));
            open.batch.append(fit);
            counts.flows_batched += fit.len() as u64;
            counts.flows_open += fit.len() as u64;
            flows = rest;
            if open.batch.room() == 0 {
                self.seal(counts);
            }
        }
    }

    /// The same with what comes beside them. A batch that cannot take it is sealed.
    #[inline]
    pub fn add_with(
        &mut self,
        mut flows: &[Flow],
        mut extra: ExtraRows<'_>,
        now: UnixNanos,
        counts: &mut WorkerCounts,
    ) {
        while !flows.is_empty() {
            let Some(open) = self.open(now) else {
                counts.drop_many(DropReason::StoreBacklog, flows.len() as u64);
                return;
            };
            if !open.batch.fits(extra) {
                self.seal(counts);
                continue;
            }
            let (fit, rest) = flows.split_at(flows.len().min(open.batch.room()));
            let (of_fit, of_rest) = extra.split_at(fit.len());
            open.batch.append_with(fit, of_fit);
            counts.flows_batched += fit.len() as u64;
            counts.flows_open += fit.len() as u64;
            (flows, extra) = (rest, of_rest);
            if open.batch.room() == 0 {
                self.seal(counts);
            }
        }
    }

    /// Once a turn: seals what is older than `batch.age_max` or what the encoder calls in, which is
    /// about to end a block.
    ///
    /// While the store is behind and no empty batch is left, an old batch goes on filling: sealing
    /// it would use up memory for a few rows and drop the next.
    #[inline]
    pub fn turn(&mut self, now: UnixNanos, counts: &mut WorkerCounts) {
        let is_called_in = self.queue.is_called_in();
        let Some(open) = &self.open else { return };
        // A clock that was set back makes a batch old as well: no row waits until it catches up.
        let is_old = now.0.abs_diff(open.since.0) >= self.age_max_ns;
        if (is_old || is_called_in) && self.batches_free() > 0 {
            self.seal(counts);
        }
    }

    /// Hands over what there is; called when the worker stops.
    pub fn finish(&mut self, counts: &mut WorkerCounts) {
        self.seal(counts);
    }

    /// Empty batches beside the one being filled; none means that the store is behind.
    #[must_use]
    #[inline]
    pub fn batches_free(&self) -> usize {
        self.queue.batches_empty()
    }

    /// The batch being filled, a fresh one if need be. One that exists has room.
    #[inline]
    fn open(&mut self, now: UnixNanos) -> Option<&mut Open> {
        if self.open.is_none() {
            let batch = self.queue.take_empty()?;
            debug_assert!(batch.rows() == 0 && batch.room() > 0);
            self.open = Some(Open { batch, since: now });
        }
        self.open.as_mut()
    }

    fn seal(&mut self, counts: &mut WorkerCounts) {
        if let Some(Open { batch, since }) = self.open.take() {
            counts.flows_open -= batch.rows() as u64;
            self.queue.hand_over(batch, since);
        }
    }
}
