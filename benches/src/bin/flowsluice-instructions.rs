//! `flowsluice-instructions`: counts instructions a flow and holds them against those that were
//! recorded. `cargo xtask instructions` builds and runs it with what it needs.

use std::process::ExitCode;

use clap::Parser;
use flowsluice_benches::instructions::{self, Case};

/// Counts instructions a flow under callgrind.
#[derive(Parser)]
#[command(name = "flowsluice-instructions")]
struct Cli {
    /// Record what is counted instead of holding it against what was recorded.
    #[arg(long)]
    update: bool,
    /// Do this one piece of work and print its flows; what runs under callgrind.
    #[arg(long, hide = true)]
    case: Option<Case>,
}

fn main() -> ExitCode {
    let Cli { update, case } = Cli::parse();
    let outcome = match case {
        Some(case) => case.run().map(|flows| println!("{flows}")),
        None => instructions::main(update),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowsluice-instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}
