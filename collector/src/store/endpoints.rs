//! Several servers, of which one is written to.
//!
//! In: blocks and rows, as for one server. Out: the same at the server that is in use. Owner: the
//! store's tasks, and a task of its own that asks the servers for signs of life. Which server is
//! in use, and what is known of each, stands behind one lock that is held for moments.
//!
//! The one in use stays so until an insert there fails for a reason that is not the block's, or
//! until it was silent for [`PROBES_FAILED_MAX`] probes; then the next one that answers is taken,
//! within the same attempt. A preferred one is returned to when it has answered for
//! `store.failback_after`, doubled each time that it failed again soon.
//!
//! A block whose answer got lost goes to another server with the same token. Replicas of one shard
//! share what they know of tokens, so it is stored once. Servers that share nothing do not: it may
//! be in both, which is counted.

mod health;

use std::collections::VecDeque;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::insert::{Attempt, Failure, Insert, InsertError, Taken};
use super::tls::Tls;
use super::{Block, ClickHouse, Endpoint, SideBatch};
use crate::config;
use health::Servers;

pub use health::ServerStatus;

/// Probes without an answer, one after the other, after which a server counts as failed.
pub const PROBES_FAILED_MAX: u32 = 3;
/// A server that does not answer a probe in this time is silent.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// Blocks that are remembered as sent without an answer. At most `store.inserts` are under way; one
/// that comes back from the spool is tried again much later.
const UNANSWERED_MAX: usize = 1024;
/// How long a command waits for a server to take its connection.
const REACH_MAX: Duration = Duration::from_secs(2);

/// The servers that the configuration names: the preferred one, and the others as its standbys.
///
/// # Errors
/// When it names none, when an address is none, or when a file of a secret cannot be read.
pub fn endpoint(config: &config::Store) -> anyhow::Result<Endpoint> {
    let mut urls = config.servers().map(str::to_owned);
    let key = config.servers_key();
    let url = urls
        .next()
        .context("store.url: missing; name a server, or use the embedded ClickHouse")?;
    let standbys: Vec<String> = urls.collect();
    let is_secure = |url: &String| url.starts_with("https://");
    for url in [&url].into_iter().chain(&standbys) {
        if !url.starts_with("http://") && !is_secure(url) {
            anyhow::bail!(
                "{key}: '{url}' is no address; write http://host:8123 or https://host:8443"
            );
        }
    }
    let needs_tls = is_secure(&url) || standbys.iter().any(is_secure);
    Ok(Endpoint {
        url,
        standbys,
        database: config.database.clone(),
        user: config.server_user().0,
        password: config.server_password_or_empty()?,
        cluster: config.cluster.clone(),
        tls: needs_tls.then(|| Tls::load(&config.tls)).transpose()?,
    })
}

impl Endpoint {
    /// Each of the servers by itself, the preferred one first.
    pub fn each(&self) -> impl Iterator<Item = Self> + '_ {
        [&self.url]
            .into_iter()
            .chain(&self.standbys)
            .map(|url| Self {
                url: url.clone(),
                standbys: Vec::new(),
                ..self.clone()
            })
    }

    /// The first of the servers that takes a connection, for a command that asks once; the
    /// preferred one when none does. Waits up to 2 s a server.
    #[must_use]
    pub fn reachable(&self) -> Self {
        if self.standbys.is_empty() {
            return self.clone();
        }
        let found = self.each().find(|endpoint| is_open(&endpoint.url));
        found.or_else(|| self.each().next()).expect("there is one")
    }
}

/// Whether anybody takes connections at `url`.
fn is_open(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.trim_end_matches('/');
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'));
    let addressed = match (has_port, scheme) {
        (true, _) => authority.to_owned(),
        (false, "https") => format!("{authority}:443"),
        (false, _) => format!("{authority}:80"),
    };
    let Ok(addresses) = addressed.to_socket_addrs() else {
        return false;
    };
    addresses
        .into_iter()
        .any(|address| TcpStream::connect_timeout(&address, REACH_MAX).is_ok())
}

#[cfg(test)]
impl Endpoint {
    /// One server, of which a test needs the URL alone.
    pub(crate) fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            standbys: Vec::new(),
            database: "flows".into(),
            user: "writer".into(),
            password: config::Secret::new(""),
            cluster: None,
            tls: None,
        }
    }
}

/// Several servers as one [`Insert`]. Dropped, it asks them for no more signs of life.
pub struct Endpoints {
    shared: Arc<Shared>,
    probing: JoinHandle<()>,
}

