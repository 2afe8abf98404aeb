//! `cargo xtask ci`: what a change must pass.

use anyhow::Result;

use crate::{shell, test};

/// Format check, lints with warnings denied, every test.
pub fn main() -> Result<()> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    shell::run(&mut shell::cargo(&clippy))?;
    test::run(None, &[], true)
}
