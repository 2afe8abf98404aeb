//! What the fields of a template amount to.

use super::{FieldSpec, Layout, Op, PacketAt, VARIABLE_LENGTH};
use crate::decode::elements;
use crate::decode::fields::{self, Element, Width};
use crate::decode::lists::ListKind;
use crate::decode::window::shift_for;

const SCOPE_INTERFACE: u16 = 2;
const INGRESS_INTERFACE: u16 = 10;

/// Every field that fills something, with the operation for it.
pub(super) fn candidates(fields: &[FieldSpec], layout: &Layout) -> Vec<(Element, Op)> {
    let known = |(field, at): (&FieldSpec, u16)| {
        let id = match (field.is_scope, field.id) {
            (false, id) => id,
            // RFC 3954 section 6.1: the options are those of one interface.
            (true, SCOPE_INTERFACE) => INGRESS_INTERFACE,
            (true, _) => return None,
        };
        let element = elements::element(field.enterprise, id)?;
        let may_vary = matches!(element.width, Width::Within(..));
        let fits = element.width.fits(field.len) || may_vary && field.len == VARIABLE_LENGTH;
        let op = Op {
            target: element.target,
            index: element.index_for(field.len),
            shift: shift_for(field.len),
            at,
        };
        fits.then_some((element, op))
    };
    fields
        .iter()
        .zip(layout.places(fields))
        .filter_map(known)
        .collect()
}

/// NSEL's events have a number of the connection, a kind, and octets of both directions. With the
/// octets of one direction (PAN-OS) each event tells of what was not told before.
pub(super) fn is_nsel(fields: &[FieldSpec]) -> bool {
    const FLOW_ID: u16 = 148;
    const EVENTS: [u16; 2] = [233, 40_005];
    const OCTETS_OF_BOTH: [u16; 2] = [231, 232];
    let has = |ids: &[u16]| {
        fields
            .iter()
            .any(|f| f.enterprise == 0 && ids.contains(&f.id))
    };
    has(&[FLOW_ID]) && has(&EVENTS) && has(&OCTETS_OF_BOTH)
}

/// The sampled packet in a record, if there is one.
pub(super) fn packet_at(fields: &[FieldSpec], layout: &Layout) -> Option<PacketAt> {
    fields
        .iter()
        .zip(layout.places(fields))
        .find_map(|(field, at)| {
            Some(PacketAt {
                section: fields::section(field.enterprise, field.id)?,
                at,
                len: field.len,
            })
        })
}

/// The lists (RFC 6313) of a variable layout.
pub(super) fn lists(fields: &[FieldSpec], layout: &Layout) -> Box<[(ListKind, u16)]> {
    let places = match layout {
        Layout::Fixed { .. } => return Box::default(),
        Layout::Variable { .. } => layout.places(fields),
    };
    let kinds = fields.iter().map(|f| fields::list(f.enterprise, f.id));
    let lists = kinds.zip(places).filter_map(|(kind, at)| Some((kind?, at)));
    lists.collect()
}
