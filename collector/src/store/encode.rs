//! Batches into blocks: how many make one insert, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Phase;
use super::block::{Block, Encoder};
use super::line::Inlet;
use super::queue::{Exchange, Sealed};
use crate::batch::BATCH_ROWS;
use crate::config;
use crate::ledger::StoreCounts;
use crate::units::UnixNanos;

/// Encodes batches as they come and ends the block when it has enough rows or when the oldest is
/// old. Without a spool it holds one block back while the queue is full, and takes no batch.
pub(super) struct EncoderTask {
    pub(super) exchange: Arc<Exchange>,
    pub(super) counts: Arc<StoreCounts>,
    pub(super) blocks: Inlet,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) compression: config::Compression,
}

impl EncoderTask {
    /// Runs until the workers have finished and all their batches are in blocks, or time is up.
    pub(super) async fn run(mut self, batch: config::Batch) {
        let instance: u64 = rand::random();
        let mut open = Open::new(&batch, self.compression);
        let mut number = self.blocks.first_number();
        loop {
            // Looked at before the queue: whoever says that no more comes has handed over before.
            let more_may_come =
                *self.phase.borrow() == Phase::Running || self.exchange.is_marking();
            if !self.exchange.to_encode.is_empty() {
                let exchange = Arc::clone(&self.exchange);
                // Milliseconds of work: too long for a thread that serves others.
                let filling = tokio::task::spawn_blocking(move || {
                    open.fill(&exchange);
                    open
                });
                match filling.await {
                    Ok(filled) => open = filled,
                    Err(_) => return, // the runtime ends
                }
            } else if more_may_come {
                self.wait(open.next()).await;
                if open.is_to_call() {
                    self.exchange.call_in();
                }
            }
            let is_last = !more_may_come && self.exchange.to_encode.is_empty();
            if open.is_ripe() || (is_last && open.encoder.rows() > 0) {
                let mut block = open.end(format!("{instance:016x}-{number}"));
                block.number = number;
                number += 1;
                let compressed_bytes = block.compressed.len() as u64;
                self.counts.encoded(block.native_bytes, compressed_bytes);
                if !self.blocks.push(block).await {
                    return; // time is up
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Returns when there may be something to do.
    async fn wait(&mut self, next: Option<Instant>) {
        let old = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.exchange.to_encode.changed() => {}
            _ = self.phase.changed() => {}
            () = old => {}
        }
    }
}

/// The block being made.
struct Open {
    encoder: Encoder,
    rows_max: u64,
    age_max: Duration,
    /// When its oldest row is `age_max` old; none while there is no row.
    due: Option<Instant>,
    /// Workers have been told to seal what they have, so that it is in this block.
    has_called: bool,
}

/// How long before the end of a block workers are told: an idle one turns every 100 ms. At 1,500
/// flows/s a batch is full after 2.7 s, and without this each became an insert of its own, as did
/// what each of several workers had.
const CALL_BEFORE: Duration = Duration::from_millis(250);

impl Open {
    fn new(batch: &config::Batch, compression: config::Compression) -> Self {
        Self {
            encoder: Encoder::new(compression),
            rows_max: batch.rows_max as u64,
            age_max: batch.age_max,
            due: None,
            has_called: false,
        }
    }

    /// When there is something to do even if no batch comes.
    fn next(&self) -> Option<Instant> {
        match self.has_called {
            true => self.due,
            false => self.call(),
        }
    }

    /// When workers are told; none while there is no row.
    fn call(&self) -> Option<Instant> {
        let due = self.due?;
        Some(due.checked_sub(self.call_before()).unwrap_or(due))
    }

    fn call_before(&self) -> Duration {
        CALL_BEFORE.min(self.age_max / 4)
    }

    /// True once, when it is time to tell them; they have their time even where that is late.
    fn is_to_call(&mut self) -> bool {
        let now = Instant::now();
        let is_time = self.call().is_some_and(|call| call <= now);
        if !is_time || std::mem::replace(&mut self.has_called, true) {
            return false;
        }
        self.due = self.due.max(Some(now + self.call_before()));
        true
    }

    /// Adds sealed batches until there is none or no further one fits.
    fn fill(&mut self, exchange: &Exchange) {
        while !self.is_full() {
            let Some(sealed) = exchange.to_encode.take() else {
                return;
            };
            let Sealed {
                worker,
                mut batch,
                since,
            } = sealed;
            let rows = self.encoder.rows() + batch.rows() as u64;
            self.encoder.add(&mut batch);
            assert_eq!(self.encoder.rows(), rows, "no row is lost in the encoding");
            exchange.give_back(worker, batch);
            let age = UnixNanos::now().0.saturating_sub(since.0);
            let left = self.age_max.saturating_sub(Duration::from_nanos(age));
            let due = Instant::now() + left;
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    fn is_full(&self) -> bool {
        let rows = self.encoder.rows();
        rows > 0 && rows + BATCH_ROWS as u64 > self.rows_max
    }

    fn is_ripe(&self) -> bool {
        let is_due = || self.due.is_some_and(|due| due <= Instant::now());
        self.is_full() || (self.has_called && is_due())
    }

    fn end(&mut self, token: String) -> Block {
        (self.due, self.has_called) = (None, false);
        self.encoder.finish(token)
    }
}
