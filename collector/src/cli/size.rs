//! `flowsluice size`: cores, memory and disk of so many flows.

use std::process::ExitCode;

use anyhow::Context as _;
use flowsluice::sizing::{self, Demand, Plan};

use super::{REFUSED, print};

/// Arguments of `flowsluice size`.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 when it is printed, 2 when such a size cannot be planned.")]
pub struct Args {
    /// Flows a second, the mean of a day.
    #[arg(long, value_name = "N", required_unless_present = "table")]
    flows_per_second: Option<u64>,
    /// For how many days flows are kept.
    #[arg(long, value_name = "D", default_value_t = 30)]
    days: u64,
    /// Print JSON, with every figure and its origin.
    #[arg(long)]
    json: bool,
    /// Print the table of README.md and nothing else.
    #[arg(long, conflicts_with_all = ["flows_per_second", "days", "json"])]
    table: bool,
}

/// Computes and prints; looks at nothing.
pub fn main(args: &Args) -> ExitCode {
    match answer(args).and_then(|text| print([text])) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowsluice: {error:#}");
            REFUSED.into()
        }
    }
}

fn answer(args: &Args) -> anyhow::Result<String> {
    if args.table {
        return Ok(sizing::table());
    }
    let missing = "--flows-per-second is missing; give the mean of a day";
    let flows_per_second = args.flows_per_second.context(missing)?;
    let plan = Plan::new(Demand::new(flows_per_second, args.days)?);
    Ok(match args.json {
        true => sizing::json(&plan)?,
        false => sizing::text(&plan),
    })
}
