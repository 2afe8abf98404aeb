//! Decodes sFlow version 5 datagrams.
//!
//! In: one datagram. Out: one flow for each flow sample, whatever its records are, and the counters
//! of each counter sample and the packet of each sample of a discarded one, beside the flows.
//! Drops: `datagram_truncated`, `version_unknown`, `header_malformed`, `sample_malformed`,
//! `sample_unknown`, `record_truncated`, `side_backlog`.
//! Specs: "sFlow Version 5" (<https://sflow.org/sflow_version_5.txt>), "sFlow Discarded Packet
//! Notification Structures" (<https://sflow.org/sflow_drops.txt>).

mod counters;
mod discards;
mod losses;
mod record;

use super::{Burst, Cursor, FlowSink};
use crate::config::Tunnels;
use crate::flow::{Address, Flow, SamplingSource};
use crate::ledger::{DropReason, WorkerCounts};
pub use counters::{COUNTER_SAMPLES_MAX, CounterQueue, IfDirection, IfStatus, InterfaceCounters};
pub use discards::{DISCARDS_MAX, DiscardQueue, DiscardedPacket};
pub use losses::{Agent, Run, SAID_BYTES, Said};
use record::{Records, Written};

const VERSION: u32 = 5;
const ADDRESS_IPV4: u32 = 1;
const ADDRESS_IPV6: u32 = 2;

/// Sample formats of enterprise 0.
mod format {
    pub const FLOW: u32 = 1;
    pub const COUNTERS: u32 = 2;
    pub const FLOW_EXPANDED: u32 = 3;
    pub const COUNTERS_EXPANDED: u32 = 4;
    pub const DISCARDED: u32 = 5;
}

/// Samples that a datagram can hold: 65,527 bytes in samples of 8. A header that announces more is
/// not believed, and not counted beyond this.
const SAMPLES_MAX: u32 = 8190;

/// Compact interfaces keep their format in the top two bits (sFlow v5, `interface`).
const INTERFACE_FORMAT_SHIFT: u32 = 30;
const INTERFACE_VALUE_MASK: u32 = 0x3fff_ffff;
const INTERFACE_DISCARDED: u32 = 1;

/// Compact data sources keep their class in the top byte (sFlow v5, `sflow_data_source`).
const SOURCE_CLASS_SHIFT: u32 = 24;
const SOURCE_INDEX_MASK: u32 = 0x00ff_ffff;

/// What the datagram's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The agent's own address.
    pub agent: Address,
    /// Which of the agent's processes sent it.
    pub sub_agent: u32,
    /// Datagrams of this sub-agent before this one.
    pub sequence: u32,
    /// Milliseconds since the agent started.
    pub uptime_ms: u32,
    /// Samples announced.
    pub samples: u32,
}

/// What samples tell beside flows, on its way to the store.
#[derive(Debug, Default)]
pub struct Beside {
    /// Counter samples.
    pub counters: CounterQueue,
    /// Samples of discarded packets.
    pub discards: DiscardQueue,
}

/// What a datagram is decoded with.
#[derive(Debug)]
pub struct Context<'a> {
    /// What each flow begins as; it is completed by what the header says, and its receive time
    /// becomes its start and end.
    pub base: &'a mut Flow,
    /// Which packet of a tunnel is the flow.
    pub tunnels: Tunnels,
    /// Where samples go that are no flows.
    pub beside: &'a Beside,
    /// Where it is told what the agent dropped, if that is followed.
    pub agent: Option<Agent<'a>>,
}

