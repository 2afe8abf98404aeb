//! Candidates in turn, round after round: what slows the machine for a while slows all of them.

use std::fmt;

use anyhow::Result;

/// One round of one candidate: does the work, returns what was measured.
pub type Round<'a, T> = Box<dyn FnMut() -> Result<T> + 'a>;

/// Runs A, B, C, A, B, C... for `rounds` rounds after one that does not count, which fills caches
/// and learns templates. Returns what each candidate measured, in the order of `candidates`.
///
/// # Errors
/// The first error of a candidate.
pub fn alternate<T>(rounds: usize, candidates: &mut [Round<'_, T>]) -> Result<Vec<Vec<T>>> {
    let mut measured: Vec<Vec<T>> = candidates.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (candidate, measured) in candidates.iter_mut().zip(&mut measured) {
            let one = candidate()?;
            if round > 0 {
                measured.push(one);
            }
        }
    }
    Ok(measured)
}

/// One quantity over the rounds of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The middle value; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
}

impl Figure {
    /// Of at least one value.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a figure is of one round at least");
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Self {
            median,
            min: values[0],
            max: values[values.len() - 1],
        }
    }
}

impl fmt::Display for Figure {
    /// `29.8 (29.1-31.0)`, all with as many decimals as suit the median.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = decimals(self.median);
        let [median, min, max] = [self.median, self.min, self.max].map(|n| number(n, decimals));
        write!(f, "{median} ({min}-{max})")
    }
}

/// Three digits that say something, none after the point from 1000 on.
fn decimals(value: f64) -> usize {
    match value.abs() {
        ..10.0 => 2,
        ..1000.0 => 1,
        _ => 0,
    }
}

/// With commas between thousands.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.find('.').map_or((&*text, ""), |at| text.split_at(at));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let candidate = |name: &'static str| -> Round<'_, usize> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok(order.borrow().len())
            })
        };
        let measured = alternate(2, &mut [candidate("a"), candidate("b")]).unwrap();
        assert_eq!(measured, [[3, 5], [4, 6]]);
        assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
    }

    #[test]
    fn a_round_that_fails_ends_the_measurement() {
        let mut fails: [Round<'_, ()>; 1] = [Box::new(|| anyhow::bail!("no flows"))];
        assert!(alternate(3, &mut fails).is_err());
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Figure::of([4.0, 1.0, 3.0, 2.0]).median, 2.5);
    }

    #[test]
    fn a_figure_shows_its_median_and_its_range() {
        let text = |values: &[f64]| Figure::of(values.iter().copied()).to_string();
        assert_eq!(text(&[29.1, 29.8, 31.0]), "29.8 (29.1-31.0)");
        assert_eq!(text(&[0.5, 0.666, 0.7]), "0.67 (0.50-0.70)");
        let millions = [1_234_567.8, 999_999.0, 2_000_000.0];
        assert_eq!(text(&millions), "1,234,568 (999,999-2,000,000)");
    }
}
