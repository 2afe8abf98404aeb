//! Packets and frames made by hand: headers and tags that no ordinary socket writes, and checksums
//! that are wrong.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader, PacketBuilder,
};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily as Family, SockFlag, SockType};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

/// A frame with UDP from 10.0.0.1 to port 53 of 10.0.0.2, in GRE with key 9 from 203.0.113.1 to
/// 203.0.113.2.
#[must_use]
pub fn udp_in_gre() -> Vec<u8> {
    let udp = [0x13, 0x88, 0x00, 0x35, 0, 8, 0, 0];
    let inner = [
        0x45, 0, 0, 28, 0, 1, 0, 0, 61, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let gre = [0x20, 0, 0x08, 0x00, 0, 0, 0, 9];
    let outer = [
        0x45, 0, 0, 56, 0, 2, 0, 0, 250, 47, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2,
    ];
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    [&ethernet[..], &outer, &gre, &inner, &udp].concat()
}

/// What stands between the IP header and the UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Nothing.
    Nothing,
    /// In IPv4 options that do nothing, in IPv6 a header of destination options likewise.
    Options,
}

/// A UDP datagram in its IP packet, all lengths and checksums right.
///
/// # Errors
/// When the addresses are of two versions, or `payload` is too long.
pub fn udp(
    source: SocketAddr,
    target: SocketAddr,
    between: Between,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let has_options = between == Between::Options;
    let headers = match (source.ip(), target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header::new(0, HOPS, IpNumber::UDP, from.octets(), to.octets())?;
            if has_options {
                header.options = [NO_OPERATION; 4].into();
            }
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                hop_limit: HOPS,
                source: from.octets(),
                destination: to.octets(),
                ..Default::default()
            };
            let padding = || Ipv6RawExtHeader::new_raw(IpNumber::UDP, &PADDING);
            let extensions = Ipv6Extensions {
                destination_options: has_options.then(padding).transpose()?,
                ..Default::default()
            };
            IpHeaders::Ipv6(header, extensions)
        }
        _ => bail!("{source} and {target} are of two versions"),
    };
    let builder = PacketBuilder::ip(headers).udp(source.port(), target.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

/// Sends a packet as it is, from the network namespace of the calling thread. Needs root.
///
/// # Errors
/// When the kernel refuses.
pub fn send(packet: &[u8], to: IpAddr) -> Result<()> {
    let family = match to {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    // IPPROTO_RAW: the packet brings its IP header (raw(7)); a port must not be named (ipv6(7)).
    let raw = socket(family, SocketType::RAW, Some(ipproto::RAW)).context("open a raw socket")?;
    let to = SocketAddr::new(to, 0);
    sendto(&raw, packet, SendFlags::empty(), &to).with_context(|| format!("send to {to}"))?;
    Ok(())
}

/// A frame with such tags, each a type and a VLAN, the outermost first, around an IP packet.
#[must_use]
pub fn frame(target: [u8; 6], tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut frame = target.to_vec();
    // Locally administered; nobody looks at it.
    frame.extend([2, 0, 0, 0, 0, 99]);
    for (kind, vlan) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(vlan.to_be_bytes());
    }
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let ethertype: u16 = if is_ipv4 { 0x0800 } else { 0x86dd };
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

/// Sends frames as they are by one interface.
#[derive(Debug)]
pub struct FrameSender(OwnedFd);

impl FrameSender {
    /// For an interface of the calling thread's network namespace. Needs root.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn open(interface: &str) -> Result<Self> {
        let link = getifaddrs()?
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address?.as_link_addr().copied());
        let link = link.with_context(|| format!("no interface {interface}"))?;
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        // No protocol: it only sends, and shall not be given what arrives.
        let socket = nix::sys::socket::socket(Family::Packet, kind, flags, None)
            .context("open a packet socket")?;
        nix::sys::socket::bind(socket.as_raw_fd(), &link).context("bind it to the interface")?;
        Ok(Self(socket))
    }

    /// Sends one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        rustix::net::send(&self.0, frame, SendFlags::empty()).context("send a frame")?;
        Ok(())
    }
}

/// Sends frames as [`FrameSender`] does.
///
/// # Errors
/// Those of [`FrameSender`].
pub fn send_frames(frames: &[Vec<u8>], interface: &str) -> Result<()> {
    let sender = FrameSender::open(interface)?;
    frames.iter().try_for_each(|frame| sender.send(frame))
}

/// The type of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// The type of an 802.1ad tag, which goes around one of 802.1Q (QinQ).
pub const SERVICE_VLAN: u16 = 0x88a8;
const HOPS: u8 = 64;
/// RFC 791 section 3.1.
const NO_OPERATION: u8 = 1;
/// The option PadN with four bytes (RFC 8200 section 4.2).
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address and port")
    }

    #[test]
    fn options_stand_before_the_udp_header_and_are_counted_in_the_lengths() -> Result<()> {
        for (from, to, plain) in [
            ("192.0.2.2:9", "192.0.2.1:7", 20),
            ("[2001:db8::2]:9", "[2001:db8::1]:7", 40),
        ] {
            let (from, to) = (address(from), address(to));
            let without = udp(from, to, Between::Nothing, b"payload")?;
            let with = udp(from, to, Between::Options, b"payload")?;
            let more = if from.is_ipv4() { 4 } else { 8 };
            assert_eq!(without.len(), plain + 8 + 7);
            assert_eq!(with.len(), without.len() + more);
            assert_eq!(with[plain + more..], without[plain..], "the same UDP");
        }
        Ok(())
    }

    #[test]
    fn addresses_of_two_versions_are_refused() {
        let (v4, v6) = (address("192.0.2.2:9"), address("[2001:db8::1]:7"));
        assert!(udp(v4, v6, Between::Nothing, &[]).is_err());
    }
}
