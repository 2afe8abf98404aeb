//! What the kernel verifies of a datagram before a socket gets it, for frames that bypass it.
//!
//! In: a frame whose every byte is a stranger's. Out: its payload and where it came from, or what is
//! wrong. Owner: one worker; no allocation. Drops: `frame_malformed`.
//! Specs: RFC 791, RFC 768, RFC 8200 section 8.1, RFC 1071 (checksums), RFC 1122 section 3.2.1.3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use collector_ebpf::{Pass, UdpFrame, udp_frame};

/// The datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'a> {
    /// UDP source address; IPv4 is plain.
    pub source: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub local_port: u16,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Why a frame has no datagram that may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Its headers are not those of a UDP datagram.
    Headers(Pass),
    /// The packet is said to be longer than the frame.
    Length,
    /// The checksum of the IPv4 header is wrong.
    HeaderChecksum,
    /// The UDP checksum is wrong, or left out over IPv6.
    Checksum,
    /// No host may send from this address.
    Source,
}

/// The datagram in `frame`, an Ethernet frame without its check sequence. The UDP checksum is
/// verified when `verify_checksum` is set.
///
/// # Errors
/// When the kernel would not have handed it to a socket either.
#[inline]
pub fn datagram(frame: &[u8], verify_checksum: bool) -> Result<Verified<'_>, Malformed> {
    let udp = udp_frame(frame).map_err(Malformed::Headers)?;
    let packet_end = udp.ip_offset + udp.ip_length as usize;
    let datagram_end = udp.udp_offset + usize::from(udp.udp_length);
    // Behind the packet there may be padding: Ethernet has no shorter frames than 60 bytes.
    if packet_end > frame.len() || datagram_end > packet_end {
        return Err(Malformed::Length);
    }
    let datagram = frame.get(udp.udp_offset..datagram_end);
    let datagram = datagram.ok_or(Malformed::Length)?;
    let payload = datagram.get(UDP_HEADER_BYTES..).ok_or(Malformed::Length)?;
    if udp.version == 4 {
        let header = frame.get(udp.ip_offset..udp.udp_offset);
        if fold(sum(header.ok_or(Malformed::Length)?)) != ALL_ONES {
            return Err(Malformed::HeaderChecksum);
        }
    }
    if verify_checksum && !is_intact(&udp, datagram) {
        return Err(Malformed::Checksum);
    }
    Ok(Verified {
        source: source(&udp).ok_or(Malformed::Source)?,
        source_port: udp.src_port,
        local_port: udp.dst_port,
        payload,
    })
}

/// The source address, unless no host can have it and the kernel would not take it either.
#[inline]
fn source(udp: &UdpFrame) -> Option<IpAddr> {
    let address = Ipv6Addr::from(udp.src);
    let mapped = address.to_ipv4_mapped();
    if udp.version == 4 {
        let address = mapped?;
        let is_wrong = address.octets()[0] == 0
            || address.is_loopback()
            || address.is_multicast()
            || address == Ipv4Addr::BROADCAST;
        return (!is_wrong).then_some(IpAddr::V4(address));
    }
    // A mapped address in an IPv6 header would be taken for the IPv4 exporter that it names.
    let is_wrong = mapped.is_some() || address.is_multicast() || address.is_loopback();
    (!is_wrong).then_some(IpAddr::V6(address))
}

/// Is the UDP checksum right? `datagram` begins with the UDP header.
#[inline]
fn is_intact(udp: &UdpFrame, datagram: &[u8]) -> bool {
    if udp.udp_checksum == 0 {
        // RFC 768: the sender made none. RFC 8200 section 8.1: over IPv6 it must.
        return udp.version == 4;
    }
    // The pseudo-header. A mapped IPv4 address adds ffff to the address, which in the arithmetic of
    // ones' complement is a zero.
    let protocol = u64::from(UDP_PROTOCOL.to_be());
    let length = u64::from(udp.udp_length.to_be());
    let total = sum(&udp.src) + sum(&udp.dst) + protocol + length + sum(datagram);
    fold(total) == ALL_ONES
}

/// The sum of the 16-bit words of `bytes` in the machine's byte order, the last one filled up with
/// a zero. It is not folded yet: what it adds up to modulo 65,535 counts. RFC 1071 section 2 (B):
/// the order of bytes does not matter as long as it is the same throughout.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    // Eight bytes at a time as two halves, so that no carry is lost: a frame has far less than 2^32
    // of them.
    let halves = |word: [u8; 8]| {
        let word = u64::from_ne_bytes(word);
        (word & 0xffff_ffff) + (word >> 32)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    words.iter().map(|word| halves(*word)).sum::<u64>() + halves(last)
}

/// Adds the carries until 16 bits are left. `ALL_ONES` and 0 are the same number; a sum of other
/// than zeros never folds to 0.
#[inline]
fn fold(mut sum: u64) -> u64 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum
}

/// What a packet with its checksum sums up to.
const ALL_ONES: u64 = 0xffff;
const UDP_HEADER_BYTES: usize = 8;
/// IANA's number for UDP, as a word of the pseudo-header.
const UDP_PROTOCOL: u16 = 17;

#[cfg(test)]
mod tests;
