//! An encoder of templates and records: every data type of RFC 7011 section 6.1 at every length
//! that it may have, in NetFlow v9 and in IPFIX.
//!
//! It knows nothing of the collector: what it says of a value as text is held against what the
//! collector makes of the bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// When every message was exported, seconds since the epoch.
pub const EXPORT_S: u32 = 1_700_000_000;
/// The uptime that every NetFlow v9 header tells, milliseconds.
pub const UPTIME_MS: u32 = 5_000_000;
/// The template of every message.
pub const TEMPLATE_ID: u16 = 300;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// unsigned8 to unsigned256, at any length that holds it.
    Unsigned(u64),
    /// signed8 to signed64, at any length that holds it.
    Signed(i64),
    /// float32; float64 in four bytes.
    Float32(f32),
    /// float64.
    Float64(f64),
    /// boolean.
    Boolean(bool),
    /// octetArray.
    Octets(Vec<u8>),
    /// string; a field that is longer ends in zeros.
    Text(String),
    /// macAddress.
    Mac([u8; 6]),
    /// ipv4Address.
    V4(Ipv4Addr),
    /// ipv6Address.
    V6(Ipv6Addr),
    /// dateTimeSeconds since the epoch.
    Seconds(u32),
    /// dateTimeMilliseconds since the epoch.
    Millis(u64),
    /// dateTimeMicroseconds: seconds since the epoch and microseconds.
    Micros(u32, u32),
    /// dateTimeNanoseconds: seconds since the epoch and nanoseconds.
    Nanos(u32, u32),
}

/// Seconds from 1900, where NTP begins to count, to 1970.
const NTP_TO_UNIX_S: u32 = 2_208_988_800;

impl Value {
    /// The field, `len` bytes of it: numbers are cut to them (RFC 7011 section 6.2), text is filled
    /// up with zeros. Other values have one length alone.
    #[must_use]
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        match self {
            Self::Unsigned(number) => sized(&number.to_be_bytes(), 0, len),
            Self::Signed(number) => {
                let fill = if *number < 0 { 0xff } else { 0 };
                sized(&number.to_be_bytes(), fill, len)
            }
            Self::Float32(number) => number.to_be_bytes().into(),
            Self::Float64(number) => number.to_be_bytes().into(),
            Self::Boolean(is) => vec![if *is { 1 } else { 2 }],
            Self::Octets(octets) => octets.clone(),
            Self::Text(text) => {
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(len, 0);
                bytes
            }
            Self::Mac(octets) => octets.to_vec(),
            Self::V4(address) => address.octets().into(),
            Self::V6(address) => address.octets().into(),
            Self::Seconds(seconds) => seconds.to_be_bytes().into(),
            Self::Millis(millis) => millis.to_be_bytes().into(),
            // Section 6.1.9: the last eleven bits say nothing.
            Self::Micros(s, us) => ntp(*s, fraction(*us, 1_000_000) & !0x7ff),
            Self::Nanos(s, ns) => ntp(*s, fraction(*ns, 1_000_000_000)),
        }
    }

    /// What people read.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float32(number) => format!("{number:?}"),
            Self::Float64(number) => format!("{number:?}"),
            Self::Boolean(is) => is.to_string(),
            Self::Octets(octets) => hex(octets, ""),
            Self::Text(text) => text.clone(),
            Self::Mac(octets) => hex(octets, ":"),
            Self::V4(address) => address.to_string(),
            Self::V6(address) => address.to_string(),
            Self::Seconds(seconds) => date(u64::from(*seconds)) + "Z",
            Self::Millis(millis) => format!("{}.{:03}Z", date(millis / 1000), millis % 1000),
            Self::Micros(seconds, us) => format!("{}.{us:06}Z", date(u64::from(*seconds))),
            Self::Nanos(seconds, ns) => format!("{}.{ns:09}Z", date(u64::from(*seconds))),
        }
    }
}

/// The last `len` bytes of `number`, or as many of `fill` before it.
fn sized(number: &[u8; 8], fill: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![fill; len.saturating_sub(8)];
    bytes.extend(&number[8 - len.min(8)..]);
    bytes
}

/// `parts` of `per_second` as a fraction of 2^32, up.
fn fraction(parts: u32, per_second: u64) -> u32 {
    let fraction = (u64::from(parts) << 32).div_ceil(per_second);
    u32::try_from(fraction).expect("less than a second")
}

fn ntp(seconds: u32, fraction: u32) -> Vec<u8> {
    let seconds = seconds.checked_add(NTP_TO_UNIX_S).expect("before 2036");
    [seconds.to_be_bytes(), fraction.to_be_bytes()].concat()
}

fn hex(octets: &[u8], between: &str) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(between)
}

