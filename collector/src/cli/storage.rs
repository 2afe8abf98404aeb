//! The store of `run` and `replay`, by one path: a server, the embedded engine, or none.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytesize::ByteSize;
use flowsluice::config::{self, Config, StoreTarget};
use flowsluice::enrich::Enricher;
use flowsluice::http::{self, AskedAt, StoreFacts, StoreKind};
use flowsluice::ledger::StoreCounts;
use flowsluice::store::budget::Keeper;
use flowsluice::store::clickhouse;
use flowsluice::store::embedded::{self, Engine};
use flowsluice::store::schema::{self, Wanted};
use flowsluice::store::{self, Endpoint, SideRows, Spool, StopReport, Store, WorkerQueue};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// Where rows go, and where they wait: ClickHouse's address, its process when that is ours, the
/// spool.
type Ends = (Option<Endpoint>, Option<Arc<Engine>>, Option<Arc<Spool>>);

/// How long a server that does not take a new retention is left alone.
const RETAIN_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Tries until it is done.
async fn retain_at(server: &Endpoint, wanted: &Wanted) {
    let client = clickhouse::client(server);
    let mut is_told = false;
    while let Err(error) = schema::apply(&client, &server.database, wanted).await {
        if !std::mem::replace(&mut is_told, true) {
            warn!(
                url = server.url,
                "SIGHUP: store.retention is not in force there yet, and tried again: {error}; {}",
                error.remedy()
            );
        }
        tokio::time::sleep(RETAIN_AGAIN_AFTER).await;
    }
    info!(
        url = server.url,
        "SIGHUP: the tables keep their rows as configured"
    );
}

/// Where rows go while a command runs.
pub struct Storage {
    store: Store,
    /// The child process, when it is this command's own.
    engine: Option<Arc<Engine>>,
    /// Where ClickHouse listens, and as whom rows are written; none for the null store.
    pub endpoint: Option<Endpoint>,
    /// A change of the retention that is under way.
    retaining: Mutex<Option<JoinHandle<()>>>,
}

impl Storage {
    /// Starts the engine when rows go there, and the store on top. Returns before ClickHouse
    /// answers: rows are queued until then.
    ///
    /// # Errors
    /// When the engine cannot be started or the server's password not be read.
    pub fn start(
        config: &Config,
        runtime: &Runtime,
        counts: Arc<StoreCounts>,
        workers: usize,
    ) -> anyhow::Result<(Self, Vec<WorkerQueue>)> {
        let (endpoint, engine) = match config.store.target() {
            StoreTarget::Server(_) => (Some(store::endpoint(&config.store)?), None),
            StoreTarget::Embedded => {
                let engine = Arc::new(Engine::start(&config.store)?);
                (Some(engine.endpoint()), Some(engine))
            }
            StoreTarget::Null => {
                warn!(
                    remedy = "remove the key to store",
                    "store.kind is null: nothing is stored, every flow is counted as store_null"
                );
                (None, None)
            }
        };
        let spool = match Spool::open(&config.store, Arc::clone(&counts)) {
            Ok(spool) => spool,
            Err(error) => {
                error!(
                    "{error}; until then blocks wait in memory alone, and those that are not \
                     stored at the stop are lost"
                );
                None
            }
        };
        let ends = (endpoint, engine, spool);
        Ok(Self::on(config, runtime, counts, workers, ends))
    }

    /// As [`Storage::start`], but without a spool, and joins the engine of a collector that runs
    /// already.
    ///
    /// # Errors
    /// Those of [`Storage::start`], and a running engine whose password may not be read.
    pub fn join(
        config: &Config,
        runtime: &Runtime,
        counts: Arc<StoreCounts>,
    ) -> anyhow::Result<(Self, Vec<WorkerQueue>)> {
        let running = match config.store.target() {
            StoreTarget::Embedded => embedded::running_for_writing(&config.store)?,
            StoreTarget::Server(_) | StoreTarget::Null => None,
        };
        if running.is_some() {
            return Ok(Self::on(config, runtime, counts, 1, (running, None, None)));
        }
        // The spool is the collector's, and whoever joins can wait for room.
        let mut config = config.clone();
        config.store.spool.max_bytes = ByteSize::b(0);
        Self::start(&config, runtime, counts, 1)
    }

