//! IPFIX, RFC 7011.

use super::Cursor;
use super::record::Clock;
use super::sets::Message;
use super::template::Dialect;
use crate::ledger::{DropReason, WorkerCounts};

/// The version in the first two bytes.
pub const VERSION: u16 = 10;

/// Bytes of a message header.
const HEADER: usize = 16;

/// Reads the header of the message that begins at `at` (RFC 7011 section 3.1): its observation
/// domain, and the message with its sets. `boot_ms` of that domain is not known yet, so the clock
/// has no uptime; see [`with_boot`].
///
/// # Errors
/// [`DropReason::DatagramTruncated`] when there is less than a header,
/// [`DropReason::HeaderMalformed`] when it says more bytes than there are, or less than itself.
pub fn header(
    payload: &[u8],
    at: usize,
    received_ms: u64,
) -> Result<(u32, Message<'_>), DropReason> {
    let rest = payload.get(at..).unwrap_or_default();
    let mut cursor = Cursor::new(rest);
    let mut fields = || {
        let (_version, len) = (cursor.u16()?, cursor.u16()?);
        let export_s = cursor.u32()?;
        let sequence = cursor.u32()?;
        Some((usize::from(len), export_s, sequence, cursor.u32()?))
    };
    let (len, export_s, sequence, domain) = fields().ok_or(DropReason::DatagramTruncated)?;
    let whole = (HEADER..=rest.len()).contains(&len);
    let bytes = payload.get(..at + len).filter(|_| whole);
    let message = Message {
        bytes: bytes.ok_or(DropReason::HeaderMalformed)?,
        sets_at: at + HEADER,
        dialect: Dialect::Ipfix,
        sequence,
        clock: Clock {
            export_ms: u64::from(export_s) * 1000,
            uptime_ms: None,
        },
        received_ms,
    };
    Ok((domain, message))
}

/// True when a further message seems to begin at `at`. RFC 7011 section 10.3.3 wants one message
/// a datagram; some exporters send several.
#[must_use]
pub fn continues(payload: &[u8], at: usize) -> bool {
    let rest = payload.get(at..).unwrap_or_default();
    rest.len() >= HEADER && rest.starts_with(&VERSION.to_be_bytes())
}

/// Counts bytes after the last message that are neither a message nor padding.
pub fn trailing(last: &Message<'_>, payload: &[u8], counts: &mut WorkerCounts) {
    let rest = payload.get(last.bytes.len()..).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        counts.drop_one(DropReason::SetMalformed);
    }
}

/// The clock of an exporter that was started at `boot_ms` (IE 160 of its options; 0: unknown).
#[must_use]
pub fn with_boot(clock: Clock, boot_ms: u64) -> Clock {
    // Uptimes in records are 32 bits wide, so it is compared modulo 2^32.
    let uptime_ms = (boot_ms != 0).then(|| clock.export_ms.wrapping_sub(boot_ms) as u32);
    Clock { uptime_ms, ..clock }
}
