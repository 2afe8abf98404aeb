//! Blocks in, acknowledged inserts out.
//!
//! In: sealed batches of the workers. Out: rows in ClickHouse, each block exactly once as long as
//! ClickHouse remembers its token. Owner: tasks of the tokio runtime; a batch goes back to its
//! worker as soon as it is encoded, its compressed block waits in memory or on the disk until it is
//! stored.
//! Losses: `insert_refused`, `spool_full`, `spool_failed`, `spool_broken`, without a spool
//! `store_stopped`, and with the null store everything, as `store_null`.

mod block;
pub mod budget;
pub mod clickhouse;
pub mod cluster;
mod dictionary;
pub mod embedded;
mod encode;
pub mod endpoints;
pub mod export;
mod insert;
mod line;
mod lz4;
mod mark;
mod null;
pub mod occupancy;
pub mod query;
mod queue;
pub mod schema;
mod send;
pub mod side;
pub mod spool;
pub mod tls;
pub mod window;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::batch::{BATCH_ROWS, Batch};
use crate::config::{self, Secret};
use crate::enrich::Enricher;
use crate::ledger::{DropReason, StoreCounts};
use encode::EncoderTask;
use line::line;
use mark::MarkerTask;
use queue::Exchange;
use send::Sender;
use side::SideTask;

pub use block::{Block, Encoder};
pub use clickhouse::ClickHouse;
pub use endpoints::{Endpoints, EndpointsStatus, endpoint};
pub use insert::{Attempt, Failure, Insert, InsertError, Taken, exception_code};
pub use null::Null;
pub use queue::{Backlog, WorkerQueue};
pub use side::{SIDE_TABLES, SideBatch, SideRow, SideRows, SideTable};
pub use spool::Spool;

/// Where and as whom ClickHouse is spoken to; the same for a server and for the embedded engine.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Further servers, for when that one fails.
    pub standbys: Vec<String>,
    /// Database of the tables.
    pub database: String,
    /// The user that writes and migrates.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The cluster that the servers are in: replicas of one shard, whose local tables are written.
    pub cluster: Option<String>,
    /// What HTTPS needs; without it only HTTP is spoken.
    pub tls: Option<tls::Tls>,
}

/// The store while it runs.
pub struct Store {
    counts: Arc<StoreCounts>,
    phase: watch::Sender<Phase>,
    ready: watch::Receiver<bool>,
    exchange: Arc<Exchange>,
    /// `None` where batches are encoded as workers seal them.
    marker: Option<JoinHandle<()>>,
    encoder: JoinHandle<()>,
    sender: JoinHandle<()>,
    side_rows: SideRows,
    side: JoinHandle<()>,
    /// Sends the rows that tell how all that ended.
    side_last: SideTask,
    /// Syncs the spool; without one it has ended.
    syncing: JoinHandle<()>,
    has_spool: bool,
    stop_timeout: Duration,
    /// Where there are several servers.
    endpoints: Option<Arc<endpoints::Shared>>,
}

/// How far the store is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Batches come.
    Running,
    /// No further batch comes; what there is gets stored.
    Draining,
    /// Time is up.
    Over,
}

/// How the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Flows that were not acknowledged in time, counted as `store_stopped`.
    pub flows_lost: u64,
    /// Flows on the disk, which the next process stores.
    pub flows_spooled: u64,
}

