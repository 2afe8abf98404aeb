//! The names of services and protocols, as IANA registers them.
//!
//! In: an IP protocol and a port. Out: a number that [`Services::label`] turns into the name; 0 is
//! no name. Owner: made once from the data in `services/`, then shared.
//! Sources: IANA's registries "Service Name and Transport Protocol Port Number" (RFC 6335) and
//! "Protocol Numbers".

use std::ops::RangeInclusive;

use hashbrown::HashMap;

use super::ports::{PORTS, PortSet};

/// `ports,protocols,name` and then one line a name and range; see the README beside it.
const PORTS_CSV: &str = include_str!("services/ports.csv");

/// `number,name` and then one line a protocol.
const PROTOCOLS_CSV: &str = include_str!("services/protocols.csv");

/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Protocols that have ports.
pub const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDP_LITE];

/// The part of the table that is for each protocol; the first is for those without ports, and
/// empty.
static PLANES: [u8; 256] = planes();

const PLANE_COUNT: usize = 5;

const fn planes() -> [u8; 256] {
    let mut planes = [0; 256];
    planes[TCP as usize] = 1;
    planes[UDP as usize] = 2;
    planes[SCTP as usize] = 3;
    planes[DCCP as usize] = 4;
    // RFC 3828 section 3.1: it has the ports of UDP.
    planes[UDP_LITE as usize] = 2;
    planes
}

/// True when packets of `protocol` have ports.
#[must_use]
#[inline(always)]
pub fn has_ports(protocol: u8) -> bool {
    plane(protocol) != 0
}

#[inline(always)]
fn plane(protocol: u8) -> usize {
    PLANES
        .get(usize::from(protocol))
        .copied()
        .unwrap_or(0)
        .into()
}

/// The number of the protocol that IANA calls `name`, in upper or lower case.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    let mut protocols = protocols();
    let found = protocols.find(|(_, known)| known.eq_ignore_ascii_case(name));
    found.map(|(number, _)| number)
}

/// Which names IANA has for ports and protocols.
#[derive(Debug)]
pub struct Services {
    /// Ids by plane and port.
    of_port: Box<[u16]>,
    /// Ports with a name in any plane.
    named: PortSet,
    /// Ids by protocol.
    of_protocol: [u16; 256],
    /// By id; the first is ''.
    labels: Box<[&'static str]>,
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

impl Services {
    /// The names that come with the collector.
    #[must_use]
    pub fn new() -> Self {
        let mut labels = Labels::default();
        let mut of_port = vec![0; PLANE_COUNT * PORTS].into_boxed_slice();
        let mut named = PortSet::default();
        for (ports, protocols, name) in ports() {
            let id = labels.id(name);
            named.extend(ports.clone());
            for protocol in protocols.split(' ').filter_map(protocol_number) {
                let first = plane(protocol) * PORTS;
                let (from, to) = (usize::from(*ports.start()), usize::from(*ports.end()));
                if let Some(places) = of_port.get_mut(first + from..=first + to) {
                    places.fill(id);
                }
            }
        }
        let mut of_protocol = [0; 256];
        for (number, name) in protocols() {
            // 0 is what flows have of which the protocol is unknown.
            if number != 0
                && let Some(place) = of_protocol.get_mut(usize::from(number))
            {
                *place = labels.id(name);
            }
        }
        Self {
            of_port,
            named,
            of_protocol,
            labels: labels.texts.into(),
        }
    }

    /// The service of a port; 0 when none is registered, or `protocol` has no ports.
    #[must_use]
    #[inline(always)]
    pub fn of_port(&self, protocol: u8, port: u16) -> u32 {
        // The first of all has no name: a product instead of a jump, since it is chance which of
        // two ports has one.
        let place = plane(protocol) * PORTS + usize::from(port);
        let place = place * usize::from(self.named.contains(port));
        self.of_port.get(place).copied().unwrap_or(0).into()
    }

    /// The name of a protocol; 0 when it has none, or is unknown.
    #[must_use]
    #[inline(always)]
    pub fn of_protocol(&self, protocol: u8) -> u32 {
        let id = self.of_protocol.get(usize::from(protocol));
        id.copied().unwrap_or(0).into()
    }

    /// The text of an id; '' for 0.
    #[must_use]
    #[inline]
    pub fn label(&self, id: u32) -> &'static str {
        let label = self.labels.get(usize::try_from(id).unwrap_or(usize::MAX));
        label.copied().unwrap_or("")
    }

    /// The highest id.
    #[must_use]
    pub fn id_max(&self) -> u32 {
        self.labels.len() as u32 - 1
    }

    /// Bytes of the tables.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let tables = size_of_val(&*self.of_port) + self.named.memory_bytes();
        size_of::<Self>() + tables + size_of_val(&*self.labels)
    }
}

