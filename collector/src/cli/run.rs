//! `flowsluice run`: starts every part, waits for a signal, and ends in the order of the data path.

mod crew;
mod enriching;
mod reloading;
mod telling;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use flowsluice::config::{self, Config, ReceiveMode};
use flowsluice::decode;
use flowsluice::decode::persist::Keeper;
use flowsluice::host::allocator;
use flowsluice::http;
use flowsluice::ledger::{DropReason, Ledger, LedgerSnapshot, losses};
use flowsluice::receive::allow::AllowList;
use flowsluice::receive::tcp::TcpReceiver;
use flowsluice::receive::tee::Forwarding;
use flowsluice::receive::xdp::steering::{Following, Steering};
use flowsluice::receive::{self, Receiver};
use flowsluice::service;
use flowsluice::units::UnixNanos;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crew::Crew;
use enriching::{Enriching, Names};
use reloading::Reloading;
use telling::{Stats, Telling};

use super::preflight;
use super::storage::Storage;

/// Arguments of `flowsluice run`.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration; without it /etc/flowsluice/flowsluice.toml, else the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn main(Args { config }: Args) -> anyhow::Result<()> {
    allocator::set_up();
    let (config, file) = config::load_or_default(config.as_deref())?;
    preflight::refuse(&config, file.as_deref())?;
    flowsluice::log::init(&config.log)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %file
            .as_ref()
            .map_or("built-in defaults".into(), |file| file.display().to_string()),
        "starting"
    );
    let warnings = preflight::warnings(&config, file.as_deref());
    for warning in warnings.iter().chain(&preflight::strangers(&config)) {
        warn!("{warning}");
    }
    raise_open_files();
    let cpus = receive::affinity::plan(&config.receive, &receive::affinity::available())?;
    let runtime = housekeeping_runtime(&cpus)?;
    // From here on a signal means an orderly stop, also while the rest is still starting.
    let signals = Signals::catch(&runtime)?;
    let front = Front {
        access: http::Access::of(&config.http)?,
        tls: http::Encryption::of(&config.http)?,
        listener: runtime.block_on(http::bind(config.http.listen))?,
    };
    Running::start(&config, file, &cpus, front, &runtime)?.until(signals, &runtime)
}

/// Where people and programs ask.
struct Front {
    listener: TcpListener,
    tls: Option<http::Encryption>,
    access: http::Access,
}

