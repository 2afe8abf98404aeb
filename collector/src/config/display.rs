//! Values as the file writes them: exact, with their units, secrets masked.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Serializer;

use super::{Config, Protocol};

/// The whole configuration as TOML that [`super::parse`] reads back to the same values, except for
/// the password, which is masked.
#[must_use]
pub fn toml(config: &Config) -> String {
    toml::to_string(config).expect("a configuration is a TOML table")
}

/// For serde: [`bytes`]. `ByteSize` alone rounds to one digit after the point.
pub(super) fn serialize_bytes<S: Serializer>(
    size: &ByteSize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&bytes(*size))
}

/// A size exactly, in the largest unit that divides it, be it binary or decimal: 4TB stays that.
#[must_use]
pub fn bytes(size: ByteSize) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1_000_000_000_000, "TB"),
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    let bytes = size.as_u64();
    UNITS
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
}

/// For serde: [`duration`]. `humantime` alone writes 90 days as months, days, hours and seconds.
pub(super) fn serialize_duration<S: Serializer>(
    time: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration(*time))
}

/// A time exactly, in the largest unit that divides it, as `humantime` reads it.
#[must_use]
pub fn duration(time: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "days"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let nanos = time.as_nanos();
    UNITS
        .iter()
        .find(|(unit, _)| nanos >= *unit && nanos.is_multiple_of(*unit))
        .map_or_else(
            || "0s".to_owned(),
            |(unit, name)| format!("{}{name}", nanos / unit),
        )
}

/// The name of a protocol in the file.
#[must_use]
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Netflow1 => "netflow1",
        Protocol::Netflow5 => "netflow5",
        Protocol::Netflow7 => "netflow7",
        Protocol::Netflow9 => "netflow9",
        Protocol::Ipfix => "ipfix",
        Protocol::Sflow5 => "sflow5",
    }
}
