//! The exporter simulator: realistic flows, encoded as NetFlow v5, v9, IPFIX and sFlow v5.
//!
//! In: a seed and the time. Out: one export datagram after the other, without end, and the sums of
//! what is in them. The same settings, seed and times make the same bytes. Nothing but the long
//! flows that are still open is kept, so a day of flows needs no more memory than a second.
//! Specs: RFC 3954, RFC 7011, sFlow v5.

mod exporters;
mod frame;
mod hosts;
mod ipfix;
mod netflow5;
mod netflow9;
mod services;
mod sflow;
mod stream;
mod totals;
mod traffic;
mod wire;

#[cfg(test)]
mod reader;

pub mod capture;
pub mod pace;
pub mod send;

use std::time::Duration;

use rand::distr::Distribution;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedAliasIndex;

pub use exporters::{Exporter, Role};
pub use totals::{Sums, Totals};

use crate::units::UnixNanos;
use hosts::scramble;
use stream::{Context, Order, Stream};
use traffic::Traffic;

/// The random numbers of a run: small, fast and the same on every machine.
type SimRng = rand::rngs::Xoshiro256PlusPlus;

/// What the flows look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// A campus: hosts and services by popularity, conversations of two flows, scans, elephants.
    #[default]
    Realistic,
    /// Every address and port at random: the worst case for caches and compression.
    Uniform,
}

/// Where a record's serial number stands. All protocols have both fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Numbered {
    /// In its source address: whoever looks at addresses sees a new host with every record.
    Source,
    /// In its next hop: addresses stay those of the profile.
    NextHop,
}

/// What one exporter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// NetFlow version 5.
    Netflow5,
    /// NetFlow version 9.
    Netflow9,
    /// IPFIX.
    Ipfix,
    /// sFlow version 5.
    Sflow5,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Netflow5, Self::Netflow9, Self::Ipfix, Self::Sflow5];

    /// As the command line and the column `flow_type` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netflow5 => "netflow5",
            Self::Netflow9 => "netflow9",
            Self::Ipfix => "ipfix",
            Self::Sflow5 => "sflow5",
        }
    }
}

/// What the exporters speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocols {
    /// 55 % of the flows NetFlow v9, 30 % IPFIX, 10 % sFlow and 5 % NetFlow v5.
    #[default]
    Mix,
    /// NetFlow v5 alone.
    Netflow5,
    /// NetFlow v9 alone.
    Netflow9,
    /// IPFIX alone.
    Ipfix,
    /// sFlow v5 alone.
    Sflow5,
}

impl Protocols {
    /// The one protocol that is spoken, if it is one.
    #[must_use]
    pub const fn only(self) -> Option<Protocol> {
        match self {
            Self::Mix => None,
            Self::Netflow5 => Some(Protocol::Netflow5),
            Self::Netflow9 => Some(Protocol::Netflow9),
            Self::Ipfix => Some(Protocol::Ipfix),
            Self::Sflow5 => Some(Protocol::Sflow5),
        }
    }
}

/// Version of the Internet Protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// Most exporters of a run: each has a socket of its own.
pub const EXPORTERS_MAX: usize = 4096;

