//! The streams of numbers that a domain has, and what was found of them.

use smallvec::SmallVec;

use super::stream::Stream;
use super::{Observation, SequenceCounts, SequenceState, SequenceUnit};
use crate::units::UnixNanos;

/// Streams of a domain. With more of them nothing is known of those that are silent longest.
const STREAMS_MAX: usize = 16;
/// A new stream after so long without a message is the old one after a restart.
const RESTART_SILENCE_NS: u64 = 5_000_000_000;

/// Streams, and what was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    /// The one that the last message belonged to comes first. Nearly all domains have one only, and
    /// it stands here: a message's look at it is a fetch from memory less.
    list: SmallVec<[Stream; 1]>,
    pub(super) counts: SequenceCounts,
    /// The first one goes on with the message that is looked at.
    is_found: bool,
}

impl Streams {
    /// Takes a message that comes next where the last one was, where nothing is missing; false when
    /// it is another one.
    #[inline]
    pub(super) fn step(
        &mut self,
        observation: &Observation,
        unit: SequenceUnit,
        by_port: bool,
    ) -> bool {
        let Self { list, counts, .. } = self;
        let (start, Some(len)) = unit.span(observation) else {
            return false;
        };
        let is_next = |s: &&mut Stream| s.next == start && s.is_of(observation, by_port);
        let Some(stream) = list.first_mut().filter(is_next) else {
            return false;
        };
        stream.step(start.wrapping_add(len), observation);
        counts.received += u64::from(len);
        true
    }

    /// True when nothing is missing where the last message was.
    pub(super) fn is_calm(&self) -> bool {
        let stream = self.list.first();
        stream.is_some_and(|stream| stream.holes.is_empty() && !stream.is_unsure)
    }

    /// Looks for the stream that goes on with the message, and puts it first.
    pub(super) fn find(&mut self, observation: &Observation, unit: SequenceUnit, by_port: bool) {
        let (start, _) = unit.span(observation);
        self.is_found = match self.list.first() {
            Some(stream) if stream.is_of(observation, by_port) => {
                stream.goes_on(start, unit, observation)
                    || self.find_other(observation, unit, by_port)
            }
            Some(_) => self.find_other(observation, unit, by_port),
            None => false,
        };
    }

    fn find_other(&mut self, observation: &Observation, unit: SequenceUnit, by_port: bool) -> bool {
        let (start, _) = unit.span(observation);
        let at = self.list.iter().position(|stream| {
            stream.is_of(observation, by_port) && stream.goes_on(start, unit, observation)
        });
        if let Some(at) = at {
            self.list.swap(0, at);
        }
        at.is_some()
    }

    /// What the message before said in the stream that was found, and how many records it had.
    pub(super) fn last(&self) -> Option<(u32, Option<u32>)> {
        let stream = self.list.first().filter(|_| self.is_found)?;
        Some((stream.last, stream.last_records))
    }

    /// Takes a message in, after [`Self::find`].
    pub(super) fn take(
        &mut self,
        observation: &Observation,
        unit: SequenceUnit,
        by_port: bool,
        may_lose: bool,
    ) {
        let Self { list, counts, .. } = self;
        let Some(stream) = list.first_mut().filter(|_| self.is_found) else {
            return self.begin(observation, unit, by_port, may_lose);
        };
        let early = stream.take(unit, observation, counts);
        if may_lose {
            counts.lost += early + stream.expire(observation.received);
        }
    }

    /// Numbers begin, or begin anew.
    #[cold]
    fn begin(
        &mut self,
        observation: &Observation,
        unit: SequenceUnit,
        by_port: bool,
        may_lose: bool,
    ) {
        let Self { list, counts, .. } = self;
        let mut streams = list.iter();
        let same = streams.position(|stream| by_port && stream.is_of(observation, by_port));
        let seen = list.iter().map(|stream| stream.seen).max();
        let silence_ns = seen.map(|seen| observation.received.0.saturating_sub(seen.0));
        let is_restart = |ns| same.is_some() || !by_port || ns >= RESTART_SILENCE_NS;
        counts.restarts += u64::from(silence_ns.is_some_and(is_restart));
        let is_full = list.len() == STREAMS_MAX;
        let oldest = || (0..list.len()).min_by_key(|at| list[*at].seen);
        if let Some(at) = same.or_else(|| oldest().filter(|_| is_full)) {
            let gone = list.swap_remove(at);
            if may_lose {
                counts.lost += gone.missing();
            }
        }
        let (stream, received) = Stream::begin(unit, observation);
        counts.received += received;
        list.insert(0, stream);
    }

    /// The numbers count something else than it seemed: what was missing is not, and what was not
    /// told yet was found in the wrong unit.
    #[cold]
    pub(super) fn begin_counting(&mut self, unit: SequenceUnit, told: &SequenceCounts) {
        self.counts = *told;
        self.list.iter_mut().for_each(|stream| stream.count(unit));
    }

    /// True when numbers have come from other ports only.
    pub(super) fn is_new_port(&self, port: u16) -> bool {
        let stream = self.list.first();
        stream.is_some_and(|stream| stream.port.is_some_and(|known| known != port))
    }

    /// The number that is expected next from a port.
    pub(super) fn next_of(&self, port: u16) -> Option<u32> {
        let mut streams = self.list.iter();
        Some(streams.find(|stream| stream.port == Some(port))?.next)
    }

    /// True when the message is just what a stream lacks.
    pub(super) fn lack(&self, observation: &Observation, unit: SequenceUnit) -> bool {
        let mut streams = self.list.iter();
        streams.any(|stream| stream.lacks(unit, observation))
    }

    /// The number that is expected next where the last message was.
    pub(super) fn next(&self) -> Option<u32> {
        self.list.first().map(|stream| stream.next)
    }

    /// The stream, if there is one only.
    pub(super) fn only(&self) -> Option<&Stream> {
        match &self.list[..] {
            [stream] => Some(stream),
            _ => None,
        }
    }

    pub(super) fn restore(&mut self, state: &SequenceState, is_exact: bool) {
        self.list.push(Stream::restored(state, is_exact));
    }

    /// How much is missing, repeated or begun anew.
    pub(super) fn oddities(&self) -> u64 {
        let missing: u64 = self.list.iter().map(Stream::missing).sum();
        missing + self.counts.duplicated + self.counts.restarts
    }

    /// Something was not observed: what follows is no gap.
    pub(super) fn doubt(&mut self) {
        self.list.iter_mut().for_each(|s| s.is_unsure = true);
    }

    /// What has been missing for too long at `now` is lost; who was silent for too long goes.
    pub(super) fn tidy(&mut self, now: UnixNanos, may_lose: bool) {
        let Self { list, counts, .. } = self;
        let mut is_first = true;
        list.retain(|stream| {
            let stays = std::mem::take(&mut is_first) || !stream.is_silent(now);
            if may_lose {
                let lost = stream.expire(now);
                counts.lost += lost + if stays { 0 } else { stream.missing() };
            }
            stream.first = None;
            if stream.holes.is_empty() {
                stream.holes.shrink_to_fit();
            }
            stays
        });
    }

    /// Nothing comes any more.
    pub(super) fn finish(&mut self, may_lose: bool) {
        let Self { list, counts, .. } = self;
        for stream in list {
            if may_lose {
                counts.lost += stream.missing();
            }
            stream.holes.clear();
        }
    }
}
