//! IPv4 and IPv6 headers, extension headers and fragments.

use crate::{array_at, u16_at};

/// Extension headers walked of one IPv6 packet; further ones are taken for the upper layer, which
/// then has no ports.
pub const EXTENSIONS_MAX: usize = 8;

pub(crate) const IPV4_BYTES_MIN: usize = 20;
pub(crate) const IPV6_BYTES: usize = 40;
const FRAGMENT_BYTES: usize = 8;

/// IPv6 extension headers (IANA, "IPv6 Extension Header Types").
pub(crate) mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HOST_IDENTITY: u8 = 139;
    pub const SHIM6: u8 = 140;

    /// True for each of these: no upper layer, but a header before it.
    #[inline]
    pub const fn is_extension(next_header: u8) -> bool {
        matches!(
            next_header,
            HOP_BY_HOP
                | ROUTING
                | FRAGMENT
                | AUTHENTICATION
                | DESTINATION
                | MOBILITY
                | HOST_IDENTITY
                | SHIM6
        )
    }
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// IPv4 identification (16 bits, of every packet) or that of the IPv6 fragment header.
    pub id: u32,
    /// In units of 8 octets.
    pub offset: u16,
    /// Not the last one.
    pub more: bool,
    /// Bytes from the start of the packet to the fragment's data.
    pub data_offset: usize,
    /// What the reassembled data begins with.
    pub protocol: u8,
}

impl Fragment {
    /// True for a piece, false for a whole datagram.
    #[must_use]
    #[inline]
    pub const fn is_piece(&self) -> bool {
        self.offset != 0 || self.more
    }
}

/// What the headers of an IPv4 or IPv6 packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// 4 or 6.
    pub version: u8,
    /// Source; IPv4 as v4-mapped IPv6 (RFC 4291 §2.5.5.2).
    pub src: [u8; 16],
    /// Destination, likewise.
    pub dst: [u8; 16],
    /// Upper-layer protocol, after the extension headers that could be walked.
    pub protocol: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Octets of the packet, its header included; 0 when the header does not say (segmentation
    /// offload, jumbograms).
    pub total_length: u32,
    /// Bytes from the start of the packet to the upper layer.
    pub header_length: usize,
    /// Identification and fragmentation.
    pub fragment: Fragment,
}

impl Ip {
    /// Reads the header at the start of `packet` by its version. `None` when it is cut short, or
    /// neither IPv4 nor IPv6.
    #[must_use]
    #[inline]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    /// True when the ports, if the protocol has any, stand at `header_length`: later fragments
    /// have none.
    #[must_use]
    #[inline]
    pub const fn has_upper_layer(&self) -> bool {
        self.fragment.offset == 0
    }

    #[inline]
    fn parse_v4(packet: &[u8]) -> Option<Self> {
        Self::from_v4(array_at(packet, 0)?)
    }

    /// Reads an IPv4 header, of which the options do not matter; `None` when it claims to be
    /// shorter than itself.
    #[inline]
    pub(crate) fn from_v4(header: &[u8; IPV4_BYTES_MIN]) -> Option<Self> {
        #[rustfmt::skip]
        let &[
            version_length, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _,
            s0, s1, s2, s3, d0, d1, d2, d3,
        ] = header;
        let header_length = usize::from(version_length & 0x0f) * 4;
        if header_length < IPV4_BYTES_MIN {
            return None;
        }
        let flags_offset = u16::from_be_bytes([f0, f1]);
        Some(Self {
            version: 4,
            src: mapped([s0, s1, s2, s3]),
            dst: mapped([d0, d1, d2, d3]),
            protocol,
            tos,
            ttl,
            flow_label: 0,
            total_length: u32::from(u16::from_be_bytes([l0, l1])),
            header_length,
            fragment: Fragment {
                id: u32::from(u16::from_be_bytes([i0, i1])),
                offset: flags_offset & 0x1fff,
                more: flags_offset & 0x2000 != 0,
                data_offset: header_length,
                protocol,
            },
        })
    }