/// The date and time of `seconds` since the epoch: days counted in eras of 400 years that begin in
/// March, so that the leap day is the last of its year.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// How long a field is, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The template.
    Fixed(u16),
    /// The record, in one byte (RFC 7011 section 7); the field is shorter than 255 bytes.
    Short(u16),
    /// The record, in three bytes.
    Long(u16),
}

impl Length {
    /// Bytes of the field.
    #[must_use]
    pub fn bytes(self) -> u16 {
        let (Self::Fixed(len) | Self::Short(len) | Self::Long(len)) = self;
        len
    }
}

/// A field with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Private enterprise number, 0 for IANA.
    pub enterprise: u32,
    /// Element.
    pub id: u16,
    /// Its length.
    pub length: Length,
    /// Its value.
    pub value: Value,
}

/// The protocol of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// NetFlow v9: neither enterprises nor fields of variable length.
    Netflow9,
    /// IPFIX.
    Ipfix,
}

/// A message of observation domain 7 with the template of `fields` and one record of them.
#[must_use]
pub fn message(version: Version, fields: &[Field]) -> Vec<u8> {
    let mut template = [TEMPLATE_ID, fields.len() as u16]
        .map(u16::to_be_bytes)
        .concat();
    let mut record = Vec::new();
    for field in fields {
        field.append(version, &mut template, &mut record);
    }
    let template_set = match version {
        Version::Netflow9 => 0,
        Version::Ipfix => 2,
    };
    let sets = [set(template_set, &template), set(TEMPLATE_ID, &record)].concat();
    let header = match version {
        Version::Netflow9 => [
            [9u16, 2].map(u16::to_be_bytes).concat(),
            [UPTIME_MS, EXPORT_S, 1, 7].map(u32::to_be_bytes).concat(),
        ],
        Version::Ipfix => [
            [10, sets.len() as u16 + 16].map(u16::to_be_bytes).concat(),
            [EXPORT_S, 1, 7].map(u32::to_be_bytes).concat(),
        ],
    };
    [header.concat(), sets].concat()
}

impl Field {
    fn append(&self, version: Version, template: &mut Vec<u8>, record: &mut Vec<u8>) {
        let Self {
            enterprise,
            id,
            length,
            value,
        } = self;
        let bytes = value.bytes(usize::from(length.bytes()));
        assert_eq!(bytes.len(), usize::from(length.bytes()), "{self:?}");
        let len = match *length {
            Length::Fixed(len) => len,
            Length::Short(len) => {
                record.push(
                    u8::try_from(len)
                        .ok()
                        .filter(|len| *len < 255)
                        .expect("short"),
                );
                u16::MAX
            }
            Length::Long(len) => {
                record.push(255);
                record.extend(len.to_be_bytes());
                u16::MAX
            }
        };
        record.extend(bytes);
        let is_private = *enterprise != 0;
        match version {
            Version::Netflow9 => assert!(!is_private && len != u16::MAX, "{self:?}"),
            Version::Ipfix => assert!(*id < 0x8000, "{self:?}"),
        }
        let id = if is_private { id | 0x8000 } else { *id };
        template.extend([id, len].map(u16::to_be_bytes).concat());
        if is_private {
            template.extend(enterprise.to_be_bytes());
        }
    }
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 4).expect("a test set is short");
    [&id.to_be_bytes(), &len.to_be_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_rfc_7011_says() {
        let cases: [(Value, usize, &[u8]); 9] = [
            (Value::Unsigned(0x1234), 2, &[0x12, 0x34]),
            (Value::Unsigned(1), 10, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (Value::Signed(-2), 3, &[0xff, 0xff, 0xfe]),
            (Value::Float32(1.0), 4, &[0x3f, 0x80, 0, 0]),
            (Value::Boolean(false), 1, &[2]),
            (Value::Text("ab".into()), 3, b"ab\0"),
            (Value::Seconds(1), 4, &[0, 0, 0, 1]),
            (
                Value::Micros(0, 500_000),
                8,
                &[0x83, 0xaa, 0x7e, 0x80, 0x80, 0, 0, 0],
            ),
            (Value::Nanos(0, 0), 8, &[0x83, 0xaa, 0x7e, 0x80, 0, 0, 0, 0]),
        ];
        for (value, len, bytes) in cases {
            assert_eq!(value.bytes(len), bytes, "{value:?}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_700_000_000, "2023-11-14T22:13:20"),
            (4_102_444_799, "2099-12-31T23:59:59"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn an_enterprise_field_of_variable_length_has_its_number_and_its_length() {
        let field = Field {
            enterprise: 9,
            id: 12_235,
            length: Length::Short(2),
            value: Value::Text("ab".into()),
        };
        let message = message(Version::Ipfix, &[field]);
        let sets = [
            &[0, 2, 0, 16, 1, 44, 0, 1, 0xaf, 0xcb, 0xff, 0xff, 0, 0, 0, 9][..],
            &[1, 44, 0, 7, 2, b'a', b'b'],
        ];
        assert_eq!(message[16..], sets.concat());
    }
}
