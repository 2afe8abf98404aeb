//! NetFlow version 7: a header of 24 bytes and up to 27 records of 52, of Catalyst switches.
//!
//! A record is one of version 5 with two fields of flags, which say what of it is invalid, and the
//! address of the router whose work the switch does. Cisco has not published the bits; a switch
//! sends zero for what its flow mask leaves out, and zero is unknown here too. The router has no
//! column. Spec: Cisco, "NetFlow Export Datagram Formats".

use super::exporters::Domain;
use super::netflow5::{
    Header, addresses_to_ports, count_and_clock, decode_records, flags_to_masks,
};
use super::record::Clock;
use super::{Burst, Cursor, FlowSink};
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts};

/// The version in the first two bytes.
pub const VERSION: u16 = 7;

const RECORD: usize = 52;

/// Records that a datagram may have: 27 fill 1428 bytes. More are taken when they are there.
const RECORDS_MAX: usize = 27;

/// Reads the header.
///
/// # Errors
/// [`DropReason::DatagramTruncated`] when there is less than a header.
pub fn header(payload: &[u8]) -> Result<Header<'_>, DropReason> {
    fields(payload).ok_or(DropReason::DatagramTruncated)
}

fn fields(payload: &[u8]) -> Option<Header<'_>> {
    let mut cursor = Cursor::new(payload);
    let (count, clock) = count_and_clock(&mut cursor)?;
    let sequence = Some(cursor.u32()?);
    let _reserved = cursor.u32()?;
    Some(Header {
        engine: 0,
        sequence,
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

/// Reads one record; the last six bytes are flags and the router.
fn record(bytes: &[u8; RECORD], clock: &Clock, flow: &mut Flow) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    addresses_to_ports(&mut cursor, clock, flow)?;
    flags_to_masks(&mut cursor, flow)
}
