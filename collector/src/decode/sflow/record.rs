//! The records of a flow sample, and which of them a field is taken from.

use crate::config::Tunnels;
use crate::decode::Cursor;
use crate::decode::packet::{self, Link, tunnel};
use crate::flow::{Address, Flow, TunnelType};

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
    pub const TUNNEL_IPV4_EGRESS: u32 = 1023;
    pub const TUNNEL_IPV4_INGRESS: u32 = 1024;
    pub const TUNNEL_IPV6_EGRESS: u32 = 1025;
    pub const TUNNEL_IPV6_INGRESS: u32 = 1026;
    pub const VNI_EGRESS: u32 = 1029;
    pub const VNI_INGRESS: u32 = 1030;
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

/// Kinds of record that are understood, in the order of their say: the packet's own headers, what
/// the agent read of them, what the agent knows besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    RawHeader,
    Ipv4,
    Ipv6,
    Ethernet,
    VlanTunnel,
    Switch,
    Router,
    Gateway,
    Mpls,
    Nat,
    NatPort,
    TunnelIpv4,
    TunnelIpv6,
    Vni,
}

const KINDS: usize = Kind::Vni as usize + 1;

impl Kind {
    #[inline]
    fn of(format: u32) -> Option<Self> {
        // Nearly all samples consist of these.
        match format {
            format::RAW_HEADER => Some(Self::RawHeader),
            format::SWITCH => Some(Self::Switch),
            format::ROUTER => Some(Self::Router),
            format => Self::of_rare(format),
        }
    }

    #[inline(never)]
    const fn of_rare(format: u32) -> Option<Self> {
        // The enterprise is in the upper 20 bits: those of others equal no format.
        Some(match format {
            format::IPV4 => Self::Ipv4,
            format::IPV6 => Self::Ipv6,
            format::ETHERNET => Self::Ethernet,
            format::VLAN_TUNNEL => Self::VlanTunnel,
            format::GATEWAY => Self::Gateway,
            format::MPLS => Self::Mpls,
            format::NAT => Self::Nat,
            format::NAT_PORT => Self::NatPort,
            format::TUNNEL_IPV4_EGRESS | format::TUNNEL_IPV4_INGRESS => Self::TunnelIpv4,
            format::TUNNEL_IPV6_EGRESS | format::TUNNEL_IPV6_INGRESS => Self::TunnelIpv6,
            format::VNI_EGRESS | format::VNI_INGRESS => Self::Vni,
            _ => return None,
        })
    }

    /// Writes a record to `flow`; one that is cut writes what it has.
    #[inline(always)]
    fn write(self, body: &[u8], flow: &mut Flow) {
        let cursor = Cursor::new(body);
        // `None` only says that the rest is not there; its fields stay unknown.
        let _ = match self {
            Self::RawHeader | Self::Switch | Self::Router => self.read(cursor, flow),
            _ => self.read_apart(cursor, flow),
        };
    }

    /// [`Kind::read`] with registers and room of its own, which every record would pay for.
    #[inline(never)]
    fn read_apart(self, cursor: Cursor<'_>, flow: &mut Flow) -> Option<()> {
        self.read(cursor, flow)
    }

    #[inline(always)]
    fn read(self, mut cursor: Cursor<'_>, flow: &mut Flow) -> Option<()> {
        let cursor = &mut cursor;
        match self {
            Self::RawHeader => raw_header(cursor, flow),
            Self::Ipv4 => Sampled::ipv4(cursor).map(|sampled| sampled.fill(flow)),
            Self::Ipv6 => Sampled::ipv6(cursor).map(|sampled| sampled.fill(flow)),
            Self::Ethernet => sampled_ethernet(cursor, flow),
            Self::VlanTunnel => vlan_tunnel(cursor, flow),
            Self::Switch => switch(cursor, flow),
            Self::Router => router(cursor, flow),
            Self::Gateway => gateway(cursor, flow),
            Self::Mpls => mpls(cursor, flow),
            Self::Nat => nat(cursor, flow),
            Self::NatPort => nat_port(cursor, flow),
            Self::TunnelIpv4 => Sampled::ipv4(cursor).map(|around| around.fill_outer(flow)),
            Self::TunnelIpv6 => Sampled::ipv6(cursor).map(|around| around.fill_outer(flow)),
            Self::Vni => vni(cursor, flow),
        }
    }
}

