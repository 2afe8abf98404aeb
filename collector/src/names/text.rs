//! Text out of a record: bounded, and harmless when it is printed.

use std::fmt;

/// Bytes kept of a text, before and after it is made UTF-8; the rest is cut off.
pub const TEXT_MAX: usize = 127;

/// Text as it came, up to its first zero byte. `Copy`, so that a worker allocates nothing for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    len: u8,
    bytes: [u8; TEXT_MAX],
}

impl Text {
    /// No text.
    pub const EMPTY: Self = Self {
        len: 0,
        bytes: [0; TEXT_MAX],
    };

    /// From a field, which exporters fill up with zeros, or with spaces.
    #[must_use]
    pub fn of(field: &[u8]) -> Self {
        let mut text = Self::EMPTY;
        let until_zero = field.split(|byte| *byte == 0).next().unwrap_or_default();
        for (to, from) in text.bytes.iter_mut().zip(until_zero.trim_ascii()) {
            *to = *from;
            text.len += 1;
        }
        text
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// As UTF-8, with what is none replaced, and without control characters: it goes to terminals and
/// into tables.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..self.len.into()).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        // A character cut in two at the end is left out.
        let is_cut = bytes.len() == TEXT_MAX;
        let text = match is_cut {
            true => text.trim_end_matches(char::REPLACEMENT_CHARACTER),
            false => &text,
        };
        // A replaced byte takes three.
        let mut room = TEXT_MAX;
        for c in text.chars().filter(|c| !c.is_control()) {
            room = match room.checked_sub(c.len_utf8()) {
                Some(left) => left,
                None => break,
            };
            fmt::Write::write_char(f, c)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(field: &[u8]) -> String {
        Text::of(field).to_string()
    }

    #[test]
    fn padding_is_no_part_of_it() {
        assert_eq!(text(b"eth0\0\0\0\0"), "eth0");
        assert_eq!(text(b"  eth0   "), "eth0");
        assert_eq!(text(b"eth0\0secret"), "eth0");
        assert!(Text::of(b"\0\0").is_empty());
        assert!(Text::of(b"").is_empty());
    }

    #[test]
    fn hostile_bytes_come_out_as_plain_text() {
        assert_eq!(text(b"a\x1b[2Jb\r\n\x07c"), "a[2Jbc");
        assert_eq!(text(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
        assert_eq!(text("Z\u{fc}rich".as_bytes()), "Z\u{fc}rich");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "\u{e9}".repeat(100);
        let kept = text(long.as_bytes());
        assert_eq!(kept, "\u{e9}".repeat(63));
        assert_eq!(text(&[b'x'; 1000]).len(), TEXT_MAX);
        assert!(text(&[0xff; 100]).len() <= TEXT_MAX);
    }
}