/// Decodes the samples of a datagram. Samples count in `counts`; a flow sample is present as soon
/// as its type and length are read. Yields the sampling rate of the last flow sample, 0 when there
/// is none.
pub fn decode<S: FlowSink>(
    header: &Header,
    mut cursor: Cursor<'_>,
    mut context: Context<'_>,
    counts: &mut WorkerCounts,
    burst: &mut Burst<'_, S>,
) -> u32 {
    let Beside { counters, discards } = context.beside;
    complete_base(context.base, header);
    let mut sampling_rate_last = 0;
    for seen in 0..header.samples {
        let (Some(kind), Some(length)) = (cursor.u32(), cursor.u32()) else {
            // What kind they are is not known, so they are no records that are missing.
            let missing = (header.samples - seen).min(SAMPLES_MAX);
            counts.drop_many(DropReason::SampleMalformed, u64::from(missing));
            break;
        };
        // The enterprise is in the upper 20 bits: those of others equal no format.
        let is_flow = matches!(kind, format::FLOW | format::FLOW_EXPANDED);
        counts.records_present += u64::from(is_flow);
        let Some(sample) = cursor.bytes(length as usize) else {
            let missing = header.samples - seen - u32::from(is_flow);
            if is_flow {
                counts.drop_one(DropReason::RecordTruncated);
            }
            let missing = missing.min(SAMPLES_MAX);
            counts.drop_many(DropReason::SampleMalformed, u64::from(missing));
            break;
        };
        match kind {
            format::FLOW | format::FLOW_EXPANDED => {
                let is_expanded = kind == format::FLOW_EXPANDED;
                match flow_sample(sample, is_expanded, &mut context, counts, burst) {
                    Some(sampling_rate) => sampling_rate_last = sampling_rate,
                    None => counts.drop_one(DropReason::RecordTruncated),
                }
            }
            format::COUNTERS => counters::decode(sample, false, context.base, counters, counts),
            format::COUNTERS_EXPANDED => {
                counters::decode(sample, true, context.base, counters, counts);
            }
            format::DISCARDED => {
                discards::decode(sample, context.base, context.tunnels, discards, counts);
            }
            _ => counts.drop_one(DropReason::SampleUnknown),
        }
    }
    sampling_rate_last
}

/// Reads the header of a datagram, and yields the samples behind it, still undecoded.
///
/// # Errors
/// The reason why the datagram as a whole is dropped, for the caller to count.
pub fn header(payload: &[u8]) -> Result<(Header, Cursor<'_>), DropReason> {
    const CUT: DropReason = DropReason::DatagramTruncated;
    let mut cursor = Cursor::new(payload);
    if cursor.u32().ok_or(CUT)? != VERSION {
        return Err(DropReason::VersionUnknown);
    }
    let agent = match cursor.u32().ok_or(CUT)? {
        ADDRESS_IPV4 => cursor.array().map(Address::from_v4),
        ADDRESS_IPV6 => cursor.array().map(Address),
        _ => return Err(DropReason::HeaderMalformed),
    };
    let agent = agent.ok_or(CUT)?;
    let [sub_agent, sequence, uptime_ms, samples] = cursor.words().ok_or(CUT)?;
    let header = Header {
        agent,
        sub_agent,
        sequence,
        uptime_ms,
        samples,
    };
    Ok((header, cursor))
}

/// Adds to `base` what all flows of the datagram have in common.
fn complete_base(base: &mut Flow, header: &Header) {
    // A sampled packet passed when it was sampled, and agents send within a second of that.
    let received_ms = match base.flow_end_ms {
        0 => u64::from(base.time_received_s) * 1000,
        known => known,
    };
    const UNSPECIFIED_V4: Address = Address::from_v4([0; 4]);
    base.exporter_addr = match header.agent {
        Address::UNKNOWN | UNSPECIFIED_V4 => base.exporter_source,
        agent => agent,
    };
    base.observation_domain = header.sub_agent;
    base.flow_start_ms = received_ms;
    base.flow_end_ms = received_ms;
    base.raw_packets = 1;
}

/// Writes a flow sample to a flow of its own and yields its sampling rate; `None` when it is
/// shorter than its fixed fields. A function of its own, so that what the loop over samples keeps
/// does not take the registers from it.
#[inline(never)]
fn flow_sample<S: FlowSink>(
    sample: &[u8],
    is_expanded: bool,
    context: &mut Context<'_>,
    counts: &mut WorkerCounts,
    burst: &mut Burst<'_, S>,
) -> Option<u32> {
    let sample = FlowSample::read(sample, is_expanded)?;
    if let Some(agent) = &mut context.agent {
        agent.dropped(sample.source, sample.drops);
    }
    let flow = burst.next(context.base, counts);
    sample.write(flow, context.base, context.tunnels, counts);
    Some(sample.sampling_rate)
}

/// A flow sample: its fixed fields, and the records behind them.
#[derive(Clone, Copy, Debug)]
struct FlowSample<'a> {
    /// Class of its data source in the upper 32 bits, its index in the lower.
    source: u64,
    sampling_rate: u32,
    /// Samples of the source that the agent dropped since its start.
    drops: u32,
    in_if: u32,
    out_if: u32,
    forwarding_status: u8,
    records: Records<'a>,
}

