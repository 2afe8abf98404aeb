//! Reads sampled packet headers into a flow.
//!
//! In: the first bytes of a packet, often cut. Out: what its headers say, written to a [`Flow`].
//! The outermost IP header is the flow, or the one of the packet that a tunnel carries, on request.
//! Headers that are cut leave their fields unknown; nothing is an error. Specs: IEEE 802.3,
//! IEEE 802.1Q, RFC 2516, RFC 3032, RFC 791, RFC 8200.

pub(super) mod tunnel;

use collector_ebpf::{Ethernet, Ip, Tags, Transport, VLANS_MAX, ethertype};

use super::Cursor;
use crate::flow::{Address, Flow, MPLS_LABELS_MAX};

/// Label stack entries walked of one packet.
const LABEL_STACK_MAX: usize = 16;

/// What the bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet frame without preamble and check sequence.
    Ethernet,
    /// A PPP frame, from its protocol field on.
    Ppp,
    /// A label stack entry (RFC 3032).
    Mpls,
    /// An IPv4 or IPv6 header; its version says which.
    Ip,
}

/// Where layers begin, in bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Layer 3, or what layer 2 carries instead.
    pub network: usize,
    /// From there to what IP carries; 0 where there is no IP header, and in later fragments.
    pub header_length: usize,
}

/// Writes to `flow` what the headers at the start of `bytes` say. `frame_len` is the length of the
/// whole frame in bytes, without its check sequence; 0 when nobody said. `raw_bytes` becomes the
/// length that the IP header says, else `frame_len` without the headers of layer 2. The outermost
/// IP header is the flow; [`tunnel::enter`] goes on from here.
pub fn parse(link: Link, bytes: &[u8], frame_len: u32, flow: &mut Flow) -> Layers {
    let mut cursor = Cursor::new(bytes);
    let carries = match link {
        Link::Ethernet => ethernet(&mut cursor, flow),
        Link::Ppp => ppp(&mut cursor),
        Link::Mpls => Some(ethertype::MPLS),
        // Its own version says which, whatever stands here.
        Link::Ip => Some(ethertype::IPV4),
    };
    let is_ip = match carries {
        Some(ethertype::IPV4 | ethertype::IPV6) => true,
        // A copy of the cursor goes there, so that here it stays in registers.
        Some(carries) => {
            let (is_ip, behind) = leads_to_ip(carries, cursor, flow);
            cursor = behind;
            is_ip
        }
        None => false,
    };
    let header_length = if is_ip {
        network(cursor.rest(), flow)
    } else {
        0
    };
    let layer_2 = bytes.len() - cursor.remaining();
    if flow.raw_bytes == 0 {
        flow.raw_bytes = u64::from(frame_len).saturating_sub(layer_2 as u64);
    }
    Layers {
        network: layer_2,
        header_length,
    }
}

/// Reads what a frame or tunnel of type `carries` holds, until an IP header or the unknown. Yields
/// whether layer 3 may be an IP header, and a cursor at its start.
#[inline(never)]
fn leads_to_ip<'a>(carries: u16, mut cursor: Cursor<'a>, flow: &mut Flow) -> (bool, Cursor<'a>) {
    let is_ip = match carries {
        ethertype::MPLS | ethertype::MPLS_UPSTREAM => label_stack(&mut cursor, flow),
        ethertype::PPPOE_SESSION => match pppoe(&mut cursor) {
            Some(ethertype::IPV4 | ethertype::IPV6) => true,
            Some(ethertype::MPLS) => label_stack(&mut cursor, flow),
            _ => false,
        },
        _ => false,
    };
    (is_ip, cursor)
}

