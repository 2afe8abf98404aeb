//! `flowsluice spool`: what waits on the disk, and what ClickHouse refused for good.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use flowsluice::config::{self, StoreTarget};
use flowsluice::store::embedded;
use flowsluice::store::spool::{Kind, files, quarantine, read_block, read_header};
use flowsluice::store::{self, Endpoint, Failure};

use super::print;

/// Arguments of `flowsluice spool`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// The configuration; without it /etc/flowsluice/flowsluice.toml, else the built-in defaults.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the blocks that wait and those in quarantine, with the reason.
    List,
    /// Send blocks in quarantine once more, with the token that they have; those that ClickHouse
    /// takes are removed. Files that are damaged are told, and stay. What a view refused is in
    /// `flows` already: it is not doubled as long as the table remembers the token (some hundred
    /// inserts).
    Retry(Which),
    /// Remove blocks in quarantine: their flows are gone.
    Drop(Which),
}

/// Which blocks of the quarantine.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their numbers, as `list` shows them.
    numbers: Vec<u64>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

pub fn main(Args { action, config }: Args) -> anyhow::Result<()> {
    let (config, _) = config::load_or_default(config.as_deref())?;
    let folder = config
        .store
        .spool_dir()
        .context("there is no spool: store.spool.max_bytes is 0, or store.kind is null")?;
    let quarantined = folder.join(quarantine::FOLDER);
    match action {
        Action::List => list(&folder, &quarantined),
        Action::Retry(which) => retry(&config.store, which.files(&quarantined)?, which.all),
        Action::Drop(which) => remove_all(which.files(&quarantined)?),
    }
}

impl Which {
    fn files(&self, folder: &Path) -> anyhow::Result<Vec<(u64, Kind, PathBuf)>> {
        let mut found = there(folder)?;
        for number in &self.numbers {
            if !found.iter().any(|(there, ..)| there == number) {
                bail!("{}: there is no block {number}", folder.display());
            }
        }
        found.retain(|(number, ..)| self.all || self.numbers.contains(number));
        Ok(found)
    }
}

/// The files in `folder`; none where there is no folder yet.
fn there(folder: &Path) -> anyhow::Result<Vec<(u64, Kind, PathBuf)>> {
    match files(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found.with_context(|| format!("{} cannot be read", folder.display())),
    }
}

fn list(spool: &Path, quarantined: &Path) -> anyhow::Result<()> {
    let shown = spool.display();
    // Where nobody may look there may be one: that is an error below.
    if matches!(spool.try_exists(), Ok(false)) {
        return print([format!(
            "{shown}: there is no such folder: no collector has spooled with this configuration; \
             --config names another\n"
        )]);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["block", "flows", "bytes", "sealed", "state"]);
    let folders = [(spool, "waits"), (quarantined, "refused")];
    for (folder, state) in folders {
        for (number, kind, path) in there(folder)? {
            table.add_row(row(number, kind, &path, state));
        }
    }
    print([match table.is_empty() {
        true => format!("{shown}: nothing waits, nothing is in quarantine\n"),
        false => format!("{table}\n"),
    }])
}

fn row(number: u64, kind: Kind, path: &Path, state: &str) -> [String; 5] {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let [rows, sealed, state] = match read_header(path) {
        Ok((header, fault)) => {
            let state = match (fault, &header.refused, kind) {
                (Some(fault), ..) => fault.to_string(),
                (None, Some(refused), _) => format!("{state}: {}", refused.error),
                (None, None, Kind::Tried) => format!("{state}, was sent"),
                (None, None, Kind::Broken) => "cannot be read".into(),
                (None, None, Kind::Block) => state.to_owned(),
            };
            [header.rows.to_string(), time(header.sealed_s), state]
        }
        Err(broken) => ["?".into(), "?".into(), broken.to_string()],
    };
    [number.to_string(), rows, bytes.to_string(), sealed, state]
}

fn time(unix_s: u32) -> String {
    let time = jiff::Timestamp::from_second(unix_s.into());
    time.map_or("?".into(), |time| time.to_string())
}

fn tell_empty() -> anyhow::Result<()> {
    print(["the quarantine is empty\n".to_owned()])
}

/// What became of a block. The next ones have their turn even when nobody reads this any more.
fn tell(number: u64, fate: impl Display) -> anyhow::Result<()> {
    print([format!("{number}: {fate}\n")])
}

fn remove_all(blocks: Vec<(u64, Kind, PathBuf)>) -> anyhow::Result<()> {
    if blocks.is_empty() {
        return tell_empty();
    }
    for (number, _, path) in blocks {
        remove(&path)?;
        tell(number, "removed")?;
    }
    Ok(())
}

/// With `is_all` damaged files are told and left out; named, they are a failure.
fn retry(
    config: &config::Store,
    blocks: Vec<(u64, Kind, PathBuf)>,
    is_all: bool,
) -> anyhow::Result<()> {
    if blocks.is_empty() {
        return tell_empty();
    }
    let endpoint = endpoint(config)?;
    let target = store::target(config, Some(&endpoint)).into_insert();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut left = 0_u64;
    for (number, _, path) in blocks {
        let block = match read_block(&path, number) {
            Ok(block) => block,
            Err(broken) => {
                let remedy = broken.remedy();
                left += u64::from(!is_all || remedy.is_some());
                let remedy = remedy.map_or_else(|| useless(number), str::to_owned);
                tell(number, format_args!("{broken}; {remedy}"))?;
                continue;
            }
        };
        match runtime.block_on(target.insert(&block)) {
            Ok(_) => {
                remove(&path)?;
                tell(number, format_args!("{} flows stored", block.rows))?;
            }
            Err(error) => {
                left += 1;
                tell(number, format_args!("{error}; {}", error.remedy()))?;
                // The next ones would only wait as long.
                if error.failure == Failure::Outage {
                    bail!("ClickHouse at {} takes nothing now", endpoint.url);
                }
            }
        }
    }
    anyhow::ensure!(left == 0, "{left} blocks are still in quarantine");
    Ok(())
}

fn useless(number: u64) -> String {
    format!("it cannot be stored, remove it with 'flowsluice spool drop {number}'")
}

/// Where and as whom blocks are written; an embedded ClickHouse has to run.
fn endpoint(config: &config::Store) -> anyhow::Result<Endpoint> {
    match config.target() {
        StoreTarget::Embedded => embedded::running_for_writing(config)?
            .context("the embedded ClickHouse does not run; start the collector"),
        StoreTarget::Server(_) => store::endpoint(config),
        StoreTarget::Null => bail!("store.kind is null: there is nowhere to store"),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))
}
