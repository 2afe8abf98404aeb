//! `cargo xtask outage`: ClickHouse and the collector are killed under a steady rate.
//!
//! The claim: rows = sent - what came while no collector ran - what was in memory at the SIGKILL,
//! shown by the records' numbers; no row is there twice; the rollups' sums are those of the rows.
//! The release build, an embedded engine as the server beside it and the exporter simulator run in
//! a network namespace of their own. Exit status 0 only if everything holds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::namespace::Namespace;
use flowsluice_tests::outage::{self, Account, Kind, Plan};

use crate::release;

/// Arguments of `cargo xtask outage`.
#[derive(clap::Args)]
pub struct Args {
    /// How long to send; ClickHouse is away for two fifths of it at once.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = release::positive())]
    minutes: u64,
    /// The same in one minute, with short outages.
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    /// Who runs ClickHouse: a server beside the collector, or the collector itself.
    #[arg(long, default_value = "server", value_parser = ["server", "embedded"])]
    store: String,
    #[command(flatten)]
    run: release::Run,
}

/// Builds, kills, accounts, reports.
pub fn main(args: &Args) -> Result<()> {
    let (binary, library) = args.run.obtain()?;
    let kind = match args.store.as_str() {
        "embedded" => Kind::Embedded,
        _ => Kind::Server,
    };
    let interrupted = release::interruption()?;
    let minutes = if args.quick { 1 } else { args.minutes };
    let plan = Plan::full(kind, args.run.rate, Duration::from_secs(60 * minutes));
    let alone =
        Namespace::loopback_without_name().context("a network namespace; run it as root")?;
    let _inside = alone.enter()?;
    eprintln!(
        "xtask: {} flows/s for {minutes} min, ClickHouse as {}",
        args.run.rate, args.store
    );
    let mut tell = |line: &str| eprintln!("xtask: {line}");
    let outcome = outage::run(&plan, binary, library, &interrupted, &mut tell)?;
    let account = Account::of(&plan, &outcome);
    print!("{}", outage::report::table(&plan, &outcome, &account));
    let faults = account.faults.len();
    ensure!(faults == 0, "{faults} things do not hold");
    Ok(())
}
