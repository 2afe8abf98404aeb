//! IPFIX (RFC 7011).
//!
//! Templates, options template and options record share a message with flows. Counters, interfaces
//! and TCP flags are sent in fewer octets than they are defined with (RFC 7011 section 6.2), which
//! makes room for absolute times in a record of 60 octets.

use super::Family;
use super::stream::{Encoded, Export, PAYLOAD_MAX};
use super::traffic::FlowRecord;
use super::wire::Wire;

/// Writes one message.
pub fn encode(
    export: &Export<'_>,
    next: &mut impl FnMut() -> FlowRecord,
    wire: &mut Wire<'_>,
) -> Encoded {
    wire.u16(10);
    wire.u16(0);
    wire.u32((export.clock_ms / 1000) as u32);
    wire.u32(export.sequence);
    wire.u32(export.domain);
    let mut encoded = Encoded::default();
    if export.announce {
        announce(export, wire);
        encoded.options_records = 1;
    }
    let sampling_rate = export.exporter.sampling_rate();
    let mut flow = next();
    let room = PAYLOAD_MAX - wire.position() - SET_HEADER;
    let flows = export
        .flows_max
        .min((room / record_length(flow.family)) as u32);
    let set = wire.begin_set(template_id(flow.family));
    for record in 1..=flows {
        let numbered = export.numbered(flow, encoded.sums.flows);
        write_record(&numbered, wire);
        encoded
            .sums
            .add_flow(flow.packets, flow.octets(), sampling_rate);
        if record < flows {
            flow = next();
        }
    }
    wire.end_set(set);
    wire.patch_u16(LENGTH_AT, wire.position() as u16);
    encoded
}

fn template_id(family: Family) -> u16 {
    TEMPLATE_FIRST + family as u16
}

fn announce(export: &Export<'_>, wire: &mut Wire<'_>) {
    let templates = wire.begin_set(2);
    for family in [Family::V4, Family::V6] {
        let fields = fields(family);
        wire.u16(template_id(family));
        wire.u16(fields.len() as u16);
        for &(id, length) in fields {
            wire.u16(id);
            wire.u16(length);
        }
    }
    wire.end_set(templates);
    let options_template = wire.begin_set(3);
    wire.u16(OPTIONS_TEMPLATE);
    wire.u16(OPTIONS_FIELDS.len() as u16);
    wire.u16(1);
    for &(id, length) in &OPTIONS_FIELDS {
        wire.u16(id);
        wire.u16(length);
    }
    wire.end_set(options_template);
    let options = wire.begin_set(OPTIONS_TEMPLATE);
    wire.u32(export.domain);
    wire.u16(SELECTOR_COUNT_BASED);
    // RFC 5477 section 8.2: of `interval + space` packets in a row the first `interval` are taken.
    wire.u32(1);
    wire.u32(export.exporter.sampling_rate() - 1);
    wire.end_set(options);
}

fn write_record(flow: &FlowRecord, wire: &mut Wire<'_>) {
    wire.address(flow.family, flow.src_addr);
    wire.address(flow.family, flow.dst_addr);
    wire.address(flow.family, flow.next_hop);
    wire.u16(flow.in_if as u16);
    wire.u16(flow.out_if as u16);
    wire.u32(flow.octets());
    wire.u32(flow.packets);
    wire.u64(flow.start_ms);
    wire.u64(flow.end_ms);
    wire.u16(flow.src_port);
    wire.u16(flow.dst_port);
    wire.u8(flow.tcp_flags);
    wire.u8(flow.protocol);
    wire.u8(flow.tos);
    wire.u32(flow.src_as);
    wire.u32(flow.dst_as);
    wire.u8(flow.src_mask);
    wire.u8(flow.dst_mask);
    wire.u8(DIRECTION_INGRESS);
    wire.u16(flow.vlan);
}

/// The fields in the order of [`write_record`].
const fn fields(family: Family) -> &'static [(u16, u16); 20] {
    match family {
        Family::V4 => &FIELDS_V4,
        Family::V6 => &FIELDS_V6,
    }
}

const fn record_length(family: Family) -> usize {
    let fields = fields(family);
    let mut length = 0;
    let mut index = 0;
    while index < fields.len() {
        length += fields[index].1 as usize;
        index += 1;
    }
    length
}

const FIELDS_V4: [(u16, u16); 20] = [
    (8, 4),   // sourceIPv4Address
    (12, 4),  // destinationIPv4Address
    (15, 4),  // ipNextHopIPv4Address
    (10, 2),  // ingressInterface
    (14, 2),  // egressInterface
    (1, 4),   // octetDeltaCount
    (2, 4),   // packetDeltaCount
    (152, 8), // flowStartMilliseconds
    (153, 8), // flowEndMilliseconds
    (7, 2),   // sourceTransportPort
    (11, 2),  // destinationTransportPort
    (6, 1),   // tcpControlBits
    (4, 1),   // protocolIdentifier
    (5, 1),   // ipClassOfService
    (16, 4),  // bgpSourceAsNumber
    (17, 4),  // bgpDestinationAsNumber
    (9, 1),   // sourceIPv4PrefixLength
    (13, 1),  // destinationIPv4PrefixLength
    (61, 1),  // flowDirection
    (58, 2),  // vlanId
];

const FIELDS_V6: [(u16, u16); 20] = {
    let mut fields = FIELDS_V4;
    fields[0] = (27, 16); // sourceIPv6Address
    fields[1] = (28, 16); // destinationIPv6Address
    fields[2] = (62, 16); // ipNextHopIPv6Address
    fields[16] = (29, 1); // sourceIPv6PrefixLength
    fields[17] = (30, 1); // destinationIPv6PrefixLength
    fields
};

const OPTIONS_FIELDS: [(u16, u16); 4] = [
    (149, 4), // observationDomainId, the scope
    (304, 2), // selectorAlgorithm
    (305, 4), // samplingPacketInterval
    (306, 4), // samplingPacketSpace
];

const TEMPLATE_FIRST: u16 = 256;
const OPTIONS_TEMPLATE: u16 = 258;
const SELECTOR_COUNT_BASED: u16 = 1;
const DIRECTION_INGRESS: u8 = 0;
const LENGTH_AT: usize = 2;
const SET_HEADER: usize = 4;

const _: () = assert!(record_length(Family::V4) == 60);
const _: () = assert!(record_length(Family::V6) == 96);
