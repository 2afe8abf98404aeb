//! The value of a field as text, by the type of its element.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;

use crate::decode::elements::DataType;

/// Bytes of the longest value; longer ones are cut.
pub const EXTRA_VALUE_MAX: usize = 256;

/// A value as text of bounded length.
pub(super) struct Text {
    bytes: [u8; EXTRA_VALUE_MAX],
    len: usize,
    is_cut: bool,
}

impl Text {
    /// What `field` says; nothing when it is empty.
    pub(super) fn of(data_type: DataType, field: &[u8]) -> Self {
        let mut text = Self {
            bytes: [0; EXTRA_VALUE_MAX],
            len: 0,
            is_cut: false,
        };
        if !field.is_empty() {
            // A text that grows could fail; this one cuts.
            let _ = text.write_field(data_type, field);
        }
        text
    }

    pub(super) fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.len).map(std::str::from_utf8);
        text.and_then(Result::ok).unwrap_or_default()
    }

    /// True when there was more to say.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// RFC 7011 section 6.1, numbers of any length (section 6.2). What has a length that its type
    /// cannot have is shown as octets.
    fn write_field(&mut self, data_type: DataType, field: &[u8]) -> fmt::Result {
        use DataType as D;
        match data_type {
            D::Unsigned8 | D::Unsigned16 | D::Unsigned32 | D::Unsigned64 | D::Unsigned256 => {
                match unsigned(field) {
                    Some(number) => write!(self, "{number}"),
                    None => self.octets(field),
                }
            }
            D::Signed8 | D::Signed16 | D::Signed32 | D::Signed64 => match signed(field) {
                Some(number) => write!(self, "{number}"),
                None => self.octets(field),
            },
            D::Float32 | D::Float64 => self.float(field),
            // RFC 7011 section 6.1.5.
            D::Boolean => match *field {
                [1] => self.write_str("true"),
                [2] => self.write_str("false"),
                _ => self.octets(field),
            },
            D::MacAddress => match *field {
                [a, b, c, d, e, f] => {
                    write!(self, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
                }
                _ => self.octets(field),
            },
            D::Ipv4Address => match <[u8; 4]>::try_from(field) {
                Ok(octets) => write!(self, "{}", Ipv4Addr::from(octets)),
                Err(_) => self.octets(field),
            },
            D::Ipv6Address => match <[u8; 16]>::try_from(field) {
                Ok(octets) => write!(self, "{}", Ipv6Addr::from(octets)),
                Err(_) => self.octets(field),
            },
            D::String => self.string(field),
            D::DateTimeSeconds => self.time(field, 4, |number| (number, 0), 0),
            D::DateTimeMilliseconds => self.time(field, 8, |n| (n / 1000, n % 1000), 3),
            D::DateTimeMicroseconds => self.time(field, 8, |n| ntp(n, 1_000_000), 6),
            D::DateTimeNanoseconds => self.time(field, 8, |n| ntp(n, 1_000_000_000), 9),
            D::OctetArray | D::BasicList | D::SubTemplateList | D::SubTemplateMultiList => {
                self.octets(field)
            }
        }
    }

    fn octets(&mut self, field: &[u8]) -> fmt::Result {
        field.iter().try_for_each(|byte| write!(self, "{byte:02x}"))
    }

    /// RFC 7011 section 6.1.6: UTF-8. Fields of fixed length end in zeros.
    fn string(&mut self, field: &[u8]) -> fmt::Result {
        let end = field.iter().rposition(|byte| *byte != 0);
        let field = field.get(..end.map_or(0, |at| at + 1)).unwrap_or_default();
        for chunk in field.utf8_chunks() {
            self.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                self.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }

    /// RFC 7011 section 6.1.3; section 6.2 allows a float64 to be sent as float32.
    fn float(&mut self, field: &[u8]) -> fmt::Result {
        if let Ok(bytes) = field.try_into() {
            write!(self, "{:?}", f32::from_be_bytes(bytes))
        } else if let Ok(bytes) = field.try_into() {
            write!(self, "{:?}", f64::from_be_bytes(bytes))
        } else {
            self.octets(field)
        }
    }

    /// A moment of `len` bytes that `split` turns into seconds since the epoch and parts of them,
    /// of which `digits` are shown.
    fn time(
        &mut self,
        field: &[u8],
        len: usize,
        split: impl Fn(u64) -> (u64, u64),
        digits: usize,
    ) -> fmt::Result {
        let number = unsigned(field).filter(|_| field.len() == len);
        let Some(number) = number.and_then(|number| u64::try_from(number).ok()) else {
            return self.octets(field);
        };
        let (seconds, parts) = split(number);
        let nanos = i32::try_from(parts * 10_u64.pow(9 - digits as u32)).ok();
        let time = i64::try_from(seconds).ok().zip(nanos);
        let time = time.and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos).ok());
        match time {
            Some(time) => write!(self, "{time:.digits$}"),
            // Beyond the year 9999.
            None => write!(self, "{number}"),
        }
    }
}

impl Write for Text {
    /// Takes what fits, up to a whole character, and nothing after that.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Ok(());
        }
        let len = text.floor_char_boundary(EXTRA_VALUE_MAX - self.len);
        let (fits, rest) = text.split_at(len);
        self.is_cut = !rest.is_empty();
        let end = self.len + len;
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(fits.as_bytes());
            self.len = end;
        }
        Ok(())
    }
}

/// A big-endian number of up to 16 bytes.
fn unsigned(field: &[u8]) -> Option<u128> {
    let digits = field.iter().map(|byte| u128::from(*byte));
    (field.len() <= 16).then(|| digits.fold(0, |number, digit| number << 8 | digit))
}

/// A big-endian number of up to 8 bytes in two's complement.
fn signed(field: &[u8]) -> Option<i64> {
    let first = *field.first().filter(|_| field.len() <= 8)?;
    let sign = i64::from(first.cast_signed() >> 7);
    Some(field.iter().fold(sign, |n, byte| n << 8 | i64::from(*byte)))
}

/// Seconds from 1900, where NTP begins to count, to 1970.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

/// RFC 7011 section 6.1.9 and 6.1.10: seconds since 1900 and their fraction, which is rounded to
/// `per_second` parts: exporters of microseconds leave its last eleven bits open. Exporters that
/// put plain micro- or nanoseconds since 1970 there are told by the impossible year.
fn ntp(value: u64, per_second: u64) -> (u64, u64) {
    let Some(seconds) = (value >> 32).checked_sub(NTP_TO_UNIX_S) else {
        return (value / per_second, value % per_second);
    };
    let parts = ((value & 0xffff_ffff) * per_second + (1 << 31)) >> 32;
    (seconds + parts / per_second, parts % per_second)
}
