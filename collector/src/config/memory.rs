//! How much memory a configuration takes, as a sum that can be printed.
//!
//! Every container of the collector has a bound, so the sum is one too. Receivers and batches say
//! themselves what they take; the decoder's state is estimated by the constants here.

use std::fmt;

use bytesize::ByteSize;

use super::{self as config, Config, StoreTarget, display};
use crate::decode::ExtraBuffer;
use crate::decode::nsel;
use crate::decode::sequence::{HELD_BYTES, SOURCES_BYTES};
use crate::decode::sflow::{CounterQueue, DiscardQueue, SAID_BYTES};
use crate::decode::undecodable;
use crate::enrich::{RECENT_BYTES, dns, snmp};
use crate::receive::limit::RateLimit;
use crate::store::{SIDE_TABLES, side};
use crate::worker::sharing;
use crate::{batch, names, receive};

/// Bytes of an exporter's state in a worker with its line of the status and its place among all,
/// without its templates.
pub const EXPORTER_BYTES: u64 = 1024;
/// Bytes of what is known of an exporter's sequence numbers, all workers together, while few of
/// them are missing.
pub const SEQUENCE_BYTES: u64 = 512;
/// Bytes of a compiled template of ordinary length (some 30 fields), and what a template counts for
/// in `decode.templates_max`: a longer one counts as several.
pub const TEMPLATE_BYTES: u64 = 1024;
/// Bytes of a name with its description, both as long as they may be.
pub const NAME_BYTES: u64 = 400;
/// Bytes of the names that a template of ordinary length has for the column `extra` (some 15).
pub const EXTRA_NAMES_BYTES: u64 = 1024;
/// Bytes for code, stacks, the runtime and the HTTP answers.
pub const BASE_BYTES: u64 = 24 << 20;

/// To whom the bytes of a line belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Taken by the collector and counted in its RSS once used.
    Collector,
    /// The collector's, but only as exporters and outages fill it.
    CollectorAtMost,
    /// Kernel memory of the sockets, in no process's RSS.
    Kernel,
    /// The embedded ClickHouse, a process of its own.
    ClickHouse,
}

/// One summand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose it is.
    pub owner: Owner,
    /// What it holds.
    pub what: &'static str,
    /// The product, in the configuration's own terms.
    pub how: String,
    /// Bytes.
    pub bytes: u64,
}

/// The summands; [`fmt::Display`] prints them with their sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySum {
    /// In the order of the data path.
    pub lines: Vec<Line>,
}

impl MemorySum {
    /// Bytes of all lines that `owner` answers for.
    #[must_use]
    pub fn of(&self, owner: Owner) -> u64 {
        let lines = self.lines.iter().filter(|line| line.owner == owner);
        lines.map(|line| line.bytes).sum()
    }
}

/// Adds up what `config` takes with `workers` workers and AF_XDP sockets on `queues` queues.
#[must_use]
pub fn sum(config: &Config, workers: usize, queues: u64) -> MemorySum {
    let workers = (workers as u64, "workers");
    let mut lines = collector_lines(config, workers);
    if !config.decode.extra.is_empty() {
        lines.extend(extra_lines(config, workers));
    }
    if !config.enrich.is_off() {
        lines.extend(enrich_lines(config, workers));
    }
    if queues > 0 {
        let a_queue = receive::xdp::memory_bytes(&config.receive.xdp) as u64;
        let frames = [(queues, "queues"), (a_queue, "B")];
        lines.push(Line::product(Owner::Collector, "AF_XDP frames", &frames));
    }
    let Config { receive, store, .. } = config;
    if !receive.tee.is_empty() {
        let copies = [(receive::tee::MEMORY_BYTES as u64, "B")];
        lines.push(Line::product(
            Owner::Collector,
            "copies to forward",
            &copies,
        ));
    }
    let sockets = [
        workers,
        (receive.listeners.len() as u64, "listeners"),
        (receive.socket_buffer.as_u64(), "B"),
    ];
    lines.push(Line::product(Owner::Kernel, "socket buffers", &sockets));
    if store.target() == StoreTarget::Embedded {
        lines.push(Line {
            owner: Owner::ClickHouse,
            what: "embedded ClickHouse",
            how: "store.embedded.memory_max".into(),
            bytes: store.embedded.memory_max.as_u64(),
        });
    }
    MemorySum { lines }
}

