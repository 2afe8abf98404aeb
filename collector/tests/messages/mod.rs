//! Export messages built by hand, for tests of the decoder.
#![allow(dead_code, reason = "each test binary uses its part of them")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::flow::Flow;
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::receive::Datagram;
use flowsluice::units::UnixNanos;

/// When every test datagram arrives.
pub const RECEIVED: UnixNanos = UnixNanos(1_700_000_000_500_000_000);
/// When every test message was exported, seconds.
pub const EXPORT_S: u32 = 1_700_000_000;
/// The uptime that every v5 and v9 header tells.
pub const UPTIME_MS: u32 = 5_000_000;

/// Keeps the flows.
#[derive(Default)]
pub struct Rows(pub Vec<Flow>);

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

/// `payload` from 192.0.2.1 to port 2055.
pub fn datagram(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        source_port: 50_000,
        local_port: 2055,
        received: RECEIVED,
        payload,
        cut: false,
    }
}

/// Sum of what the ledger cannot account for, were the flows left in an open batch.
pub fn unaccounted(counts: &WorkerCounts) -> u64 {
    let mut counts = *counts;
    counts.flows_batched = counts.flows_decoded;
    counts.flows_open = counts.flows_decoded;
    let ledger = Ledger::new(1);
    ledger.worker(0).publish(&counts);
    ledger.snapshot().unaccounted()
}

/// A set (v9: flow set) with its header.
pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 4).expect("a test set is short");
    [&id.to_be_bytes(), &len.to_be_bytes(), body].concat()
}

/// A template: fields as (element, length).
pub fn template(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let count = fields.len() as u16;
    let mut bytes = [id.to_be_bytes(), count.to_be_bytes()].concat();
    bytes.extend(specs(fields));
    bytes
}

/// A NetFlow v9 options template.
pub fn options_template_v9(id: u16, scopes: &[(u16, u16)], fields: &[(u16, u16)]) -> Vec<u8> {
    let lens = [scopes.len() as u16 * 4, fields.len() as u16 * 4];
    let mut bytes = [id, lens[0], lens[1]].map(u16::to_be_bytes).concat();
    bytes.extend(specs(scopes));
    bytes.extend(specs(fields));
    bytes
}

/// An IPFIX options template, `scopes` of the `fields` being scopes.
pub fn options_template_ipfix(id: u16, scopes: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = [id, fields.len() as u16, scopes]
        .map(u16::to_be_bytes)
        .concat();
    bytes.extend(specs(fields));
    bytes
}

fn specs(fields: &[(u16, u16)]) -> Vec<u8> {
    let pairs = fields.iter().flat_map(|(id, len)| [*id, *len]);
    pairs.flat_map(u16::to_be_bytes).collect()
}

/// A NetFlow v9 datagram of source 7.
pub fn netflow9(sets: &[Vec<u8>]) -> Vec<u8> {
    let count = sets.len() as u16;
    let mut bytes = [9, count].map(u16::to_be_bytes).concat();
    bytes.extend([UPTIME_MS, EXPORT_S, 1, 7].map(u32::to_be_bytes).concat());
    bytes.extend(sets.concat());
    bytes
}

/// An IPFIX message of domain 7.
pub fn ipfix(sets: &[Vec<u8>]) -> Vec<u8> {
    let body = sets.concat();
    let mut bytes = [10, body.len() as u16 + 16].map(u16::to_be_bytes).concat();
    bytes.extend([EXPORT_S, 1, 7].map(u32::to_be_bytes).concat());
    bytes.extend(body);
    bytes
}

/// A NetFlow v5 datagram that announces `count` records and has `present`.
pub fn netflow5(count: u16, present: u16, sampling: u16) -> Vec<u8> {
    let mut bytes = [5, count].map(u16::to_be_bytes).concat();
    bytes.extend([UPTIME_MS, EXPORT_S, 0, 1].map(u32::to_be_bytes).concat());
    bytes.extend([0x0203, sampling].map(u16::to_be_bytes).concat());
    for n in 0..present {
        bytes.extend(addresses_to_ports(n as u8));
        bytes.extend([0, 0x1b, 6, 0x20]);
        bytes.extend([64_500, 64_501].map(u16::to_be_bytes).concat());
        bytes.extend([24, 16, 0, 0]);
    }
    bytes
}

