//! One domain's numbers: what they count, and whose they are.
//!
//! Exporters behind one address translation, or in containers, may have all but their source ports
//! in common; others use several ports for the same numbers. When a second port appears both are
//! tried, until the numbers tell which it is. Until then nothing is lost and nothing is told.

use super::streams::Streams;
use super::unit::UnitGuess;
use super::{Observation, SequenceCounts, SequenceState, SequenceStatus, SequenceUnit};
use crate::flow::FlowType;
use crate::units::UnixNanos;

/// Messages that speak for one meaning of ports more than for the other, until it is believed.
const SURE: i8 = 8;
/// After so many messages the meaning is believed by which fewer are missing or repeated.
const COMPARED_MAX: u16 = 1024;

/// The numbers of a domain, with those fields first that every message needs.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Tracker {
    /// Nothing is missing or unclear where the last message was: one that comes next is only
    /// counted.
    is_calm: bool,
    unit: UnitGuess,
    ports: Ports,
    streams: Streams,
    /// What was told at the last drain.
    told: SequenceCounts,
}

/// What source ports tell.
#[derive(Debug, Default)]
enum Ports {
    /// There was one only.
    #[default]
    One,
    /// Not known yet; `streams` has them apart.
    Unclear(Box<Trial>),
    /// Each has numbers of its own.
    Apart,
    /// Nothing.
    Together,
}

/// The other meaning of ports, on trial.
#[derive(Debug)]
struct Trial {
    together: Streams,
    /// Messages that speak for it, less those against.
    score: i8,
    compared: u16,
    /// What was found before there was a second port.
    before: SequenceCounts,
}

impl Tracker {
    pub(super) fn new(flow_type: FlowType) -> Self {
        Self {
            unit: UnitGuess::of(flow_type),
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn observe(&mut self, observation: &Observation) {
        let by_port = !matches!(self.ports, Ports::Together);
        if !self.is_calm || !self.streams.step(observation, self.unit.unit, by_port) {
            self.observe_closely(observation);
            self.is_calm = self.may_lose() && self.unit.is_settled() && self.streams.is_calm();
        }
    }

    #[inline(never)]
    fn observe_closely(&mut self, observation: &Observation) {
        let is_settled = match self.ports {
            Ports::One => !self.streams.is_new_port(observation.source_port),
            Ports::Unclear(_) => false,
            Ports::Apart | Ports::Together => true,
        };
        if !is_settled && self.compare(observation) {
            return;
        }
        let by_port = !matches!(self.ports, Ports::Together);
        self.streams.find(observation, self.unit.unit, by_port);
        self.weigh(observation);
        let may_lose = self.may_lose();
        self.streams
            .take(observation, self.unit.unit, by_port, may_lose);
    }

    /// Numbers that are missing are lost as soon as it is clear what they count and whose they are.
    fn may_lose(&self) -> bool {
        self.unit.is_sure && !matches!(self.ports, Ports::Unclear(_))
    }

    /// Looks what the numbers count.
    fn weigh(&mut self, observation: &Observation) {
        let last = self.streams.last();
        if let Some((last, records)) = last
            && self.unit.weigh(last, records, observation)
        {
            let Self {
                unit, ports, told, ..
            } = self;
            self.streams.begin_counting(unit.unit, told);
            if let Ports::Unclear(trial) = ports {
                trial.together.begin_counting(unit.unit, told);
                (trial.score, trial.compared, trial.before) = (0, 0, *told);
            }
        }
    }

    /// Looks which meaning of ports fits the message, before `streams` takes it; true when the
    /// other one has become `streams`, and has taken it.
    #[cold]
    fn compare(&mut self, observation: &Observation) -> bool {
        let Self {
            unit,
            ports,
            streams,
            ..
        } = self;
        if !matches!(ports, Ports::Unclear(_)) {
            *ports = Ports::Unclear(Box::new(Trial {
                together: streams.clone(),
                score: 0,
                compared: 0,
                before: streams.counts,
            }));
        }
        let Ports::Unclear(trial) = ports else {
            return false;
        };
        let unit = unit.unit;
        let fits_together = trial.together.lack(observation, unit);
        // Of a new port nothing is known apart.
        let fits_apart = streams
            .next_of(observation.source_port)
            .map_or(!fits_together, |next| next == unit.span(observation).0);
        if observation.records.is_some() || unit == SequenceUnit::Packets {
            trial.score += i8::from(fits_together) - i8::from(fits_apart);
        }
        trial.compared += 1;
        let repeated_before = trial.together.counts.duplicated;
        trial.together.find(observation, unit, false);
        trial.together.take(observation, unit, false, false);
        // Another port had the number already.
        trial.score -= i8::from(trial.together.counts.duplicated > repeated_before);
        if trial.score.abs() >= SURE || trial.compared >= COMPARED_MAX {
            self.conclude();
        }
        matches!(self.ports, Ports::Together)
    }

    /// Believes what speaks for more.
    fn conclude(&mut self) {
        let Ports::Unclear(trial) = &mut self.ports else {
            return;
        };
        let is_together = match trial.score {
            score if score.abs() >= SURE => score > 0,
            // What makes less of a mess of the numbers.
            _ => trial.together.oddities() <= self.streams.oddities(),
        };
        self.ports = if is_together {
            self.streams = std::mem::take(&mut trial.together);
            Ports::Together
        } else {
            Ports::Apart
        };
    }

    /// Something was not observed: what follows is no gap.
    #[cold]
    pub(super) fn doubt(&mut self) {
        self.is_calm = false;
        self.streams.doubt();
        if let Ports::Unclear(trial) = &mut self.ports {
            trial.together.doubt();
        }
    }

    pub(super) fn drain(&mut self, now: UnixNanos) -> (SequenceUnit, SequenceCounts) {
        let may_lose = self.may_lose();
        self.streams.tidy(now, may_lose);
        // The other port has been silent for long: the exporter has changed it.
        if self.streams.only().is_some() {
            self.conclude();
        }
        let counts = self.counts();
        let new = counts.since(&self.told);
        self.told = counts;
        (self.unit.unit, new)
    }

    /// What is certain by now.
    fn counts(&self) -> SequenceCounts {
        match &self.ports {
            Ports::Unclear(trial) => trial.before,
            _ => self.streams.counts,
        }
    }

    pub(super) fn finish(&mut self) {
        self.conclude();
        self.streams.finish(self.unit.is_likely());
    }

    pub(super) fn status(&self) -> SequenceStatus {
        SequenceStatus {
            unit: self.unit.unit,
            next: self.streams.next(),
            counts: self.counts(),
        }
    }

    pub(super) fn state(&self) -> Option<SequenceState> {
        let stream = self.streams.only().filter(|_| self.may_lose())?;
        Some(stream.state(self.unit.unit))
    }

    pub(super) fn restore(&mut self, state: &SequenceState, is_exact: bool) {
        if self.streams.next().is_none() {
            self.unit = UnitGuess::sure(state.unit);
            self.streams.restore(state, is_exact);
        }
    }
}
