//! NetFlow version 5: a header of 24 bytes and up to 30 records of 48.

use super::exporters::{Domain, Rate};
use super::record::{Clock, icmp_from_port};
use super::{Burst, Cursor, FlowSink};
use crate::flow::{Address, Flow, SamplingSource};
use crate::ledger::{DropReason, WorkerCounts};

/// The version in the first two bytes.
pub const VERSION: u16 = 5;

const RECORD: usize = 48;

/// A header.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Engine type in the upper byte, engine id in the lower.
    pub engine: u32,
    count: u16,
    clock: Clock,
    /// Out of the two bits of mode and 14 of interval.
    rate: Option<Rate>,
    records: &'a [u8],
}

/// Reads the header.
///
/// # Errors
/// [`DropReason::DatagramTruncated`] when there is less than a header.
pub fn header(payload: &[u8]) -> Result<Header<'_>, DropReason> {
    fields(payload).ok_or(DropReason::DatagramTruncated)
}

fn fields(payload: &[u8]) -> Option<Header<'_>> {
    const INTERVAL_BITS: u16 = 0x3fff;
    let mut cursor = Cursor::new(payload);
    let (_version, count) = (cursor.u16()?, cursor.u16()?);
    let uptime_ms = cursor.u32()?;
    let (export_s, export_ns) = (cursor.u32()?, cursor.u32()?);
    let _sequence = cursor.u32()?;
    let engine = u32::from(cursor.u16()?);
    let interval = u32::from(cursor.u16()? & INTERVAL_BITS);
    Some(Header {
        engine,
        count,
        clock: Clock {
            export_ms: u64::from(export_s) * 1000 + u64::from(export_ns / 1_000_000),
            uptime_ms: Some(uptime_ms),
        },
        rate: (interval > 0).then_some((interval, SamplingSource::Header)),
        records: cursor.rest(),
    })
}

/// Decodes the records. The header's count says how many there are: those that the datagram lacks
/// are counted as truncated, bytes after the last one are not looked at.
pub fn decode<S: FlowSink>(
    header: &Header<'_>,
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
    let announced = usize::from(*count);
    let present = records.len() / RECORD;
    counts.records_present += announced as u64;
    if present < announced {
        let lacking = announced - present;
        counts.drop_many(DropReason::RecordTruncated, lacking as u64);
    }
    domain.observe(None, *rate);
    let mut base = *domain.base();
    if let Some(rate) = rate {
        (base.sampling_rate, base.sampling_source) = *rate;
    }
    for bytes in records.as_chunks::<RECORD>().0.iter().take(announced) {
        record(bytes, clock, burst.next(&base, counts));
        counts.records_decoded += 1;
    }
}

#[inline]
fn record(bytes: &[u8; RECORD], clock: &Clock, flow: &mut Flow) {
    // Constant ranges of an array: the compiler checks them once and for all.
    let [
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
        n0,
        n1,
        n2,
        n3,
        i0,
        i1,
        o0,
        o1,
        p0,
        p1,
        p2,
        p3,
        b0,
        b1,
        b2,
        b3,
        f0,
        f1,
        f2,
        f3,
        l0,
        l1,
        l2,
        l3,
        sp0,
        sp1,
        dp0,
        dp1,
        _,
        flags,
        protocol,
        tos,
        sa0,
        sa1,
        da0,
        da1,
        src_mask,
        dst_mask,
        _,
        _,
    ] = *bytes;
    let u16 = |high, low| u16::from_be_bytes([high, low]);
    flow.src_addr = Address::from_v4([s0, s1, s2, s3]);
    flow.dst_addr = Address::from_v4([d0, d1, d2, d3]);
    flow.next_hop = Address::from_v4([n0, n1, n2, n3]);
    flow.in_if = u32::from(u16(i0, i1));
    flow.out_if = u32::from(u16(o0, o1));
    flow.raw_packets = u64::from(u32::from_be_bytes([p0, p1, p2, p3]));
    flow.raw_bytes = u64::from(u32::from_be_bytes([b0, b1, b2, b3]));
    flow.flow_start_ms = clock.at_uptime(u32::from_be_bytes([f0, f1, f2, f3]));
    flow.flow_end_ms = clock.at_uptime(u32::from_be_bytes([l0, l1, l2, l3]));
    flow.src_port = u16(sp0, sp1);
    flow.dst_port = u16(dp0, dp1);
    flow.tcp_flags = u16::from(flags);
    flow.protocol = protocol;
    flow.tos = tos;
    flow.src_as = u32::from(u16(sa0, sa1));
    flow.dst_as = u32::from(u16(da0, da1));
    flow.src_mask = src_mask;
    flow.dst_mask = dst_mask;
    icmp_from_port(flow);
}
