//! The records of a flow sample, and which of them a field is taken from.

use crate::decode::Cursor;
use crate::decode::packet::{self, Link};
use crate::flow::{Address, Flow};

/// Flow record formats of enterprise 0 (<https://sflow.org/developers/structures.php>).
mod format {
    pub const RAW_HEADER: u32 = 1;
    pub const ETHERNET: u32 = 2;
    pub const IPV4: u32 = 3;
    pub const IPV6: u32 = 4;
    pub const SWITCH: u32 = 1001;
    pub const ROUTER: u32 = 1002;
    pub const GATEWAY: u32 = 1003;
    pub const MPLS: u32 = 1006;
    pub const NAT: u32 = 1007;
    pub const VLAN_TUNNEL: u32 = 1012;
    pub const NAT_PORT: u32 = 1020;
}

/// `header_protocol` of a raw header.
mod header_protocol {
    pub const ETHERNET: u32 = 1;
    pub const PPP: u32 = 7;
    pub const IPV4: u32 = 11;
    pub const IPV6: u32 = 12;
    pub const MPLS: u32 = 13;
}

/// Frames are counted with their check sequence.
const FRAME_CHECK_BYTES: u32 = 4;

/// A frame loses its check sequence and at most a VLAN tag before it is sampled. Some agents count
/// what lies beyond the sampled header as stripped too; that is still part of the packet.
const STRIPPED_BYTES_MAX: u32 = 8;

const ETHERNET_HEADER_BYTES: u32 = 14;
const VLAN_ID_MASK: u32 = 0x0fff;

/// The records of a sample that are understood, the first of each kind, still undecoded.
#[derive(Debug, Default)]
pub struct Records<'a> {
    raw_header: Option<Cursor<'a>>,
    ethernet: Option<Cursor<'a>>,
    ipv4: Option<Cursor<'a>>,
    ipv6: Option<Cursor<'a>>,
    switch: Option<Cursor<'a>>,
    router: Option<Cursor<'a>>,
    gateway: Option<Cursor<'a>>,
    mpls: Option<Cursor<'a>>,
    nat: Option<Cursor<'a>>,
    nat_port: Option<Cursor<'a>>,
    vlan_tunnel: Option<Cursor<'a>>,
    /// Records are missing, or the last one runs past the sample.
    pub cut: bool,
}

impl<'a> Records<'a> {
    /// Walks `announced` records. One that runs past the sample counts with the part that is there.
    pub fn read(mut cursor: Cursor<'a>, announced: u32) -> Self {
        let mut records = Self::default();
        for _ in 0..announced {
            let (Some(kind), Some(length)) = (cursor.u32(), cursor.u32()) else {
                records.cut = true;
                break;
            };
            let length = length as usize;
            let taken = length.min(cursor.remaining());
            records.cut = taken < length;
            let body = Cursor::new(cursor.bytes(taken).unwrap_or_default());
            if let Some(slot) = records.slot(kind) {
                slot.get_or_insert(body);
            }
        }
        records
    }

    fn slot(&mut self, kind: u32) -> Option<&mut Option<Cursor<'a>>> {
        // The enterprise is in the upper 20 bits: those of others equal no format.
        Some(match kind {
            format::RAW_HEADER => &mut self.raw_header,
            format::ETHERNET => &mut self.ethernet,
            format::IPV4 => &mut self.ipv4,
            format::IPV6 => &mut self.ipv6,
            format::SWITCH => &mut self.switch,
            format::ROUTER => &mut self.router,
            format::GATEWAY => &mut self.gateway,
            format::MPLS => &mut self.mpls,
            format::NAT => &mut self.nat,
            format::NAT_PORT => &mut self.nat_port,
            format::VLAN_TUNNEL => &mut self.vlan_tunnel,
            _ => return None,
        })
    }

    /// Writes them to `flow`, in the order of their say: the packet's own headers, what the agent
    /// read of them, what the agent knows besides. A record that is cut writes what it has.
    pub fn write(&self, flow: &mut Flow) {
        apply(self.raw_header, flow, raw_header);
        apply(self.ipv4, flow, sampled_ipv4);
        apply(self.ipv6, flow, sampled_ipv6);
        apply(self.ethernet, flow, sampled_ethernet);
        apply(self.vlan_tunnel, flow, vlan_tunnel);
        apply(self.switch, flow, switch);
        apply(self.router, flow, router);
        apply(self.gateway, flow, gateway);
        apply(self.mpls, flow, mpls);
        apply(self.nat, flow, nat);
        apply(self.nat_port, flow, nat_port);
    }
}

