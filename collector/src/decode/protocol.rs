//! Which protocol a datagram speaks, and whether that is wanted.

use super::{ipfix, netflow1, netflow5, netflow7, netflow9};
use crate::config::{self, Protocol};
use crate::ledger::DropReason;

/// The protocol that the first bytes name. sFlow's version has four of them, the others' two.
///
/// # Errors
/// Why the datagram is dropped.
#[inline]
pub fn protocol(payload: &[u8]) -> Result<Protocol, DropReason> {
    let [v0, v1, rest @ ..] = payload else {
        return Err(DropReason::DatagramTruncated);
    };
    match u16::from_be_bytes([*v0, *v1]) {
        netflow1::VERSION => Ok(Protocol::Netflow1),
        netflow5::VERSION => Ok(Protocol::Netflow5),
        netflow7::VERSION => Ok(Protocol::Netflow7),
        netflow9::VERSION => Ok(Protocol::Netflow9),
        ipfix::VERSION => Ok(Protocol::Ipfix),
        0 => match rest {
            [0, 5, ..] => Ok(Protocol::Sflow5),
            [] | [_] => Err(DropReason::DatagramTruncated),
            _ => Err(DropReason::VersionUnknown),
        },
        _ => Err(DropReason::VersionUnknown),
    }
}

/// Protocols that are switched on, globally and by port.
#[derive(Debug)]
pub struct Enabled {
    everywhere: u8,
    /// By port, where a listener has protocols of its own. Its list narrows the global one.
    ports: Vec<(u16, u8)>,
}

impl Enabled {
    /// Those of the configuration.
    #[must_use]
    pub fn new(protocols: &[Protocol], listeners: &[config::Listener]) -> Self {
        let everywhere = bits(protocols);
        let mut ports = Vec::<(u16, u8)>::new();
        for listener in listeners {
            let own = match listener.protocols.as_slice() {
                [] => everywhere,
                protocols => everywhere & bits(protocols),
            };
            // Two listeners may share a port on different addresses; the datagram does not say
            // which of them it came by.
            match ports.iter_mut().find(|(port, _)| *port == listener.port) {
                Some((_, bits)) => *bits |= own,
                None => ports.push((listener.port, own)),
            }
        }
        ports.retain(|(_, bits)| *bits != everywhere);
        Self { everywhere, ports }
    }

    /// True when `protocol` is on for what arrives at `local_port`.
    #[must_use]
    #[inline]
    pub fn allows(&self, protocol: Protocol, local_port: u16) -> bool {
        let own = self.ports.iter().find(|(port, _)| *port == local_port);
        own.map_or(self.everywhere, |(_, bits)| *bits) & bit(protocol) != 0
    }
}

const fn bit(protocol: Protocol) -> u8 {
    1 << protocol as u8
}

fn bits(protocols: &[Protocol]) -> u8 {
    protocols.iter().fold(0, |bits, p| bits | bit(*p))
}
