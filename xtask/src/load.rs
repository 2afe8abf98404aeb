//! `cargo xtask load`: the release build at a fixed rate, and what became of every flow.
//!
//! The claim: everything that `generate` sends is a row in the embedded ClickHouse, the number of
//! parts stays flat, and the collector's memory stays bounded. Exit status 0 only if it holds.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use flowsluice_tests::load::{self, Load, Outcome};
use flowsluice_tests::{Collector, Settings, Stopped, Store};

use crate::{engine, release};

/// Resident memory that the collector's process may take.
const RSS_MAX_BYTES: u64 = 150 << 20;
/// Active parts of `flows` that count as flat: what merging leaves while it keeps up.
const PARTS_MAX: u64 = 60;
/// Seconds between two lines of progress.
const LOOKS_A_LINE: u32 = 5;

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

/// Builds, sends, reports.
pub fn main(args: &Args) -> Result<()> {
    let binary = release::binary(None)?;
    let library = engine::obtain(args.library.as_deref())?;
    let settings = Settings {
        workers: args.workers,
        receive_mode: match args.mode.as_str() {
            "io_uring" => "io_uring",
            "recvmmsg" => "recvmmsg",
            _ => "auto",
        },
        pin: true,
        batch_age: "1s",
        ..Settings::of(binary, Store::Embedded(library))
    };
    let collector = Collector::start(&settings)?;
    let mode = collector.status()?.text("/receive/mode")?.to_owned();
    let load = Load {
        rate: args.rate,
        seconds: args.seconds,
        protocol: args.protocol.clone(),
        profile: args.profile.clone(),
        more: args.generate.clone(),
    };
    let Load {
        rate,
        seconds,
        protocol,
        profile,
        ..
    } = &load;
    eprintln!(
        "xtask: {rate} flows/s of {protocol} ({profile}) for {seconds} s, received by {mode}"
    );
    println!("second  rows in ClickHouse  parts  collector RSS, MiB");
    let mut looks = 0;
    let outcome = load::run(&collector, &settings.binary, &load, |sample| {
        if looks % LOOKS_A_LINE == 0 {
            println!(
                "{:>6.0}{:>20}{:>7}{:>21}",
                sample.at_s,
                sample.rows,
                sample.parts,
                sample.collector_rss_bytes >> 20
            );
        }
        looks += 1;
    })?;
    if outcome.settled.is_none() {
        eprintln!("xtask: not everything became stored or counted within a minute");
    }
    report(&outcome);
    let stopped = collector.stop()?;
    judge(&outcome, &stopped)
}

fn report(outcome: &Outcome) {
    let sent = &outcome.sent;
    println!(
        "\nsent                 {} flows in {} datagrams",
        sent.flows, sent.datagrams
    );
    println!(
        "                     {:.1} s, {:.0} flows/s",
        sent.elapsed_s,
        outcome.rate()
    );
    println!(
        "received             {} datagrams",
        outcome.datagrams_received
    );
    println!(
        "dropped by kernel    {} datagrams",
        outcome.datagrams_dropped_by_kernel
    );
    println!("stored               {} flows", outcome.flows_stored);
    println!("SELECT count()       {}", outcome.rows);
    println!("unaccounted          {}", outcome.unaccounted);
    println!("parts, highest       {}", outcome.parts_max());
    println!("bytes a row on disk  {:.1}", outcome.bytes_a_row);
    let used = [
        ("collector", outcome.collector),
        ("ClickHouse", outcome.engine),
    ];
    for (name, usage) in used {
        println!(
            "{name:<21}{:.1} CPU s, RSS peak {} MiB",
            usage.cpu_s,
            usage.rss_peak_bytes >> 20
        );
    }
    println!(
        "generator            {:.1} CPU s\n",
        outcome.generator_cpu_s
    );
    for (reason, n) in &outcome.losses {
        println!("dropped, {reason}: {n}");
    }
}

/// What must hold.
fn judge(outcome: &Outcome, stopped: &Stopped) -> Result<()> {
    let (parts, rss) = (outcome.parts_max(), outcome.collector.rss_peak_bytes);
    let dropped = stopped.datagrams_dropped_by_kernel;
    ensure!(
        stopped.unaccounted == 0,
        "{} unaccounted",
        stopped.unaccounted
    );
    ensure!(dropped == 0, "the kernel dropped {dropped} datagrams");
    ensure!(stopped.dropped == "none", "dropped: {}", stopped.dropped);
    ensure!(
        outcome.is_whole() && stopped.flows_stored == outcome.sent.flows,
        "{} flows were sent, {} acknowledged, {} counted",
        outcome.sent.flows,
        stopped.flows_stored,
        outcome.rows
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
