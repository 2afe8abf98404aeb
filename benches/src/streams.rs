//! Export datagrams in memory, out of the exporter simulator.
//!
//! First the announcements: every datagram until each observation domain has sent its templates.
//! Then data datagrams, with the announcements that an exporter repeats among them. Several
//! exporters speak in turn, as in the traffic of a network. The data may be taken again and again:
//! [`Stream::go_on`] makes the exporters' sequence numbers go on from pass to pass.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use flowsluice::generate::{Profile, Protocols, Settings, Simulator, send};
use flowsluice::receive::Datagram;
use flowsluice::units::UnixNanos;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What the exporters speak.
    pub protocols: Protocols,
    /// What the flows look like.
    pub profile: Profile,
    /// The part of all flows that is IPv6, from 0 to 1.
    pub ipv6: f64,
    /// How many exporters there are.
    pub exporters: usize,
    /// IPv4 flows in a full datagram of NetFlow v9 or IPFIX.
    pub flows_per_datagram: u32,
    /// Bytes of all data datagrams, about.
    pub bytes: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        let Settings {
            protocols,
            profile,
            ipv6,
            exporters,
            flows_per_datagram,
            seed,
            ..
        } = Settings::default();
        Self {
            protocols,
            profile,
            ipv6,
            exporters,
            flows_per_datagram,
            bytes: BYTES_COLD,
            seed,
        }
    }
}

/// Datagrams that no second-level cache holds.
pub const BYTES_COLD: usize = 8 << 20;
/// Datagrams that a second-level cache of 512 KiB holds, beside the decoder's own memory.
pub const BYTES_WARM: usize = 128 << 10;

/// Flows a second of the simulated network: the clock of the exporters runs by it.
const FLOWS_PER_SECOND: u64 = 100_000;
/// Where the datagrams were sent to; listeners are not restricted to a protocol.
const LOCAL_PORT: u16 = 2055;
/// As a socket on the loopback network sees them.
const COLLECTOR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Datagrams in the order in which they were exported.
#[derive(Clone, Debug)]
pub struct Stream {
    payloads: Vec<u8>,
    places: Vec<Place>,
    /// How many of `places` announce what the others need.
    announcements: usize,
    flows: u64,
}

/// A datagram and who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Exported<'a> {
    /// Which exporter, from 0.
    pub exporter: usize,
    /// Flows in it.
    pub flows: u32,
    /// The UDP payload.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Place {
    exporter: usize,
    begin: usize,
    end: usize,
    flows: u32,
    /// What its domain's sequence number grows by in a pass over the data.
    stride: u32,
}

impl Stream {
    /// Simulates exporters from `start` on. The same recipe and start make the same bytes.
    ///
    /// # Errors
    /// When the simulator cannot do what the recipe wants, or a domain stays silent.
    pub fn new(recipe: &Recipe, start: UnixNanos) -> Result<Self> {
        let settings = Settings {
            protocols: recipe.protocols,
            profile: recipe.profile,
            ipv6: recipe.ipv6,
            exporters: recipe.exporters,
            flows_per_datagram: recipe.flows_per_datagram,
            seed: recipe.seed,
            ..Settings::default()
        };
        let mut simulator = Simulator::new(&settings, start)?;
        let mut stream = Self {
            payloads: Vec::with_capacity(recipe.bytes + (1 << 20)),
            places: Vec::new(),
            announcements: 0,
            flows: 0,
        };
        let domains = simulator.exporters().iter();
        let domains: usize = domains.map(|e| e.role.domains().len()).sum();
        stream.hear_all(&mut simulator, start, domains)?;
        stream.announcements = stream.places.len();
        let begin = stream.payloads.len();
        while stream.payloads.len() < begin + recipe.bytes {
            let place = stream.take(&mut simulator, start);
            stream.flows += u64::from(place.flows);
        }
        let (end, bytes) = (stream.places.len(), stream.payloads.len());
        stream.hear_all(&mut simulator, start, domains)?;
        stream.find_strides(end);
        stream.places.truncate(end);
        stream.payloads.truncate(bytes);
        Ok(stream)
    }

    /// Takes datagrams until each of so many domains has sent one.
    fn hear_all(
        &mut self,
        simulator: &mut Simulator,
        start: UnixNanos,
        domains: usize,
    ) -> Result<()> {
        let begin = self.places.len();
        let mut silent = Silent::new(domains);
        while silent.are_left() {
            let place = self.take(simulator, start);
            silent.heard(self.domain(&place));
            let taken = self.places.len() - begin;
            ensure!(
                taken < DOMAIN_SILENCE_MAX * domains,
                "an observation domain has sent nothing in {taken} datagrams; ask for fewer \
                 exporters"
            );
        }
        Ok(())
    }

