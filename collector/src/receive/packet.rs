//! A datagram as the IP packet that it came in, or could have.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

/// Hops that a packet of ours may take.
const HOPS: u8 = 64;

/// Appends the packet to `out`; false, with nothing of use appended, where the addresses are of
/// different families or the payload is too long for IP.
pub fn write(from: SocketAddr, to: SocketAddr, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
        _ => return false,
    };
    builder
        .udp(from.port(), to.port())
        .write(out, payload)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;

    #[test]
    fn a_packet_has_the_addresses_ports_and_bytes_of_its_datagram() {
        for (from, to) in [
            ("192.0.2.1:9995", "192.0.2.9:2055"),
            ("[2001:db8::1]:1", "[2001:db8::2]:4739"),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let mut packet = Vec::new();
            assert!(write(from, to, b"payload", &mut packet));
            let headers = PacketHeaders::from_ip_slice(&packet).unwrap();
            let source: IpAddr = match headers.net.unwrap() {
                NetHeaders::Ipv4(ip, _) => ip.source.into(),
                NetHeaders::Ipv6(ip, _) => ip.source.into(),
                NetHeaders::Arp(_) => panic!("no such packet was made"),
            };
            let Some(TransportHeader::Udp(udp)) = headers.transport else {
                panic!("no UDP");
            };
            assert_eq!((source, udp.source_port), (from.ip(), from.port()));
            assert_eq!(udp.destination_port, to.port());
            assert_eq!(headers.payload.slice(), b"payload");
        }
    }

    #[test]
    fn families_that_differ_make_no_packet() {
        let (four, six) = ("192.0.2.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert!(!write(four, six, b"x", &mut Vec::new()));
    }
}
