//! The store of `run` and `replay`: the configured server or the embedded engine, by one path.

use std::sync::{Arc, Weak};

use flowsluice::config::Config;
use flowsluice::http::{self, StoreFacts, StoreKind};
use flowsluice::ledger::StoreCounts;
use flowsluice::store::embedded::Engine;
use flowsluice::store::{self, Endpoint, StopReport, Store, WorkerQueue};
use tokio::runtime::Runtime;

/// Where rows go while a command runs.
pub struct Storage {
    store: Store,
    /// The child process, when the store is the embedded ClickHouse.
    pub engine: Option<Arc<Engine>>,
    /// Where ClickHouse listens, and as whom the collector writes.
    pub endpoint: Endpoint,
}

impl Storage {
    /// Starts the engine when no server is configured, and the store on top. Returns before
    /// ClickHouse answers: rows are queued until then.
    ///
    /// # Errors
    /// When the engine cannot be started or the server's password not be read.
    pub fn start(
        config: &Config,
        runtime: &Runtime,
        counts: Arc<StoreCounts>,
        workers: usize,
    ) -> anyhow::Result<(Self, Vec<WorkerQueue>)> {
        let engine = match config.store.url {
            Some(_) => None,
            None => Some(Arc::new(Engine::start(&config.store)?)),
        };
        let endpoint = match &engine {
            Some(engine) => engine.endpoint(),
            None => store::endpoint(&config.store)?,
        };
        let _inside = runtime.enter();
        let (store, queues) =
            Store::start(&config.store, &endpoint, counts, workers, &config.batch);
        let storage = Self {
            store,
            engine,
            endpoint,
        };
        Ok((storage, queues))
    }

    /// What the status page asks for: where rows can be asked for, and how the store does.
    pub fn facts(&self) -> http::AskStore {
        let ready = self.store.ready();
        // The status page must not keep the engine from ending.
        let engine = self.engine.as_ref().map(Arc::downgrade);
        let asked = match &self.engine {
            Some(engine) => engine.reader(),
            None => self.endpoint.clone(),
        };
        let kind = match self.engine {
            Some(_) => StoreKind::Embedded,
            None => StoreKind::Server,
        };
        Box::new(move || {
            let engine = engine.as_ref().and_then(Weak::upgrade);
            StoreFacts {
                kind,
                url: asked.url.clone(),
                database: asked.database.clone(),
                user: asked.user.clone(),
                engine_pid: engine.as_ref().and_then(|engine| engine.pid()),
                engine_restarts: engine.as_ref().map_or(0, |engine| engine.restarts()),
                ready: *ready.borrow(),
            }
        })
    }

    /// Stores what was handed over, then ends the engine.
    pub fn stop(self, runtime: &Runtime) -> StopReport {
        let report = runtime.block_on(self.store.stop());
        // The status page holds it for the moment of an answer; whoever lets go last ends it.
        drop(self.engine);
        report
    }
}
