//! A valid exporter of NetFlow v9 or IPFIX that does one thing wrong, and what must come of it.

use rand::RngExt;

use super::exporter::{
    Dialect, Exporter, FURTHER_ID, Field, Layout, Message, Set, VARIABLE, layout,
};
use super::{Rng, bytes, pick};
use crate::tape::{Frame, Tape};

/// What is wrong. What is said of rows is what a collector that loses nothing makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A set says that it is longer than it is: it and what is behind it may be lost.
    SetTooLong,
    /// A set says that it is shorter than it is: it and what is behind it may be lost.
    SetTooShort,
    /// A set says that it is shorter than its own header: the message ends there.
    SetWithoutLength,
    /// A set has the id of no template: it alone is lost.
    SetOfNoTemplate,
    /// A set has an id that means nothing: it alone is lost.
    SetReserved,
    /// NetFlow counts wrongly: nothing is lost. IPFIX tells a wrong length: the message may be.
    HeaderLength,
    /// The datagram ends early: what was whole before that is not lost.
    Truncated,
    /// Zeros behind the message: nothing is lost and nothing comes of them.
    ZeroTail,
    /// A set is padded with zeros as long as records: nothing comes of them.
    LongPadding,
    /// A template is withdrawn (v9: redefined without fields): its later data are lost.
    Withdrawn,
    /// All templates are withdrawn by one record (v9: nothing happens): later data are lost.
    WithdrawnAll,
    /// A template has a field of length 0: its records come out.
    ZeroLengthField,
    /// A template has no bytes at all: its data are lost, nothing else is.
    TemplateWithoutBytes,
    /// A template announces more fields than it has: its data are lost, nothing else is.
    TemplateCount,
    /// A template has only fields of variable length: its records come out.
    VariableOnly,
    /// A field is longer than the rest of its set: the records before it come out.
    FieldPastSet,
    /// An options template with enterprise fields: its records are read, and make no flows.
    EnterpriseOptions,
    /// A template gets another meaning: data before and behind it come out.
    Redefined,
    /// Another domain of the same exporter uses the same ids for other templates.
    OtherDomain,
    /// Another exporter uses the same ids for other templates.
    OtherExporter,
    /// A datagram arrives twice: its flows come twice, a collector cannot know better.
    Duplicate,
    /// The datagram with the templates is lost: flows may be, but nothing else happens.
    TemplatesLost,
    /// The exporter does not know its uptime.
    UptimeZero,
    /// The exporter's clock is wrong by years.
    ClockWrong,
    /// A bit is wrong somewhere.
    Bit,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::None,
        Self::SetTooLong,
        Self::SetTooShort,
        Self::SetWithoutLength,
        Self::SetOfNoTemplate,
        Self::SetReserved,
        Self::HeaderLength,
        Self::Truncated,
        Self::ZeroTail,
        Self::LongPadding,
        Self::Withdrawn,
        Self::WithdrawnAll,
        Self::ZeroLengthField,
        Self::TemplateWithoutBytes,
        Self::TemplateCount,
        Self::VariableOnly,
        Self::FieldPastSet,
        Self::EnterpriseOptions,
        Self::Redefined,
        Self::OtherDomain,
        Self::OtherExporter,
        Self::Duplicate,
        Self::TemplatesLost,
        Self::UptimeZero,
        Self::ClockWrong,
        Self::Bit,
    ];
}

/// Rows that must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// So many.
    Exactly(u64),
    /// So many, and perhaps some of what was hit.
    AtLeast(u64),
}

impl Expected {
    /// Are `rows` right?
    #[must_use]
    pub const fn is_met_by(self, rows: u64) -> bool {
        match self {
            Self::Exactly(expected) => rows == expected,
            Self::AtLeast(expected) => rows >= expected,
        }
    }
}

/// Datagrams with one thing wrong.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is wrong.
    pub fault: Fault,
    /// In the order of sending.
    pub frames: Vec<Frame>,
    /// What must come of it.
    pub expected: Expected,
}

impl Scenario {
    /// The datagrams as an input.
    #[must_use]
    pub fn tape(&self) -> Tape {
        Tape::of(&self.frames)
    }
}

/// A scenario of any fault.
#[must_use]
pub fn any(dialect: Dialect, rng: &mut Rng) -> Scenario {
    scenario(pick(&Fault::ALL, rng), dialect, rng)
}

