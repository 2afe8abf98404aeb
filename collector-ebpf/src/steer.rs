//! Which frames an AF_XDP socket may take: whole UDP datagrams with plain headers.
//!
//! In: a frame, read through [`FrameBytes`]. Out: what its headers say and where they stand, or why
//! the kernel has to look at it. The XDP program decides by this and the receiver reads by this, so
//! that both see the same datagram. Lengths are held against each other here, against the frame's
//! end by the receiver.

use crate::ethernet::{TAG_BYTES, UNTAGGED_BYTES, VLANS_MAX, ethertype, is_tag};
use crate::ip::{IPV4_BYTES_MIN, IPV6_BYTES, Ip, extension};
use crate::transport::{Udp, protocol};

/// Two addresses.
const ETHERTYPE_OFFSET: usize = 12;

/// Bytes that can be read at an offset.
pub trait FrameBytes {
    /// The `N` bytes at `offset`; `None` when they are not all there.
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl FrameBytes for [u8] {
    #[inline]
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        crate::array_at(self, offset).copied()
    }
}

/// A UDP datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame {
    /// Source; IPv4 as v4-mapped IPv6 (RFC 4291 §2.5.5.2).
    pub src: [u8; 16],
    /// Destination, likewise.
    pub dst: [u8; 16],
    /// 4 or 6.
    pub version: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes from the start of the frame to the IP header.
    pub ip_offset: usize,
    /// Bytes from the start of the frame to the UDP header.
    pub udp_offset: usize,
    /// Bytes of the packet as its header says, that header included.
    pub ip_length: u32,
    /// Bytes of the UDP header and payload as the header says; they fit into the packet.
    pub udp_length: u16,
    /// The checksum as the header has it; 0 when the sender made none.
    pub udp_checksum: u16,
}

/// Why a frame is left to the kernel: what was met first on the way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Neither IPv4 nor IPv6 behind at most two VLAN tags.
    NotIp,
    /// A piece of a datagram.
    Fragment,
    /// IPv4 options or an IPv6 extension header other than a fragment's; what is behind the latter
    /// is not known.
    Options,
    /// Another protocol.
    NotUdp,
    /// The frame ends within a header.
    Cut,
    /// The IP version is not that of the frame, or a length contradicts another.
    Malformed,
}

/// Reads the headers of `frame`.
///
/// # Errors
/// When they are not those of a whole UDP datagram without options.
// Always inlined: the verifier follows packet pointers best within one function, and results of
// this size would travel over the 512 bytes of a program's stack.
#[inline(always)]
pub fn udp_frame<F: FrameBytes + ?Sized>(frame: &F) -> Result<UdpFrame, Pass> {
    let (ethertype, ip_offset) = network_layer(frame).ok_or(Pass::Cut)?;
    let ip = match ethertype {
        ethertype::IPV4 => plain_v4(&frame.array(ip_offset).ok_or(Pass::Cut)?)?,
        ethertype::IPV6 => plain_v6(&frame.array(ip_offset).ok_or(Pass::Cut)?)?,
        _ => return Err(Pass::NotIp),
    };
    let udp_offset = ip_offset + ip.header_length;
    let header = frame.array(udp_offset).ok_or(Pass::Cut)?;
    let udp = Udp::from_header(&header).ok_or(Pass::Malformed)?;
    if ip.header_length as u32 + u32::from(udp.length) > ip.total_length {
        return Err(Pass::Malformed);
    }
    Ok(UdpFrame {
        src: ip.src,
        dst: ip.dst,
        version: ip.version,
        src_port: udp.src_port,
        dst_port: udp.dst_port,
        ip_offset,
        udp_offset,
        ip_length: ip.total_length,
        udp_length: udp.length,
        udp_checksum: udp.checksum,
    })
}

/// The EtherType behind the tags and where its payload begins; `None` when the frame is cut.
#[inline(always)]
fn network_layer<F: FrameBytes + ?Sized>(frame: &F) -> Option<(u16, usize)> {
    let mut ethertype = u16::from_be_bytes(frame.array(ETHERTYPE_OFFSET)?);
    let mut offset = UNTAGGED_BYTES;
    for _ in 0..VLANS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        let [_, _, e0, e1] = frame.array::<TAG_BYTES>(offset)?;
        ethertype = u16::from_be_bytes([e0, e1]);
        offset += TAG_BYTES;
    }
    Some((ethertype, offset))
}

/// The header, when a UDP header follows it at once.
#[inline(always)]
fn plain_v4(header: &[u8; IPV4_BYTES_MIN]) -> Result<Ip, Pass> {
    let [version_length, ..] = *header;
    if version_length >> 4 != 4 {
        return Err(Pass::Malformed);
    }
    let ip = Ip::from_v4(header).ok_or(Pass::Malformed)?;
    if ip.protocol != protocol::UDP {
        return Err(Pass::NotUdp);
    }
    if ip.header_length != IPV4_BYTES_MIN {
        return Err(Pass::Options);
    }
    if ip.fragment.is_piece() {
        return Err(Pass::Fragment);
    }
    Ok(ip)
}