/// What the store's tasks, the probes and the status page share.
pub struct Shared {
    members: Vec<Member>,
    servers: Mutex<Servers>,
    /// True where the servers know each other's tokens.
    are_replicas: bool,
    unanswered: Mutex<VecDeque<Unanswered>>,
    failovers: AtomicU64,
    blocks_moved: AtomicU64,
    rows_moved: AtomicU64,
}

/// One server.
struct Member {
    target: Box<dyn Insert>,
    /// True when its tables are as this version wants them.
    prepared: tokio::sync::Mutex<bool>,
}

/// Whose fault it is that something was not done.
enum Trouble {
    /// The server's; another one may do it.
    Server(InsertError),
    /// That of what was to be done.
    Work(InsertError),
}

impl Trouble {
    fn error(self) -> InsertError {
        let (Self::Server(error) | Self::Work(error)) = self;
        error
    }

    /// The same as a verdict on a block: that no server can be used, because its tables are newer
    /// for example, is none.
    fn verdict(self) -> InsertError {
        match self {
            Self::Work(error) => error,
            Self::Server(error) => InsertError {
                failure: Failure::Outage,
                ..error
            },
        }
    }
}

/// A block that a server got and did not answer for.
struct Unanswered {
    token: String,
    member: usize,
}

/// What the servers are like at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointsStatus {
    /// In the order of the configuration.
    pub servers: Vec<ServerStatus>,
    /// How often another server was taken because one failed.
    pub failovers: u64,
    /// Blocks that one server got without answering and another one acknowledged.
    pub blocks_moved_unanswered: u64,
    /// Rows of those. On servers that share nothing, at most so many are stored twice.
    pub rows_moved_unanswered: u64,
}

impl Endpoints {
    /// Speaks to the servers of `endpoint`; nothing is sent yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(endpoint: &Endpoint, config: &config::Store) -> Self {
        let members = endpoint.each().map(|endpoint| {
            let target: Box<dyn Insert> = Box::new(ClickHouse::new(&endpoint, config));
            (endpoint.url, target)
        });
        let are_replicas = endpoint.cluster.is_some();
        Self::of(members.collect(), are_replicas, config.failback_after)
    }

    fn of(
        members: Vec<(String, Box<dyn Insert>)>,
        are_replicas: bool,
        failback_after: Duration,
    ) -> Self {
        let (urls, targets): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let members = targets.into_iter().map(|target| Member {
            target,
            prepared: tokio::sync::Mutex::new(false),
        });
        let shared = Arc::new(Shared {
            members: members.collect(),
            servers: Mutex::new(Servers::new(urls, failback_after)),
            are_replicas,
            unanswered: Mutex::default(),
            failovers: AtomicU64::new(0),
            blocks_moved: AtomicU64::new(0),
            rows_moved: AtomicU64::new(0),
        });
        // So that a server that has answered for long enough is noticed soon after.
        let every = (failback_after / 4).min(PROBE_MAX);
        let probing = tokio::spawn(Arc::clone(&shared).probe(every));
        Self { shared, probing }
    }

    /// What is known of the servers, for whoever shows it.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.probing.abort();
    }
}

impl Shared {
    /// What the servers are like.
    #[must_use]
    pub fn status(&self) -> EndpointsStatus {
        EndpointsStatus {
            servers: self.servers().status(),
            failovers: self.failovers.load(Ordering::Relaxed),
            blocks_moved_unanswered: self.blocks_moved.load(Ordering::Relaxed),
            rows_moved_unanswered: self.rows_moved.load(Ordering::Relaxed),
        }
    }

