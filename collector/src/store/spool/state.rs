//! What is in the folder, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::folder::Kind;

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Every file, by the number of its block.
    held: BTreeMap<u64, Held>,
    bytes: u64,
    /// Those on the disk alone, whose turn will come.
    waiting: BTreeSet<u64>,
    /// Of those, the ones that an earlier process sent.
    doubtful: BTreeSet<u64>,
    /// Those that were taken and are not done with: as many as were doubtful, else one.
    under_way: BTreeSet<u64>,
    /// Written and to be synced at the next interval.
    pub(super) unsynced: Vec<u64>,
    /// Something was removed since the folder was synced.
    pub(super) is_removed: bool,
    /// When it was told last that a block cannot be written, or synced, and that there is no room.
    pub(super) told_unwritten: Option<Instant>,
    pub(super) told_unsynced: Option<Instant>,
    pub(super) told_full: Option<Instant>,
}

impl State {
    /// A file of an earlier process.
    pub(super) fn add_waiting(&mut self, number: u64, held: Held) {
        if held.kind == Kind::Tried {
            self.doubtful.insert(number);
        }
        self.bytes += held.bytes;
        self.held.insert(number, held);
        self.waiting.insert(number);
    }

    /// Makes room for a file, if there is any.
    pub(super) fn reserve(
        &mut self,
        number: u64,
        held: Held,
        bytes_max: u64,
        blocks_max: usize,
    ) -> bool {
        let has_room = self.bytes + held.bytes <= bytes_max && self.held.len() < blocks_max;
        if has_room {
            self.bytes += held.bytes;
            let before = self.held.insert(number, held);
            assert!(before.is_none(), "a block is written once");
        }
        has_room
    }

    /// The block is no longer in memory.
    pub(super) fn wait(&mut self, number: u64) {
        assert!(self.held.contains_key(&number), "what waits is on the disk");
        self.waiting.insert(number);
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.bytes -= held.bytes;
        self.waiting.remove(&number);
        self.doubtful.remove(&number);
        self.under_way.remove(&number);
        self.is_removed = true;
        Some(held)
    }

    /// The oldest of those that were sent before, side by side; when none is left, of all, one at
    /// a time.
    pub(super) fn take(&mut self) -> Option<u64> {
        let next = match self.doubtful.pop_first() {
            Some(doubtful) => doubtful,
            None if self.under_way.is_empty() => *self.waiting.first()?,
            None => return None,
        };
        self.waiting.remove(&next);
        self.under_way.insert(next);
        Some(next)
    }

    /// True when the file's name has to say from now on that its block was sent.
    pub(super) fn becomes_tried(&mut self, number: u64) -> bool {
        let Some(held) = self.held.get_mut(&number) else {
            return false;
        };
        std::mem::replace(&mut held.kind, Kind::Tried) != Kind::Tried
    }

    pub(super) fn stays_untried(&mut self, number: u64) {
        if let Some(held) = self.held.get_mut(&number) {
            held.kind = Kind::Block;
        }
    }

    pub(super) fn held(&self, number: u64) -> Option<&Held> {
        self.held.get(&number)
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.held.contains_key(&number)
    }

    pub(super) fn has_doubtful(&self) -> bool {
        !self.doubtful.is_empty()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: Kind) -> Held {
        Held {
            rows: 1,
            bytes: 10,
            kind,
        }
    }

    #[test]
    fn those_that_were_sent_before_go_side_by_side_and_then_the_oldest_one_at_a_time() {
        let mut state = State::default();
        let kinds = [Kind::Block, Kind::Block, Kind::Tried, Kind::Tried];
        for (number, kind) in [4, 3, 7, 5].into_iter().zip(kinds) {
            state.add_waiting(number, held(kind));
        }
        assert!(state.has_doubtful());
        assert_eq!([state.take(), state.take()], [Some(5), Some(7)]);
        assert!(!state.has_doubtful(), "none has to wait for those");
        for doubtful in [7, 5] {
            assert_eq!(state.take(), None, "{doubtful} is under way");
            state.remove(doubtful);
        }
        for number in [3, 4] {
            assert_eq!(state.take(), Some(number));
            assert_eq!(state.take(), None, "one is under way");
            state.remove(number);
        }
        assert_eq!(state.take(), None);
        assert_eq!((state.len(), state.bytes()), (0, 0));
    }

    #[test]
    fn files_and_bytes_are_bounded() {
        let mut state = State::default();
        assert!(state.reserve(1, held(Kind::Block), 25, 9));
        assert!(state.reserve(2, held(Kind::Block), 25, 9));
        assert!(!state.reserve(3, held(Kind::Block), 25, 9), "bytes");
        assert!(!state.reserve(3, held(Kind::Block), 99, 2), "files");
        state.remove(1);
        assert!(state.reserve(3, held(Kind::Block), 25, 2));
        assert_eq!((state.len(), state.bytes()), (2, 20));
    }
}
