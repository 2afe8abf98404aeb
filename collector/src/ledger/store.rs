//! What became of flows behind the workers.
//!
//! In: rows handed over, blocks made, acknowledgements and losses, from the store's tasks. Out: a
//! copy for whoever reads the ledger.

use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::BudgetCounts;
use super::side::{SideCounts, SideSnapshot};
use super::{DROP_REASONS, DropLevel, DropReason};
use crate::store::{SIDE_TABLES, SideTable};

/// The store's figures. A few changes a second, so plain shared atomics.
#[derive(Debug, Default)]
pub struct StoreCounts {
    /// Flows handed over and neither stored nor lost: in the queue, being encoded or being sent.
    pub flows_in_flight: AtomicU64,
    /// Flows in blocks that ClickHouse acknowledged.
    pub flows_stored: AtomicU64,
    /// Blocks made of batches, whatever became of them.
    pub blocks_encoded: AtomicU64,
    /// Native bytes of the encoded blocks, before compression.
    pub encoded_bytes: AtomicU64,
    /// Bytes of the encoded blocks, compressed.
    pub compressed_bytes: AtomicU64,
    /// Blocks that ClickHouse acknowledged.
    pub blocks_stored: AtomicU64,
    /// Native bytes of the acknowledged blocks, before compression.
    pub block_bytes: AtomicU64,
    /// Bytes sent for the acknowledged blocks, compressed.
    pub block_bytes_sent: AtomicU64,
    /// Inserts that failed and were tried again.
    pub inserts_retried: AtomicU64,
    /// Nanoseconds spent in acknowledged inserts, first byte sent to answer.
    pub insert_nanos: AtomicU64,
    /// Flows lost in the store, by reason.
    pub flows_lost: DropCells,
    /// Rows of the tables beside `flows`, by [`SideTable`].
    side: [SideCounts; SIDE_TABLES],
    /// What `store.budget` dropped.
    pub budget: BudgetCounts,
}

/// One atomic per [`DropReason`].
#[derive(Debug)]
pub struct DropCells([AtomicU64; DROP_REASONS]);

impl Default for DropCells {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl DropCells {
    pub(super) fn add(&self, reason: DropReason, lost: u64) {
        self.0[reason as usize].fetch_add(lost, Ordering::AcqRel);
    }

    pub(super) fn read(&self) -> [u64; DROP_REASONS] {
        std::array::from_fn(|index| self.0[index].load(Ordering::Acquire))
    }
}

impl StoreCounts {
    /// A worker hands `rows` over.
    pub fn handed_over(&self, rows: u64) {
        self.flows_in_flight.fetch_add(rows, Ordering::AcqRel);
    }

    /// A block was made: so many bytes of Native, and so many compressed.
    pub fn encoded(&self, native_bytes: u64, compressed_bytes: u64) {
        self.blocks_encoded.fetch_add(1, Ordering::Relaxed);
        self.encoded_bytes
            .fetch_add(native_bytes, Ordering::Relaxed);
        self.compressed_bytes
            .fetch_add(compressed_bytes, Ordering::Relaxed);
    }

    /// ClickHouse acknowledged `rows`.
    pub fn stored(&self, rows: u64) {
        self.flows_stored.fetch_add(rows, Ordering::AcqRel);
        self.flows_in_flight.fetch_sub(rows, Ordering::AcqRel);
    }

    /// `rows` will not be stored.
    pub fn lost(&self, reason: DropReason, rows: u64) {
        assert!(
            reason.level() == DropLevel::Lost,
            "a loss in the store has a reason of the store"
        );
        self.flows_lost.add(reason, rows);
        self.flows_in_flight.fetch_sub(rows, Ordering::AcqRel);
    }

    /// The figures of a table beside `flows`.
    #[must_use]
    pub fn side(&self, table: SideTable) -> &SideCounts {
        &self.side[table as usize]
    }

    pub(super) fn read(&self) -> StoreSnapshot {
        StoreSnapshot {
            flows_in_flight: self.flows_in_flight.load(Ordering::Acquire),
            flows_stored: self.flows_stored.load(Ordering::Acquire),
            blocks_encoded: self.blocks_encoded.load(Ordering::Acquire),
            encoded_bytes: self.encoded_bytes.load(Ordering::Acquire),
            compressed_bytes: self.compressed_bytes.load(Ordering::Acquire),
            blocks_stored: self.blocks_stored.load(Ordering::Acquire),
            block_bytes: self.block_bytes.load(Ordering::Acquire),
            block_bytes_sent: self.block_bytes_sent.load(Ordering::Acquire),
            inserts_retried: self.inserts_retried.load(Ordering::Acquire),
            insert_nanos: self.insert_nanos.load(Ordering::Acquire),
            flows_lost: self.flows_lost.read(),
            side: std::array::from_fn(|table| self.side[table].read()),
        }
    }
}

/// A copy of [`StoreCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is described in StoreCounts")]
pub struct StoreSnapshot {
    pub flows_in_flight: u64,
    pub flows_stored: u64,
    pub blocks_encoded: u64,
    pub encoded_bytes: u64,
    pub compressed_bytes: u64,
    pub blocks_stored: u64,
    pub block_bytes: u64,
    pub block_bytes_sent: u64,
    pub inserts_retried: u64,
    pub insert_nanos: u64,
    pub flows_lost: [u64; DROP_REASONS],
    pub side: [SideSnapshot; SIDE_TABLES],
}