/// Likewise.
#[inline(always)]
fn plain_v6(header: &[u8; IPV6_BYTES]) -> Result<Ip, Pass> {
    let [version_class, ..] = *header;
    if version_class >> 4 != 6 {
        return Err(Pass::Malformed);
    }
    let ip = Ip::from_v6(header);
    match ip.protocol {
        protocol::UDP => Ok(ip),
        extension::FRAGMENT => Err(Pass::Fragment),
        other if extension::is_extension(other) => Err(Pass::Options),
        _ => Err(Pass::NotUdp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An untagged frame of 14 bytes of header and `packet`.
    fn frame<const N: usize>(ethertype: u16, packet: [u8; N]) -> ([u8; 128], usize) {
        let mut bytes = [0; 128];
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes[14..14 + N].copy_from_slice(&packet);
        (bytes, 14 + N)
    }

    /// 192.0.2.1 port 5000 to 198.51.100.2 port 2055, four bytes of payload.
    #[rustfmt::skip]
    const V4: [u8; 32] = [
        0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2,
        0x13, 0x88, 0x08, 0x07, 0, 12, 0xab, 0xcd, 1, 2, 3, 4,
    ];

    fn changed(change: impl FnOnce(&mut [u8; 32])) -> Result<UdpFrame, Pass> {
        let mut packet = V4;
        change(&mut packet);
        let (bytes, length) = frame(ethertype::IPV4, packet);
        udp_frame(&bytes[..length])
    }

    #[test]
    fn a_plain_datagram_is_read_in_full() {
        let udp = changed(|_| ()).unwrap();
        assert_eq!(&udp.src[10..], [0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(&udp.dst[10..], [0xff, 0xff, 198, 51, 100, 2]);
        assert_eq!((udp.version, udp.src_port, udp.dst_port), (4, 5000, 2055));
        assert_eq!((udp.ip_offset, udp.udp_offset), (14, 34));
        assert_eq!((udp.ip_length, udp.udp_length), (32, 12));
        assert_eq!(udp.udp_checksum, 0xabcd);
    }

    #[test]
    fn options_fragments_and_other_protocols_are_passed() {
        assert_eq!(changed(|packet| packet[0] = 0x46), Err(Pass::Options));
        // More fragments, then a later one; "don't fragment" alone is none.
        assert_eq!(changed(|packet| packet[6] = 0x20), Err(Pass::Fragment));
        assert_eq!(changed(|packet| packet[7] = 1), Err(Pass::Fragment));
        assert_eq!(changed(|packet| packet[9] = 6), Err(Pass::NotUdp));
    }

    #[test]
    fn contradictions_are_malformed() {
        assert_eq!(changed(|packet| packet[0] = 0x65), Err(Pass::Malformed));
        assert_eq!(changed(|packet| packet[0] = 0x44), Err(Pass::Malformed));
        // UDP shorter than its header, longer than its packet, and a packet without a length.
        assert_eq!(changed(|packet| packet[25] = 7), Err(Pass::Malformed));
        assert_eq!(changed(|packet| packet[25] = 13), Err(Pass::Malformed));
        assert_eq!(changed(|packet| packet[3] = 0), Err(Pass::Malformed));
    }

    #[test]
    fn ipv6_is_taken_only_when_udp_follows_its_header() {
        let mut packet = [0; 48];
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 64]);
        packet[8] = 0x20;
        packet[39] = 9;
        packet[40..].copy_from_slice(&[0, 1, 0x18, 0xeb, 0, 8, 0, 0]);
        let read = |next_header| {
            let mut packet = packet;
            packet[6] = next_header;
            let (bytes, length) = frame(ethertype::IPV6, packet);
            udp_frame(&bytes[..length])
        };
        let udp = read(17).unwrap();
        assert_eq!((udp.version, udp.src[0], udp.dst[15]), (6, 0x20, 9));
        assert_eq!((udp.udp_offset, udp.dst_port), (54, 6379));
        assert_eq!(
            (udp.ip_length, udp.udp_length, udp.udp_checksum),
            (48, 8, 0)
        );
        assert_eq!(read(44), Err(Pass::Fragment));
        for extension in [0, 43, 51, 60, 135, 139, 140] {
            assert_eq!(read(extension), Err(Pass::Options));
        }
        assert_eq!(read(58), Err(Pass::NotUdp));
    }

    #[test]
    fn two_tags_are_walked_and_a_third_is_not() {
        let (inner, length) = frame(ethertype::IPV4, V4);
        let mut bytes = inner;
        for (tags, expected) in [(1, Ok(18)), (2, Ok(22)), (3, Err(Pass::NotIp))] {
            bytes.copy_within(12..length + 4 * (tags - 1), 16);
            bytes[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
            let found = udp_frame(&bytes[..length + 4 * tags]);
            assert_eq!(found.map(|udp| udp.ip_offset), expected);
        }
    }
}
