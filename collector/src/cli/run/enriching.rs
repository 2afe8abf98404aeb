//! What is known beside flows, while a run lasts.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use flowsluice::config::Config;
use flowsluice::decode;
use flowsluice::enrich::Enricher;
use flowsluice::enrich::dns::Dns;
use flowsluice::enrich::keep::{Keeper, Sources};
use flowsluice::enrich::snmp::Snmp;
use flowsluice::http;
use flowsluice::receive;
use flowsluice::store::SideRows;
use tokio::runtime::Runtime;

use super::drop_capabilities;

/// What names are learned from, and where they go.
pub(super) struct Names<'a> {
    pub(super) shared: &'a Arc<decode::Shared>,
    /// `None` where nothing outlasts a restart.
    pub(super) state_dir: Option<&'a Path>,
    pub(super) rows: SideRows,
}

/// The keeper of the tables, and what the store needs of it.
pub(super) struct Enriching {
    /// `None` where nothing is to be known.
    keeper: Option<Keeper>,
    has_services: bool,
    dns: Option<Arc<Dns>>,
}

impl Enriching {
    /// Starts what `config` names, and waits until its files are loaded.
    pub(super) fn start(
        config: &Config,
        names: Names<'_>,
        cpus: &[Option<usize>],
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let Config { enrich, .. } = config;
        if enrich.is_off() {
            return Ok(Self {
                keeper: None,
                has_services: false,
                dns: None,
            });
        }
        let Names {
            shared,
            state_dir,
            rows,
        } = names;
        let handle = runtime.handle();
        let dns = Arc::new(Dns::start(&enrich.dns, rows.clone(), handle));
        let sources = Sources {
            shared: Arc::clone(shared),
            dns: Arc::clone(&dns),
            snmp: Arc::new(Snmp::start(&enrich.snmp, state_dir, rows.clone(), handle)),
            rows,
        };
        let free = receive::affinity::housekeeping(cpus, &receive::affinity::available());
        let is_pinned = cpus.iter().any(Option::is_some);
        let keeper = Keeper::start(config, sources, move || {
            drop_capabilities();
            if let (true, Some(cpu)) = (is_pinned, free.first()) {
                // Loading a database is seconds of work, not to be done beside a worker.
                let _ = receive::affinity::pin(*cpu);
            }
        });
        Ok(Self {
            keeper: Some(keeper.context("no thread can be started for the tables of enrich")?),
            has_services: enrich.services,
            dns: Some(dns),
        })
    }

    /// Who marks rows; `None` where nothing is to be known.
    pub(super) fn enricher(&self) -> Option<Enricher> {
        let keeper = self.keeper.as_ref()?;
        let asks = self.dns.as_ref().filter(|dns| dns.has_endpoints());
        let asker = asks.map(|dns| dns.asker());
        Some(Enricher::new(keeper.published(), asker, self.has_services))
    }

    /// Tells `state` whom to ask what is known.
    pub(super) fn show(&self, state: &http::State) {
        if let Some(keeper) = &self.keeper {
            state.enriched_by(Box::new(keeper.facts()));
        }
    }

    /// True where nothing is to be known: switched on by a start only.
    pub(super) fn is_off(&self) -> bool {
        self.keeper.is_none()
    }

    /// Has it follow `config`; without one, files that changed are read again.
    pub(super) fn reload(&self, config: Option<Config>) {
        if let Some(keeper) = &self.keeper {
            keeper.reload(config);
        }
    }

    /// Ends everything; the workers have ended before.
    pub(super) fn stop(self, runtime: &Runtime) {
        if let Some(keeper) = self.keeper {
            runtime.block_on(keeper.stop());
        }
    }
}
