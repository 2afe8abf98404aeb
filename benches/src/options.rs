//! What every subject is told.

use std::path::PathBuf;

use anyhow::{Result, bail};
use flowsluice_tests::place;

/// How to measure, and what to do with the figures.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Fewer and shorter rounds, to see that it works; prints and does not write the results.
    #[arg(long, global = true)]
    pub quick: bool,
    /// Write the results although the rounds were few.
    #[arg(long, global = true)]
    pub write: bool,
    /// End to end: flows a second of the steady run.
    #[arg(long, global = true, value_name = "N", default_value_t = 150_000)]
    pub rate: u64,
    /// End to end: seconds of the steady run; 300 by default, 20 with --quick.
    #[arg(long, global = true, value_name = "N")]
    pub seconds: Option<u64>,
    /// Queries: hours of flows to ask about; 24 by default, 1 with --quick.
    #[arg(long, global = true, value_name = "N")]
    pub hours: Option<u32>,
    /// Queries: keep the flows in this folder, or ask those that stand there already.
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The ClickHouse library; without it, the one that `cargo xtask engine` keeps.
    #[arg(long, global = true, value_name = "PATH")]
    pub library: Option<PathBuf>,
}

impl Options {
    /// Rounds of every candidate.
    #[must_use]
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    /// True when the results go to `benches/RESULTS.md`.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.write || !self.quick
    }

    /// The ClickHouse library.
    ///
    /// # Errors
    /// When there is none.
    pub fn library(&self) -> Result<PathBuf> {
        match self.library.clone().or_else(place::engine_library) {
            Some(library) => Ok(library),
            None => bail!("libchdb.so is not here; run 'cargo xtask engine' or give --library"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_figures_are_not_written_unless_asked_for() {
        let options = |quick, write| Options {
            quick,
            write,
            ..Options::default()
        };
        assert!(options(false, false).writes());
        assert!(!options(true, false).writes());
        assert!(options(true, true).writes());
    }
}
