//! Frames in, datagrams out.
//!
//! In: UDP payloads from sockets (or a capture). Out: each datagram, by callback, borrowed from the
//! receiver's own buffer. Owner: one worker; no allocation after set-up, one system call a burst.
//! Drops: `datagram_cut`; the kernel's own drops are read from the sockets.

pub mod replay;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::units::UnixNanos;

/// One UDP payload as it arrived, still in the receiver's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// UDP source address; IPv4 is never v4-mapped here.
    pub source: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP port it was sent to.
    pub local_port: u16,
    /// When the burst it belongs to was taken.
    pub received: UnixNanos,
    /// The bytes.
    pub payload: &'a [u8],
    /// The kernel cut it: the buffer was shorter than the datagram. Not to be decoded.
    pub cut: bool,
}

/// Something that datagrams come out of. Two kinds of socket receive loops and the capture replay.
pub trait Receive {
    /// Waits up to `timeout` for the first datagram, then hands over what is there, one burst at
    /// most. Returns without a datagram at the timeout or when interrupted.
    ///
    /// # Errors
    /// When the sockets cannot be read any more; nothing else is an error.
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()>;

    /// Datagrams that the kernel dropped for these sockets since they were opened.
    fn kernel_drops(&mut self) -> u64;
}
