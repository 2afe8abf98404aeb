//! Sums of what was exported, to hold a collector's database against.

use super::Protocol;

/// Sums over some datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sums {
    /// UDP payloads.
    pub datagrams: u64,
    /// Flow records and flow samples in them.
    pub flows: u64,
    /// Octets of the flows, each multiplied by the sampling rate.
    pub bytes: u64,
    /// Packets of the flows, each multiplied by the sampling rate.
    pub packets: u64,
    /// Octets as they stand in the records.
    pub raw_bytes: u64,
    /// Packets as they stand in the records.
    pub raw_packets: u64,
}

impl Sums {
    /// Adds one flow of `packets` and `octets` as the record has them.
    #[inline]
    pub fn add_flow(&mut self, packets: u32, octets: u32, sampling_rate: u32) {
        self.flows += 1;
        self.raw_packets += u64::from(packets);
        self.raw_bytes += u64::from(octets);
        self.packets += u64::from(packets) * u64::from(sampling_rate);
        self.bytes += u64::from(octets) * u64::from(sampling_rate);
    }

    /// Adds other sums.
    #[inline]
    pub fn add(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.flows += other.flows;
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.raw_bytes += other.raw_bytes;
        self.raw_packets += other.raw_packets;
    }
}

/// The sums of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Everything that was handed out.
    pub all: Sums,
    /// The same by exporter.
    pub by_exporter: Vec<Sums>,
    /// Lost on the way on purpose, not in the others.
    pub lost: Sums,
    by_protocol: [Sums; Protocol::ALL.len()],
}

impl Totals {
    /// Nothing yet, of so many exporters.
    pub(super) fn new(exporters: usize) -> Self {
        Self {
            by_exporter: vec![Sums::default(); exporters],
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, protocol: Protocol, exporter: usize, sums: &Sums) {
        self.all.add(sums);
        self.by_protocol[protocol as usize].add(sums);
        self.by_exporter[exporter].add(sums);
    }

    /// The sums of one protocol.
    #[must_use]
    pub fn of(&self, protocol: Protocol) -> &Sums {
        &self.by_protocol[protocol as usize]
    }
}
