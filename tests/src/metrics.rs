//! What a collector says of itself at `/metrics`, and the page that documents it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::generator::generate;
use crate::{ClickHouse, Collector, Settings, Store};

/// The page, relative to the top of the clone.
pub const PAGE: &str = "deploy/metrics.md";

/// Labels of what a collector without ClickHouse, AF_XDP and others to forward to has no series of.
const LABELS: [(&str, &[&str]); 8] = [
    ("flowsluice_receive_interface_mode", &["interface", "mode"]),
    ("flowsluice_tee_datagrams_sent_total", &["to"]),
    ("flowsluice_tee_datagrams_dropped_total", &["reason", "to"]),
    ("flowsluice_clickhouse_parts", &["table"]),
    ("flowsluice_clickhouse_rows", &["table"]),
    ("flowsluice_clickhouse_bytes", &["table"]),
    ("flowsluice_clickhouse_disk_free_bytes", &["disk"]),
    ("flowsluice_clickhouse_disk_total_bytes", &["disk"]),
];

/// Words of a name that say what it counts, where it is more than a number.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// One family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As its series begin.
    pub name: String,
    /// `counter` or `gauge`.
    pub kind: String,
    /// What it is, for people.
    pub help: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
}

/// A collector that has everything to tell of: two servers, which are away.
///
/// # Errors
/// When it does not start.
pub fn teller() -> Result<Collector> {
    let away = |port: u16| ClickHouse {
        url: format!("http://127.0.0.1:{port}"),
        user: "default".into(),
        password: "nobody asks".into(),
        database: "flowsluice".into(),
    };
    let mut settings = Settings::new(Store::Servers(vec![away(1), away(2)]));
    settings.more = "spool.max_bytes = \"0B\"\n".into();
    Collector::launch(&settings)
}

/// What such a collector tells once exporters have sent to it.
///
/// # Errors
/// When it does not start, or what it tells cannot be read.
pub fn told() -> Result<Vec<Metric>> {
    let collector = teller()?;
    let arguments = ["--rate", "5000", "--flows", "2000"];
    let binary = crate::place::binary()?;
    let sent = generate(&binary, collector.target(), &arguments, collector.folder())?;
    let limit = std::time::Duration::from_secs(60);
    collector.wait_until("what was sent has arrived", limit, |status| {
        status.ledger().datagrams_arrived() == sent.datagrams
    })?;
    read(&collector.page("/metrics")?)
}

/// The families of an answer, in its order.
///
/// # Errors
/// When a line is not understood.
pub fn read(text: &str) -> Result<Vec<Metric>> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        let strange = || format!("not understood: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').with_context(strange)?;
            metrics.push(Metric {
                name: name.to_owned(),
                kind: String::new(),
                help: help.trim_end_matches('.').to_owned(),
                labels: BTreeSet::new(),
            });
            continue;
        }
        let metric = metrics.last_mut().with_context(strange)?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (_, kind) = rest.split_once(' ').with_context(strange)?;
            kind.clone_into(&mut metric.kind);
        } else if let Some((_, inner)) = line.split_once('{') {
            // A name of a label stands before each '="'; no value has one.
            let before = inner
                .split("=\"")
                .map(|part| part.rsplit(['"', ',']).next());
            let names = before.flatten().filter(|name| !name.contains('}'));
            metric.labels.extend(names.map(str::to_owned));
        }
    }
    for metric in &mut metrics {
        if metric.kind == "counter" {
            metric.name += "_total";
        }
        let known = LABELS.iter().find(|(name, _)| *name == metric.name);
        if let Some((_, labels)) = known {
            metric
                .labels
                .extend(labels.iter().map(|label| (*label).to_owned()));
        }
    }
    Ok(metrics)
}

/// The page that documents them.
#[must_use]
pub fn page(metrics: &[Metric]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Made by 'cargo xtask metrics' of what a collector says; do not edit. -->\n\n\
         What `/metrics` answers, in its order: OpenMetrics 1.0, or Prometheus' text format 0.0.4 \
         for who asks for `text/plain` alone.\n\
         The same figures are rows of the table `collector_stats`, but for those of single \
         exporters. What to do when one moves: [troubleshooting.md]\
         (troubleshooting.md).\n\n\
         | name | type | unit | labels | help |\n|---|---|---|---|---|\n",
    );
    for metric in metrics {
        let Metric {
            name,
            kind,
            help,
            labels,
        } = metric;
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{name}` | {kind} | {} | {} | {} |",
            unit(name),
            labels.join(", "),
            help.replace('|', "\\|")
        );
    }
    page
}

fn unit(name: &str) -> &str {
    let mut words = name.split('_');
    words.find(|word| UNITS.contains(word)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_read_with_the_labels_of_all_their_series() {
        let text = "# HELP a_bytes What | it is.\n# TYPE a_bytes counter\n\
                    a_bytes_total{x=\"1,2\",y=\"}\"} 1\na_bytes_total{z=\"\"} 2\n\
                    # HELP b Other.\n# TYPE b gauge\nb 1\n# EOF\n";
        let metrics = read(text).unwrap();
        let page = page(&metrics);
        let line = "| `a_bytes_total` | counter | bytes | `x`, `y`, `z` | What \\| it is |\n";
        assert!(page.contains(line), "{page}");
        assert!(page.ends_with("| `b` | gauge |  |  | Other |\n"), "{page}");
    }
}
