//! Debian's SNMP agent, as an ordinary process on a port of loopback.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::place;
use crate::process::Process;

/// The name that it gives itself, sysName.
pub const SYSTEM_NAME: &str = "router.example";
/// The community that it listens to.
pub const COMMUNITY: &str = "public";

/// A snmpd with a configuration and a state of its own. Dropped, it ends.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

/// A row of its table of interfaces.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// ifIndex.
    pub index: u32,
    /// ifName.
    pub name: &'a str,
    /// ifAlias.
    pub alias: &'a str,
    /// ifHighSpeed, Mbit/s.
    pub high_speed: u32,
}

impl Row<'_> {
    /// Lines of its configuration that show this row, which the host has not.
    #[must_use]
    pub fn lines(&self) -> String {
        let Self {
            index,
            name,
            alias,
            high_speed,
        } = self;
        let table = ".1.3.6.1.2.1.31.1.1.1";
        format!(
            "override {table}.1.{index} octet_str \"{name}\"\n\
             override {table}.18.{index} octet_str \"{alias}\"\n\
             override {table}.15.{index} uinteger {high_speed}\n"
        )
    }
}

impl Agent {
    /// Starts it with further lines of its configuration; `None`, with the reason printed, where it
    /// is not installed.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// Under CI, where it is not installed.
    pub fn start_or_skip(lines: &str) -> Result<Option<Self>> {
        let Some(program) = place::program_or_skip("snmpd", "snmpd") else {
            return Ok(None);
        };
        let mut agent = Self {
            program,
            folder: tempfile::tempdir()?,
            port: place::free_udp_port()?,
            process: None,
        };
        agent.configure(lines)?;
        agent.start()?;
        Ok(Some(agent))
    }

    /// Gives it other lines, for its next start.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let text = format!(
            "agentaddress udp:127.0.0.1:{}\nsysName {SYSTEM_NAME}\nrocommunity {COMMUNITY}\n\
             {lines}\n",
            self.port
        );
        self.file("agent.conf", &text).map(drop)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let folder = self.folder();
        let mut command = Command::new(&self.program);
        command
            .args(["-f", "-Lo", "-C", "-c"])
            .arg(folder.join("agent.conf"))
            // Nothing of this host's own agent.
            .env("SNMP_PERSISTENT_DIR", folder.join("state"))
            .env("SNMPCONFPATH", folder)
            .env("MIBS", "");
        let process = Process::spawn("snmpd", &mut command, &folder.join("log"))?;
        self.process = Some(process);
        Ok(())
    }

    /// The running process.
    ///
    /// # Panics
    /// When it was never started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Its UDP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder that goes away with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in that folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}
