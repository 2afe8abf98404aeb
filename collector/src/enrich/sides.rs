//! Which side of a flow is the client's, and what the server offers there.
//!
//! In: the flows of a datagram. Out: for each which side is the client, its service and its
//! application, as ids of [`Services`] and [`Applications`]. Owner: a worker, through snapshots; no
//! locks, no allocation.

use super::applications::{Applications, Mapped, OfExporter};
use super::services::{Services, TCP, has_ports};
use crate::decode::BURST_FLOWS;
use crate::flow::{Address, Flow};

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

/// The sides of each of `flows`, into `sides`.
pub fn find(applications: &Applications, flows: &[Flow], sides: &mut [Sides]) {
    let mut exporter: Option<(Address, OfExporter<'_>)> = None;
    let bursts = flows.chunks(BURST_FLOWS).zip(sides.chunks_mut(BURST_FLOWS));
    for (flows, sides) in bursts {
        let mut mapped = [Default::default(); BURST_FLOWS];
        applications.at_ports(flows, &mut mapped);
        for ((flow, sides), mapped) in flows.iter().zip(sides).zip(mapped) {
            *sides = of_flow(applications.services(), flow, mapped);
            if sides.application != 0 || flow.application_id == 0 {
                continue;
            }
            // That of a datagram is nearly always the same.
            let address = flow.exporter_addr;
            let found = exporter.filter(|(known, _)| *known == address);
            let (_, of) = found.unwrap_or_else(|| (address, applications.exporter(address)));
            exporter = Some((address, of));
            sides.application = of.get(flow.protocol, flow.application_id);
        }
    }
}

#[inline(always)]
fn of_flow(services: &Services, flow: &Flow, mapped: (Mapped, Mapped)) -> Sides {
    const SYN: u16 = 0x02;
    const ACK: u16 = 0x10;
    let Flow {
        protocol,
        src_port,
        dst_port,
        tcp_flags,
        ..
    } = *flow;
    let has_ports = has_ports(protocol);
    let at = (
        services.of_port(protocol, src_port),
        services.of_port(protocol, dst_port),
    );
    let client_is_src = client_is_src(&Signs {
        biflow_direction: flow.biflow_direction,
        is_multicast: flow.dst_addr.is_multicast(),
        is_syn_alone: protocol == TCP && tcp_flags & (SYN | ACK) == SYN,
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
