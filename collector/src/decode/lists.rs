//! Lists inside a record (RFC 6313), looked into for what the record itself does not say.
//!
//! A list's length is told, so a record is decoded whatever its lists hold. Of a basicList the
//! first element counts (of MPLS label stack entries all), of a list of records the first of each
//! template: more of them are other things than the flow. What is taken fills columns that are
//! empty, but never counters, times or what the exporter is known by. Nested lists are looked
//! into, [`LISTS_MAX`] of a record.

use std::ops::Range;

use super::Cursor;
use super::elements;
use super::fields::Target;
use super::plan::{Layout, Plan, Spans, VARIABLE_LENGTH, length_prefix};
use super::record::{Clock, Extras, NO_EXTRAS, store};
use super::shared::Learned;
use super::template::{Kind, TEMPLATE_ID_MIN};
use super::window::{OneRecord, ReadField, WINDOW_LEAD, mask, number, shift_for};
use crate::flow::{Address, Flow};

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// IE 291: values of one element.
    #[default]
    Basic,
    /// IE 292: records of one template.
    SubTemplate,
    /// IE 293: records of several templates.
    SubTemplateMulti,
}

/// Lists looked into of one record.
pub const LISTS_MAX: usize = 16;

/// Lists that are still to be looked into.
#[derive(Debug, Default)]
struct Waiting {
    lists: [(ListKind, Range<usize>); LISTS_MAX],
    /// The lists so far, those that are done included.
    count: usize,
}

impl Waiting {
    /// Adds those of the record that begins at `start`; a list too many is left out.
    fn add(&mut self, plan: &Plan, start: usize, spans: &Spans) {
        for (kind, number) in plan.lists() {
            let (end, len) = spans.place(*number);
            let end = start + usize::from(end);
            if let Some(free) = self.lists.get_mut(self.count) {
                *free = (*kind, end - usize::from(len)..end);
                self.count += 1;
            }
        }
    }
}

/// What looking into lists works on.
#[derive(Debug)]
pub struct Lists<'a> {
    /// The message.
    pub bytes: &'a [u8],
    /// What is known of the exporter.
    pub learned: &'a Learned,
    /// The exporter's clocks.
    pub clock: &'a Clock,
    /// Room for the fields of a nested record.
    pub nested: &'a mut Spans,
}

