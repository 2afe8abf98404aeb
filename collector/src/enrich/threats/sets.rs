//! Sets of tags by number, and the union of lists.

use hashbrown::HashMap;

use super::list::Tags;
use crate::enrich::labels::{Labels, LabelsBuilder};
use crate::enrich::lpm::Ranges;

/// Most sets of tags. Where lists meet in more ways, addresses have the tags of some only.
const SETS_MAX: usize = 1 << 16;

/// Most bytes of a set as text.
const SET_BYTES_MAX: usize = 4096;

/// Sets of tags: `tag1,tag2`, sorted, by number.
#[derive(Default)]
pub(super) struct Sets {
    labels: LabelsBuilder,
    /// By number; the first is the empty one, which is 0.
    texts: Vec<Box<str>>,
    unions: HashMap<(u32, u32), u32>,
    refused: u64,
}

impl Sets {
    /// All groups (the list's tag, the lines' tags, where they hold) in one.
    pub(super) fn union<'a>(
        &mut self,
        groups: impl IntoIterator<Item = (&'a str, &'a Tags, &'a Ranges)>,
    ) -> Ranges {
        let numbered = |(tag, tags, ranges): (&'a str, &'a Tags, &'a Ranges)| {
            let mut tags: Vec<&str> = tags.iter().map(|tag| &**tag).collect();
            tags.push(tag);
            let set = self.set(tags).unwrap_or(0);
            let mut with_number = Ranges::default();
            for (start, end, _) in ranges.iter() {
                with_number.push(start, end, set);
            }
            with_number
        };
        let mut parts: Vec<Ranges> = groups.into_iter().map(numbered).collect();
        // Two and two, so that what is large is gone through few times.
        while parts.len() > 1 {
            let pairs = parts.chunks(2).map(|pair| match pair {
                [a, b] => a.overlay(b, |a, b| self.both(a, b)),
                rest => rest.first().cloned().unwrap_or_default(),
            });
            parts = pairs.collect();
        }
        parts.pop().unwrap_or_default()
    }

    /// How many sets there was no room for.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn labels(self) -> Labels {
        self.labels.finish()
    }

    /// The number of the union of two sets.
    fn both(&mut self, a: u32, b: u32) -> u32 {
        if a == 0 || b == 0 || a == b {
            return a | b;
        }
        if let Some(both) = self.unions.get(&(a, b)) {
            return *both;
        }
        let [texts_a, texts_b] = [a, b].map(|set| self.text(set).to_owned());
        let both = self.set(texts_a.split(',').chain(texts_b.split(',')).collect());
        if self.unions.len() < SETS_MAX {
            self.unions.insert((a, b), both.unwrap_or(a));
        }
        both.unwrap_or(a)
    }

    fn text(&self, set: u32) -> &str {
        let before = (set as usize).checked_sub(1);
        before
            .and_then(|set| self.texts.get(set))
            .map_or("", |text| text)
    }

    fn set(&mut self, mut tags: Vec<&str>) -> Option<u32> {
        tags.sort_unstable();
        tags.dedup();
        let text = tags.join(",");
        let is_small = text.len() <= SET_BYTES_MAX;
        let id = self.labels.find(&text);
        let id = id.or_else(|| {
            let has_room = self.texts.len() < SETS_MAX && is_small;
            let id = has_room.then(|| self.labels.id(&text)).flatten()?;
            self.texts.push(text.as_str().into());
            Some(id)
        });
        self.refused += u64::from(id.is_none());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_is_sorted_and_has_each_tag_once() {
        let mut sets = Sets::default();
        let a = sets.set(vec!["b", "a", "b"]).unwrap();
        let b = sets.set(vec!["c", "a"]).unwrap();
        assert_eq!((sets.text(a), sets.text(b)), ("a,b", "a,c"));
        let both = sets.both(a, b);
        assert_eq!(sets.both(b, a), both);
        assert_eq!(sets.both(both, a), both);
        assert_eq!(
            (sets.both(0, a), sets.both(a, 0), sets.both(0, 0)),
            (a, a, 0)
        );
        assert_eq!(sets.refused(), 0);
        assert_eq!(sets.labels().get(both), "a,b,c");
    }

    #[test]
    fn sets_for_which_there_is_no_room_are_counted_and_some_tags_stay() {
        let mut sets = Sets::default();
        let long = |c: &str| c.repeat(SET_BYTES_MAX - 10);
        let (a, b) = (long("a"), long("b"));
        let [a, b] = [&a, &b].map(|tag| sets.set(vec![tag]).unwrap());
        assert_eq!(sets.both(a, b), a);
        assert_eq!(sets.refused(), 1);
        for number in sets.texts.len()..SETS_MAX {
            assert!(sets.set(vec![&number.to_string()]).is_some());
        }
        assert_eq!(sets.set(vec!["one more"]), None);
        assert_eq!(sets.refused(), 2);
        assert_eq!(sets.set(vec!["77"]), sets.set(vec!["77"]));
        assert_eq!(sets.refused(), 2);
    }
}