    /// Finds what each domain's number grows by in a pass, whatever the protocol counts: from its
    /// first number of the data to the first one behind it, at `end`.
    fn find_strides(&mut self, end: usize) {
        let (data, behind) = self.places[self.announcements..].split_at(end - self.announcements);
        let firsts = |places: &[Place]| {
            let mut firsts = HashMap::new();
            for place in places {
                let number = number(&self.payloads[place.begin..place.end]);
                firsts.entry(self.domain(place)).or_insert(number);
            }
            firsts
        };
        let (first, next) = (firsts(data), firsts(behind));
        let stride = |place| {
            let domain = self.domain(place);
            next[&domain].wrapping_sub(first[&domain])
        };
        let strides: Vec<_> = data.iter().map(stride).collect();
        for (place, stride) in self.places[self.announcements..].iter_mut().zip(strides) {
            place.stride = stride;
        }
    }

    /// Which domain of which exporter.
    fn domain(&self, place: &Place) -> (usize, [u8; 4]) {
        (
            place.exporter,
            domain(&self.payloads[place.begin..place.end]),
        )
    }

    /// Between two passes over the data: its sequence numbers become those that the exporters go
    /// on with behind it.
    pub fn go_on(&mut self) {
        for place in &self.places[self.announcements..] {
            let payload = &mut self.payloads[place.begin..place.end];
            let next = number(payload).wrapping_add(place.stride);
            let at = number_at(payload);
            payload[at..at + 4].copy_from_slice(&next.to_be_bytes());
        }
    }

    fn take(&mut self, simulator: &mut Simulator, start: UnixNanos) -> Place {
        let passed_ns = simulator.totals().all.flows * (1_000_000_000 / FLOWS_PER_SECOND);
        let datagram = simulator.next(UnixNanos(start.0 + passed_ns));
        let begin = self.payloads.len();
        self.payloads.extend_from_slice(datagram.payload);
        let place = Place {
            exporter: datagram.exporter,
            begin,
            end: self.payloads.len(),
            flows: datagram.flows,
            stride: 0,
        };
        self.places.push(place);
        place
    }

    /// What a decoder must have seen before [`Stream::data`], received at `received`.
    pub fn announcements(&self, received: UnixNanos) -> impl Iterator<Item = Datagram<'_>> {
        let places = self.places[..self.announcements].iter();
        places.map(move |place| self.datagram(place, received))
    }

    /// All datagrams in the order of export, each with its exporter and the flows in it: first so
    /// many announcements, then data.
    pub fn exported(&self) -> (usize, impl Iterator<Item = Exported<'_>>) {
        let exported = self.places.iter().map(|place| Exported {
            exporter: place.exporter,
            flows: place.flows,
            payload: &self.payloads[place.begin..place.end],
        });
        (self.announcements, exported)
    }

    /// The datagrams to measure with; they may be taken again from the first, after
    /// [`Stream::go_on`].
    #[must_use]
    pub fn data(&self) -> Data<'_> {
        Data(self)
    }

    fn datagram(&self, place: &Place, received: UnixNanos) -> Datagram<'_> {
        Datagram {
            source: send::source_address(COLLECTOR, place.exporter),
            source_port: 50_000,
            local_port: LOCAL_PORT,
            received,
            payload: &self.payloads[place.begin..place.end],
            cut: false,
        }
    }
}

/// The datagrams of a [`Stream`] behind its announcements.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a>(&'a Stream);

impl<'a> Data<'a> {
    /// How many datagrams there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.places.len() - self.0.announcements
    }

    /// Never: a stream has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows in all of them.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.0.flows
    }

    /// Payload bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let first = self.0.places[self.0.announcements];
        self.0.payloads.len() - first.begin
    }

    /// Flows in datagram `index`.
    #[must_use]
    #[inline]
    pub fn flows_of(&self, index: usize) -> u64 {
        u64::from(self.0.places[self.0.announcements + index].flows)
    }

    /// Datagram `index`, received at `received`.
    ///
    /// # Panics
    /// When there is no such.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize, received: UnixNanos) -> Datagram<'a> {
        let place = &self.0.places[self.0.announcements + index];
        self.0.datagram(place, received)
    }
}

