//! NetFlow version 5: a header of 24 bytes and up to 30 records of 48.
//!
//! Versions 1 and 7 begin their headers and records alike, so what the three have in common stands
//! here. Spec: Cisco, "NetFlow Export Datagram Formats".

use super::exporters::{Domain, Rate};
use super::record::{Clock, icmp_from_port};
use super::{Burst, Cursor, FlowSink};
use crate::flow::{Address, Flow, SamplingSource};
use crate::ledger::{DropReason, WorkerCounts};

/// The version in the first two bytes.
pub const VERSION: u16 = 5;

const RECORD: usize = 48;

/// Records that a datagram may have: one of 1464 bytes. More are taken when they are there.
const RECORDS_MAX: usize = 30;

/// A header of version 1, 5 or 7.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Engine type in the upper byte, engine id in the lower; 0 where the version has none.
    pub engine: u32,
    /// Flows of this engine before the first one here; version 1 does not tell it.
    pub sequence: Option<u32>,
    /// Records announced.
    pub count: u16,
    /// The exporter's clocks.
    pub clock: Clock,
    /// Out of the two bits of mode and 14 of interval; versions 1 and 7 do not tell it.
    pub rate: Option<Rate>,
    /// What follows the header.
    pub records: &'a [u8],
}

/// Reads the header.
///
/// # Errors
/// [`DropReason::DatagramTruncated`] when there is less than a header.
#[inline(always)]
pub fn header(payload: &[u8]) -> Result<Header<'_>, DropReason> {
    fields(payload).ok_or(DropReason::DatagramTruncated)
}

/// Inlined for certain: as a function of its own, which it became when it had a second caller, its
/// result went through memory, and a flow of v5 took 27 % more instructions.
#[inline(always)]
fn fields(payload: &[u8]) -> Option<Header<'_>> {
    const INTERVAL_BITS: u16 = 0x3fff;
    let mut cursor = Cursor::new(payload);
    let (count, clock) = count_and_clock(&mut cursor)?;
    let sequence = cursor.u32()?;
    let engine = u32::from(cursor.u16()?);
    let interval = u32::from(cursor.u16()? & INTERVAL_BITS);
    Some(Header {
        engine,
        sequence: Some(sequence),
        count,
        clock,
        rate: (interval > 0).then_some((interval, SamplingSource::Header)),
        records: cursor.rest(),
    })
}

/// The first 16 bytes of a header: version, count and clocks.
#[inline(always)]
pub fn count_and_clock(cursor: &mut Cursor<'_>) -> Option<(u16, Clock)> {
    let (_version, count) = (cursor.u16()?, cursor.u16()?);
    let uptime_ms = cursor.u32()?;
    let (export_s, export_ns) = (cursor.u32()?, cursor.u32()?);
    let clock = Clock {
        export_ms: u64::from(export_s) * 1000 + u64::from(export_ns / 1_000_000),
        // 0 is what exporters send that do not know it.
        uptime_ms: (uptime_ms != 0).then_some(uptime_ms),
    };
    Some((count, clock))
}

/// Decodes the records.
pub fn decode<S: FlowSink>(
    header: &Header<'_>,
    domain: &mut Domain,
    counts: &mut WorkerCounts,
    burst: &mut Burst<'_, S>,
) {
    decode_records::<RECORD, S>(header, RECORDS_MAX, record, domain, counts, burst);
}

/// Decodes records of `RECORD` bytes, each by `read`. The header's count says how many there are:
/// those that the datagram lacks are counted as truncated, as far as a datagram may have them at
/// all (`records_max`); bytes after the last one are not looked at.
#[inline(always)]
pub fn decode_records<const RECORD: usize, S: FlowSink>(
    header: &Header<'_>,
    records_max: usize,
    read: impl Fn(&[u8; RECORD], &Clock, &mut Flow) -> Option<()>,
    domain: &mut Domain,
    counts: &mut WorkerCounts,
    burst: &mut Burst<'_, S>,
) {
    let Header {
        count,
        clock,
        rate,
        records,
        ..
    } = header;
    let present = records.len() / RECORD;
    let announced = usize::from(*count).min(present.max(records_max));
    counts.records_present += announced as u64;
    if present < announced {
        let lacking = announced - present;
        counts.drop_many(DropReason::RecordTruncated, lacking as u64);
    }
    let rate = domain.of_header(*rate);
    domain.observe(None, rate);
    // The records write the rest of the addresses.
    let addr = Address::from_v4([0; 4]);
    let mut base = Flow {
        src_addr: addr,
        dst_addr: addr,
        next_hop: addr,
        ..*domain.base()
    };
    if let Some(rate) = rate {
        (base.sampling_rate, base.sampling_source) = rate;
    }
    let (mut rest, _) = records.as_chunks::<RECORD>();
    rest = &rest[..announced.min(present)];
    while !rest.is_empty() {
        let flows = burst.next_many(rest.len(), &base, counts);
        let (now, later) = rest.split_at(flows.len());
        for (bytes, flow) in now.iter().zip(flows) {
            let is_read = read(bytes, clock, flow).is_some();
            debug_assert!(is_read, "a record is as long as its fields");
        }
        counts.records_decoded += now.len() as u64;
        rest = later;
    }
}

/// Reads one record. An array is read to its end, so every read of the cursor succeeds and the
/// compiler drops the checks.
#[inline(always)]
fn record(bytes: &[u8; RECORD], clock: &Clock, flow: &mut Flow) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    addresses_to_ports(&mut cursor, clock, flow)?;
    flags_to_masks(&mut cursor, flow)
}

/// The first 36 bytes of a record, which versions 1 and 7 have too.
#[inline(always)]
pub fn addresses_to_ports(cursor: &mut Cursor<'_>, clock: &Clock, flow: &mut Flow) -> Option<()> {
    flow.src_addr.set_v4(cursor.array()?);
    flow.dst_addr.set_v4(cursor.array()?);
    flow.next_hop.set_v4(cursor.array()?);
    flow.in_if = u32::from(cursor.u16()?);
    flow.out_if = u32::from(cursor.u16()?);
    flow.raw_packets = u64::from(cursor.u32()?);
    flow.raw_bytes = u64::from(cursor.u32()?);
    let (first, last) = (cursor.u32()?, cursor.u32()?);
    let clock = clock.or_uptime(last);
    flow.flow_start_ms = clock.at_uptime(first);
    flow.flow_end_ms = clock.at_uptime(last);
    flow.src_port = cursor.u16()?;
    flow.dst_port = cursor.u16()?;
    Some(())
}

/// The ten bytes behind them, which version 7 has too.
#[inline(always)]
pub fn flags_to_masks(cursor: &mut Cursor<'_>, flow: &mut Flow) -> Option<()> {
    let [_, tcp_flags, protocol, tos] = cursor.array()?;
    flow.tcp_flags = u16::from(tcp_flags);
    flow.protocol = protocol;
    flow.tos = tos;
    flow.src_as = u32::from(cursor.u16()?);
    flow.dst_as = u32::from(cursor.u16()?);
    [flow.src_mask, flow.dst_mask] = cursor.array()?;
    icmp_from_port(flow);
    Some(())
}
