//! The tables, and that what an exporter encodes comes out as it was.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use flowsluice_tests::records::{EXPORT_S, Field, Length, UPTIME_MS, Value, Version, message};
use proptest::prelude::*;

use super::*;
use crate::config;
use crate::decode::fields::{Target, Width};
use crate::decode::{Decoder, ElementPattern, ExtraRows, FlowSink};
use crate::flow::{Address, Direction, Flow};
use crate::ledger::WorkerCounts;
use crate::names::ApplicationId;
use crate::receive::Datagram;
use crate::units::UnixNanos;

/// What filled a column when the tables took the place of code, one line an element.
const FILLED_BEFORE: &str = include_str!("filled_before.txt");

#[test]
fn what_filled_a_column_before_there_were_tables_fills_it_still() {
    let mut lines = 0;
    for line in FILLED_BEFORE.lines() {
        let (place, what) = line.split_once(' ').unwrap();
        let (enterprise, id) = place.split_once('.').unwrap();
        let element = element(enterprise.parse().unwrap(), id.parse().unwrap());
        let mut found = String::new();
        write!(found, "{:?}", element.unwrap()).unwrap();
        assert_eq!(found, what, "{place}");
        lines += 1;
    }
    assert_eq!(lines, 125);
}

#[test]
fn the_tables_are_sorted_and_their_names_make_short_keys() {
    assert!(table::FILLING.is_sorted_by(|(a, _), (b, _)| a < b));
    assert!(table::NAMED.is_sorted_by(|(a, _), (b, _)| a < b));
    for (_, elements) in &table::NAMED {
        assert!(elements.is_sorted_by(|a, b| a.id < b.id));
        assert!(elements.iter().all(|named| named.info.name.len() < 100));
    }
}

#[test]
fn elements_are_found_by_number_and_by_name() {
    let name = |enterprise, id| info(enterprise, id).map(|info| info.name);
    assert_eq!(name(0, 1), Some("octetDeltaCount"));
    assert_eq!(name(29_305, 1), Some("reverseOctetDeltaCount"));
    assert_eq!(name(29_305, 148), None, "a flow's number has no reverse");
    assert_eq!(name(0, 56_701), Some("panAppId"));
    assert_eq!(name(4_000_000, 1), None);
    assert_eq!(id_of(9, "applicationHTTPHost"), Some(12_235));
    assert_eq!(id_of(9, "octetDeltaCount"), None);
    for ((enterprise, id), _) in &table::FILLING {
        assert!(
            info(*enterprise, *id).is_some(),
            "{enterprise}.{id} has a name"
        );
    }
}

/// A row with its names and values.
type Row = (Flow, Vec<(String, String)>);

#[derive(Default)]
struct Rows(Vec<Row>);

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.flows_with_extra(flows, ExtraRows::default());
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        for (number, flow) in flows.iter().enumerate() {
            let said = extra
                .of(number)
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.0.push((*flow, said.collect()));
        }
    }
}

/// The rows of a record of `fields`, everything that fills no column wanted.
fn rows(version: Version, fields: &[Field]) -> Vec<Row> {
    let config = config::Decode {
        extra: vec![ElementPattern::All],
        ..Default::default()
    };
    let mut decoder = Decoder::new(&config, &[], Arc::default());
    let (mut counts, mut rows) = (WorkerCounts::default(), Rows::default());
    let payload = message(version, fields);
    let datagram = Datagram {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        source_port: 50_000,
        local_port: 2055,
        received: UnixNanos(u64::from(EXPORT_S) * 1_000_000_000),
        payload: &payload,
        cut: false,
    };
    decoder.decode(&datagram, &mut counts, &mut rows);
    assert_eq!(counts.dropped.iter().sum::<u64>(), 0, "{counts:?}");
    assert_eq!(counts.extra_cut, 0);
    rows.0
}