impl Lists<'_> {
    /// Fills what `flow` and `extras` do not know from the lists of their record, which begins at
    /// `start` and whose fields are `spans` of `plan`.
    #[inline(never)]
    pub fn flatten(
        &mut self,
        plan: &Plan,
        start: usize,
        spans: &Spans,
        (flow, extras): (&mut Flow, &mut Extras),
    ) {
        let mut waiting = Waiting::default();
        waiting.add(plan, start, spans);
        let mut next = 0;
        // A nested list is shorter than what it is in, so even without the bound this would end.
        while next < waiting.count {
            let (kind, range) = waiting.lists[next].clone();
            next += 1;
            let mut found = (Flow::EMPTY, NO_EXTRAS);
            let _ = match kind {
                ListKind::Basic => self.basic(range, &mut found),
                ListKind::SubTemplate => self.sub_template(range, &mut found, &mut waiting),
                ListKind::SubTemplateMulti => self.multi(range, &mut found, &mut waiting),
            };
            fill_unknown(flow, &found.0);
            extras.fill_unknown(&found.1);
        }
    }

    /// RFC 6313 section 4.5.1: semantic, element, its length, values.
    fn basic(&self, range: Range<usize>, found: &mut (Flow, Extras)) -> Option<()> {
        const ENTERPRISE_BIT: u16 = 0x8000;
        let mut cursor = Cursor::new(self.bytes.get(range.clone())?);
        let (_semantic, id, len) = (cursor.u8()?, cursor.u16()?, cursor.u16()?);
        let enterprise = match id & ENTERPRISE_BIT {
            0 => 0,
            _ => cursor.u32()?,
        };
        let element = elements::element(enterprise, id & !ENTERPRISE_BIT)?;
        let is_stack = element.target == Target::MplsLabel;
        for index in element.index..=u8::MAX {
            let len = match len {
                VARIABLE_LENGTH => {
                    let (prefix, len) = length_prefix(cursor.rest())?;
                    cursor.bytes(prefix)?;
                    len
                }
                len => len,
            };
            cursor.bytes(usize::from(len))?;
            if !element.width.fits(len) {
                return None;
            }
            let end = range.end - cursor.remaining();
            let window = self.bytes.get(end - usize::from(len) - WINDOW_LEAD..end)?;
            let field = ReadField {
                window,
                value: number(window, usize::from(len), mask(shift_for(len))),
                end: usize::from(len),
                len,
            };
            let (flow, extras) = (&mut found.0, &mut found.1);
            let record = OneRecord {
                field,
                flow,
                extras,
            };
            store(element.target, index, self.clock, record);
            if !is_stack {
                break;
            }
        }
        Some(())
    }

    /// RFC 6313 section 4.5.2: semantic, template id, records.
    fn sub_template(
        &mut self,
        range: Range<usize>,
        found: &mut (Flow, Extras),
        waiting: &mut Waiting,
    ) -> Option<()> {
        let mut cursor = Cursor::new(self.bytes.get(range.clone())?);
        let (_semantic, template) = (cursor.u8()?, cursor.u16()?);
        let records = range.end - cursor.remaining()..range.end;
        self.first_record(template, records, found, waiting)
    }

    /// RFC 6313 section 4.5.3: semantic, then blocks of template id, length with these four bytes,
    /// and records.
    fn multi(
        &mut self,
        range: Range<usize>,
        found: &mut (Flow, Extras),
        waiting: &mut Waiting,
    ) -> Option<()> {
        const BLOCK_HEADER: usize = 4;
        let bytes = self.bytes;
        let mut cursor = Cursor::new(bytes.get(range.clone())?);
        let _semantic = cursor.u8()?;
        loop {
            let (template, len) = (cursor.u16()?, cursor.u16()?);
            let start = range.end - cursor.remaining();
            let records = cursor.bytes(usize::from(len).checked_sub(BLOCK_HEADER)?)?;
            let records = start..start + records.len();
            // One block that means nothing here does not cost the others.
            let _ = self.first_record(template, records, found, waiting);
        }
    }

    /// Fills what `found` does not know from the first of `records`.
    fn first_record(
        &mut self,
        template: u16,
        records: Range<usize>,
        found: &mut (Flow, Extras),
        waiting: &mut Waiting,
    ) -> Option<()> {
        if template < TEMPLATE_ID_MIN {
            return None;
        }
        let template = self.learned.template(template)?;
        if template.kind != Kind::Data {
            return None;
        }
        let (plan, start) = (&template.plan, records.start);
        let rest = self.bytes.get(records)?;
        let len = match plan.layout() {
            Layout::Fixed { len } => *len,
            Layout::Variable { .. } => plan.measure(rest, self.nested)?,
        };
        if len > rest.len() {
            return None;
        }
        let window = self.bytes.get(start - WINDOW_LEAD..start + len)?;
        let (mut flow, mut extras) = ([Flow::EMPTY], [NO_EXTRAS]);
        match plan.layout() {
            Layout::Fixed { len } => {
                plan.fill_fixed(window, *len, self.clock, &mut flow, &mut extras);
            }
            Layout::Variable { .. } => {
                let ([flow], [extras]) = (&mut flow, &mut extras);
                plan.fill_variable(window, self.nested, self.clock, flow, extras);
                waiting.add(plan, start, self.nested);
            }
        }
        let ([flow], [extras]) = (flow, extras);
        fill_unknown(&mut found.0, &flow);
        found.1.fill_unknown(&extras);
        Some(())
    }
}

/// Sets what `flow` does not know to what `found` says of the flow's key, its way and its layers.
fn fill_unknown(flow: &mut Flow, found: &Flow) {
    macro_rules! fill {
        ($unknown:expr, $($field:ident),+) => {
            $(if flow.$field == $unknown {
                flow.$field = found.$field;
            })+
        };
    }
    macro_rules! fill_detail {
        ($unknown:expr, $($($field:ident).+),+) => {
            $(if flow.detail.$($field).+ == $unknown && found.detail.$($field).+ != $unknown {
                flow.detail.$($field).+ = found.detail.$($field).+;
            })+
        };
    }
    fill!(Address::UNKNOWN, src_addr, dst_addr, next_hop);
    fill!(0, in_if, out_if, src_as, dst_as, src_port, dst_port);
    fill!(0, tcp_flags, src_vlan, dst_vlan, protocol, tos, ttl);
    fill!(0, icmp_type, icmp_code, src_mask, dst_mask);
    fill!(
        0,
        forwarding_status,
        end_reason,
        application_id,
        biflow_direction
    );
    if !found.detail.is_written() {
        return;
    }
    fill_detail!(Address::UNKNOWN, bgp_next_hop, src_addr_nat, dst_addr_nat);
    fill_detail!(0, frame.src_mac, frame.dst_mac, frame.flow_label);
    fill_detail!(0, frame.fragment_id, frame.fragment_offset);
    fill_detail!(0, frame.ethertype, frame.inner_vlan);
    fill_detail!(0, ingress_vrf, egress_vrf);
    fill_detail!(0, src_port_nat, dst_port_nat, firewall_event, nat_event);
    if flow.detail.mpls_count == 0 {
        flow.detail.mpls_count = found.detail.mpls_count;
        flow.detail.mpls_labels = found.detail.mpls_labels;
    }
}