/// The records of a sample, still undecoded.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// The bytes behind the sample's fixed fields.
    pub cursor: Cursor<'a>,
    /// Records that the sample announces.
    pub announced: u32,
}

/// What became of the records of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records of kinds that are not read.
    pub skipped: u32,
    /// Records are missing, or the last one runs past the sample; it counts with the part that is
    /// there.
    pub is_cut: bool,
}

impl<'a> Records<'a> {
    /// Writes them to `flow`, if there is one of each kind at most and they come in the order of
    /// their say, as most agents send them; else `None`, and `flow` is anything.
    #[inline(always)]
    pub fn write_in_order(mut self, flow: &mut Flow) -> Option<Written> {
        let (mut kinds_seen, mut skipped) = (0, 0);
        while let Some((format, body)) = self.next() {
            let Some(kind) = Kind::of(format) else {
                skipped += 1;
                continue;
            };
            if (kind as usize) < kinds_seen {
                return None;
            }
            kinds_seen = kind as usize + 1;
            kind.write(body, flow);
        }
        Some(Written {
            skipped,
            is_cut: self.is_cut(),
        })
    }

    /// Writes them to `flow`: the first of each kind, in the order of their say, with tunnels
    /// entered where that is asked for.
    #[cold]
    pub fn write_sorted(mut self, tunnels: Tunnels, flow: &mut Flow) -> Written {
        let mut first: [Option<(Kind, &[u8])>; KINDS] = [None; KINDS];
        let mut skipped = 0;
        while let Some((format, body)) = self.next() {
            match Kind::of(format) {
                Some(kind) => {
                    first[kind as usize].get_or_insert((kind, body));
                }
                None => skipped += 1,
            }
        }
        for (kind, body) in first.into_iter().flatten() {
            kind.write(body, flow);
            if tunnels == Tunnels::Inner && kind == Kind::RawHeader {
                enter_tunnel(body, flow);
            }
        }
        Written {
            skipped,
            is_cut: self.is_cut(),
        }
    }

    /// The next record's format and body, cut to the sample.
    #[inline]
    pub fn next(&mut self) -> Option<(u32, &'a [u8])> {
        if self.announced == 0 {
            return None;
        }
        let header = self.cursor.u64()?;
        let (format, length) = ((header >> 32) as u32, header as u32 as usize);
        let body = match self.cursor.bytes(length) {
            Some(body) => {
                self.announced -= 1;
                body
            }
            // What is announced is never reached now, which is how it is known to be cut.
            None => self.cursor.bytes(self.cursor.remaining())?,
        };
        Some((format, body))
    }

    /// True when not all that are announced could be taken whole.
    pub const fn is_cut(&self) -> bool {
        self.announced > 0
    }
}

/// The packet's own headers.
#[inline]
fn raw_header(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let [protocol, frame_bytes, stripped, header_bytes] = cursor.words()?;
    let header = cursor.rest();
    let header = header.get(..header_bytes as usize).unwrap_or(header);
    let Some(link) = link(protocol) else {
        flow.raw_bytes = u64::from(frame_bytes);
        return Some(());
    };
    let frame_bytes = frame_bytes.saturating_sub(stripped.min(STRIPPED_BYTES_MAX));
    packet::parse(link, header, frame_bytes, flow);
    Some(())
}

/// What a raw header begins with, if it is read.
#[inline(always)]
fn link(header_protocol: u32) -> Option<Link> {
    match header_protocol {
        header_protocol::ETHERNET => Some(Link::Ethernet),
        header_protocol::PPP => Some(Link::Ppp),
        header_protocol::MPLS => Some(Link::Mpls),
        header_protocol::IPV4 | header_protocol::IPV6 => Some(Link::Ip),
        _ => None,
    }
}

