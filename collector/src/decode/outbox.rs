//! What workers leave for the tables beside `flows`.
//!
//! In: rows, from any worker. Out: the same rows, to the one task that stores them. Bounded,
//! without locks, made at the start.

use crossbeam::queue::ArrayQueue;

/// At most `MAX` rows that wait to be stored.
#[derive(Debug)]
pub struct Outbox<T, const MAX: usize>(ArrayQueue<T>);

impl<T, const MAX: usize> Default for Outbox<T, MAX> {
    fn default() -> Self {
        Self(ArrayQueue::new(MAX))
    }
}

impl<T, const MAX: usize> Outbox<T, MAX> {
    /// Bytes of memory, used or not: each row has a number beside it.
    pub const MEMORY_BYTES: usize = MAX * (size_of::<T>() + size_of::<usize>());

    /// False when it is full.
    #[must_use]
    pub fn push(&self, row: T) -> bool {
        self.0.push(row).is_ok()
    }

    /// Hands on what waits. What is pushed meanwhile may be for the next time: this ends however
    /// fast workers are.
    pub fn drain(&self, take: impl FnMut(T)) {
        std::iter::from_fn(|| self.0.pop()).take(MAX).for_each(take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_outbox_takes_nothing_until_it_is_drained() {
        let outbox = Outbox::<u32, 3>::default();
        let taken = [1, 2, 3, 4].map(|row| outbox.push(row));
        assert_eq!(taken, [true, true, true, false]);
        let mut rows = Vec::new();
        outbox.drain(|row| rows.push(row));
        assert_eq!(rows, [1, 2, 3]);
        assert!(outbox.push(5));
    }

    #[test]
    fn draining_ends_although_rows_keep_coming() {
        let outbox = Outbox::<u32, 3>::default();
        assert!(outbox.push(0));
        let mut drained = 0;
        outbox.drain(|row| {
            drained += 1;
            assert!(outbox.push(row + 1));
        });
        assert_eq!(drained, 3);
    }
}
