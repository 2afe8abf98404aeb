//! Reads the headers of a frame; shared by Flowsluice's XDP program and its user space.
//!
//! In: bytes that nobody vouches for. Out: the fields that both sides ask about, by value. Every
//! function is total: bytes that end early or name something unknown end the walk, never panic.
//! No loop runs longer than a constant ([`VLANS_MAX`], [`EXTENSIONS_MAX`]), so that the verifier of
//! the kernel can follow. Specs: IEEE 802.3, IEEE 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.

#![no_std]
#![forbid(unsafe_code)]

mod ethernet;
mod ip;
pub mod maps;
mod steer;
mod transport;

pub use ethernet::{Ethernet, Tags, VLANS_MAX, ethertype};
pub use ip::{EXTENSIONS_MAX, Fragment, Ip};
pub use maps::Verdict;
pub use steer::{FrameBytes, Pass, UdpFrame, udp_frame};
pub use transport::{Transport, Udp, protocol};

/// Splits off the first `N` bytes at `offset`; `None` when they are not all there.
#[inline]
fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<&[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>()
}

/// The big-endian 16 bits at `offset`.
#[inline]
fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(|b| u16::from_be_bytes(*b))
}
