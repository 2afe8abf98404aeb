//! Runs ClickHouse inside the appliance: the store when no server is configured.
//!
//! In: `[store.embedded]`. Out: an [`Endpoint`] that is spoken to like any server. Owner: one
//! thread, which starts `flowsluice engine` as a child, watches it and starts it again with
//! back-off when it dies. The child never outlives this process. Nobody gets in without a
//! password: `settings` tells how the passwordless user of ClickHouse's `local` is shut out.
//!
//! ```text
//! data_dir/                 0750
//!   engine.lock             held while an engine runs here
//!   endpoint.json           where the engine listens, for `flowsluice query` and people
//!   reader.password         0640, user `reader`: dashboards and questions
//!   writer.password         0600, user `writer`: the collector itself
//!   backup.password         0600, user `backup`: may copy the database into backups/
//!   backups/                0700, the only folder that ClickHouse backs up to and restores from
//!   engine/                 0700, config.xml, users.xml, clickhouse.log
//!   clickhouse/             0700, the tables
//! ```

mod child;
mod client;
mod data_dir;
mod library;
mod settings;
mod supervisor;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::config::{self, Secret};
use crate::store::Endpoint;

use data_dir::DataDir;
use settings::{BACKUP, READER, SUPERVISOR, Settings, WRITER};
use supervisor::{Event, Shared, Spec};

/// A running ClickHouse; stopped when dropped.
#[derive(Debug)]
pub struct Engine {
    writer: Endpoint,
    reader: Endpoint,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    supervisor: Option<JoinHandle<()>>,
    /// Unlocked after the child is gone.
    _data_dir: DataDir,
}

impl Engine {
    /// Starts ClickHouse as a child of this program and returns as soon as it runs; until it
    /// answers, [`Self::is_ready`] is false.
    ///
    /// # Errors
    /// What only a person can mend: no library, a folder that cannot be written or is in use, an
    /// address that is taken.
    pub fn start(config: &config::Store) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("store: cannot find this program's file")?;
        Self::start_with(config, &binary)
    }

    /// As [`Self::start`], with the `flowsluice` binary to run as the child: for programs that use
    /// this library and are not `flowsluice` themselves.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(config: &config::Store, binary: &Path) -> anyhow::Result<Self> {
        let embedded = &config.embedded;
        let library = library(embedded)?;
        let patience = Instant::now() + PREDECESSOR_GRACE;
        let data_dir = DataDir::open(&embedded.data_dir, patience)?;
        let http = free_address("http", embedded.http, patience)?;
        let tcp = match embedded.tcp {
            Some(tcp) if tcp.ip() != http.ip() => bail!(
                "store.embedded.tcp: {tcp} is not on the address of store.embedded.http ({}); \
                 ClickHouse opens both on the same one",
                http.ip()
            ),
            Some(tcp) => Some(free_address("tcp", tcp, patience)?),
            None => None,
        };
        let settings = Settings {
            http,
            has_tcp: tcp.is_some(),
            memory_max: embedded.memory_max.as_u64(),
            profile: config.profile,
            database: &config.database,
            display_name: data_dir::random_hex()?,
            log: data_dir.engine().join("clickhouse.log"),
            backups: data_dir.backups(),
            writer: data_dir.password(WRITER, 0o600)?,
            reader: data_dir.password(READER, 0o640)?,
            backup: data_dir.password(BACKUP, 0o600)?,
            // Known to this process only, and new each time.
            supervisor: Secret::new(data_dir::random_hex()?),
        };
        data_dir.write_settings(&settings)?;
        let url = format!("http://{}", reachable(http));
        let endpoint = |user: &str, password: &Secret| Endpoint {
            url: url.clone(),
            standbys: Vec::new(),
            database: config.database.clone(),
            user: user.into(),
            password: password.clone(),
            cluster: None,
            tls: None,
        };
        let (writer, reader) = (
            endpoint(WRITER, &settings.writer),
            endpoint(READER, &settings.reader),
        );
        data_dir.publish(&Published::of(&reader))?;
        let spec = Spec {
            binary: binary.into(),
            library,
            clickhouse: data_dir.clickhouse(),
            engine: data_dir.engine(),
            http,
            tcp,
            client: client::Client {
                address: reachable(http),
                user: SUPERVISOR,
                password: settings.supervisor,
                display_name: settings.display_name,
            },
        };
        let shared = Arc::new(Shared::default());
        let (events, supervisor) = supervisor::start(spec, Arc::clone(&shared))?;
        Ok(Self {
            writer,
            reader,
            shared,
            events,
            supervisor: Some(supervisor),
            _data_dir: data_dir,
        })
    }

    /// Where and as whom the collector writes.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.writer.clone()
    }

    /// Where and as whom dashboards and people read.
    #[must_use]
    pub fn reader(&self) -> Endpoint {
        self.reader.clone()
    }

    /// The child's process id; `None` between two of them.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.shared.state().pid
    }

    /// How often ClickHouse was started again after it had died.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.shared.state().restarts
    }

    /// Whether ClickHouse answered the last probe.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.state().ready
    }

    /// Blocks until ClickHouse answers; false when it does not within `timeout`.
    #[must_use]
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        self.shared.wait_ready(timeout)
    }

    /// Ends ClickHouse and waits until it is gone: a fraction of a second as a rule, about 2 s
    /// when clients hold connections, 6 s at most.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // The supervisor is gone already when nobody listens.
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.supervisor.take()
            && thread.join().is_err()
        {
            tracing::error!("the supervisor of ClickHouse panicked");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The engine's library, as a start on this host finds it.
///
/// # Errors
/// It finds none.
pub fn library(config: &config::Embedded) -> anyhow::Result<PathBuf> {
    library::find(config.library.as_deref())
}

/// Whether the environment says where the library is: another one, such as a service's, may not.
#[must_use]
pub fn is_library_of_environment() -> bool {
    library::of_environment().is_some()
}

/// The engine that another process of this host runs, as its read-only user.
///
/// # Errors
/// None runs in `store.embedded.data_dir`, or its password may not be read.
pub fn running(config: &config::Store) -> anyhow::Result<Endpoint> {
    running_as(config, READER)?.with_context(|| {
        format!(
            "store: no embedded ClickHouse runs in {}; start one with 'flowsluice run', or name a \
             server with store.url",
            config.embedded.data_dir.display()
        )
    })
}

/// The same, as the user that writes; `None` when none runs.
///
/// # Errors
/// One runs, and the writer's password may not be read.
pub fn running_for_writing(config: &config::Store) -> anyhow::Result<Option<Endpoint>> {
    running_as(config, WRITER)
}

fn running_as(config: &config::Store, user: &str) -> anyhow::Result<Option<Endpoint>> {
    let found = DataDir::read(&config.embedded.data_dir, user)?;
    Ok(found.map(|(published, password)| Endpoint {
        url: published.url,
        standbys: Vec::new(),
        database: published.database,
        user: user.into(),
        password,
        cluster: None,
        tls: None,
    }))
}

/// What `endpoint.json` says.
#[derive(Debug, Deserialize, Serialize)]
struct Published {
    url: String,
    database: String,
    user: String,
    /// Process id of the collector.
    pid: u32,
}

impl Published {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            url: endpoint.url.clone(),
            database: endpoint.database.clone(),
            user: endpoint.user.clone(),
            pid: std::process::id(),
        }
    }
}

