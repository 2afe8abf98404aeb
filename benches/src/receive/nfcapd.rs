//! nfcapd of nfdump, writing LZ4-compressed files as its users have it do.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::{Process, place};
use tempfile::TempDir;

use super::candidate::Running;
use super::socket;

/// How it is run, for the report.
pub const SET_UP: &str = "`nfcapd -y -t 3600`, its LZ4-compressed files in a temporary folder";

/// A running nfcapd.
#[derive(Debug)]
pub struct Nfcapd {
    process: Process,
    target: SocketAddr,
    /// Removed when everything is counted.
    _folder: TempDir,
}

impl Nfcapd {
    /// Starts it on a free port of `address`.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start(address: IpAddr, buffer: u64) -> Result<Self> {
        let program = place::program("nfcapd");
        let program = program.context("nfcapd is not here; run 'apt-get install nfdump'")?;
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let target = SocketAddr::from((address, place::free_udp_port()?));
        let files = folder.path().join("flows");
        std::fs::create_dir(&files)?;
        let mut command = Command::new(program);
        command.args(["-y", "-t", "3600", "-b", &address.to_string(), "-p"]);
        command.arg(target.port().to_string()).arg("-w").arg(files);
        command.arg("-B").arg(buffer.to_string());
        let process = Process::spawn("nfcapd", &mut command, &folder.path().join("log"))?;
        socket::wait_bound(target.port(), START_MAX).with_context(|| process.tail(20))?;
        Ok(Self {
            process,
            target,
            _folder: folder,
        })
    }
}

impl Running for Nfcapd {
    fn target(&self) -> SocketAddr {
        self.target
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        let status = self.process.stop()?;
        let success = status.success();
        ensure!(success, "nfcapd: {status}\n{}", self.process.tail(20));
        flows(&self.process.output()).with_context(|| self.process.tail(20))
    }
}

/// Sums the lines that it logs with each file: `Ident: 'none' Flows: 900022, Packets: ...`.
fn flows(output: &str) -> Result<u64> {
    let mut sum = None;
    for line in output.lines().filter(|line| line.starts_with("Ident: ")) {
        let (_, after) = line.split_once("Flows: ").context("no 'Flows: '")?;
        let digits = after.split(',').next().unwrap_or("");
        let flows: u64 = digits.parse().with_context(|| line.to_owned())?;
        sum = Some(sum.unwrap_or(0) + flows);
    }
    sum.context("nfcapd logged no line with its flows")
}

const START_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_all_files_are_summed() {
        let output = "Startup nfcapd.\nIdent: 'none' Flows: 900022, Packets: 1, Bytes: 2, \
            Sequence Errors: 34\nIdent: 'none' Flows: 8, Packets: 0\nTerminating nfcapd.\n";
        assert_eq!(flows(output).unwrap(), 900_030);
        assert!(flows("Startup nfcapd.\n").is_err());
    }
}
