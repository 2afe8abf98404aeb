//! The sets of a NetFlow v9 or IPFIX message.

mod tally;
mod templates;

use std::ops::Range;

use super::exporters::{Domain, Rate};
use super::extra::Wanted;
use super::ipfix;
use super::lists::Lists;
use super::plan::{Layout, Plan, Spans};
use super::record::{
    Clock, Extras, ExtrasBuffer, NO_EXTRAS, complete_times, icmp_from_port, reversed,
};
use super::sequence::Held;
use super::shared::Shared;
use super::template::{Dialect, Kind, TEMPLATE_ID_MIN};
use super::window::WINDOW_LEAD;
use super::{BURST_FLOWS, Burst, FlowSink};
use crate::config::Tunnels;
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts};
use tally::Tally;

/// A message whose header is understood.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The datagram up to the end of the message.
    pub bytes: &'a [u8],
    /// Where its sets begin; at least eight bytes of header come before.
    pub sets_at: usize,
    /// How its templates are written.
    pub dialect: Dialect,
    /// Its sequence number.
    pub sequence: u32,
    /// The exporter's clocks.
    pub clock: Clock,
    /// When it arrived, milliseconds since the epoch.
    pub received_ms: u64,
}

/// How many templates may be kept, and what waits for some.
#[derive(Clone, Copy, Debug)]
pub struct TemplateLimits {
    /// In all.
    pub all: usize,
    /// Of one exporter and domain.
    pub per_domain: usize,
    /// Bytes of sets that wait for theirs.
    pub pending_bytes: usize,
}

impl TemplateLimits {
    /// Of all domains of one source address: a quarter, so that none takes them all.
    #[must_use]
    pub fn of_source(&self) -> usize {
        const SHARE: usize = 4;
        (self.all / SHARE).max(self.per_domain)
    }
}

/// What decoding a message works on.
#[derive(Debug)]
pub struct Workspace<'w, 'b, S: FlowSink> {
    /// The exporter.
    pub domain: &'w mut Domain,
    /// Room for the fields of a record.
    pub spans: &'w mut Spans,
    /// The same for a record in a list of a record.
    pub nested: &'w mut Spans,
    /// Room for what the records of a burst say beside their flows.
    pub extras: &'w mut ExtrasBuffer,
    /// The ledger.
    pub counts: &'w mut WorkerCounts,
    /// Where flows go.
    pub burst: &'w mut Burst<'b, S>,
    /// Elements that go to `extra`.
    pub wanted: &'w Wanted,
    /// Bounds of what is learned.
    pub limits: TemplateLimits,
    /// Which packet of a tunnel is the flow.
    pub tunnels: Tunnels,
    /// What all workers know.
    pub shared: &'w Shared,
    /// Room for sequence numbers that cannot be handed in at once.
    pub held: &'w mut Held,
    /// The UDP port that the datagram came from.
    pub source_port: u16,
    /// Records of zeros behind the last one of a set, which no exporter counts.
    pub padding: u64,
}

/// Bytes of a set's id and length.
const SET_HEADER: usize = 4;

/// One set found in a message.
#[derive(Clone, Debug, Default)]
pub struct Set {
    pub(super) id: u16,
    /// Its bytes without the header, as far as they are there.
    pub(super) body: Range<usize>,
    /// Bytes of it that the message does not have.
    pub(super) missing: usize,
}

/// What a set holds, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Templates of a kind.
    Templates(Kind),
    /// Records of the template with the set's id.
    Records,
    /// An id without a meaning.
    Reserved,
}

impl Set {
    /// The set that begins at `at`; `None` at the end of the message, at padding and where what
    /// follows cannot be a set.
    #[inline]
    pub(super) fn at(message: &Message<'_>, at: usize) -> Option<Self> {
        let rest = message.bytes.get(at..)?;
        let [id @ .., len_high, len_low] = *rest.first_chunk::<SET_HEADER>()?;
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        if len < SET_HEADER {
            return None;
        }
        let missing = len.saturating_sub(rest.len());
        Some(Self {
            id: u16::from_be_bytes(id),
            body: at + SET_HEADER..at + len - missing,
            missing,
        })
    }

