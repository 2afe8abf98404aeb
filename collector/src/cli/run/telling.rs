//! The tasks that tell what is known and counted, beside the workers.

use std::sync::Arc;

use anyhow::Context;
use flowsluice::decode;
use flowsluice::decode::persist::{Keeper, Keeping};
use flowsluice::http;
use flowsluice::knowledge;
use flowsluice::names;
use flowsluice::stats;
use flowsluice::store::SideRows;
use flowsluice::store::occupancy::Asker;
use flowsluice::units::UnixNanos;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task;
use tracing::error;

use super::Storage;

/// The tasks that tell what is known of exporters.
pub(super) struct Telling {
    stop: oneshot::Sender<()>,
    task: task::JoinHandle<()>,
    names: task::JoinHandle<()>,
    shared: Arc<decode::Shared>,
    rows: SideRows,
    /// `None` where nothing outlasts a restart.
    keeping: Option<Keeping>,
}

impl Telling {
    pub(super) fn start(
        shared: Arc<decode::Shared>,
        keeper: Option<Keeper>,
        rows: SideRows,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let keeping = keeper.map(Keeper::keep).transpose();
        let keeping = keeping.context("decode.state_dir: no thread can be started for it")?;
        runtime.spawn(decode::watch::tell(Arc::clone(&shared)));
        let (stop, stopped) = oneshot::channel();
        let told = knowledge::tell(Arc::clone(&shared), rows.clone(), stopped);
        let names = names::rows::keep(Arc::clone(&shared.names), rows.clone());
        Ok(Self {
            stop,
            task: runtime.spawn(told),
            names: runtime.spawn(names),
            keeping,
            shared,
            rows,
        })
    }

    /// Has them tell what is left, now that the workers have ended.
    pub(super) fn finish(self, runtime: &Runtime) {
        drop(self.stop);
        // It never ends by itself; what it left is taken in here.
        self.names.abort();
        let _ = runtime.block_on(self.names);
        names::rows::take_in(&self.shared.names, &self.rows);
        // All that there is to know is known now.
        if let Some(keeping) = self.keeping {
            keeping.stop();
        }
        if let Err(error) = runtime.block_on(self.task) {
            error!(%error, "what is known of exporters was not told to the end");
        }
    }
}

/// The task that tells once a minute what `/metrics` shows.
pub(super) struct Stats {
    stop: oneshot::Sender<()>,
    task: task::JoinHandle<stats::Teller>,
}

impl Stats {
    pub(super) fn start(
        state: &Arc<http::State>,
        storage: &Storage,
        started: UnixNanos,
        runtime: &Runtime,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let asker = storage.endpoint.clone().map(Asker::new);
        let teller = stats::Teller::new(storage.side_rows(), started);
        let told = stats::tell(Arc::clone(state), asker, teller, stopped);
        Self {
            stop,
            task: runtime.spawn(told),
        }
    }

    /// Yields who tells the rest.
    pub(super) fn stop(self, runtime: &Runtime) -> Option<stats::Teller> {
        drop(self.stop);
        runtime.block_on(self.task).ok()
    }
}
