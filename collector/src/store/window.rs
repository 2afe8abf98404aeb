//! How far ClickHouse's memory for tokens reaches, and that no retry comes behind its end.
//!
//! ClickHouse forgets the token of a part when as many other parts were inserted as the table's
//! `non_replicated_deduplication_window` says (tried: with a window of 4 a repeat is dropped behind
//! 3 others and doubled behind 4). A block that was sent without an answer may be stored already, so
//! it must be sent again before that. Between its first try and its last, at most
//! [`BLOCKS_BETWEEN_MAX`] other blocks are acknowledged: then nothing new is sent until its fate is
//! known. How many blocks the spool holds does not matter: those that were sent are known by their
//! name, also to the next process, and go first there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Most blocks that are acknowledged between two tries of another one.
pub const BLOCKS_BETWEEN_MAX: u64 = 400;

/// Parts that a block makes: its rows were received within seconds, so a partition ends in it at
/// most once.
const PARTS_A_BLOCK: u64 = 2;

/// Most inserts at once, `store.inserts`: so many may have begun before the limit was reached.
const INSERTS_MAX: u64 = 64;

/// What `non_replicated_deduplication_window` of `flows` and of every view's target must be at
/// least, in parts, for one collector; several that share a table need it that often.
pub const WINDOW_PARTS_MIN: u64 = (BLOCKS_BETWEEN_MAX + INSERTS_MAX) * PARTS_A_BLOCK;

/// The blocks that are being sent, and how many others were acknowledged since each was first.
#[derive(Debug, Default)]
pub(super) struct Window(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    acknowledged: u64,
    /// How many were acknowledged when each was sent first.
    begun: BTreeMap<u64, u64>,
    next: u64,
}

/// A block that is being sent.
#[derive(Debug)]
pub(super) struct Ticket {
    window: Arc<Window>,
    id: u64,
}

impl Window {
    /// A block is about to be sent for the first time.
    pub(super) fn enter(self: &Arc<Self>) -> Ticket {
        let mut inner = self.inner();
        let id = inner.next;
        inner.next += 1;
        let acknowledged = inner.acknowledged;
        inner.begun.insert(id, acknowledged);
        Ticket {
            window: Arc::clone(self),
            id,
        }
    }

    /// Whether a further block may be sent.
    pub(super) fn is_open(&self) -> bool {
        let inner = self.inner();
        let first = inner.begun.values().next();
        first.is_none_or(|begun| inner.acknowledged - begun < BLOCKS_BETWEEN_MAX)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

impl Ticket {
    /// True when so many others were stored meanwhile that the fault is with this one.
    pub(super) fn is_alone(&self) -> bool {
        let inner = self.window.inner();
        let begun = inner.begun[&self.id];
        inner.acknowledged - begun >= BLOCKS_BETWEEN_MAX
    }

    /// ClickHouse acknowledged the block.
    pub(super) fn acknowledged(self) {
        self.window.inner().acknowledged += 1;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.window.inner().begun.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_new_is_sent_when_a_block_waits_for_its_answer_for_too_many_others() {
        let window = Arc::new(Window::default());
        let slow = window.enter();
        for _ in 0..BLOCKS_BETWEEN_MAX {
            assert!(window.is_open() && !slow.is_alone());
            window.enter().acknowledged();
        }
        assert!(!window.is_open() && slow.is_alone());
        let next = window.enter();
        assert!(!next.is_alone());
        drop(slow);
        assert!(window.is_open(), "the one behind it has the whole window");
        next.acknowledged();
        assert!(window.is_open());
    }

    #[test]
    fn the_tables_remember_as_many_parts_as_may_come_between() {
        let sql = include_str!("../../../sql/001_flows.sql");
        let (_, rest) = sql
            .split_once("non_replicated_deduplication_window = ")
            .unwrap();
        let window: u64 = rest.split(',').next().unwrap().parse().unwrap();
        assert!(window > WINDOW_PARTS_MIN, "{window} > {WINDOW_PARTS_MIN}");
    }
}