/// What the collector's own process takes.
fn collector_lines(config: &Config, workers: (u64, &str)) -> Vec<Line> {
    let Config {
        receive,
        decode,
        batch,
        store,
        ..
    } = config;
    let n = |count: usize| count as u64;
    let receiver = (n(receive::memory_bytes(receive)), "B");
    let rows = batch::BATCH_ROWS.min(batch.rows_max);
    let rows = (n(batch::Batch::memory_bytes_for(rows)), "B");
    // Connections have a worker of their own.
    let has_tcp = !receive.tcp.listeners.is_empty();
    let batching = (workers.0 + u64::from(has_tcp), workers.1);
    let batches = [batching, (n(batch.per_worker), "batches"), rows];
    // As if nothing in it could be compressed.
    let block = (n(batch::Batch::memory_bytes_for(batch.rows_max)), "B");
    // One at a time.
    let read_back = store
        .spool_dir()
        .map(|_| Line::product(Owner::CollectorAtMost, "block read from the disk", &[block]));
    let sflow = (
        n(CounterQueue::MEMORY_BYTES + DiscardQueue::MEMORY_BYTES),
        "B",
    );
    let rows_beside = [
        (n(SIDE_TABLES), "tables"),
        (n(side::TABLE_MEMORY_BYTES_MAX), "B"),
    ];
    let connections = has_tcp.then(|| {
        let a_connection = (n(receive::tcp::BUFFER_BYTES), "B");
        let parts = [
            (n(receive.tcp.connections_max), "connections"),
            a_connection,
        ];
        Line::product(Owner::CollectorAtMost, "TCP buffers", &parts)
    });
    let is_shared = sharing::is_on(workers.0 as usize, receive);
    let parcels = is_shared.then(|| {
        let parcels = [workers, (n(sharing::memory_bytes()), "B")];
        Line::product(Owner::Collector, "datagrams handed over", &parcels)
    });
    let senders = receive.limit.is_on().then(|| {
        let senders = [workers, (n(RateLimit::BYTES), "B")];
        Line::product(Owner::Collector, "senders that are limited", &senders)
    });
    let lines = [
        Line {
            owner: Owner::Collector,
            what: "code, stacks, HTTP",
            how: String::new(),
            bytes: BASE_BYTES,
        },
        Line::product(Owner::Collector, "datagram buffers", &[workers, receiver]),
        Line::product(Owner::Collector, "batches", &batches),
        Line::product(Owner::Collector, "sFlow beside flows", &[sflow]),
        Line::product(Owner::CollectorAtMost, "block being encoded", &[block]),
        Line {
            owner: Owner::CollectorAtMost,
            what: "blocks waiting for ClickHouse",
            how: "store.queue_max".into(),
            bytes: store.queue_max.as_u64(),
        },
        Line::product(Owner::CollectorAtMost, "rows beside flows", &rows_beside),
    ];
    lines
        .into_iter()
        .chain(state_lines(decode, batching))
        .chain(parcels)
        .chain(senders)
        .chain(connections)
        .chain(read_back)
        .collect()
}

