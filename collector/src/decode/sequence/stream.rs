//! Numbers that follow each other: where they stand, and which are missing.
//!
//! They are compared modulo 2^32. What is missing is a hole; a message that comes late fills it or
//! a part of it, and after [`HOLE_AGE_NS`] it is lost.

use std::collections::VecDeque;

use super::{Observation, SequenceCounts, SequenceState, SequenceUnit};
use crate::units::UnixNanos;

/// How long a missing number may come late. Workers hand observations in within a turn of 100 ms,
/// and networks reorder by less.
const HOLE_AGE_NS: u64 = 2_000_000_000;
/// Holes of a stream, 32 KiB; of one more the oldest is lost early. Two workers that have an
/// exporter's messages in turn are apart by a burst or some, or by the 1024 that one may lend the
/// other, and by as many holes.
const HOLES_MAX: usize = 2048;
/// A stream is forgotten after so long, unless it is the only one.
const STREAM_SILENCE_NS: u64 = 600_000_000_000;
/// Messages that may be missing at once, and how many more for each millisecond of silence. Beyond
/// this the numbers began anew: no domain sends more than 65,536 messages a second.
const AHEAD_MAX: u64 = 65_536;
const AHEAD_PER_MS: u64 = 66;
/// Messages that a repeated one may be behind. Further back the numbers began anew.
const BACK_MAX: u64 = 1024;
/// So many messages in a row are not repeated by a network.
const REPEATED_MAX: u8 = 16;
/// Records that a message has at most, roughly, where numbers count them.
const RECORDS_A_MESSAGE: u64 = 32;
/// An uptime that is less by more than this was begun anew: late messages are not that late.
const UPTIME_BACK_MS: u32 = 10_000;
/// Before its end, after 49.7 days, an uptime is about to begin anew by itself.
const UPTIME_END_MS: u32 = u32::MAX - 3_600_000;

/// Numbers that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// The number behind the furthest message.
    pub(super) next: u32,
    /// The first number, as long as what came before it may still be on its way.
    pub(super) first: Option<u32>,
    /// What the last message said.
    pub(super) last: u32,
    pub(super) last_records: Option<u32>,
    uptime_ms: Option<u32>,
    pub(super) seen: UnixNanos,
    /// The source port of its last message; of one that was restored it is not known.
    pub(super) port: Option<u16>,
    /// What follows may be further on without a gap.
    pub(super) is_unsure: bool,
    /// Repeated messages in a row, and the number behind the last one.
    repeated: u8,
    repeated_next: u32,
    /// In the order of their numbers.
    pub(super) holes: VecDeque<Hole>,
}

/// Missing numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    start: u32,
    len: u32,
    seen: UnixNanos,
}

impl Stream {
    /// The numbers that begin with a message, and how many it has.
    pub(super) fn begin(unit: SequenceUnit, observation: &Observation) -> (Self, u64) {
        let (start, len) = unit.span(observation);
        let len_known = len.unwrap_or_default();
        let stream = Self {
            next: start.wrapping_add(len_known),
            first: Some(start),
            last: observation.sequence,
            last_records: observation.records,
            uptime_ms: observation.uptime_ms,
            seen: observation.received,
            port: Some(observation.source_port),
            is_unsure: len.is_none(),
            repeated: 0,
            repeated_next: 0,
            holes: VecDeque::new(),
        };
        (stream, u64::from(len_known))
    }

    /// The numbers as they stood when the collector ran before.
    pub(super) fn restored(state: &SequenceState, is_exact: bool) -> Self {
        Self {
            next: state.next,
            first: None,
            last: state.next,
            last_records: None,
            uptime_ms: state.uptime_ms,
            seen: UnixNanos(state.seen_ms.saturating_mul(1_000_000)),
            port: None,
            is_unsure: !is_exact,
            repeated: 0,
            repeated_next: 0,
            holes: VecDeque::new(),
        }
    }

    /// What [`Self::restored`] goes on with.
    pub(super) fn state(&self, unit: SequenceUnit) -> SequenceState {
        SequenceState {
            next: self.next,
            unit,
            uptime_ms: self.uptime_ms,
            seen_ms: self.seen.millis(),
        }
    }

    /// True when the message may be one of this stream by its port.
    #[inline]
    pub(super) fn is_of(&self, observation: &Observation, by_port: bool) -> bool {
        let is_its = |port| port == observation.source_port;
        !by_port || self.port.is_none_or(is_its)
    }

