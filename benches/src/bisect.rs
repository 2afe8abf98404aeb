//! The highest rate that still works.

use anyhow::Result;

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first rate that is tried; doubled while it works, halved while it does not.
    pub first: u64,
    /// Below this rate nothing is tried.
    pub lowest: u64,
    /// Above this rate nothing is tried.
    pub highest: u64,
    /// The search ends when the lowest rate that failed is above the highest that worked by this
    /// part or less.
    pub step: f64,
}

impl Range {
    fn is_narrow(&self, works: u64, fails: u64) -> bool {
        fails <= works + 1 || fails as f64 <= works as f64 * (1.0 + self.step)
    }
}

/// What the search found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The highest rate that worked; `None` when none did.
    pub works: Option<u64>,
    /// The lowest rate that did not; `None` when all did.
    pub fails: Option<u64>,
}

/// Asks `works` of one rate after the other.
///
/// # Errors
/// The first error of `works`.
pub fn highest(range: Range, mut works: impl FnMut(u64) -> Result<bool>) -> Result<Found> {
    let mut found = Found::default();
    let mut rate = range.first.clamp(range.lowest, range.highest);
    loop {
        if works(rate)? {
            found.works = Some(rate);
        } else {
            found.fails = Some(rate);
        }
        rate = match (found.works, found.fails) {
            (Some(works), Some(fails)) if range.is_narrow(works, fails) => return Ok(found),
            (Some(works), Some(fails)) => u64::midpoint(works, fails),
            (Some(works), None) if works == range.highest => return Ok(found),
            (Some(works), None) => (2 * works).min(range.highest),
            (None, Some(fails)) if fails == range.lowest => return Ok(found),
            (None, fails) => (fails.unwrap_or(rate) / 2).max(range.lowest),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range {
        first: 100,
        lowest: 10,
        highest: 10_000,
        step: 0.05,
    };

    fn search(limit: u64) -> (Found, u32) {
        let mut steps = 0;
        let found = highest(RANGE, |rate| {
            steps += 1;
            Ok(rate <= limit)
        });
        (found.unwrap(), steps)
    }

    #[test]
    fn the_limit_is_between_what_works_and_what_fails() {
        for limit in [11, 57, 100, 101, 777, 9_999] {
            let (found, steps) = search(limit);
            let (works, fails) = (found.works.unwrap(), found.fails.unwrap());
            assert!(works <= limit && limit < fails, "{limit}: {found:?}");
            assert!(
                fails as f64 <= works as f64 * 1.05 + 1.0,
                "{limit}: {found:?}"
            );
            assert!(steps <= 14, "{limit}: {steps} steps");
        }
    }

    #[test]
    fn a_range_without_a_limit_in_it_is_told() {
        assert_eq!(search(5).0.works, None);
        let all = search(20_000).0;
        assert_eq!((all.works, all.fails), (Some(10_000), None));
    }

    #[test]
    fn an_error_ends_the_search() {
        assert!(highest(RANGE, |_| anyhow::bail!("the sender failed")).is_err());
    }
}
