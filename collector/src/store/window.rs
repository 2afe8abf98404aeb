//! How far ClickHouse's memory for tokens reaches, and that no retry comes behind its end.
//!
//! ClickHouse forgets the token of a part when as many other parts were inserted as the table's
//! `non_replicated_deduplication_window` says (tried: with a window of 4 a repeat is dropped behind
//! 3 others and doubled behind 4). A block that was sent without an answer may be stored already,
//! so it must be sent again before that. Between its first try and its last, at most
//! [`BLOCKS_BETWEEN_MAX`] other blocks are acknowledged: then nothing new is sent until its fate is
//! known. How many blocks the spool holds does not matter: those that were sent are known by their
//! name, also to the next process, and are under way there before anything else is sent.
//!
//! Over a restart that costs distance: the next process counts from its own first try of such a
//! block and lets others be stored beside it, so that one that fails for ever stops nobody. A block
//! whose answer was not heard, and whose repeats then fail for long, may so be behind up to twice
//! [`BLOCKS_BETWEEN_MAX`] others when a repeat succeeds, and behind as many again with each further
//! restart; it is doubled then if that is more than the table's window. One that is answered at
//! the first try after the restart is behind no more than before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clickhouse::Client;
use tracing::warn;

use super::insert::InsertError;
use super::schema::window_of;

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

/// The tables of `database` that forget tokens too early, each with its window: of `flows` and what
/// views write to. Replicated ones have settings of their own and are left out.
///
/// # Errors
/// When ClickHouse cannot be asked.
pub async fn forgetful_tables(
    client: &Client,
    database: &str,
) -> Result<Vec<(String, u64)>, InsertError> {
    const TABLES: &str = "SELECT name, engine_full FROM system.tables WHERE database = ? \
        AND engine LIKE '%MergeTree' AND engine NOT LIKE 'Replicated%' \
        AND (name IN ('flows', 'flows_local') OR name IN (\
        SELECT extract(create_table_query, ' TO [^ ]+[.]`*([A-Za-z0-9_]+)') \
        FROM system.tables WHERE database = ? AND engine = 'MaterializedView')) ORDER BY name";
    let query = client.query(TABLES).bind(database).bind(database);
    let tables = query.fetch_all::<(String, String)>().await?.into_iter();
    let windows = tables.map(|(table, engine)| (table, window_of(&engine)));
    Ok(windows
        .filter(|(_, window)| *window < WINDOW_PARTS_MIN)
        .collect())
}

/// Tells in the log which tables of `database` forget tokens too early.
pub(super) async fn verify(client: &Client, database: &str, limit: Duration) {
    let asked = tokio::time::timeout(limit, forgetful_tables(client, database)).await;
    match asked {
        Ok(Ok(tables)) => {
            for (table, window) in tables {
                warn!(
                    table,
                    window,
                    needed = WINDOW_PARTS_MIN,
                    remedy = "ALTER TABLE ... MODIFY SETTING non_replicated_deduplication_window",
                    "a block that is sent again may be stored twice: the table forgets tokens too \
                     early"
                );
            }
        }
        Ok(Err(error)) => warn!(%error, "how many tokens tables remember is not known"),
        // What comes next tells that ClickHouse is slow.
        Err(_) => {}
    }
}

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
        let (_, flows) = sql.split_once(".flows\n(").unwrap();
        let (flows, _) = flows.split_once(";\n").unwrap();
        let window = window_of(&flows.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(window > WINDOW_PARTS_MIN, "{window} > {WINDOW_PARTS_MIN}");
    }

    #[test]
    fn the_window_is_read_from_the_engine() {
        let engine =
            "MergeTree ORDER BY x SETTINGS non_replicated_deduplication_window = 77, z = 1";
        assert_eq!(window_of(engine), 77);
        assert_eq!(window_of("MergeTree ORDER BY x SETTINGS z = 1"), 0);
    }
}