/// The number of bits of what `target` fills.
fn bits(target: Target) -> u32 {
    use Target as T;
    match target {
        T::Bytes | T::Packets | T::ReverseBytes | T::ReversePackets => 64,
        T::SrcMac | T::DstMac => 48,
        T::StartMillis | T::EndMillis | T::ObservedMillis | T::BootMillis => 41,
        T::InIf | T::OutIf | T::SrcAs | T::DstAs | T::IngressVrf | T::EgressVrf => 32,
        T::FlowLabel | T::FragmentId | T::StartSeconds | T::EndSeconds => 32,
        T::ObservedSeconds | T::StartDelta | T::EndDelta => 32,
        T::MplsLabel => 20,
        // Before the header's uptime.
        T::StartUptime | T::EndUptime => 22,
        T::SrcPort | T::DstPort | T::SrcPortNat | T::DstPortNat | T::TcpFlags => 16,
        T::FragmentOffset | T::Ethertype | T::SrcVlan | T::DstVlan | T::InnerVlan => 16,
        T::IcmpTypeCode | T::ReverseTcpFlags => 16,
        T::Dscp => 6,
        _ => 8,
    }
}

/// What the column of `target` holds, as a number; `None` for what no column shows by itself.
fn column(target: Target, index: u8, rows: &[Row]) -> Option<u64> {
    use Target as T;
    let flow = &rows[0].0;
    let reverse = |value: fn(&Flow) -> u64| rows.get(1).map(|(flow, _)| value(flow));
    Some(match target {
        T::Bytes => flow.raw_bytes,
        T::Packets => flow.raw_packets,
        T::ReverseBytes => reverse(|flow| flow.raw_bytes)?,
        T::ReversePackets => reverse(|flow| flow.raw_packets)?,
        T::ReverseTcpFlags => reverse(|flow| flow.tcp_flags.into())?,
        T::ReverseTos => reverse(|flow| flow.tos.into())?,
        T::StartSeconds => flow.flow_start_ms / 1000,
        T::EndSeconds | T::ObservedSeconds => flow.flow_end_ms / 1000,
        T::StartMillis => flow.flow_start_ms,
        T::EndMillis | T::ObservedMillis => flow.flow_end_ms,
        T::SrcMac => flow.detail.frame.src_mac,
        T::DstMac => flow.detail.frame.dst_mac,
        T::InIf => flow.in_if.into(),
        T::OutIf => flow.out_if.into(),
        T::SrcAs => flow.src_as.into(),
        T::DstAs => flow.dst_as.into(),
        T::IngressVrf => flow.detail.ingress_vrf.into(),
        T::EgressVrf => flow.detail.egress_vrf.into(),
        T::FlowLabel => flow.detail.frame.flow_label.into(),
        T::FragmentId => flow.detail.frame.fragment_id.into(),
        T::MplsLabel => u64::from(flow.detail.mpls_labels[usize::from(index)]) << 4,
        T::SrcPort => flow.src_port.into(),
        T::DstPort => flow.dst_port.into(),
        T::TcpFlags => flow.tcp_flags.into(),
        T::FragmentOffset => flow.detail.frame.fragment_offset.into(),
        T::Ethertype => flow.detail.frame.ethertype.into(),
        T::SrcVlan => flow.src_vlan.into(),
        T::DstVlan => flow.dst_vlan.into(),
        T::InnerVlan => flow.detail.frame.inner_vlan.into(),
        T::SrcPortNat => flow.detail.src_port_nat.into(),
        T::DstPortNat => flow.detail.dst_port_nat.into(),
        T::Protocol => flow.protocol.into(),
        T::Tos => flow.tos.into(),
        T::Dscp => u64::from(flow.tos >> 2),
        T::Ttl => flow.ttl.into(),
        T::IcmpTypeCode => u16::from_be_bytes([flow.icmp_type, flow.icmp_code]).into(),
        T::IcmpType => flow.icmp_type.into(),
        T::IcmpCode => flow.icmp_code.into(),
        T::SrcMask => flow.src_mask.into(),
        T::DstMask => flow.dst_mask.into(),
        T::ForwardingStatus => flow.forwarding_status.into(),
        T::EndReason => flow.end_reason.into(),
        T::FirewallEvent => flow.detail.firewall_event.into(),
        T::NatEvent => flow.detail.nat_event.into(),
        T::Direction => flow.direction as u64,
        T::ApplicationId => flow.application_id,
        T::BiflowDirection => flow.biflow_direction.into(),
        _ => return None,
    })
}