    /// Does `work` at the server in use, and when that fails for a reason of its own at the others
    /// in turn, each once. Yields at which it was done; `failed` is told at which it was not.
    async fn at_one<'a, T>(
        &'a self,
        work: impl Fn(&'a dyn Insert) -> Attempt<'a, T>,
        mut failed: impl FnMut(usize, &InsertError),
    ) -> Result<(usize, T), Trouble> {
        let mut index = self.servers().in_use();
        let mut last = None;
        for _ in 0..self.members.len() {
            match self.at(index, &work).await {
                Ok(done) => {
                    self.worked(index);
                    return Ok((index, done));
                }
                Err(Trouble::Server(error)) => {
                    failed(index, &error);
                    index = self.failed(index, &error);
                    last = Some(error);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Err(Trouble::Server(last.expect("there is at least one server")))
    }

    /// Does `work` at one server, once its tables are there.
    async fn at<'a, T>(
        &'a self,
        index: usize,
        work: impl Fn(&'a dyn Insert) -> Attempt<'a, T>,
    ) -> Result<T, Trouble> {
        let member = &self.members[index];
        let mut prepared = member.prepared.lock().await;
        if !*prepared {
            member.target.prepare().await.map_err(Trouble::Server)?;
            *prepared = true;
        }
        drop(prepared);
        let done = work(&*member.target).await;
        done.map_err(|error| match error.failure {
            Failure::Outage => Trouble::Server(error),
            Failure::Unclear | Failure::Refused => Trouble::Work(error),
        })
    }

    fn worked(&self, index: usize) {
        if self.servers().worked(index, Instant::now()) {
            let servers = self.servers();
            info!(url = servers.url(index), "this ClickHouse answers again");
        }
    }

    /// Notes a failure; returns the server that is in use now.
    fn failed(&self, index: usize, error: &InsertError) -> usize {
        let mut servers = self.servers();
        let moved = servers.failed(index, &error.to_string(), Instant::now());
        let now = servers.in_use();
        if moved {
            self.failovers.fetch_add(1, Ordering::Relaxed);
            warn!(
                from = servers.url(index),
                to = servers.url(now),
                %error,
                "ClickHouse failed, rows go to the next server"
            );
        }
        now
    }

    /// `index` got a block and did not say what became of it.
    fn remember(&self, token: &str, index: usize) {
        let mut unanswered = self.unanswered();
        let is_known = |one: &Unanswered| one.token == token && one.member == index;
        if unanswered.iter().any(is_known) {
            return;
        }
        if unanswered.len() >= UNANSWERED_MAX {
            unanswered.pop_front();
        }
        unanswered.push_back(Unanswered {
            token: token.to_owned(),
            member: index,
        });
    }

    /// `index` has acknowledged a block of so many rows.
    fn acknowledged(&self, token: &str, index: usize, rows: u64) {
        let mut unanswered = self.unanswered();
        let before = unanswered.iter();
        let elsewhere = before.filter(|one| one.token == token && one.member != index);
        let elsewhere = elsewhere.map(|one| one.member).next();
        unanswered.retain(|one| one.token != token);
        drop(unanswered);
        let Some(elsewhere) = elsewhere else { return };
        self.blocks_moved.fetch_add(1, Ordering::Relaxed);
        self.rows_moved.fetch_add(rows, Ordering::Relaxed);
        if !self.are_replicas {
            let servers = self.servers();
            warn!(
                rows,
                token,
                from = servers.url(elsewhere),
                to = servers.url(index),
                remedy = "let store.urls be replicas of one shard and set store.cluster",
                "a block may be on two servers that do not know of each other"
            );
        }
    }

    /// Asks all servers for a sign of life, again and again.
    async fn probe(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            for index in 0..self.members.len() {
                let asked = self.members[index].target.answers();
                let answer = tokio::time::timeout(PROBE_MAX, asked).await;
                let answer = answer.unwrap_or_else(|_| Err(InsertError::outage("it is silent")));
                self.probed(index, answer);
            }
        }
    }

    fn probed(&self, index: usize, answer: Result<(), InsertError>) {
        let now = Instant::now();
        let Err(error) = answer else {
            let mut servers = self.servers();
            let from = servers.in_use();
            if servers.answered(index, now) {
                info!(
                    from = servers.url(from),
                    to = servers.url(index),
                    "rows go to this ClickHouse, which is preferred and answers again"
                );
            }
            return;
        };
        let silent = self.servers().silent(index, &error.to_string(), now);
        if silent {
            self.failed(index, &error);
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    fn unanswered(&self) -> MutexGuard<'_, VecDeque<Unanswered>> {
        self.unanswered
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

impl Insert for Endpoints {
    fn prepare(&self) -> Attempt<'_> {
        Box::pin(async {
            // Asked for again only when something is wrong with the tables.
            let index = self.shared.servers().in_use();
            *self.shared.members[index].prepared.lock().await = false;
            let looked = self.shared.at_one(|target| target.answers(), |_, _| {});
            looked.await.map(drop).map_err(Trouble::error)
        })
    }

    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, Taken> {
        Box::pin(async move {
            let sent = self.shared.at_one(
                |target| target.insert(block),
                |index, error| {
                    if error.may_be_stored() {
                        self.shared.remember(&block.token, index);
                    }
                },
            );
            let (index, taken) = sent.await.map_err(Trouble::verdict)?;
            self.shared.acknowledged(&block.token, index, block.rows);
            Ok(taken)
        })
    }

    fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken> {
        Box::pin(async move {
            let sent = self
                .shared
                .at_one(|target| target.insert_side(batch), |_, _| {});
            let sent = sent.await.map_err(Trouble::verdict);
            sent.map(|(_, taken)| taken)
        })
    }

    fn answers(&self) -> Attempt<'_> {
        Box::pin(async {
            let looked = self.shared.at_one(|target| target.answers(), |_, _| {});
            looked.await.map(drop).map_err(Trouble::error)
        })
    }
}

#[cfg(test)]
mod tests;