/// Makes the packet inside of the one in the raw header `body`, which `flow` says so far, the flow.
/// Parses it once more to find its layers, so that those who want the outer one need not carry
/// them.
#[inline(never)]
fn enter_tunnel(body: &[u8], flow: &mut Flow) {
    let mut cursor = Cursor::new(body);
    let Some([protocol, _, _, header_bytes]) = cursor.words() else {
        return;
    };
    let header = cursor.rest();
    let header = header.get(..header_bytes as usize).unwrap_or(header);
    if let Some(link) = link(protocol) {
        let layers = packet::parse(link, header, 0, &mut { Flow::EMPTY });
        tunnel::enter(header, layers, flow);
    }
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
    /// Sampled IPv4: what an agent without raw headers read of the packet.
    #[inline(always)]
    fn ipv4(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            octets: cursor.u32()?,
            protocol: cursor.u32()?,
            src: Address::from_v4(cursor.array()?),
            dst: Address::from_v4(cursor.array()?),
            src_port: cursor.u32()?,
            dst_port: cursor.u32()?,
            tcp_flags: cursor.u32()?,
            tos: cursor.u32()?,
        })
    }

    /// Sampled IPv6, likewise.
    #[inline(always)]
    fn ipv6(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            octets: cursor.u32()?,
            protocol: cursor.u32()?,
            src: Address(cursor.array()?),
            dst: Address(cursor.array()?),
            src_port: cursor.u32()?,
            dst_port: cursor.u32()?,
            tcp_flags: cursor.u32()?,
            tos: cursor.u32()?,
        })
    }

    /// Writes it as the packet that is put around the sampled one on its way out, or was around it
    /// on its way in ("sFlow Tunnel Structures"). One that was found in the sampled packet itself
    /// has the last word.
    fn fill_outer(&self, flow: &mut Flow) {
        let detail = &mut *flow.detail;
        if !detail.outer_src_addr.is_unknown() || self.src.to_ip().is_unspecified() {
            return;
        }
        detail.outer_src_addr = self.src;
        detail.outer_dst_addr = self.dst;
        if detail.tunnel_type == TunnelType::None {
            let protocol = u8::try_from(self.protocol).unwrap_or_default();
            detail.tunnel_type = tunnel::carried_by(protocol, half(self.dst_port));
        }
    }

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
    if flow.detail.frame.src_mac == 0 && flow.detail.frame.dst_mac == 0 {
        flow.detail.frame_mut().src_mac = src_mac;
        flow.detail.frame_mut().dst_mac = dst_mac;
    }
    let ethertype = cursor.u32()?;
    if flow.detail.frame.ethertype == 0 {
        flow.detail.frame_mut().ethertype = half(ethertype);
    }
    Some(())
}

/// Six bytes, padded to eight as XDR wants (RFC 4506 §4.9).
fn mac(cursor: &mut Cursor<'_>) -> Option<u64> {
    let [a, b, c, d, e, f, _, _] = cursor.array()?;
    Some(packet::mac([a, b, c, d, e, f]))
}

/// Extended switch: the VLANs on both sides. Unknown (all ones) and 0 leave the frame's own tag.
#[inline]
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

#[inline]
fn router(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    address_into(&mut flow.next_hop, cursor)?;
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
    address_into(&mut flow.detail.bgp_next_hop, cursor)?;
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
    let mut next_hop = Address::UNKNOWN;
    address_into(&mut next_hop, cursor)?;
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
    address_into(&mut flow.detail.src_addr_nat, cursor)?;
    address_into(&mut flow.detail.dst_addr_nat, cursor)?;
    Some(())
}

fn nat_port(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    flow.detail.src_port_nat = half(cursor.u32()?);
    flow.detail.dst_port_nat = half(cursor.u32()?);
    Some(())
}

/// The identifier of the virtual network that the packet came from, or goes to.
fn vni(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let vni = cursor.u32()?;
    if flow.detail.tunnel_id == 0 {
        flow.detail.tunnel_id = vni;
    }
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
    flow.detail.frame_mut().inner_vlan = match tags {
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

/// An address with its type; one of an unknown type ends the record. Written in place: each type is
/// stored as it is read, instead of being put together for one store.
#[inline]
fn address_into(to: &mut Address, cursor: &mut Cursor<'_>) -> Option<()> {
    match cursor.u32()? {
        0 => *to = Address::UNKNOWN,
        super::ADDRESS_IPV4 => *to = Address::from_v4(cursor.array()?),
        super::ADDRESS_IPV6 => *to = Address(cursor.array()?),
        _ => return None,
    }
    Some(())
}