    /// RFC 3954 section 5.2 and 6.1, RFC 7011 section 3.3.2.
    #[inline]
    pub(super) fn content(&self, dialect: Dialect) -> Content {
        match (dialect, self.id) {
            (Dialect::Netflow9, 0) | (Dialect::Ipfix, 2) => Content::Templates(Kind::Data),
            (Dialect::Netflow9, 1) | (Dialect::Ipfix, 3) => Content::Templates(Kind::Options),
            (_, TEMPLATE_ID_MIN..) => Content::Records,
            _ => Content::Reserved,
        }
    }
}

impl<S: FlowSink> Workspace<'_, '_, S> {
    /// Decodes every set of `message`. A set that cannot be costs only itself, and one whose
    /// template is not known yet waits for it.
    pub fn decode(&mut self, message: &Message<'_>) {
        let mut tally = Tally::new(self.counts);
        let mut at = message.sets_at;
        let mut message = *message;
        let message = &mut message;
        while let Some(set) = self.next_set(message, at) {
            at = set.body.end;
            match set.content(message.dialect) {
                Content::Templates(kind) => self.templates(message, &set, kind),
                Content::Records => {
                    self.set_clock(message);
                    if !self.tallied(message, &set, &mut tally) {
                        self.wait(message, &set, &mut tally);
                    }
                }
                Content::Reserved => self.counts.drop_one(DropReason::SetReserved),
            }
        }
        self.follow(message, &tally);
    }

    /// IPFIX exporters tell in options when they were started.
    #[inline]
    fn set_clock(&self, message: &mut Message<'_>) {
        if message.dialect == Dialect::Ipfix {
            let boot_ms = self.domain.learned().boot_ms;
            message.clock = ipfix::with_boot(message.clock, boot_ms);
        }
    }

    /// The set at `at`, with what is wrong with it counted.
    fn next_set(&mut self, message: &Message<'_>, at: usize) -> Option<Set> {
        let set = Set::at(message, at);
        let is_malformed = match &set {
            Some(set) => set.missing > 0,
            None => {
                let rest = message.bytes.get(at..).unwrap_or_default();
                rest.len() >= SET_HEADER && !is_zero(rest)
            }
        };
        if is_malformed {
            self.counts.drop_one(DropReason::SetMalformed);
        }
        set
    }

    /// The records of a data set; false when its template is not known.
    fn records(&mut self, message: &Message<'_>, set: &Set) -> bool {
        let Some(template) = self.domain.learned().template(set.id) else {
            return false;
        };
        template.life.used(self.domain.base().time_received_s);
        match (template.kind, template.plan.layout()) {
            (Kind::Data, Layout::Fixed { len }) => {
                let len = *len;
                self.fixed_flows(message, set, len);
            }
            (Kind::Data, Layout::Variable { len_min, .. }) => {
                let len_min = *len_min;
                self.variable_flows(message, set, len_min);
            }
            (Kind::Options, _) => {
                let template = template.clone();
                self.options(message, set, &template);
            }
        }
        self.counts.sets_decoded += 1;
        true
    }

