//! The services that are used, and what a conversation of each looks like.

/// IP protocol numbers.
pub const ICMP: u8 = 1;
/// Transmission Control Protocol.
pub const TCP: u8 = 6;
/// User Datagram Protocol.
pub const UDP: u8 = 17;
/// Generic Routing Encapsulation.
pub const GRE: u8 = 47;
/// Encapsulating Security Payload.
pub const ESP: u8 = 50;
/// ICMP for IPv6.
pub const ICMP_V6: u8 = 58;

/// Which port the server has.
#[derive(Clone, Copy, Debug)]
pub enum Ports {
    /// No transport ports.
    None,
    /// One of these, all equally often.
    OneOf(&'static [u16]),
    /// Both sides draw from this range (media streams).
    BothFrom(u16, u16),
    /// Both sides send to this port, from one of their own (tunnels).
    Towards(u16),
    /// The long tail: low ports more often than high ones.
    Tail,
    /// Nobody's: the probes walk all ports and hosts.
    Scan,
    /// A group address, and nobody answers.
    Multicast,
}

/// Who the two sides are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// Both inside.
    Inside,
    /// Mostly inside and outside; the number is how many of 100 clients are outside.
    Outside(u32),
}

/// One line of the traffic model.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Of 1000 flows.
    pub permille: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Server ports.
    pub ports: Ports,
    /// Clients and servers.
    pub sides: Sides,
    /// One packet each way, or a log-normal number.
    pub single_packet: bool,
    /// Octets a packet of the answer, in eighths of those of the request, drawn between the two.
    pub answer_eighths: (u32, u32),
    /// Type of service.
    pub tos: u8,
}

const fn service(permille: u32, protocol: u8, ports: Ports, sides: Sides) -> Service {
    Service {
        permille,
        protocol,
        ports,
        sides,
        single_packet: false,
        answer_eighths: (32, 96),
        tos: 0,
    }
}

/// All services; the shares add up to 1000.
pub const SERVICES: &[Service] = &[
    service(450, TCP, Ports::OneOf(&[443]), Sides::Outside(8)),
    service(150, UDP, Ports::OneOf(&[443]), Sides::Outside(3)),
    Service {
        single_packet: true,
        answer_eighths: (9, 32),
        ..service(120, UDP, Ports::OneOf(&[53]), Sides::Outside(5))
    },
    service(60, TCP, Ports::OneOf(&[80]), Sides::Outside(10)),
    Service {
        single_packet: true,
        answer_eighths: (8, 8),
        ..service(20, UDP, Ports::OneOf(&[123]), Sides::Outside(5))
    },
    Service {
        answer_eighths: (8, 24),
        tos: 0x48,
        ..service(15, TCP, Ports::OneOf(&[22]), Sides::Outside(30))
    },
    service(20, TCP, Ports::OneOf(&[25, 587, 993]), Sides::Outside(40)),
    service(40, TCP, Ports::OneOf(&[445, 389, 88]), Sides::Inside),
    Service {
        answer_eighths: (8, 8),
        tos: 0xb8,
        ..service(30, UDP, Ports::BothFrom(16_384, 32_767), Sides::Outside(30))
    },
    Service {
        answer_eighths: (8, 8),
        ..service(20, ICMP, Ports::None, Sides::Outside(20))
    },
    Service {
        single_packet: true,
        ..service(40, TCP, Ports::Scan, Sides::Outside(100))
    },
    service(18, TCP, Ports::Tail, Sides::Outside(20)),
    service(10, UDP, Ports::Tail, Sides::Outside(20)),
    Service {
        answer_eighths: (8, 16),
        ..service(2, UDP, Ports::Towards(4789), Sides::Inside)
    },
    Service {
        answer_eighths: (8, 16),
        ..service(1, GRE, Ports::None, Sides::Outside(50))
    },
    Service {
        answer_eighths: (8, 16),
        ..service(1, ESP, Ports::None, Sides::Outside(50))
    },
    service(3, UDP, Ports::Multicast, Sides::Inside),
];

/// Shares are of this many.
pub const SHARES: usize = 1000;

/// For each thousandth, the service that has it.
pub const BY_SHARE: [u8; SHARES] = {
    let mut table = [0; SHARES];
    let mut at = 0;
    let mut index = 0;
    while index < SERVICES.len() {
        let mut left = SERVICES[index].permille;
        while left > 0 {
            table[at] = index as u8;
            at += 1;
            left -= 1;
        }
        index += 1;
    }
    assert!(at == SHARES, "the shares of the services add up to 1000");
    table
};
