//! What the numbers of a domain count: what its protocol says, unless they tell something else.

use super::{Observation, SequenceUnit};
use crate::flow::FlowType;

/// So many messages tell what the numbers count.
const SURE: u8 = 4;
/// So many messages tell that they count something else than it seemed.
const OTHERWISE: u8 = 8;
/// After so many messages they count what they are supposed to, whatever they tell.
const SUPPOSED_AFTER: u8 = 64;

/// Every possible unit, with the lesser demands first.
const UNITS: [SequenceUnit; 3] = [
    SequenceUnit::Packets,
    SequenceUnit::Records,
    SequenceUnit::RecordsThrough,
];

/// What the numbers count, and how sure that is.
#[derive(Debug, Default)]
pub(super) struct UnitGuess {
    pub(super) unit: SequenceUnit,
    /// As long as it is not, nothing counts as lost.
    pub(super) is_sure: bool,
    /// It was sure once, whatever speaks against it now.
    is_established: bool,
    /// Messages that agree with `unit` while nothing speaks against it, up to [`SURE`].
    agreeing: u8,
    /// Messages compared since something spoke against it, up to [`SUPPOSED_AFTER`].
    compared: u8,
    /// By unit: messages that agree with it and not with `unit`, without one the other way round.
    against: [u8; UNITS.len()],
}

impl SequenceUnit {
    /// Where the numbers of a message begin, and how many they are if that is known.
    #[inline]
    pub(super) fn span(self, observation: &Observation) -> (u32, Option<u32>) {
        let Observation {
            sequence, records, ..
        } = *observation;
        match (self, records) {
            (SequenceUnit::Packets, _) => (sequence, Some(1)),
            (SequenceUnit::Records, _) => (sequence, records),
            (SequenceUnit::RecordsThrough, Some(len)) => (sequence.wrapping_sub(len), Some(len)),
            (SequenceUnit::RecordsThrough, None) => (sequence, None),
        }
    }
}

impl UnitGuess {
    /// What an exporter of this protocol is supposed to count.
    pub(super) fn of(flow_type: FlowType) -> Self {
        Self {
            unit: SequenceUnit::of(flow_type),
            // sFlow's other numbers are those of samples, and stand elsewhere.
            is_sure: flow_type == FlowType::Sflow5,
            is_established: flow_type == FlowType::Sflow5,
            ..Self::default()
        }
    }

    /// What is known for certain.
    pub(super) fn sure(unit: SequenceUnit) -> Self {
        Self {
            unit,
            is_sure: true,
            is_established: true,
            ..Self::default()
        }
    }

    /// Compares how far `observation` is from the message before, which said `last` and had
    /// `last_records`, with what either holds. True when
    /// the numbers turn out to count something else.
    pub(super) fn weigh(
        &mut self,
        last: u32,
        last_records: Option<u32>,
        observation: &Observation,
    ) -> bool {
        let step = observation.sequence.wrapping_sub(last);
        let agrees = |unit| match unit {
            SequenceUnit::Packets => step == 1,
            SequenceUnit::Records => last_records == Some(step),
            SequenceUnit::RecordsThrough => observation.records == Some(step),
        };
        if self.is_settled() && agrees(self.unit) {
            return false;
        }
        self.weigh_all(step, UNITS.map(agrees))
    }

    /// True when it is likely, now that no further message comes.
    pub(super) fn is_likely(&self) -> bool {
        self.is_established && self.against.iter().all(|against| *against < SURE)
    }

    /// True when nothing speaks against it.
    pub(super) fn is_settled(&self) -> bool {
        self.is_sure && self.against == [0; UNITS.len()]
    }

    fn weigh_all(&mut self, step: u32, agrees: [bool; UNITS.len()]) -> bool {
        if step == 0 {
            return false;
        }
        let agrees_as_is = agrees[self.unit as usize];
        if !agrees_as_is && agrees.contains(&true) {
            (self.agreeing, self.compared) = (0, 0);
        }
        for (against, agrees) in self.against.iter_mut().zip(agrees) {
            match (agrees, agrees_as_is) {
                (true, false) => *against += 1,
                (false, true) => *against = 0,
                _ => {}
            }
        }
        let is_undisputed = self.against == [0; UNITS.len()];
        let agreeing = self.agreeing + u8::from(agrees_as_is && is_undisputed);
        self.agreeing = agreeing.min(SURE);
        self.compared = (self.compared + 1).min(SUPPOSED_AFTER);
        let is_supposed = self.compared == SUPPOSED_AFTER;
        self.is_established |= self.agreeing == SURE || is_supposed;
        self.is_sure = self.is_established && (is_undisputed || is_supposed);
        let Some(other) = self
            .against
            .iter()
            .position(|against| *against >= OTHERWISE)
        else {
            return false;
        };
        *self = Self::sure(UNITS[other]);
        true
    }
}
