//! Programs that come from Debian: installed as root, otherwise named.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
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

/// Makes a program available whose package would bring a service along: that is not installed, and
/// of its files the program alone is kept.
pub fn unpack(program: Program) -> Result<()> {
    let Program { name, package } = program;
    if place::program(name).is_some() {
        return Ok(());
    }
    let has_apt = place::program("apt-get").is_some();
    ensure!(has_apt, "{}", remedy(&[program]));
    if rustix::process::geteuid().is_root() {
        shell::run(&mut apt(&["update", "-q"])).context("read Debian's package lists")?;
    }
    let work = place::programs().join("incoming");
    // What an interrupted attempt left.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mut download = apt(&["download", "-q", package]);
    shell::run_in(&work, &mut download).with_context(|| remedy(&[program]))?;
    let archive = fs::read_dir(&work)?
        .next()
        .context("apt-get left no package")??;
    let mut extract = Command::new("dpkg-deb");
    extract.arg("--extract").arg(archive.path());
    shell::run(extract.arg(work.join("files")))?;
    let found = work.join("files/usr/bin").join(name);
    fs::rename(&found, place::programs().join(name))
        .with_context(|| format!("{package} has no {name}"))?;
    fs::remove_dir_all(&work).context("remove the package")
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
