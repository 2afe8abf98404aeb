//! Metrics, health, status and the page over HTTP.
//!
//! In: the ledger, the exporters' status, what the store says of itself. Out: `/metrics`
//! (OpenMetrics), `/healthz`, `/readyz`, `/status` (JSON), and what `page` has. Owner: the runtime
//! beside the workers; nothing here makes a worker wait. A reading is taken when somebody asks.

mod connections;
mod debug;
mod encryption;
mod health;
mod metrics;
mod page;
mod process;
mod status;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::decode;
use crate::enrich::EnrichFacts;
use crate::ledger::Ledger;
use crate::receive::tee::{Tee, TeeFacts};
use crate::receive::xdp::steering::InterfaceMode;
use crate::store::EndpointsStatus;
use crate::store::occupancy::Occupancy;
use crate::units::UnixNanos;

use connections::{Bounded, Limits};
pub use encryption::Encryption;
use health::Readings;
pub use metrics::{Family, Kind, Labels, Value};
pub use page::{Access, AccessError, Page};
use page::{Live, Peer};

/// What does not change while the collector runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The collector's version.
    pub version: &'static str,
    /// When it started, by both clocks.
    pub started: (Instant, UnixNanos),
    /// How the kernel's sockets are read: `io_uring` or `recvmmsg`.
    pub receive_mode: &'static str,
    /// The interfaces that AF_XDP was asked for, and what came of it.
    pub interfaces: Vec<InterfaceMode>,
    /// The processor of each worker; `None` is unpinned.
    pub cpus: Vec<Option<usize>>,
    /// UDP addresses that are bound.
    pub listeners: Vec<SocketAddr>,
    /// TCP addresses that are bound for IPFIX.
    pub tcp_listeners: Vec<SocketAddr>,
}

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The child process.
    Embedded,
    /// A configured server.
    Server,
    /// Nowhere: they are encoded, counted and dropped.
    Null,
}

impl StoreKind {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Server => "server",
            Self::Null => "null",
        }
    }
}

/// Where people and dashboards ask for rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedAt {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Database of the tables.
    pub database: String,
    /// The user to ask as: the read-only one of the embedded ClickHouse.
    pub user: String,
}

/// What the store says of itself at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// Which store.
    pub kind: StoreKind,
    /// Its ClickHouse; none for the null store.
    pub asked_at: Option<AskedAt>,
    /// Several servers, if there are; else none is listed.
    pub endpoints: EndpointsStatus,
    /// Process of the embedded ClickHouse, while there is one.
    pub engine_pid: Option<u32>,
    /// How often it was started again.
    pub engine_restarts: u64,
    /// True once ClickHouse answered and has the schema, or none is needed.
    pub ready: bool,
}

/// How far the collector is from its start and from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The workers do not receive yet.
    Starting,
    /// The workers receive.
    Collecting,
    /// The collector has been told to stop and stores what it has.
    Stopping,
}

/// Asks the store. Must not block.
pub type AskStore = Box<dyn Fn() -> StoreFacts + Send + Sync>;

/// Asks what is known beside flows. Must not block.
pub type AskEnrich = Box<dyn Fn() -> EnrichFacts + Send + Sync>;

/// Everything that an answer is made of.
pub struct State {
    ledger: Arc<Ledger>,
    shared: Arc<decode::Shared>,
    facts: Facts,
    store: AskStore,
    /// Not set where nothing is known beside flows.
    enrich: OnceLock<AskEnrich>,
    /// Not set where nothing is forwarded.
    tee: OnceLock<Tee>,
    /// Not set where there is no page.
    page: OnceLock<Page>,
    phase: AtomicU8,
    readings: Mutex<Readings>,
    live: Mutex<Live>,
    occupancy: Mutex<Occupancy>,
}