    #[inline]
    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let mut ip = Self::from_v6(array_at(packet, 0)?);
        for _ in 0..EXTENSIONS_MAX {
            if !ip.step_over_extension(packet) {
                break;
            }
        }
        Some(ip)
    }

    /// Reads an IPv6 header; its next header is taken for the upper layer.
    #[inline]
    pub(crate) fn from_v6(header: &[u8; IPV6_BYTES]) -> Self {
        #[rustfmt::skip]
        let &[
            w0, w1, w2, w3, l0, l1, next_header, ttl,
            s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15,
            d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15,
        ] = header;
        let word = u32::from_be_bytes([w0, w1, w2, w3]);
        let payload_length = u32::from(u16::from_be_bytes([l0, l1]));
        let [_, _, _, tos] = (word >> 20).to_be_bytes();
        Self {
            version: 6,
            src: [
                s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15,
            ],
            dst: [
                d0, d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15,
            ],
            protocol: next_header,
            tos,
            ttl,
            flow_label: word & 0x000f_ffff,
            total_length: match payload_length {
                0 => 0,
                octets => octets + IPV6_BYTES as u32,
            },
            header_length: IPV6_BYTES,
            fragment: Fragment {
                data_offset: IPV6_BYTES,
                protocol: next_header,
                ..Fragment::default()
            },
        }
    }

    /// Moves behind the extension header at `header_length`. False when there is none, when it is
    /// cut, or when the upper layer is not in this fragment.
    #[inline]
    fn step_over_extension(&mut self, packet: &[u8]) -> bool {
        let length = match self.protocol {
            extension::FRAGMENT => FRAGMENT_BYTES,
            extension::AUTHENTICATION => match array_at(packet, self.header_length) {
                //= https://www.rfc-editor.org/rfc/rfc4302#section-2.2
                //# This 8-bit field specifies the length of AH in 32-bit words (4-byte
                //# units), minus "2".
                Some(&[_, words]) => (usize::from(words) + 2) * 4,
                None => return false,
            },
            extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::DESTINATION
            | extension::MOBILITY
            | extension::HOST_IDENTITY
            | extension::SHIM6 => match array_at(packet, self.header_length) {
                //= https://www.rfc-editor.org/rfc/rfc8200#section-4.3
                //# Length of the Hop-by-Hop Options header in 8-octet units, not
                //# including the first 8 octets.
                Some(&[_, units]) => (usize::from(units) + 1) * 8,
                None => return false,
            },
            _ => return false,
        };
        let Some(header) = packet.get(self.header_length..self.header_length + length) else {
            return false;
        };
        let Some(&next_header) = header.first() else {
            return false;
        };
        if self.protocol == extension::FRAGMENT {
            let (Some(&id), Some(offset_flags)) = (array_at(header, 4), u16_at(header, 2)) else {
                return false;
            };
            self.fragment = Fragment {
                id: u32::from_be_bytes(id),
                offset: offset_flags >> 3,
                more: offset_flags & 1 != 0,
                data_offset: self.header_length + length,
                protocol: next_header,
            };
        }
        self.protocol = next_header;
        self.header_length += length;
        self.has_upper_layer()
    }
}

