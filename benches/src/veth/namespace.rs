//! Network namespaces without a name: the kernel removes one, and the interfaces in it, as soon as
//! no process and no open file refers to it, however the benchmark ends.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::kernel;

/// A network namespace.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// A new one, in which the loopback interface is up.
    ///
    /// # Errors
    /// When this user may not make one, or `ip` is not installed.
    pub fn new() -> Result<Self> {
        let file = in_thread(|| {
            kernel::unshare_network().context("make a network namespace; run it as root")?;
            File::open("/proc/thread-self/ns/net").context("open the new network namespace")
        })?;
        let namespace = Self(file);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A file that stands for it while this process holds it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does `work` in a thread that is in this namespace. Sockets and processes that it makes stay
    /// there.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    ///
    /// # Panics
    /// When `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.0.as_fd(), network)
                .context("enter a network namespace")?;
            work()
        })
    }

    /// Runs `ip` there; yields what it printed.
    ///
    /// # Errors
    /// When it is not installed or fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.run("ip", arguments)
    }

    /// Runs a program of the system there, its arguments with a space between; yields what it
    /// printed.
    ///
    /// # Errors
    /// When it is not installed or fails.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String> {
        let file = place::program(program).with_context(|| format!("{program} is not here"))?;
        let words = arguments.split(' ');
        let output = self.enter(|| Ok(Command::new(file).args(words).output()?))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program} {arguments}: {}: {said}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let outcome = thread::scope(|scope| scope.spawn(work).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