/// The same of NetFlow v1, without engine, sampling, systems and masks.
pub fn netflow1(count: u16, present: u16) -> Vec<u8> {
    let mut bytes = [1, count].map(u16::to_be_bytes).concat();
    bytes.extend([UPTIME_MS, EXPORT_S, 0].map(u32::to_be_bytes).concat());
    for n in 0..present {
        bytes.extend(addresses_to_ports(n as u8));
        bytes.extend([0, 0, 6, 0x20, 0x1b, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}

/// The same of NetFlow v7, with the flags and the router that a switch adds.
pub fn netflow7(count: u16, present: u16) -> Vec<u8> {
    let mut bytes = [7, count].map(u16::to_be_bytes).concat();
    bytes.extend(
        [UPTIME_MS, EXPORT_S, 0, 1, 0]
            .map(u32::to_be_bytes)
            .concat(),
    );
    for n in 0..present {
        bytes.extend(addresses_to_ports(n as u8));
        bytes.extend([0xff, 0x1b, 6, 0x20]);
        bytes.extend([64_500, 64_501].map(u16::to_be_bytes).concat());
        bytes.extend([24, 16, 0xff, 0xff, 10, 3, 0, 1]);
    }
    bytes
}

/// The first 36 bytes of record `n` of NetFlow v1, v5 and v7.
fn addresses_to_ports(n: u8) -> Vec<u8> {
    let mut bytes = vec![10, 0, 0, n, 10, 1, 0, n, 10, 2, 0, 1];
    bytes.extend([3, 4].map(u16::to_be_bytes).concat());
    let counters = [11, 1500, UPTIME_MS - 2000, UPTIME_MS - 1000];
    bytes.extend(counters.map(u32::to_be_bytes).concat());
    bytes.extend([1234, 443].map(u16::to_be_bytes).concat());
    bytes
}

/// Twenty fields that routers send, 65 bytes a record.
pub const TWENTY_FIELDS: [(u16, u16); 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (4, 1),
    (5, 1),
    (6, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
    (234, 4),
];

/// The template 256 of [`TWENTY_FIELDS`], of NetFlow v9.
pub fn twenty_field_template() -> Vec<u8> {
    set(0, &template(256, &TWENTY_FIELDS))
}

/// `count` records of [`TWENTY_FIELDS`].
pub fn twenty_field_records(count: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..count {
        bytes.extend([10, 0, 0, n, 10, 1, 0, n, 10, 2, 0, 1]);
        let numbers = [3, 4, 11, 1500, UPTIME_MS - 2000, UPTIME_MS - 1000];
        bytes.extend(numbers.map(u32::to_be_bytes).concat());
        bytes.extend([1234, 443].map(u16::to_be_bytes).concat());
        bytes.extend([6, 0x20, 0x1b]);
        bytes.extend([64_500, 64_501].map(u32::to_be_bytes).concat());
        bytes.extend([24, 16, 1]);
        bytes.extend(77u32.to_be_bytes());
    }
    bytes
}

/// An sFlow v5 datagram of agent 192.0.2.9 with `count` flow samples of a TCP segment.
pub fn sflow5(count: u32) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0x02, 0, 0, 1, 0, 0, 64, 6, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 1, 0, 1]);
    frame.extend([1234u16, 443].map(u16::to_be_bytes).concat());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
    sflow5_of(count, &frame)
}

/// The same with samples of `frame`.
pub fn sflow5_of(count: u32, frame: &[u8]) -> Vec<u8> {
    let record = raw_header(frame);
    let mut sample = [1, 3, 1000, 1000, 0, 3, 4, 1]
        .map(u32::to_be_bytes)
        .concat();
    sample.extend([1, record.len() as u32].map(u32::to_be_bytes).concat());
    sample.extend(record);
    sflow5_samples(&vec![(1, sample); count as usize])
}

/// An sFlow v5 datagram with the counters of an interface and a discarded packet: no flows.
pub fn sflow5_beside() -> Vec<u8> {
    let mut counters = [1, 3, 1, 1, 88].map(u32::to_be_bytes).concat();
    counters.extend([3; 22].map(u32::to_be_bytes).concat());
    let record = raw_header(&[0x02; 60]);
    let mut discard = [1, 0, 3, 0, 3, 4, 258, 1].map(u32::to_be_bytes).concat();
    discard.extend([1, record.len() as u32].map(u32::to_be_bytes).concat());
    discard.extend(record);
    sflow5_samples(&[(2, counters), (5, discard)])
}

/// A raw packet header of Ethernet, 530 bytes on the wire with 4 stripped.
fn raw_header(frame: &[u8]) -> Vec<u8> {
    let mut record = [1, 530, 4, frame.len() as u32]
        .map(u32::to_be_bytes)
        .concat();
    record.extend(frame);
    record.resize(record.len().next_multiple_of(4), 0);
    record
}

/// An sFlow v5 datagram of samples: format and body.
fn sflow5_samples(samples: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = [5u32, 1].map(u32::to_be_bytes).concat();
    bytes.extend([192, 0, 2, 9]);
    let count = samples.len() as u32;
    bytes.extend([0, 1, UPTIME_MS, count].map(u32::to_be_bytes).concat());
    for (format, sample) in samples {
        bytes.extend(
            [*format, sample.len() as u32]
                .map(u32::to_be_bytes)
                .concat(),
        );
        bytes.extend(sample);
    }
    bytes
}

/// When the messages were exported, milliseconds since the epoch.
pub const EXPORT_MS: u64 = EXPORT_S as u64 * 1000;

/// A decoder with its counters and what came out of it.
pub struct Bench {
    pub decoder: Decoder,
    pub counts: WorkerCounts,
    pub rows: Rows,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(&config::Decode::default(), Arc::default())
    }

    pub fn with(config: &config::Decode, shared: Arc<Shared>) -> Self {
        Self {
            decoder: Decoder::new(config, &[], shared),
            counts: WorkerCounts::default(),
            rows: Rows::default(),
        }
    }

    /// Decodes and returns the new rows; the ledger must agree.
    pub fn decode(&mut self, payload: &[u8]) -> Vec<Flow> {
        self.take(&datagram(payload))
    }

    /// The same for a datagram from `source` that arrives `after_ms` after the others.
    pub fn decode_of(&mut self, source: Ipv4Addr, after_ms: u64, payload: &[u8]) -> Vec<Flow> {
        self.take(&Datagram {
            source: source.into(),
            received: UnixNanos(RECEIVED.0 + after_ms * 1_000_000),
            ..datagram(payload)
        })
    }

    pub fn take(&mut self, datagram: &Datagram<'_>) -> Vec<Flow> {
        let Self {
            decoder,
            counts,
            rows,
        } = self;
        decoder.decode(datagram, counts, rows);
        decoder.turn();
        assert_eq!(unaccounted(counts), 0, "{counts:?}");
        std::mem::take(&mut rows.0)
    }

    /// Ends its decoder: sets that wait for a template are given up and counted, if no decoder that
    /// shares what it knows goes on.
    pub fn end(&mut self) {
        self.decoder.finish(&mut self.counts);
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.counts.dropped(reason)
    }
}