/// The bytes of the header that tell domains of one exporter apart: source id (RFC 3954 §5.1),
/// observation domain (RFC 7011 §3.1), sub-agent (sFlow v5, behind an IPv4 agent), or engine type
/// and id (NetFlow v5).
///
/// # Panics
/// When the datagram is shorter than its header.
#[must_use]
pub fn domain(payload: &[u8]) -> [u8; 4] {
    let at = match payload {
        [0, 5, ..] => return [payload[20], payload[21], 0, 0],
        [0, 9, ..] => 16,
        _ => 12,
    };
    [at, at + 1, at + 2, at + 3].map(|index| payload[index])
}

/// Where a header has the sequence number: NetFlow v5, v9 (RFC 3954 section 5.1), IPFIX (RFC 7011
/// section 3.1), sFlow v5 behind an IPv4 agent.
fn number_at(payload: &[u8]) -> usize {
    match payload {
        [0, 9, ..] => 12,
        [0, 10, ..] => 8,
        _ => 16,
    }
}

fn number(payload: &[u8]) -> u32 {
    let at = number_at(payload);
    u32::from_be_bytes([at, at + 1, at + 2, at + 3].map(|index| payload[index]))
}

/// Datagrams a domain until each must have spoken; the least of 50 exporters has a share of 0.1 %.
const DOMAIN_SILENCE_MAX: usize = 1000;

/// Which domains have not been heard yet.
struct Silent {
    left: usize,
    heard: Vec<(usize, [u8; 4])>,
}

impl Silent {
    fn new(domains: usize) -> Self {
        Self {
            left: domains,
            heard: Vec::new(),
        }
    }

    fn are_left(&self) -> bool {
        self.left > 0
    }

    fn heard(&mut self, domain: (usize, [u8; 4])) {
        if !self.heard.contains(&domain) {
            self.heard.push(domain);
            self.left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flowsluice::config;
    use flowsluice::decode::{Decoder, FlowSink, Shared};
    use flowsluice::flow::Flow;
    use flowsluice::ledger::{DropReason, WorkerCounts};

    use super::*;

    const START: UnixNanos = UnixNanos(1_750_000_000_000_000_000);

    struct Nothing;

    impl FlowSink for Nothing {
        fn flows(&mut self, _: &mut [Flow]) {}
    }

    /// Nothing was missing, late or repeated in any domain.
    fn assert_numbers_go_on(shared: &Shared, name: &str) {
        for (_, sequence) in shared.sequences() {
            sequence.finish();
        }
        let exporters = shared.exporters();
        assert!(!exporters.is_empty(), "{name}");
        for exporter in exporters {
            let counts = exporter.sequence.counts;
            let odd = [
                counts.lost,
                counts.duplicated,
                counts.reordered,
                counts.restarts,
            ];
            assert_eq!(odd, [0; 4], "{name}: {exporter:?}");
            assert!(counts.received > 0, "{name}: {exporter:?}");
        }
    }

    #[test]
    fn data_is_decoded_again_and_again_and_its_numbers_go_on() {
        let mut protocols = vec![Protocols::Mix, Protocols::Netflow5, Protocols::Netflow9];
        protocols.extend([Protocols::Ipfix, Protocols::Sflow5]);
        for protocols in protocols {
            let recipe = Recipe {
                protocols,
                bytes: BYTES_WARM,
                ..Recipe::default()
            };
            let mut stream = Stream::new(&recipe, START).unwrap();
            let bytes = stream.data().bytes();
            assert!((BYTES_WARM..BYTES_WARM + 1500).contains(&bytes));
            let shared = Arc::new(Shared::default());
            let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::clone(&shared));
            let mut counts = WorkerCounts::default();
            for datagram in stream.announcements(START) {
                decoder.decode(&datagram, &mut counts, &mut Nothing);
            }
            let before = counts.flows_decoded;
            for _ in 0..3 {
                let data = stream.data();
                for index in 0..data.len() {
                    let before = counts.flows_decoded;
                    decoder.decode(&data.get(index, START), &mut counts, &mut Nothing);
                    assert_eq!(counts.flows_decoded - before, data.flows_of(index));
                }
                stream.go_on();
            }
            assert_eq!(counts.flows_decoded - before, 3 * stream.data().flows());
            // Busy, then at leisure: the status is published.
            decoder.turn();
            decoder.turn();
            assert_numbers_go_on(&shared, &format!("{protocols:?}"));
            for &reason in DropReason::ALL {
                assert_eq!(counts.dropped(reason), 0, "{protocols:?}: {reason:?}");
            }
        }
    }
}
