//! A load: a generator at a rate, into a collector with its ClickHouse, looked at once a second.
//!
//! `cargo xtask load` judges one; the benchmark `end-to-end` searches with many.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clickhouse::ClickHouse;
use crate::collector::Collector;
use crate::generator::{Generator, Totals};
use crate::process::{self, Usage, usage};

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Flows a second.
    pub rate: u64,
    /// How long.
    pub seconds: u64,
    /// What the exporters speak: mix, netflow5, netflow9, ipfix or sflow5.
    pub protocol: String,
    /// What the flows look like: realistic or uniform.
    pub profile: String,
    /// Further arguments of `flowsluice generate`.
    pub more: Vec<String>,
}

/// One look while it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the start, seconds.
    pub at_s: f64,
    /// Active parts of the table `flows`.
    pub parts: u64,
    /// Rows in it.
    pub rows: u64,
    /// Age of the newest row, seconds: how long until a row can be asked for. Up to one second too
    /// much, since rows tell whole seconds. `None` while there is no row.
    pub newest_age_s: Option<f64>,
    /// Resident memory of the collector, bytes.
    pub collector_rss_bytes: u64,
}

/// What came of it. Counters are of this load alone.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One a second.
    pub samples: Vec<Sample>,
    /// By the generator.
    pub sent: Totals,
    /// Datagrams taken by the collector.
    pub datagrams_received: u64,
    /// Datagrams that the kernel dropped.
    pub datagrams_dropped_by_kernel: u64,
    /// Flows that ClickHouse acknowledged.
    pub flows_stored: u64,
    /// Growth of `SELECT count()`.
    pub rows: u64,
    /// Reasons with losses.
    pub losses: Vec<(String, u64)>,
    /// What the ledger's equations leave over.
    pub unaccounted: u64,
    /// From the end of sending until every flow was stored or counted; `None` when a minute was
    /// not enough.
    pub settled: Option<Duration>,
    /// Bytes a row of the whole table on disk.
    pub bytes_a_row: f64,
    /// CPU time while sending and settling, and the highest memory.
    pub collector: Usage,
    /// The same of ClickHouse.
    pub engine: Usage,
    /// CPU time of the generator, seconds.
    pub generator_cpu_s: f64,
}

impl Outcome {
    /// The most parts that there were.
    #[must_use]
    pub fn parts_max(&self) -> u64 {
        let parts = self.samples.iter().map(|sample| sample.parts);
        parts.max().unwrap_or(0)
    }

    /// Parts that come to stay in a second, by a straight line through the last half of the time.
    #[must_use]
    pub fn parts_slope(&self) -> f64 {
        let last_half = &self.samples[self.samples.len() / 2..];
        let points = last_half.iter().map(|s| (s.at_s, s.parts as f64));
        slope(&points.collect::<Vec<_>>())
    }

    /// Was every flow that was sent stored, and counted by ClickHouse, and nothing else?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let (datagrams, flows) = (self.sent.datagrams, self.sent.flows);
        self.datagrams_received == datagrams
            && self.datagrams_dropped_by_kernel == 0
            && (self.flows_stored, self.rows) == (flows, flows)
            && self.losses.is_empty()
            && self.unaccounted == 0
    }

    /// Flows a second that the generator made.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.sent.flows as f64 / self.sent.elapsed_s.max(0.001)
    }
}