#[inline]
fn apply(
    record: Option<Cursor<'_>>,
    flow: &mut Flow,
    write: impl Fn(&mut Cursor<'_>, &mut Flow) -> Option<()>,
) {
    if let Some(mut cursor) = record {
        // `None` only says that the rest is not there; its fields stay unknown.
        let _ = write(&mut cursor, flow);
    }
}

fn raw_header(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let protocol = cursor.u32()?;
    let frame_bytes = cursor.u32()?;
    let stripped = cursor.u32()?;
    let header_bytes = cursor.u32()? as usize;
    let header = cursor.rest();
    let header = header.get(..header_bytes).unwrap_or(header);
    let link = match protocol {
        header_protocol::ETHERNET => Link::Ethernet,
        header_protocol::PPP => Link::Ppp,
        header_protocol::MPLS => Link::Mpls,
        header_protocol::IPV4 | header_protocol::IPV6 => Link::Ip,
        _ => {
            flow.raw_bytes = u64::from(frame_bytes);
            return Some(());
        }
    };
    let frame_bytes = frame_bytes.saturating_sub(stripped.min(STRIPPED_BYTES_MAX));
    packet::parse(link, header, frame_bytes, flow);
    Some(())
}

/// Sampled IPv4: what an agent without raw headers read of the packet.
fn sampled_ipv4(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let sampled = Sampled {
        octets: cursor.u32()?,
        protocol: cursor.u32()?,
        src: Address::from_v4(cursor.array()?),
        dst: Address::from_v4(cursor.array()?),
        src_port: cursor.u32()?,
        dst_port: cursor.u32()?,
        tcp_flags: cursor.u32()?,
        tos: cursor.u32()?,
    };
    sampled.fill(flow);
    Some(())
}

/// Sampled IPv6, likewise.
fn sampled_ipv6(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let sampled = Sampled {
        octets: cursor.u32()?,
        protocol: cursor.u32()?,
        src: Address(cursor.array()?),
        dst: Address(cursor.array()?),
        src_port: cursor.u32()?,
        dst_port: cursor.u32()?,
        tcp_flags: cursor.u32()?,
        tos: cursor.u32()?,
    };
    sampled.fill(flow);
    Some(())
}

/// The fields of sampled IPv4 and sampled IPv6.
#[derive(Debug)]
struct Sampled {
    octets: u32,
    protocol: u32,
    src: Address,
    dst: Address,
    src_port: u32,
    dst_port: u32,
    tcp_flags: u32,
    tos: u32,
}

impl Sampled {
    /// Writes all of it, unless the packet's own header was already read.
    fn fill(&self, flow: &mut Flow) {
        if !flow.src_addr.is_unknown() || !flow.dst_addr.is_unknown() {
            return;
        }
        flow.raw_bytes = u64::from(self.octets);
        flow.protocol = u8::try_from(self.protocol).unwrap_or_default();
        flow.src_addr = self.src;
        flow.dst_addr = self.dst;
        flow.src_port = half(self.src_port);
        flow.dst_port = half(self.dst_port);
        flow.tcp_flags = half(self.tcp_flags);
        flow.tos = u8::try_from(self.tos).unwrap_or_default();
    }
}

/// Sampled Ethernet: fills what the packet's own header left blank.
fn sampled_ethernet(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let frame_bytes = cursor.u32()?;
    if flow.raw_bytes == 0 {
        let around = ETHERNET_HEADER_BYTES + FRAME_CHECK_BYTES;
        flow.raw_bytes = u64::from(frame_bytes.saturating_sub(around));
    }
    let src_mac = mac(cursor)?;
    let dst_mac = mac(cursor)?;
    if flow.detail.src_mac == 0 && flow.detail.dst_mac == 0 {
        flow.detail.src_mac = src_mac;
        flow.detail.dst_mac = dst_mac;
    }
    let ethertype = cursor.u32()?;
    if flow.detail.ethertype == 0 {
        flow.detail.ethertype = half(ethertype);
    }
    Some(())
}

/// Six bytes, padded to eight as XDR wants (RFC 4506 §4.9).
fn mac(cursor: &mut Cursor<'_>) -> Option<u64> {
    let [a, b, c, d, e, f, _, _] = cursor.array()?;
    Some(packet::mac([a, b, c, d, e, f]))
}

/// Extended switch: the VLANs on both sides. Unknown (all ones) and 0 leave the frame's own tag.
fn switch(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let src_vlan = cursor.u32()?;
    if half(src_vlan) != 0 {
        flow.src_vlan = half(src_vlan);
    }
    let _src_priority = cursor.u32()?;
    let dst_vlan = cursor.u32()?;
    flow.dst_vlan = half(dst_vlan);
    Some(())
}

fn router(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    flow.next_hop = address(cursor)?;
    flow.src_mask = prefix_length(cursor.u32()?);
    flow.dst_mask = prefix_length(cursor.u32()?);
    Some(())
}

/// A prefix length; some agents send the IPv4 netmask of it instead.
fn prefix_length(value: u32) -> u8 {
    if value <= 128 {
        return value as u8;
    }
    let ones = value.leading_ones();
    match ones + value.trailing_zeros() {
        32 => ones as u8,
        _ => 0,
    }
}

/// Extended gateway. The communities and the local preference behind the path have no column.
fn gateway(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    flow.detail.bgp_next_hop = address(cursor)?;
    let _router_as = cursor.u32()?;
    flow.src_as = cursor.u32()?;
    let _src_peer_as = cursor.u32()?;
    let segments = cursor.u32()?;
    // Each segment takes eight bytes at least, so the datagram bounds them.
    for _ in 0..segments {
        let _set_or_sequence = cursor.u32()?;
        let path_bytes = (cursor.u32()? as usize).checked_mul(4)?;
        if let Some(last) = cursor.bytes(path_bytes)?.last_chunk() {
            flow.dst_as = u32::from_be_bytes(*last);
        }
    }
    Some(())
}

/// Extended MPLS: the next hop and the stack that the packet came with, unless its own was read.
fn mpls(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let next_hop = address(cursor)?;
    if flow.next_hop.is_unknown() {
        flow.next_hop = next_hop;
    }
    if flow.detail.mpls_count > 0 {
        return Some(());
    }
    let entries = cursor.u32()? as usize;
    for _ in 0..entries.min(flow.detail.mpls_labels.len()) {
        packet::push_label(cursor.u32()?, flow);
    }
    Some(())
}

fn nat(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    flow.detail.src_addr_nat = address(cursor)?;
    flow.detail.dst_addr_nat = address(cursor)?;
    Some(())
}

fn nat_port(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    flow.detail.src_port_nat = half(cursor.u32()?);
    flow.detail.dst_port_nat = half(cursor.u32()?);
    Some(())
}

/// Extended VLAN tunnel: the tags (TPID and TCI) that were stripped from the frame, outermost
/// first. They stand outside of a tag that the frame still has.
fn vlan_tunnel(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let tags = cursor.u32()?;
    if tags == 0 {
        return Some(());
    }
    let outer = (cursor.u32()? & VLAN_ID_MASK) as u16;
    flow.detail.inner_vlan = match tags {
        1 => flow.src_vlan,
        _ => (cursor.u32()? & VLAN_ID_MASK) as u16,
    };
    flow.src_vlan = outer;
    Some(())
}

/// A 16-bit field that XDR carries in 32; a value that does not fit is none.
fn half(value: u32) -> u16 {
    u16::try_from(value).unwrap_or_default()
}

/// An address with its type; one of an unknown type ends the record.
fn address(cursor: &mut Cursor<'_>) -> Option<Address> {
    match cursor.u32()? {
        0 => Some(Address::UNKNOWN),
        super::ADDRESS_IPV4 => cursor.array().map(Address::from_v4),
        super::ADDRESS_IPV6 => cursor.array().map(Address),
        _ => None,
    }
}
