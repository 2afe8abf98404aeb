//! The end of an answer, where ClickHouse says that it is none.
//!
//! Status and headers are long gone when a query fails in the middle, so ClickHouse writes the
//! exception behind the rows: since 25.11 between two lines `__exception__`, before as plain text,
//! and with `http_write_exception_in_output_format` as a row of JSON. See ClickHouse's
//! `src/Server/HTTP/WriteBufferFromHTTPServerResponse.cpp`.

/// ClickHouse cuts what it says there to 16 KiB.
const TAIL_BYTES: usize = 20 * 1024;

const MARK: &[u8] = b"__exception__\r\n";

/// The last [`TAIL_BYTES`] or more of what was pushed, twice that at most.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        if self.0.len() + bytes.len() > 2 * TAIL_BYTES {
            let kept = self.0.len().min(TAIL_BYTES);
            self.0.drain(..self.0.len() - kept);
        }
        self.0.extend_from_slice(bytes);
    }

    pub fn ends_with(&self, end: &[u8]) -> bool {
        self.0.ends_with(end)
    }

    /// The exception at the end, from its `Code:` on.
    pub fn exception(&self) -> Option<String> {
        let tail = &self.0;
        if let Some(at) = find(tail, MARK) {
            return from_code(&tail[at..]);
        }
        let last = tail.trim_ascii_end();
        let row = last.rsplit(|byte| *byte == b'\n').next()?;
        if row.starts_with(br#"{"exception":"#) {
            return from_code(row);
        }
        // Rows may hold any text, but hardly the version of the server at the very end.
        let is_plain = last.ends_with(b")") && find(last, b"(version ").is_some();
        is_plain.then(|| from_code(last)).flatten()
    }
}

/// From the last `Code: 1. DB::` on.
fn from_code(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let code = text.match_indices("Code: ").map(|(at, _)| &text[at..]);
    let says = |text: &&str| {
        let rest = text["Code: ".len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        rest.starts_with(". DB::")
    };
    code.filter(says).last().map(str::to_owned)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(pieces: &[&str]) -> Option<String> {
        let mut tail = Tail::default();
        for piece in pieces {
            tail.push(piece.as_bytes());
        }
        tail.exception()
    }

    const SAID: &str = "Code: 395. DB::Exception: stop. (VALUE) (version 26.7.2.1)";

    #[test]
    fn an_exception_is_found_in_whatever_way_it_is_said() {
        let marked = format!("\r\n__exception__\r\ntag\r\n{SAID}\n59 tag\r\n__exception__\r\n");
        let said = exception(&["1,2\n3,", &marked]).unwrap();
        assert!(said.starts_with(SAID), "{said}");
        assert_eq!(exception(&["1,2\n3,", SAID, "\n"]).unwrap(), SAID);
        let row = format!("{{\"a\":1}}\n{{\"exception\": \"{SAID}\"}}\n");
        assert!(exception(&[&row]).unwrap().starts_with(SAID));
    }

    #[test]
    fn one_that_comes_in_pieces_or_is_cut_is_found_as_well() {
        let marked = format!("1\r\n__exception__\r\ntag\r\n{SAID}\n59 tag\r\n__exception__\r\n");
        let (one, two) = marked.split_at(20);
        assert!(exception(&[one, two]).unwrap().starts_with(SAID));
        let cut = &marked[..60];
        assert!(exception(&[cut]).unwrap().starts_with("Code: 395. DB::"));
    }

    #[test]
    fn rows_are_no_exception() {
        assert_eq!(exception(&[]), None);
        assert_eq!(
            exception(&["1,\"Code: 5. DB::Exception: x\"\n2,\"y\"\n"]),
            None
        );
        assert_eq!(
            exception(&["{\"a\":\"(version 1)\"}\n{\"b\":\")\"}\n"]),
            None
        );
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut tail = Tail::default();
        for _ in 0..100 {
            tail.push(&[b'x'; 3000]);
            assert!(tail.0.len() <= 2 * TAIL_BYTES);
        }
        tail.push(&[b'y'; 3 * TAIL_BYTES]);
        assert!(tail.0.len() <= 2 * TAIL_BYTES);
        assert!(tail.0.ends_with(&[b'y'; TAIL_BYTES]));
    }
}
