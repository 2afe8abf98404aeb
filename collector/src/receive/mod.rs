//! Frames in, datagrams out.
//!
//! In: UDP payloads from sockets (or a capture), IPFIX messages from connections. Out: each of
//! them, by callback, borrowed from the receiver's own buffer. Owner: one worker; no allocation
//! after set-up, one system call a burst. Drops: `datagram_cut`, `frame_malformed`,
//! `stream_malformed`, `exporter_rate_limited`; the kernel's own drops are read from the sockets.

pub mod affinity;
pub mod allow;
pub mod limit;
pub mod live;
pub mod sockets;
pub mod tcp;
pub mod tee;
pub mod udp;
pub mod uring;
pub mod xdp;

mod kernel;
pub mod packet;
pub mod replay;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;
use tracing::warn;

use crate::config::{self, ReceiveMode};
use crate::units::UnixNanos;

use sockets::{BindError, BoundSocket, Plan};
use udp::UdpReceiver;
use uring::{UringReceiver, UringRefused};
use xdp::receiver::XdpReceiver;
use xdp::socket::XskSocket;

/// One UDP payload as it arrived, still in the receiver's buffer; by TCP, one message.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Source address; IPv4 is never v4-mapped here.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Port it was sent to.
    pub local_port: u16,
    /// When the burst it belongs to was taken.
    pub received: UnixNanos,
    /// The bytes.
    pub payload: &'a [u8],
    /// The kernel cut it: the buffer was shorter than the datagram. Not to be decoded.
    pub cut: bool,
}

/// A transport session by TCP: the peer of a connection. No other connection has the same one at
/// the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Source address; IPv4 is never v4-mapped here.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
}

/// What became of connections since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Taken.
    pub accepted: u64,
    /// Closed at once, because there were too many.
    pub refused: u64,
    /// Closed at once, because the peer is in no prefix of `receive.allow`.
    pub not_allowed: u64,
    /// Taken and over.
    pub closed: u64,
    /// Of those, closed because of what came by them, or ended within a message.
    pub malformed: u64,
}

/// Something that datagrams come out of. Socket receive loops, connections and the capture replay.
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

    /// Lets nothing more in; what came before is still to be received. Without this, what comes
    /// between the last look and the end would be lost, and nobody would know.
    fn shut(&mut self) {}

    /// Datagrams that the kernel dropped for these sockets since they were opened. A system call a
    /// socket: once a second is often enough.
    fn kernel_drops(&mut self) -> u64;

    /// Frames that bypassed the kernel and failed what it would have verified, since the start.
    fn frames_malformed(&self) -> u64 {
        0
    }

    /// A session that has ended, each once, after the last datagram of it was handed over.
    fn session_ended(&mut self) -> Option<Session> {
        None
    }

    /// What became of connections since the start.
    fn connections(&self) -> Connections {
        Connections::default()
    }
}

/// The receive loop that the kernel and the configuration allow; a worker matches on it once.
pub enum Receiver {
    /// io_uring multishot recvmsg.
    IoUring(UringReceiver),
    /// recvmmsg.
    Recvmmsg(UdpReceiver),
    /// AF_XDP, and recvmmsg for what the XDP program passes.
    AfXdp(XdpReceiver),
}

impl Receiver {
    /// The mode in effect; never [`ReceiveMode::Auto`].
    #[must_use]
    pub fn mode(&self) -> ReceiveMode {
        match self {
            Self::IoUring(_) => ReceiveMode::IoUring,
            Self::Recvmmsg(_) => ReceiveMode::Recvmmsg,
            Self::AfXdp(_) => ReceiveMode::AfXdp,
        }
    }
}

