//! Which side of a flow is the client's, and what the server offers there.
//!
//! In: fields of flows. Out: for each which side is the client, its service and its
//! application, as ids of [`Services`] and [`Applications`]. Owner: who marks rows, through
//! snapshots; no locks, no allocation.

use super::applications::{Applications, Mapped, OfExporter};
use super::keys::{KEYS, Keys};
use super::services::{Services, TCP, has_ports};
use crate::flow::Address;

/// What is known of the two sides of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The client is the source; else it is the destination.
    pub client_is_src: bool,
    /// The service at the server's port, or the protocol where there are no ports: an id of
    /// [`Services`].
    pub service: u32,
    /// The application: an id of [`Applications`].
    pub application: u32,
}

/// What the client is told by. Pairs are of the source and of the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// IE 239 (RFC 5103 section 6.3): 1 the source began, 2 the destination.
    pub biflow_direction: u8,
    /// The destination is a group of receivers.
    pub is_multicast: bool,
    /// Of TCP's control bits SYN was seen, and ACK was not.
    pub is_syn_alone: bool,
    /// The operator told of an application at the port.
    pub applications: (bool, bool),
    /// IANA registered a service for the port.
    pub services: (bool, bool),
    /// The ports; equal ones where the protocol has none.
    pub ports: (u16, u16),
}

/// True when the source is the client.
///
/// Who began it tells most: the exporter says so; a group only receives; a SYN without an answer
/// is the client's. Else the port tells: an application that is known on one side alone is the
/// server's, then a service, and where that does not tell either, the lower port is. When nothing
/// tells, the destination is the server.
#[must_use]
#[inline(always)]
pub const fn client_is_src(signs: &Signs) -> bool {
    const INITIATOR: u8 = 1;
    const REVERSE_INITIATOR: u8 = 2;
    let Signs {
        biflow_direction,
        is_multicast,
        is_syn_alone,
        applications,
        services,
        ports,
    } = *signs;
    // From the least to the most, each a select instead of a jump.
    let mut is_src = ports.1 <= ports.0;
    is_src = if services.0 == services.1 {
        is_src
    } else {
        services.1
    };
    is_src = if applications.0 == applications.1 {
        is_src
    } else {
        applications.1
    };
    is_src |= is_syn_alone | is_multicast;
    is_src |= biflow_direction == INITIATOR;
    is_src & (biflow_direction != REVERSE_INITIATOR)
}

/// The sides of each flow that `keys` are of, into `sides`.
pub fn find(applications: &Applications, keys: &Keys, sides: &mut [Sides; KEYS]) {
    let mut exporter: Option<(Address, OfExporter<'_>)> = None;
    let mut mapped = [Default::default(); KEYS];
    applications.at_ports(keys, &mut mapped);
    let sides = &mut sides[..keys.count];
    for (number, (sides, mapped)) in sides.iter_mut().zip(mapped).enumerate() {
        *sides = of_flow(applications.services(), keys, number, mapped);
        let application = keys.applications[number];
        if sides.application != 0 || application == 0 {
            continue;
        }
        // Rows of a datagram stand together, and have one exporter.
        let address = keys.exporters[number];
        let found = exporter.filter(|(known, _)| *known == address);
        let (_, of) = found.unwrap_or_else(|| (address, applications.exporter(address)));
        exporter = Some((address, of));
        sides.application = of.get(keys.protocols[number], application);
    }
}

#[inline(always)]
fn of_flow(services: &Services, keys: &Keys, number: usize, mapped: (Mapped, Mapped)) -> Sides {
    const SYN: u16 = 0x02;
    const ACK: u16 = 0x10;
    let protocol = keys.protocols[number];
    let (src_port, dst_port) = (keys.ports[0][number], keys.ports[1][number]);
    let has_ports = has_ports(protocol);
    let at = (
        services.of_port(protocol, src_port),
        services.of_port(protocol, dst_port),
    );
    let client_is_src = client_is_src(&Signs {
        biflow_direction: keys.biflow_directions[number],
        is_multicast: keys.addresses[1][number].is_multicast(),
        is_syn_alone: protocol == TCP && keys.tcp_flags[number] & (SYN | ACK) == SYN,
        applications: (mapped.0.is_of_port(), mapped.1.is_of_port()),
        services: (at.0 != 0, at.1 != 0),
        ports: match has_ports {
            true => (src_port, dst_port),
            false => (0, 0),
        },
    });
    let (server, client, service) = match client_is_src {
        true => (mapped.1, mapped.0, at.1),
        false => (mapped.0, mapped.1, at.0),
    };
    Sides {
        client_is_src,
        service: match has_ports {
            true => service,
            false => services.of_protocol(protocol),
        },
        application: server.or(client).id(),
    }
}

#[cfg(test)]
mod tests;