/// Names and their ids while the tables are made.
struct Labels {
    texts: Vec<&'static str>,
    ids: HashMap<&'static str, u16>,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            texts: vec![""],
            ids: HashMap::new(),
        }
    }
}

impl Labels {
    fn id(&mut self, text: &'static str) -> u16 {
        let Self { texts, ids } = self;
        *ids.entry(text).or_insert_with(|| {
            texts.push(text);
            u16::try_from(texts.len() - 1).expect("the registry has some 6000 names")
        })
    }
}

/// The lines of the data below the titles, divided by their commas.
fn lines<const N: usize>(text: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    text.lines().skip(1).map(|line| {
        let mut columns = line.splitn(N, ',');
        std::array::from_fn(|_| columns.next().unwrap_or_default())
    })
}

fn ports() -> impl Iterator<Item = (RangeInclusive<u16>, &'static str, &'static str)> {
    lines(PORTS_CSV).filter_map(|[ports, protocols, name]| {
        let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
        Some((from.parse().ok()?..=to.parse().ok()?, protocols, name))
    })
}

fn protocols() -> impl Iterator<Item = (u8, &'static str)> {
    lines(PROTOCOLS_CSV).filter_map(|[number, name]| Some((number.parse().ok()?, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(protocol: u8, port: u16) -> &'static str {
        let services = Services::new();
        services.label(services.of_port(protocol, port))
    }

    #[test]
    fn ports_have_the_first_name_of_the_registry() {
        for (protocol, port, expected) in [
            (TCP, 80, "http"),
            (TCP, 443, "https"),
            (UDP, 443, "https"),
            (UDP, 53, "domain"),
            (TCP, 22, "ssh"),
            (UDP, 4789, "vxlan"),
            (SCTP, 36_412, "s1-control"),
            (DCCP, 9, "discard"),
            (UDP_LITE, 53, "domain"),
            (TCP, 5999, "cvsup"),
            (TCP, 6000, "x11"),
            (UDP, 6031, "x11"),
            (TCP, 6063, "x11"),
            (TCP, 6064, "ndl-ahp-svc"),
            (TCP, 6669, "ircu"),
            (UDP, 6669, ""),
            (TCP, 65_535, ""),
            (TCP, 0, ""),
            // Ports are not those of other protocols.
            (SCTP, 53, ""),
            (1, 53, ""),
            (0, 53, ""),
        ] {
            assert_eq!(name(protocol, port), expected, "{protocol} {port}");
        }
    }

    #[test]
    fn protocols_have_names() {
        let services = Services::new();
        for (protocol, expected) in [
            (1, "icmp"),
            (TCP, "tcp"),
            (47, "gre"),
            (50, "esp"),
            (58, "ipv6-icmp"),
            (89, "ospf"),
            (112, "vrrp"),
            (135, "mobility-header"),
            (252, ""),
            (0, ""),
        ] {
            assert_eq!(services.label(services.of_protocol(protocol)), expected);
        }
        assert_eq!(protocol_number("GRE"), Some(47));
        assert_eq!(protocol_number("hopopt"), Some(0));
        assert_eq!(protocol_number("grex"), None);
    }

    #[test]
    fn each_line_of_the_data_is_in_the_tables() {
        let services = Services::new();
        assert_eq!(ports().count(), PORTS_CSV.lines().count() - 1);
        assert_eq!(protocols().count(), PROTOCOLS_CSV.lines().count() - 1);
        let mut named = 0;
        for (ports, protocols, name) in ports() {
            for protocol in protocols.split(' ') {
                let protocol = protocol_number(protocol).unwrap();
                assert!(has_ports(protocol), "{protocol}");
                for port in ports.clone() {
                    assert_eq!(services.label(services.of_port(protocol, port)), name);
                    named += 1;
                }
            }
        }
        assert!(named > 11_000, "{named}");
    }

    #[test]
    fn an_id_that_nobody_gave_has_no_label() {
        let services = Services::new();
        assert_eq!(services.label(0), "");
        assert_ne!(services.label(services.id_max()), "");
        assert_eq!(services.label(services.id_max() + 1), "");
        assert_eq!(services.label(u32::MAX), "");
        assert!(services.memory_bytes() < 1 << 20);
    }
}
