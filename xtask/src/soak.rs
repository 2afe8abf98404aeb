//! `cargo xtask soak`: a collector runs for long while everything around it changes.
//!
//! The claim: with reloads, databases of places and lists replaced every minute, exporters that
//! come and go and a ClickHouse that is killed every three minutes, memory, file descriptors and
//! threads stay flat, every flow sent is a row, and nothing is lost or unaccounted for. The release
//! build, an embedded engine as the server beside it and exporter simulators run in a network
//! namespace of their own. Exit status 0 only if everything holds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::namespace::Namespace;
use flowsluice_tests::soak::{self, Plan, Verdict};

use crate::release;

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Args {
    /// How long to send. The rows take about 75 MB a minute of the temporary folder.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = release::positive())]
    minutes: u64,
    /// The same in two minutes, with changes every 20 seconds. In less than 15 minutes memory may
    /// differ by more.
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    #[command(flatten)]
    run: release::Run,
}

/// Builds, runs, judges.
pub fn main(args: &Args) -> Result<()> {
    let (binary, library) = args.run.obtain()?;
    let interrupted = release::interruption()?;
    let minutes = if args.quick { 2 } else { args.minutes };
    let plan = Plan::new(args.run.rate, Duration::from_secs(60 * minutes));
    let alone =
        Namespace::loopback_without_name().context("a network namespace; run it as root")?;
    let _inside = alone.enter()?;
    let (rate, seconds) = (plan.rate, plan.duration.as_secs());
    eprintln!("xtask: {rate} flows/s for {seconds} s");
    let mut tell = |line: &str| eprintln!("xtask: {line}");
    let outcome = soak::run(&plan, binary, library, &interrupted, &mut tell)?;
    let verdict = Verdict::of(&plan, &outcome);
    print!("{}", soak::report::table(&plan, &outcome, &verdict));
    let faults = verdict.faults.len();
    ensure!(faults == 0, "{faults} things do not hold");
    Ok(())
}
