//! Texts by number: what a table tells of what it finds.
//!
//! All texts lie one behind the other in one allocation, so a million of them cost their bytes and
//! four more each.

use hashbrown::HashMap;

/// Most bytes of all texts of one table.
pub const LABEL_BYTES_MAX: usize = 64 << 20;

/// Texts by number; 0 is ''.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    text: String,
    /// Where each ends, which is where the next begins.
    ends: Vec<u32>,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            text: String::new(),
            ends: vec![0],
        }
    }
}

impl Labels {
    /// The text of a number that this table gave; '' for others.
    #[must_use]
    pub fn get(&self, id: u32) -> &str {
        let id = id as usize;
        let start = id.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(id);
        let range = start
            .zip(end)
            .map(|(start, end)| *start as usize..*end as usize);
        range
            .and_then(|range| self.text.get(range))
            .unwrap_or_default()
    }

    /// How many there are, with ''.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// Gives each text a number, the same one to the same text.
#[derive(Debug, Default)]
pub struct LabelsBuilder {
    labels: Labels,
    ids: HashMap<Box<str>, u32>,
}

impl LabelsBuilder {
    /// The number of `text`; `None` when that would make them more than [`LABEL_BYTES_MAX`].
    pub fn id(&mut self, text: &str) -> Option<u32> {
        if let Some(id) = self.find(text) {
            return Some(id);
        }
        let Self { labels, ids } = self;
        if labels.text.len() + text.len() > LABEL_BYTES_MAX {
            return None;
        }
        let id = u32::try_from(labels.ends.len()).ok()?;
        labels.text.push_str(text);
        labels.ends.push(u32::try_from(labels.text.len()).ok()?);
        ids.insert(text.into(), id);
        Some(id)
    }

    /// The number that `text` has, if it has one.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        match text.is_empty() {
            true => Some(0),
            false => self.ids.get(text).copied(),
        }
    }

    /// The texts.
    #[must_use]
    pub fn finish(self) -> Labels {
        let Self { mut labels, .. } = self;
        labels.text.shrink_to_fit();
        labels.ends.shrink_to_fit();
        labels
    }
}

const _: () = assert!(LABEL_BYTES_MAX < u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_one_number_and_nothing_has_none() {
        let mut builder = LabelsBuilder::default();
        let ids = ["a", "", "b\t\t", "a"].map(|text| builder.id(text).unwrap());
        assert_eq!(ids, [1, 0, 2, 1]);
        let labels = builder.finish();
        assert_eq!(
            [0, 1, 2, 3].map(|id| labels.get(id)),
            ["", "a", "b\t\t", ""]
        );
        assert_eq!(labels.get(u32::MAX), "");
        assert_eq!(labels.count(), 3);
        assert_eq!(Labels::default().get(0), "");
    }

    #[test]
    fn too_much_text_has_no_number() {
        let mut builder = LabelsBuilder::default();
        let large = "x".repeat(LABEL_BYTES_MAX);
        assert_eq!(builder.id(&large), Some(1));
        assert_eq!(builder.id("y"), None);
        assert_eq!(builder.id(&large), Some(1));
    }
}
