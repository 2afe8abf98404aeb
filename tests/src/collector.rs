//! A collector under test, in a temporary folder and on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::clickhouse::ClickHouse;
use crate::generator::Totals;
use crate::place;
use crate::process::{Process, Signal, signal_pid};
use crate::settings::{Settings, Store};
use crate::status::{Ended, Ledger, Status, Stopped};

/// From the start of the process until it must be ready: a cold library is read from the disk.
const READY_MAX: Duration = Duration::from_secs(60);
/// Until what was sent must be in ClickHouse.
const SETTLED_MAX: Duration = Duration::from_secs(60);

/// A running collector. Dropped, it is stopped and its folder removed.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    folder: TempDir,
    data_dir: PathBuf,
    port: u16,
    http: SocketAddr,
    server: Option<ClickHouse>,
}

impl Collector {
    /// Starts a collector and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the error holds what it printed.
    pub fn start(settings: &Settings) -> Result<Self> {
        let mut collector = Self::launch(settings)?;
        wait_ready(&mut collector.process, collector.http, READY_MAX, |_| ())?;
        Ok(collector)
    }

    /// Starts a collector and waits until its workers turn; ClickHouse may be away.
    ///
    /// # Errors
    /// When they do not; the error holds what it printed.
    pub fn launch(settings: &Settings) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let port = settings.port.map_or_else(place::free_udp_port, Ok)?;
        let http = SocketAddr::from(([127, 0, 0, 1], place::free_tcp_port(0)?));
        let config = folder.path().join("flowsluice.toml");
        std::fs::write(&config, settings.toml(folder.path(), port, http))?;
        let server = match &settings.store {
            Store::Embedded(_) | Store::Null => None,
            Store::Server(server) => Some(server.clone()),
            Store::Servers(servers) => servers.first().cloned(),
        };
        if let Some(server) = &server {
            std::fs::write(folder.path().join("password"), &server.password)?;
        }
        let mut command = settings.command();
        command.arg("run").arg("--config").arg(&config);
        let log = folder.path().join("log");
        let process = Process::spawn("the collector", &mut command, &log)?;
        let mut collector = Self {
            process,
            data_dir: settings.data_dir(folder.path()),
            folder,
            port,
            http,
            server,
        };
        wait_for("/healthz", &mut collector.process, http, READY_MAX, |_| ())?;
        Ok(collector)
    }

    /// Where exporters send to.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where its page and status are: `http://ADDRESS:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("flowsluice.toml")
    }

    /// The data folder of its embedded ClickHouse.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its temporary folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail(40)
    }

    /// All that it printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// One reading of `/status`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        status(self.http).with_context(|| self.tail())
    }

    /// The body of one of its pages, `/metrics` for example.
    ///
    /// # Errors
    /// When it does not answer 200.
    pub fn page(&self, path: &str) -> Result<String> {
        self.page_as(path, "*/*")
    }

    /// Reads a page in one of the forms of `accept`.
    ///
    /// # Errors
    /// When it does not answer 200.
    pub fn page_as(&self, path: &str, accept: &str) -> Result<String> {
        page(self.http, path, accept)
    }

    /// Replaces `from` in the configuration and has it read again; waits until the log says `told`,
    /// once more than before.
    ///
    /// # Errors
    /// When `from` is not in it, or the log does not say so.
    pub fn reload(&self, from: &str, to: &str, told: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        ensure!(text.contains(from), "{from} is not in\n{text}");
        std::fs::write(self.config(), text.replace(from, to))?;
        let times_told = || self.process.output().matches(told).count();
        let before = times_told();
        signal_pid(self.pid(), Signal::HUP)?;
        let limit = Duration::from_secs(60);
        self.wait_until(told, limit, |_| times_told() > before)?;
        Ok(())
    }

    /// Reads `/status` until `is_so`.
    ///
    /// # Errors
    /// When it is not so within `limit`; the error says `what` was waited for.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if is_so(&status) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let table = status.ledger().table();
                bail!("not within {limit:?}: {what}\n{table}\n{}", self.tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `sent` datagrams have arrived and every flow of them is stored or counted.
    ///
    /// # Errors
    /// When that does not come to pass within a minute.
    pub fn settle(&self, sent: u64) -> Result<Ledger> {
        let what = format!("{sent} datagrams arrived and nothing is under way");
        let status = self.wait_until(&what, SETTLED_MAX, |status| {
            let ledger = status.ledger();
            ledger.datagrams_arrived() == sent && ledger.flows_under_way() == 0
        })?;
        Ok(status.ledger())
    }

    /// Its ClickHouse, asked as the user who may only read.
    ///
    /// # Errors
    /// When `/status` does not say where, or the password is not in the data folder.
    pub fn clickhouse(&self) -> Result<ClickHouse> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        reader(&self.status()?, &self.data_dir)
    }

    /// The same as another user of an embedded one: `writer` or `backup`.
    ///
    /// # Errors
    /// As [`Self::clickhouse`].
    pub fn clickhouse_as(&self, user: &str) -> Result<ClickHouse> {
        let file = self.data_dir.join(format!("{user}.password"));
        let password = std::fs::read_to_string(&file)
            .with_context(|| format!("read the password in {}", file.display()))?;
        Ok(ClickHouse {
            user: user.into(),
            password: password.trim().to_owned(),
            ..self.clickhouse()?
        })
    }

    /// Sends SIGKILL and waits until it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sends SIGTERM and waits until it has ended; returns the figures that it logged last.
    ///
    /// # Errors
    /// When it does not end with success, leaves its ClickHouse behind, or logs no figures.
    pub fn stop(self) -> Result<Stopped> {
        let engine = self.status()?.engine_pid();
        let stopped = self.terminate()?;
        if let Some(pid) = engine {
            let left = crate::process::is_alive(pid);
            ensure!(!left, "it left its ClickHouse behind: process {pid}");
        }
        Ok(stopped)
    }

    /// The same without a word before, for one that may not answer.
    ///
    /// # Errors
    /// When it does not end with success, or logs no figures.
    pub fn terminate(self) -> Result<Stopped> {
        let ended = self.end()?;
        ensure!(
            ended.status.success(),
            "it ended with {}\n{}",
            ended.status,
            ended.tail
        );
        Ok(ended.stopped)
    }

    /// The same, with success or without.
    ///
    /// # Errors
    /// When it does not end, or logs no figures.
    pub fn end(mut self) -> Result<Ended> {
        let status = self.process.stop()?;
        let tail = self.tail();
        let stopped = Stopped::last_of(&self.process.output()).with_context(|| tail.clone())?;
        Ok(Ended {
            status,
            stopped,
            tail,
        })
    }
}

