//! What `flowsluice generate --sent-log` wrote: when how many flows had been sent.

use std::path::Path;

use anyhow::{Context, Result};

/// When so many flows had been sent, a line a burst. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct SentLog(Vec<(u128, u64)>);

impl SentLog {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing, or is not such a log.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context("read the log of what was sent")?;
        Self::parse(&text)
    }

    /// Parses its text.
    ///
    /// # Errors
    /// When a line lacks its numbers.
    pub fn parse(text: &str) -> Result<Self> {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut next = || words.next().context("a line of three numbers");
            Ok((next()?.parse()?, next()?.parse()?))
        };
        Ok(Self(text.lines().map(line).collect::<Result<_>>()?))
    }

    /// When the first burst was sent.
    #[must_use]
    pub fn began(&self) -> Option<u128> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Flows that had surely been sent at `time`.
    #[must_use]
    pub fn at_least_by(&self, time: u128) -> u64 {
        let behind = self.0.partition_point(|(at, _)| *at <= time);
        behind.checked_sub(1).map_or(0, |last| self.0[last].1)
    }

    /// Flows that may have been sent at `time`: a line is written behind its burst.
    #[must_use]
    pub fn at_most_by(&self, time: u128) -> u64 {
        let next = self.0.partition_point(|(at, _)| *at < time);
        let line = self.0.get(next).or(self.0.last());
        line.map_or(0, |(_, flows)| *flows)
    }

    /// When the flow with this number had surely been sent.
    #[must_use]
    pub fn when(&self, number: u64) -> Option<u128> {
        let line = self.0.partition_point(|(_, flows)| *flows < number);
        self.0.get(line).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_have_been_sent_before_its_line_and_surely_was_behind_it() {
        let log = SentLog::parse("100 30 1\n200 60 2\n300 90 3\n").expect("it parses");
        assert_eq!(
            [99, 100, 250, 400].map(|at| log.at_least_by(at)),
            [0, 30, 60, 90]
        );
        assert_eq!(
            [99, 100, 250, 400].map(|at| log.at_most_by(at)),
            [30, 30, 90, 90]
        );
        assert_eq!(log.when(30), Some(100));
        assert_eq!(log.when(31), Some(200));
        assert_eq!(log.when(91), None);
        assert_eq!(log.began(), Some(100));
        assert!(SentLog::parse("100\n").is_err());
    }
}
