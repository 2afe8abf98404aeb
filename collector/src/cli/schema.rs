//! `flowsluice schema`: the tables of ClickHouse, brought up to date or printed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use flowsluice::config::{self, Config, StoreTarget};
use flowsluice::store::embedded::{self, Engine};
use flowsluice::store::schema::{self, Plan, Wanted};
use flowsluice::store::{self, Endpoint, Failure, InsertError, clickhouse};

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
    /// Print the statements and change nothing. Where no collector runs on the embedded ClickHouse,
    /// that is started to be asked, and ended again.
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
    let data_dir = &config.store.embedded.data_dir;
    let (endpoints, _engine) = match place(config, dry_run)? {
        Place::Servers(endpoints) => (endpoints, None),
        Place::Engine(engine) => (vec![engine.endpoint()], Some(engine)),
        Place::Nothing => {
            let statements = schema::sql(&config.store.database, &Wanted::new(&config.store));
            print([format!(
                "-- no database in {} yet: everything would be made\n",
                data_dir.display()
            )])?;
            return print(statements.iter().map(|statement| format!("{statement};\n")));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut problems = Vec::new();
    for endpoint in &endpoints {
        if endpoints.len() > 1 {
            let comment = if dry_run { "-- " } else { "" };
            print([format!("{comment}{}:\n", endpoint.url)])?;
        }
        match runtime.block_on(ask(endpoint, &config.store, dry_run)) {
            Ok(plan) => {
                tell(&plan, dry_run)?;
                problems.extend(plan.refused);
            }
            Err(error) => problems.push(explained(endpoint, &error)),
        }
    }
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

async fn ask(
    endpoint: &Endpoint,
    config: &config::Store,
    dry_run: bool,
) -> Result<Plan, InsertError> {
    let client = clickhouse::client(endpoint);
    let wanted = Wanted::new(config);
    match dry_run {
        true => schema::plan(&client, &endpoint.database, &wanted).await,
        false => schema::apply(&client, &endpoint.database, &wanted).await,
    }
}

/// What was done, or would be.
fn tell(plan: &Plan, dry_run: bool) -> anyhow::Result<()> {
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
    Ok(())
}

/// Who said what, and what to do where that does not say so itself.
fn explained(endpoint: &Endpoint, error: &InsertError) -> String {
    let Endpoint { database, url, .. } = endpoint;
    let said = format!("database {database} at {url}: {error}");
    match error.failure {
        Failure::Refused if error.code.is_none() => said,
        _ => format!("{said}; {}", error.remedy()),
    }
}

/// Where the tables are.
enum Place {
    /// Each has tables of its own; of a cluster one, which has all others make theirs.
    Servers(Vec<Endpoint>),
    /// Started for this command.
    Engine(Box<Engine>),
    /// Nowhere yet, and a dry run makes no place for them.
    Nothing,
}

fn place(config: &Config, dry_run: bool) -> anyhow::Result<Place> {
    match config.store.target() {
        StoreTarget::Server(_) => {
            let endpoint = store::endpoint(&config.store)?;
            Ok(Place::Servers(match &endpoint.cluster {
                Some(_) => vec![endpoint.reachable()],
                None => endpoint.each().collect(),
            }))
        }
        StoreTarget::Embedded => {
            if let Some(running) = embedded::running_for_writing(&config.store)? {
                return Ok(Place::Servers(vec![running]));
            }
            let data_dir = &config.store.embedded.data_dir;
            if dry_run && !has_tables(data_dir)? {
                return Ok(Place::Nothing);
            }
            let engine = Engine::start(&config.store)?;
            anyhow::ensure!(
                is_up(&engine),
                "the embedded ClickHouse does not answer; look into {}",
                data_dir.join("engine/clickhouse.log").display()
            );
            Ok(Place::Engine(Box::new(engine)))
        }
        StoreTarget::Null => {
            anyhow::bail!("store.kind: null stores nothing, so there are no tables; remove the key")
        }
    }
}

/// Waits until an engine that was just started answers; false where it died again and again, or
/// takes too long.
fn is_up(engine: &Engine) -> bool {
    let begun = Instant::now();
    while !engine.wait_ready(ENGINE_LOOK_EVERY) {
        if engine.restarts() > ENGINE_RESTARTS_MAX || begun.elapsed() > ENGINE_START_MAX {
            return false;
        }
    }
    true
}

/// Whether an embedded ClickHouse ever ran in a folder.
fn has_tables(data_dir: &Path) -> anyhow::Result<bool> {
    let metadata = data_dir.join("clickhouse/metadata");
    metadata.try_exists().with_context(|| {
        format!(
            "store.embedded.data_dir: cannot look into {}; ask as the user that runs the collector",
            data_dir.display()
        )
    })
}

/// A slow disk may need minutes to read the library, and what an engine with many parts has.
const ENGINE_START_MAX: Duration = Duration::from_secs(600);
/// One that died so often, which takes some seconds, does not start at all.
const ENGINE_RESTARTS_MAX: u64 = 4;
const ENGINE_LOOK_EVERY: Duration = Duration::from_millis(200);