/// What is known of exporters.
fn state_lines(decode: &config::Decode, workers: (u64, &str)) -> [Line; 11] {
    let exporters = (decode.exporters_max as u64, "exporters");
    let templates = (decode.templates_max as u64, "templates");
    let names = (names::NAMES_MAX as u64, "names");
    let line = |what, parts: &[_]| Line::product(Owner::CollectorAtMost, what, parts);
    [
        line("exporters", &[workers, exporters, (EXPORTER_BYTES, "B")]),
        line("sequence numbers", &[exporters, (SEQUENCE_BYTES, "B")]),
        line("sFlow data sources", &[(SOURCES_BYTES as u64, "B")]),
        line(
            "sFlow drops, as told last",
            &[workers, (SAID_BYTES as u64, "B")],
        ),
        line(
            "sequence numbers handed in later",
            &[workers, (HELD_BYTES as u64, "B")],
        ),
        line("templates", &[templates, (TEMPLATE_BYTES, "B")]),
        line("names", &[names, (NAME_BYTES, "B")]),
        line("names being taken in", &[(names::INBOX_BYTES as u64, "B")]),
        line("firewall connections", &[(nsel::MEMORY_BYTES as u64, "B")]),
        line(
            "undecodable datagrams",
            &[(undecodable::MEMORY_BYTES as u64, "B")],
        ),
        Line {
            owner: Owner::CollectorAtMost,
            what: "data waiting for templates",
            how: "decode.pending_max".into(),
            bytes: decode.pending_max.as_u64(),
        },
    ]
}

/// What `decode.extra` adds: what a burst of flows says, a column of each batch, and the names that
/// templates have for it.
fn extra_lines(config: &Config, workers: (u64, &str)) -> [Line; 3] {
    let Config { decode, batch, .. } = config;
    let rows = batch::BATCH_ROWS.min(batch.rows_max);
    let column = batch::Batch::extra_memory_bytes_for(rows) as u64;
    // Connections have a worker of their own.
    let has_tcp = !config.receive.tcp.listeners.is_empty();
    let batching = (workers.0 + u64::from(has_tcp), workers.1);
    let columns = [
        batching,
        (batch.per_worker as u64, "batches"),
        (column, "B"),
    ];
    let bursts = [batching, (ExtraBuffer::MEMORY_BYTES as u64, "B")];
    let names = [
        (decode.templates_max as u64, "templates"),
        (EXTRA_NAMES_BYTES, "B"),
    ];
    let line = |what, parts: &[_]| Line::product(Owner::CollectorAtMost, what, parts);
    [
        line("bursts for the column extra", &bursts),
        line("column extra of batches", &columns),
        line("names for the column extra", &names),
    ]
}

/// What enrichment adds. Tables of operators' files are as large as those: not in the sum.
fn enrich_lines(config: &Config, workers: (u64, &str)) -> Vec<Line> {
    let Config { enrich, batch, .. } = config;
    let rows = batch::BATCH_ROWS.min(batch.rows_max);
    let lanes = batch::Batch::label_memory_bytes_for(rows) as u64;
    // Connections have a worker of their own.
    let has_tcp = !config.receive.tcp.listeners.is_empty();
    let batching = (workers.0 + u64::from(has_tcp), workers.1);
    let batches = [batching, (batch.per_worker as u64, "batches"), (lanes, "B")];
    let line = |what, parts: &[_]| Line::product(Owner::CollectorAtMost, what, parts);
    let recent = [(RECENT_BYTES as u64, "B")];
    let mut lines = vec![
        Line::product(Owner::Collector, "labels of batches", &batches),
        Line::product(Owner::Collector, "addresses just seen", &recent),
    ];
    if !enrich.geo.databases.is_empty() {
        let tables = [(2, "tables"), (enrich.geo.memory_max.as_u64(), "B")];
        lines.push(line("places, while they are made anew", &tables));
    }
    if enrich.dns.names != config::DnsNames::None {
        let names = dns::memory_bytes_max(&enrich.dns) as u64;
        lines.push(line("names of addresses", &[(names, "B")]));
    }
    if !enrich.snmp.targets.is_empty() {
        let interfaces = snmp::INTERFACES_MAX as u64;
        lines.push(line(
            "interfaces by SNMP",
            &[(interfaces, "interfaces"), (NAME_BYTES, "B")],
        ));
    }
    lines
}

impl Line {
    /// The product of `parts`: how many of what, the last one in bytes (`B`).
    fn product(owner: Owner, what: &'static str, parts: &[(u64, &str)]) -> Self {
        let how: Vec<_> = parts
            .iter()
            .map(|(n, unit)| match *unit {
                "B" => rounded(*n),
                unit if *n == 1 => format!("1 {}", unit.trim_end_matches('s')),
                unit => format!("{n} {unit}"),
            })
            .collect();
        Self {
            owner,
            what,
            how: how.join(" x "),
            bytes: parts
                .iter()
                .fold(1, |product, (n, _)| product.saturating_mul(*n)),
        }
    }
}

