//! What comes beside flows that are printed.

use super::Marked;
use crate::decode::ExtraRows;

/// What comes beside flows in a row, as far as anybody wants it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// What they say that has no field.
    pub extra: Option<ExtraRows<'a>>,
    /// What enrichment marked them with.
    pub marked: Option<Marked<'a>>,
}
