//! Conversations: who talks to whom about what, as the two flows that an exporter sees of it.

use rand::distr::Distribution;
use rand::{RngExt, SeedableRng};
use rand_distr::LogNormal;

use super::exporters::{Exporter, Role};
use super::hosts::{self, Hosts, InsideHost};
use super::services::{self, BY_SHARE, Ports, SERVICES, SHARES, Service, Sides};
use super::{Family, Profile, SimRng};

/// What an exporter knows of one flow, before it is encoded.
#[derive(Clone, Copy, Debug)]
pub struct FlowRecord {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Source; IPv4 in the low 32 bits.
    pub src_addr: u128,
    /// Destination.
    pub dst_addr: u128,
    /// Where it is sent on to; 0 when the destination is connected.
    pub next_hop: u128,
    /// First packet, milliseconds since the epoch by the exporter's clock.
    pub start_ms: u64,
    /// Last packet.
    pub end_ms: u64,
    /// Packets that were looked at.
    pub packets: u32,
    /// Octets of each of them, from the IP header on.
    pub packet_octets: u32,
    /// ifIndex on the way in; at most 65535.
    pub in_if: u32,
    /// ifIndex on the way out; at most 65535.
    pub out_if: u32,
    /// Autonomous system of the source; 0 inside and where nobody knows.
    pub src_as: u32,
    /// Autonomous system of the destination.
    pub dst_as: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination port, or ICMP type and code.
    pub dst_port: u16,
    /// VLAN of the inside host.
    pub vlan: u16,
    /// Union of the TCP flags.
    pub tcp_flags: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Prefix length of the source.
    pub src_mask: u8,
    /// Prefix length of the destination.
    pub dst_mask: u8,
}

impl FlowRecord {
    /// Octets of all packets; fits because elephants end at a million packets of 1460 octets.
    #[inline]
    pub fn octets(&self) -> u32 {
        self.packets * self.packet_octets
    }
}

/// Draws conversations.
#[derive(Debug)]
pub struct Traffic {
    model: Model,
    rng: SimRng,
    /// Probes sent so far by all scanners.
    probes: u32,
}

/// What is drawn from.
#[derive(Debug)]
struct Model {
    profile: Profile,
    hosts: Hosts,
    packets: LogNormal<f64>,
    duration_s: LogNormal<f64>,
}

/// One side of a conversation, as one exporter sees it.
#[derive(Clone, Copy, Debug)]
struct Side {
    address: u128,
    interface: u32,
    autonomous_system: u32,
    mask: u8,
    vlan: u16,
    is_connected: bool,
}

/// What is the same for both directions.
#[derive(Clone, Copy, Debug)]
struct Volume {
    packets: u32,
    request_octets: u32,
    answer_octets: u32,
    start_ms: u64,
    end_ms: u64,
    request_flags: u8,
    answer_flags: u8,
}

impl Traffic {
    /// Traffic of a network with `switches` access switches.
    pub fn new(profile: Profile, switches: u32, seed: u64) -> Self {
        let log_normal = |median: f64, sigma| {
            LogNormal::new(median.ln(), sigma).expect("sigma is finite and not negative")
        };
        Self {
            model: Model {
                profile,
                hosts: Hosts::new(switches),
                // The 95th percentile is at 400 packets: ln(400 / 8) / 1.645.
                packets: log_normal(8.0, 2.378),
                // One flow in eighty outlasts the active timeout of a minute.
                duration_s: log_normal(2.0, 1.5),
            },
            rng: SimRng::seed_from_u64(seed),
            probes: 0,
        }
    }

    /// Draws the family of the next conversation.
    #[inline]
    pub fn family(&mut self, ipv6: f64) -> Family {
        if self.rng.random_bool(ipv6) {
            Family::V6
        } else {
            Family::V4
        }
    }

