//! Texts that are kept once each, all in one piece.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts by number; 0 is the empty one.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    text: Box<str>,
    /// Where each text ends, from number 1 on; it begins where the one before ends.
    ends: Box<[u32]>,
}

impl Labels {
    pub(super) fn get(&self, number: u32) -> &str {
        text_of(&self.text, &self.ends, number)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }
}

fn text_of<'a>(text: &'a str, ends: &[u32], number: u32) -> &'a str {
    let Some(at) = (number as usize).checked_sub(1) else {
        return "";
    };
    let from = at
        .checked_sub(1)
        .map_or(Some(0), |before| ends.get(before).copied());
    let range = from.zip(ends.get(at).copied());
    range
        .and_then(|(from, to)| text.get(from as usize..to as usize))
        .unwrap_or("")
}

/// Collects texts.
#[derive(Default)]
pub(super) struct Builder {
    text: String,
    ends: Vec<u32>,
    /// Hashes and numbers; the hashes, so that texts are read again only where they are equal.
    numbers: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
}

impl Builder {
    /// The number of a text; none when there is no room for another one.
    pub(super) fn number(&mut self, label: &str) -> Option<u32> {
        if label.is_empty() {
            return Some(0);
        }
        let Self {
            text,
            ends,
            numbers,
            hasher,
        } = self;
        let hash = (hasher.hash_one(label) >> 32) as u32;
        let spread = |hash: u32| u64::from(hash) << 32 | u64::from(hash);
        let is_it = |&(of, known): &(u32, u32)| of == hash && text_of(text, ends, known) == label;
        if let Some(&(_, known)) = numbers.find(spread(hash), is_it) {
            return Some(known);
        }
        let end = u32::try_from(text.len() + label.len()).ok()?;
        text.push_str(label);
        ends.push(end);
        let number = u32::try_from(ends.len()).ok()?;
        numbers.insert_unique(spread(hash), (hash, number), |&(hash, _)| spread(hash));
        Some(number)
    }

    /// Bytes that the texts will need.
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }

    pub(super) fn finish(self) -> Labels {
        Labels {
            text: self.text.into_boxed_str(),
            ends: self.ends.into_boxed_slice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_and_is_read_back() {
        let mut builder = Builder::default();
        let texts: Vec<String> = (0..1000).map(|n| format!("text {n}")).collect();
        for _ in 0..2 {
            for (number, text) in (1..).zip(&texts) {
                assert_eq!(builder.number(text), Some(number));
            }
        }
        assert_eq!(builder.number(""), Some(0));
        let labels = builder.finish();
        for (number, text) in (1..).zip(&texts) {
            assert_eq!(labels.get(number), text);
        }
        for unknown in [0, 1001, u32::MAX] {
            assert_eq!(labels.get(unknown), "", "{unknown}");
        }
    }
}
