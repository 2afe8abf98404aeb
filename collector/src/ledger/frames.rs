//! What the XDP programs did.

use std::sync::atomic::{AtomicU64, Ordering};

use collector_ebpf::Verdict;

/// What the XDP programs of all interfaces did with frames, as it was read last.
#[derive(Debug)]
pub struct FrameCounts([AtomicU64; Verdict::COUNT]);

impl Default for FrameCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl FrameCounts {
    /// Replaces the figures, which are in the order of [`Verdict::ALL`]. One thread calls this.
    pub fn publish(&self, frames: &[u64; Verdict::COUNT]) {
        for (cell, frames) in self.0.iter().zip(frames) {
            cell.store(*frames, Ordering::Relaxed);
        }
    }

    /// The figures, in the order of [`Verdict::ALL`].
    #[must_use]
    pub fn read(&self) -> [u64; Verdict::COUNT] {
        std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed))
    }
}