    /// Both flows of the next conversation that `exporter` sees. `now_ms` is its clock.
    pub fn conversation(
        &mut self,
        exporter: &Exporter,
        family: Family,
        now_ms: u64,
    ) -> [FlowRecord; 2] {
        let Self { model, rng, .. } = self;
        let service = &SERVICES[usize::from(BY_SHARE[rng.random_range(0..SHARES)])];
        let mut sides = model.sides(service, exporter, family, rng);
        let ports = model.ports(service, rng);
        let volume = model.volume(service, exporter, now_ms, rng);
        let (protocol, ports, answer_ports) = match (service.protocol, family) {
            // Type and code stand where the destination port would: echo and its reply.
            (services::ICMP, Family::V4) => (services::ICMP, [0, 8 << 8], [0, 0]),
            (services::ICMP, Family::V6) => (services::ICMP_V6, [0, 128 << 8], [0, 129 << 8]),
            (protocol, _) => match service.ports {
                Ports::Towards(port) => (protocol, ports, [ports[0] ^ 1, port]),
                _ => (protocol, ports, [ports[1], ports[0]]),
            },
        };
        match (model.profile, service.ports) {
            (Profile::Realistic, Ports::Scan) => self.probes(exporter, family, sides, &volume),
            (Profile::Realistic, Ports::Multicast) => {
                sides[1] = group(exporter, family, ports[0]);
                let first = flow(family, (protocol, service.tos), sides, ports, &volume);
                // Nobody answers a group; its source sends on, from the next port.
                [
                    first,
                    FlowRecord {
                        src_port: ports[0] ^ 1,
                        ..first
                    },
                ]
            }
            _ => {
                let request = flow(family, (protocol, service.tos), sides, ports, &volume);
                let [client, server] = sides;
                let back = Volume {
                    request_octets: volume.answer_octets,
                    request_flags: volume.answer_flags,
                    ..volume
                };
                let sides = [server, client];
                let answer = flow(family, (protocol, service.tos), sides, answer_ports, &back);
                [request, answer]
            }
        }
    }

    /// Two probes of a scanner: one packet each, to the next port, without an answer.
    fn probes(
        &mut self,
        exporter: &Exporter,
        family: Family,
        [_, victim]: [Side; 2],
        volume: &Volume,
    ) -> [FlowRecord; 2] {
        let scanner = scanner(family, self.rng.random_range(0..SCANNERS));
        let sides = [outside_side(scanner, exporter, family), victim];
        let src_port = self.rng.random_range(CLIENT_PORTS.0..=CLIENT_PORTS.1);
        let probe = Volume {
            request_octets: if family == Family::V4 { 44 } else { 64 },
            request_flags: SYN,
            ..*volume
        };
        [(); 2].map(|()| {
            self.probes = self.probes.wrapping_add(1);
            let dst_port = 1 + (self.probes % 65_535) as u16;
            flow(
                family,
                (services::TCP, 0),
                sides,
                [src_port, dst_port],
                &probe,
            )
        })
    }
}

impl Model {
    fn sides(
        &self,
        service: &Service,
        exporter: &Exporter,
        family: Family,
        rng: &mut SimRng,
    ) -> [Side; 2] {
        if self.profile == Profile::Uniform {
            return [(); 2].map(|()| anyone(exporter, family, rng));
        }
        let local = self.hosts.inside(exporter.access, rng);
        let local_side = self.inside_side(local, exporter, family);
        let Sides::Outside(clients_outside) = service.sides else {
            return [local_side, self.inside_peer(exporter, family, rng)];
        };
        if clients_outside < 100 && rng.random_ratio(INSIDE_ALONE, 1000) {
            return [local_side, self.inside_peer(exporter, family, rng)];
        }
        let address = if family == Family::V4 && rng.random_ratio(1, LISTED_ONE_IN) {
            u128::from(LISTED_V4 + rng.random_range(0..LISTED_COUNT))
        } else {
            self.hosts.outside(family, rng)
        };
        let outside = outside_side(address, exporter, family);
        if rng.random_ratio(clients_outside, 100) {
            [outside, local_side]
        } else {
            [local_side, outside]
        }
    }

    fn inside_peer(&self, exporter: &Exporter, family: Family, rng: &mut SimRng) -> Side {
        let peer = self.hosts.inside(None, rng);
        self.inside_side(peer, exporter, family)
    }

