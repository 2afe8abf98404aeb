//! The crates that the workspace is made of, as cargo resolves them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::place;

/// What `cargo metadata` says, of the platform that the collector is made for.
///
/// # Errors
/// When cargo does not run, or refuses.
pub fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(place::root())
        .output()
        .context("run cargo metadata")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "cargo metadata: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
