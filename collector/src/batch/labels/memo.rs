//! What texts numbers stand for, remembered from block to block.
//!
//! The tables are larger than any cache, and many numbers stand for one text: both is found out
//! once for a number, as long as the table is the same.

use std::any::Any;
use std::sync::Weak;

use hashbrown::HashMap;

use super::distinct::Hash;

/// Slots for numbers at first, 8 KiB; there are always twice as many as numbers.
const SLOTS_MIN: usize = 1 << 10;

/// When the numbers or the texts are more, or these longer, all are forgotten before the next
/// block. A block adds as many as it has rows, at most.
const NUMBERS_MAX: usize = 1 << 16;
const TEXTS_MAX: usize = 1 << 16;
const TEXT_BYTES_MAX: usize = 2 << 20;

/// Numbers of one table with their texts, and which of these the dictionary of a block has.
#[derive(Debug)]
pub(super) struct Memo {
    /// The table that the numbers are of.
    table: Option<Weak<dyn Any + Send + Sync>>,
    /// Each number in the first free slot from its own on; a power of two.
    slots: Box<[Known]>,
    hash: Hash,
    /// Slots in use.
    numbers: usize,
    /// All texts one after the other; the first is ''.
    bytes: String,
    texts: Vec<Text>,
    by_text: HashMap<Box<str>, u32>,
    /// Says which places in a dictionary are those of this one.
    mark: u32,
}

/// A number and its text; 0 stands for '', and is in no slot that is in use.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    number: u32,
    text: u32,
}

/// A text, and its place in the dictionary that has this mark.
#[derive(Clone, Copy, Debug)]
struct Text {
    start: u32,
    end: u32,
    mark: u32,
    place: u32,
}

impl Default for Memo {
    fn default() -> Self {
        Self {
            table: None,
            slots: Box::default(),
            hash: Hash::default(),
            numbers: 0,
            bytes: String::new(),
            texts: Vec::new(),
            by_text: HashMap::new(),
            mark: 0,
        }
    }
}

impl Memo {
    /// Begins an empty dictionary of texts of `table`.
    pub(super) fn begin(&mut self, table: Weak<dyn Any + Send + Sync>) {
        let is_same = self.table.as_ref().is_some_and(|own| own.ptr_eq(&table));
        let is_full = self.numbers >= NUMBERS_MAX
            || self.texts.len() >= TEXTS_MAX
            || self.bytes.len() >= TEXT_BYTES_MAX;
        self.mark = self.mark.wrapping_add(1);
        if !is_same || is_full || self.mark == 0 {
            self.forget();
            self.table = Some(table);
        }
        // '' is in every dictionary.
        self.texts[0].mark = self.mark;
    }

    fn forget(&mut self) {
        // Made when it is needed: most collectors have no vendors, no threats...
        self.slots = vec![Known::default(); SLOTS_MIN].into_boxed_slice();
        self.numbers = 0;
        self.bytes.clear();
        self.by_text.clear();
        self.texts.clear();
        self.mark = 1;
        self.texts.push(Text {
            start: 0,
            end: 0,
            mark: self.mark,
            place: 0,
        });
    }

