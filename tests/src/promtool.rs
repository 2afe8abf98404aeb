//! Prometheus' own judgement of what `/metrics` says, by its promtool.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{Collector, place, program};

/// Status of a promtool that understood everything and has a complaint about names.
const LINT: i32 = 3;
/// sFlow calls them so: they are no counters of counters.
const COUNTER_SAMPLES: [&str; 2] = ["_counter_samples_", "_counter_records_"];
const OF_TYPE: &str = "metric name should not include type 'counter'";

/// Has promtool read `/metrics` in both its forms, and complain about none of its names.
///
/// # Errors
/// When it does not understand one, loses a sample, or complains.
pub fn approve(collector: &Collector) -> Result<()> {
    let Some(promtool) = place::program_or_skip("promtool", "prometheus") else {
        return Ok(());
    };
    let classic = collector.page_as("/metrics", "text/plain;version=0.0.4")?;
    let complaints = complaints(&promtool, &classic)?;
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    let open = collector.page_as("/metrics", "application/openmetrics-text")?;
    let written = open.lines().filter(|line| !line.starts_with('#')).count();
    let read = samples_read(&promtool, &open)?;
    ensure!(
        read == written,
        "{read} of {written} samples were read\n{open}"
    );
    Ok(())
}

/// What the lint of `promtool check metrics`, which reads the text format, has to say.
fn complaints(promtool: &Path, text: &str) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("metrics");
    fs::write(&file, text)?;
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(File::open(&file)?);
    let output = command.output()?;
    let said = program::said(&output);
    let is_understood = output.status.success() || output.status.code() == Some(LINT);
    ensure!(is_understood, "promtool check metrics: {said}\n{text}");
    let is_meant = |line: &str| {
        line.ends_with(OF_TYPE) && COUNTER_SAMPLES.iter().any(|name| line.contains(name))
    };
    let complaints = said.lines().filter(|line| !is_meant(line));
    Ok(complaints.map(str::to_owned).collect())
}

/// How many different samples Prometheus reads, as OpenMetrics. It takes none without a time.
fn samples_read(promtool: &Path, text: &str) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("metrics");
    let timed = text.lines().map(|line| match line.starts_with('#') {
        true => format!("{line}\n"),
        false => format!("{line} 1700000000\n"),
    });
    fs::write(&file, timed.collect::<String>())?;
    let mut command = Command::new(promtool);
    command.args(["tsdb", "create-blocks-from", "openmetrics"]);
    let output = command
        .arg(&file)
        .arg(folder.path().join("blocks"))
        .output()?;
    let said = program::said(&output);
    ensure!(output.status.success(), "promtool tsdb: {said}\n{text}");
    // BLOCK ULID, MIN TIME, MAX TIME, DURATION, NUM SAMPLES, ...
    let samples = said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    samples
        .reduce(|one: usize, other| one + other)
        .with_context(|| format!("no block: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_is_not_as_it_shall_be() -> Result<()> {
        let Some(promtool) = place::program_or_skip("promtool", "prometheus") else {
            return Ok(());
        };
        let good = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n";
        assert!(complaints(&promtool, good)?.is_empty());
        let found = complaints(&promtool, "# TYPE a counter\na 1\n")?;
        assert!(
            found.iter().any(|line| line.contains("no help text")),
            "{found:?}"
        );
        assert!(complaints(&promtool, "a{ 1\n").is_err(), "no label");
        let twice = "# HELP a A.\n# TYPE a counter\na_total 1\na_total 1\n# EOF\n";
        assert_eq!(samples_read(&promtool, twice)?, 1);
        assert!(samples_read(&promtool, good).is_err(), "no end");
        Ok(())
    }
}
