//! What a test wants of its collector, as a configuration file.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clickhouse::ClickHouse;
use crate::place;

/// Where the collector under test keeps its rows.
#[derive(Clone, Debug)]
pub enum Store {
    /// The embedded ClickHouse with this library.
    Embedded(PathBuf),
    /// A ClickHouse that is already there, and a user who may make tables.
    Server(ClickHouse),
    /// Several servers, the preferred one first; user and password are those of the first.
    Servers(Vec<ClickHouse>),
    /// Nowhere: they are encoded, counted as lost and dropped.
    Null,
}

/// What a test wants of its collector.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Program to run.
    pub binary: PathBuf,
    /// `auto`, `af_xdp`, `io_uring` or `recvmmsg`.
    pub receive_mode: &'static str,
    /// Receive buffer of a socket in bytes; `None` leaves the default.
    pub socket_buffer: Option<u64>,
    /// Worker threads.
    pub workers: usize,
    /// Take merged datagrams in one piece.
    pub gro: bool,
    /// Pin the workers: not where tests share the processors.
    pub pin: bool,
    /// Let workers share the datagrams of a hot exporter.
    pub share: bool,
    /// Age at which a batch is sealed.
    pub batch_age: &'static str,
    /// Rows of a full batch; `None` leaves the default.
    pub batch_rows: Option<usize>,
    /// Where rows go.
    pub store: Store,
    /// The most memory of the embedded ClickHouse.
    pub memory_max: &'static str,
    /// The embedded ClickHouse's folder; `None` takes a fresh one.
    pub data_dir: Option<PathBuf>,
    /// Port of its listener; `None` takes a free one.
    pub port: Option<u16>,
    /// Network namespace that it runs in. Whoever asks it anything has to be in there too.
    pub namespace: Option<String>,
    /// Further lines of the section `receive`.
    pub receive: String,
    /// Where it keeps what exporters told over a restart; `None` does without.
    pub state_dir: Option<PathBuf>,
    /// Further lines of the section `decode`.
    pub decode: String,
    /// Further lines of the section `http`.
    pub http: String,
    /// Further lines of TOML.
    pub more: String,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Settings {
    /// A collector of one worker on the embedded ClickHouse; `None`, with the reason printed, where
    /// the library is missing.
    ///
    /// # Panics
    /// When the binary is not built, or under CI when the library is missing.
    #[must_use]
    pub fn embedded() -> Option<Self> {
        Some(Self::new(Store::Embedded(place::engine_or_skip()?)))
    }

    /// A collector of one worker on `store`.
    ///
    /// # Panics
    /// When the binary is not built.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let binary = place::binary().unwrap_or_else(|error| panic!("{error:#}"));
        Self::of(binary, store)
    }

    /// The same of a given binary.
    #[must_use]
    pub fn of(binary: PathBuf, store: Store) -> Self {
        Self {
            binary,
            receive_mode: "auto",
            socket_buffer: None,
            workers: 1,
            gro: false,
            pin: false,
            share: true,
            batch_age: "200ms",
            batch_rows: None,
            store,
            memory_max: "1GiB",
            data_dir: None,
            port: None,
            namespace: None,
            receive: String::new(),
            state_dir: None,
            decode: String::new(),
            http: String::new(),
            more: String::new(),
            environment: Vec::new(),
        }
    }

    /// The embedded ClickHouse's folder, of a collector whose own is `folder`.
    pub(crate) fn data_dir(&self, folder: &Path) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| folder.join("data"))
    }

    /// The configuration of a collector with a folder, a port and an address for HTTP of its own.
    pub(crate) fn toml(&self, folder: &Path, port: u16, http: SocketAddr) -> String {
        let buffer = self.socket_buffer.map_or_else(String::new, |bytes| {
            format!("socket_buffer = \"{bytes}B\"\n")
        });
        let state = self.state_dir.as_deref().unwrap_or(Path::new(""));
        let gro = if self.gro { "gro = true\n" } else { "" };
        let mut text = format!(
            "[receive]\nmode = \"{}\"\nworkers = {}\npin = {}\nshare = {}\n{gro}{buffer}{}\n\
             [[receive.listeners]]\nport = {port}\n\n\
             [decode]\nstate_dir = \"{}\"\n{}\n\
             [http]\nlisten = \"{http}\"\n{}\n\
             [batch]\nage_max = \"{}\"\n",
            self.receive_mode,
            self.workers,
            self.pin,
            self.share,
            self.receive,
            state.display(),
            self.decode,
            self.http,
            self.batch_age,
        );
        if let Some(rows) = self.batch_rows {
            let _ = writeln!(text, "rows_max = {rows}");
        }
        let data = self.data_dir(folder);
        let spool = data.join("spool");
        let (data, password) = (data.display(), folder.join("password"));
        let _ = match &self.store {
            Store::Embedded(library) => write!(
                text,
                "\n[store.embedded]\nlibrary = \"{}\"\ndata_dir = \"{data}\"\n\
                 http = \"127.0.0.1:0\"\nmemory_max = \"{}\"\n",
                library.display(),
                self.memory_max,
            ),
            Store::Server(server) => write!(
                text,
                "\n[store]\nurl = \"{}\"\nuser = \"{}\"\npassword_file = \"{}\"\n\
                 database = \"{}\"\nspool.dir = \"{}\"\n",
                server.url,
                server.user,
                password.display(),
                server.database,
                spool.display(),
            ),
            Store::Servers(servers) => {
                let urls: Vec<_> = servers.iter().map(|server| &server.url).collect();
                let first = &servers[0];
                write!(
                    text,
                    "\n[store]\nurls = {urls:?}\nuser = \"{}\"\npassword_file = \"{}\"\n\
                     database = \"{}\"\n",
                    first.user,
                    password.display(),
                    first.database,
                )
            }
            Store::Null => writeln!(text, "\n[store]\nkind = \"null\""),
        };
        text + &self.more
    }

    /// The program, in its namespace.
    pub(crate) fn command(&self) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(&self.binary),
            // `ip netns exec` also mounts the /sys of the namespace, and becomes the program.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.binary);
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
