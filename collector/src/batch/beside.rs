//! What comes beside flows on their way into a batch.

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

impl Beside<'_> {
    /// Beside the first `flows` flows, and beside the others.
    #[must_use]
    pub fn split_at(self, flows: usize) -> (Self, Self) {
        let extra = self.extra.map(|extra| extra.split_at(flows));
        let first = Self {
            extra: extra.map(|(first, _)| first),
            ..self
        };
        let others = Self {
            extra: extra.map(|(_, others)| others),
            marked: self.marked.map(|marked| marked.behind(flows)),
        };
        (first, others)
    }
}
