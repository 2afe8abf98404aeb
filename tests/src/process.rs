//! A child process that cannot outlive its owner.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// How long a process may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A running program whose output goes to a file. Dropped, it is stopped and waited for.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C reaches only its owner. Its
    /// standard output and error are appended to `log`.
    ///
    /// # Errors
    /// When the program or the file cannot be opened.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        Self::spawn_reading(Stdio::null(), name, command, log)
    }

    /// The same for a program that ends with its owner: its standard input is a pipe, which the
    /// kernel closes however the owner goes.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_held(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        Self::spawn_reading(Stdio::piped(), name, command, log)
    }

    fn spawn_reading(input: Stdio, name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(input)
            .stderr(out.try_clone()?)
            .stdout(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
            ended: None,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines that it printed, for a message.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let output = self.output();
        let all: Vec<_> = output.lines().collect();
        let tail = &all[all.len().saturating_sub(lines)..];
        format!("{} printed:\n{}", self.name, tail.join("\n"))
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.poll()?.is_some() {
            return Ok(());
        }
        signal_pid(self.child.id(), signal)
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is still running after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} did not end within {limit:?}\n{}",
                    self.name,
                    self.tail(30)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not stop; then it is killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let stopped = self.wait(STOP_MAX);
        if stopped.is_err() {
            self.kill()?;
        }
        stopped
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.ended = Some(self.child.wait()?);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}

/// Sends a signal to a process that one of our own children reported as its child.
///
/// # Errors
/// When there is no such process.
pub fn signal_pid(pid: u32, signal: Signal) -> Result<()> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.context("a process id is a positive number")?;
    kill_process(target, signal).with_context(|| format!("send {signal:?} to process {pid}"))
}

/// Sends SIGSTOP and waits until every thread of the process has stopped.
///
/// # Errors
/// When there is no such process, or it runs on for a second.
pub fn pause(pid: u32) -> Result<()> {
    signal_pid(pid, Signal::STOP)?;
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let stat = |thread: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread?.path().join("stat"))
        };
        let stats = threads.map(stat).collect::<Result<Vec<_>, _>>()?;
        if stats.iter().all(|stat| state(stat) == Some('T')) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("process {pid} does not stop: {stats:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Does this process exist and run (a zombie does not)?
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state(&stat).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The state in /proc/PID/stat; the name before it may hold spaces and brackets.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// `pid` and every process below it, by the parents that /proc tells.
#[must_use]
pub fn tree(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let child: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // Field 4 of proc(5) stat; the name before may hold spaces and brackets.
            let (_, after_name) = stat.rsplit_once(") ")?;
            Some((child, after_name.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        tree.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    tree
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time, user and system, in seconds.
    pub cpu_s: f64,
    /// Resident memory now, bytes.
    pub rss_bytes: u64,
    /// Highest resident memory so far, bytes.
    pub rss_peak_bytes: u64,
}

/// Processor time, user and system, of all children of this process that were waited for, with
/// those that they waited for; seconds.
#[must_use]
pub fn ended_children_cpu_s() -> f64 {
    // Fields 16 and 17 of proc(5) stat.
    ticks_s("self", 13)
}

/// The sum of two fields of ticks in /proc/PID/stat, counted from the state, field 3; seconds.
fn ticks_s(pid: &str, first: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 = (after_name.split(' ').skip(first).take(2))
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    // USER_HZ is 100 on every Linux that the appliance runs on.
    ticks / 100.0
}

/// Reads what a process has used from /proc; zero when it is gone.
#[must_use]
pub fn usage(pid: u32) -> Usage {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key));
        let digits = line.and_then(|line| line.split_whitespace().nth(1));
        digits.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    Usage {
        // Fields 14 and 15 of proc(5) stat.
        cpu_s: ticks_s(&pid.to_string(), 11),
        rss_bytes: kib("VmRSS:") * 1024,
        rss_peak_bytes: kib("VmHWM:") * 1024,
    }
}

/// File descriptors that a process has open; 0 when it is gone.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    entries(pid, "fd")
}

/// Threads of a process; 0 when it is gone.
#[must_use]
pub fn threads(pid: u32) -> usize {
    entries(pid, "task")
}

fn entries(pid: u32, folder: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        let process =
            Process::spawn("sleep", Command::new("sleep").arg("60"), &log).expect("sleep starts");
        let pid = process.pid();
        assert!(is_alive(pid));
        assert!(usage(pid).rss_bytes > 0);
        assert!(descriptors(pid) >= 3, "standard input, output and error");
        assert_eq!(threads(pid), 1);
        drop(process);
        assert!(!is_alive(pid));
        assert_eq!((descriptors(pid), threads(pid)), (0, 0));
    }

    #[test]
    fn children_of_children_are_in_the_tree() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("sh");
        command.args(["-c", "(sleep 60; :) & echo $!; wait"]);
        let mut process =
            Process::spawn("sh", &mut command, &folder.path().join("log")).expect("sh starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while tree(process.pid()).len() < 3 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let tree = tree(process.pid());
        assert_eq!(tree.len(), 3, "sh, the subshell, sleep: {tree:?}");
        for pid in tree.into_iter().skip(1) {
            signal_pid(pid, Signal::KILL).expect("it is ours");
        }
        process.wait(Duration::from_secs(10)).expect("it ends");
    }

    #[test]
    fn what_a_process_prints_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut process = Process::spawn("sh", &mut command, &log).expect("sh starts");
        let status = process.wait(Duration::from_secs(10)).expect("it ends");
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.output(), "out\nerr\n");
        assert_eq!(process.tail(1), "sh printed:\nerr");
    }
}