/// Most flows of a NetFlow v9 or IPFIX datagram: 24 records of 60 bytes fill 1500.
pub const FLOWS_PER_DATAGRAM_MAX: u32 = 24;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What the flows look like.
    pub profile: Profile,
    /// What the exporters speak.
    pub protocols: Protocols,
    /// How many there are, at most [`EXPORTERS_MAX`].
    pub exporters: usize,
    /// Where the random numbers begin.
    pub seed: u64,
    /// IPv4 flows in a full NetFlow v9 or IPFIX datagram, at most [`FLOWS_PER_DATAGRAM_MAX`]; of
    /// IPv6 at most 15 fit. NetFlow v5 always has 30, sFlow 5 to 7 samples.
    pub flows_per_datagram: u32,
    /// The part of all flows that is IPv6, from 0 to 1. NetFlow v5 has none, the others more.
    pub ipv6: f64,
    /// Templates and options are sent again after so many datagrams of a domain...
    pub announce_datagrams: u32,
    /// ...or after this time, whichever comes first.
    pub announce_every: Duration,
    /// The part of one exporter's datagrams that is lost on the way, from 0 to 1. Its sequence
    /// numbers tell; the totals count them apart.
    pub loss: f64,
    /// The low 32 bits of this address of each record are its serial number: 1, 2 and so on over
    /// all exporters in the order of sending, those that are lost on purpose included. It comes out
    /// as it went in, and 2^32 flows go by until it wraps.
    pub number: Option<Numbered>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::Realistic,
            protocols: Protocols::Mix,
            exporters: 50,
            seed: 1,
            flows_per_datagram: FLOWS_PER_DATAGRAM_MAX,
            ipv6: 0.25,
            announce_datagrams: 500,
            announce_every: Duration::from_secs(60),
            loss: 0.0,
            number: None,
        }
    }
}

/// Settings that cannot be simulated.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// None, or more than there can be sockets for.
    #[error("{0} exporters are not possible; ask for 1 to {EXPORTERS_MAX}")]
    Exporters(usize),
    /// None, or more than fit.
    #[error("{0} flows do not fit a datagram of 1500 bytes; ask for 1 to {FLOWS_PER_DATAGRAM_MAX}")]
    FlowsPerDatagram(u32),
    /// Not a part of a whole.
    #[error("ipv6 is {0}; it is the part of all flows, from 0 to 1")]
    Ipv6(f64),
    /// So often that no flow would come in between.
    #[error("announcements every {0} datagrams or {1:?} leave no room; ask for 2 and 1s or more")]
    Announce(u32, Duration),
    /// Not a part of a whole.
    #[error("loss is {0}; it is the part of one exporter's datagrams, from 0 to below 1")]
    Loss(f64),
}

/// One export datagram; borrowed until the next is made.
#[derive(Clone, Copy, Debug)]
pub struct SimDatagram<'a> {
    /// Which exporter sends it, from 0.
    pub exporter: usize,
    /// What it speaks.
    pub protocol: Protocol,
    /// Data records or samples of flows in it; 0 when it only announces.
    pub flows: u32,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// All exporters of a run.
#[derive(Debug)]
pub struct Simulator {
    loss: f64,
    number: Option<Numbered>,
    context: Context,
    exporters: Vec<Exporter>,
    streams: Vec<Stream>,
    sources: Vec<Source>,
    next_source: WeightedAliasIndex<f64>,
    traffic: Traffic,
    rng: SimRng,
    buffer: Vec<u8>,
    totals: Totals,
}

/// What the next datagram is chosen from: a domain of an exporter, and what its records are.
#[derive(Clone, Copy, Debug)]
struct Source {
    stream: usize,
    family: Option<Family>,
}