/// A scenario of one fault.
#[must_use]
pub fn scenario(fault: Fault, dialect: Dialect, rng: &mut Rng) -> Scenario {
    let mut exporter = Exporter::new(dialect, rng);
    let expected = commit(fault, &mut exporter, rng);
    let mut frames: Vec<_> = exporter
        .messages
        .iter()
        .map(|message| Frame {
            control: message.source | (rng.random::<u8>() & 12),
            delay: rng.random_range(0..12),
            payload: message.bytes(),
        })
        .collect();
    let expected = match fault {
        Fault::Truncated => {
            let at = 1 + rng.random_range(0..frames.len() - 1);
            let all: u64 = exporter.messages.iter().map(Message::rows).sum();
            let len = rng.random_range(0..frames[at].payload.len());
            frames[at].payload.truncate(len);
            Expected::AtLeast(all - exporter.messages[at].rows())
        }
        Fault::Bit => {
            let at = rng.random_range(0..frames.len());
            let byte = rng.random_range(0..frames[at].payload.len());
            frames[at].payload[byte] ^= 1 << rng.random_range(0..8);
            Expected::AtLeast(0)
        }
        _ => expected,
    };
    Scenario {
        fault,
        frames,
        expected,
    }
}

/// Commits a fault, unless it is one of bytes, and says what must come of it.
fn commit(fault: Fault, exporter: &mut Exporter, rng: &mut Rng) -> Expected {
    use Expected::{AtLeast, Exactly};
    let all: u64 = exporter.messages.iter().map(Message::rows).sum();
    // The message and the set that are hit; the first message holds the templates.
    let m = rng.random_range(1..exporter.messages.len());
    let s = rng.random_range(0..exporter.messages[m].sets.len());
    let sets = &exporter.messages[m].sets;
    let hit = sets[s].rows;
    let from_hit: u64 = sets[s..].iter().map(|set| set.rows).sum();
    let of_message = exporter.messages[m].rows();
    match fault {
        Fault::None | Fault::Truncated | Fault::Bit => Exactly(all),
        Fault::SetTooLong | Fault::SetTooShort | Fault::SetWithoutLength => {
            let set = &mut exporter.messages[m].sets[s];
            let right = 4 + set.body.len() as u16;
            set.length = Some(match fault {
                Fault::SetTooLong => right + pick(&[1, 2, 3, 4, 60, u16::MAX - right], rng),
                Fault::SetTooShort => rng.random_range(4..right),
                _ => rng.random_range(0..4),
            });
            AtLeast(all - from_hit)
        }
        Fault::SetOfNoTemplate | Fault::SetReserved => {
            exporter.messages[m].sets[s].id = match fault {
                Fault::SetReserved => rng.random_range(4..256),
                _ => 60_000,
            };
            Exactly(all - hit)
        }
        Fault::HeaderLength => {
            let message = &mut exporter.messages[m];
            message.length = Some(rng.random());
            match message.dialect {
                Dialect::Netflow9 => Exactly(all),
                Dialect::Ipfix => AtLeast(all - of_message),
            }
        }
        Fault::ZeroTail => {
            exporter.messages[m].tail = vec![0; rng.random_range(1..200)];
            Exactly(all)
        }
        Fault::LongPadding => {
            let padding = rng.random_range(1..300);
            exporter.messages[m].sets[s].body.extend(vec![0; padding]);
            Exactly(all)
        }
        Fault::Withdrawn | Fault::WithdrawnAll => withdraw(fault, exporter, m, rng),
        Fault::Redefined => {
            let old = exporter.layouts[0].clone();
            let new = layout(old.id, exporter.messages[0].dialect, rng);
            Exactly(all + redefine(exporter, &new, rng))
        }
        Fault::OtherDomain | Fault::OtherExporter => Exactly(all + collide(fault, exporter, rng)),
        Fault::Duplicate => {
            let twice = exporter.messages[m].clone();
            exporter.messages.insert(m, twice);
            Exactly(all + of_message)
        }
        Fault::TemplatesLost => {
            exporter.messages.remove(0);
            Exactly(0)
        }
        Fault::UptimeZero | Fault::ClockWrong => {
            tell_wrong_times(fault, exporter, rng);
            Exactly(all)
        }
        _ => Exactly(all + further(fault, exporter, m, rng)),
    }
}

fn tell_wrong_times(fault: Fault, exporter: &mut Exporter, rng: &mut Rng) {
    for message in &mut exporter.messages {
        match fault {
            Fault::UptimeZero => message.uptime_ms = 0,
            _ => message.export_s = rng.random(),
        }
    }
}