/// Signals that end a run. Caught from the start, so that none is lost while parts come up.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _inside = runtime.enter();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?,
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?,
            hangup: signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?,
        })
    }

    /// Waits for one that ends the run; calls `reload` for each that does not.
    async fn last(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

/// All parts, running.
struct Running {
    ledger: Arc<Ledger>,
    storage: Storage,
    following: Following,
    /// `None` where nothing is forwarded.
    tee: Option<Forwarding>,
    workers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    enriching: Enriching,
    reloading: Reloading,
    telling: Telling,
    stats: Stats,
    state: Arc<http::State>,
    /// A worker that ends by itself says why.
    failures: mpsc::UnboundedReceiver<String>,
}

impl Running {
    fn start(
        config: &Config,
        file: Option<PathBuf>,
        cpus: &[Option<usize>],
        front: Front,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let started = (Instant::now(), UnixNanos::now());
        let reloading = Reloading::new(file, config);
        let receiving = Receiving::open(&config.receive, cpus.len(), reloading.allow())?;
        let facts = receiving.facts(started, cpus);
        let Receiving {
            receivers,
            tcp,
            steering,
            ..
        } = receiving;
        // What comes by TCP has a worker of its own behind the others.
        let workers_max = cpus.len() + usize::from(tcp.is_some());
        let ledger = Arc::new(Ledger::new(workers_max));
        let shared = Arc::new(decode::Shared::default());
        let keeper = Keeper::open(&config.decode, &shared, started.1);
        let (mut storage, mut queues) =
            Storage::start(config, runtime, Arc::clone(&ledger.store), workers_max)?;
        let state = show((&ledger, &shared), facts, &storage, front.access);
        let names = Names {
            shared: &shared,
            state_dir: keeper.as_ref().map(Keeper::folder),
            rows: storage.side_rows(),
        };
        let enriching = Enriching::start(config, names, cpus, runtime)?;
        if let Some(enricher) = enriching.enricher() {
            storage.enrich(&mut queues, enricher, runtime);
        }
        enriching.show(&state);
        let stop = Arc::new(AtomicBool::new(false));
        let (failed, failures) = mpsc::unbounded_channel();
        let tee = forward(config, &state)?;
        let crew = Crew {
            config,
            cpus,
            shared: &shared,
            allow: reloading.allow(),
            limits: reloading.limits(),
            tee: tee.as_ref().map(Forwarding::tee),
            ledger: &ledger,
            stop: &stop,
            failed,
        };
        let workers = crew.start(receivers, tcp, queues)?;
        // The thread that follows the interfaces takes the capabilities with it; from here on
        // neither this thread nor one that it starts has any.
        let following = steering
            .follow(Arc::clone(&ledger.frames), reloading.allow())
            .context("the interfaces cannot be followed")?;
        drop_capabilities();
        state.set_phase(http::Phase::Collecting);
        runtime.spawn(http::serve(front.listener, front.tls, Arc::clone(&state)));
        runtime.spawn(service::follow(Arc::clone(&state)));
        runtime.spawn(losses::tell(Arc::clone(&ledger)));
        storage.keep_budget(config, &ledger.store, runtime);
        let telling = Telling::start(shared, keeper, storage.side_rows(), runtime)?;
        let stats = Stats::start(&state, &storage, started.1, runtime);
        Ok(Self {
            ledger,
            storage,
            following,
            tee,
            workers,
            stop,
            enriching,
            reloading,
            telling,
            stats,
            state,
            failures,
        })
    }

    /// Waits for a signal or for a worker that gave up, then ends everything in the order of the
    /// data path, so that each stage still takes what the one before it hands over.
    fn until(mut self, mut signals: Signals, runtime: &Runtime) -> anyhow::Result<()> {
        let failure = runtime.block_on(async {
            tokio::select! {
                name = signals.last(|| {
                    let parts = (&self.enriching, &self.storage, &*self.state);
                    self.reloading.reload(parts, runtime);
                }) => {
                    info!(signal = name, "stopping");
                    None
                }
                failure = self.failures.recv() => failure,
            }
        });
        self.state.set_phase(http::Phase::Stopping);
        service::stopping();
        self.following.stop();
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            // A worker that panicked has ended the process (panic = "abort").
            let _ = worker.join();
        }
        if let Some(tee) = self.tee {
            tee.stop();
        }
        self.enriching.stop(runtime);
        self.telling.finish(runtime);
        let teller = self.stats.stop(runtime);
        let report = self.storage.stop_telling(runtime, || {
            // One that panicked has nothing to tell.
            if let Some(teller) = teller {
                teller.finish(UnixNanos::now(), self.state.figures());
            }
        });
        let snapshot = self.ledger.snapshot();
        log_ledger(&snapshot);
        if let Some(failure) = failure {
            anyhow::bail!("{failure}");
        }
        anyhow::ensure!(
            report.flows_lost == 0,
            "{} flows were not stored before store.stop_timeout and are lost (counted as \
             store_stopped)",
            report.flows_lost
        );
        Ok(())
    }
}

/// What `/status` and the page are made of.
fn show(
    (ledger, shared): (&Arc<Ledger>, &Arc<decode::Shared>),
    facts: http::Facts,
    storage: &Storage,
    access: http::Access,
) -> Arc<http::State> {
    log_receiving(&facts);
    let (ledger, shared) = (Arc::clone(ledger), Arc::clone(shared));
    let state = http::State::new(ledger, shared, facts, storage.facts());
    state.show(http::Page::new(access, storage.reader()));
    Arc::new(state)
}

/// Starts what forwards datagrams, if any are to be.
fn forward(config: &Config, state: &http::State) -> anyhow::Result<Option<Forwarding>> {
    let tee = Forwarding::start(&config.receive, drop_capabilities);
    let tee = tee.context("receive.tee: no thread can be started for it")?;
    if let Some(tee) = &tee {
        state.forwarded_by(tee.tee());
    }
    Ok(tee)
}

/// What is received from, now that all sockets are open.
fn log_receiving(facts: &http::Facts) {
    info!(
        mode = facts.receive_mode,
        cpus = ?facts.cpus.iter().flatten().collect::<Vec<_>>(),
        listeners = ?facts.listeners,
        tcp_listeners = ?facts.tcp_listeners,
        "receiving"
    );
}

