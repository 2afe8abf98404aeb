//! NetFlow version 9 (RFC 3954), as a router with two flow monitors sends it.
//!
//! Templates, options template and options record come in a datagram of their own. Switches tell
//! their sampling for the whole system; routers have a sampler table, and their records name the
//! sampler where those of the switches have the VLAN.

use super::Family;
use super::exporters::Role;
use super::stream::{Encoded, Export};
use super::traffic::FlowRecord;
use super::wire::Wire;

/// Writes one datagram.
pub fn encode(
    export: &Export<'_>,
    next: &mut impl FnMut() -> FlowRecord,
    wire: &mut Wire<'_>,
) -> Encoded {
    wire.u16(9);
    wire.u16(if export.announce {
        ANNOUNCED_RECORDS
    } else {
        export.flows_max as u16
    });
    wire.u32(export.uptime_ms());
    wire.u32((export.clock_ms / 1000) as u32);
    wire.u32(export.sequence);
    wire.u32(export.domain);
    if export.announce {
        announce(export, wire);
        return Encoded {
            options_records: 1,
            ..Encoded::default()
        };
    }
    let mut encoded = Encoded::default();
    let sampling_rate = export.exporter.sampling_rate();
    let mut flow = next();
    let set = wire.begin_set(template_id(flow.family));
    for record in 1..=export.flows_max {
        let numbered = export.numbered(flow, encoded.sums.flows);
        write_record(export, &numbered, wire);
        encoded
            .sums
            .add_flow(flow.packets, flow.octets(), sampling_rate);
        if record < export.flows_max {
            flow = next();
        }
    }
    wire.end_set(set);
    encoded
}

fn template_id(family: Family) -> u16 {
    TEMPLATE_FIRST + family as u16
}

fn announce(export: &Export<'_>, wire: &mut Wire<'_>) {
    let last = match export.exporter.role {
        Role::Access => SRC_VLAN,
        Role::Distribution | Role::Border => SAMPLER_ID,
    };
    let templates = wire.begin_set(0);
    for family in [Family::V4, Family::V6] {
        let fields = fields(family);
        wire.u16(template_id(family));
        wire.u16(fields.len() as u16 + 1);
        for &(id, length) in fields.iter().chain([&last]) {
            wire.u16(id);
            wire.u16(length);
        }
    }
    wire.end_set(templates);
    match export.exporter.role {
        Role::Access => announce_system_sampling(export, wire),
        Role::Distribution | Role::Border => announce_sampler(export, wire),
    }
}

/// SAMPLING_INTERVAL and SAMPLING_ALGORITHM of the system.
fn announce_system_sampling(export: &Export<'_>, wire: &mut Wire<'_>) {
    options_template(&[(34, 4), (35, 1)], wire);
    let options = wire.begin_set(OPTIONS_TEMPLATE);
    wire.u32(0);
    wire.u32(export.exporter.sampling_rate());
    wire.u8(SAMPLING_DETERMINISTIC);
    wire.end_set(options);
}

/// FLOW_SAMPLER_ID, SAMPLER_NAME, FLOW_SAMPLER_MODE and FLOW_SAMPLER_RANDOM_INTERVAL.
fn announce_sampler(export: &Export<'_>, wire: &mut Wire<'_>) {
    options_template(&[(48, 1), (84, 8), (49, 1), (50, 4)], wire);
    let options = wire.begin_set(OPTIONS_TEMPLATE);
    wire.u32(0);
    wire.u8(SAMPLER);
    wire.bytes(b"sampler1");
    wire.u8(SAMPLING_RANDOM);
    wire.u32(export.exporter.sampling_rate());
    wire.end_set(options);
}

fn options_template(fields: &[(u16, u16)], wire: &mut Wire<'_>) {
    let set = wire.begin_set(1);
    wire.u16(OPTIONS_TEMPLATE);
    // RFC 3954 section 6.1: lengths in bytes of the scope fields and of the options fields.
    wire.u16(4);
    wire.u16(4 * fields.len() as u16);
    wire.u16(SCOPE_SYSTEM);
    wire.u16(4);
    for &(id, length) in fields {
        wire.u16(id);
        wire.u16(length);
    }
    wire.end_set(set);
}

fn write_record(export: &Export<'_>, flow: &FlowRecord, wire: &mut Wire<'_>) {
    wire.address(flow.family, flow.src_addr);
    wire.address(flow.family, flow.dst_addr);
    wire.address(flow.family, flow.next_hop);
    wire.u32(flow.in_if);
    wire.u32(flow.out_if);
    wire.u32(flow.octets());
    wire.u32(flow.packets);
    wire.u32(export.switched_ms(flow.start_ms));
    wire.u32(export.switched_ms(flow.end_ms));
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
    match export.exporter.role {
        Role::Access => wire.u16(flow.vlan),
        Role::Distribution | Role::Border => wire.u8(SAMPLER),
    }
}

/// All fields but the last, in the order of [`write_record`].
const fn fields(family: Family) -> &'static [(u16, u16); 19] {
    match family {
        Family::V4 => &FIELDS_V4,
        Family::V6 => &FIELDS_V6,
    }
}

const FIELDS_V4: [(u16, u16); 19] = [
    (8, 4),  // IPV4_SRC_ADDR
    (12, 4), // IPV4_DST_ADDR
    (15, 4), // IPV4_NEXT_HOP
    (10, 4), // INPUT_SNMP
    (14, 4), // OUTPUT_SNMP
    (1, 4),  // IN_BYTES
    (2, 4),  // IN_PKTS
    (22, 4), // FIRST_SWITCHED
    (21, 4), // LAST_SWITCHED
    (7, 2),  // L4_SRC_PORT
    (11, 2), // L4_DST_PORT
    (6, 1),  // TCP_FLAGS
    (4, 1),  // PROTOCOL
    (5, 1),  // SRC_TOS
    (16, 4), // SRC_AS
    (17, 4), // DST_AS
    (9, 1),  // SRC_MASK
    (13, 1), // DST_MASK
    (61, 1), // DIRECTION
];

const FIELDS_V6: [(u16, u16); 19] = {
    let mut fields = FIELDS_V4;
    fields[0] = (27, 16); // IPV6_SRC_ADDR
    fields[1] = (28, 16); // IPV6_DST_ADDR
    fields[2] = (62, 16); // IPV6_NEXT_HOP
    fields[16] = (29, 1); // IPV6_SRC_MASK
    fields[17] = (30, 1); // IPV6_DST_MASK
    fields
};

const SRC_VLAN: (u16, u16) = (58, 2);
const SAMPLER_ID: (u16, u16) = (48, 1);
const TEMPLATE_FIRST: u16 = 256;
const OPTIONS_TEMPLATE: u16 = 258;
/// Two templates, the options template and its record.
const ANNOUNCED_RECORDS: u16 = 4;
const SCOPE_SYSTEM: u16 = 1;
const SAMPLER: u8 = 1;
const SAMPLING_DETERMINISTIC: u8 = 1;
const SAMPLING_RANDOM: u8 = 2;
const DIRECTION_INGRESS: u8 = 0;
