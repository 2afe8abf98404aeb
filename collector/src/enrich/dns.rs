//! Names of addresses by reverse DNS.
//!
//! In: addresses, left in bounded queues without waiting by whoever marks rows. Out: an immutable
//! table of names, made anew at most once a second, and a row of `hosts` for each name that was
//! learned.
//! Owner: one task of the runtime asks and keeps what was answered, bounded in number and time;
//! others read snapshots of its table.
//! Counted: questions that found no room, and every outcome. No flow waits for a name.
//! Specs: RFC 1035 section 3.5 (in-addr.arpa), RFC 3596 section 2.5 (ip6.arpa).

mod asker;
mod cache;
mod hosts;
mod servers;
mod task;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::config::{self, DnsNames};
use crate::store::SideRows;

pub use asker::Asker;
use asker::Questions;
pub use hosts::Hosts;
use task::Task;

/// The names of addresses, while the collector runs; dropped, nobody is asked any more.
#[derive(Debug)]
pub struct Dns {
    names: DnsNames,
    questions: Arc<Questions>,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

/// What was asked and answered, since the start, and how things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounts {
    /// Questions sent to a server; `hits + misses + failures + timeouts + under_way`.
    pub queries: u64,
    /// Answers with a name.
    pub hits: u64,
    /// Answers that there is none.
    pub misses: u64,
    /// Answers that said nothing (SERVFAIL, REFUSED...), and questions that could not be sent.
    pub failures: u64,
    /// Questions without an answer in time.
    pub timeouts: u64,
    /// Addresses that were not asked for, because the queues were full.
    pub not_asked: u64,
    /// Names, and addresses known to have none, that were forgotten early to make room.
    pub evicted: u64,
    /// Now: questions that wait for the rate, for the answers to others, or for a server.
    pub waiting: u64,
    /// Now: questions under way.
    pub under_way: u64,
    /// Now: addresses with a name.
    pub names: u64,
    /// Now: addresses known to have none.
    pub nameless: u64,
    /// Now: name servers.
    pub servers: u64,
    /// Now: those of them that do not answer.
    pub servers_dead: u64,
}

/// [`DnsCounts`] as the task writes them.
#[derive(Debug, Default)]
struct Counters {
    queries: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    timeouts: AtomicU64,
    evicted: AtomicU64,
    waiting: AtomicU64,
    under_way: AtomicU64,
    names: AtomicU64,
    nameless: AtomicU64,
    servers: AtomicU64,
    servers_dead: AtomicU64,
}

/// What the task shows to others.
#[derive(Debug)]
struct Shared {
    hosts: Mutex<Arc<Hosts>>,
    epoch: AtomicU64,
    counters: Counters,
}

impl Shared {
    fn snapshot(&self) -> Arc<Hosts> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&hosts)
    }

    fn publish(&self, hosts: Hosts) {
        let hosts = Arc::new(hosts);
        let before = std::mem::replace(
            &mut *self.hosts.lock().unwrap_or_else(PoisonError::into_inner),
            hosts,
        );
        self.epoch.fetch_add(1, Ordering::Release);
        // Freed without the lock, when this was the last one.
        drop(before);
    }
}

/// Bytes of an address with a name of the longest kind: what is known of it, and its place in two
/// tables, of which one is being made.
const NAMED_BYTES: usize = 1300;
/// Bytes of an address that is known to have no name.
const NAMELESS_BYTES: usize = 500;

/// Bytes that names take at most with `config`, without the 64 KiB of an [`Asker`].
#[must_use]
pub const fn memory_bytes_max(config: &config::Dns) -> usize {
    if matches!(config.names, DnsNames::None) {
        return 0;
    }
    config.hits_max * NAMED_BYTES + config.misses_max * NAMELESS_BYTES + asker::QUEUES_BYTES
}

impl Dns {
    /// Starts to ask as `config` says; with `names = "none"` nobody is ever asked. Names that are
    /// learned go to `rows`.
    #[must_use]
    pub fn start(config: &config::Dns, rows: SideRows, runtime: &Handle) -> Self {
        let questions = Arc::new(Questions::new());
        let shared = Arc::new(Shared {
            hosts: Mutex::default(),
            epoch: AtomicU64::new(0),
            counters: Counters::default(),
        });
        let task = (config.names != DnsNames::None).then(|| {
            let task = Task::new(
                config.clone(),
                Arc::clone(&questions),
                Arc::clone(&shared),
                rows,
            );
            runtime.spawn(task.run()).abort_handle()
        });
        Self {
            names: config.names,
            questions,
            shared,
            task,
        }
    }

    /// Whether names of sources and destinations are wanted.
    #[must_use]
    pub fn has_endpoints(&self) -> bool {
        matches!(self.names, DnsNames::Endpoints | DnsNames::Both)
    }

    /// Whether names of exporters are wanted.
    #[must_use]
    pub fn has_exporters(&self) -> bool {
        matches!(self.names, DnsNames::Exporters | DnsNames::Both)
    }

    /// One for who marks rows.
    #[must_use]
    pub fn asker(&self) -> Asker {
        match self.task {
            Some(_) => self.questions.asker(),
            None => Asker::silent(),
        }
    }

    /// The names known now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Hosts> {
        self.shared.snapshot()
    }

    /// Grows with each new table.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// What was asked and answered. One figure may be a moment older than another.
    #[must_use]
    pub fn counts(&self) -> DnsCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters {
            queries,
            hits,
            misses,
            failures,
            timeouts,
            evicted,
            waiting,
            under_way,
            names,
            nameless,
            servers,
            servers_dead,
        } = &self.shared.counters;
        DnsCounts {
            queries: read(queries),
            hits: read(hits),
            misses: read(misses),
            failures: read(failures),
            timeouts: read(timeouts),
            not_asked: self.questions.refused(),
            evicted: read(evicted),
            waiting: read(waiting),
            under_way: read(under_way),
            names: read(names),
            nameless: read(nameless),
            servers: read(servers),
            servers_dead: read(servers_dead),
        }
    }
}

impl Dns {
    /// Nobody is asked any more, and nothing more goes to the table `hosts`.
    pub fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}
