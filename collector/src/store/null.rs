//! The null store: measures the collector apart from ClickHouse.

use super::Block;
use super::insert::{Attempt, Insert, Taken};

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
}
