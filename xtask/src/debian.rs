//! Programs that come from Debian: installed as root, otherwise named.

use std::process::Command;

use anyhow::{Context, Result};
use flowsluice_tests::place;

use crate::shell;

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the executable file.
    pub name: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

/// Makes `programs` available and returns those that are still missing: all that were missing when
/// this user may not install them.
pub fn provide(programs: &[Program]) -> Result<Vec<Program>> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(missing);
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || place::program("apt-get").is_none() {
        return Ok(missing);
    }
    shell::run(&mut apt(&["update", "-q"])).context("read Debian's package lists")?;
    let mut install = apt(&["install", "-q", "-y", "--no-install-recommends"]);
    install.args(missing.iter().map(|program| program.package));
    // An exporter's package starts a daemon of its own at installation; level 1 has none.
    install.env("RUNLEVEL", "1");
    shell::run(&mut install).context("install packages from Debian")?;
    Ok(self::missing(programs))
}

/// How to get what is missing.
pub fn remedy(missing: &[Program]) -> String {
    let names: Vec<_> = missing.iter().map(|program| program.name).collect();
    let packages: Vec<_> = missing.iter().map(|program| program.package).collect();
    let (names, packages) = (names.join(", "), packages.join(" "));
    format!("missing: {names}; run 'apt-get install {packages}' as root")
}

fn missing(programs: &[Program]) -> Vec<Program> {
    let is_missing = |program: &&Program| place::program(program.name).is_none();
    programs.iter().filter(is_missing).copied().collect()
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null());
    command
}
