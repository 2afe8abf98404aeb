//! `flowsluice generate`, the exporter simulator, and what it says it has sent.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Process;

/// What a generator has sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// UDP payloads.
    pub datagrams: u64,
    /// Flows in them.
    pub flows: u64,
    /// Bytes of the flows, scaled by the sampling rate.
    pub bytes: u64,
    /// Packets of the flows, scaled by the sampling rate.
    pub packets: u64,
    /// Bytes as exported.
    pub raw_bytes: u64,
    /// Packets as exported.
    pub raw_packets: u64,
    /// Wall time of sending, seconds.
    pub elapsed_s: f64,
    by_protocol: Value,
}

impl Totals {
    /// Finds the generator's last line of JSON.
    ///
    /// # Errors
    /// When there is none or a figure is missing.
    pub fn last_of(output: &str) -> Result<Self> {
        let found = output.lines().rev().find_map(|line| {
            let json = &line[line.find('{')?..];
            let value: Value = serde_json::from_str(json).ok()?;
            value.get("datagrams").is_some().then_some(value)
        });
        let value = found.with_context(|| format!("the generator printed no totals:\n{output}"))?;
        let number = |key: &str| {
            let number = value.get(key).and_then(Value::as_u64);
            number.with_context(|| format!("the generator's totals have no {key}: {value}"))
        };
        Ok(Self {
            datagrams: number("datagrams")?,
            flows: number("flows")?,
            bytes: number("bytes")?,
            packets: number("packets")?,
            raw_bytes: number("raw_bytes")?,
            raw_packets: number("raw_packets")?,
            elapsed_s: value
                .get("elapsed_s")
                .and_then(Value::as_f64)
                .unwrap_or(0.0),
            by_protocol: value.get("by_protocol").cloned().unwrap_or_default(),
        })
    }

    /// Flows, bytes and packets of one protocol, the latter two as exported.
    ///
    /// # Errors
    /// When the generator did not say.
    pub fn raw_of(&self, protocol: &str) -> Result<[u64; 3]> {
        let sums = self.by_protocol.get(protocol);
        let sums = sums.with_context(|| format!("nothing was sent as {protocol}"))?;
        let number = |key: &str| {
            sums.get(key)
                .and_then(Value::as_u64)
                .context(key.to_owned())
        };
        Ok([
            number("flows")?,
            number("raw_bytes")?,
            number("raw_packets")?,
        ])
    }
}

/// A running generator. Dropped, it is stopped.
#[derive(Debug)]
pub struct Generator(Process);

impl Generator {
    /// Starts `flowsluice generate --target TARGET --json ARGUMENTS`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        binary: &Path,
        target: SocketAddr,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(binary);
        command
            .args(["generate", "--json", "--target", &target.to_string()])
            .args(arguments);
        Ok(Self(Process::spawn("the generator", &mut command, log)?))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Has it ended by itself?
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.poll()?.is_some())
    }

    /// Waits until it has sent everything.
    ///
    /// # Errors
    /// When it does not end with success within `limit`, or prints no totals.
    pub fn finish(mut self, limit: Duration) -> Result<Totals> {
        let status = self.0.wait(limit)?;
        ensure!(
            status.success(),
            "it ended with {status}\n{}",
            self.0.tail(20)
        );
        Totals::last_of(&self.0.output())
    }

    /// Ends it now.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn stop(mut self) -> Result<Totals> {
        self.0.stop()?;
        Totals::last_of(&self.0.output())
    }
}

/// Generates until the end and returns what was sent.
///
/// # Errors
/// When the generator fails or takes longer than two minutes.
pub fn generate(
    binary: &Path,
    target: SocketAddr,
    arguments: &[&str],
    folder: &Path,
) -> Result<Totals> {
    let log = tempfile::Builder::new()
        .prefix("generate-")
        .tempfile_in(folder)?;
    let generator = Generator::start(binary, target, arguments, log.path())?;
    generator.finish(Duration::from_secs(120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_the_last_line_of_json() {
        let line = r#"{"datagrams":1,"flows":24,"bytes":5,"packets":4,"raw_bytes":3,"#.to_owned()
            + r#""raw_packets":2,"elapsed_s":1.5,"#
            + r#""by_protocol":{"ipfix":{"flows":24,"raw_bytes":3,"raw_packets":2}}}"#;
        let totals = Totals::last_of(&format!("started\n{line}\n")).expect("the line is there");
        assert_eq!(totals.flows, 24);
        assert_eq!(totals.raw_bytes, 3);
        assert_eq!(totals.raw_of("ipfix").expect("it was sent"), [24, 3, 2]);
        assert!(totals.raw_of("netflow5").is_err());
        assert!(Totals::last_of("{\"datagrams\":1}").is_err());
    }
}