/// What datagrams come in by: sockets, and interfaces past the kernel.
struct Receiving {
    /// How the sockets are read.
    mode: ReceiveMode,
    listeners: Vec<SocketAddr>,
    /// One a worker.
    receivers: Vec<Receiver>,
    /// For connections, if any are to be taken.
    tcp: Option<TcpReceiver>,
    steering: Steering,
}

impl Receiving {
    fn open(
        config: &config::Receive,
        workers: usize,
        allow: &Arc<AllowList>,
    ) -> anyhow::Result<Self> {
        let mut sockets = receive::sockets::Plan::new(config)?;
        let listeners = sockets.addresses().to_vec();
        let ports: Vec<u16> = listeners.iter().map(SocketAddr::port).collect();
        let mut steering = Steering::open(config, &ports)?;
        // One poll waits for the queues and for the sockets beside them.
        let mode = match steering.has_queues() {
            true => ReceiveMode::Recvmmsg,
            false => receive::choose(config)?,
        };
        let receivers = steering
            .sockets_by_worker(workers)
            .into_iter()
            .map(|queues| receive::open(config, &mut sockets, mode, queues))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(capped) = sockets.buffer_capped() {
            warn!("{capped}");
        }
        Ok(Self {
            mode,
            listeners,
            receivers,
            tcp: TcpReceiver::open(config, allow)?,
            steering,
        })
    }
}

impl Receiving {
    /// For the status, of a collector that `started` with workers on `cpus`.
    fn facts(&self, started: (Instant, UnixNanos), cpus: &[Option<usize>]) -> http::Facts {
        let tcp = self.tcp.as_ref();
        http::Facts {
            version: env!("CARGO_PKG_VERSION"),
            started,
            receive_mode: self.mode.name(),
            interfaces: self.steering.modes().to_vec(),
            cpus: cpus.to_vec(),
            listeners: self.listeners.clone(),
            tcp_listeners: tcp.map(TcpReceiver::addresses).unwrap_or_default(),
        }
    }
}

/// Takes all capabilities from the calling thread: sockets and files are open by now, and a fault
/// in a decoder must not be worth anything.
fn drop_capabilities() {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if let Err(error) = set_capabilities(None, none) {
        warn!(%error, "a thread keeps its capabilities");
    }
}

/// Lets this process open as many files and sockets as it may: the usual first limit, 1024, is for
/// programs that wait with select(2).
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, allowed = ?limit.current, "the limit of open files stays as it is");
    }
}

/// Two threads for inserts, HTTP and signals, on the processors that no worker is pinned to.
fn housekeeping_runtime(cpus: &[Option<usize>]) -> anyhow::Result<Runtime> {
    let free = receive::affinity::housekeeping(cpus, &receive::affinity::available());
    let next = AtomicUsize::new(0);
    let pinned = cpus.iter().any(Option::is_some);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("housekeeping")
        .on_thread_start(move || {
            drop_capabilities();
            if pinned && !free.is_empty() {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let _ = receive::affinity::pin(free[turn % free.len()]);
            }
        })
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

/// The last word of a run: what came in and what became of it.
fn log_ledger(snapshot: &LedgerSnapshot) {
    let total = &snapshot.total;
    let dropped: Vec<String> = DropReason::ALL
        .iter()
        .filter(|reason| snapshot.dropped(**reason) > 0)
        .map(|reason| format!("{}={}", reason.label(), snapshot.dropped(*reason)))
        .collect();
    info!(
        datagrams_received = total.datagrams_received,
        datagrams_dropped_by_kernel = total.datagrams_dropped_by_kernel,
        flows_decoded = total.flows_decoded,
        flows_stored = snapshot.store.flows_stored,
        flows_recovered = snapshot.store.flows_recovered,
        flows_spooled = snapshot.store.flows_spooled,
        dropped = %if dropped.is_empty() { "none".to_owned() } else { dropped.join(" ") },
        unaccounted = snapshot.unaccounted(),
        "stopped"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_limited_by_the_hard_limit_only() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(256),
            ..before
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_open_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, before.maximum);
        assert_eq!(after.maximum, before.maximum);
    }
}