fn address_of(target: Target, flow: &Flow) -> Option<Address> {
    use Target as T;
    Some(match target.slot() {
        T::SrcAddrV4 => flow.src_addr,
        T::DstAddrV4 => flow.dst_addr,
        T::NextHopV4 => flow.next_hop,
        T::BgpNextHopV4 => flow.detail.bgp_next_hop,
        T::SrcAddrNatV4 => flow.detail.src_addr_nat,
        T::DstAddrNatV4 => flow.detail.dst_addr_nat,
        T::ExporterAddrV4 => flow.exporter_addr,
        _ => return None,
    })
}

/// Holds what `rows` have of `field` against what was put in.
fn check(field: &Field, version: Version, rows: &[Row]) {
    let Field { enterprise, id, .. } = *field;
    let name = info(enterprise, id).map_or_else(|| id.to_string(), |info| info.name.to_owned());
    let key = format!("{enterprise}.{name}");
    let mut said = rows[0].1.iter();
    let shown = said.find(|(name, _)| *name == key);
    let shown = shown.map(|(_, value)| value.as_str());
    // A flow id is of use beside the elements of a firewall only.
    let element = element(enterprise, id).filter(|element| element.target != Target::FlowId);
    match element {
        None => assert_eq!(shown, Some(&*text_of(field)), "{field:?}"),
        Some(element) => {
            // What fills no column by itself may be shown besides.
            let may_be_shown = element.target.is_extra() || !element.target.is_column();
            assert!(shown.is_none() || may_be_shown, "{field:?} fills a column");
            check_column(field, element, version, rows);
        }
    }
}

/// What `extra` shows of `field`.
fn text_of(field: &Field) -> String {
    match (&field.value, usize::from(field.length.bytes())) {
        // Too long for a number that people could read.
        (Value::Unsigned(_), len @ 17..) => Value::Octets(field.value.bytes(len)).text(),
        (value, _) => value.text(),
    }
}

/// The moment that `field` tells, milliseconds since the epoch, where it does not say it so.
fn moment_of(field: &Field, target: Target) -> Option<u64> {
    use Target as T;
    let export_ms = u64::from(EXPORT_S) * 1000;
    match (&field.value, target) {
        (Value::Unsigned(uptime), T::StartUptime | T::EndUptime) => {
            Some(export_ms + uptime - u64::from(UPTIME_MS))
        }
        (Value::Unsigned(micros), T::StartDelta | T::EndDelta) => Some(export_ms - micros / 1000),
        (Value::Micros(s, us), _) => Some(u64::from(*s) * 1000 + u64::from(*us) / 1000),
        (Value::Nanos(s, ns), _) => Some(u64::from(*s) * 1000 + u64::from(*ns) / 1_000_000),
        _ => None,
    }
}

fn check_column(field: &Field, element: Element, version: Version, rows: &[Row]) {
    let (flow, target) = (&rows[0].0, element.target);
    let is_uptime = matches!(target, Target::StartUptime | Target::EndUptime);
    if is_uptime && version == Version::Ipfix {
        // Nobody says when the exporter was started.
        return;
    }
    if let Some(moment) = moment_of(field, target) {
        let found = [flow.flow_start_ms, flow.flow_end_ms];
        assert!(found.contains(&moment), "{field:?}: {found:?}");
        return;
    }
    let number = match &field.value {
        Value::V4(address) => {
            let found = address_of(target, flow);
            assert_eq!(found, Some(Address::from(*address)), "{field:?}");
            return;
        }
        Value::V6(address) => {
            let found = address_of(target, flow);
            assert_eq!(found, Some(Address(address.octets())), "{field:?}");
            return;
        }
        Value::Unsigned(number) | Value::Millis(number) => *number,
        Value::Seconds(seconds) => u64::from(*seconds),
        Value::Octets(octets) => application_id(octets),
        Value::Mac([a, b, c, d, e, f]) => u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]),
        other => panic!("{other:?} fills {target:?}"),
    };
    let expected = match target {
        Target::MplsLabel => number & !0xf,
        // Ingress is 0 on the wire, egress 1.
        Target::Direction => match number {
            0 => Direction::Ingress as u64,
            1 => Direction::Egress as u64,
            _ => Direction::Undefined as u64,
        },
        _ => number,
    };
    if let Some(found) = column(target, element.index, rows) {
        assert_eq!(found, expected, "{field:?}");
    }
}

