//! The null store: measures the collector apart from ClickHouse.

use super::insert::{Attempt, Insert, Taken};
use super::{Block, SideBatch};

/// Takes every block at once and drops it; its flows count as lost by `store_null`.
#[derive(Clone, Copy, Debug)]
pub struct Null;

impl Insert for Null {
    fn prepare(&self) -> Attempt<'_> {
        Box::pin(async { Ok(()) })
    }

    fn insert<'a>(&'a self, _: &'a Block) -> Attempt<'a, Taken> {
        Box::pin(async { Ok(Taken::Discarded) })
    }

    fn insert_side<'a>(&'a self, _: &'a SideBatch) -> Attempt<'a, Taken> {
        Box::pin(async { Ok(Taken::Discarded) })
    }
}
