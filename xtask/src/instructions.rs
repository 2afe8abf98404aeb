//! `cargo xtask instructions`: instructions a flow, held against `benches/instructions.toml`.
//!
//! Builds the counting program in release, without the peers of the benchmark, and launches it.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::debian::{self, Program};
use crate::shell;

/// What counts.
pub const VALGRIND: Program = Program {
    name: "valgrind",
    package: "valgrind",
};

/// Arguments of `cargo xtask instructions`.
#[derive(clap::Args)]
pub struct Args {
    /// Write what is counted into `benches/instructions.toml`, to be committed with the change that
    /// explains it.
    #[arg(long)]
    update: bool,
}

/// Provides valgrind, then counts.
pub fn main(args: &Args) -> Result<()> {
    let missing = debian::provide(&[VALGRIND])?;
    ensure!(missing.is_empty(), "{}", debian::remedy(&missing));
    let mut count = count();
    if args.update {
        count.arg("--update");
    }
    shell::run(&mut count)
}

/// Counts; fails when a stage takes more instructions than recorded.
pub fn check(is_ci: bool) -> Result<()> {
    let mut count = count();
    if is_ci {
        count.env("CI", "true");
    }
    shell::run(&mut count)
}

fn count() -> Command {
    let mut count = shell::cargo(&["run", "--release", "-p", "flowsluice-benches"]);
    count.args(["--bin", "flowsluice-instructions", "--"]);
    count
}