/// Reads the Ethernet header, tags and SNAP header. `None` when the frame is cut within them or
/// carries no EtherType.
fn ethernet(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<u16> {
    let ethernet = Ethernet::parse(cursor.rest())?;
    flow.detail.frame_mut().dst_mac = mac(ethernet.dst_mac);
    flow.detail.frame_mut().src_mac = mac(ethernet.src_mac);
    cursor.bytes(ethernet.length)?;
    let mut tags = ethernet.tags;
    if tags.count > 0 {
        [flow.src_vlan, flow.detail.frame_mut().inner_vlan] = tags.vlans;
    }
    // The outer two have columns; as many more are stepped over, further ones end the walk.
    if usize::from(tags.count) == VLANS_MAX {
        tags = Tags::parse(tags.ethertype, cursor.rest());
        cursor.bytes(tags.length)?;
    }
    let carries = match tags.ethertype {
        length if length < ethertype::FIRST => snap(cursor)?,
        ethertype => ethertype,
    };
    flow.detail.frame_mut().ethertype = carries;
    Some(carries)
}

/// The EtherType in an LLC header with SNAP and organisation 00-00-00 (RFC 1042); else nothing is
/// taken.
fn snap(cursor: &mut Cursor<'_>) -> Option<u16> {
    let mut ahead = *cursor;
    if ahead.array()? != [0xaa, 0xaa, 0x03, 0, 0, 0] {
        return None;
    }
    let ethertype = ahead.u16()?;
    *cursor = ahead;
    Some(ethertype)
}

/// The PPPoE session header (RFC 2516 §4) and the PPP protocol behind it, as an EtherType.
fn pppoe(cursor: &mut Cursor<'_>) -> Option<u16> {
    let mut ahead = *cursor;
    let [version_type, code, ..] = ahead.array::<6>()?;
    if (version_type, code) != (0x11, 0) {
        return None;
    }
    *cursor = ahead;
    ppp(cursor)
}

/// The PPP protocol field (RFC 1661 §2), HDLC address and control before it allowed, as the
/// EtherType of the same meaning.
fn ppp(cursor: &mut Cursor<'_>) -> Option<u16> {
    let mut ahead = *cursor;
    if ahead.rest().starts_with(&[0xff, 0x03]) {
        ahead.bytes(2)?;
    }
    // An odd first byte is a protocol field compressed to that byte (RFC 1661 §6.5).
    let protocol = match ahead.u8()? {
        low if low & 1 == 1 => u16::from(low),
        high => u16::from_be_bytes([high, ahead.u8()?]),
    };
    *cursor = ahead;
    match protocol {
        0x0021 => Some(ethertype::IPV4),
        0x0057 => Some(ethertype::IPV6),
        0x0281 => Some(ethertype::MPLS),
        _ => None,
    }
}

/// Reads the label stack. False when its bottom is not there.
fn label_stack(cursor: &mut Cursor<'_>, flow: &mut Flow) -> bool {
    for _ in 0..LABEL_STACK_MAX {
        let Some(entry) = cursor.u32() else {
            return false;
        };
        push_label(entry, flow);
        //= https://www.rfc-editor.org/rfc/rfc3032#section-2.1
        //# This bit is set to one for the last entry in the label stack
        if entry & 0x100 != 0 {
            return true;
        }
    }
    false
}

/// Keeps the label of a label stack entry while there is room.
pub(super) fn push_label(entry: u32, flow: &mut Flow) {
    let detail = &mut *flow.detail;
    if let Some(label) = detail.mpls_labels.get_mut(usize::from(detail.mpls_count)) {
        *label = entry >> 12;
        detail.mpls_count += 1;
    }
}

const _: () = assert!(MPLS_LABELS_MAX <= u8::MAX as usize);

/// Reads the IP header and the ports behind it. What follows MPLS or PPP is only taken for IP when
/// its version says so. Yields the bytes of the headers before the upper layer; 0 when there is
/// none.
#[inline]
fn network(packet: &[u8], flow: &mut Flow) -> usize {
    let Some(ip) = Ip::parse(packet) else {
        return 0;
    };
    if flow.detail.frame.ethertype == 0 {
        flow.detail.frame_mut().ethertype = match ip.version {
            4 => ethertype::IPV4,
            _ => ethertype::IPV6,
        };
    }
    flow.src_addr = Address(ip.src);
    flow.dst_addr = Address(ip.dst);
    flow.protocol = ip.protocol;
    flow.tos = ip.tos;
    flow.ttl = ip.ttl;
    flow.detail.frame_mut().flow_label = ip.flow_label;
    flow.detail.frame_mut().fragment_id = ip.fragment.id;
    flow.detail.frame_mut().fragment_offset = ip.fragment.offset;
    flow.raw_bytes = u64::from(ip.total_length);
    if !ip.has_upper_layer() {
        return 0;
    }
    let upper = packet.get(ip.header_length..).unwrap_or_default();
    let transport = Transport::parse(ip.protocol, upper);
    flow.src_port = transport.src_port;
    flow.dst_port = transport.dst_port;
    flow.tcp_flags = transport.tcp_flags;
    flow.icmp_type = transport.icmp_type;
    flow.icmp_code = transport.icmp_code;
    ip.header_length
}

/// A MAC address as the low 48 bits of an integer.
pub(super) const fn mac([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Detail, DetailFields, Frame};

    const ADDRESSES: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    const TCP_SYN: [u8; 20] = [
        0x01, 0xbb, 0xde, 0x2c, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0,
    ];

    fn ipv4(protocol: u8, upper: &[u8]) -> Vec<u8> {
        let header = [
            0x45, 0x28, 0x05, 0xdc, 0x12, 0x34, 0, 0, 63, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2,
            9,
        ];
        [&header[..], upper].concat()
    }

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        [&ADDRESSES[..], &parts.concat()].concat()
    }

    fn parsed(link: Link, bytes: &[u8], frame_len: u32) -> Flow {
        let mut flow = Flow::EMPTY;
        parse(link, bytes, frame_len, &mut flow);
        flow
    }

    #[test]
    fn an_ethernet_frame_gives_layers_two_to_four() {
        let bytes = frame(&[&[0x08, 0x00], &ipv4(6, &TCP_SYN)]);
        let flow = parsed(Link::Ethernet, &bytes, 1514);
        let expected = Flow {
            detail: Detail::from(DetailFields {
                frame: Frame {
                    dst_mac: 0x0102_0304_0506,
                    src_mac: 0x0708_090a_0b0c,
                    ethertype: 0x0800,
                    fragment_id: 0x1234,
                    ..Frame::EMPTY
                },
                ..*Detail::EMPTY
            }),
            src_addr: Address::from_v4([192, 0, 2, 1]),
            dst_addr: Address::from_v4([192, 0, 2, 9]),
            protocol: 6,
            tos: 0x28,
            ttl: 63,
            src_port: 443,
            dst_port: 56876,
            tcp_flags: 2,
            raw_bytes: 1500,
            ..Flow::EMPTY
        };
        assert_eq!(flow, expected);
    }

    #[test]
    fn tags_give_outer_and_inner_vlan() {
        let one = frame(&[&[0x81, 0x00, 0x60, 0x07, 0x08, 0x00], &ipv4(17, &[])]);
        let flow = parsed(Link::Ethernet, &one, 0);
        assert_eq!((flow.src_vlan, flow.detail.frame.inner_vlan), (7, 0));
        assert_eq!((flow.detail.frame.ethertype, flow.protocol), (0x0800, 17));

        let three = [
            0x88, 0xa8, 0, 100, 0x81, 0x00, 0, 7, 0x81, 0x00, 0, 8, 0x08, 0x00,
        ];
        let flow = parsed(Link::Ethernet, &frame(&[&three, &ipv4(17, &[])]), 0);
        assert_eq!((flow.src_vlan, flow.detail.frame.inner_vlan), (100, 7));
        assert_eq!((flow.detail.frame.ethertype, flow.protocol), (0x0800, 17));
    }

    #[test]
    fn labels_are_kept_and_the_packet_behind_them_is_the_flow() {
        let stack = [0x00, 0x01, 0x00, 64, 0x05, 0xdc, 0x21, 64];
        let bytes = frame(&[&[0x88, 0x47], &stack, &ipv4(6, &TCP_SYN)]);
        let flow = parsed(Link::Ethernet, &bytes, 1522);
        assert_eq!(flow.detail.mpls_count, 2);
        assert_eq!(flow.detail.mpls_labels[..2], [16, 0x5dc2]);
        assert_eq!(
            (flow.detail.frame.ethertype, flow.dst_port),
            (0x8847, 56876)
        );
        assert_eq!(flow.raw_bytes, 1500);
    }

    #[test]
    fn a_label_stack_without_a_bottom_ends_the_walk() {
        let bytes = frame(&[&[0x88, 0x47], &[0; 400]]);
        let flow = parsed(Link::Ethernet, &bytes, 414);
        assert_eq!(usize::from(flow.detail.mpls_count), MPLS_LABELS_MAX);
        assert!(flow.src_addr.is_unknown());
    }

    #[test]
    fn pppoe_leads_to_the_packet_inside() {
        let session = [0x88, 0x64, 0x11, 0, 0, 9, 0x05, 0xde, 0x00, 0x21];
        let flow = parsed(
            Link::Ethernet,
            &frame(&[&session, &ipv4(6, &TCP_SYN)]),
            1522,
        );
        assert_eq!((flow.detail.frame.ethertype, flow.src_port), (0x8864, 443));
        assert_eq!(flow.raw_bytes, 1500);
    }

    #[test]
    fn ppp_is_read_with_and_without_its_address_field() {
        for head in [&[0xff, 0x03, 0x00, 0x21][..], &[0x00, 0x21], &[0x21]] {
            let flow = parsed(Link::Ppp, &[head, &ipv4(6, &TCP_SYN)].concat(), 0);
            assert_eq!(flow.src_port, 443, "{head:x?}");
        }
    }

    #[test]
    fn snap_carries_an_ethertype_and_other_llc_does_not() {
        let snap = [0x05, 0xde, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00];
        let flow = parsed(Link::Ethernet, &frame(&[&snap, &ipv4(6, &TCP_SYN)]), 0);
        assert_eq!((flow.detail.frame.ethertype, flow.src_port), (0x0800, 443));
        let spanning_tree = [0, 38, 0x42, 0x42, 3, 0, 0, 0, 0, 0];
        let flow = parsed(Link::Ethernet, &frame(&[&spanning_tree]), 60);
        assert_eq!((flow.detail.frame.ethertype, flow.raw_bytes), (0, 46));
    }

    #[test]
    fn a_bare_ip_header_names_its_own_ethertype() {
        let flow = parsed(Link::Ip, &ipv4(17, &[0, 53, 1, 0]), 0);
        assert_eq!((flow.detail.frame.ethertype, flow.src_port), (0x0800, 53));
        let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 58, 255];
        v6.resize(40, 1);
        v6.extend([135, 0, 0, 0]);
        let flow = parsed(Link::Ip, &v6, 0);
        assert_eq!((flow.detail.frame.ethertype, flow.icmp_type), (0x86dd, 135));
        assert_eq!((flow.ttl, flow.raw_bytes), (255, 48));
    }

    #[test]
    fn without_an_ip_length_the_frame_less_its_layer_two_counts() {
        let arp = frame(&[&[0x81, 0x00, 0, 7, 0x08, 0x06], &[0; 28]]);
        let flow = parsed(Link::Ethernet, &arp, 64);
        assert_eq!((flow.detail.frame.ethertype, flow.raw_bytes), (0x0806, 46));
        let mut offloaded = ipv4(6, &TCP_SYN);
        offloaded[2..4].fill(0);
        let flow = parsed(Link::Ethernet, &frame(&[&[0x08, 0x00], &offloaded]), 9014);
        assert_eq!(flow.raw_bytes, 9000);
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut packet = ipv4(17, &[0, 53, 1, 0]);
        packet[6..8].copy_from_slice(&[0x20, 0xb9]);
        let flow = parsed(Link::Ip, &packet, 0);
        assert_eq!((flow.src_port, flow.dst_port), (0, 0));
        assert_eq!(
            (
                flow.detail.frame.fragment_id,
                flow.detail.frame.fragment_offset
            ),
            (0x1234, 185)
        );
    }

    #[test]
    fn headers_cut_anywhere_keep_what_was_whole() {
        let bytes = frame(&[&[0x81, 0x00, 0, 7, 0x08, 0x00], &ipv4(6, &TCP_SYN)]);
        for length in 0..bytes.len() {
            let flow = parsed(Link::Ethernet, &bytes[..length], 1518);
            assert_eq!(flow.detail.frame.src_mac != 0, length >= 14, "{length}");
            assert_eq!(flow.src_vlan != 0, length >= 18, "{length}");
            assert_eq!(!flow.src_addr.is_unknown(), length >= 38, "{length}");
            assert_eq!(flow.src_port != 0, length >= 42, "{length}");
            assert_eq!(flow.tcp_flags != 0, length >= 52, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            head in prop::sample::select(vec![
                vec![0x08, 0x00, 0x45], vec![0x86, 0xdd, 0x60], vec![0x88, 0x47],
                vec![0x88, 0x64, 0x11, 0],
                vec![0x81, 0x00, 0, 1, 0x88, 0xa8], vec![],
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            frame_len in any::<u32>(),
        ) {
            let bytes = frame(&[&head, &rest]);
            for link in [Link::Ethernet, Link::Ppp, Link::Mpls, Link::Ip] {
                let flow = parsed(link, &bytes, frame_len);
                prop_assert!(usize::from(flow.detail.mpls_count) <= MPLS_LABELS_MAX);
                parsed(link, &rest, frame_len);
            }
        }
    }
}
