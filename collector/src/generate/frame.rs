//! The first bytes of a frame that belongs to a flow, as an sFlow agent samples them.

use super::Family;
use super::exporters::Exporter;
use super::hosts::{is_inside, scramble};
use super::services::{ESP, GRE, ICMP, ICMP_V6, TCP, UDP};
use super::traffic::FlowRecord;
use super::wire::Wire;

/// Bytes of a frame that are sampled at most.
pub const HEADER_MAX: usize = 128;

/// A sampled frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Length on the wire, frame check sequence included.
    pub length: u32,
    /// Bytes of it that were sampled.
    pub sampled: u32,
    /// Octets from the IP header on: what a collector counts.
    pub ip_octets: u32,
}

/// Appends the beginning of a frame of `flow` to `wire`: Ethernet, perhaps a VLAN tag, IP, TCP or
/// UDP with right lengths and header checksum, and zeros for what they carry.
pub fn write(exporter: &Exporter, flow: &FlowRecord, wire: &mut Wire<'_>) -> Frame {
    let start = wire.position();
    let salt = scramble(flow.src_addr as u64 ^ u64::from(flow.src_port) << 48 ^ flow.end_ms);
    mac(exporter, flow.family, flow.dst_addr, wire);
    mac(exporter, flow.family, flow.src_addr, wire);
    if is_tagged(flow) {
        wire.u16(0x8100);
        wire.u16(flow.vlan);
    }
    let transport_header = match flow.protocol {
        TCP => 20,
        UDP if flow.dst_port == VXLAN_PORT => 8 + 8 + 14 + INNER_OCTETS,
        UDP | ICMP | ICMP_V6 | ESP => 8,
        GRE => 4 + INNER_OCTETS,
        _ => 0,
    };
    let ip_header = match flow.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let ip_octets = flow.packet_octets.max(ip_header + transport_header);
    match flow.family {
        Family::V4 => {
            wire.u16(ETHERTYPE_IPV4);
            let addresses = [flow.src_addr as u32, flow.dst_addr as u32];
            let salt = salt as u16;
            let fields = (flow.tos, ttl(flow), flow.protocol);
            ipv4(ip_octets, fields, addresses, salt, wire);
        }
        Family::V6 => {
            wire.u16(ETHERTYPE_IPV6);
            ipv6(
                flow,
                (ip_octets - ip_header) as u16,
                salt as u32 & 0xf_ffff,
                wire,
            );
        }
    }
    transport(flow, (ip_octets - ip_header) as u16, salt, wire);
    let link_header: u32 = if is_tagged(flow) { 18 } else { 14 };
    // Without its check sequence a frame has 60 bytes at least.
    let on_wire = (link_header + ip_octets).max(60);
    let sampled = (on_wire as usize).min(HEADER_MAX);
    wire.0.resize(start + sampled, 0);
    Frame {
        length: on_wire + FRAME_CHECK,
        sampled: sampled as u32,
        ip_octets,
    }
}

/// Every second port is a trunk.
fn is_tagged(flow: &FlowRecord) -> bool {
    flow.vlan != 0 && flow.in_if.is_multiple_of(2)
}

/// Inside hosts have their own address, everyone else is behind the router.
fn mac(exporter: &Exporter, family: Family, address: u128, wire: &mut Wire<'_>) {
    let low = if is_inside(family, address) {
        // Locally administered, unicast.
        0x0200_0000_0000 | (scramble(address as u64) & 0xff_ffff_ffff)
    } else {
        0x0000_0c00_0000 | u64::from(exporter.management.to_bits() & 0xff_ffff)
    };
    wire.bytes(&low.to_be_bytes()[2..]);
}

/// A header that may not be fragmented; `octets` is the length of the packet.
fn ipv4(octets: u32, fields: (u8, u8, u8), addresses: [u32; 2], salt: u16, wire: &mut Wire<'_>) {
    let (tos, ttl, protocol) = fields;
    let mut header = [0; 20];
    header[0] = 0x45;
    header[1] = tos;
    header[2..4].copy_from_slice(&(octets as u16).to_be_bytes());
    header[4..6].copy_from_slice(&salt.to_be_bytes());
    header[6] = 0x40;
    header[8] = ttl;
    header[9] = protocol;
    header[12..16].copy_from_slice(&addresses[0].to_be_bytes());
    header[16..20].copy_from_slice(&addresses[1].to_be_bytes());
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    wire.bytes(&header);
}

