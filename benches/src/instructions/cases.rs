//! What is counted: a second pass over the same datagrams, but for sequence numbers that go on, or
//! the same flows or batch, when templates are known, tables have grown and buffers are there.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use flowsluice::batch::Batch;
use flowsluice::config;
use flowsluice::decode::sequence::SequenceTotals;
use flowsluice::decode::{BURST_FLOWS, Decoder, FlowSink, Shared};
use flowsluice::flow::Flow;
use flowsluice::generate::Protocols;
use flowsluice::ledger::WorkerCounts;
use flowsluice::receive::Datagram;
use flowsluice::store::Encoder;
use flowsluice::units::UnixNanos;
use flowsluice_tests::wire;

use crate::streams::{Recipe, Stream};

/// A piece of work; its name is its key in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// NetFlow v5: fixed records.
    DecodeNetflow5,
    /// NetFlow v9: templates of 20 fields, IPv4.
    DecodeNetflow9,
    /// NetFlow v9: IPv6 alone.
    DecodeNetflow9Ipv6,
    /// IPFIX: fixed lengths, IPv4.
    DecodeIpfix,
    /// IPFIX: records with a field of variable length.
    DecodeIpfixVariable,
    /// sFlow: flow samples with raw headers.
    DecodeSflow5,
    /// Flows into the columns of a batch.
    BatchAppend,
    /// A batch as a Native block, LZ4-compressed.
    BlockEncode,
}

impl Case {
    /// As the file and the command line write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DecodeNetflow5 => "decode_netflow5",
            Self::DecodeNetflow9 => "decode_netflow9",
            Self::DecodeNetflow9Ipv6 => "decode_netflow9_ipv6",
            Self::DecodeIpfix => "decode_ipfix",
            Self::DecodeIpfixVariable => "decode_ipfix_variable",
            Self::DecodeSflow5 => "decode_sflow5",
            Self::BatchAppend => "batch_append",
            Self::BlockEncode => "block_encode",
        }
    }

    /// Does it; yields the flows of the part that is counted.
    ///
    /// # Errors
    /// When traffic cannot be made, or flows are lost on the way.
    pub fn run(self) -> Result<u64> {
        match self {
            Self::DecodeNetflow5 => decode(Protocols::Netflow5, 0.0),
            Self::DecodeNetflow9 => decode(Protocols::Netflow9, 0.0),
            Self::DecodeNetflow9Ipv6 => decode(Protocols::Netflow9, 1.0),
            Self::DecodeIpfix => decode(Protocols::Ipfix, 0.0),
            Self::DecodeIpfixVariable => decode_variable(),
            Self::DecodeSflow5 => decode(Protocols::Sflow5, 0.0),
            Self::BatchAppend => append(),
            Self::BlockEncode => encode(),
        }
    }
}

/// Export datagrams of a case, bytes: some thousand flows.
const BYTES: usize = 256 << 10;
/// When all of it happens: the same at every run.
const START: UnixNanos = UnixNanos(1_750_000_000_000_000_000);

/// The one function that callgrind counts in, by its name; not inlined, so that it has one.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Takes flows as a worker's sink does, and forgets them.
struct Forget;

impl FlowSink for Forget {
    #[inline]
    fn flows(&mut self, flows: &mut [Flow]) {
        black_box(flows);
    }
}

/// Keeps flows.
struct Keep(Vec<Flow>);

impl FlowSink for Keep {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

fn stream(protocols: Protocols, ipv6: f64) -> Result<Stream> {
    let recipe = Recipe {
        protocols,
        ipv6,
        exporters: 4,
        bytes: BYTES,
        ..Recipe::default()
    };
    Stream::new(&recipe, START)
}

fn decoder(shared: &Arc<Shared>) -> Decoder {
    Decoder::new(&config::Decode::default(), &[], Arc::clone(shared))
}

fn decode(protocols: Protocols, ipv6: f64) -> Result<u64> {
    let first = stream(protocols, ipv6)?;
    let mut second = first.clone();
    second.go_on();
    let before: Vec<_> = first.announcements(START).chain(data(&first)).collect();
    let datagrams: Vec<_> = data(&second).collect();
    decode_after(&before, &datagrams, second.data().flows())
}

fn data(stream: &Stream) -> impl Iterator<Item = Datagram<'_>> {
    let data = stream.data();
    (0..data.len()).map(move |index| data.get(index, START))
}