impl<'a> FlowSample<'a> {
    /// `None` when the sample is shorter than its fixed fields.
    #[inline(always)]
    fn read(sample: &'a [u8], expanded: bool) -> Option<Self> {
        let mut cursor = Cursor::new(sample);
        // The sequence number comes first, the pool behind the rate.
        let (source, [sampling_rate, drops], [in_if, out_if], status, announced) = if expanded {
            let [
                _,
                class,
                index,
                rate,
                _,
                drops,
                in_format,
                input,
                out_format,
                output,
                announced,
            ] = cursor.words()?;
            let interfaces = [compact(in_format, input), compact(out_format, output)];
            let status = forwarding_status(out_format, output);
            let source = u64::from(class) << 32 | u64::from(index);
            (source, [rate, drops], interfaces, status, announced)
        } else {
            let [_, source, rate, _, drops, input, output, announced] = cursor.words()?;
            let reason = output & INTERFACE_VALUE_MASK;
            let status = forwarding_status(output >> INTERFACE_FORMAT_SHIFT, reason);
            let (class, index) = (source >> SOURCE_CLASS_SHIFT, source & SOURCE_INDEX_MASK);
            let source = u64::from(class) << 32 | u64::from(index);
            (source, [rate, drops], [input, output], status, announced)
        };
        Some(Self {
            source,
            sampling_rate,
            drops,
            in_if,
            out_if,
            forwarding_status: status,
            records: Records { cursor, announced },
        })
    }

    /// Writes it to `flow`, which is `base` so far.
    #[inline(always)]
    fn write(self, flow: &mut Flow, base: &Flow, tunnels: Tunnels, counts: &mut WorkerCounts) {
        counts.records_decoded += 1;
        self.write_fixed(flow);
        let in_order = match tunnels {
            Tunnels::Outer => self.records.write_in_order(flow),
            Tunnels::Inner => None,
        };
        let records = in_order.unwrap_or_else(|| self.write_again(flow, base, tunnels));
        counts.flow_records_skipped += u64::from(records.skipped);
        if records.is_cut {
            counts.drop_one(DropReason::SampleMalformed);
        }
    }

    /// Writes it to `flow`, whatever that is, with records in any order.
    #[cold]
    #[inline(never)]
    fn write_again(self, flow: &mut Flow, base: &Flow, tunnels: Tunnels) -> Written {
        flow.begin(base);
        self.write_fixed(flow);
        self.records.write_sorted(tunnels, flow)
    }

    #[inline]
    fn write_fixed(&self, flow: &mut Flow) {
        if self.sampling_rate != 0 {
            flow.sampling_rate = self.sampling_rate;
            flow.sampling_source = SamplingSource::Header;
        }
        flow.in_if = self.in_if;
        flow.out_if = self.out_if;
        flow.forwarding_status = self.forwarding_status;
    }
}

/// An interface of an expanded flow sample as the compact one says it, for both kinds of sample:
/// an ifIndex (format 0; 0x3fffffff for the device itself) is itself, and "discarded" (1, for the
/// reason `value`) and "several" (2, `value` of them) are told from it by their top bits. An
/// ifIndex of 2^30 and above, which only the expanded sample can say, stays itself.
const fn compact(format: u32, value: u32) -> u32 {
    match format {
        0 => value,
        format => format << INTERFACE_FORMAT_SHIFT | (value & INTERFACE_VALUE_MASK),
    }
}

/// IE 89 of a discarded packet, 0 of any other.
#[inline]
const fn forwarding_status(format: u32, value: u32) -> u8 {
    match format {
        INTERFACE_DISCARDED => forwarding_status_of(value),
        _ => 0,
    }
}

/// sFlow's reason for a discard (its values below 256 are ICMP's unreachable codes) as a reason of
/// IE 89, "dropped".
const fn forwarding_status_of(reason: u32) -> u8 {
    const DROPPED: u8 = 0b10 << 6;
    let reason = match reason {
        // Administratively prohibited, or an access list: ACL deny.
        9 | 10 | 13 | 258 => 1,
        // Net, host or route unreachable or unknown: unroutable.
        0 | 1 | 5..=8 | 11 | 12 => 3,
        // Too big: fragmentation needed and forbidden.
        4 | 262 => 5,
        // Time to live exceeded: bad TTL.
        257 => 9,
        // Traffic shaping: policer.
        261 => 10,
        // Random early detection: WRED.
        260 => 11,
        _ => 0,
    };
    DROPPED | reason
}

#[cfg(test)]
mod tests;