/// Engine and selector as the flow has them.
fn application_id(octets: &[u8]) -> u64 {
    let id = ApplicationId::from_bytes(octets).unwrap();
    u64::from(id.engine) << 56 | id.selector
}

/// An application whose selector has so many bytes.
fn application_of(number: u64, selector_bytes: usize) -> Vec<u8> {
    [&[13], &number.to_be_bytes()[..selector_bytes]].concat()
}

/// Bytes of the longest field of a type whose length may be less.
fn len_max(data_type: DataType) -> Option<u16> {
    use DataType as D;
    match data_type {
        D::Unsigned8 | D::Signed8 => Some(1),
        D::Unsigned16 | D::Signed16 => Some(2),
        D::Unsigned32 | D::Signed32 => Some(4),
        D::Unsigned64 | D::Signed64 => Some(8),
        D::Unsigned256 => Some(32),
        _ => None,
    }
}

/// Everything that a value is drawn from.
#[derive(Clone, Debug)]
struct Draw {
    at: usize,
    number: u64,
    len: usize,
    text: String,
    form: u8,
}

fn draw() -> impl Strategy<Value = Draw> {
    let text = "[a-z0-9 /\"\\\\äß語]{1,24}";
    (any::<usize>(), any::<u64>(), any::<usize>(), text, 0..4_u8).prop_map(
        |(at, number, len, text, form)| Draw {
            at,
            number,
            len,
            text,
            form,
        },
    )
}

/// A number of at most `bits` bits, never 0.
fn nonzero(number: u64, bits: u32) -> u64 {
    (number >> (64 - bits.min(64))).max(1)
}

/// A value for the element, and a length that it may have.
fn value_of(enterprise: u32, id: u16, draw: &Draw) -> (Value, u16) {
    use DataType as D;
    let Draw { number, text, .. } = draw;
    let number = *number;
    let filling = element(enterprise, id);
    let data_type = info(enterprise, id).map_or(D::OctetArray, |info| info.data_type);
    // Any moment until 2035.
    let (seconds, parts) = ((number >> 33) as u32 % 2_080_000_000 + 1, number as u32);
    let value = match (data_type, filling) {
        (D::OctetArray, Some(element)) if element.target == Target::ApplicationId => {
            let octets = application_of(number, 1 + draw.len % 7);
            let len = octets.len() as u16;
            return (Value::Octets(octets), len);
        }
        // Labels are three octets; other numbers that fill something have a column's width.
        (D::OctetArray, Some(element)) => {
            let label = nonzero(number, bits(element.target)) << 4;
            return (Value::Unsigned(label), 3);
        }
        (D::Unsigned8 | D::Unsigned16 | D::Unsigned32 | D::Unsigned64 | D::Unsigned256, _) => {
            let longest = len_max(data_type).unwrap_or(8);
            let bits = filling.map_or(64, |element| bits(element.target));
            // Exporters send fields longer than their type, too.
            let number = nonzero(number, bits.min(8 * u32::from(longest)));
            let shortest = (64 - number.leading_zeros()).div_ceil(8) as u16;
            let lens = usize::from(longest.max(8) - shortest + 1);
            return (Value::Unsigned(number), shortest + (draw.len % lens) as u16);
        }
        (D::Signed8 | D::Signed16 | D::Signed32 | D::Signed64, _) => {
            let longest = len_max(data_type).unwrap_or(8);
            let number = number.cast_signed() >> (64 - 8 * longest);
            let magnitude = if number < 0 { !number } else { number };
            let shortest = ((65 - magnitude.leading_zeros()).div_ceil(8) as u16).max(1);
            let lens = usize::from(longest - shortest + 1);
            return (Value::Signed(number), shortest + (draw.len % lens) as u16);
        }
        (D::Float32, _) => return (Value::Float32(f32::from_bits(number as u32)), 4),
        (D::Float64, _) => {
            let number = f64::from_bits(number);
            return match draw.len % 2 {
                0 => (Value::Float64(number), 8),
                _ => (Value::Float32(number as f32), 4),
            };
        }
        (D::Boolean, _) => Value::Boolean(number & 1 == 1),
        (D::MacAddress, _) => {
            let [.., a, b, c, d, e, f] = number.to_be_bytes();
            Value::Mac([a, b, c, d, e, f | 1])
        }
        (D::Ipv4Address, _) => Value::V4(Ipv4Addr::from(number as u32 | 1)),
        (D::Ipv6Address, _) => {
            Value::V6((u128::from(number) << 64 | u128::from(!number) | 1).into())
        }
        (D::DateTimeSeconds, _) => Value::Seconds(seconds),
        (D::DateTimeMilliseconds, _) => {
            Value::Millis(u64::from(seconds) * 1000 + u64::from(parts % 1000))
        }
        (D::DateTimeMicroseconds, _) => Value::Micros(seconds, parts % 1_000_000),
        (D::DateTimeNanoseconds, _) => Value::Nanos(seconds, parts % 1_000_000_000),
        (D::String, _) => {
            // Perhaps with the zeros of a longer field.
            let len = text.len() as u16;
            return (Value::Text(text.clone()), len + (draw.len % 9) as u16);
        }
        (D::OctetArray | D::BasicList | D::SubTemplateList | D::SubTemplateMultiList, _) => {
            let len = 1 + draw.len % 8;
            Value::Octets(number.to_be_bytes()[..len].to_vec())
        }
    };
    let len = match filling.map(|element| element.width) {
        Some(Width::Exactly(len)) => len,
        _ => value.bytes(0).len() as u16,
    };
    (value, len)
}