    /// The hot loop of the collector: records of one length.
    fn fixed_flows(&mut self, message: &Message<'_>, set: &Set, len: usize) {
        let Self {
            domain,
            counts,
            burst,
            extras,
            shared,
            padding,
            tunnels,
            ..
        } = self;
        let domain: &Domain = domain;
        let Some(template) = domain.learned().template(set.id) else {
            return;
        };
        let plan = &template.plan;
        count_fixed(message.bytes, set, len, counts);
        let at_once = match plan.is_one_by_one(&message.clock) {
            true => 1,
            false => BURST_FLOWS,
        };
        let zeros = records_of_zeros(message.bytes, set, len);
        *padding += zeros as u64;
        counts.records_decoded += zeros as u64;
        counts.records_suppressed += zeros as u64;
        let mut left = set.body.len() / len - zeros;
        let mut windows = windows(message.bytes, set);
        let mut last = None;
        while left > 0 {
            let count = left.min(at_once);
            let count = burst.next_many(count, domain.base(), counts).len();
            let extra = burst.extra_of_newest(count);
            plan.extra.fixed(windows, len, extra, counts);
            let flows = burst.newest(count);
            let extras = &mut extras.0[..count];
            if plan.uses_extras {
                extras.fill(NO_EXTRAS);
            }
            plan.fill_packets(windows, len, *tunnels, flows);
            plan.fill_fixed(windows, len, &message.clock, flows, extras);
            counts.records_decoded += count as u64;
            if plan.uses_extras {
                for (flow, extras) in flows.iter_mut().zip(&*extras) {
                    finish(plan, extras, message, flow);
                    last = Some(set_rate(domain, extras, flow));
                }
                // Plans that fill several records at a time never tell of the other direction.
                if let ([flow], [extras]) = (flows, &*extras) {
                    let reverse = match plan.is_nsel {
                        true => settled(domain, shared, (flow, extras), counts),
                        false => reversed(flow, extras),
                    };
                    add_reverse(reverse, burst, counts);
                }
            } else {
                for flow in flows {
                    finish(plan, &NO_EXTRAS, message, flow);
                    if domain.is_by_interface() {
                        last = Some(set_rate(domain, &NO_EXTRAS, flow));
                    }
                }
            }
            left -= count;
            windows = windows.get(count * len..).unwrap_or_default();
        }
        if last.is_some() {
            self.domain.observe(None, last);
        }
    }

    /// Records that tell the lengths of their fields.
    fn variable_flows(&mut self, message: &Message<'_>, set: &Set, len_min: usize) {
        let Self {
            domain,
            counts,
            burst,
            spans,
            nested,
            shared,
            tunnels,
            ..
        } = self;
        let domain: &Domain = domain;
        let Some(template) = domain.learned().template(set.id) else {
            return;
        };
        let plan = &template.plan;
        let mut last = None;
        each_variable(message.bytes, set, len_min, counts, |rest, lead, counts| {
            let len = plan.measure(rest, spans)?;
            let window = message.bytes.get(lead..lead + WINDOW_LEAD + len)?;
            let mut extras = NO_EXTRAS;
            let flow = burst.next(domain.base(), counts);
            plan.fill_packet(window, Some(spans), *tunnels, flow);
            plan.fill_variable(window, spans, &message.clock, flow, &mut extras);
            if !plan.lists().is_empty() {
                let mut lists = Lists {
                    bytes: message.bytes,
                    learned: domain.learned(),
                    clock: &message.clock,
                    nested,
                };
                lists.flatten(plan, lead + WINDOW_LEAD, spans, (&mut *flow, &mut extras));
            }
            finish(plan, &extras, message, flow);
            last = Some(set_rate(domain, &extras, flow));
            let reverse = match plan.is_nsel {
                true => settled(domain, shared, (flow, &extras), counts),
                false => reversed(flow, &extras),
            };
            let extra = burst.extra_of_newest(1);
            plan.extra.variable(window, spans, extra, counts);
            add_reverse(reverse, burst, counts);
            Some(len)
        });
        self.domain.observe(None, last);
    }
}

/// Bytes that fill a set to a multiple of four.
const PADDING_MAX: usize = 3;

/// Counts the records of a set, and the one that is cut short: where the set runs past its message,
/// and where more is left at its end than padding. How many more its length announces is nothing to
/// go by: the message never held them.
pub(super) fn count_fixed(bytes: &[u8], set: &Set, len: usize, counts: &mut WorkerCounts) {
    let whole = set.body.len() / len;
    counts.records_present += whole as u64;
    let rest = bytes.get(set.body.start + whole * len..set.body.end);
    let is_cut = match set.missing {
        0 => !is_padding(rest.unwrap_or_default()),
        missing => (set.body.len() + missing) / len > whole,
    };
    if is_cut {
        counts.records_present += 1;
        counts.drop_one(DropReason::RecordTruncated);
    }
}

