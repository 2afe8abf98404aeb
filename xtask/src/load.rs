//! `cargo xtask load`: the release build at a fixed rate, and what became of every flow.
//!
//! The claim: everything that `generate` sends is a row in the embedded ClickHouse, the number of
//! parts stays flat, and the collector's memory stays bounded. Exit status 0 only if it holds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flowsluice_tests::process::{Usage, usage};
use flowsluice_tests::{
    ClickHouse, Collector, Generator, Ledger, Settings, Stopped, Store, Totals, place,
};

use crate::{engine, shell};

/// Resident memory that the collector's process may take.
const RSS_MAX_BYTES: u64 = 150 << 20;
/// Active parts of `flows` that count as flat: what merging leaves while it keeps up.
const PARTS_MAX: u64 = 60;

/// Arguments of `cargo xtask load`.
#[derive(clap::Args)]
pub struct Args {
    /// How long to send.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Flows a second.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rate: u64,
    /// What the exporters speak: mix, netflow5, netflow9, ipfix or sflow5.
    #[arg(long, default_value = "netflow9")]
    protocol: String,
    /// What the flows look like: realistic or uniform.
    #[arg(long, default_value = "realistic")]
    profile: String,
    /// Worker threads; 0 leaves the choice to the collector.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// How datagrams are taken: auto, io_uring or recvmmsg.
    #[arg(long, default_value = "auto", value_parser = ["auto", "io_uring", "recvmmsg"])]
    mode: String,
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// Further arguments of `flowsluice generate`, for example `--ipv6 0`.
    #[arg(last = true)]
    generate: Vec<String>,
}

/// One second of the run.
struct Sample {
    second: u64,
    parts: u64,
    rows: u64,
    collector: Usage,
    engine: Usage,
    generator: Usage,
}

/// Builds, sends, reports.
pub fn main(args: &Args) -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "build",
        "--release",
        "-p",
        "flowsluice",
    ]))?;
    let library = engine::obtain(args.library.as_deref())?;
    let settings = Settings {
        binary: place::target().join("release/flowsluice"),
        workers: args.workers,
        receive_mode: match args.mode.as_str() {
            "io_uring" => "io_uring",
            "recvmmsg" => "recvmmsg",
            _ => "auto",
        },
        pin: true,
        batch_age: "1s",
        ..Settings::new(Store::Embedded(library))
    };
    let collector = Collector::start(&settings)?;
    let mode = collector.status()?.text("/receive/mode")?.to_owned();
    let Args {
        seconds,
        rate,
        protocol,
        profile,
        ..
    } = args;
    eprintln!(
        "xtask: {rate} flows/s of {protocol} ({profile}) for {seconds} s, received by {mode}"
    );
    let (samples, sent) = send(args, &settings, &collector)?;
    let ledger = collector.settle(sent.datagrams);
    let clickhouse = collector.clickhouse()?;
    let rows = clickhouse.flows()?;
    let bytes_a_row: f64 = clickhouse.value(
        "SELECT sum(data_compressed_bytes) / sum(rows) FROM system.parts \
         WHERE database = currentDatabase() AND table = 'flows' AND active",
    )?;
    // A run that does not settle is reported all the same: its ledger says where flows are.
    let ledger = match ledger {
        Ok(ledger) => ledger,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            collector.status()?.ledger()
        }
    };
    report(&samples, &sent, &ledger, rows, bytes_a_row);
    let stopped = collector.stop()?;
    judge(&samples, &sent, &stopped, rows)
}

