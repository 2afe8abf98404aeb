//! Steps from a packet into the one that it carries.
//!
//! Specs: RFC 2784 and RFC 2890 (GRE), RFC 7348 (VXLAN), RFC 2003, RFC 4213 and RFC 2473 (IP in
//! IP), 3GPP TS 29.281 (GTP-U).

use collector_ebpf::{Udp, ethertype, protocol};

use super::{Layers, Link, parse};
use crate::decode::Cursor;
use crate::flow::{Address, Flow, MPLS_LABELS_MAX, TunnelType};

/// Tunnels stepped into of one packet; what lies deeper stays inside.
const TUNNELS_MAX: usize = 2;

/// Extension headers walked of one GTP-U header.
const GTPU_EXTENSIONS_MAX: usize = 4;

/// IP protocols (IANA) that carry packets.
mod carrier {
    pub const IPV4: u8 = 4;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
}

/// UDP ports (IANA) behind which packets are carried.
mod port {
    pub const GTPU: u16 = 2152;
    pub const VXLAN: u16 = 4789;
}

/// GRE's type of a whole Ethernet frame ("Transparent Ethernet Bridging", IANA).
const ETHERNET_BRIDGING: u16 = 0x6558;

/// Makes the packet inside of the one in `bytes` the flow, and the one inside of that. `layers` and
/// `flow` are what [`parse`] made of it. Where there is none, or its IP header was not sampled, the
/// flow stays what it is.
#[inline(never)]
pub fn enter(mut bytes: &[u8], mut layers: Layers, flow: &mut Flow) {
    for _ in 0..TUNNELS_MAX {
        let Some(inner) = Inner::of(bytes, layers, flow) else {
            return;
        };
        let outer = *flow;
        inner.forget_outer(flow);
        let inside = parse(inner.link, inner.bytes, 0, flow);
        if flow.src_addr.is_unknown() && flow.dst_addr.is_unknown() {
            *flow = outer;
            return;
        }
        if flow.raw_bytes == 0 {
            // Both end where the sample does.
            let packet = bytes.len() - layers.network;
            let around = packet - (inner.bytes.len() - inside.network);
            flow.raw_bytes = outer.raw_bytes.saturating_sub(around as u64);
        }
        let detail = &mut *flow.detail;
        detail.tunnel_type = inner.tunnel;
        detail.tunnel_id = inner.id;
        detail.outer_src_addr = outer.src_addr;
        detail.outer_dst_addr = outer.dst_addr;
        (bytes, layers) = (inner.bytes, inside);
    }
}

