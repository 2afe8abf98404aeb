//! The sets of a NetFlow v9 or IPFIX message.

mod tally;

use std::ops::Range;

use super::exporters::{Domain, Rate};
use super::extra::Wanted;
use super::ipfix;
use super::plan::{Layout, Plan, Spans};
use super::record::{
    Clock, Extras, ExtrasBuffer, NO_EXTRAS, complete_times, icmp_from_port, reversed,
};
use super::sequence::Held;
use super::shared::{Change, Shared};
use super::template::{Dialect, Entries, Entry, Kind, TEMPLATE_ID_MIN, Template};
use super::window::WINDOW_LEAD;
use super::{BURST_FLOWS, Burst, FlowSink};
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

/// How many templates may be kept.
#[derive(Clone, Copy, Debug)]
pub struct TemplateLimits {
    /// In all.
    pub all: usize,
    /// Of one exporter and domain.
    pub per_domain: usize,
}

/// What decoding a message works on.
#[derive(Debug)]
pub struct Workspace<'w, 'b, S: FlowSink> {
    /// The exporter.
    pub domain: &'w mut Domain,
    /// Room for the fields of a record.
    pub spans: &'w mut Spans,
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

/// Data sets of one message that wait for a template further on in it.
const WAITING_MAX: usize = 16;

/// One set found in a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) id: u16,
    /// Its bytes without the header, as far as they are there.
    pub(super) body: Range<usize>,
    /// Bytes of it that the message does not have.
    missing: usize,
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
    /// Decodes every set of `message`. A set that cannot be costs only itself.
    pub fn decode(&mut self, message: &Message<'_>) {
        let mut waiting: [Set; WAITING_MAX] = Default::default();
        let mut waiting_len = 0;
        let mut tally = Tally::new(self.counts);
        let mut at = message.sets_at;
        let mut message = *message;
        let message = &mut message;
        while let Some(set) = self.next_set(message, at) {
            at = set.body.end;
            match set.content(message.dialect) {
                Content::Templates(kind) => self.templates(message, &set, kind),
                Content::Records => {
                    if message.dialect == Dialect::Ipfix {
                        let boot_ms = self.domain.learned().boot_ms;
                        message.clock = ipfix::with_boot(message.clock, boot_ms);
                    }
                    if !self.tallied(message, &set, &mut tally) {
                        match waiting.get_mut(waiting_len) {
                            Some(free) => *free = set,
                            None => {
                                self.counts.drop_one(DropReason::TemplateMissing);
                                tally.is_partial = true;
                            }
                        }
                        waiting_len += 1;
                    }
                }
                Content::Reserved => self.counts.drop_one(DropReason::SetReserved),
            }
        }
        // Some exporters put a template after the data that it describes.
        for set in waiting.iter().take(waiting_len) {
            if !self.tallied(message, set, &mut tally) {
                self.counts.drop_one(DropReason::TemplateMissing);
                tally.is_partial = true;
            }
        }
        self.follow(message, &tally);
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

    fn templates(&mut self, message: &Message<'_>, set: &Set, kind: Kind) {
        let body = message.bytes.get(set.body.clone()).unwrap_or_default();
        for entry in Entries::new(body, kind, message.dialect) {
            match entry {
                Entry::Definition(definition) => {
                    let known = self.domain.learned().template(definition.id);
                    if known.is_some_and(|template| definition.is(template)) {
                        continue;
                    }
                    if known.is_none() && self.templates_full() {
                        self.counts.drop_one(DropReason::TemplateLimit);
                        continue;
                    }
                    match definition.compile(self.wanted) {
                        Some(template) => {
                            self.domain.learn_template(template);
                            self.counts.templates_learned += 1;
                        }
                        None => self.malformed(definition.id),
                    }
                }
                Entry::Withdraw(id) => {
                    if self.domain.learned().template(id).is_some() {
                        self.domain.change(Change::Withdraw(id));
                        self.counts.templates_withdrawn += 1;
                    }
                }
                Entry::WithdrawAll => {
                    let withdrawn = self.domain.learned().templates_of(kind);
                    if withdrawn > 0 {
                        self.domain.change(Change::WithdrawAll(kind));
                        self.counts.templates_withdrawn += withdrawn as u64;
                    }
                }
                Entry::Malformed { id, .. } => self.malformed(id),
            }
        }
    }

    /// The exporter has redefined `id` as something that cannot be used: data that follow must
    /// not be read with the old meaning.
    fn malformed(&mut self, id: u16) {
        self.counts.drop_one(DropReason::TemplateMalformed);
        if self.domain.learned().template(id).is_some() {
            self.domain.change(Change::Withdraw(id));
        }
    }

    fn templates_full(&self) -> bool {
        self.domain.learned().templates() >= self.limits.per_domain
            || !self.domain.has_room_among_all(self.limits.all, self.shared)
    }

    /// The records of a data set; false when its template is not known.
    fn records(&mut self, message: &Message<'_>, set: &Set) -> bool {
        let Some(template) = self.domain.learned().template(set.id) else {
            return false;
        };
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
            padding,
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
        let mut left = set.body.len() / len;
        // Zeros behind a record are padding, however long.
        let body = message.bytes.get(set.body.clone()).unwrap_or_default();
        while left > 1 && body.get((left - 1) * len..left * len).is_some_and(is_zero) {
            left -= 1;
            *padding += 1;
            counts.records_decoded += 1;
            counts.records_suppressed += 1;
        }
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
            plan.fill_fixed(windows, len, &message.clock, flows, extras);
            counts.records_decoded += count as u64;
            if plan.uses_extras {
                for (flow, extras) in flows.iter_mut().zip(&*extras) {
                    finish(plan, extras, message, flow);
                    last = Some(set_rate(domain, extras, flow));
                }
                // Plans that fill several records at a time never tell of the other direction.
                if let ([flow], [extras]) = (&*flows, &*extras) {
                    add_reverse(reversed(flow, extras), burst, counts);
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
            plan.fill_variable(window, spans, &message.clock, flow, &mut extras);
            finish(plan, &extras, message, flow);
            last = Some(set_rate(domain, &extras, flow));
            let reverse = reversed(flow, &extras);
            let extra = burst.extra_of_newest(1);
            plan.extra.variable(window, spans, extra, counts);
            add_reverse(reverse, burst, counts);
            Some(len)
        });
        self.domain.observe(None, last);
    }

    /// Options: facts about the exporter, no flows.
    fn options(&mut self, message: &Message<'_>, set: &Set, template: &Template) {
        let Self {
            domain,
            counts,
            spans,
            ..
        } = self;
        let plan = &template.plan;
        match plan.layout() {
            Layout::Fixed { len } => {
                count_fixed(message.bytes, set, *len, counts);
                for number in 0..set.body.len() / len {
                    let window = windows(message.bytes, set).get(number * len..);
                    let window = window.unwrap_or_default();
                    let (mut facts, mut extras) = ([Flow::EMPTY], [NO_EXTRAS]);
                    plan.fill_fixed(window, *len, &message.clock, &mut facts, &mut extras);
                    let ([facts], [extras]) = (facts, extras);
                    domain.learn_options(&facts, &extras);
                    counts.records_decoded += 1;
                    counts.options_records += 1;
                }
            }
            Layout::Variable { len_min, .. } => {
                each_variable(
                    message.bytes,
                    set,
                    *len_min,
                    counts,
                    |rest, lead, counts| {
                        let len = plan.measure(rest, spans)?;
                        let window = message.bytes.get(lead..lead + WINDOW_LEAD + len)?;
                        let (mut facts, mut extras) = (Flow::EMPTY, NO_EXTRAS);
                        plan.fill_variable(window, spans, &message.clock, &mut facts, &mut extras);
                        domain.learn_options(&facts, &extras);
                        counts.options_records += 1;
                        Some(len)
                    },
                );
            }
        }
    }
}

/// Bytes that fill a set to a multiple of four.
const PADDING_MAX: usize = 3;

/// Counts the records of a set, and the one that is cut short: where the set runs past its message,
/// and where more is left at its end than padding. How many more its length announces is nothing to
/// go by: the message never held them.
fn count_fixed(bytes: &[u8], set: &Set, len: usize, counts: &mut WorkerCounts) {
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

/// The records of a set with the bytes before them that a window needs.
fn windows<'a>(bytes: &'a [u8], set: &Set) -> &'a [u8] {
    let start = set.body.start - WINDOW_LEAD;
    bytes.get(start..set.body.end).unwrap_or_default()
}

/// Calls `decode` for each record with the rest of the set, where its window begins, and the
/// counters; it returns the record's length, or `None` when a field runs past the set.
fn each_variable(
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
