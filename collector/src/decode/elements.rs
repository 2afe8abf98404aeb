//! Information elements: what is known of each one, and what it fills.
//!
//! The tables are made from the data in `elements/`; see the README there. They are looked at when
//! a template is compiled, never for a record.

#[rustfmt::skip]
mod table;

#[cfg(test)]
mod tests;

use super::fields::Element;

/// What the bytes of a field mean: abstract data types of RFC 7012 section 3.1, and of the IANA
/// registry where it added some.
#[allow(
    missing_docs,
    dead_code,
    reason = "the names are the RFC's; no list uses all of them"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    OctetArray,
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Unsigned256,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Float32,
    Float64,
    Boolean,
    MacAddress,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    BasicList,
    SubTemplateList,
    SubTemplateMultiList,
}

/// What a registry or a vendor says of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name, of letters, digits, `_` and `-`.
    pub name: &'static str,
    /// Its type.
    pub data_type: DataType,
}

/// An entry of the tables.
struct Named {
    id: u16,
    info: Info,
}

const fn named(id: u16, name: &'static str, data_type: DataType) -> Named {
    let info = Info { name, data_type };
    Named { id, info }
}

/// What is known of element `id` of `enterprise` (0: IANA, and NetFlow v9 above 32767).
#[must_use]
pub fn info(enterprise: u32, id: u16) -> Option<&'static Info> {
    let enterprises = &table::NAMED;
    let at = enterprises.binary_search_by_key(&enterprise, |(pen, _)| *pen);
    let (_, elements) = enterprises.get(at.ok()?)?;
    let at = elements.binary_search_by_key(&id, |named| named.id).ok()?;
    elements.get(at).map(|named| &named.info)
}

/// The number of the element of `enterprise` that is called `name`.
#[must_use]
pub fn id_of(enterprise: u32, name: &str) -> Option<u16> {
    let mut enterprises = table::NAMED.iter();
    let (_, elements) = enterprises.find(|(pen, _)| *pen == enterprise)?;
    let found = elements.iter().find(|named| named.info.name == name);
    found.map(|named| named.id)
}

/// What the element `id` of `enterprise` (0: IANA) fills, if anything.
#[must_use]
pub fn element(enterprise: u32, id: u16) -> Option<Element> {
    let filling = &table::FILLING;
    let at = filling.binary_search_by_key(&(enterprise, id), |(key, _)| *key);
    filling.get(at.ok()?).map(|(_, element)| *element)
}
