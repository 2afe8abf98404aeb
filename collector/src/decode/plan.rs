//! A template compiled: the operations that turn one record into one flow.
//!
//! The plan of a fixed layout works through the records of a set operation by operation, so what
//! an operation does is chosen once for all of them.

mod compile;

use super::extra::{ExtraPlan, Wanted};
use super::fields::{Element, Else, Section, Target};
use super::lists::ListKind;
use super::record::{Clock, Extras, is_unknown, store};
use super::window::{
    CHUNK_MIN, FixedRecords, OneRecord, ReadField, WINDOW_LEAD, mask, number, shift_for,
};
use crate::config::Tunnels;
use crate::flow::Flow;
use compile::{candidates, is_nsel, lists, packet_at};

/// Fields of one template. A datagram of 1500 bytes has room for 366; real ones stay below 100.
pub const TEMPLATE_FIELDS_MAX: usize = 256;

/// The length that says: the record tells (RFC 7011 section 7).
pub const VARIABLE_LENGTH: u16 = 65_535;

/// One field of a template as the exporter wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Private enterprise number, 0 for IANA's.
    pub enterprise: u32,
    /// Element number without the enterprise bit.
    pub id: u16,
    /// Bytes, or [`VARIABLE_LENGTH`].
    pub len: u16,
    /// A scope of NetFlow v9 (RFC 3954 section 6.1), whose numbers are not element numbers.
    pub is_scope: bool,
}

/// Where a field of a record lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// One past its last byte, from the record's first.
    end: u16,
    len: u16,
}

/// Room for the spans of one record; made once a worker.
#[derive(Debug)]
pub struct Spans(Box<[Span; TEMPLATE_FIELDS_MAX]>);

impl Spans {
    /// One past the last byte of the field `number`, and its length.
    pub(super) fn place(&self, number: u16) -> (u16, u16) {
        let span = self.0.get(usize::from(number)).copied().unwrap_or_default();
        (span.end, span.len)
    }

    /// The bytes of field `number` of the record in `window`.
    #[must_use]
    pub fn bytes<'w>(&self, number: u16, window: &'w [u8]) -> &'w [u8] {
        bytes_at(window, self.place(number))
    }
}

/// The bytes of a field of the record in `window`, by one past its last byte and its length.
pub(super) fn bytes_at(window: &[u8], (end, len): (u16, u16)) -> &[u8] {
    let end = usize::from(end) + WINDOW_LEAD;
    let bytes = window.get(end - usize::from(len)..end);
    bytes.unwrap_or_default()
}

impl Default for Spans {
    fn default() -> Self {
        Self(Box::new([Span::default(); TEMPLATE_FIELDS_MAX]))
    }
}

/// One operation: read a field, store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Op {
    target: Target,
    index: u8,
    /// Bits before the number in its eight bytes.
    shift: u8,
    /// Fixed layout: one past the field's last byte. Variable layout: number of the field.
    at: u16,
}

/// How records lie in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All as long as each other.
    Fixed {
        /// Bytes of a record, at least 1.
        len: usize,
    },
    /// With fields that tell their own length.
    Variable {
        /// Lengths in the order of the fields.
        lens: Box<[u16]>,
        /// Bytes of the shortest record.
        len_min: usize,
    },
}

/// The sampled packet in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PacketAt {
    section: Section,
    /// As in [`Op::at`].
    at: u16,
    len: u16,
}

/// What to do with each record of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    layout: Layout,
    /// One for each field of `Flow` that is filled.
    ops: Box<[Op]>,
    /// Those that step in where an operation before left the field unknown.
    fallbacks: Box<[Op]>,
    packet: Option<PacketAt>,
    /// Lists and the numbers of their fields, where records tell the lengths of fields.
    lists: Box<[(ListKind, u16)]>,
    /// Some operation writes to [`Extras`].
    pub uses_extras: bool,
    /// Type and code of ICMP can only come from the destination port (RFC 3954: unset; practice).
    pub icmp_from_port: bool,
    /// A record may tell of the other direction.
    is_bidirectional: bool,
    /// Records are events of a firewall's connections, several of each.
    pub is_nsel: bool,
    /// LAST_SWITCHED, for exporters that do not say their uptime.
    last_switched: Option<Op>,
    /// IE 160, for those that say in each record when they were started.
    boot: Option<Op>,
    /// What fills no column and is wanted all the same.
    pub extra: ExtraPlan,
}

