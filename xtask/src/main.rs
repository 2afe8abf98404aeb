//! `cargo xtask`: Flowsluice's tasks, one file each.
//!
//! In: the clone and a Debian or Ubuntu with rustup's stable Rust. Out: an exit status that is 0
//! only when the task's claim holds. Everything that a task makes is under `target/`; the one file
//! kept elsewhere is the ClickHouse library, verified by hash, in the user's cache folder.

mod bench;
mod build_ebpf;
mod ci;
mod cluster_sql;
mod dashboards;
mod debian;
mod demo;
mod elements;
mod engine;
mod fuzz;
mod generated;
mod geo;
mod instructions;
mod load;
mod metrics;
mod outage;
mod package;
mod progress;
mod release;
mod sbom;
mod services;
mod shell;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Flowsluice's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build, collect simulated traffic into an embedded ClickHouse, and show what it says.
    Demo(demo::Args),
    /// Run every test, those against the real ClickHouse and real exporters included.
    Test(test::Args),
    /// Format check, lints with warnings denied, then every test.
    Ci,
    /// Obtain the ClickHouse library and say where it is.
    Engine(engine::Args),
    /// Measure the stages beside their peers, and write benches/RESULTS.md.
    Bench(bench::Args),
    /// Count instructions a flow and hold them against benches/instructions.toml.
    Instructions(instructions::Args),
    /// Build the XDP program that the collector embeds.
    BuildEbpf(generated::Args),
    /// Make the collector's table of information elements from the data.
    Elements(generated::Args),
    /// Make the collector's names of services and protocols from IANA's files.
    Services(services::Args),
    /// Make the schema of a cluster from that of one server.
    ClusterSql(generated::Args),
    /// Make Grafana's dashboards and alerts, in English and Japanese.
    Dashboards(generated::Args),
    /// Make the page of all metrics, deploy/metrics.md.
    Metrics(generated::Args),
    /// Write what the collector is built of, as a CycloneDX bill of materials.
    Sbom(sbom::Args),
    /// Fuzz the decoders, the packet parser, captures and the configuration.
    Fuzz(fuzz::Args),
    /// Send at a fixed rate to the release build and report what became of it.
    Load(load::Args),
    /// Kill ClickHouse and the collector under a steady rate and account for every flow.
    Outage(outage::Args),
    /// Run for long while exporters, files, the configuration and ClickHouse come and go.
    Soak(soak::Args),
    /// Make the packages for Debian and for Red Hat; --check uses them in a fresh Debian.
    Package(package::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Demo(args) => demo::main(&args),
        Task::Test(args) => test::main(&args),
        Task::Ci => ci::main(),
        Task::Engine(args) => engine::main(&args),
        Task::Bench(args) => bench::main(&args),
        Task::Instructions(args) => instructions::main(&args),
        Task::BuildEbpf(args) => build_ebpf::main(&args),
        Task::Elements(args) => elements::main(&args),
        Task::Services(args) => services::main(&args),
        Task::ClusterSql(args) => cluster_sql::main(&args),
        Task::Dashboards(args) => dashboards::main(&args),
        Task::Metrics(args) => metrics::main(&args),
        Task::Sbom(args) => sbom::main(&args),
        Task::Fuzz(args) => fuzz::main(&args),
        Task::Load(args) => load::main(&args),
        Task::Outage(args) => outage::main(&args),
        Task::Soak(args) => soak::main(&args),
        Task::Package(args) => package::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