    /// True when the message stands next to one of this stream: it is what comes next, or before
    /// the first one, or an end of what is missing.
    pub(super) fn lacks(&self, unit: SequenceUnit, observation: &Observation) -> bool {
        let (start, len) = unit.span(observation);
        let end = start.wrapping_add(len.unwrap_or_default());
        let hole = self.hole_with(start).and_then(|at| self.holes.get(at));
        let is_end = |hole: &Hole| start == hole.start || end == hole.start.wrapping_add(hole.len);
        start == self.next || self.first == Some(end) || hole.is_some_and(is_end)
    }

    /// True when a message whose numbers begin at `start` may be one of this stream.
    pub(super) fn goes_on(
        &self,
        start: u32,
        unit: SequenceUnit,
        observation: &Observation,
    ) -> bool {
        start == self.next || self.leaps_on(start, unit, observation)
    }

    fn leaps_on(&self, start: u32, unit: SequenceUnit, observation: &Observation) -> bool {
        if is_less_by_restart(observation.uptime_ms, self.uptime_ms) {
            return false;
        }
        let scale = match unit {
            SequenceUnit::Packets => 1,
            SequenceUnit::Records | SequenceUnit::RecordsThrough => RECORDS_A_MESSAGE,
        };
        let ahead = start.wrapping_sub(self.next);
        if ahead <= i32::MAX as u32 {
            let silence_ms = observation.received.0.saturating_sub(self.seen.0) / 1_000_000;
            let messages = AHEAD_MAX.saturating_add(silence_ms.saturating_mul(AHEAD_PER_MS));
            return u64::from(ahead) <= messages.saturating_mul(scale);
        }
        let back = self.next.wrapping_sub(start);
        // Exporters of IPFIX begin at 0, and do not tell their uptime. But where no number was
        // there yet that is so low, it is the first message, which others have overtaken.
        let begins = start == 0 && scale > 1 && observation.uptime_ms.is_none();
        let begins = begins && back > observation.records.unwrap_or_default();
        let begins = begins && !self.is_before_first(back);
        u64::from(back) <= BACK_MAX * scale && !begins || self.hole_with(start).is_some()
    }

    /// Takes a message of this stream in. Yields what is lost because there are too many holes.
    pub(super) fn take(
        &mut self,
        unit: SequenceUnit,
        observation: &Observation,
        counts: &mut SequenceCounts,
    ) -> u64 {
        let (start, len) = unit.span(observation);
        let len_known = len.unwrap_or_default();
        let ahead = start.wrapping_sub(self.next);
        let mut early = 0;
        if ahead <= i32::MAX as u32 {
            if ahead > 0 && !self.is_unsure {
                early = self.open(ahead, observation.received);
            }
            self.next = start.wrapping_add(len_known);
            self.is_unsure = len.is_none();
            self.repeated = 0;
            self.uptime_ms = observation.uptime_ms;
            counts.received += u64::from(len_known);
        } else {
            self.take_late(start, len, observation.received, counts);
        }
        self.note(observation);
        early
    }

    /// The numbers count `unit`: what comes next follows from the last message, and nothing is
    /// known to be missing.
    pub(super) fn count(&mut self, unit: SequenceUnit) {
        let len = match unit {
            SequenceUnit::Packets => Some(1),
            SequenceUnit::Records => self.last_records,
            SequenceUnit::RecordsThrough => Some(0),
        };
        self.next = self.last.wrapping_add(len.unwrap_or_default());
        self.is_unsure = len.is_none();
        self.first = None;
        self.holes.clear();
    }

    /// Takes the message in that comes next; `next` comes behind it.
    #[inline]
    pub(super) fn step(&mut self, next: u32, observation: &Observation) {
        self.next = next;
        self.uptime_ms = observation.uptime_ms;
        self.note(observation);
    }

    #[inline]
    fn note(&mut self, observation: &Observation) {
        self.last = observation.sequence;
        self.last_records = observation.records;
        self.seen = observation.received;
        self.port = Some(observation.source_port);
    }

    fn take_late(
        &mut self,
        start: u32,
        len: Option<u32>,
        received: UnixNanos,
        counts: &mut SequenceCounts,
    ) {
        let hole = self.hole_with(start);
        let back = self.next.wrapping_sub(start);
        match (len, hole) {
            // How much of the hole it fills is not known: none of it is called lost.
            (None, Some(at)) => {
                self.holes.remove(at);
                counts.reordered += 1;
            }
            (Some(len), Some(at)) if len > 0 => {
                self.fill(at, start, len);
                counts.reordered += 1;
                counts.received += u64::from(len);
            }
            // An exporter that does not count all that is in its messages: go on where it is.
            (Some(len), None) if len > back => {
                self.next = start.wrapping_add(len);
                counts.received += u64::from(len);
            }
            // The numbers began with a later one.
            (Some(len), None) if self.is_before_first(back) => {
                self.begin_earlier(start, len, received);
                counts.reordered += 1;
                counts.received += u64::from(len);
            }
            // A message without records has the number of the next one.
            (Some(0), _) => {}
            (len, _) => self.repeat(start, len.unwrap_or_default(), counts),
        }
    }