impl Plan {
    /// Compiles `fields`, those that are `wanted` and fill no column included; `None` when no
    /// record length comes of them.
    #[must_use]
    pub fn compile(fields: &[FieldSpec], wanted: &Wanted) -> Option<Self> {
        let layout = Layout::of(fields)?;
        let is_nsel = is_nsel(fields);
        let mut candidates = candidates(fields, &layout);
        // Elsewhere nobody asks for it.
        candidates.retain(|(element, _)| is_nsel || element.target != Target::FlowId);
        candidates.sort_by_key(|(element, _)| (element.target.slot(), element.index, element.rank));
        let mut ops = Vec::new();
        let mut fallbacks = Vec::new();
        let mut previous: Option<Element> = None;
        for (element, op) in candidates {
            let same_slot = previous.is_some_and(|p| {
                (p.target.slot(), p.index) == (element.target.slot(), element.index)
            });
            // A repeated element: the first is the outermost (RFC 7011 section 8) and stands.
            let repeated = previous == Some(element);
            previous = Some(element);
            if !same_slot {
                ops.push(op);
            } else if !repeated && element.otherwise == Else::Unknown {
                fallbacks.push(op);
            }
        }
        // The observation time is for records that have no other.
        let (observed, mut ops): (Vec<_>, Vec<_>) = ops
            .into_iter()
            .partition(|op| op.target.slot() == Target::ObservedSeconds);
        fallbacks.extend(observed);
        ops.sort_by_key(|op| op.at);
        let all = || ops.iter().chain(&fallbacks);
        let has = |target| all().any(|op| op.target == target);
        let packet = packet_at(fields, &layout);
        let fills = |op: &Op, at| op.at == at && op.target.is_column();
        let is_packet = |at| packet.is_some_and(|packet| packet.at == at);
        let uses = |at| all().any(|op| fills(op, at)) || is_packet(at);
        Some(Self {
            extra: ExtraPlan::compile(fields, &layout.places(fields), wanted, uses),
            uses_extras: all().any(|op| op.target.is_extra()),
            icmp_from_port: has(Target::DstPort)
                && !has(Target::IcmpTypeCode)
                && !has(Target::IcmpType),
            is_bidirectional: has(Target::ReverseBytes) || has(Target::ReversePackets),
            is_nsel,
            last_switched: all().find(|op| op.target == Target::EndUptime).copied(),
            boot: all().find(|op| op.target == Target::BootMillis).copied(),
            lists: lists(fields, &layout),
            packet,
            layout,
            ops: ops.into(),
            fallbacks: fallbacks.into(),
        })
    }

