//! How many records of a message its exporter counts, for its sequence number.

use super::{Message, Set, Workspace};
use crate::decode::FlowSink;
use crate::decode::sequence::Observation;
use crate::decode::template::Dialect;
use crate::ledger::{DropReason, WorkerCounts};

/// The records of a message as its exporter counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    /// Those of sets that could be read.
    records: u64,
    /// What was incomplete in all messages before this one.
    incomplete_before: u64,
    /// There are others, which could not be read.
    pub(super) is_partial: bool,
}

impl Tally {
    /// Nothing of the message is read yet.
    pub(super) fn new(counts: &WorkerCounts) -> Self {
        Self {
            records: 0,
            incomplete_before: incomplete(counts),
            is_partial: false,
        }
    }
}

impl<S: FlowSink> Workspace<'_, '_, S> {
    /// As [`Self::records`], and counts those of this message.
    #[inline]
    pub(super) fn tallied(&mut self, message: &Message<'_>, set: &Set, tally: &mut Tally) -> bool {
        let before = self.counts.records_present - self.padding;
        let is_read = self.records(message, set);
        tally.records += self.counts.records_present - self.padding - before;
        is_read
    }

    /// Hands in the sequence number. What cannot be counted for certain is not counted at all.
    #[inline]
    pub(super) fn follow(&mut self, message: &Message<'_>, tally: &Tally) {
        let is_whole = !tally.is_partial && incomplete(self.counts) == tally.incomplete_before;
        let observation = Observation {
            sequence: message.sequence,
            records: is_whole.then_some(tally.records as u32),
            uptime_ms: match message.dialect {
                Dialect::Netflow9 => message.clock.uptime_ms,
                // Follows from options, and may be learned in the middle.
                Dialect::Ipfix => None,
            },
            source_port: self.source_port,
            received: self.domain.last_seen(),
        };
        self.domain.follow(&observation, self.held);
    }
}

/// Sets and records so far that were not all there.
fn incomplete(counts: &WorkerCounts) -> u64 {
    counts.dropped(DropReason::SetMalformed)
        + counts.dropped(DropReason::RecordTruncated)
        + counts.dropped(DropReason::RecordMalformed)
}