fn ipv6(flow: &FlowRecord, payload: u16, label: u32, wire: &mut Wire<'_>) {
    wire.u32(6 << 28 | u32::from(flow.tos) << 20 | label);
    wire.u16(payload);
    wire.u8(flow.protocol);
    wire.u8(ttl(flow));
    wire.address(Family::V6, flow.src_addr);
    wire.address(Family::V6, flow.dst_addr);
}

fn ttl(flow: &FlowRecord) -> u8 {
    if is_inside(flow.family, flow.src_addr) {
        64
    } else {
        48 + (flow.src_addr & 7) as u8
    }
}

/// `length` is that of the header and what it carries.
fn transport(flow: &FlowRecord, length: u16, salt: u64, wire: &mut Wire<'_>) {
    // Never 0, which UDP over IPv6 must not have; nobody can check it on a cut frame.
    let unchecked = salt as u16 | 1;
    match flow.protocol {
        TCP => {
            wire.u16(flow.src_port);
            wire.u16(flow.dst_port);
            wire.u32((salt >> 32) as u32);
            let flags = packet_flags(flow.tcp_flags, salt);
            let has_acknowledgement = flags & ACK != 0;
            wire.u32(if has_acknowledgement { salt as u32 } else { 0 });
            wire.u8(5 << 4);
            wire.u8(flags);
            wire.u16(0xffff);
            wire.u16(unchecked);
            wire.u16(0);
        }
        UDP => {
            wire.u16(flow.src_port);
            wire.u16(flow.dst_port);
            wire.u16(length);
            wire.u16(unchecked);
            if flow.dst_port == VXLAN_PORT {
                // RFC 7348 section 5: a valid network identifier, then a whole frame.
                wire.u32(0x0800_0000);
                wire.u32((salt as u32 % 100 + 5_000) << 8);
                wire.bytes(&[0x02, 0, 0, 0, 0, 3, 0x02, 0, 0, 0, 0, 4]);
                wire.u16(ETHERTYPE_IPV4);
                inner(u32::from(length) - 30, salt, wire);
            }
        }
        ICMP | ICMP_V6 => {
            wire.u16(flow.dst_port);
            wire.u16(unchecked);
            wire.u32((salt >> 32) as u32);
        }
        GRE => {
            wire.u16(0);
            wire.u16(ETHERTYPE_IPV4);
            inner(u32::from(length) - 4, salt, wire);
        }
        ESP => wire.u64(salt),
        _ => {}
    }
}

/// What a tunnel carries: a UDP packet between two private hosts.
fn inner(octets: u32, salt: u64, wire: &mut Wire<'_>) {
    let addresses = [32, 48].map(|shift| PRIVATE | (salt >> shift) as u32 & 0xffff);
    ipv4(octets, (0, 64, UDP), addresses, salt as u16, wire);
    wire.u16(50_000);
    wire.u16(50_001);
    wire.u16((octets - 20) as u16);
    wire.u16(0);
}

/// The flags of one packet of a flow in which all of `union` occur.
fn packet_flags(union: u8, salt: u64) -> u8 {
    let is_complete = union & 0x03 == 0x03;
    match (salt >> 20) % 8 {
        _ if !is_complete => union,
        0 => 0x02,
        1 => 0x11,
        2..=4 => 0x18,
        _ => ACK,
    }
}

/// RFC 1071: the one's complement of the one's complement sum.
pub fn checksum(header: &[u8; 20]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

const FRAME_CHECK: u32 = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const VXLAN_PORT: u16 = 4789;
/// IPv4 and UDP.
const INNER_OCTETS: u32 = 28;
/// 172.16.0.0
const PRIVATE: u32 = 0xac10_0000;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_up_to_nothing() {
        // The example of RFC 1071's commonest explanation: 45 00 00 73 ... has b861.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
        let mut whole = header;
        whole[10..12].copy_from_slice(&0xb861_u16.to_be_bytes());
        assert_eq!(checksum(&whole), 0);
    }
}
