//! The program, run to its end.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;

use crate::place;

/// Runs it in `folder`.
///
/// # Errors
/// When it is not built, or cannot be started.
pub fn run_in(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(place::binary()?);
    Ok(command.args(arguments).current_dir(folder).output()?)
}

/// What it printed, errors last.
#[must_use]
pub fn said(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&text).into_owned()
}