impl Simulator {
    /// Exporters that have been up for days and whose first datagrams announce their templates.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(settings: &Settings, start: UnixNanos) -> Result<Self, SettingsError> {
        settings.check()?;
        let only = settings.protocols.only();
        let exporters = exporters::plan(only, settings.exporters, settings.seed, start.millis());
        let switches = exporters.iter().filter(|e| e.access.is_some()).count() as u32;
        let context = Context::new(settings, ipv6_elsewhere(settings.ipv6, &exporters));
        let mut streams = Vec::new();
        for (index, exporter) in exporters.iter().enumerate() {
            let domains = exporter.role.domains().iter();
            streams.extend(domains.map(|&domain| Stream::new(index, domain)));
        }
        let (sources, weights) = sources(&context, &exporters, &streams);
        Ok(Self {
            loss: settings.loss,
            number: settings.number,
            traffic: Traffic::new(settings.profile, switches, scramble(settings.seed)),
            totals: Totals::new(exporters.len()),
            next_source: WeightedAliasIndex::new(weights)
                .expect("every exporter has a positive share of the flows"),
            rng: SimRng::seed_from_u64(settings.seed),
            buffer: Vec::with_capacity(stream::PAYLOAD_MAX),
            context,
            exporters,
            streams,
            sources,
        })
    }

    /// The exporters, in the order of [`SimDatagram::exporter`].
    #[must_use]
    pub fn exporters(&self) -> &[Exporter] {
        &self.exporters
    }

    /// The sums of all datagrams that were handed out.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The next datagram, exported at `now`.
    pub fn next(&mut self, now: UnixNanos) -> SimDatagram<'_> {
        self.next_at_most(now, u32::MAX)
    }

    /// The next datagram with `flows_max` flows at most (at least one, or it only announces).
    pub fn next_at_most(&mut self, now: UnixNanos, flows_max: u32) -> SimDatagram<'_> {
        let (index, sums) = loop {
            let (index, sums) = self.build(now, flows_max.max(1));
            if !self.is_lost(index, &sums) {
                break (index, sums);
            }
            self.totals.lost.add(&sums);
        };
        let protocol = self.exporters[index].protocol;
        self.totals.add(protocol, index, &sums);
        SimDatagram {
            exporter: index,
            protocol,
            flows: sums.flows as u32,
            payload: &self.buffer,
        }
    }

    fn build(&mut self, now: UnixNanos, flows_max: u32) -> (usize, Sums) {
        let source = self.sources[self.next_source.sample(&mut self.rng)];
        let stream = &mut self.streams[source.stream];
        let index = stream.exporter();
        let made = self.totals.all.flows + self.totals.lost.flows;
        let order = Order {
            family: source.family,
            flows_max,
            now,
            number: self.number.map(|field| (field, made as u32 + 1)),
        };
        let exporter = &self.exporters[index];
        let traffic = &mut self.traffic;
        let sums = stream.build(&self.context, exporter, order, traffic, &mut self.buffer);
        (index, sums)
    }

    /// Announcements arrive always, so that what is lost is known to be flows.
    fn is_lost(&mut self, index: usize, sums: &Sums) -> bool {
        self.loss > 0.0 && index == 0 && sums.flows > 0 && self.rng.random_bool(self.loss)
    }
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        if !(1..=EXPORTERS_MAX).contains(&self.exporters) {
            return Err(SettingsError::Exporters(self.exporters));
        }
        if !(1..=FLOWS_PER_DATAGRAM_MAX).contains(&self.flows_per_datagram) {
            return Err(SettingsError::FlowsPerDatagram(self.flows_per_datagram));
        }
        if !(0.0..=1.0).contains(&self.ipv6) {
            return Err(SettingsError::Ipv6(self.ipv6));
        }
        if self.announce_datagrams < 2 || self.announce_every < Duration::from_secs(1) {
            let (datagrams, time) = (self.announce_datagrams, self.announce_every);
            return Err(SettingsError::Announce(datagrams, time));
        }
        if !(0.0..1.0).contains(&self.loss) {
            return Err(SettingsError::Loss(self.loss));
        }
        Ok(())
    }
}

/// The IPv6 part of those exporters that can carry it, so that the part of all flows is `ipv6`.
fn ipv6_elsewhere(ipv6: f64, exporters: &[Exporter]) -> f64 {
    let can = |e: &&Exporter| e.protocol != Protocol::Netflow5;
    let share: f64 = exporters.iter().filter(can).map(|e| e.share).sum();
    if share > 0.0 {
        (ipv6 / share).min(1.0)
    } else {
        0.0
    }
}

/// Each source of datagrams and how many datagrams it has for one flow of the whole.
fn sources(
    context: &Context,
    exporters: &[Exporter],
    streams: &[Stream],
) -> (Vec<Source>, Vec<f64>) {
    let mut sources = Vec::new();
    let mut weights = Vec::new();
    for (stream, state) in streams.iter().enumerate() {
        let exporter = &exporters[state.exporter()];
        let share = exporter.share / exporter.role.domains().len() as f64;
        for (family, part, flows) in context.datagrams(exporter.protocol) {
            sources.push(Source { stream, family });
            weights.push(share * part / flows);
        }
    }
    (sources, weights)
}

#[cfg(test)]
mod tests;
