//! `flowsluice`, the command.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// A flow collector appliance: NetFlow, IPFIX and sFlow into ClickHouse.
#[derive(Parser)]
#[command(name = "flowsluice", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a configuration to begin with.
    Init(cli::init::Args),
    /// Collect: receive, decode, batch and store until SIGINT or SIGTERM.
    Run(cli::run::Args),
    /// Validate a configuration and print what it amounts to.
    Check(cli::check::Args),
    /// Examine this host and its interfaces for fast receive, and tell what to change.
    Doctor(cli::doctor::Args),
    /// Decode captures and print or store their flows, or send their datagrams to a collector.
    Replay(cli::replay::Args),
    /// Ask the configured ClickHouse and print a table.
    Query(cli::query::Args),
    /// Bring the tables of ClickHouse up to date, or print their SQL.
    Schema(cli::schema::Args),
    /// Write the rows of a span of time to a file: Parquet, CSV, JSON or Native.
    Export(cli::export::Args),
    /// List blocks that wait on the disk, and retry or drop those that ClickHouse refused.
    Spool(cli::spool::Args),
    /// Show what a running collector does: rates, exporters, drops, the ledger, talkers.
    Top(cli::top::Args),
    /// Tell which cores, memory and disk a rate of flows takes.
    Size(cli::size::Args),
    /// Simulate exporters: send realistic flows to a collector.
    Generate(cli::generate::Args),
    /// Update the databases of places and autonomous systems, or tell what they are.
    Geoip(cli::geoip::Args),
    /// Make a configuration of another collector's settings.
    Import(cli::import::Args),
    /// The embedded ClickHouse itself; started by `run`.
    #[command(hide = true)]
    Engine(cli::engine::Args),
    /// Print this command line as JSON: man pages and completions are made of it.
    #[command(name = "command-line", hide = true)]
    Itself,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Init(args) => cli::init::main(args),
        Command::Run(args) => cli::run::main(args),
        Command::Check(args) => cli::check::main(args),
        Command::Doctor(args) => return cli::doctor::main(args),
        Command::Replay(args) => cli::replay::main(args),
        Command::Query(args) => cli::query::main(args),
        Command::Schema(args) => cli::schema::main(args),
        Command::Export(args) => cli::export::main(args),
        Command::Spool(args) => cli::spool::main(args),
        Command::Top(args) => cli::top::main(args),
        Command::Size(args) => return cli::size::main(&args),
        Command::Generate(args) => cli::generate::main(args),
        Command::Geoip(args) => cli::geoip::main(args),
        Command::Import(args) => cli::import::main(args),
        Command::Engine(args) => cli::engine::main(args),
        Command::Itself => cli::command_line::main(Cli::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowsluice: {error:#}");
            match cli::is_refused_configuration(&error) {
                true => ExitCode::from(cli::REFUSED),
                false => ExitCode::FAILURE,
            }
        }
    }
}