    /// The place that the text of `number`, which is not 0, has in the dictionary. `look_up` finds
    /// the text, `add` takes it into the dictionary and says where.
    #[inline]
    pub(super) fn place<'a>(
        &mut self,
        number: u32,
        look_up: impl FnOnce() -> &'a str,
        add: impl FnOnce(&str) -> u32,
    ) -> u32 {
        debug_assert_ne!(number, 0, "'' has its place");
        let at = slot_of(&self.slots, self.hash, number);
        let mut text = self.slots[at].text;
        if self.slots[at].number != number {
            text = self.intern(look_up());
            self.remember(at, Known { number, text });
        }
        let text = &mut self.texts[text as usize];
        if text.mark != self.mark {
            text.mark = self.mark;
            text.place = add(&self.bytes[text.start as usize..text.end as usize]);
        }
        text.place
    }

    fn remember(&mut self, at: usize, known: Known) {
        self.slots[at] = known;
        self.numbers += 1;
        if 2 * self.numbers > self.slots.len() {
            let more = vec![Known::default(); 2 * self.slots.len()].into_boxed_slice();
            let before = std::mem::replace(&mut self.slots, more);
            for known in before.iter().filter(|known| known.number != 0) {
                self.slots[slot_of(&self.slots, self.hash, known.number)] = *known;
            }
        }
    }

    fn intern(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(known) = self.by_text.get(text) {
            return *known;
        }
        let own = self.texts.len() as u32;
        let start = self.bytes.len() as u32;
        self.bytes.push_str(text);
        self.texts.push(Text {
            start,
            end: self.bytes.len() as u32,
            mark: 0,
            place: 0,
        });
        self.by_text.insert(text.into(), own);
        own
    }
}

/// The slot that `number` is in, or else the free one that it may take.
#[inline]
fn slot_of(slots: &[Known], hash: Hash, number: u32) -> usize {
    let mask = slots.len() - 1;
    let mut at = hash.slot(number, slots.len());
    // Half of them are free, so it ends.
    while slots[at].number != 0 && slots[at].number != number {
        at = (at + 1) & mask;
    }
    at
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Places in a dictionary of the texts of `numbers`, and the texts.
    fn dictionary(
        memo: &mut Memo,
        table: &Arc<Vec<String>>,
        numbers: &[u32],
    ) -> (Vec<u32>, Vec<String>, usize) {
        let weak: Weak<Vec<String>> = Arc::downgrade(table);
        memo.begin(weak);
        let (mut texts, mut looked_up) = (vec![String::new()], 0);
        let places = numbers.iter().map(|number| {
            let look_up = || {
                looked_up += 1;
                table[*number as usize].as_str()
            };
            memo.place(*number, look_up, |text| {
                texts.push(text.to_owned());
                texts.len() as u32 - 1
            })
        });
        let places = places.collect();
        (places, texts, looked_up)
    }

    fn table(texts: &[&str]) -> Arc<Vec<String>> {
        Arc::new(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_text_is_once_in_a_dictionary_and_looked_up_once_for_all() {
        let (mut memo, table) = (Memo::default(), table(&["", "a", "", "b", "a"]));
        let texts = |all: &[&str]| {
            all.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let first = dictionary(&mut memo, &table, &[4, 1, 2, 3, 4]);
        assert_eq!(first, (vec![1, 1, 0, 2, 1], texts(&["", "a", "b"]), 4));
        let second = dictionary(&mut memo, &table, &[3, 2, 1]);
        assert_eq!(second, (vec![1, 0, 2], texts(&["", "b", "a"]), 0));
    }

    #[test]
    fn the_texts_of_another_table_are_others() {
        let mut memo = Memo::default();
        for _ in 0..3 {
            // Where the one before was, as soon as that is gone.
            let (before, after) = (table(&["", "before"]), table(&["", "after"]));
            assert_eq!(dictionary(&mut memo, &before, &[1]).1[1], "before");
            drop(before);
            assert_eq!(dictionary(&mut memo, &after, &[1]).1[1], "after");
        }
    }

    #[test]
    fn with_too_many_texts_all_are_forgotten_and_right() {
        let mut memo = Memo::default();
        let texts: Vec<String> = (0..200_000).map(|n| format!("text {n}")).collect();
        let table = Arc::new(texts);
        for first in (1..195_000).step_by(4096) {
            let numbers: Vec<u32> = (first..first + 4096).collect();
            let (places, texts, _) = dictionary(&mut memo, &table, &numbers);
            for (number, place) in numbers.iter().zip(places) {
                assert_eq!(texts[place as usize], table[*number as usize]);
            }
            assert!(memo.texts.len() <= TEXTS_MAX + 4096);
        }
    }
}