#[inline]
const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [u8; 24] = [
        0x46, 0x28, 0x05, 0xdc, 0xab, 0xcd, 0x20, 0x02, 63, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100,
        2, 1, 1, 1, 1,
    ];

    /// An IPv6 header with next header `next`, followed by `rest`.
    fn v6<const N: usize>(next: u8, rest: [u8; N]) -> ([u8; 128], usize) {
        let mut bytes = [0; 128];
        bytes[..8].copy_from_slice(&[0x6a, 0xb1, 0x23, 0x45, 0, N as u8, next, 64]);
        bytes[8] = 0x20;
        bytes[39] = 9;
        bytes[40..40 + N].copy_from_slice(&rest);
        (bytes, 40 + N)
    }

    #[test]
    fn ipv4_options_move_the_upper_layer_and_fragment_fields_are_read() {
        let ip = Ip::parse(&V4).unwrap();
        assert_eq!(ip.version, 4);
        assert_eq!(&ip.src[12..], [192, 0, 2, 1]);
        assert_eq!(&ip.dst[10..], [0xff, 0xff, 198, 51, 100, 2]);
        assert_eq!((ip.protocol, ip.tos, ip.ttl), (17, 0x28, 63));
        assert_eq!(ip.total_length, 1500);
        assert_eq!(ip.header_length, 24);
        assert_eq!(ip.fragment.id, 0xabcd);
        assert_eq!(ip.fragment.offset, 2);
        assert!(ip.fragment.more && ip.fragment.is_piece());
        assert!(!ip.has_upper_layer());
    }

    #[test]
    fn ipv4_header_length_below_five_words_is_none() {
        let mut bytes = V4;
        bytes[0] = 0x44;
        assert!(Ip::parse(&bytes).is_none());
    }

    #[test]
    fn ipv6_class_label_and_length_are_read() {
        let (bytes, length) = v6(17, [0; 8]);
        let ip = Ip::parse(&bytes[..length]).unwrap();
        assert_eq!(ip.version, 6);
        assert_eq!(ip.tos, 0xab);
        assert_eq!(ip.flow_label, 0x12345);
        assert_eq!(ip.total_length, 48);
        assert_eq!((ip.protocol, ip.header_length, ip.ttl), (17, 40, 64));
        assert!(!ip.fragment.is_piece());
    }

    #[test]
    fn ipv6_extensions_are_stepped_over_to_the_upper_layer() {
        let (bytes, length) = v6(
            0,
            [
                43, 0, 0, 0, 0, 0, 0, 0, // hop-by-hop, then routing of 16 bytes
                51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // then AH of 12 bytes
                58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // then ICMPv6
                128, 0,
            ],
        );
        let ip = Ip::parse(&bytes[..length]).unwrap();
        assert_eq!((ip.protocol, ip.header_length), (58, 40 + 8 + 16 + 12));
    }

    #[test]
    fn ipv6_first_fragment_has_an_upper_layer_and_later_ones_do_not() {
        let first = v6(44, [17, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0, 0]);
        let ip = Ip::parse(&first.0[..first.1]).unwrap();
        assert_eq!(ip.fragment.id, 0xdead_beef);
        assert!(ip.fragment.more && ip.has_upper_layer());
        assert_eq!((ip.protocol, ip.fragment.data_offset), (17, 48));

        let later = v6(44, [60, 0, 0x05, 0xa8, 0xde, 0xad, 0xbe, 0xef, 0, 0]);
        let ip = Ip::parse(&later.0[..later.1]).unwrap();
        assert_eq!(ip.fragment.offset, 181);
        assert!(!ip.fragment.more && ip.fragment.is_piece() && !ip.has_upper_layer());
        // Its data only looks like an extension header: nothing is read of it.
        assert_eq!((ip.protocol, ip.header_length), (60, 48));
    }

    #[test]
    fn the_extension_chain_is_bounded() {
        let (bytes, length) = v6(60, [60; 88]);
        let ip = Ip::parse(&bytes[..length]).unwrap();
        assert_eq!(ip.protocol, 60);
        let mut chain = [0_u8; 88];
        for header in chain.chunks_mut(8) {
            header[0] = 60;
        }
        let (bytes, length) = v6(60, chain);
        let ip = Ip::parse(&bytes[..length]).unwrap();
        assert_eq!(ip.header_length, 40 + EXTENSIONS_MAX * 8);
    }

    #[test]
    fn a_cut_extension_is_left_as_the_protocol() {
        let (bytes, _) = v6(0, [17, 1, 0, 0, 0, 0, 0, 0]);
        let ip = Ip::parse(&bytes[..48]).unwrap();
        assert_eq!((ip.protocol, ip.header_length), (0, 40));
    }

    #[test]
    fn a_length_of_zero_is_unknown() {
        let (mut bytes, length) = v6(6, [0; 8]);
        bytes[5] = 0;
        assert_eq!(Ip::parse(&bytes[..length]).unwrap().total_length, 0);
    }
}
