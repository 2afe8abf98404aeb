//! As a service: what systemd is told, and the files that it reads.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::program::{run_in, said};
use flowsluice_tests::{Collector, Settings, Store, place};

/// How long a message may take on a busy machine.
const TOLD_MAX: Duration = Duration::from_secs(30);
/// Of which a third is how often it must say that it lives.
const PATIENCE_MS: u64 = 900;

/// The socket that systemd would listen on.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Listens until one of its lines is `wanted`.
    fn hear(&mut self, wanted: &str) -> Result<()> {
        let start = Instant::now();
        let mut message = [0; 4096];
        while start.elapsed() < TOLD_MAX {
            if let Ok(length) = self.socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                self.heard.extend(text.lines().map(str::to_owned));
            }
            if let Some(at) = self.heard.iter().position(|line| line == wanted) {
                self.heard.drain(..=at);
                return Ok(());
            }
        }
        anyhow::bail!("no {wanted} within {TOLD_MAX:?}; heard {:?}", self.heard)
    }
}

#[test]
fn systemd_is_told_that_it_collects_lives_and_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut manager = Manager {
        socket,
        heard: Vec::new(),
    };
    let mut settings = Settings::new(Store::Null);
    settings.environment = vec![
        ("NOTIFY_SOCKET", path.display().to_string()),
        ("WATCHDOG_USEC", (PATIENCE_MS * 1000).to_string()),
    ];
    let collector = Collector::launch(&settings)?;
    manager.hear("READY=1")?;
    manager.hear("STATUS=collecting")?;
    // Several in a row, and in time: one would also come of a start that hangs behind it.
    manager.hear("WATCHDOG=1")?;
    let start = Instant::now();
    for _ in 0..3 {
        manager.hear("WATCHDOG=1")?;
    }
    let least = Duration::from_millis(PATIENCE_MS / 3);
    ensure!(start.elapsed() >= least, "not one a third of its patience");
    collector.terminate()?;
    manager.hear("STOPPING=1")
}

#[test]
fn a_manager_that_is_gone_does_not_keep_it_from_collecting() -> Result<()> {
    let mut settings = Settings::new(Store::Null);
    settings.environment = vec![("NOTIFY_SOCKET", "/nonexistent/notify".into())];
    let collector = Collector::launch(&settings)?;
    let stopped = collector.end()?;
    ensure!(stopped.status.success(), "{}", stopped.status);
    ensure!(
        stopped.tail.contains("systemd cannot be told"),
        "{}",
        stopped.tail
    );
    Ok(())
}

/// The highest exposure, times ten, that `systemd-analyze security` may find.
const EXPOSURE_MAX: &str = "24";

#[test]
fn the_units_are_understood_and_little_exposed() -> Result<()> {
    let deploy = place::root().join("deploy");
    for unit in ["flowsluice.service", "flowsluice-geoip.service"] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--no-pager", "--offline=yes"]);
        analyze.arg(format!("--threshold={EXPOSURE_MAX}"));
        let output = analyze.arg(deploy.join(unit)).output();
        let output = output.context("systemd-analyze (Debian: systemd)")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let exposure = said.lines().last().unwrap_or_default();
        eprintln!("{unit}: {exposure}");
        ensure!(exposure.contains("exposure level"), "{unit}: {said}");
        ensure!(output.status.success(), "{unit}: {said}");
    }
    let units = [
        "flowsluice.service",
        "flowsluice-geoip.service",
        "flowsluice-geoip.timer",
    ];
    let mut analyze = Command::new("systemd-analyze");
    analyze.arg("verify");
    let output = analyze.args(units.map(|unit| deploy.join(unit))).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The program is not installed here.
    let is_wrong = |line: &&str| line.contains("flowsluice") && !line.contains("not executable");
    let wrong: Vec<_> = said.lines().filter(is_wrong).collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn the_kernel_may_give_sockets_the_buffer_that_they_ask_for() -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(place::root().join("deploy").join(name));
    let sysctl = read("flowsluice.sysctl.conf")?;
    let max = sysctl
        .lines()
        .find_map(|line| line.strip_prefix("net.core.rmem_max = "));
    let max: u64 = max.context("net.core.rmem_max")?.parse()?;
    let documented = read("flowsluice.toml")?;
    let default = format!("#socket_buffer = \"{}MiB\"", max >> 20);
    ensure!(documented.lines().any(|line| line == default), "{default}");
    Ok(())
}

#[test]
fn a_configuration_that_is_wrong_is_not_tried_again() -> Result<()> {
    let unit = std::fs::read_to_string(place::root().join("deploy/flowsluice.service"))?;
    let kept = unit
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let kept: i32 = kept.context("RestartPreventExitStatus")?.parse()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flowsluice.toml");
    std::fs::write(&file, "[receive]\nworkerz = 1\n")?;
    let output = run_in(folder.path(), &["run", "--config", "flowsluice.toml"])?;
    assert_eq!(output.status.code(), Some(kept), "{}", said(&output));
    let expected = "flowsluice.toml:2: receive.workerz: unknown key; did you mean 'workers'?";
    ensure!(said(&output).contains(expected), "{}", said(&output));
    Ok(())
}
