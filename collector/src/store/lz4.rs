//! LZ4 for columns of addresses and of 64-bit numbers.
//!
//! A general LZ4 encoder looks for repetitions at every byte. In such a column it is known where
//! they are: an address begins as the one before it (all IPv4 addresses share twelve bytes, those
//! of a site more), and a number ends with the zeros of the one before it. So each value is only
//! compared with its neighbour; that takes a fifth of the time and costs a third of the ratio.
//!
//! Spec: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>.

/// Which bytes of a value are mostly those of the value before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alike {
    /// The first ones.
    Beginnings,
    /// The last ones.
    Ends,
}

/// Bytes of the shortest match.
const MATCH_MIN: usize = 4;
/// The last match begins so many bytes before the end of the block at least...
const LAST_MATCH_BEGINS: usize = 12;
/// ...and ends so many before it.
const LAST_LITERALS: usize = 5;
/// Bytes that are copied at once, literals or not.
const COPY: usize = 16;
/// A length from here on goes on in further bytes.
const LONG: usize = 15;

/// Most bytes that [`compress`] makes of `len`.
pub(super) const fn compressed_len_max(len: usize) -> usize {
    len + len / 255 + 2 * COPY
}

/// Compresses `bytes`, `head` bytes of anything and then values of `W` bytes (8 or 16), into one
/// LZ4 block at the start of `out`; yields its length.
///
/// # Panics
/// When `out` is shorter than [`compressed_len_max`].
pub(super) fn compress<const W: usize>(
    bytes: &[u8],
    head: usize,
    alike: Alike,
    out: &mut [u8],
) -> usize {
    assert!(
        out.len() >= compressed_len_max(bytes.len()),
        "the caller gives room"
    );
    let mut block = Writer {
        bytes,
        out,
        written: 0,
        anchor: 0,
        open: Match { start: 0, end: 0 },
        offset: W as u16,
    };
    let (values, _) = bytes.get(head..).unwrap_or_default().as_chunks::<W>();
    let mut start = head + W;
    // Values that begin too late for a match stay literals.
    let matchable = bytes.len().saturating_sub(LAST_MATCH_BEGINS + W);
    for [before, value] in values.array_windows() {
        if start > matchable {
            break;
        }
        let (from, to) = shared(before, value, alike);
        block.matching(start + from, start + to);
        start += W;
    }
    block.finish()
}

/// The part of `value` that is the same in `before`, from its beginning or to its end.
#[inline(always)]
fn shared<const W: usize>(before: &[u8; W], value: &[u8; W], alike: Alike) -> (usize, usize) {
    let differing = widened(before) ^ widened(value);
    match alike {
        Alike::Beginnings => (0, (differing.trailing_zeros() as usize / 8).min(W)),
        Alike::Ends => {
            let unused = 16 - W;
            (W - (differing.leading_zeros() as usize / 8 - unused), W)
        }
    }
}

#[inline(always)]
fn widened<const W: usize>(value: &[u8; W]) -> u128 {
    let mut wide = [0; 16];
    wide[..W].copy_from_slice(value);
    u128::from_le_bytes(wide)
}

/// Bytes that are repeated from `offset` before.
#[derive(Clone, Copy)]
struct Match {
    start: usize,
    end: usize,
}

/// A block being written.
struct Writer<'a> {
    bytes: &'a [u8],
    out: &'a mut [u8],
    written: usize,
    /// Everything before is written.
    anchor: usize,
    /// The match that may still grow; empty at first.
    open: Match,
    offset: u16,
}

