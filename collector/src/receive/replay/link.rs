//! Finds the IP packet in a captured frame.

use collector_ebpf::{Ethernet, Tags, ethertype};

/// Link types (<https://www.tcpdump.org/linktypes.html>) that flow captures come in.
mod link_type {
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    /// Raw IP on some BSDs, and what OpenBSD writes.
    pub const RAW_BSD: u16 = 12;
    pub const RAW_OPENBSD: u16 = 14;
    pub const RAW: u16 = 101;
    pub const LOOP: u16 = 108;
    pub const LINUX_SLL: u16 = 113;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const LINUX_SLL2: u16 = 276;
}

const FAMILY_BYTES: usize = 4;
const SLL_BYTES: usize = 16;
const SLL2_BYTES: usize = 20;

/// Why there is no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIp {
    /// The frame carries something else, ARP for one.
    OtherProtocol,
    /// The frame is cut within its headers, or its link type is not known.
    Unreadable,
}

/// The IPv4 or IPv6 packet in `frame`, with whatever padding the link added.
///
/// # Errors
/// [`NotIp`] says why there is none.
pub fn network_layer(link_type: u16, frame: &[u8]) -> Result<&[u8], NotIp> {
    match link_type {
        link_type::ETHERNET => {
            let ethernet = Ethernet::parse(frame).ok_or(NotIp::Unreadable)?;
            payload_of(ethernet.tags.ethertype, frame, ethernet.length)
        }
        link_type::RAW
        | link_type::RAW_BSD
        | link_type::RAW_OPENBSD
        | link_type::IPV4
        | link_type::IPV6 => Ok(frame),
        // The address family is in the byte order of the machine that captured, and its numbers
        // differ between systems: the version of the IP header says the same reliably.
        link_type::NULL | link_type::LOOP => {
            let packet = frame.get(FAMILY_BYTES..).ok_or(NotIp::Unreadable)?;
            match packet.first().map(|byte| byte >> 4) {
                Some(4 | 6) => Ok(packet),
                Some(_) => Err(NotIp::OtherProtocol),
                None => Err(NotIp::Unreadable),
            }
        }
        link_type::LINUX_SLL => cooked(frame, 14, SLL_BYTES),
        link_type::LINUX_SLL2 => cooked(frame, 0, SLL2_BYTES),
        _ => Err(NotIp::Unreadable),
    }
}

/// The payload of a Linux cooked frame, whose protocol field is an EtherType at `protocol_at`.
fn cooked(frame: &[u8], protocol_at: usize, header_bytes: usize) -> Result<&[u8], NotIp> {
    let protocol = frame.get(protocol_at..).and_then(<[u8]>::first_chunk);
    let payload = frame.get(header_bytes..);
    let (Some(&protocol), Some(payload)) = (protocol, payload) else {
        return Err(NotIp::Unreadable);
    };
    let tags = Tags::parse(u16::from_be_bytes(protocol), payload);
    payload_of(tags.ethertype, payload, tags.length)
}

fn payload_of(ethertype: u16, frame: &[u8], offset: usize) -> Result<&[u8], NotIp> {
    match ethertype {
        ethertype::IPV4 | ethertype::IPV6 => frame.get(offset..).ok_or(NotIp::Unreadable),
        _ => Err(NotIp::OtherProtocol),
    }
}
