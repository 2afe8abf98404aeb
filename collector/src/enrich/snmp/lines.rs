//! How often the log tells of agents that stop answering.

use std::time::{Duration, Instant};

/// So many lines in [`WITHIN`]; when a link breaks, thousands may fall silent at once.
const LINES_MAX: u32 = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// Lets some lines through and counts the others.
#[derive(Debug, Default)]
pub struct Lines {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Lines {
    /// `Some` when a line may be written now, with the number of those that were left out before.
    pub fn may_tell(&mut self, now: Instant) -> Option<u64> {
        let is_over = |since| now.duration_since(since) >= WITHIN;
        if self.since.is_none_or(is_over) {
            self.since = Some(now);
            self.told = 0;
        }
        if self.told >= LINES_MAX {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_minute_and_the_number_of_the_others() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let told = (0..100).filter_map(|_| lines.may_tell(start));
        assert_eq!(told.collect::<Vec<_>>(), [0; 10]);
        assert_eq!(lines.may_tell(start + WITHIN), Some(90));
        assert_eq!(lines.may_tell(start + WITHIN), Some(0));
    }
}
