//! `flowsluice run`: starts every part, waits for a signal, and ends in the order of the data path.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use flowsluice::batch::Batcher;
use flowsluice::config::{self, Config};
use flowsluice::decode::{self, Decoder};
use flowsluice::ledger::{DropLevel, DropReason, Ledger, LedgerSnapshot, WorkerLedger};
use flowsluice::receive::{self, Receiver};
use flowsluice::store::WorkerQueue;
use flowsluice::worker::Worker;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::storage::Storage;

/// Arguments of `flowsluice run`.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration; without it /etc/flowsluice/flowsluice.toml, else the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn main(args: Args) -> anyhow::Result<()> {
    let (config, file) = config::load_or_default(args.config.as_deref())?;
    flowsluice::log::init(&config.log)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %file.map_or("built-in defaults".into(), |file| file.display().to_string()),
        "starting"
    );
    let cpus = receive::affinity::plan(&config.receive, &receive::affinity::available())?;
    let http = TcpListener::bind(config.http.listen).with_context(|| {
        format!(
            "http.listen: {} cannot be bound; stop what listens there or name another address",
            config.http.listen
        )
    })?;
    let runtime = housekeeping_runtime(&cpus)?;
    // From here on a signal means an orderly stop, also while the rest is still starting.
    let signals = Signals::catch(&runtime)?;
    Running::start(&config, cpus, http, &runtime)?.until(signals, &runtime)
}
