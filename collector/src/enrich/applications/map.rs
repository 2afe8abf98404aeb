//! Applications by address and port, as operators tell them.
//!
//! Each prefix has a list of the applications at its ports, into which those of the prefixes around
//! it are worked: so one look at the prefixes and one at a list yield what fits best.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::enrich::keys::{KEYS, Keys};
use crate::enrich::lpm::{Lpm, Ranges};
use crate::enrich::ports::PortSet;
use crate::enrich::services::WITH_PORTS;
use crate::flow::Address;

/// Entries of all lists together: 32 MiB.
pub const ENTRIES_MAX: usize = 1 << 22;

/// The application at one side of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped(u32);

impl Mapped {
    /// Set when the port counted, not the address alone.
    const OF_PORT: u32 = 1 << 31;

    /// The application; 0 is none.
    #[must_use]
    #[inline(always)]
    pub const fn id(self) -> u32 {
        self.0 & !Self::OF_PORT
    }

    /// True when it is known by its port, so that a server is there.
    #[must_use]
    #[inline(always)]
    pub const fn is_of_port(self) -> bool {
        self.0 & Self::OF_PORT != 0
    }

    /// `self` if there is one, else `other`.
    #[must_use]
    #[inline(always)]
    pub const fn or(self, other: Self) -> Self {
        if self.0 == 0 { other } else { self }
    }
}

/// What an operator says of the ports of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The ports; `None` is any, also where there are none.
    pub ports: Option<RangeInclusive<u16>>,
    /// The protocol; `None` is any, with `ports` any that has them.
    pub protocol: Option<u8>,
    /// The application.
    pub id: u32,
}

/// The lists by prefix.
#[derive(Debug, Default)]
pub struct AddressMap {
    prefixes: Option<Lpm>,
    /// Ports that any list names; `None` when one names addresses, whatever the port is.
    ports: Option<PortSet>,
    /// Where the list of each value of `prefixes` lies in `starts` and `values`.
    lists: Box<[(u32, u32)]>,
    /// Where each entry begins on the line of all protocols and ports; those of a list ascend, and
    /// its first is 0.
    starts: Box<[u32]>,
    values: Box<[Mapped]>,
}

/// There would be more than [`ENTRIES_MAX`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Entries of one list by where they begin.
type Painted = BTreeMap<u32, Mapped>;

impl AddressMap {
    /// Of what equally fits, the last counts. Prefixes have no bits beyond their length.
    ///
    /// # Errors
    /// When it takes too many entries: rules are worked into all longer prefixes.
    pub fn new(rules: impl IntoIterator<Item = (IpNet, Rule)>) -> Result<Self, TooMany> {
        // In order, a prefix comes before all that it holds.
        let mut by_prefix = BTreeMap::<IpNet, Vec<Rule>>::new();
        for (prefix, rule) in rules {
            by_prefix.entry(prefix).or_default().push(rule);
        }
        if by_prefix.is_empty() {
            return Ok(Self::default());
        }
        let ports = named_ports(by_prefix.values().flatten());
        let (mut starts, mut values) = (Vec::new(), Vec::new());
        // 0 is no list.
        let mut lists = vec![(0, 0)];
        let mut around = Vec::<(IpNet, Painted)>::new();
        for (prefix, rules) in &mut by_prefix {
            while around
                .last()
                .is_some_and(|(outer, _)| !outer.contains(prefix))
            {
                around.pop();
            }
            let mut painted = match around.last() {
                Some((_, outer)) => outer.clone(),
                None => Painted::from([(0, Mapped::default())]),
            };
            rules.sort_by_key(Rule::rank);
            rules.iter().for_each(|rule| rule.paint(&mut painted));
            lists.push((starts.len() as u32, painted.len() as u32));
            starts.extend(painted.keys());
            values.extend(painted.values());
            if starts.len() > ENTRIES_MAX {
                return Err(TooMany);
            }
            around.push((*prefix, painted));
        }
        let prefixes = Ranges::of_prefixes(by_prefix.into_keys().zip(1..));
        Ok(Self {
            prefixes: Some(Lpm::new(&prefixes)),
            ports,
            lists: lists.into(),
            starts: starts.into(),
            values: values.into(),
        })
    }

    /// The applications at the source and the destination of each flow; `mapped` is empty before.
    #[inline]
    pub fn find(&self, keys: &Keys, mapped: &mut [(Mapped, Mapped); KEYS]) {
        if let Some(prefixes) = &self.prefixes {
            self.find_in(prefixes, keys, mapped);
        }
    }

