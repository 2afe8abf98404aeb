//! One domain's numbers: where they stand, which are missing, and what they count.
//!
//! A domain may have several streams of numbers, each with source ports of its own, as exporters
//! behind one address translation have. A port that is new belongs to a stream when its first
//! message is just what that one lacks, else it has one of its own.

use super::stream::Stream;
use super::unit::UnitGuess;
use super::{Observation, SequenceCounts, SequenceState, SequenceStatus, SequenceUnit};
use crate::flow::FlowType;
use crate::units::UnixNanos;

/// Streams of a domain. With more of them nothing is known of those that are silent longest.
const STREAMS_MAX: usize = 16;
/// A new stream after so long without a message is the old one after a restart.
const RESTART_SILENCE_NS: u64 = 5_000_000_000;
/// So many new ports that went on where another was make the domain one that changes its port.
const JOINS_MAX: u8 = 8;

/// The numbers of a domain.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    unit: UnitGuess,
    /// The one that the last message belonged to comes first.
    streams: Vec<Stream>,
    /// New ports that went on where another was, up to [`JOINS_MAX`]: from then on ports tell
    /// nothing.
    joins: u8,
    counts: SequenceCounts,
    /// `counts` at the last drain.
    told: SequenceCounts,
}

impl Tracker {
    pub(super) fn new(flow_type: FlowType) -> Self {
        Self {
            unit: UnitGuess::of(flow_type),
            streams: Vec::with_capacity(1),
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn observe(&mut self, observation: &Observation) {
        if !self.find_stream(observation) {
            return self.begin(observation);
        }
        if let Some(stream) = self.streams.first()
            && self
                .unit
                .weigh(stream.last, stream.last_records, observation)
        {
            self.begin_counting(observation);
        }
        let Self {
            unit,
            streams,
            counts,
            ..
        } = self;
        let Some(stream) = streams.first_mut() else {
            return;
        };
        if unit.is_sure && !stream.holes.is_empty() {
            counts.lost += stream.expire(observation.received);
        }
        let early = stream.take(unit.unit, observation, counts);
        if unit.is_sure {
            counts.lost += early;
        }
    }

    /// Puts the stream first that goes on with the message; false when there is none.
    #[inline]
    fn find_stream(&mut self, observation: &Observation) -> bool {
        let unit = self.unit.unit;
        let (start, _) = unit.span(observation);
        if let Some(stream) = self.streams.first()
            && stream.has_port(observation.source_port)
            && stream.goes_on(start, unit, observation)
        {
            return true;
        }
        self.find_other(start, observation)
    }

    #[inline(never)]
    fn find_other(&mut self, start: u32, observation: &Observation) -> bool {
        let unit = self.unit.unit;
        let goes_on = |stream: &Stream| stream.goes_on(start, unit, observation);
        let is_its = |stream: &Stream| stream.has_port(observation.source_port);
        let known = self.streams.iter().position(|s| is_its(s) && goes_on(s));
        let at = known.or_else(|| {
            let ports_tell = self.joins < JOINS_MAX;
            let at = self.streams.iter().position(|stream| match ports_tell {
                true => stream.lacks(unit, observation) || stream.is_nobodys() && goes_on(stream),
                false => goes_on(stream),
            })?;
            self.streams.get_mut(at)?.join(observation.source_port);
            self.joins = (self.joins + 1).min(JOINS_MAX);
            Some(at)
        });
        match at {
            Some(0) => true,
            Some(at) => {
                self.streams.swap(0, at);
                true
            }
            None => false,
        }
    }

    /// Numbers begin, or begin anew.
    #[cold]
    fn begin(&mut self, observation: &Observation) {
        let streams = &self.streams;
        let same = streams
            .iter()
            .position(|s| s.has_port(observation.source_port));
        let seen = streams.iter().map(|stream| stream.seen).max();
        let silence_ns = seen.map(|seen| observation.received.0.saturating_sub(seen.0));
        let is_after_silence = silence_ns.is_some_and(|ns| ns >= RESTART_SILENCE_NS);
        self.counts.restarts += u64::from(same.is_some() || is_after_silence);
        let is_full = streams.len() == STREAMS_MAX;
        let oldest = || (0..streams.len()).min_by_key(|at| streams[*at].seen);
        if let Some(at) = same.or_else(|| oldest().filter(|_| is_full)) {
            let gone = self.streams.swap_remove(at);
            self.lose(gone.missing());
        }
        let (stream, received) = Stream::begin(self.unit.unit, observation);
        self.counts.received += received;
        self.streams.insert(0, stream);
    }

    /// The numbers count something else than it seemed: what was missing is not.
    #[cold]
    fn begin_counting(&mut self, observation: &Observation) {
        self.counts.received = self.told.received;
        self.streams.truncate(1);
        let (start, _) = self.unit.unit.span(observation);
        for stream in &mut self.streams {
            stream.holes.clear();
            stream.next = start;
        }
    }

    fn lose(&mut self, lost: u64) {
        if self.unit.is_sure {
            self.counts.lost += lost;
        }
    }

    /// Something was not observed: what follows is no gap.
    #[cold]
    pub(super) fn doubt(&mut self) {
        self.streams.iter_mut().for_each(|s| s.is_unsure = true);
    }

    pub(super) fn drain(&mut self, now: UnixNanos) -> (SequenceUnit, SequenceCounts) {
        let Self { unit, streams, .. } = self;
        let mut lost = 0;
        if unit.is_sure {
            lost = streams.iter_mut().map(|stream| stream.expire(now)).sum();
        }
        let mut is_first = true;
        streams.retain(|stream| {
            let stays = std::mem::take(&mut is_first) || !stream.is_silent(now);
            if !stays && unit.is_sure {
                lost += stream.missing();
            }
            stays
        });
        for stream in streams {
            stream.first = None;
            if stream.holes.is_empty() {
                stream.holes.shrink_to_fit();
            }
        }
        self.counts.lost += lost;
        let new = self.counts.since(&self.told);
        self.told = self.counts;
        (self.unit.unit, new)
    }

    pub(super) fn finish(&mut self) {
        let missing: u64 = self.streams.iter().map(Stream::missing).sum();
        self.streams.iter_mut().for_each(|s| s.holes.clear());
        self.lose(missing);
    }

    pub(super) fn status(&self) -> SequenceStatus {
        SequenceStatus {
            unit: self.unit.unit,
            next: self.streams.first().map(|stream| stream.next),
            counts: self.counts,
        }
    }

    pub(super) fn state(&self) -> Option<SequenceState> {
        match &self.streams[..] {
            [stream] if self.unit.is_sure => Some(stream.state(self.unit.unit)),
            _ => None,
        }
    }

    pub(super) fn restore(&mut self, state: &SequenceState, is_exact: bool) {
        if !self.streams.is_empty() {
            return;
        }
        self.unit = UnitGuess::sure(state.unit);
        self.streams.push(Stream::restored(state, is_exact));
    }
}
