//! `flowsluice replay`.

mod resend;
mod schedule;
mod store;

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use flowsluice::batch::{Beside, json};
use flowsluice::config;
use flowsluice::decode::{Decoder, ExtraRows, FlowSink, Shared};
use flowsluice::enrich::offline::Offline;
use flowsluice::flow::Flow;
use flowsluice::ledger::{DropReason, Ledger, LedgerSnapshot, WorkerCounts};
use flowsluice::receive::replay::{Capture, CaptureCounts};

/// Rows of one table: its widths need all of them, and captures have no bound.
const TABLE_ROWS_MAX: usize = 1000;

/// Arguments of `flowsluice replay`.
#[derive(clap::Args)]
pub struct Args {
    /// Captures (pcap, pcapng), or .dat and .bin files of one raw UDP payload each; in this order.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Print the flows instead of storing them.
    #[arg(long, value_enum)]
    print: Option<Print>,
    /// Store flows with the times of the capture, not moved to now. ClickHouse drops rows that are
    /// older than the retention as it inserts them.
    #[arg(long, conflicts_with = "print")]
    keep_time: bool,
    /// Configuration to decode and store with [default: /etc/flowsluice/flowsluice.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    resend: resend::Resend,
}

/// How flows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Print {
    /// One JSON object a flow, with the columns of the table `flows`.
    Json,
    /// The main columns, for people.
    Table,
}