/// The tunnel that an IP packet of `protocol`, to `dst_port` if that is UDP, belongs to.
pub(in crate::decode) const fn carried_by(protocol: u8, dst_port: u16) -> TunnelType {
    match (protocol, dst_port) {
        (carrier::IPV4, _) => TunnelType::Ipip,
        (carrier::IPV6, _) => TunnelType::Ipv6,
        (carrier::GRE, _) => TunnelType::Gre,
        (protocol::UDP, port::VXLAN) => TunnelType::Vxlan,
        (protocol::UDP, port::GTPU) => TunnelType::Gtpu,
        _ => TunnelType::None,
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inner<'a> {
    tunnel: TunnelType,
    /// Key or identifier of the tunnel, 0 where it has none.
    id: u32,
    /// What `bytes` begin with.
    link: Link,
    bytes: &'a [u8],
}

impl<'a> Inner<'a> {
    /// What the packet in `bytes` carries. Behind later fragments there is no header to tell.
    fn of(bytes: &'a [u8], layers: Layers, flow: &Flow) -> Option<Self> {
        if layers.header_length == 0 {
            return None;
        }
        let upper = bytes.get(layers.network + layers.header_length..)?;
        match carried_by(flow.protocol, flow.dst_port) {
            TunnelType::None => None,
            TunnelType::Gre => gre(upper),
            TunnelType::Vxlan => vxlan(upper.get(Udp::HEADER_BYTES..)?),
            TunnelType::Ipip => Self::ip(upper, 4, TunnelType::Ipip),
            TunnelType::Ipv6 => Self::ip(upper, 6, TunnelType::Ipv6),
            TunnelType::Gtpu => gtpu(upper.get(Udp::HEADER_BYTES..)?),
        }
    }

    /// An IP packet, when it is of `version`.
    fn ip(bytes: &'a [u8], version: u8, tunnel: TunnelType) -> Option<Self> {
        (bytes.first()? >> 4 == version).then_some(Self {
            tunnel,
            id: 0,
            link: Link::Ip,
            bytes,
        })
    }

    /// Clears what the headers inside may leave as it is. Where they begin with IP, layer 2 stays
    /// that of the frame around.
    fn forget_outer(&self, flow: &mut Flow) {
        flow.src_addr = Address::UNKNOWN;
        flow.dst_addr = Address::UNKNOWN;
        (flow.src_port, flow.dst_port) = (0, 0);
        (flow.tcp_flags, flow.icmp_type, flow.icmp_code) = (0, 0, 0);
        flow.raw_bytes = 0;
        let detail = &mut *flow.detail;
        detail.frame.ethertype = 0;
        if self.link != Link::Ip {
            detail.mpls_count = 0;
            detail.mpls_labels = [0; MPLS_LABELS_MAX];
        }
        if self.link == Link::Ethernet {
            flow.src_vlan = 0;
            detail.frame.inner_vlan = 0;
        }
    }
}

fn gre(bytes: &[u8]) -> Option<Inner<'_>> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    /// Routing and the two bits behind (RFC 1701), and the version: PPTP's is 1.
    const OTHER: u16 = 0x4c07;
    let mut cursor = Cursor::new(bytes);
    let (flags, carries) = (cursor.u16()?, cursor.u16()?);
    //= https://www.rfc-editor.org/rfc/rfc2784#section-2.3
    //# A receiver MUST discard a packet where any of bits 1-5 are non-zero,
    //# unless that receiver implements RFC 1701.
    if flags & OTHER != 0 {
        return None;
    }
    if flags & CHECKSUM != 0 {
        cursor.u32()?;
    }
    let key = match flags & KEY {
        0 => 0,
        _ => cursor.u32()?,
    };
    if flags & SEQUENCE != 0 {
        cursor.u32()?;
    }
    let link = match carries {
        ethertype::IPV4 | ethertype::IPV6 => Link::Ip,
        ethertype::MPLS | ethertype::MPLS_UPSTREAM => Link::Mpls,
        ETHERNET_BRIDGING => Link::Ethernet,
        _ => return None,
    };
    Some(Inner {
        tunnel: TunnelType::Gre,
        id: key,
        link,
        bytes: cursor.rest(),
    })
}

fn vxlan(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut cursor = Cursor::new(bytes);
    let [flags, _, _, _, v0, v1, v2, _] = cursor.array()?;
    //= https://www.rfc-editor.org/rfc/rfc7348#section-5
    //# the I flag MUST be set to 1 for a valid
    //# VXLAN Network ID (VNI)
    (flags & 0x08 != 0).then_some(Inner {
        tunnel: TunnelType::Vxlan,
        id: u32::from_be_bytes([0, v0, v1, v2]),
        link: Link::Ethernet,
        bytes: cursor.rest(),
    })
}

/// A G-PDU (3GPP TS 29.281 section 5.1): the only message that carries a user's packet.
fn gtpu(bytes: &[u8]) -> Option<Inner<'_>> {
    /// Version 1 of GTP, not of GTP'.
    const VERSION_AND_TYPE: u8 = 0x30;
    const EXTENSION: u8 = 0x04;
    /// Extension, sequence number, N-PDU number: one of them brings the four bytes of all.
    const OPTIONAL: u8 = 0x07;
    const G_PDU: u8 = 255;
    let mut cursor = Cursor::new(bytes);
    let [flags, message_type, _, _] = cursor.array()?;
    if flags & 0xf0 != VERSION_AND_TYPE || message_type != G_PDU {
        return None;
    }
    let id = cursor.u32()?;
    if flags & OPTIONAL != 0 {
        let [_, _, _, first] = cursor.array()?;
        let mut next = match flags & EXTENSION {
            0 => 0,
            _ => first,
        };
        for _ in 0..GTPU_EXTENSIONS_MAX {
            if next == 0 {
                break;
            }
            // In units of four bytes, this one and the type of the next included.
            let length = usize::from(cursor.u8()?) * 4;
            next = *cursor.bytes(length.checked_sub(1)?)?.last()?;
        }
        if next != 0 {
            return None;
        }
    }
    let bytes = cursor.rest();
    match bytes.first()? >> 4 {
        4 | 6 => Some(Inner {
            tunnel: TunnelType::Gtpu,
            id,
            link: Link::Ip,
            bytes,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
