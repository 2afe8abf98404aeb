//! How many rows came by, where the bytes of a format tell it as they come.

use super::Format;

/// Counts rows of text.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    format: Format,
    lines: u64,
    bytes: u64,
    /// Within quotes a new line is text.
    is_quoted: bool,
}

impl Rows {
    /// Nothing came yet.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            lines: 0,
            bytes: 0,
            is_quoted: false,
        }
    }

    /// Takes what comes next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match self.format {
            // A quote in a text is doubled.
            Format::Csv => {
                for byte in bytes {
                    self.is_quoted ^= *byte == b'"';
                    self.lines += u64::from(*byte == b'\n' && !self.is_quoted);
                }
            }
            Format::Json => {
                let ends = bytes.iter().filter(|byte| **byte == b'\n');
                self.lines += ends.count() as u64;
            }
            Format::Parquet | Format::Native => {}
        }
    }

    /// Bytes that came.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows that came; `None` where the format does not tell it.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        match self.format {
            // Behind the line of names.
            Format::Csv => Some(self.lines.saturating_sub(1)),
            Format::Json => Some(self.lines),
            // Without rows it has no block.
            Format::Native => (self.bytes == 0).then_some(0),
            Format::Parquet => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(format: Format, pieces: &[&str]) -> Option<u64> {
        let mut rows = Rows::new(format);
        for piece in pieces {
            rows.push(piece.as_bytes());
        }
        rows.rows()
    }

    #[test]
    fn rows_of_text_are_its_lines_but_for_those_within_quotes() {
        assert_eq!(rows(Format::Csv, &["\"a\",\"b\"\n"]), Some(0));
        let pieces = ["\"a\",\"b\"\n1,\"x\ny \"", "\"\n z\"\n2,", "\"\"\n"];
        assert_eq!(rows(Format::Csv, &pieces), Some(2));
        assert_eq!(rows(Format::Json, &[]), Some(0));
        assert_eq!(
            rows(Format::Json, &["{\"a\":\"\\n\\\"\"}\n{\"a", "\":1}\n"]),
            Some(2)
        );
    }

    #[test]
    fn other_formats_tell_it_only_when_there_is_none() {
        assert_eq!(rows(Format::Native, &[]), Some(0));
        assert_eq!(rows(Format::Native, &["\n"]), None);
        assert_eq!(rows(Format::Parquet, &["PAR1\n"]), None);
    }
}