impl fmt::Display for MemorySum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = [
            (Owner::Collector, "collector, always"),
            (Owner::CollectorAtMost, "collector, when full"),
            (Owner::Kernel, "kernel, at most"),
            (Owner::ClickHouse, "ClickHouse, at most"),
        ];
        for (owner, title) in groups {
            let lines: Vec<_> = self
                .lines
                .iter()
                .filter(|line| line.owner == owner)
                .collect();
            if lines.is_empty() {
                continue;
            }
            writeln!(f, "{:<32}{:>12}", title, rounded(self.of(owner)))?;
            for line in lines {
                let text = format!(
                    "  {:<30}{:>12}  {}",
                    line.what,
                    rounded(line.bytes),
                    line.how
                );
                writeln!(f, "{}", text.trim_end())?;
            }
        }
        let collector = self.of(Owner::Collector) + self.of(Owner::CollectorAtMost);
        writeln!(
            f,
            "{:<32}{:>12}",
            "collector process, at most",
            rounded(collector)
        )?;
        let all = self.lines.iter().map(|line| line.bytes).sum();
        write!(f, "{:<32}{:>12}", "host, at most", rounded(all))
    }
}

fn rounded(bytes: u64) -> String {
    if bytes < 1 << 10 {
        return display::bytes(ByteSize::b(bytes));
    }
    ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreKind;

    #[test]
    fn the_sum_grows_with_what_it_says_it_is_made_of() {
        let mut config = Config::default();
        let before = sum(&config, 2, 0);
        config.batch.rows_max *= 2;
        let after = sum(&config, 2, 0);
        let grown = after.of(Owner::Collector) - before.of(Owner::Collector);
        assert_eq!(grown, 0);
        let batch = |rows| batch::Batch::memory_bytes_for(rows) as u64;
        let grown = after.of(Owner::CollectorAtMost) - before.of(Owner::CollectorAtMost);
        // One that is encoded, one that is read back.
        assert_eq!(grown, 2 * (batch(524_288) - batch(262_144)));
        config.batch.per_worker += 1;
        let more = sum(&config, 2, 0).of(Owner::Collector) - after.of(Owner::Collector);
        let labels = batch::Batch::label_memory_bytes_for(4096) as u64;
        assert_eq!(more, 2 * (batch(4096) + labels));
        assert_eq!(after.of(Owner::Kernel), before.of(Owner::Kernel));
        let before = sum(&config, 2, 0).of(Owner::CollectorAtMost);
        config.decode.extra = vec!["*".parse().expect("all elements")];
        let grown = sum(&config, 2, 0).of(Owner::CollectorAtMost) - before;
        let a_batch = batch::Batch::extra_memory_bytes_for(4096) as u64;
        let of_templates = config.decode.templates_max as u64 * EXTRA_NAMES_BYTES;
        let of_batches = 2 * config.batch.per_worker as u64 * a_batch;
        // Names and values of 64 flows a worker, 1 KiB each.
        let of_bursts = 2 * 2 * 64 * 1024;
        assert_eq!(grown, of_bursts + of_batches + of_templates);
        let queues = |queues| sum(&config, 2, queues).of(Owner::Collector);
        let a_queue = receive::xdp::memory_bytes(&config.receive.xdp) as u64;
        assert_eq!(queues(3) - queues(0), 3 * a_queue);
    }

    #[test]
    fn another_store_leaves_the_embedded_clickhouse_out() {
        let mut config = Config::default();
        assert_eq!(sum(&config, 1, 0).of(Owner::ClickHouse), 2 << 30);
        config.store.url = Some("http://db:8123".into());
        assert_eq!(sum(&config, 1, 0).of(Owner::ClickHouse), 0);
        config.store.url = None;
        config.store.kind = StoreKind::Null;
        assert_eq!(sum(&config, 1, 0).of(Owner::ClickHouse), 0);
    }
}