/// Withdraws behind message `m`, which is followed by others or not.
fn withdraw(fault: Fault, exporter: &mut Exporter, m: usize, rng: &mut Rng) -> Expected {
    let dialect = exporter.messages[0].dialect;
    let id = exporter.layouts[rng.random_range(0..exporter.layouts.len())].id;
    let (set_id, body) = match (dialect, fault) {
        (Dialect::Netflow9, Fault::WithdrawnAll) => (0, vec![0, 0, 0, 0]),
        (Dialect::Netflow9, _) => (0, [id, 0].map(u16::to_be_bytes).concat()),
        (Dialect::Ipfix, Fault::WithdrawnAll) => (2, vec![0, 2, 0, 0]),
        (Dialect::Ipfix, _) => (2, [id, 0].map(u16::to_be_bytes).concat()),
    };
    let is_for_all = fault == Fault::WithdrawnAll;
    let is_hit = |set: &Set| match (dialect, is_for_all) {
        (Dialect::Netflow9, true) => false,
        (Dialect::Ipfix, true) => set.rows > 0,
        (_, false) => set.id == id,
    };
    let all: u64 = exporter.messages.iter().map(Message::rows).sum();
    let later = exporter.messages[m + 1..].iter().flat_map(|m| &m.sets);
    let lost: u64 = later.filter(|set| is_hit(set)).map(|set| set.rows).sum();
    let withdrawal = Message {
        sets: vec![Set::new(set_id, body)],
        tail: Vec::new(),
        ..exporter.messages[m].clone()
    };
    exporter.messages.insert(m + 1, withdrawal);
    Expected::Exactly(all - lost)
}

/// A message with another template of a known id, and data of it.
fn redefine(exporter: &mut Exporter, new: &Layout, rng: &mut Rng) -> u64 {
    let last = exporter.messages[exporter.messages.len() - 1].clone();
    let records = Set::records(new, rng.random_range(1..5), rng);
    let rows = records.rows;
    exporter.messages.push(Message {
        sets: vec![Set::templates(&[new], last.dialect), records],
        ..last
    });
    rows
}

/// The same ids mean something else in another domain, or at another exporter; both before and
/// between the messages of the first.
fn collide(fault: Fault, exporter: &mut Exporter, rng: &mut Rng) -> u64 {
    let header = exporter.messages[0].clone();
    let other = layout(exporter.layouts[0].id, header.dialect, rng);
    let mut rows = 0;
    for at in [0, exporter.messages.len()] {
        let records = Set::records(&other, 2, rng);
        rows += records.rows;
        let (source, domain) = match fault {
            Fault::OtherDomain => (header.source, header.domain + 7),
            _ => (header.source + 1, header.domain),
        };
        let message = Message {
            source,
            domain,
            sets: vec![Set::templates(&[&other], header.dialect), records],
            ..header.clone()
        };
        exporter.messages.insert(at, message);
    }
    rows
}

/// A template of its own with something odd, and its data, in message `m`. Yields their rows.
fn further(fault: Fault, exporter: &mut Exporter, m: usize, rng: &mut Rng) -> u64 {
    let dialect = exporter.messages[m].dialect;
    let mut odd = layout(FURTHER_ID, Dialect::Netflow9, rng);
    let empty = |id| Field {
        enterprise: 0,
        id,
        len: 0,
    };
    let variable = |id| Field {
        len: VARIABLE,
        ..empty(id)
    };
    let mut sets = Vec::new();
    match (fault, dialect) {
        (Fault::ZeroLengthField, _) => odd.fields.insert(1, empty(7)),
        (Fault::TemplateWithoutBytes, _) => {
            odd.fields = vec![empty(1), empty(8)];
            sets.push(Set::templates(&[&odd], dialect));
            sets.push(Set::new(FURTHER_ID, bytes(40, rng)));
        }
        (Fault::TemplateCount, _) => {
            let mut set = Set::templates(&[&odd], dialect);
            set.body[3] += rng.random_range(1..100);
            sets.push(set);
            sets.push(Set::new(FURTHER_ID, bytes(40, rng)));
        }
        (Fault::VariableOnly, Dialect::Ipfix) => odd.fields = vec![variable(82), variable(1)],
        (Fault::FieldPastSet, Dialect::Ipfix) => {
            odd.fields = vec![Field { len: 4, ..empty(8) }, variable(82)];
            sets.push(Set::templates(&[&odd], dialect));
            let mut set = Set::records(&odd, 1, rng);
            set.body.extend([10, 0, 0, 1, 200, b'a']);
            sets.push(set);
        }
        (Fault::EnterpriseOptions, Dialect::Ipfix) => {
            odd.scopes = Some(1);
            odd.fields.truncate(1);
            odd.fields.push(Field {
                enterprise: 9,
                id: 305,
                len: 4,
            });
        }
        // NetFlow v9 has neither variable lengths nor enterprises.
        _ => {}
    }
    if sets.is_empty() {
        sets.push(Set::templates(&[&odd], dialect));
        sets.push(Set::records(&odd, rng.random_range(1..4), rng));
    }
    let rows = sets.iter().map(|set| set.rows).sum();
    exporter.messages[m].sets.extend(sets);
    rows
}