fn send(args: &Args, settings: &Settings, collector: &Collector) -> Result<(Vec<Sample>, Totals)> {
    let clickhouse = collector.clickhouse()?;
    let engine = collector.status()?.engine_pid().unwrap_or(0);
    let (rate, duration) = (args.rate.to_string(), format!("{}s", args.seconds));
    let mut arguments = vec![
        "--protocol",
        args.protocol.as_str(),
        "--profile",
        args.profile.as_str(),
        "--rate",
        rate.as_str(),
        "--duration",
        duration.as_str(),
    ];
    arguments.extend(args.generate.iter().map(String::as_str));
    let log = collector.folder().join("generate.log");
    let mut generator = Generator::start(&settings.binary, collector.target(), &arguments, &log)?;
    let started = Instant::now();
    let mut samples = Vec::new();
    println!("second  rows in ClickHouse  parts  collector RSS, MiB");
    while !generator.has_ended()? {
        std::thread::sleep(Duration::from_millis(1000));
        let sample = Sample {
            second: started.elapsed().as_secs(),
            parts: parts(&clickhouse)?,
            rows: clickhouse.flows()?,
            collector: usage(collector.pid()),
            engine: usage(engine),
            generator: usage(generator.pid()),
        };
        let mib = sample.collector.rss_bytes >> 20;
        if sample.second.is_multiple_of(5) {
            println!(
                "{:>6}{:>20}{:>7}{mib:>21}",
                sample.second, sample.rows, sample.parts
            );
        }
        // The last reading of a process that has ended is zero.
        if sample.generator.cpu_s > 0.0 {
            samples.push(sample);
        }
    }
    let sent = generator.finish(Duration::from_secs(30))?;
    Ok((samples, sent))
}

fn parts(clickhouse: &ClickHouse) -> Result<u64> {
    clickhouse.value(
        "SELECT count() FROM system.parts \
         WHERE database = currentDatabase() AND table = 'flows' AND active",
    )
}

fn parts_max(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| sample.parts).max().unwrap_or(0)
}

fn report(samples: &[Sample], sent: &Totals, ledger: &Ledger, rows: u64, bytes_a_row: f64) {
    let mut last = (Usage::default(), Usage::default(), Usage::default());
    for sample in samples {
        last = (sample.collector, sample.engine, sample.generator);
    }
    let (collector, engine, generator) = last;
    let rate = sent.flows as f64 / sent.elapsed_s.max(0.001);
    println!(
        "\nsent                 {} flows in {} datagrams",
        sent.flows, sent.datagrams
    );
    println!(
        "                     {:.1} s, {rate:.0} flows/s",
        sent.elapsed_s
    );
    println!(
        "received             {} datagrams",
        ledger.counter("datagrams_received")
    );
    println!(
        "dropped by kernel    {} datagrams",
        ledger.counter("datagrams_dropped_by_kernel")
    );
    println!(
        "stored               {} flows",
        ledger.store("flows_stored")
    );
    println!("SELECT count()       {rows}");
    println!("unaccounted          {}", ledger.unaccounted());
    println!("parts, highest       {}", parts_max(samples));
    println!("bytes a row on disk  {bytes_a_row:.1}");
    println!(
        "collector            {:.1} CPU s, RSS peak {} MiB",
        collector.cpu_s,
        collector.rss_peak_bytes >> 20
    );
    println!(
        "ClickHouse           {:.1} CPU s, RSS peak {} MiB",
        engine.cpu_s,
        engine.rss_peak_bytes >> 20
    );
    println!("generator            {:.1} CPU s\n", generator.cpu_s);
    for (reason, n) in ledger.losses() {
        println!("dropped, {reason}: {n}");
    }
}

/// What must hold.
fn judge(samples: &[Sample], sent: &Totals, stopped: &Stopped, rows: u64) -> Result<()> {
    let rss = samples
        .iter()
        .map(|sample| sample.collector.rss_peak_bytes)
        .max();
    let (rss, parts) = (rss.unwrap_or(0), parts_max(samples));
    let dropped = stopped.datagrams_dropped_by_kernel;
    ensure!(
        stopped.unaccounted == 0,
        "{} unaccounted",
        stopped.unaccounted
    );
    ensure!(dropped == 0, "the kernel dropped {dropped} datagrams");
    ensure!(stopped.dropped == "none", "dropped: {}", stopped.dropped);
    ensure!(
        rows == sent.flows && stopped.flows_stored == sent.flows,
        "{} flows were sent, {} acknowledged, {rows} counted",
        sent.flows,
        stopped.flows_stored
    );
    ensure!(
        parts <= PARTS_MAX,
        "{parts} parts: merging does not keep up"
    );
    ensure!(
        rss <= RSS_MAX_BYTES,
        "the collector took {} MiB; {} are allowed",
        rss >> 20,
        RSS_MAX_BYTES >> 20
    );
    println!("holds: every flow sent is a row; parts flat; memory bounded");
    Ok(())
}
