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
    /// Flows handed over and neither stored, lost nor on the disk alone: in the queue, being
    /// encoded or being sent.
    pub flows_in_flight: AtomicU64,
    /// Flows in blocks that are only on the disk, to be stored when their turn comes.
    pub flows_spooled: AtomicU64,
    /// Of all flows, those that an earlier process left on the disk.
    pub flows_recovered: AtomicU64,
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
    /// Blocks written to the disk.
    pub blocks_spooled: AtomicU64,
    /// Blocks that were to be on the disk as well, and are in memory alone: there was no room, or
    /// the disk did not take them.
    pub blocks_unkept: AtomicU64,
    /// Blocks that are on the disk and not acknowledged, in memory as well or not.
    pub spool_blocks: AtomicU64,
    /// Bytes of those.
    pub spool_bytes: AtomicU64,
    /// As many as there may be; 0 without a spool.
    pub spool_bytes_max: AtomicU64,
    /// Files of the spool that could not be read back.
    pub spool_files_broken: AtomicU64,
    /// Blocks that ClickHouse refused for good and that are kept on the disk.
    pub blocks_quarantined: AtomicU64,
    /// Bytes of what is kept there.
    pub quarantine_bytes: AtomicU64,
    /// Flows lost in the store, by reason.
    pub flows_lost: DropCells,
    /// Rows of the tables beside `flows`, by [`SideTable`].
    side: [SideCounts; SIDE_TABLES],
    /// What `store.budget` dropped.
    pub budget: BudgetCounts,
}

/// Where rows wait until it is known what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, whether on the disk as well or not.
    Memory,
    /// On the disk alone.
    Disk,
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
        self.stored_from(Place::Memory, rows);
    }

    /// ClickHouse acknowledged `rows`, which were there until now.
    pub fn stored_from(&self, place: Place, rows: u64) {
        self.flows_stored.fetch_add(rows, Ordering::AcqRel);
        self.flows_at(place).fetch_sub(rows, Ordering::AcqRel);
    }

    /// `rows` will not be stored.
    pub fn lost(&self, reason: DropReason, rows: u64) {
        self.lost_from(Place::Memory, reason, rows);
    }

    /// `rows`, which were there until now, will not be stored.
    pub fn lost_from(&self, place: Place, reason: DropReason, rows: u64) {
        assert!(
            reason.level() == DropLevel::Lost,
            "a loss in the store has a reason of the store"
        );
        self.flows_lost.add(reason, rows);
        self.flows_at(place).fetch_sub(rows, Ordering::AcqRel);
    }

    /// `rows` are no longer in memory, but on the disk.
    pub fn spooled(&self, rows: u64) {
        self.flows_spooled.fetch_add(rows, Ordering::AcqRel);
        self.flows_in_flight.fetch_sub(rows, Ordering::AcqRel);
    }

    /// An earlier process left `rows` on the disk.
    pub fn recovered(&self, rows: u64) {
        self.flows_spooled.fetch_add(rows, Ordering::AcqRel);
        self.flows_recovered.fetch_add(rows, Ordering::AcqRel);
    }

    fn flows_at(&self, place: Place) -> &AtomicU64 {
        match place {
            Place::Memory => &self.flows_in_flight,
            Place::Disk => &self.flows_spooled,
        }
    }

    /// The figures of a table beside `flows`.
    #[must_use]
    pub fn side(&self, table: SideTable) -> &SideCounts {
        &self.side[table as usize]
    }

    pub(super) fn read(&self) -> StoreSnapshot {
        StoreSnapshot {
            flows_in_flight: self.flows_in_flight.load(Ordering::Acquire),
            flows_spooled: self.flows_spooled.load(Ordering::Acquire),
            flows_recovered: self.flows_recovered.load(Ordering::Acquire),
            flows_stored: self.flows_stored.load(Ordering::Acquire),
            blocks_encoded: self.blocks_encoded.load(Ordering::Acquire),
            encoded_bytes: self.encoded_bytes.load(Ordering::Acquire),
            compressed_bytes: self.compressed_bytes.load(Ordering::Acquire),
            blocks_stored: self.blocks_stored.load(Ordering::Acquire),
            block_bytes: self.block_bytes.load(Ordering::Acquire),
            block_bytes_sent: self.block_bytes_sent.load(Ordering::Acquire),
            inserts_retried: self.inserts_retried.load(Ordering::Acquire),
            insert_nanos: self.insert_nanos.load(Ordering::Acquire),
            blocks_spooled: self.blocks_spooled.load(Ordering::Acquire),
            blocks_unkept: self.blocks_unkept.load(Ordering::Acquire),
            spool_blocks: self.spool_blocks.load(Ordering::Acquire),
            spool_bytes: self.spool_bytes.load(Ordering::Acquire),
            spool_bytes_max: self.spool_bytes_max.load(Ordering::Acquire),
            spool_files_broken: self.spool_files_broken.load(Ordering::Acquire),
            blocks_quarantined: self.blocks_quarantined.load(Ordering::Acquire),
            quarantine_bytes: self.quarantine_bytes.load(Ordering::Acquire),
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
    pub flows_spooled: u64,
    pub flows_recovered: u64,
    pub flows_stored: u64,
    pub blocks_encoded: u64,
    pub encoded_bytes: u64,
    pub compressed_bytes: u64,
    pub blocks_stored: u64,
    pub block_bytes: u64,
    pub block_bytes_sent: u64,
    pub inserts_retried: u64,
    pub insert_nanos: u64,
    pub blocks_spooled: u64,
    pub blocks_unkept: u64,
    pub spool_blocks: u64,
    pub spool_bytes: u64,
    pub spool_bytes_max: u64,
    pub spool_files_broken: u64,
    pub blocks_quarantined: u64,
    pub quarantine_bytes: u64,
    pub flows_lost: [u64; DROP_REASONS],
    pub side: [SideSnapshot; SIDE_TABLES],
}
