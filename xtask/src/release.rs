//! What tasks share that drive the release build for minutes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use flowsluice_tests::place;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{engine, shell};

/// How much comes, and from what is run.
#[derive(clap::Args)]
pub struct Run {
    /// Flows a second.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = positive())]
    pub rate: u64,
    /// A `flowsluice` that is built already; without it the release build of this clone.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
}

impl Run {
    /// Program and library.
    pub fn obtain(&self) -> Result<(PathBuf, PathBuf)> {
        let binary = binary(self.binary.as_deref())?;
        Ok((binary, engine::obtain(self.library.as_deref())?))
    }
}

/// A program that is built already, or the release build of this clone.
pub fn binary(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        let failed = || format!("{}: there is no such program", given.display());
        return given.canonicalize().with_context(failed);
    }
    let build = ["build", "--release", "-p", "flowsluice"];
    shell::run(&mut shell::cargo(&build))?;
    Ok(place::target().join("release/flowsluice"))
}

/// From here on Ctrl-C sets this and does nothing else: a run stops in order, so that no collector
/// is left.
pub fn interruption() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("listen for signals")?;
    }
    Ok(interrupted)
}

/// Reads a number that is not 0.
pub fn positive() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}
