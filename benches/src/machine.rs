//! What the figures were measured on.

use std::fmt;
use std::thread;

use anyhow::{Context, Result};

/// This machine, as far as figures depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    cpu: String,
    processors: usize,
    memory_gib: u64,
    distribution: String,
    kernel: String,
    rustc: &'static str,
}

impl Machine {
    /// Asks the system.
    ///
    /// # Errors
    /// When /proc does not tell.
    pub fn read() -> Result<Self> {
        let cpu = file("/proc/cpuinfo")?;
        let memory = file("/proc/meminfo")?;
        let release = file("/etc/os-release").unwrap_or_default();
        let kib: u64 = value(&memory, "MemTotal", ':')
            .and_then(|text| text.trim_end_matches(" kB").parse().ok())
            .context("/proc/meminfo: no MemTotal")?;
        let distribution = value(&release, "PRETTY_NAME", '=').unwrap_or("unknown Linux");
        Ok(Self {
            cpu: value(&cpu, "model name", ':')
                .unwrap_or("unknown CPU")
                .into(),
            processors: thread::available_parallelism()?.get(),
            memory_gib: kib.div_ceil(1 << 20),
            distribution: distribution.trim_matches('"').into(),
            kernel: file("/proc/sys/kernel/osrelease")?.trim().into(),
            rustc: env!("FLOWSLUICE_RUSTC"),
        })
    }
}

impl fmt::Display for Machine {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            processors,
            memory_gib,
            distribution,
            kernel,
            rustc,
        } = self;
        write!(
            f,
            "{cpu}, {processors} processors, {memory_gib} GiB, {distribution}, Linux {kernel}, \
             {rustc}"
        )
    }
}

/// The version of a crate that this program was built with, by its lock file.
#[must_use]
pub fn crate_version(name: &str) -> Option<&'static str> {
    let lock = include_str!("../../Cargo.lock");
    let mut lines = lock.lines();
    lines.find(|line| *line == format!("name = \"{name}\""))?;
    let version = lines.next()?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
}

/// What stands behind `key` and `separator` in the first line that begins so.
fn value<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == key).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_in_one_line() {
        let line = Machine::read().unwrap().to_string();
        assert!(line.contains("GiB") && line.contains("rustc 1."), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn values_are_found_by_their_key() {
        let text = "model\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(value(text, "model name", ':'), Some("AMD EPYC"));
        assert_eq!(value(text, "stepping", ':'), None);
    }

    #[test]
    fn the_version_of_a_crate_is_that_of_the_lock_file() {
        assert_eq!(
            crate_version("flowsluice"),
            Some(env!("CARGO_PKG_VERSION")),
            "all crates of the workspace have one version"
        );
        assert_eq!(crate_version("no-such-crate"), None);
    }
}
