//! NetFlow version 9, RFC 3954.

use super::Cursor;
use super::record::Clock;
use super::sets::Message;
use super::template::Dialect;
use crate::ledger::DropReason;

/// The version in the first two bytes.
pub const VERSION: u16 = 9;

/// Reads the header (RFC 3954 section 5.1): the source id, and the message with its sets.
///
/// The header's count is not used: some exporters count sets, some flows; the lengths of the sets
/// say what is there.
///
/// # Errors
/// [`DropReason::DatagramTruncated`] when there is less than a header.
pub fn header(payload: &[u8], received_ms: u64) -> Result<(u32, Message<'_>), DropReason> {
    fields(payload, received_ms).ok_or(DropReason::DatagramTruncated)
}

fn fields(payload: &[u8], received_ms: u64) -> Option<(u32, Message<'_>)> {
    let mut cursor = Cursor::new(payload);
    let (_version, _count) = (cursor.u16()?, cursor.u16()?);
    let uptime_ms = cursor.u32()?;
    let export_s = cursor.u32()?;
    let sequence = cursor.u32()?;
    let source_id = cursor.u32()?;
    let message = Message {
        bytes: payload,
        sets_at: payload.len() - cursor.remaining(),
        dialect: Dialect::Netflow9,
        sequence,
        clock: Clock {
            export_ms: u64::from(export_s) * 1000,
            // 0 is what exporters send that do not know it.
            uptime_ms: (uptime_ms != 0).then_some(uptime_ms),
        },
        received_ms,
    };
    Some((source_id, message))
}