/// Zeros behind a record are padding, however long: so many records of them.
#[inline]
fn records_of_zeros(bytes: &[u8], set: &Set, len: usize) -> usize {
    let records = bytes.get(set.body.clone()).unwrap_or_default();
    let behind = records.chunks_exact(len).skip(1).rev();
    behind.take_while(|record| is_zero(record)).count()
}

/// The records of a set with the bytes before them that a window needs.
pub(super) fn windows<'a>(bytes: &'a [u8], set: &Set) -> &'a [u8] {
    let start = set.body.start - WINDOW_LEAD;
    bytes.get(start..set.body.end).unwrap_or_default()
}

/// Calls `decode` for each record with the rest of the set, where its window begins, and the
/// counters; it returns the record's length, or `None` when a field runs past the set.
pub(super) fn each_variable(
    bytes: &[u8],
    set: &Set,
    len_min: usize,
    counts: &mut WorkerCounts,
    mut decode: impl FnMut(&[u8], usize, &mut WorkerCounts) -> Option<usize>,
) {
    let mut at = set.body.start;
    while let Some(rest) = bytes.get(at..set.body.end) {
        // Zeros behind a record are padding, however long.
        let is_first = at == set.body.start;
        if is_zero(rest) && (rest.len() <= PADDING_MAX || !is_first) {
            return;
        }
        if rest.len() < len_min {
            if !is_padding(rest) {
                counts.records_present += 1;
                counts.drop_one(DropReason::RecordTruncated);
            }
            return;
        }
        counts.records_present += 1;
        let Some(len) = decode(rest, at - WINDOW_LEAD, counts) else {
            counts.drop_one(DropReason::RecordMalformed);
            return;
        };
        counts.records_decoded += 1;
        at += len;
    }
}

/// What follows from the fields of a record.
#[inline]
fn finish(plan: &Plan, extras: &Extras, message: &Message<'_>, flow: &mut Flow) {
    if plan.icmp_from_port {
        icmp_from_port(flow);
    }
    complete_times(flow, extras, message.received_ms);
}

/// Gives `flow` the rate that its record, its sampler or its exporter tells.
#[inline]
fn set_rate(domain: &Domain, extras: &Extras, flow: &mut Flow) -> Rate {
    let rate = domain.rate(flow, extras);
    (flow.sampling_rate, flow.sampling_source) = rate;
    rate
}

/// The row of the other direction, if the record has one, with the volume of both settled. Apart
/// from the others, so that those do not move a row that is not there.
#[cold]
#[inline(never)]
fn settled(
    domain: &Domain,
    shared: &Shared,
    (flow, extras): (&mut Flow, &Extras),
    counts: &mut WorkerCounts,
) -> Option<Flow> {
    let mut reverse = reversed(flow, extras);
    let is_told = shared
        .updated
        .settle(&domain.key(), extras, flow, &mut reverse);
    counts.nsel_totals_told_before += u64::from(is_told);
    reverse
}

/// Adds the row of the other direction, if the record has one.
#[inline]
fn add_reverse<S: FlowSink>(
    reverse: Option<Flow>,
    burst: &mut Burst<'_, S>,
    counts: &mut WorkerCounts,
) {
    if let Some(reverse) = reverse {
        burst.next(&reverse, counts);
        counts.reverse_rows_added += 1;
    }
}

/// True for what may stand behind the last record of a set: zeros (RFC 7011 section 3.3.1), or up
/// to three bytes of anything.
fn is_padding(rest: &[u8]) -> bool {
    rest.len() <= PADDING_MAX || is_zero(rest)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}