    /// How records lie in a set.
    #[must_use]
    #[inline]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes that it takes beside its own size, without the names for `extra`.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let lens = match &self.layout {
            Layout::Fixed { .. } => 0,
            Layout::Variable { lens, .. } => size_of_val(&**lens),
        };
        lens + size_of_val(&*self.ops) + size_of_val(&*self.fallbacks) + size_of_val(&*self.lists)
    }

    /// The lists of a record (RFC 6313) and the numbers of their fields; none in a fixed layout.
    #[must_use]
    #[inline]
    pub fn lists(&self) -> &[(ListKind, u16)] {
        &self.lists
    }

    /// True when records cannot be filled several at a time: each has a clock of its own, or may
    /// become two flows.
    #[must_use]
    pub fn is_one_by_one(&self, clock: &Clock) -> bool {
        self.is_bidirectional
            || self.is_nsel
            || (clock.uptime_ms.is_none() && (self.last_switched.is_some() || self.boot.is_some()))
    }

    /// What the sampled packets in records of a fixed layout say, see [`Plan::fill_fixed`]. Goes
    /// before it: what the exporter says itself has the last word.
    #[inline]
    pub fn fill_packets(&self, windows: &[u8], len: usize, tunnels: Tunnels, flows: &mut [Flow]) {
        if self.packet.is_some() {
            for (number, flow) in flows.iter_mut().enumerate() {
                let window = windows.get(number * len..).unwrap_or_default();
                self.fill_packet(window, None, tunnels, flow);
            }
        }
    }

    /// The fields of records of a fixed layout, one after the other from `windows` on, which
    /// begins [`WINDOW_LEAD`] bytes before the first. As many as there are `flows`.
    #[inline]
    pub fn fill_fixed(
        &self,
        windows: &[u8],
        len: usize,
        clock: &Clock,
        flows: &mut [Flow],
        extras: &mut [Extras],
    ) {
        let record = |number: usize| {
            let start = number * len;
            windows.get(start..start + len + WINDOW_LEAD)
        };
        let clock = self.own_clock(windows, None, clock);
        for op in &self.ops {
            let field = (op.at, mask(op.shift));
            if len < CHUNK_MIN {
                for (number, (flow, extras)) in flows.iter_mut().zip(&mut *extras).enumerate() {
                    let window = record(number).unwrap_or_default();
                    fill_one(*op, window, None, &clock, flow, extras);
                }
                continue;
            }
            let records = FixedRecords::new(windows, len, field, flows, extras);
            store(op.target, op.index, &clock, records);
        }
        if !self.fallbacks.is_empty() {
            for (number, (flow, extras)) in flows.iter_mut().zip(extras).enumerate() {
                let window = record(number).unwrap_or_default();
                self.fill_fallbacks(window, None, &clock, flow, extras);
            }
        }
    }

    /// The fields of a record whose `spans` [`Plan::measure`] found.
    pub fn fill_variable(
        &self,
        window: &[u8],
        spans: &Spans,
        clock: &Clock,
        flow: &mut Flow,
        extras: &mut Extras,
    ) {
        let clock = self.own_clock(window, Some(spans), clock);
        for op in &self.ops {
            fill_one(*op, window, Some(spans), &clock, flow, extras);
        }
        self.fill_fallbacks(window, Some(spans), &clock, flow, extras);
    }

    fn fill_fallbacks(
        &self,
        window: &[u8],
        spans: Option<&Spans>,
        clock: &Clock,
        flow: &mut Flow,
        extras: &mut Extras,
    ) {
        for op in &self.fallbacks {
            if is_unknown(op.target, op.index, flow, extras) {
                fill_one(*op, window, spans, clock, flow, extras);
            }
        }
    }

    /// The clock of a record whose message does not tell the exporter's uptime.
    #[inline]
    fn own_clock(&self, window: &[u8], spans: Option<&Spans>, clock: &Clock) -> Clock {
        if clock.uptime_ms.is_some() {
            return *clock;
        }
        let value = |op: Option<Op>| op.map(|op| read(op, window, spans).0);
        let clock = super::ipfix::with_boot(*clock, value(self.boot).unwrap_or(0));
        match value(self.last_switched) {
            Some(last) => clock.or_uptime(last as u32),
            None => clock,
        }
    }

    /// Finds where the fields of the record at the start of `rest` lie, and its length. `None`
    /// when a field runs past `rest`.
    pub fn measure(&self, rest: &[u8], spans: &mut Spans) -> Option<usize> {
        let Layout::Variable { lens, .. } = &self.layout else {
            return None;
        };
        let mut at = 0;
        for (span, fixed) in spans.0.iter_mut().zip(lens) {
            let len = if *fixed == VARIABLE_LENGTH {
                let (prefix, len) = length_prefix(rest.get(at..)?)?;
                at += prefix;
                len
            } else {
                *fixed
            };
            at += usize::from(len);
            if at > rest.len() {
                return None;
            }
            let end = u16::try_from(at).ok()?;
            *span = Span { end, len };
        }
        Some(at)
    }

    /// What the sampled packet in a record says; `spans` are those of a variable layout, which
    /// [`Plan::measure`] found. Goes before [`Plan::fill_variable`].
    pub fn fill_packet(
        &self,
        window: &[u8],
        spans: Option<&Spans>,
        tunnels: Tunnels,
        flow: &mut Flow,
    ) {
        let Some(packet) = self.packet else { return };
        let (end, len) = match spans {
            None => (packet.at, packet.len),
            Some(spans) => match spans.0.get(usize::from(packet.at)) {
                Some(span) => (span.end, span.len),
                None => return,
            },
        };
        let end = usize::from(end) + WINDOW_LEAD;
        let Some(bytes) = window.get(end - usize::from(len)..end) else {
            return;
        };
        let frame_length = self.ops.iter().find(|op| op.target == Target::FrameLength);
        let frame_len = frame_length.map_or(0, |op| read(*op, window, spans).0);
        super::record::packet(packet.section, bytes, frame_len, tunnels, flow);
    }
}

