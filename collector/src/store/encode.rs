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
            let phase = *self.phase.borrow();
            if self.exchange.has_sealed() {
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
            } else if phase == Phase::Running {
                self.wait(open.due).await;
            }
            let is_last = phase != Phase::Running && !self.exchange.has_sealed();
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
    async fn wait(&mut self, due: Option<Instant>) {
        let old = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.exchange.sealed() => {}
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
}

impl Open {
    fn new(batch: &config::Batch, compression: config::Compression) -> Self {
        Self {
            encoder: Encoder::new(compression),
            rows_max: batch.rows_max as u64,
            age_max: batch.age_max,
            due: None,
        }
    }

    /// Adds sealed batches until there is none or no further one fits.
    fn fill(&mut self, exchange: &Exchange) {
        while !self.is_full() {
            let Some(sealed) = exchange.take_sealed() else {
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
        self.is_full() || self.due.is_some_and(|due| due <= Instant::now())
    }

    fn end(&mut self, token: String) -> Block {
        self.due = None;
        self.encoder.finish(token)
    }
}
