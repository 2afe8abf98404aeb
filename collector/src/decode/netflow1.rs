//! NetFlow version 1: a header of 16 bytes and up to 24 records of 48.
//!
//! It has no sequence numbers, no sampling rate and no engine.
//! Spec: Cisco, "NetFlow Export Datagram Formats".

use super::exporters::Domain;
use super::netflow5::{Header, addresses_to_ports, count_and_clock, decode_records};
use super::record::{Clock, icmp_from_port};
use super::{Burst, Cursor, FlowSink};
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts};

/// The version in the first two bytes.
pub const VERSION: u16 = 1;

const RECORD: usize = 48;

/// Records that a datagram may have. More are taken when they are there.
const RECORDS_MAX: usize = 24;

/// Reads the header.
///
/// # Errors
/// [`DropReason::DatagramTruncated`] when there is less than a header.
pub fn header(payload: &[u8]) -> Result<Header<'_>, DropReason> {
    let mut cursor = Cursor::new(payload);
    let (count, clock) = count_and_clock(&mut cursor).ok_or(DropReason::DatagramTruncated)?;
    Ok(Header {
        engine: 0,
        sequence: None,
        count,
        clock,
        rate: None,
        records: cursor.rest(),
    })
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

/// Reads one record. Behind the flags are seven unused bytes.
fn record(bytes: &[u8; RECORD], clock: &Clock, flow: &mut Flow) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    addresses_to_ports(&mut cursor, clock, flow)?;
    let [_, _, protocol, tos, tcp_flags] = cursor.array()?;
    flow.protocol = protocol;
    flow.tos = tos;
    flow.tcp_flags = u16::from(tcp_flags);
    icmp_from_port(flow);
    Some(())
}
