//! What is in the folder, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::folder::Kind;

/// The same trouble is logged once in this time.
const TELL_EVERY: Duration = Duration::from_secs(10);

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
    /// The one that was taken and is not done with.
    under_way: Option<u64>,
    /// Written and not synced.
    pub(super) unsynced: Vec<u64>,
    /// Something was removed since the folder was synced.
    pub(super) is_removed: bool,
    told: Option<Instant>,
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
        if self.under_way == Some(number) {
            self.under_way = None;
        }
        self.is_removed = true;
        Some(held)
    }

    /// The oldest of those that were sent before, else of all; one at a time.
    pub(super) fn take(&mut self) -> Option<u64> {
        if self.under_way.is_some() {
            return None;
        }
        let next = self.doubtful.first().or(self.waiting.first()).copied()?;
        self.waiting.remove(&next);
        self.under_way = Some(next);
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

    /// True, and remembered, when the last time is [`TELL_EVERY`] ago.
    pub(super) fn is_to_be_told(&mut self, now: Instant) -> bool {
        let due = self.told.is_none_or(|told| now - told >= TELL_EVERY);
        if due {
            self.told = Some(now);
        }
        due
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
    fn the_oldest_goes_first_but_behind_those_that_were_sent_before_and_one_at_a_time() {
        let mut state = State::default();
        for (number, kind) in [(7, Kind::Tried), (3, Kind::Block), (5, Kind::Tried)] {
            state.add_waiting(number, held(kind));
        }
        let mut order = Vec::new();
        while let Some(number) = state.take() {
            assert_eq!(state.take(), None, "one is under way");
            assert_eq!(state.has_doubtful(), number != 3);
            state.remove(number);
            order.push(number);
        }
        assert_eq!(order, [5, 7, 3]);
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