    fn inside_side(&self, host: InsideHost, exporter: &Exporter, family: Family) -> Side {
        let hosts = &self.hosts;
        let subnet = hosts.subnet_of(host);
        let is_connected = exporter.access == Some(hosts.switch_of(host));
        let interface = match exporter.role {
            Role::Access if is_connected => ACCESS_PORT_FIRST + hosts.port_of(host),
            Role::Access => ACCESS_UPLINK_FIRST + subnet % 2,
            Role::Distribution => 1 + hosts.switch_of(host) % 24,
            Role::Border => 1 + subnet % 2,
        };
        Side {
            address: hosts.address_of(family, host),
            interface,
            autonomous_system: 0,
            mask: if family == Family::V4 { 24 } else { 64 },
            vlan: hosts.vlan_of(host),
            is_connected,
        }
    }

    fn ports(&self, service: &Service, rng: &mut SimRng) -> [u16; 2] {
        if self.profile == Profile::Uniform {
            return [rng.random(), rng.random()];
        }
        let client = rng.random_range(CLIENT_PORTS.0..=CLIENT_PORTS.1);
        match service.ports {
            Ports::None => [0, 0],
            Ports::OneOf(&[port]) => [client, port],
            Ports::OneOf(ports) => [client, ports[rng.random_range(0..ports.len())]],
            // Media ports are even; the odd one above is for its control protocol (RFC 3550 §11).
            Ports::BothFrom(low, high) => [0; 2].map(|_: u16| rng.random_range(low..=high) & !1),
            Ports::Towards(port) => [client, port],
            Ports::Multicast => [client, 5_004],
            Ports::Tail | Ports::Scan => {
                let uniform: f32 = rng.random();
                [client, 1 + (uniform.powi(3) * 32_000.0) as u16]
            }
        }
    }

    fn volume(
        &self,
        service: &Service,
        exporter: &Exporter,
        now_ms: u64,
        rng: &mut SimRng,
    ) -> Volume {
        let (request_flags, answer_flags, is_short) = if service.protocol == services::TCP {
            tcp_flags(rng)
        } else {
            (0, 0, false)
        };
        let packets = if service.single_packet {
            1
        } else if is_short {
            rng.random_range(1..=3)
        } else {
            (self.packets.sample(rng).round() as u32).clamp(1, ELEPHANT_PACKETS)
        };
        let packets = looked_at(packets, exporter.sampling_rate(), rng);
        let duration_ms = if packets == 1 {
            0
        } else {
            ((self.duration_s.sample(rng) * 1000.0) as u64).min(DURATION_MAX_MS)
        };
        let (low, high) = service.answer_eighths;
        let request_octets = rng.random_range(60..=120);
        let eighths = if low == high {
            low
        } else {
            rng.random_range(low..=high)
        };
        let end_ms = now_ms.saturating_sub(rng.random_range(0..=INACTIVE_TIMEOUT_MS));
        Volume {
            packets,
            request_octets,
            answer_octets: (request_octets * eighths / 8).min(PACKET_OCTETS_MAX),
            start_ms: end_ms.saturating_sub(duration_ms),
            end_ms,
            request_flags,
            answer_flags,
        }
    }
}

fn flow(
    family: Family,
    (protocol, tos): (u8, u8),
    [from, to]: [Side; 2],
    [src_port, dst_port]: [u16; 2],
    volume: &Volume,
) -> FlowRecord {
    FlowRecord {
        family,
        src_addr: from.address,
        dst_addr: to.address,
        next_hop: if to.is_connected {
            0
        } else {
            next_hop(family, to.interface)
        },
        start_ms: volume.start_ms,
        end_ms: volume.end_ms,
        packets: volume.packets,
        packet_octets: volume.request_octets,
        in_if: from.interface,
        out_if: to.interface,
        src_as: from.autonomous_system,
        dst_as: to.autonomous_system,
        src_port,
        dst_port,
        vlan: from.vlan.max(to.vlan),
        tcp_flags: volume.request_flags,
        protocol,
        tos,
        src_mask: from.mask,
        dst_mask: to.mask,
    }
}

