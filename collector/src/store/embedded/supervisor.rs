//! The thread that keeps one child running.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tracing::{debug, error, info, warn};

use super::child::{Child, describe};
use super::client::Client;
use super::settings::SUPERVISOR;

/// What a child is started from; the same each time.
#[derive(Debug)]
pub(super) struct Spec {
    pub binary: PathBuf,
    pub library: PathBuf,
    /// ClickHouse's `--path`.
    pub clickhouse: PathBuf,
    /// Holds config.xml; the child's working directory.
    pub engine: PathBuf,
    pub http: SocketAddr,
    pub tcp: Option<SocketAddr>,
    pub client: Client,
}

/// What the supervisor is told.
pub(super) enum Event {
    /// End the child, then yourself.
    Stop,
    /// The child `pid` closed its output.
    OutputEnded { pid: u32 },
}

/// What the rest of the program sees.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub pid: Option<u32>,
    pub ready: bool,
    pub restarts: u64,
}

impl Shared {
    pub fn state(&self) -> State {
        *self.lock()
    }

    pub fn wait_ready(&self, timeout: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !state.ready);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.ready
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread and, on it, the first child.
pub(super) fn start(
    spec: Spec,
    shared: Arc<Shared>,
) -> anyhow::Result<(Sender<Event>, JoinHandle<()>)> {
    let (events, inbox) = channel();
    let (started, first) = channel();
    let outbox = events.clone();
    let thread = std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let mut supervisor = Supervisor {
                spec,
                shared,
                inbox,
                outbox,
            };
            match supervisor.spawn() {
                Ok(child) => {
                    // `start` waits for it just below.
                    let _ = started.send(Ok(()));
                    supervisor.run(child);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })
        .context("store: no thread for the engine")?;
    match first.recv() {
        Ok(Ok(())) => Ok((events, thread)),
        Ok(Err(error)) => Err(error).context("store: the embedded ClickHouse cannot be started"),
        Err(_) => bail!("store: the engine's supervisor panicked"),
    }
}

struct Supervisor {
    spec: Spec,
    shared: Arc<Shared>,
    inbox: Receiver<Event>,
    outbox: Sender<Event>,
}

/// Why watching a child ended.
enum End {
    Stop,
    Died(ExitStatus),
}

impl Supervisor {
    fn spawn(&self) -> io::Result<Child> {
        let child = Child::spawn(&self.spec, self.outbox.clone())?;
        self.shared.change(|state| state.pid = Some(child.pid()));
        Ok(child)
    }

    fn run(&mut self, first: Child) {
        let mut child = Some(first);
        let mut pause = RESTART_AFTER_MIN;
        loop {
            if let Some(mut child) = child.take() {
                let started = Instant::now();
                match self.watch(&mut child) {
                    End::Stop => return self.stop(child),
                    End::Died(status) => self.mourn(child, status, pause),
                }
                if started.elapsed() >= HEALTHY_AFTER {
                    pause = RESTART_AFTER_MIN;
                }
            }
            if self.is_stopped_within(pause) {
                return;
            }
            pause = (pause * 2).min(RESTART_AFTER_MAX);
            self.shared.change(|state| state.restarts += 1);
            child = match self.spawn() {
                Ok(child) => Some(child),
                Err(error) => {
                    error!(%error, retry_in = ?pause, "ClickHouse cannot be started");
                    None
                }
            };
        }
    }

    /// Probes the child until it dies or is to be stopped.
    fn watch(&mut self, child: &mut Child) -> End {
        let started = Instant::now();
        let mut was_ready = false;
        let mut warned = false;
        let mut last_answer = started;
        loop {
            let patience = match (was_ready, started.elapsed() < STARTING_QUICKLY) {
                (true, _) => PROBE_EVERY,
                (false, true) => PROBE_EVERY / 40,
                (false, false) => PROBE_EVERY / 2,
            };
            match self.inbox.recv_timeout(patience) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return End::Stop,
                Ok(Event::OutputEnded { pid }) if pid == child.pid() => {
                    // Its descriptors are closed a moment before it can be reaped.
                    if child.wait(Duration::from_secs(1)).is_none() {
                        child.signal(libc::SIGKILL);
                    }
                }
                Ok(Event::OutputEnded { .. }) | Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(status) = child.ended() {
                return End::Died(status);
            }
            match self.spec.client.query("SELECT 1", PROBE_TIMEOUT) {
                Ok(_) => {
                    if !was_ready {
                        self.open(child, started);
                    }
                    (was_ready, warned, last_answer) = (true, false, Instant::now());
                    self.set_ready(true);
                }
                Err(error) => {
                    debug!(%error, "ClickHouse does not answer");
                    let silent = last_answer.elapsed();
                    if was_ready && silent > SILENT_UNREADY {
                        self.set_ready(false);
                    }
                    if silent > SILENT_WARN && !warned {
                        warned = true;
                        warn!(%error, silent_s = silent.as_secs(), "ClickHouse does not answer");
                    }
                    // Loading many parts takes long; only one that has been up can hang.
                    if was_ready && silent > SILENT_MAX {
                        child.signal(libc::SIGKILL);
                    }
                }
            }
        }
    }