/// A field of the element with a value and a length that it may have.
fn field_of(enterprise: u32, id: u16, version: Version, draw: &Draw) -> Field {
    let (value, len) = value_of(enterprise, id, draw);
    // What must have a certain length fills nothing at a length that the record tells.
    let is_exact = element(enterprise, id).is_some_and(|it| matches!(it.width, Width::Exactly(_)));
    let length = match (version, draw.form) {
        (Version::Ipfix, 0) if !is_exact => Length::Short(len),
        (Version::Ipfix, 1) if !is_exact => Length::Long(len),
        _ => Length::Fixed(len),
    };
    Field {
        enterprise,
        id,
        length,
        value,
    }
}

/// Packets and lists in records have tests of their own, and padding says nothing.
fn is_plain(enterprise: u32, named: &Named) -> bool {
    use DataType as D;
    let is_list = matches!(
        named.info.data_type,
        D::BasicList | D::SubTemplateList | D::SubTemplateMultiList
    );
    !is_list && !matches!((enterprise, named.id), (0, 210 | 313 | 315))
}

/// The elements that `version` can say.
fn elements_of(version: Version) -> Vec<(u32, u16)> {
    let mut elements: Vec<_> = table::NAMED
        .iter()
        .flat_map(|(pen, elements)| elements.iter().map(move |named| (*pen, named)))
        .filter(|(pen, named)| is_plain(*pen, named))
        .map(|(pen, named)| (pen, named.id))
        .collect();
    // And some that nobody knows.
    elements.extend([(0, 32_000), (9, 1), (4_000_000, 7)]);
    elements.retain(|(pen, id)| match version {
        Version::Netflow9 => *pen == 0,
        Version::Ipfix => *id < 0x8000,
    });
    elements
}

/// What an element fills, where elements that fill the same exclude each other.
fn slot(enterprise: u32, id: u16) -> Option<(Target, u8)> {
    use Target as T;
    let element = element(enterprise, id)?;
    let slot = match element.target.slot() {
        // Both are written by type and code together, and these by the port.
        T::IcmpType | T::IcmpCode | T::DstPort => T::IcmpTypeCode,
        // A record without an end ends when it was observed.
        T::EndSeconds => T::ObservedSeconds,
        slot => slot,
    };
    Some((slot, element.index))
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::Netflow9), Just(Version::Ipfix)]
}