/// Why a worker has no receiver.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A socket could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// `receive.mode = "io_uring"` and the kernel refuses it.
    #[error("{0}, or set receive.mode = \"auto\"")]
    Uring(#[from] UringRefused),
    /// `receive.gro` and the kernel does not merge datagrams.
    #[error("receive: the kernel refuses UDP_GRO (Linux 5.0): {0}; set receive.gro = false")]
    Gro(#[source] io::Error),
    /// The buffers could not be had.
    #[error("receive: no memory for the buffers of a worker: {0}; lower receive.burst")]
    Buffers(#[source] io::Error),
}

/// Decides for the kernel's sockets between io_uring and recvmmsg by trying io_uring out on a
/// loopback socket of its own: [`ReceiveMode::IoUring`] or [`ReceiveMode::Recvmmsg`]. Call once for
/// all workers.
///
/// # Errors
/// When the configuration insists on io_uring and the kernel refuses it.
pub fn choose(config: &config::Receive) -> Result<ReceiveMode, UringRefused> {
    choose_with(config.mode, uring::probe)
}

/// A worker's receiver on its own sockets of `plan`, by `mode`, which [`choose`] gave, and on
/// `queues` of interfaces, which may be none. It may be moved to another thread until it is first
/// used; from then on it belongs to that thread.
///
/// # Errors
/// When sockets, buffers or the ring cannot be had.
pub fn open(
    config: &config::Receive,
    plan: &mut Plan,
    mode: ReceiveMode,
    queues: Vec<XskSocket>,
) -> Result<Receiver, OpenError> {
    let sockets = plan.sockets()?;
    if !queues.is_empty() {
        return UdpReceiver::new(sockets, config)
            .and_then(|sockets| XdpReceiver::new(queues, sockets, config))
            .map(Receiver::AfXdp)
            .map_err(OpenError::Buffers);
    }
    if mode == ReceiveMode::Recvmmsg {
        if config.gro {
            let merging = sockets.iter().try_for_each(BoundSocket::merge_datagrams);
            merging.map_err(OpenError::Gro)?;
        }
        return UdpReceiver::new(sockets, config)
            .map(Receiver::Recvmmsg)
            .map_err(OpenError::Buffers);
    }
    let receiver = UringReceiver::new(sockets, config).map_err(|e| UringRefused::new(&e))?;
    Ok(Receiver::IoUring(receiver))
}

/// Memory that one worker's receiver takes at most, in bytes; the sockets' buffers are the
/// kernel's own and come on top.
#[must_use]
pub fn memory_bytes(config: &config::Receive) -> usize {
    match config.mode {
        ReceiveMode::Recvmmsg => UdpReceiver::memory_bytes(config),
        ReceiveMode::IoUring => UringReceiver::memory_bytes(config),
        ReceiveMode::Auto | ReceiveMode::AfXdp => {
            UdpReceiver::memory_bytes(config).max(UringReceiver::memory_bytes(config))
        }
    }
}

fn choose_with(
    mode: ReceiveMode,
    probe: impl FnOnce() -> io::Result<()>,
) -> Result<ReceiveMode, UringRefused> {
    if mode == ReceiveMode::Recvmmsg {
        return Ok(mode);
    }
    match probe().map_err(|error| UringRefused::new(&error)) {
        Ok(()) => Ok(ReceiveMode::IoUring),
        Err(refused) if mode == ReceiveMode::IoUring => Err(refused),
        Err(refused) => {
            warn!(requested = "io_uring", actual = "recvmmsg", "{refused}");
            Ok(ReceiveMode::Recvmmsg)
        }
    }
}

/// No UDP payload is longer: 65,535 less the UDP header (an IPv6 jumbogram excepted).
const DATAGRAM_MAX_BYTES: usize = 65_527;

fn datagram_max_bytes(config: &config::Receive) -> usize {
    usize::try_from(config.datagram_max.as_u64())
        .unwrap_or(usize::MAX)
        .clamp(1, DATAGRAM_MAX_BYTES)
}

/// Errors after which a socket is read again: an interruption, nothing there, the echo of an ICMP
/// message, or memory that was short for one datagram.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::EAGAIN
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(errno: i32) -> impl FnOnce() -> io::Result<()> {
        move || Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn auto_falls_to_recvmmsg_when_the_kernel_refuses_io_uring() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL] {
            let mode = choose_with(ReceiveMode::Auto, refuse(errno));
            assert_eq!(mode, Ok(ReceiveMode::Recvmmsg));
        }
        let mode = choose_with(ReceiveMode::Auto, || Ok(()));
        assert_eq!(mode, Ok(ReceiveMode::IoUring));
    }

    #[test]
    fn io_uring_by_configuration_is_an_error_where_it_is_refused() {
        let refused = choose_with(ReceiveMode::IoUring, refuse(libc::EPERM)).unwrap_err();
        let text = OpenError::from(refused).to_string();
        assert!(text.contains("kernel.io_uring_disabled"), "{text}");
        assert!(text.contains("receive.mode = \"auto\""), "{text}");
    }

    #[test]
    fn recvmmsg_by_configuration_does_not_try_io_uring() {
        let mode = choose_with(ReceiveMode::Recvmmsg, || panic!("not to be tried"));
        assert_eq!(mode, Ok(ReceiveMode::Recvmmsg));
    }

    #[test]
    fn the_default_configuration_takes_little_memory_a_worker() {
        let bytes = memory_bytes(&config::Receive::default());
        assert!(bytes < 12 << 20, "{bytes}");
    }
}