impl Layout {
    /// The layout of records with `fields`; `None` when a record would have no bytes.
    fn of(fields: &[FieldSpec]) -> Option<Self> {
        let is_variable = |f: &FieldSpec| f.len == VARIABLE_LENGTH;
        let len_min = fields
            .iter()
            .map(|f| {
                if is_variable(f) {
                    1
                } else {
                    usize::from(f.len)
                }
            })
            .sum();
        if len_min == 0 || len_min > usize::from(u16::MAX) {
            return None;
        }
        Some(if fields.iter().any(is_variable) {
            let lens = fields.iter().map(|f| f.len).collect();
            Self::Variable { lens, len_min }
        } else {
            Self::Fixed { len: len_min }
        })
    }

    /// `Op::at` of each field.
    pub(super) fn places(&self, fields: &[FieldSpec]) -> Vec<u16> {
        let mut end = 0;
        (0..)
            .zip(fields)
            .map(|(number, field)| match self {
                Self::Variable { .. } => number,
                Self::Fixed { .. } => {
                    end += field.len;
                    end
                }
            })
            .collect()
    }
}

/// The value of `op`, where its field ends, and its length as a record tells it, else 0; an empty
/// field reads as 0.
fn read(op: Op, window: &[u8], spans: Option<&Spans>) -> (u64, u16, u16) {
    let (end, shift, len) = match spans {
        None => (op.at, op.shift, 0),
        Some(spans) => match spans.0.get(usize::from(op.at)) {
            Some(span) if span.len > 0 => (span.end, shift_for(span.len), span.len),
            _ => return (0, 0, 0),
        },
    };
    (number(window, usize::from(end), mask(shift)), end, len)
}

#[inline(never)]
fn fill_one(
    op: Op,
    window: &[u8],
    spans: Option<&Spans>,
    clock: &Clock,
    flow: &mut Flow,
    extras: &mut Extras,
) {
    let (value, end, len) = read(op, window, spans);
    let record = OneRecord {
        field: ReadField {
            window,
            value,
            end: usize::from(end),
            len,
        },
        flow,
        extras,
    };
    store(op.target, op.index, clock, record);
}

/// RFC 7011 section 7: one byte, or 255 and two. Yields the bytes of the prefix and the length.
pub(super) fn length_prefix(bytes: &[u8]) -> Option<(usize, u16)> {
    match *bytes {
        [255, high, low, ..] => Some((3, u16::from_be_bytes([high, low]))),
        [255, ..] | [] => None,
        [len, ..] => Some((1, u16::from(len))),
    }
}