/// Finds a port where 0 asks for one, and makes sure that nobody else has the address.
///
/// ClickHouse is told the port on its command line, so it is chosen once and stays the same when
/// the child is started again.
fn free_address(key: &str, wanted: SocketAddr, patience: Instant) -> anyhow::Result<SocketAddr> {
    loop {
        match TcpListener::bind(wanted).and_then(|listener| listener.local_addr()) {
            Ok(address) => return Ok(address),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                // The engine of a collector that was killed a moment ago may still hold it.
                if Instant::now() < patience {
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                bail!(
                    "store.embedded.{key}: {wanted} is taken by another program; stop it, or \
                     choose another port (0 takes a free one)"
                );
            }
            Err(error) => bail!(
                "store.embedded.{key}: cannot listen on {wanted} ({error}); choose an address of \
                 this host"
            ),
        }
    }
}

/// Where a listener is reached from this host.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// How long the remains of a killed predecessor may hold the folder and the port.
const PREDECESSOR_GRACE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_listener_is_reached_by_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8123"), "127.0.0.1:8123");
        assert_eq!(reached("[::]:8123"), "[::1]:8123");
        assert_eq!(reached("192.0.2.1:8123"), "192.0.2.1:8123");
    }

    #[test]
    fn port_zero_becomes_a_real_port() {
        let wanted = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = free_address("http", wanted, Instant::now()).unwrap();
        assert_ne!(address.port(), 0);
    }

    #[test]
    fn taken_port_is_named_with_its_key_and_the_way_out() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let error = free_address("http", taken, Instant::now()).unwrap_err();
        let expected = format!("store.embedded.http: {taken} is taken by another program; stop it");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
