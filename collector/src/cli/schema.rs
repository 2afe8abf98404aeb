//! `flowsluice schema`: the tables of ClickHouse, brought up to date or printed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use flowsluice::config::{self, Config, StoreTarget};
use flowsluice::store::embedded::{self, Engine};
use flowsluice::store::schema::{self, Plan, Wanted};
use flowsluice::store::{self, Endpoint, clickhouse};

use super::print;

/// Arguments of `flowsluice schema`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Apply migrations, and have the tables' retention and settings follow the configuration; a
    /// running collector goes on. `run` does the same at its start.
    Apply(Apply),
    /// Print the SQL that makes all tables, filled in with the configuration.
    Print(Print),
}

#[derive(clap::Args)]
struct Apply {
    /// Configuration that says which ClickHouse [default: /etc/flowsluice/flowsluice.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the statements and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct Print {
    /// Configuration to fill in [default: /etc/flowsluice/flowsluice.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn main(Args { command }: Args) -> anyhow::Result<()> {
    match command {
        Command::Apply(Apply { config, dry_run }) => {
            let (config, _) = config::load_or_default(config.as_deref())?;
            apply(&config, dry_run)
        }
        Command::Print(Print { config }) => {
            let (config, _) = config::load_or_default(config.as_deref())?;
            let wanted = Wanted::new(&config.store);
            let statements = schema::sql(&config.store.database, &wanted);
            print(statements.iter().map(|statement| format!("{statement};\n")))
        }
    }
}

fn apply(config: &Config, dry_run: bool) -> anyhow::Result<()> {
    let (endpoint, _engine) = place(config)?;
    let client = clickhouse::client(&endpoint);
    let wanted = Wanted::new(&config.store);
    let database = &endpoint.database;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let plan = runtime
        .block_on(async {
            match dry_run {
                true => schema::plan(&client, database, &wanted).await,
                false => schema::apply(&client, database, &wanted).await,
            }
        })
        .with_context(|| format!("database {database} at {}", endpoint.url))?;
    match dry_run {
        true => print(
            plan.steps
                .iter()
                .map(|step| format!("{};\n", step.statement)),
        )?,
        false => print(plan.changes().map(|what| format!("{what}\n")))?,
    }
    if plan.steps.is_empty() {
        print([format!(
            "{}nothing to change: schema {}, as configured\n",
            if dry_run { "-- " } else { "" },
            schema::version()
        )])?;
    }
    let Plan { refused, .. } = plan;
    anyhow::ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(())
}

/// Where the tables are, and the engine if it was started for this command.
fn place(config: &Config) -> anyhow::Result<(Endpoint, Option<Engine>)> {
    match config.store.target() {
        StoreTarget::Server(_) => Ok((store::endpoint(&config.store)?, None)),
        StoreTarget::Embedded => {
            if let Some(running) = embedded::running_for_writing(&config.store)? {
                return Ok((running, None));
            }
            let engine = Engine::start(&config.store)?;
            anyhow::ensure!(
                engine.wait_ready(ENGINE_START_MAX),
                "the embedded ClickHouse does not answer; look into {}",
                config
                    .store
                    .embedded
                    .data_dir
                    .join("engine/clickhouse.log")
                    .display()
            );
            Ok((engine.endpoint(), Some(engine)))
        }
        StoreTarget::Null => {
            anyhow::bail!("store.kind: null stores nothing, so there are no tables; remove the key")
        }
    }
}

/// An engine with many parts takes some seconds to read what it has.
const ENGINE_START_MAX: Duration = Duration::from_secs(60);
