//! Grafana's published types and TypeScript's compiler, for the test that holds the dashboards
//! against them: by npm, of the versions and hashes in `tests/grafana-types`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;

use crate::{debian, engine, shell};

/// Installs them below `target/`, unless they are there.
pub fn obtain() -> Result<()> {
    let pinned = place::root().join("tests/grafana-types");
    let folder = place::target().join("grafana-types");
    let lock = fs::read(pinned.join(LOCK)).context("read the lock file of grafana-types")?;
    let is_whole = folder.join("node_modules/.package-lock.json").is_file();
    if is_whole && fs::read(folder.join(LOCK)).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let missing = debian::provide(&[engine::NPM])?;
    ensure!(missing.is_empty(), "{}", debian::remedy(&missing));
    fs::create_dir_all(&folder)?;
    for file in ["package.json", LOCK] {
        fs::copy(pinned.join(file), folder.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
    ]);
    npm.arg(&folder).arg("--cache").arg(folder.join("cache"));
    shell::run(&mut npm)
}

const LOCK: &str = "package-lock.json";
