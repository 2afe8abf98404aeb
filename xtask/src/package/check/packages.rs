//! What dpkg does with the packages.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::machine::Machine;
use super::root::{Listing, Root, inside};
use super::{Packages, saw};

pub const CONFIGURATION: &str = "/etc/flowsluice/flowsluice.toml";
pub const BOTH: [&str; 2] = ["flowsluice", "flowsluice-clickhouse"];
pub const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/flowsluice.service";

/// Installed and purged where no systemd runs.
pub fn in_a_chroot(root: &Root, packages: &Packages) -> Result<()> {
    let before = root.listing()?;
    root.chroot(&["dpkg", "--install", &inside(packages.collector)])?;
    ensure!(
        root.path(WANTED).symlink_metadata().is_ok(),
        "the service is not enabled"
    );
    root.chroot(&["dpkg", "--verify", "flowsluice"])?;
    root.chroot(&["flowsluice", "check"])?;
    root.chroot(&["dpkg", "--purge", "flowsluice"])?;
    is_clean(&root.listing()?, &before)?;
    saw("in a chroot: installed, enabled, its configuration accepted, purged, nothing left");
    Ok(())
}

/// Both installed at once; the service collects.
pub fn install(machine: &Machine, packages: &Packages) -> Result<()> {
    let [collector, engine] = packages.debs().map(inside);
    machine.run(&["dpkg", "--install", &collector, &engine])?;
    machine.run(&["systemctl", "is-active", "flowsluice"])?;
    machine.until_answer("SELECT 1", "1")?;
    let state = "stat --format %U:%a /var/lib/flowsluice";
    let state = machine.run(&state.split(' ').collect::<Vec<_>>())?;
    ensure!(
        state.trim() == "flowsluice:750",
        "/var/lib/flowsluice: {state}"
    );
    // Whether a manual can be shown at all: what is missing fails.
    let pages = machine.root().path("/usr/share/man/man1");
    let pages = fs::read_dir(pages)?.count();
    ensure!(pages > 10, "{pages} pages of manual");
    saw("both packages installed, the service active, its ClickHouse answers");
    Ok(())
}

/// The collector alone, which has no engine then; it is started when that comes. Purged again.
pub fn one_after_the_other(machine: &Machine, packages: &Packages, before: &Listing) -> Result<()> {
    machine.run(&["dpkg", "--install", &inside(packages.collector)])?;
    let state = machine.property("ActiveState")?;
    ensure!(state != "active", "it collects without an engine");
    machine.run(&["dpkg", "--install", &inside(packages.engine)])?;
    machine.until_answer("SELECT 1", "1")?;
    saw("the collector alone does not start; it is started when the engine comes");
    purge(machine, before)
}

/// The later version in its place: configuration and rows are kept, the service is a new one.
pub fn upgrade(machine: &Machine, packages: &Packages) -> Result<()> {
    let configuration = machine.root().path(CONFIGURATION);
    let (before, rows) = (fs::read_to_string(&configuration)?, rows(machine)?);
    let (main, _) = machine.pids()?;
    machine.run(&["dpkg", "--install", &inside(packages.later)])?;
    ensure!(
        machine.property("ActiveState")? == "active",
        "it is not active"
    );
    ensure!(
        machine.property("MainPID")? != main,
        "the old one still runs"
    );
    ensure!(
        fs::read_to_string(&configuration)? == before,
        "the configuration was changed"
    );
    machine.until_answer("SELECT count() FROM flows", &rows)?;
    let version = machine.run(&["dpkg-query", "--show", "flowsluice"])?;
    saw(&format!(
        "upgraded to {}: configuration and {rows} rows kept",
        version.trim()
    ));
    // One that was stopped by hand stays so.
    machine.run(&["systemctl", "stop", "flowsluice"])?;
    machine.run(&["dpkg", "--install", &inside(packages.collector)])?;
    ensure!(
        machine.property("ActiveState")? == "inactive",
        "it was started"
    );
    machine.run(&["systemctl", "start", "flowsluice"])?;
    machine.until_answer("SELECT count() FROM flows", &rows)?;
    saw("downgraded while stopped: stayed stopped; then started, with the same rows");
    Ok(())
}

/// Removed, the data are kept; purged, nothing is.
pub fn remove_and_purge(machine: &Machine, before: &Listing) -> Result<()> {
    machine.run(&[&["dpkg", "--remove"], &BOTH[..]].concat())?;
    ensure!(machine.refuses(&["pgrep", "flowsluice"]), "it still runs");
    for kept in [CONFIGURATION, "/var/lib/flowsluice/clickhouse"] {
        ensure!(machine.root().path(kept).exists(), "{kept} is gone");
    }
    saw("removed: stopped, configuration and data kept");
    purge(machine, before)
}

fn purge(machine: &Machine, before: &Listing) -> Result<()> {
    machine.run(&[&["dpkg", "--purge"], &BOTH[..]].concat())?;
    is_clean(&machine.root().listing()?, before)?;
    let failed = machine.run(&["systemctl", "--failed", "--no-legend"])?;
    ensure!(failed.trim().is_empty(), "{failed}");
    saw("purged: no file, no user, no unit is left");
    Ok(())
}

fn rows(machine: &Machine) -> Result<String> {
    machine.ask("SELECT count() FROM flows")
}

pub fn is_clean(after: &Listing, before: &Listing) -> Result<()> {
    let differences = after.differences(before);
    ensure!(
        differences.is_empty(),
        "left or missing:\n{}",
        differences.join("\n")
    );
    Ok(())
}

/// Replaces the configuration's only line `from`.
pub fn configure(root: &Root, from: &str, to: &str) -> Result<()> {
    let path: &Path = &root.path(CONFIGURATION);
    let text = fs::read_to_string(path)?;
    let lines = text.lines().filter(|line| *line == from).count();
    ensure!(lines == 1, "{CONFIGURATION}: {lines} lines {from}");
    let replaced = |line| if line == from { to } else { line };
    let lines: Vec<_> = text.lines().map(replaced).collect();
    fs::write(path, lines.join("\n") + "\n")?;
    Ok(())
}
