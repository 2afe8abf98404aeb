//! Ports, TCP flags and ICMP types.

use crate::{array_at, u16_at};

/// IP protocol numbers that the parsers know (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// What the header of the upper layer says; zero where it has no such field or is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// TCP control bits, twelve of them as in IE 6 (RFC 7125).
    pub tcp_flags: u16,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
}

impl Transport {
    /// Reads the header of `protocol` at the start of `bytes`.
    #[must_use]
    #[inline]
    pub fn parse(protocol: u8, bytes: &[u8]) -> Self {
        let mut transport = Self::default();
        match protocol {
            protocol::TCP => {
                transport.read_ports(bytes);
                transport.tcp_flags = u16_at(bytes, 12).unwrap_or(0) & 0x0fff;
            }
            protocol::UDP | protocol::SCTP | protocol::DCCP | protocol::UDP_LITE => {
                transport.read_ports(bytes);
            }
            protocol::ICMP | protocol::ICMPV6 => {
                if let Some(&[icmp_type, icmp_code]) = array_at(bytes, 0) {
                    transport.icmp_type = icmp_type;
                    transport.icmp_code = icmp_code;
                }
            }
            _ => {}
        }
        transport
    }

    #[inline]
    fn read_ports(&mut self, bytes: &[u8]) {
        if let Some(&[s0, s1, d0, d1]) = array_at(bytes, 0) {
            self.src_port = u16::from_be_bytes([s0, s1]);
            self.dst_port = u16::from_be_bytes([d0, d1]);
        }
    }
}

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of header and payload, at least [`Udp::HEADER_BYTES`].
    pub length: u16,
    /// Over the pseudo-header, header and payload; 0 when the sender made none.
    pub checksum: u16,
}

impl Udp {
    /// Bytes of the header.
    pub const HEADER_BYTES: usize = 8;

    /// Reads the header at the start of `bytes`; `None` when it is cut or claims to be shorter than
    /// itself.
    #[must_use]
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::from_header(array_at(bytes, 0)?)
    }

    /// Reads a header; `None` when it claims to be shorter than itself.
    #[inline]
    pub(crate) fn from_header(header: &[u8; Self::HEADER_BYTES]) -> Option<Self> {
        let &[s0, s1, d0, d1, l0, l1, c0, c1] = header;
        let length = u16::from_be_bytes([l0, l1]);
        (usize::from(length) >= Self::HEADER_BYTES).then_some(Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            length,
            checksum: u16::from_be_bytes([c0, c1]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_gives_ports_and_twelve_control_bits() {
        let mut header = [0; 20];
        header[..4].copy_from_slice(&[0x01, 0xbb, 0xde, 0x2c]);
        header[12..14].copy_from_slice(&[0x51, 0x18]);
        let transport = Transport::parse(protocol::TCP, &header);
        assert_eq!((transport.src_port, transport.dst_port), (443, 56876));
        assert_eq!(transport.tcp_flags, 0x118);
    }

    #[test]
    fn a_tcp_header_cut_behind_its_ports_still_has_ports() {
        let transport = Transport::parse(protocol::TCP, &[0, 80, 1, 0, 9]);
        assert_eq!((transport.src_port, transport.dst_port), (80, 256));
        assert_eq!(transport.tcp_flags, 0);
    }

    #[test]
    fn icmp_has_a_type_and_no_ports() {
        for number in [protocol::ICMP, protocol::ICMPV6] {
            let transport = Transport::parse(number, &[3, 1, 0, 0]);
            assert_eq!((transport.icmp_type, transport.icmp_code), (3, 1));
            assert_eq!((transport.src_port, transport.dst_port), (0, 0));
        }
    }

    #[test]
    fn unknown_protocols_have_nothing() {
        assert_eq!(Transport::parse(47, &[1; 20]), Transport::default());
    }

    #[test]
    fn a_udp_length_below_its_header_is_none() {
        assert!(Udp::parse(&[0, 1, 0, 2, 0, 7, 0, 0]).is_none());
        let udp = Udp::parse(&[0, 1, 0, 2, 0, 8, 0, 9]).unwrap();
        assert_eq!((udp.src_port, udp.dst_port, udp.length), (1, 2, 8));
        assert_eq!(udp.checksum, 9);
    }
}
