//! NetFlow version 5: a fixed record of 48 bytes, IPv4 only.
//!
//! Layout: Cisco, "NetFlow Export Datagram Format", tables B-3 and B-4.

use super::stream::{Encoded, Export};
use super::traffic::FlowRecord;
use super::wire::Wire;

/// Records of a full datagram.
pub const FLOWS: u32 = 30;

/// Writes one datagram.
pub fn encode(
    export: &Export<'_>,
    next: &mut impl FnMut() -> FlowRecord,
    wire: &mut Wire<'_>,
) -> Encoded {
    let sampling_rate = export.exporter.sampling_rate();
    wire.u16(5);
    wire.u16(export.flows_max as u16);
    wire.u32(export.uptime_ms());
    wire.u32((export.clock_ms / 1000) as u32);
    wire.u32((export.clock_ms % 1000 * 1_000_000) as u32);
    wire.u32(export.sequence);
    wire.u8(0);
    wire.u8(export.domain as u8);
    wire.u16(sampling(sampling_rate));
    let mut encoded = Encoded::default();
    for _ in 0..export.flows_max {
        let flow = export.numbered(next(), encoded.sums.flows);
        write_record(export, &flow, wire);
        encoded
            .sums
            .add_flow(flow.packets, flow.octets(), sampling_rate);
    }
    encoded
}

/// Two bits of mode (1: every n-th packet) and fourteen of the interval; 0 when all are seen.
fn sampling(rate: u32) -> u16 {
    if rate > 1 { 1 << 14 | rate as u16 } else { 0 }
}

fn write_record(export: &Export<'_>, flow: &FlowRecord, wire: &mut Wire<'_>) {
    wire.u32(flow.src_addr as u32);
    wire.u32(flow.dst_addr as u32);
    wire.u32(flow.next_hop as u32);
    wire.u16(flow.in_if as u16);
    wire.u16(flow.out_if as u16);
    wire.u32(flow.packets);
    wire.u32(flow.octets());
    wire.u32(export.switched_ms(flow.start_ms));
    wire.u32(export.switched_ms(flow.end_ms));
    wire.u16(flow.src_port);
    wire.u16(flow.dst_port);
    wire.u8(0);
    wire.u8(flow.tcp_flags);
    wire.u8(flow.protocol);
    wire.u8(flow.tos);
    wire.u16(short_as(flow.src_as));
    wire.u16(short_as(flow.dst_as));
    wire.u8(flow.src_mask);
    wire.u8(flow.dst_mask);
    wire.u16(0);
}

/// Only 16 bits: a longer number stands as AS_TRANS (RFC 6793 section 9).
fn short_as(autonomous_system: u32) -> u16 {
    u16::try_from(autonomous_system).unwrap_or(23_456)
}