impl Writer<'_> {
    /// Takes note that `start..end` is repeated.
    #[inline(always)]
    fn matching(&mut self, start: usize, end: usize) {
        if start == self.open.end && end > start {
            self.open.end = end;
        } else if end - start >= MATCH_MIN {
            self.write_open();
            self.open = Match { start, end };
        }
    }

    /// Writes the literals before the open match, and it.
    #[inline(always)]
    fn write_open(&mut self) {
        let Match { start, end } = self.open;
        let (literals, repeated) = (start - self.anchor, end - start);
        if repeated < MATCH_MIN {
            return;
        }
        let source = self.bytes.get(self.anchor..self.anchor + COPY);
        let target = self.out.get_mut(self.written..self.written + 1 + COPY + 2);
        let is_short = literals < LONG && repeated - MATCH_MIN < LONG;
        if let (true, Some(source), Some(target)) = (is_short, source, target) {
            target[0] = (literals << 4 | (repeated - MATCH_MIN)) as u8;
            target[1..=COPY].copy_from_slice(source);
            target[1 + literals..3 + literals].copy_from_slice(&self.offset.to_le_bytes());
            self.written += 3 + literals;
        } else {
            self.write_long(literals, repeated);
        }
        self.anchor = end;
    }

    #[cold]
    fn write_long(&mut self, literals: usize, repeated: usize) {
        let repeated = repeated - MATCH_MIN;
        self.push((literals.min(LONG) << 4 | repeated.min(LONG)) as u8);
        self.push_literals(literals);
        for byte in self.offset.to_le_bytes() {
            self.push(byte);
        }
        self.push_rest(repeated);
    }

    /// The literals after the anchor, behind what their length has beyond the token.
    fn push_literals(&mut self, literals: usize) {
        self.push_rest(literals);
        let source = &self.bytes[self.anchor..self.anchor + literals];
        self.out[self.written..self.written + literals].copy_from_slice(source);
        self.written += literals;
    }

    /// What a length has beyond the [`LONG`] of the token.
    fn push_rest(&mut self, len: usize) {
        let Some(mut rest) = len.checked_sub(LONG) else {
            return;
        };
        while rest >= 255 {
            self.push(255);
            rest -= 255;
        }
        self.push(rest as u8);
    }

    fn push(&mut self, byte: u8) {
        self.out[self.written] = byte;
        self.written += 1;
    }

    /// Writes what is left; yields the length of the block.
    fn finish(mut self) -> usize {
        self.open.end = self
            .open
            .end
            .min(self.bytes.len() - LAST_LITERALS.min(self.bytes.len()));
        self.write_open();
        let literals = self.bytes.len() - self.anchor;
        self.push((literals.min(LONG) << 4) as u8);
        self.push_literals(literals);
        self.written
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip<const W: usize>(bytes: &[u8], head: usize, alike: Alike) -> usize {
        let mut out = vec![0; compressed_len_max(bytes.len())];
        let len = compress::<W>(bytes, head, alike, &mut out);
        let back = lz4_flex::block::decompress(&out[..len], bytes.len()).unwrap();
        assert_eq!(back, bytes);
        len
    }

    fn column<const W: usize>(values: impl Iterator<Item = [u8; W]>) -> Vec<u8> {
        let values: Vec<_> = values.collect();
        [b"\x03abc\x04IPv6", values.as_flattened()].concat()
    }

    const HEAD: usize = 9;

    #[test]
    fn ipv4_addresses_cost_half() {
        let of = |n: u32| {
            let [a, b, c, d] = n.wrapping_mul(0x9e37_79b9).to_be_bytes();
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d]
        };
        let bytes = column((0..4096).map(of));
        let len = round_trip::<16>(&bytes, HEAD, Alike::Beginnings);
        assert!(len < 4096 * 7 + 100, "{len}");
    }

    #[test]
    fn small_numbers_cost_what_differs() {
        let bytes = column((0..4096_u64).map(|n| (n * 7919 % 1500).to_le_bytes()));
        let len = round_trip::<8>(&bytes, HEAD, Alike::Ends);
        assert!(len <= 4096 * 5 + 100, "{len}");
    }

    #[test]
    fn a_column_of_one_value_costs_next_to_nothing() {
        let bytes = column((0..4096).map(|_| [7_u8; 16]));
        assert!(round_trip::<16>(&bytes, HEAD, Alike::Beginnings) < 320);
        let bytes = column((0..4096).map(|_| [7_u8; 8]));
        assert!(round_trip::<8>(&bytes, HEAD, Alike::Ends) < 200);
    }

    #[test]
    fn columns_of_any_length_come_back() {
        for rows in 0..70_u64 {
            let bytes = column((0..rows).map(|n| (n / 3 + 40).to_le_bytes()));
            round_trip::<8>(&bytes, HEAD, Alike::Ends);
            let bytes = column((0..rows).map(|n| u128::from(n / 3).to_be_bytes()));
            round_trip::<16>(&bytes, HEAD, Alike::Beginnings);
        }
        round_trip::<8>(&[], 0, Alike::Ends);
        round_trip::<16>(&[1, 2, 3], 3, Alike::Beginnings);
    }

    proptest! {
        /// Few different bytes, so that neighbours share some.
        #[test]
        fn any_column_comes_back(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..3000),
            head in 0_usize..40,
        ) {
            let head = head.min(bytes.len());
            for alike in [Alike::Beginnings, Alike::Ends] {
                round_trip::<8>(&bytes, head, alike);
                round_trip::<16>(&bytes, head, alike);
            }
        }

        /// Values out of a few, in runs.
        #[test]
        fn runs_come_back(
            runs in prop::collection::vec((0_u64..4, 1_usize..200), 0..40),
            shift in 0_u32..57,
        ) {
            let numbers = runs.iter().flat_map(|(n, len)| std::iter::repeat_n(n << shift, *len));
            let bytes = column(numbers.clone().map(u64::to_le_bytes));
            round_trip::<8>(&bytes, HEAD, Alike::Ends);
            let bytes = column(numbers.map(|n| u128::from(n).to_be_bytes()));
            round_trip::<16>(&bytes, HEAD, Alike::Beginnings);
        }
    }
}