proptest! {
    /// RFC 7011 sections 3.2, 6 and 7.
    #[test]
    fn every_field_of_a_record_comes_out_as_it_was_put_in(
        version in version(),
        draws in proptest::collection::vec(draw(), 1..12),
    ) {
        let elements = elements_of(version);
        let mut fields = Vec::<Field>::new();
        for draw in &draws {
            let (pen, id) = elements[draw.at % elements.len()];
            let filled = slot(pen, id);
            let is_new = fields.iter().all(|field| {
                let other = slot(field.enterprise, field.id);
                (filled.is_none() || other != filled) && (field.enterprise, field.id) != (pen, id)
            });
            if is_new {
                fields.push(field_of(pen, id, version, draw));
            }
        }
        let rows = rows(version, &fields);
        for field in &fields {
            check(field, version, &rows);
        }
        prop_assert!(rows[0].1.len() <= fields.len());
    }
}

#[test]
fn every_element_that_has_a_name_comes_out_as_it_was_put_in() {
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    let mut checked = 0;
    for version in [Version::Netflow9, Version::Ipfix] {
        for (pen, id) in elements_of(version) {
            for form in 0..3 {
                number = number.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(23) ^ 0x5851;
                let draw = Draw {
                    at: 0,
                    number,
                    len: (number >> 7) as usize,
                    text: format!("text {number:x} ä"),
                    form,
                };
                let field = field_of(pen, id, version, &draw);
                check(
                    &field,
                    version,
                    &rows(version, std::slice::from_ref(&field)),
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 5000, "{checked} were checked");
}

/// A field of an IANA element.
fn iana(id: u16, length: Length, value: Value) -> Field {
    Field {
        enterprise: 0,
        id,
        length,
        value,
    }
}

/// RFC 6759 section 4, and section 7 for the lengths that records tell.
#[test]
fn an_application_is_told_with_two_to_nine_bytes_wherever_they_lie() {
    let before = iana(1, Length::Fixed(8), Value::Unsigned(1));
    let after = iana(28, Length::Fixed(16), Value::V6([1; 16].into()));
    let octets = [20, 0, 0, 0x30, 0x44, 0, 0, 0x3e, 0x81, 7];
    for len in 1..=octets.len() as u16 {
        let octets = octets[..usize::from(len)].to_vec();
        let expected = match len {
            2..=9 => application_id(&octets),
            _ => 0,
        };
        for (version, length) in [
            (Version::Netflow9, Length::Fixed(len)),
            (Version::Ipfix, Length::Fixed(len)),
            (Version::Ipfix, Length::Short(len)),
            (Version::Ipfix, Length::Long(len)),
        ] {
            let application = iana(95, length, Value::Octets(octets.clone()));
            for fields in [
                vec![application.clone()],
                vec![application.clone(), after.clone()],
                vec![before.clone(), application.clone()],
                vec![before.clone(), application.clone(), after.clone()],
            ] {
                let rows = rows(version, &fields);
                assert_eq!(rows[0].0.application_id, expected, "{fields:?}");
            }
        }
    }
}

#[test]
fn an_application_whose_selector_needs_more_than_56_bits_is_left_out() {
    let octets = [20, 1, 0, 0, 0, 0, 0, 0, 1];
    for length in [Length::Fixed(9), Length::Short(9)] {
        let field = iana(95, length, Value::Octets(octets.into()));
        assert_eq!(rows(Version::Ipfix, &[field])[0].0.application_id, 0);
    }
}

/// RFC 5103 section 6.3.
#[test]
fn the_row_of_the_way_back_has_the_other_beginner_and_the_same_application() {
    for (direction, reverse) in [(0, 0), (1, 2), (2, 1), (3, 3)] {
        let reverse_bytes = Field {
            enterprise: 29_305,
            ..iana(1, Length::Fixed(8), Value::Unsigned(70))
        };
        let rows = rows(
            Version::Ipfix,
            &[
                iana(1, Length::Fixed(8), Value::Unsigned(50)),
                reverse_bytes,
                iana(95, Length::Fixed(4), Value::Octets(vec![13, 0, 1, 240])),
                iana(239, Length::Fixed(1), Value::Unsigned(direction)),
            ],
        );
        let told: Vec<_> = rows
            .iter()
            .map(|(flow, _)| (flow.biflow_direction, flow.application_id))
            .collect();
        let application = 13 << 56 | 496;
        assert_eq!(
            told,
            [(direction as u8, application), (reverse, application)]
        );
    }
}
