//! What agents say by SNMP of the interfaces of exporters.
//!
//! In: exporters that were heard of, and `enrich.snmp`. Out: a snapshot for whoever makes tables,
//! rows of `interfaces`, a file that outlasts a restart. Owner: a task of the runtime, which asks
//! `exporters_at_once` agents at a time; nobody waits for it. What an agent said is kept when it
//! stops answering; it is then asked less and less often.
//! Bounds: [`ROWS_MAX`] interfaces an exporter, [`INTERFACES_MAX`] in all, [`EXPORTERS_MAX`]
//! exporters, a text as of names, [`POLL_TIME_MAX`]. Specs: RFC 2863, RFC 3414 to 3418, RFC 3826.

mod ask;
mod discovery;
mod error;
mod exporter;
mod lines;
mod login;
mod poller;
mod saved;
mod session;
#[cfg(test)]
mod tests;
mod told;
mod walk;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config;
use crate::flow::Address;
use crate::store::SideRows;
use poller::Poller;
use saved::SavedFile;

pub use super::interfaces::INTERFACES_MAX;
pub use error::PollError;
pub use told::{Polled, Told};
pub use walk::ROWS_MAX;

/// Exporters that are asked or of which something is remembered. One that is not wanted makes room.
pub const EXPORTERS_MAX: usize = 4096;
/// A poll takes so long at most. Clocks of engines that were asked for at its start may be off by
/// 150 s (RFC 3414 section 2.2.3).
pub const POLL_TIME_MAX: Duration = Duration::from_secs(120);

/// Asks agents, until it is stopped or dropped.
#[derive(Debug)]
pub struct Snmp {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

/// What the task and others share.
#[derive(Debug)]
struct Shared {
    /// The exporters that are wanted; the task is told of a change.
    wanted: watch::Sender<Arc<[Address]>>,
    stop: watch::Sender<bool>,
    polled: Mutex<Arc<Polled>>,
    /// Moves on whenever `polled` is another.
    epoch: AtomicU64,
    counters: Counters,
}

/// Figures that the task writes.
#[derive(Debug, Default)]
struct Counters {
    polls: AtomicU64,
    failures: AtomicU64,
    timeouts: AtomicU64,
    exporters: AtomicU64,
    exporters_failing: AtomicU64,
    exporters_left_out: AtomicU64,
    rows_cut: AtomicU64,
    rows_put_off: AtomicU64,
}

/// What was asked, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnmpCounts {
    /// Polls that ended, since the start.
    pub polls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that failed because there was no answer in time.
    pub timeouts: u64,
    /// Exporters that are asked.
    pub exporters: u64,
    /// Those whose last poll failed.
    pub exporters_failing: u64,
    /// Exporters with a target that found no room, at present.
    pub exporters_left_out: u64,
    /// Interfaces that are known.
    pub interfaces: u64,
    /// Times that a column, or all interfaces of an exporter, had more rows than there is room
    /// for, since the start.
    pub rows_cut: u64,
    /// Rows that found no room in the queue to ClickHouse and come with a later poll.
    pub rows_put_off: u64,
}

impl Counters {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    /// Yields the value before.
    fn set(counter: &AtomicU64, value: usize) -> u64 {
        counter.swap(value as u64, Ordering::Relaxed)
    }
}

impl Shared {
    fn polled(&self) -> MutexGuard<'_, Arc<Polled>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, polled: &Polled) {
        *self.polled() = Arc::new(polled.clone());
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

impl Snmp {
    /// Starts asking those that [`Snmp::wants`] names and a target fits. `state_dir` is that of
    /// `decode` while this process holds it; what agents said before the start is read there at
    /// once, and written while it changes. Without targets nothing is asked or known.
    #[must_use]
    pub fn start(
        config: &config::Snmp,
        state_dir: Option<&Path>,
        rows: SideRows,
        runtime: &Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            wanted: watch::Sender::new(Arc::default()),
            stop: watch::Sender::new(false),
            polled: Mutex::default(),
            epoch: AtomicU64::new(0),
            counters: Counters::default(),
        });
        let task = (!config.targets.is_empty()).then(|| {
            let file = state_dir.map(SavedFile::of);
            let poller = Poller::new(config, file, rows, Arc::clone(&shared));
            runtime.spawn(poller.run())
        });
        Self { shared, task }
    }

    /// Says which exporters are there: all of them, whenever others came or went. Those without a
    /// target are passed over. Waits for nobody.
    pub fn wants(&self, exporters: &[Address]) {
        self.shared.wanted.send_if_modified(|wanted| {
            let is_new = **wanted != *exporters;
            if is_new {
                *wanted = exporters.into();
            }
            is_new
        });
    }

    /// What agents have said.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Polled> {
        Arc::clone(&self.shared.polled())
    }

    /// Moves on whenever [`Snmp::snapshot`] has something new.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// sysName of the exporter; `None` when it is not known or empty.
    #[must_use]
    pub fn system_name(&self, exporter: Address) -> Option<Arc<str>> {
        let polled = self.snapshot();
        let name = &polled.get(exporter)?.system_name;
        (!name.is_empty()).then(|| Arc::clone(name))
    }

    /// What was asked, and what came of it.
    #[must_use]
    pub fn counts(&self) -> SnmpCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        SnmpCounts {
            polls: get(&counters.polls),
            failures: get(&counters.failures),
            timeouts: get(&counters.timeouts),
            exporters: get(&counters.exporters),
            exporters_failing: get(&counters.exporters_failing),
            exporters_left_out: get(&counters.exporters_left_out),
            interfaces: self.snapshot().interfaces() as u64,
            rows_cut: get(&counters.rows_cut),
            rows_put_off: get(&counters.rows_put_off),
        }
    }

    /// Ends: what is being asked is dropped, the file is written once more.
    pub async fn stop(mut self) {
        self.shared.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // One that panicked has ended the process (panic = "abort").
            let _ = task.await;
        }
    }
}

impl Drop for Snmp {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
