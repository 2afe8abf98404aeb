//! One child process: how it is started, what it says, how it ends.
#![allow(unsafe_code)] // between fork and exec, and kill(2) of a process group

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::supervisor::{Event, Spec};

/// A started child; killed and reaped when dropped.
pub(super) struct Child {
    /// Its standard input is the pipe that tells it, by closing, that this process is gone.
    process: std::process::Child,
    last_words: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
    ended: bool,
}

impl Child {
    /// Starts it. `events` is told when its output ends, which is when it does.
    ///
    /// The thread that calls this must outlive the child: the kernel takes the death of the thread
    /// that forked for the death of the parent (PR_SET_PDEATHSIG, prctl(2)).
    pub fn spawn(spec: &Spec, events: Sender<Event>) -> io::Result<Self> {
        let (output, writer) = io::pipe()?;
        let mut command = Command::new(&spec.binary);
        command
            .arg("engine")
            .arg("--library")
            .arg(&spec.library)
            .arg("--")
            .args(arguments(spec))
            .current_dir(&spec.engine)
            // Nothing of this process's environment is for ClickHouse: NOTIFY_SOCKET, secrets.
            .env_clear()
            .env("TZ", "UTC")
            .env("HOME", &spec.engine)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // Ctrl-C in a terminal is for this process, which stops the child in its turn.
            .process_group(0);
        let parent = std::process::id();
        // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are
        // allowed: it makes system calls on local memory and allocates nothing.
        unsafe { command.pre_exec(move || detach(parent)) };
        let process = command.spawn()?;
        // The writing ends that `command` holds would keep the output from ending.
        drop(command);
        let pid = process.id();
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let words = Arc::clone(&last_words);
        let mut child = Self {
            process,
            last_words,
            listener: None,
            ended: false,
        };
        let listener = std::thread::Builder::new().name("engine-output".into());
        child.listener = Some(listener.spawn(move || {
            listen(output, &words);
            // Nobody waits for it any more when the supervisor has ended.
            let _ = events.send(Event::OutputEnded { pid });
        })?);
        Ok(child)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.try_wait().ok().flatten()?;
        self.ended = true;
        Some(status)
    }

    /// Waits until it has ended, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends `signal` to it and to whatever it may have started.
    pub fn signal(&self, signal: libc::c_int) {
        if self.ended {
            return;
        }
        let group = libc::pid_t::try_from(self.process.id()).expect("a process id is positive");
        // SAFETY: the child was not reaped yet, so its id still names it and the group it leads.
        unsafe { libc::kill(-group, signal) };
    }

    /// What it said last, without stack traces; all of it once the child has ended.
    pub fn last_words(&mut self) -> String {
        if self.ended
            && let Some(listener) = self.listener.take()
        {
            // A listener that panicked has nothing more to say.
            let _ = listener.join();
        }
        let words = self.last_words.lock();
        let words = words.unwrap_or_else(PoisonError::into_inner);
        words
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(libc::SIGKILL);
            // Cannot fail for a child that was not reaped.
            let _ = self.process.wait();
        }
    }
}

/// Why a child ended, for people.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".into(),
    }
}

fn arguments(spec: &Spec) -> Vec<OsString> {
    let mut path = OsString::from("--path=");
    path.push(&spec.clickhouse);
    let mut arguments = vec![
        path,
        format!("--listen_host={}", spec.http.ip()).into(),
        format!("--http_port={}", spec.http.port()).into(),
        "--config-file=config.xml".into(),
        // The level in config.xml is not heeded.
        "--log-level=warning".into(),
    ];
    if let Some(tcp) = spec.tcp {
        arguments.push(format!("--tcp_port={}", tcp.port()).into());
    }
    // `local` lives as long as its query: one that sleeps until it is killed.
    arguments.push(
        "--query=SYSTEM START LISTEN HTTP; SELECT sleepEachRow(0.2) FROM system.numbers \
         SETTINGS max_block_size=1 FORMAT Null"
            .into(),
    );
    arguments
}

/// Takes from the child, before it becomes ClickHouse, what it must not inherit.
fn detach(parent: u32) -> io::Result<()> {
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: prctl with these options reads its integer arguments only.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // Kernels without ambient capabilities have none to clear.
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
    }
    // Those of a unit's AmbientCapabilities are inheritable, too: worth nothing to a program whose
    // file has none, and not its business. A kernel that refuses leaves them.
    let _ = capabilities(None).and_then(|had| {
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { inheritable, ..had })
    });
    // SAFETY: getppid has no arguments and cannot fail.
    if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
        // The parent died before the kernel was asked to tell.
        return Err(io::ErrorKind::NotConnected.into());
    }
    // SAFETY: a cpu_set_t of ones is a valid value; the kernel reads its size and leaves out the
    // processors that this system or its cgroup does not have. When it refuses, the child stays
    // where the thread that forked it was: slower, not wrong.
    unsafe {
        let mut all = std::mem::MaybeUninit::<libc::cpu_set_t>::uninit();
        std::ptr::write_bytes(all.as_mut_ptr(), 0xff, 1);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), all.as_ptr());
    }
    // SAFETY: `limit` is valid for writing, then for reading. ClickHouse holds many parts open.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    // Sockets are opened with CLOEXEC everywhere; this holds for descriptors that a library or
    // whoever started us forgot. Kernels before 5.11 refuse it.
    // SAFETY: close_range with this flag only marks descriptors; those that are used until exec
    // stay open until exec.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
    Ok(())
}

fn listen(output: PipeReader, words: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if is_noise(line) {
            continue;
        }
        tracing::debug!(line, "ClickHouse says");
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LINES_MAX {
            words.pop_front();
        }
        words.push_back(line.chars().take(CHARS_MAX).collect());
    }
}

/// Stack frames (`12. main @ 0x48`), and what it says at every start.
fn is_noise(line: &str) -> bool {
    let frame = line
        .split_once(". ")
        .is_some_and(|(number, rest)| number.parse::<u16>().is_ok() && rest.contains(" @ "));
    frame || line.is_empty() || line.starts_with("Logging ")
}

/// Lines that are kept to tell why a child ended.
const LINES_MAX: usize = 6;

/// Characters of such a line.
const CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_frames_are_not_last_words() {
        assert!(is_noise("12. main @ 0x0000000000048eec"));
        assert!(is_noise("24. ? @ 0x0000000000027305"));
        assert!(!is_noise("Code: 76. DB::Exception: Cannot lock file"));
    }
}