/// Sends `load` with the generator of `binary` and waits until it is stored or counted. `look` is
/// called with each sample.
///
/// # Errors
/// When the generator fails, or collector or ClickHouse do not answer.
pub fn run(
    collector: &Collector,
    binary: &Path,
    load: &Load,
    mut look: impl FnMut(&Sample),
) -> Result<Outcome> {
    let clickhouse = collector.clickhouse()?;
    let status = collector.status()?;
    let engine = status.engine_pid().context("ClickHouse does not run")?;
    let (before, rows) = (status.ledger(), clickhouse.flows()?);
    let usage_before = (usage(collector.pid()), usage(engine));
    let ended_before = process::ended_children_cpu_s();
    let (samples, sent) = send(collector, &clickhouse, binary, load, &mut look)?;
    let generator_cpu_s = process::ended_children_cpu_s() - ended_before;
    let ended = Instant::now();
    let settled = collector.settle(before.datagrams_arrived() + sent.datagrams);
    let settled_after = ended.elapsed();
    // A load that does not settle is told all the same: the ledger says where its flows are.
    let (after, settled) = match settled {
        Ok(ledger) => (ledger, Some(settled_after)),
        Err(_) => (collector.status()?.ledger(), None),
    };
    let grown = |name: &str| after.counter(name) - before.counter(name);
    Ok(Outcome {
        samples,
        sent,
        datagrams_received: grown("datagrams_received"),
        datagrams_dropped_by_kernel: grown("datagrams_dropped_by_kernel"),
        flows_stored: after.store("flows_stored") - before.store("flows_stored"),
        rows: clickhouse.flows()? - rows,
        losses: after.losses_since(&before),
        unaccounted: after.unaccounted(),
        settled,
        bytes_a_row: bytes_a_row(&clickhouse)?,
        collector: used(usage_before.0, usage(collector.pid())),
        engine: used(usage_before.1, usage(engine)),
        generator_cpu_s,
    })
}

fn send(
    collector: &Collector,
    clickhouse: &ClickHouse,
    binary: &Path,
    load: &Load,
    look: &mut impl FnMut(&Sample),
) -> Result<(Vec<Sample>, Totals)> {
    let (rate, duration) = (load.rate.to_string(), format!("{}s", load.seconds));
    let mut arguments = vec!["--protocol", &load.protocol, "--profile", &load.profile];
    arguments.extend(["--rate", &rate, "--duration", &duration]);
    arguments.extend(load.more.iter().map(String::as_str));
    let log = collector.folder().join("generate.log");
    let mut generator = Generator::start(binary, collector.target(), &arguments, &log)?;
    let started = Instant::now();
    let mut samples = Vec::new();
    while !generator.has_ended()? {
        let sample = sample(collector, clickhouse, started)?;
        look(&sample);
        samples.push(sample);
        let next = Duration::from_secs(samples.len() as u64);
        // Not beyond the end: how long it takes to settle is measured from there.
        while started.elapsed() < next && !generator.has_ended()? {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let sent = generator.finish(Duration::from_secs(30))?;
    Ok((samples, sent))
}

/// One look. The newest second is that of the parts' own bounds: no row is read for it.
fn sample(collector: &Collector, clickhouse: &ClickHouse, started: Instant) -> Result<Sample> {
    let [parts, newest_age_ms, rows] = clickhouse.three(&format!(
        "SELECT count(), if(count() = 0, 0, greatest(0, toUnixTimestamp64Milli(now64(3)) - \
         1000 * toInt64(toUnixTimestamp(max(max_time))))), sum(rows) {PARTS}"
    ))?;
    Ok(Sample {
        at_s: started.elapsed().as_secs_f64(),
        parts,
        rows,
        newest_age_s: (parts > 0).then_some(newest_age_ms as f64 / 1000.0),
        collector_rss_bytes: usage(collector.pid()).rss_bytes,
    })
}

fn bytes_a_row(clickhouse: &ClickHouse) -> Result<f64> {
    clickhouse.value(&format!(
        "SELECT sum(data_compressed_bytes) / sum(rows) {PARTS}"
    ))
}

fn used(before: Usage, after: Usage) -> Usage {
    Usage {
        cpu_s: after.cpu_s - before.cpu_s,
        ..after
    }
}

/// Of the straight line with the least squares; 0 with fewer than two points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let variance: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if variance > 0.0 {
        covariance / variance
    } else {
        0.0
    }
}

const PARTS: &str = "FROM system.parts WHERE database = currentDatabase() AND table = 'flows' \
                     AND active";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line_with_the_least_squares() {
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 5.0)]), 0.0);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
