//! `cargo xtask metrics`: the page of all metrics, made of what a collector says of itself.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::{metrics, place};

use crate::generated;

/// Makes the page, or checks it.
pub fn main(args: &generated::Args) -> Result<()> {
    let built = Command::new("cargo")
        .args(["build", "--package", "flowsluice"])
        .current_dir(place::root())
        .status()
        .context("run cargo build")?;
    ensure!(built.success(), "cargo build: {built}");
    let made = metrics::page(&metrics::told()?);
    let path = place::root().join(metrics::PAGE);
    if args.check {
        let committed = fs::read_to_string(&path).unwrap_or_default();
        ensure!(
            committed == made,
            "{} is not what a collector says; run 'cargo xtask metrics' and commit it",
            path.display()
        );
        return Ok(());
    }
    fs::write(&path, made).with_context(|| format!("write {}", path.display()))?;
    eprintln!("xtask: wrote {}", path.display());
    Ok(())
}