impl State {
    /// The state of a collector that is starting.
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        shared: Arc<decode::Shared>,
        facts: Facts,
        store: AskStore,
    ) -> Self {
        let readings = Readings::new(facts.started.0);
        Self {
            ledger,
            shared,
            facts,
            store,
            enrich: OnceLock::new(),
            tee: OnceLock::new(),
            page: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            readings: Mutex::new(readings),
            live: Mutex::default(),
            occupancy: Mutex::default(),
        }
    }

    /// Says whom to ask what is known beside flows; once.
    pub fn enriched_by(&self, ask: AskEnrich) {
        let _ = self.enrich.set(ask);
    }

    /// Says what datagrams are forwarded by; once.
    pub fn forwarded_by(&self, tee: Tee) {
        let _ = self.tee.set(tee);
    }

    /// What became of forwarded datagrams, by target.
    fn tees(&self) -> Vec<TeeFacts> {
        self.tee.get().map(Tee::facts).unwrap_or_default()
    }

    /// Gives the collector its page; once.
    pub fn show(&self, page: Page) {
        let _ = self.page.set(page);
    }

    /// From here on only those of `access` are answered; true where those are others than before.
    pub fn admit(&self, access: Access) -> bool {
        self.page.get().is_some_and(|page| page.admit(access))
    }

    /// What is known beside flows.
    fn enrich(&self) -> Option<EnrichFacts> {
        self.enrich.get().map(|ask| ask())
    }

    /// Tells how far the collector is; `/readyz` answers by it.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// How far the collector is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Collecting,
            _ => Phase::Stopping,
        }
    }

    /// Why a worker does not turn; `None` when all do, or are not expected to yet.
    #[must_use]
    pub fn unhealthy(&self) -> Option<String> {
        if self.phase() != Phase::Collecting {
            return None;
        }
        let turns = self.ledger.turns();
        let silent = self.readings().silent(Instant::now(), &turns);
        silent.map(|(worker, silence)| {
            format!(
                "receive: worker {worker} has not turned for {} s; datagrams are being lost, look \
                 at the log and restart",
                silence.as_secs()
            )
        })
    }

    /// Why the collector does not do its work from end to end; `None` when it does.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        match self.phase() {
            Phase::Starting => return Some("receive: the workers are starting".into()),
            Phase::Stopping => return Some("stopping: what was received is being stored".into()),
            Phase::Collecting => {}
        }
        let store = (self.store)();
        if !store.ready {
            let what = match (store.kind, store.engine_pid) {
                (StoreKind::Server, _) => "ClickHouse does not answer or has no schema yet at",
                (StoreKind::Embedded, Some(_)) => "the embedded ClickHouse is not ready yet at",
                (StoreKind::Embedded, None) => "the embedded ClickHouse is not running at",
                (StoreKind::Null, _) => "the null store is starting",
            };
            let url = store.asked_at.map(|at| format!(" {}", at.url));
            let url = url.unwrap_or_default();
            return Some(format!(
                "store: {what}{url}; flows wait in memory, the log tells why"
            ));
        }
        self.unhealthy()
    }

    /// Notes what rates and health are told from. [`serve`] does it every [`READING_EVERY`]. May
    /// pause for 20 ms, as [`Ledger::snapshot`] does.
    pub fn read(&self, now: Instant) {
        let turns = self.ledger.turns();
        let exporters = self.shared.exporters();
        self.readings().take(now, &turns, &exporters);
        let ledger = self.ledger.snapshot();
        self.live().take(now, UnixNanos::now(), &ledger);
    }

    /// Takes what the tables take of ClickHouse's disks, to be shown until it is known anew.
    pub fn occupied(&self, occupancy: Occupancy) {
        *self.occupancy() = occupancy;
    }

    fn occupancy(&self) -> MutexGuard<'_, Occupancy> {
        let occupancy = self.occupancy.lock();
        occupancy.unwrap_or_else(PoisonError::into_inner)
    }

    /// What `/metrics` shows, but for the series of single exporters, at this moment. May pause for
    /// 20 ms, as [`Ledger::snapshot`] does.
    #[must_use]
    pub fn figures(&self) -> Vec<Family> {
        metrics::of_collector(self)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever panicked while it held them: readings are replaced whole.
    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("facts", &self.facts)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// How often the state is read for rates and health.
pub const READING_EVERY: Duration = Duration::from_secs(2);

/// Opens the listener of `http.listen`.
///
/// # Errors
/// When the address is taken or not of this host, with what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => "is taken by another program; stop that one or",
            io::ErrorKind::AddrNotAvailable => "is no address of this host;",
            io::ErrorKind::PermissionDenied => "may not be used by this user;",
            _ => return anyhow::anyhow!("http.listen: {address} cannot be bound ({error})"),
        };
        anyhow::anyhow!("http.listen: {address} {what} set another http.listen")
    })
}

/// Answers on `listener` until the task is dropped; by TLS alone where there is any.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Encryption>,
    state: Arc<State>,
) -> io::Result<()> {
    let forever = std::future::pending();
    serve_bounded(listener, tls, state, Limits::default(), forever).await
}

/// As [`serve`] in clear, until `stop` is done; answers that are under way are finished.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve_until(
    listener: TcpListener,
    state: Arc<State>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_bounded(listener, None, state, Limits::default(), stop).await
}

async fn serve_bounded(
    listener: TcpListener,
    tls: Option<Encryption>,
    state: Arc<State>,
    limits: Limits,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let reader = Arc::clone(&state);
    let read = async move {
        let mut every = tokio::time::interval(READING_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let reader = Arc::clone(&reader);
            // One that panicked is missing; the next one is taken.
            let _ = tokio::task::spawn_blocking(move || reader.read(Instant::now())).await;
        }
    };
    let listener = Bounded::new(listener, tls.map(Encryption::acceptor), limits);
    let router = router(state).into_make_service_with_connect_info::<Peer>();
    let serve = axum::serve(listener, router).with_graceful_shutdown(stop);
    tokio::select! {
        outcome = serve => outcome,
        () = read => Ok(()),
    }
}

fn router(state: Arc<State>) -> Router {
    Router::new()
        .merge(page::routes(&state))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .layer(from_fn_with_state(Arc::clone(&state), page::guard_all))
        .layer(map_response(page::strict))
        .with_state(state)
}

const INDEX: &str = "\
Flowsluice
/         the page, in a browser
/api/v1/  what the page shows, JSON
/metrics  counters and gauges, OpenMetrics
/healthz  200 while the workers turn
/readyz   200 while flows go from the sockets to the store
/status   workers, exporters, store and ledger, JSON
/debug/templates        what exporters said that their records mean, JSON
/debug/undecodable.pcap the last datagrams that nothing could be made of
";

async fn healthz(Extract(state): Extract<Arc<State>>) -> Response {
    answer(state.unhealthy())
}

async fn readyz(Extract(state): Extract<Arc<State>>) -> Response {
    answer(state.unready())
}

fn answer(problem: Option<String>) -> Response {
    match problem {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(text) => (StatusCode::SERVICE_UNAVAILABLE, text + "\n").into_response(),
    }
}

async fn metrics(Extract(state): Extract<Arc<State>>, headers: HeaderMap) -> Response {
    let format = metrics::Format::asked_for(&headers);
    // The ledger may be read more than once, with pauses: not on a thread of the runtime.
    match tokio::task::spawn_blocking(move || metrics::text(&state, format)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(Extract(state): Extract<Arc<State>>) -> Response {
    match tokio::task::spawn_blocking(move || status::json(&state)).await {
        Ok(json) => axum::Json(json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