    /// True for a message that begins so far behind `next`.
    fn is_before_first(&self, back: u32) -> bool {
        let first = self.first.map(|first| self.next.wrapping_sub(first));
        first.is_some_and(|first| back > first)
    }

    /// Numbers that were there already. As many messages in a row, with nothing new between them,
    /// are no repetition: the numbers began anew, not far back.
    fn repeat(&mut self, start: u32, len: u32, counts: &mut SequenceCounts) {
        let end = start.wrapping_add(len);
        let goes_on = self.repeated_next == start;
        self.repeated = if goes_on { self.repeated + 1 } else { 1 };
        self.repeated_next = end;
        if self.repeated < REPEATED_MAX {
            counts.duplicated += 1;
            return;
        }
        counts.restarts += 1;
        counts.received += u64::from(len);
        self.holes.clear();
        self.repeated = 0;
        self.first = None;
        self.next = end;
    }

    /// The numbers began at `start` already, with so many; what is between is missing.
    fn begin_earlier(&mut self, start: u32, len: u32, seen: UnixNanos) {
        let end = start.wrapping_add(len);
        let between = self.first.map_or(0, |first| first.wrapping_sub(end));
        // Negative where the two overlap.
        if between.cast_signed() > 0 && self.holes.len() < HOLES_MAX {
            let hole = Hole {
                start: end,
                len: between,
                seen,
            };
            self.holes.push_front(hole);
        }
        self.first = Some(start);
    }

    /// So many numbers are missing from `next` on.
    #[cold]
    fn open(&mut self, len: u32, seen: UnixNanos) -> u64 {
        let start = self.next;
        self.holes.push_back(Hole { start, len, seen });
        self.bound()
    }

    /// Yields what the oldest hole missed when there is one too many.
    fn bound(&mut self) -> u64 {
        if self.holes.len() <= HOLES_MAX {
            return 0;
        }
        let oldest = self.holes.pop_front();
        oldest.map_or(0, |hole| u64::from(hole.len))
    }

    /// The hole that `start` is in.
    fn hole_with(&self, start: u32) -> Option<usize> {
        let back = |of: u32| self.next.wrapping_sub(of);
        let behind = self
            .holes
            .partition_point(|hole| back(hole.start) >= back(start));
        let at = behind.checked_sub(1)?;
        let hole = self.holes.get(at)?;
        (start.wrapping_sub(hole.start) < hole.len).then_some(at)
    }

    /// Takes up to `len` numbers from `start` on out of the hole.
    fn fill(&mut self, at: usize, start: u32, len: u32) {
        let Some(hole) = self.holes.get_mut(at) else {
            return;
        };
        let before = start.wrapping_sub(hole.start);
        let behind = hole.len.saturating_sub(before.saturating_add(len));
        let rest = Hole {
            start: start.wrapping_add(len),
            len: behind,
            seen: hole.seen,
        };
        match (before, behind) {
            (0, 0) => drop(self.holes.remove(at)),
            (0, _) => *hole = rest,
            (_, 0) => hole.len = before,
            _ => {
                hole.len = before;
                self.holes.insert(at + 1, rest);
            }
        }
    }

    /// Forgets the holes that are too old at `now`, and yields what they missed.
    pub(super) fn expire(&mut self, now: UnixNanos) -> u64 {
        let mut lost = 0;
        let is_old = |hole: &mut Hole| now.0.saturating_sub(hole.seen.0) >= HOLE_AGE_NS;
        while let Some(hole) = self.holes.pop_front_if(is_old) {
            lost += u64::from(hole.len);
        }
        lost
    }

    pub(super) fn missing(&self) -> u64 {
        self.holes.iter().map(|hole| u64::from(hole.len)).sum()
    }

    pub(super) fn is_silent(&self, now: UnixNanos) -> bool {
        now.0.saturating_sub(self.seen.0) >= STREAM_SILENCE_NS
    }
}

/// True when the exporter was started between the two uptimes.
fn is_less_by_restart(uptime_ms: Option<u32>, before_ms: Option<u32>) -> bool {
    let (Some(uptime_ms), Some(before_ms)) = (uptime_ms, before_ms) else {
        return false;
    };
    let is_less = before_ms.saturating_sub(uptime_ms) > UPTIME_BACK_MS;
    is_less && before_ms <= UPTIME_END_MS
}