fn outside_side(address: u128, exporter: &Exporter, family: Family) -> Side {
    let knows_routes = exporter.role != Role::Access;
    let autonomous_system = hosts::autonomous_system(family, address);
    Side {
        address,
        interface: match exporter.role {
            Role::Access => ACCESS_UPLINK_FIRST + (address & 1) as u32,
            Role::Distribution => 49 + (address & 1) as u32,
            Role::Border => 101 + autonomous_system % 4,
        },
        autonomous_system: if knows_routes { autonomous_system } else { 0 },
        mask: if knows_routes {
            hosts::prefix_length(family, address)
        } else {
            0
        },
        vlan: 0,
        is_connected: false,
    }
}

/// Any address at all, for the profile `uniform`.
fn anyone(exporter: &Exporter, family: Family, rng: &mut SimRng) -> Side {
    let address = match family {
        Family::V4 => u128::from(rng.random::<u32>()),
        Family::V6 => rng.random(),
    };
    Side {
        vlan: rng.random_range(1..4095),
        ..outside_side(address, exporter, family)
    }
}

fn group(exporter: &Exporter, family: Family, salt: u16) -> Side {
    let address = match family {
        Family::V4 => u128::from(GROUP_V4 | u32::from(salt & 0xff)),
        Family::V6 => GROUP_V6 | u128::from(salt & 0xff),
    };
    Side {
        autonomous_system: 0,
        mask: 0,
        ..outside_side(address, exporter, family)
    }
}

fn scanner(family: Family, index: u32) -> u128 {
    match family {
        Family::V4 => u128::from(SCANNER_V4 + index * 37),
        Family::V6 => SCANNER_V6 | u128::from(index),
    }
}

fn next_hop(family: Family, interface: u32) -> u128 {
    match family {
        Family::V4 => u128::from(GATEWAY_V4 | (interface & 0xff)),
        Family::V6 => GATEWAY_V6 | u128::from(interface),
    }
}

/// Flags of the client, of the server, and whether the conversation ended early.
fn tcp_flags(rng: &mut SimRng) -> (u8, u8, bool) {
    // Of the flows that are no scan; with the scans 80 % of all are complete and 6 % reset.
    match rng.random_range(0..1000) {
        0..855 => (0x1b, 0x1b, false),
        855..920 => (0x06, 0x14, true),
        920..960 => (0x18, 0x18, false),
        960..980 => (0x10, 0x18, false),
        _ => (0x1a, 0x1a, false),
    }
}

/// Packets that sampling at one in `rate` picks out of a flow that it has picked at all.
fn looked_at(packets: u32, rate: u32, rng: &mut SimRng) -> u32 {
    if rate <= 1 {
        return packets;
    }
    let rounded_up = rng.random_range(0..rate) < packets % rate;
    (packets / rate + u32::from(rounded_up)).max(1)
}

const SYN: u8 = 0x02;
const CLIENT_PORTS: (u16, u16) = (32_768, 60_999);
const ELEPHANT_PACKETS: u32 = 1_000_000;
const PACKET_OCTETS_MAX: u32 = 1_460;
const DURATION_MAX_MS: u64 = 3_600_000;
const INACTIVE_TIMEOUT_MS: u64 = 15_000;
/// Of 1000 flows of services that are used to the outside; with the inside services a tenth.
const INSIDE_ALONE: u32 = 60;
const SCANNERS: u32 = 20;
const ACCESS_PORT_FIRST: u32 = 10_101;
const ACCESS_UPLINK_FIRST: u32 = 10_201;
/// 203.0.113.1 to .200: what a test's threat list holds; a flow in 10,000 has one.
const LISTED_V4: u32 = 0xcb00_7101;
const LISTED_COUNT: u32 = 200;
/// Conversations between listed addresses: IPv4 ones with the outside are two thirds of all.
const LISTED_ONE_IN: u32 = 6_700;
const SCANNER_V4: u32 = 0x2d95_0a05;
const SCANNER_V6: u128 = 0x2a0e_97c0_0001 << 80;
const GATEWAY_V4: u32 = 0x0a17_ef00;
const GATEWAY_V6: u128 = 0xfe80 << 112;
const GROUP_V4: u32 = 0xef01_0100;
const GROUP_V6: u128 = 0xff0e << 112;

const _: () = assert!(ELEPHANT_PACKETS as u64 * (PACKET_OCTETS_MAX as u64) < 1 << 32);