    fn on(
        config: &Config,
        runtime: &Runtime,
        counts: Arc<StoreCounts>,
        workers: usize,
        (endpoint, engine, spool): Ends,
    ) -> (Self, Vec<WorkerQueue>) {
        let _inside = runtime.enter();
        let target = store::target(&config.store, endpoint.as_ref());
        let (store, queues) =
            Store::start_spooling(target, spool, &config.store, counts, workers, &config.batch);
        let storage = Self {
            store,
            engine,
            endpoint,
            retaining: Mutex::default(),
        };
        (storage, queues)
    }

    /// Has what comes through `queues`, which are all there are, marked by `enricher`.
    pub fn enrich(&mut self, queues: &mut [WorkerQueue], enricher: Enricher, runtime: &Runtime) {
        let _inside = runtime.enter();
        self.store.enrich(queues, enricher);
    }

    /// True once ClickHouse answered and has the schema, or none is needed.
    pub fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    /// Keeps `store.budget` once the tables are there, as long as the runtime lives.
    pub fn keep_budget(&self, config: &Config, counts: &Arc<StoreCounts>, runtime: &Runtime) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        for keeper in Keeper::of_each(endpoint, &config.store, counts) {
            runtime.spawn(keeper.keep(self.store.ready()));
        }
    }

    /// Has the tables keep their rows as `config`, whose retention was changed, says: as soon as
    /// ClickHouse is there.
    pub fn retain(&self, config: &config::Store, runtime: &Runtime) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        // Of a cluster one server has all others follow.
        let servers: Vec<Endpoint> = match endpoint.cluster {
            Some(_) => vec![endpoint.reachable()],
            None => endpoint.each().collect(),
        };
        let wanted = Wanted::new(config);
        let mut ready = self.store.ready();
        let retained = runtime.spawn(async move {
            if ready.wait_for(|ready| *ready).await.is_err() {
                return;
            }
            for server in &servers {
                retain_at(server, &wanted).await;
            }
        });
        let mut retaining = self
            .retaining
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = retaining.replace(retained) {
            before.abort();
        }
    }

    /// Where rows of the tables beside `flows` are pushed.
    pub fn side_rows(&self) -> SideRows {
        self.store.side_rows()
    }

    /// Whom the page asks, as a user who may only read where there is one.
    pub fn reader(&self) -> Option<Endpoint> {
        match &self.engine {
            Some(engine) => Some(engine.reader()),
            None => self.endpoint.clone(),
        }
    }

    /// What the status page asks for: where rows can be asked for, and how the store does.
    pub fn facts(&self) -> http::AskStore {
        let ready = self.store.ready();
        let endpoints = self.store.endpoints();
        // The status page must not keep the engine from ending.
        let engine = self.engine.as_ref().map(Arc::downgrade);
        let asked_at = self.reader().map(|asked| AskedAt {
            url: asked.url,
            database: asked.database,
            user: asked.user,
        });
        let kind = match (&self.engine, &self.endpoint) {
            (Some(_), _) => StoreKind::Embedded,
            (None, Some(_)) => StoreKind::Server,
            (None, None) => StoreKind::Null,
        };
        Box::new(move || {
            let engine = engine.as_ref().and_then(Weak::upgrade);
            let endpoints = endpoints.as_ref().map(|shared| shared.status());
            let endpoints = endpoints.unwrap_or_default();
            let mut asked_at = asked_at.clone();
            let in_use = endpoints.servers.iter().find(|server| server.in_use);
            if let (Some(asked_at), Some(server)) = (&mut asked_at, in_use) {
                asked_at.url.clone_from(&server.url);
            }
            StoreFacts {
                kind,
                asked_at,
                endpoints,
                engine_pid: engine.as_ref().and_then(|engine| engine.pid()),
                engine_restarts: engine.as_ref().map_or(0, |engine| engine.restarts()),
                // A child that hangs refuses nothing, and an idle collector inserts nothing.
                ready: *ready.borrow()
                    && (kind != StoreKind::Embedded
                        || engine.as_ref().is_some_and(|engine| engine.is_ready())),
            }
        })
    }

    /// Stores what was handed over, then ends the engine.
    pub fn stop(self, runtime: &Runtime) -> StopReport {
        self.stop_telling(runtime, || {})
    }

    /// The same; `tell` pushes what is to be said of the end, when everything else is stored.
    pub fn stop_telling(self, runtime: &Runtime, tell: impl FnOnce()) -> StopReport {
        let report = runtime.block_on(self.store.stop_telling(tell));
        // The status page holds it for the moment of an answer; whoever lets go last ends it.
        drop(self.engine);
        report
    }
}