    fn find_in(&self, prefixes: &Lpm, keys: &Keys, mapped: &mut [(Mapped, Mapped); KEYS]) {
        let mut wanted = 0;
        let mut addresses = [Address::UNKNOWN; 2 * KEYS];
        let mut of = [(0_u8, 0_u8); 2 * KEYS];
        for (side, ports) in keys.ports.iter().enumerate() {
            for (number, port) in ports[..keys.count].iter().enumerate() {
                addresses[wanted] = keys.addresses[side][number];
                of[wanted] = (side as u8, number as u8);
                let is_named = self
                    .ports
                    .as_ref()
                    .is_none_or(|named| named.contains(*port));
                wanted += usize::from(is_named);
            }
        }
        let mut lists = [0; 2 * KEYS];
        let lists = &mut lists[..wanted];
        prefixes.get_many(&addresses[..wanted], lists);
        for (list, (side, number)) in lists.iter().zip(of) {
            let (side, number) = (usize::from(side), usize::from(number));
            let port = keys.ports[side][number];
            let found = self.get(*list, keys.protocols[number], port);
            let (source, destination) = &mut mapped[number];
            *(if side == 0 { source } else { destination }) = found;
        }
    }

    /// What the list `number` says of a port.
    #[inline]
    fn get(&self, number: u32, protocol: u8, port: u16) -> Mapped {
        let list = self.lists.get(number as usize).copied().unwrap_or_default();
        let (first, end) = (list.0 as usize, (list.0 + list.1) as usize);
        let starts = self.starts.get(first..end).unwrap_or_default();
        let at = place(protocol, port);
        let behind = starts.partition_point(|start| *start <= at);
        // The first of a list is 0; of no list, there is none behind.
        match behind.checked_sub(1) {
            Some(entry) => self.values.get(first + entry).copied().unwrap_or_default(),
            None => Mapped::default(),
        }
    }

    /// Bytes of the tables.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let prefixes = self.prefixes.as_ref().map_or(0, Lpm::memory_bytes);
        let ports = self.ports.as_ref().map_or(0, PortSet::memory_bytes);
        let lists = ports + size_of_val(&*self.lists);
        prefixes + lists + size_of_val(&*self.starts) + size_of_val(&*self.values)
    }
}

/// The ports of all rules, if every rule has some.
fn named_ports<'a>(rules: impl Iterator<Item = &'a Rule>) -> Option<PortSet> {
    let mut named = PortSet::default();
    for rule in rules {
        named.extend(rule.ports.clone()?);
    }
    Some(named)
}

/// Where a port lies on the line of all protocols and ports.
#[inline(always)]
fn place(protocol: u8, port: u16) -> u32 {
    u32::from(protocol) << 16 | u32::from(port)
}

impl Rule {
    /// Later ones are painted over earlier ones: a narrower range counts more, then a protocol.
    fn rank(&self) -> (i32, bool) {
        let width = match &self.ports {
            Some(ports) => i32::from(*ports.end()) - i32::from(*ports.start()),
            None => i32::MAX,
        };
        (-width, self.protocol.is_some())
    }

    fn paint(&self, painted: &mut Painted) {
        let Self {
            ports,
            protocol,
            id,
        } = self;
        match (ports, protocol) {
            (None, None) => paint(painted, 0, place(u8::MAX, u16::MAX), Mapped(*id)),
            (None, Some(protocol)) => {
                let (from, to) = (place(*protocol, 0), place(*protocol, u16::MAX));
                paint(painted, from, to, Mapped(*id));
            }
            (Some(ports), _) => {
                let protocols = match protocol {
                    Some(protocol) => std::slice::from_ref(protocol),
                    None => &WITH_PORTS,
                };
                for protocol in protocols {
                    let from = place(*protocol, *ports.start());
                    let to = place(*protocol, *ports.end());
                    paint(painted, from, to, Mapped(*id | Mapped::OF_PORT));
                }
            }
        }
    }
}

/// Makes `from..=to` of the line `value`.
fn paint(painted: &mut Painted, from: u32, to: u32, value: Mapped) {
    let behind = to + 1;
    let before = painted
        .range(..=behind)
        .next_back()
        .map(|(_, value)| *value);
    let is_end = to == place(u8::MAX, u16::MAX);
    if let Some(before) = before.filter(|_| !is_end) {
        painted.entry(behind).or_insert(before);
    }
    let covered: Vec<u32> = painted.range(from..=to).map(|(start, _)| *start).collect();
    for start in covered {
        painted.remove(&start);
    }
    painted.insert(from, value);
}

#[cfg(test)]
mod tests;
