//! The store of `run` and `replay`: the configured server or the embedded engine, by one path.

use std::sync::{Arc, Weak};

use flowsluice::config::Config;
use flowsluice::http::{self, StoreFacts, StoreKind};
use flowsluice::ledger::StoreCounts;
use flowsluice::store::embedded::{self, Engine};
use flowsluice::store::{self, Endpoint, StopReport, Store, WorkerQueue};
use tokio::runtime::Runtime;

/// Where rows go while a command runs.
pub struct Storage {
    store: Store,
    /// The child process, when it is this command's own.
    engine: Option<Arc<Engine>>,
    /// Where ClickHouse listens, and as whom rows are written.
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
        let (endpoint, engine) = match config.store.url {
            Some(_) => (store::endpoint(&config.store)?, None),
            None => {
                let engine = Arc::new(Engine::start(&config.store)?);
                (engine.endpoint(), Some(engine))
            }
        };
        Ok(Self::on(config, runtime, counts, workers, endpoint, engine))
    }

    /// As [`Storage::start`], but joins the engine of a collector that runs already.
    ///
    /// # Errors
    /// Those of [`Storage::start`], and a running engine whose password may not be read.
    pub fn join(
        config: &Config,
        runtime: &Runtime,
        counts: Arc<StoreCounts>,
    ) -> anyhow::Result<(Self, Vec<WorkerQueue>)> {
        let running = match config.store.url {
            Some(_) => None,
            None => embedded::running_for_writing(&config.store)?,
        };
        match running {
            Some(endpoint) => Ok(Self::on(config, runtime, counts, 1, endpoint, None)),
            None => Self::start(config, runtime, counts, 1),
        }
    }

    fn on(
        config: &Config,
        runtime: &Runtime,
        counts: Arc<StoreCounts>,
        workers: usize,
        endpoint: Endpoint,
        engine: Option<Arc<Engine>>,
    ) -> (Self, Vec<WorkerQueue>) {
        let _inside = runtime.enter();
        let (store, queues) =
            Store::start(&config.store, &endpoint, counts, workers, &config.batch);
        let storage = Self {
            store,
            engine,
            endpoint,
        };
        (storage, queues)
    }

    /// True once ClickHouse answered and has the schema.
    pub fn is_ready(&self) -> bool {
        self.store.is_ready()
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
                // A child that hangs refuses nothing, and an idle collector inserts nothing.
                ready: *ready.borrow()
                    && (kind == StoreKind::Server
                        || engine.as_ref().is_some_and(|engine| engine.is_ready())),
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
