//! What the XDP program and its user space agree on: maps, their bounds, and verdicts.

use crate::Pass;

/// The program that reads frames through pointers: needs CAP_PERFMON to be loaded.
pub const STEER: &str = "steer";
/// The program that lets the kernel copy headers out: slower, without that capability.
pub const STEER_COPYING: &str = "steer_copying";

/// AF_XDP sockets by queue.
pub const XSKS: &str = "XSKS";
/// UDP ports that are listened on, in the processor's byte order.
pub const PORTS: &str = "PORTS";
/// Addresses that datagrams are sent to; IPv4 as v4-mapped IPv6.
pub const DESTINATIONS: &str = "DESTINATIONS";
/// Prefixes that datagrams may come from, likewise: an IPv4 prefix is 96 bits longer.
pub const ALLOWED: &str = "ALLOWED";
/// What is switched on; see [`IS_ALLOW_LIST_ACTIVE`].
pub const SETTINGS: &str = "SETTINGS";
/// Frames by [`Verdict`], one figure a processor.
pub const COUNTERS: &str = "COUNTERS";

/// Index in [`SETTINGS`]: 1 when sources that [`ALLOWED`] does not have are dropped.
pub const IS_ALLOW_LIST_ACTIVE: u32 = 0;

/// Queues of an interface.
pub const QUEUES_MAX: u32 = 1024;
/// Ports listened on.
pub const PORTS_MAX: u32 = 256;
/// Addresses that datagrams are sent to, the old ones while they give way to new ones included.
pub const DESTINATIONS_MAX: u32 = 2048;
/// Prefixes that datagrams may come from, likewise.
pub const ALLOWED_MAX: u32 = 131_072;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Handed to the queue's AF_XDP socket.
    Redirected,
    /// Passed to the kernel, see [`Pass::NotIp`].
    NotIp,
    /// Passed to the kernel, see [`Pass::Fragment`].
    Fragment,
    /// Passed to the kernel, see [`Pass::Options`].
    Options,
    /// Passed to the kernel, see [`Pass::NotUdp`].
    NotUdp,
    /// Passed to the kernel, see [`Pass::Cut`].
    Cut,
    /// Passed to the kernel, see [`Pass::Malformed`].
    Malformed,
    /// Passed to the kernel: UDP to a port that is not listened on.
    OtherPort,
    /// Passed to the kernel: to an address that is not one of ours.
    OtherDestination,
    /// Passed to the kernel: ours, but its queue has no AF_XDP socket.
    NoSocket,
    /// Dropped: ours, but its source is not on the allow list.
    NotAllowed,
}

impl Verdict {
    /// Each, in the order of [`Verdict::index`].
    pub const ALL: [Self; 11] = [
        Self::Redirected,
        Self::NotIp,
        Self::Fragment,
        Self::Options,
        Self::NotUdp,
        Self::Cut,
        Self::Malformed,
        Self::OtherPort,
        Self::OtherDestination,
        Self::NoSocket,
        Self::NotAllowed,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Where [`COUNTERS`] has it.
    #[must_use]
    #[inline]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// As metrics and the status page write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Redirected => "redirected",
            Self::NotIp => "not_ip",
            Self::Fragment => "fragment",
            Self::Options => "options",
            Self::NotUdp => "not_udp",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::OtherPort => "other_port",
            Self::OtherDestination => "other_destination",
            Self::NoSocket => "no_socket",
            Self::NotAllowed => "not_allowed",
        }
    }
}

impl From<Pass> for Verdict {
    #[inline]
    fn from(pass: Pass) -> Self {
        match pass {
            Pass::NotIp => Self::NotIp,
            Pass::Fragment => Self::Fragment,
            Pass::Options => Self::Options,
            Pass::NotUdp => Self::NotUdp,
            Pass::Cut => Self::Cut,
            Pass::Malformed => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_listed_by_index_and_labelled_apart() {
        for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict.index() as usize, index);
            let alike = Verdict::ALL.iter().filter(|v| v.label() == verdict.label());
            assert_eq!(alike.count(), 1);
        }
    }
}