pub fn main(args: Args) -> anyhow::Result<()> {
    if let Some(target) = args.resend.to {
        return args.resend.send(args.files, target);
    }
    let (config, _) = config::load_or_default(args.config.as_deref())?;
    let Some(format) = args.print else {
        flowsluice::log::init(&config.log)?;
        return store::store(args.files, config, args.keep_time);
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut capture = Capture::new(args.files);
    match print(&mut capture, &config, format, &mut out, &mut io::stderr()) {
        // Whoever reads has seen enough: `flowsluice replay ... | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// Prints the flows of `capture` to `out` and what became of everything to `report`.
fn print(
    capture: &mut Capture,
    config: &config::Config,
    format: Print,
    out: &mut impl Write,
    report: &mut impl Write,
) -> anyhow::Result<()> {
    // The ports of a capture are those of another collector: no listener restricts them.
    let shared = Arc::new(Shared::default());
    let mut decoder = Decoder::new(&config.decode, &[], Arc::clone(&shared));
    let mut counts = WorkerCounts::default();
    let mut printer = Printer::new(format, offline(config)?, out);
    let outcome = capture.for_each(&mut |datagram| {
        decoder.decode(datagram, &mut counts, &mut printer);
        // Only flows are printed.
        shared.sflow().counters.drain(drop);
        shared.sflow().discards.drain(drop);
        shared.names.take_in(drop);
        printer.enriching.follow(&shared);
    });
    decoder.finish(&mut counts);
    counts.flows_batched = printer.finish().context("standard output")?;
    // Printed is as far as they go, which the ledger calls open.
    counts.flows_open = counts.flows_batched;
    if let Ok(files) = &outcome {
        summary_of_files(files, report)?;
    }
    if counts.datagrams_received > 0 {
        let ledger = Ledger::new(1);
        ledger.worker(0).publish(&counts);
        summary_of_flows(&ledger.snapshot(), report)?;
    }
    outcome?;
    Ok(())
}

/// What files say of addresses, exporters and ports.
fn offline(config: &config::Config) -> anyhow::Result<Offline> {
    let loaded = Offline::new(&config.enrich);
    loaded.map_err(|faults| anyhow::anyhow!("enrich: {faults}"))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Prints flows as they are decoded.
struct Printer<W> {
    format: Print,
    enriching: Offline,
    out: W,
    table: Table,
    flows_printed: u64,
    /// The first error of `out`; nothing is printed after it.
    written: io::Result<()>,
}

impl<W: Write> Printer<W> {
    fn new(format: Print, enriching: Offline, out: W) -> Self {
        Self {
            format,
            enriching,
            out,
            table: table(),
            flows_printed: 0,
            written: Ok(()),
        }
    }

    fn add(&mut self, flows: &mut [Flow], extra: Option<ExtraRows<'_>>) -> io::Result<()> {
        let marked = Some(self.enriching.mark(flows));
        let beside = Beside { extra, marked };
        for (number, flow) in flows.iter().enumerate() {
            self.flows_printed += 1;
            match self.format {
                Print::Json => json::write_row_with(flow, beside, number, &mut self.out)?,
                Print::Table => {
                    self.table.add_row(CELLS.map(|(_, _, cell)| cell(flow)));
                    if self.table.row_count() >= TABLE_ROWS_MAX {
                        print_table(&mut self.table, &mut self.out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints what is left; returns the number of flows printed.
    fn finish(mut self) -> io::Result<u64> {
        std::mem::replace(&mut self.written, Ok(()))?;
        if !self.table.is_empty() {
            print_table(&mut self.table, &mut self.out)?;
        }
        self.out.flush()?;
        Ok(self.flows_printed)
    }
}

/// Prints the rows of `full` and takes them out of it.
fn print_table(full: &mut Table, out: &mut impl Write) -> io::Result<()> {
    let full = std::mem::replace(full, table());
    writeln!(out, "{full}")
}

impl<W: Write> FlowSink for Printer<W> {
    fn flows(&mut self, flows: &mut [Flow]) {
        if self.written.is_ok() {
            self.written = self.add(flows, None);
        }
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        if self.written.is_ok() {
            self.written = self.add(flows, Some(extra));
        }
    }
}

type Cell = fn(&Flow) -> String;

const LEFT: CellAlignment = CellAlignment::Left;
const RIGHT: CellAlignment = CellAlignment::Right;

/// Columns of a printed table.
const CELLS: [(&str, CellAlignment, Cell); 13] = [
    ("flow_end", LEFT, |f| time(f.flow_end_ms)),
    ("flow_type", LEFT, |f| {
        format!("{:?}", f.flow_type).to_lowercase()
    }),
    ("exporter_addr", LEFT, |f| f.exporter_addr.to_string()),
    ("src_addr", LEFT, |f| f.src_addr.to_string()),
    ("src_port", RIGHT, |f| f.src_port.to_string()),
    ("dst_addr", LEFT, |f| f.dst_addr.to_string()),
    ("dst_port", RIGHT, |f| f.dst_port.to_string()),
    ("protocol", RIGHT, |f| f.protocol.to_string()),
    ("bytes", RIGHT, |f| {
        f.raw_bytes.saturating_mul(f.scale()).to_string()
    }),
    ("packets", RIGHT, |f| {
        f.raw_packets.saturating_mul(f.scale()).to_string()
    }),
    ("sampling_rate", RIGHT, |f| f.sampling_rate.to_string()),
    ("in_if", RIGHT, |f| f.in_if.to_string()),
    ("out_if", RIGHT, |f| f.out_if.to_string()),
];

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(CELLS.map(|(name, ..)| name));
    for (column, (_, alignment, _)) in table.column_iter_mut().zip(CELLS) {
        column.set_cell_alignment(alignment);
    }
    table
}

/// UTC to the millisecond; nothing when unknown.
fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms)
        .ok()
        .filter(|ms| *ms > 0)
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(String::new, |time| format!("{time:.3}"))
}

/// What became of the packets: those that are no datagrams, by kind.
fn summary_of_files(counts: &CaptureCounts, report: &mut impl Write) -> io::Result<()> {
    let CaptureCounts {
        files,
        packets,
        datagrams,
        truncated,
        not_udp,
        unreadable,
        link_unknown,
        fragments,
        fragments_unfinished,
        reassembled,
        files_cut,
    } = *counts;
    writeln!(
        report,
        "replay: {files} files, {packets} packets, {datagrams} datagrams"
    )?;
    let notes = [
        (truncated, "datagrams are cut; capture with 'tcpdump -s 0'"),
        (not_udp, "packets are not UDP over IP"),
        (unreadable, "packets have headers that are cut or broken"),
        (link_unknown, "packets are of a link type that is not read"),
        (fragments, "packets are fragments"),
        (reassembled, "datagrams were put together from fragments"),
        (fragments_unfinished, "fragments never became a datagram"),
        (files_cut, "files end within a packet, which is lost"),
    ];
    for (n, note) in notes {
        if n > 0 {
            writeln!(report, "replay: {n} {note}")?;
        }
    }
    Ok(())
}

/// What became of the datagrams: records, flows, and every loss with its reason.
fn summary_of_flows(ledger: &LedgerSnapshot, report: &mut impl Write) -> io::Result<()> {
    let counts = &ledger.total;
    writeln!(
        report,
        "replay: {} of {} datagrams and {} of {} records decoded ({} options), {} flows; \
         unaccounted: {}",
        counts.datagrams_decoded,
        counts.datagrams_received,
        counts.records_decoded,
        counts.records_present,
        counts.options_records,
        counts.flows_decoded,
        ledger.unaccounted(),
    )?;
    for &reason in DropReason::ALL {
        let n = ledger.dropped(reason);
        if n > 0 {
            let sentence = reason.sentence().trim();
            writeln!(
                report,
                "replay: {n} dropped, {}: {sentence}",
                reason.label()
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::NamedTempFile;

    use super::*;

    /// sFlow with one flow sample of interfaces 5 and 6, sampling 1 in 100, and a record that says
    /// only lengths and addresses.
    fn payload() -> Vec<u8> {
        let words: [u32; 27] = [
            5,
            1,
            0xc000_0201,
            0,
            1,
            1,
            1,
            1,
            72,
            1,
            5,
            100,
            100,
            0,
            5,
            6,
            1,
            3,
            32,
            1500,
            17,
            0xc000_0207,
            0xc000_0208,
            53,
            4000,
            0,
            0,
        ];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn file(bytes: &[u8]) -> NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".bin").tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn printed(files: &[&NamedTempFile], format: Print) -> (String, String) {
        let paths = files.iter().map(|f| f.path().to_owned()).collect();
        let (mut out, mut report) = (Vec::new(), Vec::new());
        print(
            &mut Capture::new(paths),
            &config::Config::default(),
            format,
            &mut out,
            &mut report,
        )
        .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(report))
    }

    #[test]
    fn json_is_one_object_a_flow_with_the_names_of_the_table() {
        let one = file(&payload());
        let (out, report) = printed(&[&one, &one], Print::Json);
        let rows: Vec<serde_json::Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1]["src_addr"], "192.0.2.7");
        assert_eq!(rows[1]["bytes"], 150_000);
        assert_eq!(rows[1]["exporter_source"], "127.0.0.1");
        assert!(
            report.contains("2 files, 2 packets, 2 datagrams"),
            "{report}"
        );
        assert!(report.contains("unaccounted: 0"), "{report}");
    }

    #[test]
    fn tables_are_printed_a_page_at_a_time() {
        let one = file(&payload());
        let files = vec![&one; TABLE_ROWS_MAX + 1];
        let (out, report) = printed(&files, Print::Table);
        assert_eq!(out.matches("192.0.2.7").count(), TABLE_ROWS_MAX + 1);
        assert_eq!(out.matches("exporter_addr").count(), 2);
        assert!(report.contains("unaccounted: 0"), "{report}");
    }

    #[test]
    fn losses_are_reported_with_their_reason() {
        let mut cut = payload();
        cut.truncate(80);
        let (out, report) = printed(&[&file(&cut), &file(b"nonsense")], Print::Json);
        assert_eq!(out, "");
        assert!(report.contains("0 of 1 records"), "{report}");
        assert!(report.contains("1 dropped, record_truncated: "), "{report}");
        assert!(report.contains("1 dropped, version_unknown: "), "{report}");
        assert!(report.contains("unaccounted: 0"), "{report}");
    }

    #[test]
    fn flows_before_a_broken_file_are_printed() {
        let one = file(&payload());
        let paths = vec![one.path().to_owned(), "/nonexistent.pcap".into()];
        let (mut out, mut report) = (Vec::new(), Vec::new());
        let outcome = print(
            &mut Capture::new(paths),
            &config::Config::default(),
            Print::Json,
            &mut out,
            &mut report,
        );
        assert!(outcome.is_err());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