impl Store {
    /// Starts to store into ClickHouse at `endpoint`, or without one nowhere, without a spool;
    /// returns at once. Rows are queued until ClickHouse answers and has the schema.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(
        config: &config::Store,
        endpoint: Option<&Endpoint>,
        counts: Arc<StoreCounts>,
        workers: usize,
        batch: &config::Batch,
    ) -> (Self, Vec<WorkerQueue>) {
        let target = target(config, endpoint);
        Self::start_spooling(target, None, config, counts, workers, batch)
    }

    /// As [`Store::start`], with anything that takes blocks.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_with(
        target: Box<dyn Insert>,
        config: &config::Store,
        counts: Arc<StoreCounts>,
        workers: usize,
        batch: &config::Batch,
    ) -> (Self, Vec<WorkerQueue>) {
        Self::start_spooling(target, None, config, counts, workers, batch)
    }

    /// As [`Store::start_with`]; what does not fit in memory, or is not stored at the end, goes to
    /// `spool`, which counts in the same `counts`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_spooling(
        target: impl Into<Target>,
        spool: Option<Arc<Spool>>,
        config: &config::Store,
        counts: Arc<StoreCounts>,
        workers: usize,
        batch: &config::Batch,
    ) -> (Self, Vec<WorkerQueue>) {
        let Target { insert, endpoints } = target.into();
        // With one batch alone its worker would stand still while the store encodes it.
        let per_worker = batch.per_worker.max(2);
        let rows = BATCH_ROWS.min(batch.rows_max);
        let (exchange, queues) = Exchange::new(workers, per_worker, rows, &counts);
        let (phase, _) = watch::channel(Phase::Running);
        let (set_ready, ready) = watch::channel(false);
        let (blocks_in, blocks) = line(
            config.queue_max.as_u64(),
            spool.clone(),
            Arc::clone(&counts),
            phase.subscribe(),
        );
        let encoder = EncoderTask {
            exchange: Arc::clone(&exchange),
            counts: Arc::clone(&counts),
            blocks: blocks_in,
            phase: phase.subscribe(),
            compression: config.compression,
        };
        let encoder = tokio::spawn(encoder.run(batch.clone()));
        let inserts = config.inserts.max(1);
        let sender = Sender::new(insert, Arc::clone(&counts), spool.clone(), set_ready);
        let side_rows = SideRows::new(Arc::clone(&counts));
        let side_task = || SideTask {
            rows: side_rows.clone(),
            sender: Arc::clone(&sender),
            ready: ready.clone(),
            phase: phase.subscribe(),
        };
        let side = tokio::spawn(side_task().run());
        let side_last = side_task();
        let sender = tokio::spawn(sender.run(blocks, inserts, phase.subscribe()));
        let has_spool = spool.is_some();
        let syncing = tokio::spawn(async {
            if let Some(spool) = spool {
                spool.keep_synced().await;
            }
        });
        let store = Self {
            counts,
            phase,
            ready,
            exchange,
            marker: None,
            encoder,
            sender,
            side_rows,
            side,
            side_last,
            syncing,
            has_spool,
            stop_timeout: config.stop_timeout,
            endpoints,
        };
        (store, queues)
    }

    /// Has every batch that comes through `queues` marked by `enricher` before it is encoded.
    /// Called at the start, while all of them are empty, for all workers at once.
    ///
    /// # Panics
    /// When it was called before, and outside of a tokio runtime.
    pub fn enrich(&mut self, queues: &mut [WorkerQueue], enricher: Enricher) {
        assert!(self.marker.is_none(), "one marks what all workers have");
        for queue in queues {
            queue.change_empty(Batch::with_labels);
        }
        let marker = MarkerTask::new(Arc::clone(&self.exchange), self.phase.subscribe());
        self.marker = Some(tokio::spawn(marker.run(enricher)));
    }

    /// True while ClickHouse has the schema and takes inserts; false at the start, and when they
    /// have failed for some seconds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// A flag that others can watch: [`Store::is_ready`].
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// What is known of the servers; `None` where there is only one.
    #[must_use]
    pub fn endpoints(&self) -> Option<Arc<endpoints::Shared>> {
        self.endpoints.clone()
    }

    /// Where rows of the tables beside `flows` are pushed.
    #[must_use]
    pub fn side_rows(&self) -> SideRows {
        self.side_rows.clone()
    }

    /// Stores what the workers have handed over and the rows that were pushed, for
    /// `store.stop_timeout` at most, and ends. The workers have called `Batcher::finish` before.
    /// What is not acknowledged goes to the spool; without one it is counted as lost.
    pub async fn stop(self) -> StopReport {
        self.stop_telling(|| {}).await
    }

    /// The same; calls `tell` when everything is stored and there is still time, to push what is to
    /// be said of the end, and stores that as well.
    pub async fn stop_telling(mut self, tell: impl FnOnce()) -> StopReport {
        self.phase.send_replace(Phase::Draining);
        let side_last = self.side_last;
        let all = async {
            let _ = tokio::join!(&mut self.sender, &mut self.side);
            tell();
            side_last.run().await;
        };
        let drained = tokio::time::timeout(self.stop_timeout, all).await;
        if drained.is_err() {
            if self.has_spool {
                // It waits for no room: what is left are batches that have to become blocks.
                ended(&mut self.encoder).await;
            }
            self.phase.send_replace(Phase::Over);
            ended(&mut self.sender).await;
            ended(&mut self.side).await;
        }
        // Behind this the spool's folder is free for the next process.
        self.syncing.abort();
        let _ = self.syncing.await;
        if !self.has_spool {
            // With one it may be writing, which goes on and counts what nobody waits for.
            self.encoder.abort();
        }
        if let Some(marker) = &mut self.marker {
            // No batch comes any more, and it waits for nobody.
            ended(marker).await;
        }
        ended(&mut self.encoder).await;
        // Nobody else counts any more.
        let flows_lost = self.counts.flows_in_flight.load(Ordering::Acquire);
        if flows_lost > 0 {
            self.counts.lost(DropReason::StoreStopped, flows_lost);
            error!(
                flows_lost,
                timeout_s = self.stop_timeout.as_secs_f64(),
                "stopped before ClickHouse acknowledged everything; raise store.stop_timeout"
            );
        }
        let rows_lost = self.side_rows.close();
        if rows_lost > 0 {
            warn!(
                rows_lost,
                "stopped before ClickHouse acknowledged all that was told of exporters"
            );
        }
        let flows_spooled = self.counts.flows_spooled.load(Ordering::Acquire);
        if flows_spooled > 0 {
            info!(
                flows_spooled,
                "flows that are not stored yet wait on the disk for the next start"
            );
        }
        StopReport {
            flows_lost,
            flows_spooled,
        }
    }
}

/// Waits for the end of a task. One that has ended may have been waited for: asked again, it would
/// panic.
async fn ended(task: &mut JoinHandle<()>) {
    if !task.is_finished() {
        let _ = task.await;
    }
}

/// Where blocks go, and what is known of the servers where there are several.
pub struct Target {
    insert: Box<dyn Insert>,
    endpoints: Option<Arc<endpoints::Shared>>,
}

impl From<Box<dyn Insert>> for Target {
    fn from(insert: Box<dyn Insert>) -> Self {
        Self {
            insert,
            endpoints: None,
        }
    }
}

impl Target {
    /// To insert without a [`Store`].
    #[must_use]
    pub fn into_insert(self) -> Box<dyn Insert> {
        self.insert
    }
}

/// Where blocks go: ClickHouse at `endpoint`, or its standbys, without one nowhere.
#[must_use]
pub fn target(config: &config::Store, endpoint: Option<&Endpoint>) -> Target {
    let insert: Box<dyn Insert> = match endpoint {
        None => Box::new(Null),
        Some(endpoint) if endpoint.standbys.is_empty() => {
            Box::new(ClickHouse::new(endpoint, config))
        }
        Some(endpoint) => {
            let several = Endpoints::new(endpoint, config);
            return Target {
                endpoints: Some(several.shared()),
                insert: Box::new(several),
            };
        }
    };
    insert.into()
}

#[cfg(test)]
mod tests;
