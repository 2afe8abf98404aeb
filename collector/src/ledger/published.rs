//! Hands one worker's figures to readers on other threads, a turn at a time.
//!
//! In: the figures of a turn, from the one worker that counts them. Out: the same figures together,
//! never half of two turns. Nobody waits for a lock: a reader that meets the writer reads again.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{WORKER_VALUES, WorkerCounts};

/// The published copy of one worker's counts: a sequence lock over atomics, one writer.
#[derive(Debug)]
pub(super) struct PublishedCounts {
    /// Odd while the writer is inside.
    sequence: AtomicU64,
    values: [AtomicU64; WORKER_VALUES],
}

impl Default for PublishedCounts {
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            values: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl PublishedCounts {
    /// Replaces the figures. Called by the one writer.
    pub(super) fn publish(&self, counts: &WorkerCounts) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, value) in self.values.iter().zip(counts.values()) {
            cell.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// How often the figures were replaced.
    pub(super) fn turns(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed) / 2
    }

    /// The figures of one turn.
    pub(super) fn read(&self) -> WorkerCounts {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let values: [u64; WORKER_VALUES] =
                std::array::from_fn(|i| self.values[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let after = self.sequence.load(Ordering::Relaxed);
            if before == after && before.is_multiple_of(2) {
                return WorkerCounts::from_values(&values);
            }
            std::hint::spin_loop();
        }
    }
}
