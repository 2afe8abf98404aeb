//! A collector that knows everything of the exporters that `flowsluice generate` simulates: City
//! and AS databases, networks, threats, applications, interfaces, labels, and names by DNS.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice::generate::{self, Protocols, Simulator};
use flowsluice::units::UnixNanos;
use flowsluice_tests::{Collector, load};
use tempfile::TempDir;

use crate::enrich::names::NameServer;
use crate::enrich::{databases, files};

/// Files and a name server; both go when it is dropped.
#[derive(Debug)]
pub struct Enriched {
    /// Lines of the configuration.
    pub toml: String,
    _folder: TempDir,
    _name_server: NameServer,
}

impl Enriched {
    /// Writes the files and starts the name server.
    ///
    /// # Errors
    /// When a database is not there.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let name_server = NameServer::start()?;
        let exporters = generate::Settings {
            protocols: Protocols::Netflow9,
            ..generate::Settings::default()
        };
        let simulator = Simulator::new(&exporters, UnixNanos::now())?;
        let enrich = files::write_for(
            folder.path(),
            &databases::all(folder.path())?,
            name_server.address(),
            &files::addresses(&simulator),
        )?;
        Ok(Self {
            toml: files::toml(&enrich)?,
            _folder: folder,
            _name_server: name_server,
        })
    }
}

/// Sends slowly until `collector` knows nearly as many names as it may; how many it knows then.
///
/// # Errors
/// When it does not within minutes.
pub fn learn(collector: &Collector, binary: &Path) -> Result<u64> {
    let deadline = Instant::now() + NAMES_TIME_MAX;
    loop {
        let known = collector.status()?.number("/enrich/dns/names")?;
        if known >= NAMES {
            return Ok(known);
        }
        ensure!(Instant::now() < deadline, "{known} names after a long time");
        let load = super::load(LEARN_RATE, LEARN_SECONDS, "realistic");
        load::run(collector, binary, &load, |_| ())?;
    }
}

/// Nearly what `enrich.dns.hits_max` allows.
const NAMES: u64 = 24_000;
const NAMES_TIME_MAX: Duration = Duration::from_secs(240);
const LEARN_RATE: u64 = 20_000;
const LEARN_SECONDS: u64 = 10;
