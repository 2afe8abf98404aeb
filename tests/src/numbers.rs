//! Serial numbers of records, and those that are rows.

use anyhow::{Context, Result, ensure};

use crate::ClickHouse;

/// The serial number of a row, by `flowsluice generate --number=next-hop`.
pub const IN_NEXT_HOP: &str = "toUInt32(bitAnd(toUInt128(next_hop), 4294967295))";

/// A set of numbers from 1 to a known last one, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    words: Vec<u64>,
    last: u64,
}

impl Numbers {
    /// The empty set of numbers up to `last`.
    #[must_use]
    pub fn none(last: u64) -> Self {
        let words = usize::try_from(last / 64 + 1).expect("a word a flow fits in memory");
        Self {
            words: vec![0; words],
            last,
        }
    }

    /// Is it in the set?
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        let word = self.words.get((number / 64) as usize).copied().unwrap_or(0);
        word >> (number % 64) & 1 == 1
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        let ones = self.words.iter().map(|word| u64::from(word.count_ones()));
        ones.sum()
    }

    /// True when it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Adds those from `first` on, `count` of them; false when one is no number or is in already.
    pub fn add(&mut self, first: u64, count: u64) -> bool {
        let mut all_new = true;
        for number in first..first.saturating_add(count) {
            let is_new = (1..=self.last).contains(&number) && !self.has(number);
            if is_new {
                self.words[(number / 64) as usize] |= 1 << (number % 64);
            }
            all_new &= is_new;
        }
        all_new
    }

    /// The numbers up to the last one that are in neither set, in order.
    pub fn missing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        (1..=self.last).filter(|&number| !self.has(number) && !other.has(number))
    }

    /// Adds a word of 64 numbers; false when one of them is no number.
    fn add_word(&mut self, word: u64, bits: u64) -> bool {
        let known = usize::try_from(word)
            .ok()
            .and_then(|word| self.words.get_mut(word));
        let Some(known) = known else {
            return false;
        };
        *known |= bits;
        let first = word * 64;
        let above = (self.last + 1).saturating_sub(first);
        let beyond = if above >= 64 { 0 } else { u64::MAX << above };
        bits & beyond == 0 && (first > 0 || bits & 1 == 0)
    }
}

/// Which numbers are rows.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Each number that is a row at least once.
    pub numbers: Numbers,
    /// Rows in all.
    pub rows: u64,
}

impl Rows {
    /// Reads them. ClickHouse keeps 16 bytes for 64 numbers while it answers, so the memory is
    /// bounded by what was sent.
    ///
    /// # Errors
    /// When ClickHouse cannot say, or has a number that was not sent.
    pub fn read(clickhouse: &ClickHouse, number: &str, last: u64) -> Result<Self> {
        let answer = clickhouse.query(&format!(
            "SELECT intDiv(number, 64) AS word, \
             groupBitOr(bitShiftLeft(toUInt64(1), number % 64)), count() \
             FROM (SELECT {number} AS number FROM flows) GROUP BY word"
        ))?;
        let mut read = Self {
            numbers: Numbers::none(last),
            rows: 0,
        };
        for line in answer.lines() {
            let mut columns = line.split('\t').map(str::parse::<u64>);
            let mut next = || {
                columns
                    .next()
                    .context("three columns")?
                    .context(line.to_owned())
            };
            let (word, bits, rows) = (next()?, next()?, next()?);
            let was_sent = read.numbers.add_word(word, bits);
            ensure!(
                was_sent,
                "a row has a number from {} on that was not sent",
                word * 64
            );
            read.rows += rows;
        }
        Ok(read)
    }

    /// Rows that are there once more than they should be.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.rows - self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_what_is_in_it_and_what_is_not() {
        let mut numbers = Numbers::none(130);
        assert!(numbers.is_empty());
        assert!(numbers.add(1, 63));
        assert!(numbers.add(64, 65));
        assert_eq!(numbers.len(), 128);
        assert!(!numbers.add(128, 1), "it is in already");
        let none = Numbers::none(130);
        assert_eq!(numbers.missing(&none).collect::<Vec<_>>(), [129, 130]);
        let mut other = Numbers::none(130);
        assert!(other.add(129, 1));
        assert_eq!(numbers.missing(&other).collect::<Vec<_>>(), [130]);
        assert!(!numbers.add(131, 1), "there is no such number");
        assert!(!numbers.add(0, 1), "they begin with 1");
    }

    #[test]
    fn a_word_with_a_number_that_was_not_sent_is_noticed() {
        let mut numbers = Numbers::none(130);
        assert!(numbers.add_word(0, !1));
        assert!(!numbers.add_word(0, 1), "0 is no number");
        assert!(numbers.add_word(2, 0b111));
        assert!(!numbers.add_word(2, 0b1000), "131 was not sent");
        assert!(!numbers.add_word(3, 1));
        assert!(!numbers.add_word(u64::MAX, 1));
        let mut full = Numbers::none(127);
        assert!(full.add_word(1, u64::MAX));
        assert!(!full.add_word(2, 1));
    }
}