/// Counts the decoding of `datagrams`, which go on where `before` ended.
fn decode_after(before: &[Datagram<'_>], datagrams: &[Datagram<'_>], flows: u64) -> Result<u64> {
    let shared = Arc::default();
    let mut decoder = decoder(&shared);
    let mut counts = WorkerCounts::default();
    for datagram in before {
        decoder.decode(datagram, &mut counts, &mut Forget);
    }
    let before = counts.flows_decoded;
    measured(|| {
        for datagram in datagrams {
            decoder.decode(datagram, &mut counts, &mut Forget);
        }
    });
    let decoded = counts.flows_decoded - before;
    ensure!(decoded == flows, "{decoded} of {flows} flows were decoded");
    for (_, sequence) in shared.sequences() {
        sequence.finish();
    }
    let gaps = shared.sequence_totals();
    ensure!(
        gaps == SequenceTotals::default(),
        "sequence numbers did not go on: {gaps:?}"
    );
    Ok(decoded)
}

/// The simulator has no fields of variable length, so these messages are made by hand: ten fields,
/// the last of them interfaceName (82), as a firewall sends it.
fn decode_variable() -> Result<u64> {
    const FIELDS: [(u16, u16); 10] = [
        (8, 4),
        (12, 4),
        (7, 2),
        (11, 2),
        (4, 1),
        (1, 8),
        (2, 8),
        (152, 8),
        (153, 8),
        (82, u16::MAX),
    ];
    const RECORDS: u8 = 24;
    const MESSAGES: usize = 100;
    const NAME: &[u8] = b"ge-0/0/1";
    let mut template = [256_u16.to_be_bytes(), (FIELDS.len() as u16).to_be_bytes()].concat();
    for (id, length) in FIELDS {
        template.extend([id.to_be_bytes(), length.to_be_bytes()].concat());
    }
    let start_ms = START.millis();
    let mut records = Vec::new();
    for record in 0..RECORDS {
        records.extend([10, 0, 0, record, 192, 0, 2, record, 1, 187, 200, record, 6]);
        for number in [1500 * u64::from(record), 3, start_ms, start_ms + 9] {
            records.extend(number.to_be_bytes());
        }
        records.push(NAME.len() as u8);
        records.extend(NAME);
    }
    // The announcement has number 1 and no data record.
    let mut messages = vec![wire::ipfix(None, &[(2, template)])];
    let message = wire::ipfix(None, &[(256, records)]);
    for index in 0..2 * MESSAGES as u32 {
        let number = 1 + index * u32::from(RECORDS);
        let mut message = message.clone();
        message[8..12].copy_from_slice(&number.to_be_bytes());
        messages.push(message);
    }
    let datagrams: Vec<_> = messages.iter().map(|message| datagram(message)).collect();
    let (before, datagrams) = datagrams.split_at(1 + MESSAGES);
    decode_after(before, datagrams, u64::from(RECORDS) * MESSAGES as u64)
}

fn datagram(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: [127, 0, 0, 2].into(),
        source_port: 50_000,
        local_port: 4739,
        received: START,
        payload,
        cut: false,
    }
}

/// Flows as they are stored: those of the default mixture of protocols and families.
fn flows() -> Result<Vec<Flow>> {
    let Recipe {
        protocols, ipv6, ..
    } = Recipe::default();
    let stream = stream(protocols, ipv6)?;
    let data = stream.data();
    let (mut decoder, mut counts) = (decoder(&Arc::default()), WorkerCounts::default());
    for datagram in stream.announcements(START) {
        decoder.decode(&datagram, &mut counts, &mut Forget);
    }
    let mut kept = Keep(Vec::new());
    for index in 0..data.len() {
        decoder.decode(&data.get(index, START), &mut counts, &mut kept);
    }
    let (kept, made) = (kept.0, data.flows());
    ensure!(
        kept.len() as u64 == made,
        "{} of {made} flows were decoded",
        kept.len()
    );
    Ok(kept)
}

fn append() -> Result<u64> {
    let flows = flows()?;
    let mut batch = Batch::new(flows.len());
    fill(&mut batch, &flows);
    batch.clear();
    measured(|| fill(&mut batch, &flows));
    Ok(batch.rows() as u64)
}

fn encode() -> Result<u64> {
    let flows = flows()?;
    let mut batch = Batch::new(flows.len());
    fill(&mut batch, &flows);
    let mut encoder = Encoder::default();
    let mut encode = || {
        encoder.add(&mut batch);
        encoder.finish(String::new())
    };
    drop(black_box(encode()));
    let block = measured(encode);
    Ok(block.rows)
}

fn fill(batch: &mut Batch, flows: &[Flow]) {
    for burst in flows.chunks(BURST_FLOWS) {
        batch.append(burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_flows_and_the_name_of_the_command_line() {
        for case in Case::value_variants() {
            let flows = case.run().unwrap();
            assert!((1000..10_000).contains(&flows), "{case:?}: {flows}");
            let value = case.to_possible_value().unwrap();
            assert_eq!(value.get_name(), case.name());
        }
    }
}