/// Asserts that a ledger is closed and agrees with what was sent: nothing under way, nothing
/// unaccounted, every datagram taken or dropped by the kernel.
///
/// # Panics
/// When it is not so.
#[track_caller]
pub fn assert_accounted(ledger: &Ledger, sent_datagrams: u64) {
    assert_eq!(ledger.datagrams_arrived(), sent_datagrams, "sent = arrived");
    assert_eq!(ledger.flows_under_way(), 0, "nothing is under way");
    assert_eq!(ledger.unaccounted(), 0, "\n{}", ledger.table());
}

/// Asserts that everything that was sent is stored: no drop at all, and as many rows as flows.
///
/// # Panics
/// When it is not so.
#[track_caller]
pub fn assert_all_stored(ledger: &Ledger, clickhouse: &ClickHouse, sent: &Totals) {
    assert_accounted(ledger, sent.datagrams);
    assert_eq!(ledger.losses(), [], "nothing is lost");
    assert_eq!(ledger.counter("datagrams_dropped_by_kernel"), 0);
    assert_eq!(ledger.store("flows_stored"), sent.flows, "stored = sent");
    let rows = clickhouse.flows().expect("ClickHouse counts its rows");
    assert_eq!(rows, sent.flows, "count() = sent");
}

/// Waits until a collector answers `/readyz` with 200, calling `tick` about twice a second.
///
/// # Errors
/// When it ends before, or is not ready within `limit`; the error holds what it printed.
pub fn wait_ready(
    process: &mut Process,
    http: SocketAddr,
    limit: Duration,
    tick: impl FnMut(Duration),
) -> Result<()> {
    wait_for("/readyz", process, http, limit, tick)
}

fn wait_for(
    path: &str,
    process: &mut Process,
    http: SocketAddr,
    limit: Duration,
    mut tick: impl FnMut(Duration),
) -> Result<()> {
    let start = Instant::now();
    for turn in 1.. {
        if let Some(status) = process.poll()? {
            bail!("the collector ended with {status}\n{}", process.tail(40));
        }
        if page(http, path, "*/*").is_ok() {
            break;
        }
        if start.elapsed() >= limit {
            bail!("{path} is not so within {limit:?}\n{}", process.tail(40));
        }
        if turn % 10 == 0 {
            tick(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Reads `/status` of the collector whose HTTP port is `http`.
///
/// # Errors
/// When it does not answer.
pub fn status(http: SocketAddr) -> Result<Status> {
    Status::parse(&page(http, "/status", "*/*")?)
}

/// The reading user of an embedded ClickHouse.
///
/// # Errors
/// When the status does not say where it is, or its password is not in `data_dir`.
pub fn reader(status: &Status, data_dir: &Path) -> Result<ClickHouse> {
    let file = data_dir.join("reader.password");
    let password = std::fs::read_to_string(&file)
        .with_context(|| format!("read the reader's password in {}", file.display()))?;
    Ok(ClickHouse {
        url: status.text("/store/url")?.to_owned(),
        user: status.text("/store/user")?.to_owned(),
        password: password.trim().to_owned(),
        database: status.text("/store/database")?.to_owned(),
    })
}

fn page(http: SocketAddr, path: &str, accept: &str) -> Result<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let url = format!("http://{http}{path}");
    let mut answer = agent
        .get(&url)
        .header("Accept", accept)
        .call()
        .with_context(|| format!("get {url}"))?;
    Ok(answer.body_mut().read_to_string()?)
}
