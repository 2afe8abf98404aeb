//! A root folder that systemd has booted, in namespaces of its own.

use std::fmt::Display;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::Process;
use flowsluice_tests::process::tree;

use super::super::output;
use super::root::Root;
use super::saw;

/// How long a condition may take on a busy machine.
const MAX: Duration = Duration::from_secs(60);
/// How long a command in it may take, in seconds.
const COMMAND_MAX_S: &str = "280";

/// The machine; it is shut down with the value.
pub struct Machine<'a> {
    root: &'a Root,
    process: Process,
    /// Its systemd, seen from here.
    leader: u32,
}

impl<'a> Machine<'a> {
    /// Boots it and waits until everything in it is up.
    pub fn boot(root: &'a Root) -> Result<Self> {
        // If this program is killed, it goes too.
        let mut nspawn = Command::new("setpriv");
        nspawn
            .args(["--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--boot"])
            .args(["--register=no", "--keep-unit", "--private-network"])
            .args(["--console=pipe", "--directory"])
            .arg(root.folder())
            // Whatever the host has: systemd wants the one hierarchy that is current.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let log = root.folder().with_extension("log");
        let _ = std::fs::remove_file(&log);
        let process = Process::spawn("systemd-nspawn", &mut nspawn, &log)?;
        let mut machine = Self {
            root,
            process,
            leader: 0,
        };
        machine.leader = machine.find_leader()?;
        let up = || -> Result<bool> {
            let state = machine.try_run(&["systemctl", "is-system-running"]);
            Ok(state.is_ok_and(|said| said.trim() == "running"))
        };
        machine.until("systemd is up", up)?;
        saw("systemd is running, no unit failed");
        Ok(machine)
    }

    fn find_leader(&mut self) -> Result<u32> {
        let start = Instant::now();
        while start.elapsed() < MAX {
            if let Some(status) = self.process.poll()? {
                bail!("systemd-nspawn: {status}\n{}", self.process.tail(20));
            }
            let is_systemd = |pid: &&u32| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                name.is_ok_and(|name| name.trim() == "systemd")
            };
            if let Some(pid) = tree(self.process.pid()).iter().find(is_systemd) {
                return Ok(*pid);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("no systemd in it\n{}", self.process.tail(20))
    }

    pub fn root(&self) -> &Root {
        self.root
    }

    /// Runs a command in it; it must succeed.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.try_run(words).with_context(|| words.join(" "))
    }

    fn try_run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.leader.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args(["--root", "--wd", "--"])
            .args(["timeout", COMMAND_MAX_S])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        output(&mut command)
    }

    /// Does it fail, as it shall?
    pub fn refuses(&self, words: &[&str]) -> bool {
        self.try_run(words).is_err()
    }

    /// One property of the service.
    pub fn property(&self, name: &str) -> Result<String> {
        let value = self.run(&["systemctl", "show", "--value", "-p", name, "flowsluice"])?;
        Ok(value.trim().to_owned())
    }

    /// The service's process, and the engine's below it, as the machine numbers them.
    pub fn pids(&self) -> Result<(String, String)> {
        let main = self.property("MainPID")?;
        let engine = self.run(&["pgrep", "--parent", &main])?;
        ensure!(engine.lines().count() == 1, "children of {main}: {engine}");
        Ok((main, engine.trim().to_owned()))
    }

    /// What the collector answers to a question.
    pub fn ask(&self, sql: &str) -> Result<String> {
        let said = self.run(&["flowsluice", "query", &format!("{sql} FORMAT TSV")])?;
        Ok(said.trim().to_owned())
    }

    /// Waits until it answers, and that so.
    pub fn until_answer(&self, sql: &str, wanted: &(impl Display + ?Sized)) -> Result<()> {
        let wanted = wanted.to_string();
        let is_so = || Ok(self.ask(sql).is_ok_and(|said| said == wanted));
        let waited = self.until(&format!("{sql} is {wanted}"), is_so);
        waited.with_context(|| format!("it is {:?}", self.ask(sql)))
    }

    /// Waits for a condition.
    pub fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !is_so()? {
            ensure!(start.elapsed() < MAX, "not within {MAX:?}: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// What the service has said.
    pub fn journal(&self) -> String {
        let words = ["journalctl", "--no-pager", "-n", "60", "-u", "flowsluice"];
        self.try_run(&words)
            .unwrap_or_else(|error| format!("{error:#}"))
    }
}
