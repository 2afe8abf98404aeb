//! nfacctd of pmacct, aggregating into its memory table.
//!
//! The memory plugin does all its work in processes that stay. The print plugin writes by children
//! of which nobody is told the CPU time, since pmacct ignores SIGCHLD (wait(2), NOTES). The table's
//! pools must be numbered: 0 stands for no limit in the manual, but gives 16.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::process::Signal;
use flowsluice_tests::{Process, place};
use tempfile::TempDir;

use super::candidate::Running;
use super::socket;

/// How it is run, for the report.
pub const SET_UP: &str = "`nfacctd` with its memory plugin, which aggregates by addresses, ports, \
    protocol, TOS and interfaces and writes nothing (table of 262,147 buckets, queue of 256 MiB \
    between its two processes)";

/// A running nfacctd.
#[derive(Debug)]
pub struct Nfacctd {
    process: Process,
    target: SocketAddr,
    folder: TempDir,
}

impl Nfacctd {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start(buffer: u64) -> Result<Self> {
        let program = place::program("nfacctd");
        let program = program.context("nfacctd is not here; run 'apt-get install pmacct'")?;
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let port = place::free_udp_port()?;
        let config = folder.path().join("nfacctd.conf");
        std::fs::write(&config, configuration(port, buffer, &pipe(folder.path())))?;
        let mut command = Command::new(program);
        command.arg("-f").arg(config);
        let process = Process::spawn("nfacctd", &mut command, &folder.path().join("log"))?;
        socket::wait_bound(port, START_MAX).with_context(|| process.tail(20))?;
        wait_table(&process)?;
        Ok(Self {
            process,
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            folder,
        })
    }

    /// Asks the memory table for its flows.
    fn flows(&self) -> Result<u64> {
        let program = place::program("pmacct");
        let mut command = Command::new(program.context("pmacct, nfacctd's client, is not here")?);
        command.arg("-s").arg("-O").arg("csv").arg("-p");
        command.arg(pipe(self.folder.path())).stdout(Stdio::piped());
        let mut client = command.spawn().context("start pmacct")?;
        let output = client.stdout.take().context("pmacct has an output")?;
        let flows = sum_flows(BufReader::new(output));
        let status = client.wait()?;
        ensure!(status.success(), "pmacct, nfacctd's client: {status}");
        flows
    }
}

impl Running for Nfacctd {
    fn target(&self) -> SocketAddr {
        self.target
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        let flows = self.flows().with_context(|| self.process.tail(20))?;
        self.process.signal(Signal::INT)?;
        self.process.wait(STOP_MAX)?;
        Ok(flows)
    }
}

/// Waits until the plugin is there too: what comes before is lost without a word.
fn wait_table(process: &Process) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    while !process.output().contains("waiting for data on: ") {
        let is_late = Instant::now() >= deadline;
        ensure!(!is_late, "nfacctd has no table\n{}", process.tail(20));
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn pipe(folder: &Path) -> PathBuf {
    folder.join("table")
}

fn configuration(port: u16, buffer: u64, pipe: &Path) -> String {
    let pipe = pipe.display();
    format!(
        "daemonize: false\n\
         nfacctd_ip: 127.0.0.1\n\
         nfacctd_port: {port}\n\
         nfacctd_pipe_size: {buffer}\n\
         nfacctd_time_new: true\n\
         plugins: memory[bench]\n\
         aggregate[bench]: src_host, dst_host, src_port, dst_port, proto, tos, in_iface, \
         out_iface, flows\n\
         plugin_pipe_size[bench]: 268435456\n\
         plugin_buffer_size[bench]: 65536\n\
         imt_path[bench]: {pipe}\n\
         imt_buckets[bench]: 262147\n\
         imt_mem_pools_number[bench]: 4096\n\
         imt_mem_pools_size[bench]: 1048576\n"
    )
}

/// Sums the column FLOWS.
fn sum_flows(csv: impl BufRead) -> Result<u64> {
    let mut lines = csv.lines();
    let head = lines.next().context("pmacct printed nothing")??;
    let column = head.split(',').position(|name| name == "FLOWS");
    let column = column.with_context(|| format!("pmacct printed no column FLOWS: {head}"))?;
    let mut sum = 0;
    for line in lines {
        let line = line?;
        let flows = line.split(',').nth(column).and_then(|n| n.parse().ok());
        // An empty table ends with a line about that.
        sum += flows.unwrap_or(0);
    }
    Ok(sum)
}

const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_flows_is_summed() {
        let csv = "SRC_IP,PACKETS,FLOWS,BYTES\n10.0.0.1,7,2,900\n10.0.0.2,1,1,40\n";
        assert_eq!(sum_flows(csv.as_bytes()).unwrap(), 3);
        assert!(sum_flows("SRC_IP,BYTES\n".as_bytes()).is_err());
        assert!(sum_flows("".as_bytes()).is_err());
    }
}
