//! The service as systemd runs it.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::machine::Machine;
use super::packages::configure;
use super::saw;

/// The highest exposure, times ten, that `systemd-analyze security` may find.
const EXPOSURE_MAX: &str = "24";
const DROP_IN: &str = "/etc/systemd/system/flowsluice.service.d/check.conf";
const NETWORKS: &str = "/etc/flowsluice/networks.csv";
/// The line of the configuration that is changed, and what it becomes.
const NO_NETWORKS: &str = "#networks = []";
const WITH_NETWORKS: &str = "networks = [\"/etc/flowsluice/networks.csv\"]";

/// Neither process has a right that it does not need.
pub fn is_confined(machine: &Machine) -> Result<()> {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let said = machine.run(&[
        "systemd-analyze",
        "security",
        "--no-pager",
        &threshold,
        "flowsluice.service",
    ])?;
    let exposure = said.lines().last().unwrap_or_default();
    ensure!(machine.property("Type")? == "notify", "not Type=notify");
    let (main, engine) = machine.pids()?;
    let user = machine.run(&["id", "--user", "flowsluice"])?;
    let user = user.trim();
    for pid in [&main, &engine] {
        let status = Status::of(machine, pid)?;
        ensure!(
            status.of_key("Uid")?.starts_with(user),
            "{pid}: another user"
        );
        for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure!(status.has_none(key)?, "{pid}: {key}");
        }
        ensure!(status.of_key("NoNewPrivs")? == "1", "{pid}: NoNewPrivs");
        ensure!(
            status.of_key("Seccomp")? == "2",
            "{pid}: no filter of system calls"
        );
    }
    let environment = machine.run(&["cat", &format!("/proc/{engine}/environ")])?;
    for name in ["NOTIFY_SOCKET", "WATCHDOG", "JOURNAL_STREAM"] {
        ensure!(!environment.contains(name), "the engine has {name}");
    }
    saw(&format!(
        "both processes as user {user}, without capabilities, under a filter;{}",
        exposure.trim_start_matches(|one: char| !one.is_ascii())
    ));
    Ok(())
}

/// /proc/PID/status.
struct Status(String);

impl Status {
    fn of(machine: &Machine, pid: &str) -> Result<Self> {
        Ok(Self(machine.run(&["cat", &format!("/proc/{pid}/status")])?))
    }

    fn of_key(&self, key: &str) -> Result<&str> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no {key}"))?.trim())
    }

    /// No bit of this set of capabilities.
    fn has_none(&self, key: &str) -> Result<bool> {
        Ok(self.of_key(key)?.bytes().all(|digit| digit == b'0'))
    }
}

/// `systemctl reload`: the same process reads what an administrator has changed.
pub fn is_reloaded(machine: &Machine) -> Result<()> {
    let networks = machine.root().path(NETWORKS);
    fs::write(&networks, "prefix,name\n198.51.100.0/24,before\n")?;
    configure(machine.root(), NO_NETWORKS, WITH_NETWORKS)?;
    machine.run(&["systemctl", "restart", "flowsluice"])?;
    let main = machine.property("MainPID")?;
    fs::write(&networks, "prefix,name\n198.51.100.0/24,after\n")?;
    machine.run(&["systemctl", "reload", "flowsluice"])?;
    let was_read = || {
        Ok(machine
            .journal()
            .contains("the configuration was read again"))
    };
    machine.until("the configuration is read again", was_read)?;
    ensure!(machine.property("MainPID")? == main, "it was started again");
    machine.until_answer("SELECT 1", "1")?;
    saw("reloaded by the same process");
    Ok(())
}

/// With the capabilities that AF_XDP wants, the engine still has none.
pub fn gives_the_engine_no_capability(machine: &Machine) -> Result<()> {
    // Without CAP_BPF and CAP_PERFMON, which a container may not have to give.
    let rights = "CAP_NET_ADMIN CAP_NET_RAW";
    drop_in(
        machine,
        &format!("AmbientCapabilities={rights}\nCapabilityBoundingSet={rights}\n"),
    )?;
    machine.until_answer("SELECT 1", "1")?;
    let (_, engine) = machine.pids()?;
    let status = Status::of(machine, &engine)?;
    for key in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        ensure!(status.has_none(key)?, "the engine's {key}");
    }
    take_drop_in_away(machine)?;
    saw("with CAP_NET_ADMIN and CAP_NET_RAW for the collector, none for the engine");
    Ok(())
}

/// One that stands still is started again.
pub fn is_watched(machine: &Machine) -> Result<()> {
    drop_in(machine, "WatchdogSec=3\n")?;
    machine.until_answer("SELECT 1", "1")?;
    let (main, _) = machine.pids()?;
    machine.run(&["kill", "-STOP", &main])?;
    let is_another = || {
        let another = machine.property("MainPID")? != main;
        Ok(another && machine.property("ActiveState")? == "active")
    };
    machine.until("it is started again", is_another)?;
    ensure!(
        machine.property("NRestarts")? == "1",
        "other than one restart"
    );
    take_drop_in_away(machine)?;
    machine.until_answer("SELECT 1", "1")?;
    saw("stopped by a signal, the watchdog has it started again");
    Ok(())
}

/// A configuration that is wrong is told once.
pub fn refuses_a_wrong_configuration(machine: &Machine) -> Result<()> {
    configure(machine.root(), WITH_NETWORKS, "network = []")?;
    ensure!(
        machine.refuses(&["systemctl", "restart", "flowsluice"]),
        "it starts with a key that is unknown"
    );
    ensure!(machine.property("ExecMainStatus")? == "2", "another status");
    ensure!(
        machine.property("ActiveState")? == "failed",
        "it is tried again"
    );
    let said = machine.journal();
    ensure!(
        said.contains("network: unknown key"),
        "nothing says so: {said}"
    );
    configure(machine.root(), "network = []", WITH_NETWORKS)?;
    machine.run(&["systemctl", "start", "flowsluice"])?;
    machine.until_answer("SELECT 1", "1")?;
    saw("a wrong configuration: status 2, told with its key, not tried again");
    Ok(())
}

fn drop_in(machine: &Machine, lines: &str) -> Result<()> {
    let file = machine.root().path(DROP_IN);
    fs::create_dir_all(file.parent().context("it is in a folder")?)?;
    fs::write(&file, format!("[Service]\n{lines}"))?;
    restart(machine)
}

fn take_drop_in_away(machine: &Machine) -> Result<()> {
    fs::remove_file(machine.root().path(DROP_IN))?;
    restart(machine)
}

fn restart(machine: &Machine) -> Result<()> {
    machine.run(&["systemctl", "daemon-reload"])?;
    machine.run(&["systemctl", "restart", "flowsluice"])?;
    Ok(())
}