    /// The child answers for the first time.
    fn open(&self, child: &Child, started: Instant) {
        info!(
            pid = child.pid(),
            http = %self.spec.http,
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "ClickHouse is ready"
        );
        // Only now: the quota that shuts out the passwordless user must be used up before.
        if let Some(tcp) = self.spec.tcp
            && let Err(error) = self
                .spec
                .client
                .query("SYSTEM START LISTEN TCP", STOP_QUERY)
        {
            error!(%tcp, %error, "ClickHouse does not listen for its native protocol");
        }
    }

    fn set_ready(&self, ready: bool) {
        if self.shared.state().ready != ready {
            self.shared.change(|state| state.ready = ready);
        }
    }

    fn mourn(&self, mut child: Child, status: ExitStatus, pause: Duration) {
        let was_ready = self.shared.state().ready;
        self.shared.change(|state| {
            state.pid = None;
            state.ready = false;
        });
        let (ended, said) = (describe(status), child.last_words());
        if was_ready {
            warn!(ended, said, retry_in = ?pause, "ClickHouse died and is started again");
        } else {
            let remedy = remedy(&said);
            error!(ended, said, remedy, retry_in = ?pause, "ClickHouse does not start");
        }
    }

    fn is_stopped_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
                Ok(Event::OutputEnded { .. }) => {}
            }
        }
    }

    /// Lets the child close its tables; forces it when that takes too long.
    fn stop(&self, mut child: Child) {
        let began = Instant::now();
        // With the query of `local`, which has no user, all others end too.
        let kill = format!("KILL QUERY WHERE user != '{SUPERVISOR}' ASYNC");
        let asked = self.spec.client.query(&kill, STOP_QUERY);
        if let Err(error) = &asked {
            debug!(%error, "ClickHouse cannot be asked to stop");
        }
        let clean = asked.is_ok() && child.wait(STOP_CLEAN).is_some();
        if !clean {
            child.signal(libc::SIGTERM);
            if child.wait(STOP_TERM).is_none() {
                child.signal(libc::SIGKILL);
            }
        }
        // Reaps it.
        drop(child);
        self.shared.change(|state| {
            state.pid = None;
            state.ready = false;
        });
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(clean, elapsed_ms, "ClickHouse is stopped");
    }
}

/// What to do about an engine that says `said` and ends.
fn remedy(said: &str) -> &'static str {
    let known = [
        (
            "Code: 76.",
            "another ClickHouse uses this folder; stop it or set store.embedded.data_dir",
        ),
        (
            "Address already in use",
            "another program took the port; stop it or set store.embedded.http",
        ),
        (
            "cannot load",
            "fetch the library again with 'cargo xtask engine', or set store.embedded.library",
        ),
        (
            "not libchdb",
            "fetch libchdb.so with 'cargo xtask engine' or set store.embedded.library",
        ),
        (
            "CANNOT_MPROTECT",
            "remove MemoryDenyWriteExecute from the collector's systemd unit",
        ),
        ("No space left", "free space for store.embedded.data_dir"),
    ];
    let found = known.iter().find(|(sign, _)| said.contains(sign));
    found.map_or(
        "see engine/clickhouse.log in store.embedded.data_dir",
        |(_, remedy)| remedy,
    )
}

/// First pause before a dead child is started again; doubles up to the next.
const RESTART_AFTER_MIN: Duration = Duration::from_millis(200);

const RESTART_AFTER_MAX: Duration = Duration::from_secs(10);

/// A child that ran for this long makes the pause short again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Between two probes of a child that answers.
const PROBE_EVERY: Duration = Duration::from_secs(1);

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Most starts are over by then, and are looked at often until then.
const STARTING_QUICKLY: Duration = Duration::from_secs(5);

/// Silence after which it no longer counts as ready.
const SILENT_UNREADY: Duration = Duration::from_secs(5);

/// Silence that is worth a warning.
const SILENT_WARN: Duration = Duration::from_secs(30);

/// Silence after which a child that has been ready is killed.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// For the query that asks it to stop.
const STOP_QUERY: Duration = Duration::from_secs(2);

/// For closing its tables. It takes 0.2 s, and 5 s when a client keeps an idle connection: the
/// signal that follows loses nothing, for what was acknowledged is in the file system.
const STOP_CLEAN: Duration = Duration::from_secs(2);

/// For the end by SIGTERM.
const STOP_TERM: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_failures_have_a_remedy() {
        let said = "Code: 76. DB::Exception: Cannot lock file /data/status";
        assert!(remedy(said).contains("store.embedded.data_dir"));
        let said = "Listen failed: Address already in use";
        assert!(remedy(said).contains("store.embedded.http"));
    }

    #[test]
    fn waiting_for_readiness_ends_at_its_limit() {
        let shared = Shared::default();
        assert!(!shared.wait_ready(Duration::from_millis(1)));
        shared.change(|state| state.ready = true);
        assert!(shared.wait_ready(Duration::from_millis(1)));
    }
}
