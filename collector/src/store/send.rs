//! Sends blocks until each is stored, refused, or time is up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::insert::{Attempt, Failure, Insert, InsertError, Taken};
use super::{Block, Phase, SideBatch};
use crate::ledger::{DropReason, StoreCounts};

/// The first pause after a failure; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tries of a block that is answered with an exception in no list: half a minute.
const UNCLEAR_MAX: u32 = 10;

/// The same trouble is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A ClickHouse that is being started with the collector is not trouble for this long.
const STARTING_MAX: Duration = Duration::from_secs(3);

/// Inserts that fail for longer than this make the collector unready.
const UNREADY_AFTER: Duration = Duration::from_secs(2);

/// Everything that inserts share.
pub(super) struct Sender {
    target: Box<dyn Insert>,
    counts: Arc<StoreCounts>,
    trouble: Mutex<Trouble>,
    /// True while ClickHouse has the schema and takes inserts.
    ready: watch::Sender<bool>,
}

/// What became of rows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are in ClickHouse; the last try took so long.
    Stored(Duration),
    /// They were dropped on purpose.
    Discarded,
    /// ClickHouse will never take them.
    Refused,
}

/// What was logged of failures.
#[derive(Default)]
struct Trouble {
    /// Since when no insert was acknowledged.
    since: Option<Instant>,
    /// True when that was logged.
    told: bool,
    last_told: Option<Instant>,
    last_refusal: Option<Instant>,
    rows_refused: u64,
}

impl Sender {
    pub(super) fn new(
        target: Box<dyn Insert>,
        counts: Arc<StoreCounts>,
        ready: watch::Sender<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            target,
            counts,
            trouble: Mutex::default(),
            ready,
        })
    }

    /// Prepares the tables, says that it is ready, then sends up to `inserts` blocks at once until
    /// no more can come or time is up.
    pub(super) async fn run(
        self: Arc<Self>,
        mut blocks: mpsc::UnboundedReceiver<Block>,
        inserts: usize,
        mut phase: watch::Receiver<Phase>,
    ) {
        tokio::select! {
            () = self.prepare() => { self.ready.send_replace(true); }
            () = over(&mut phase) => return,
        }
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                block = blocks.recv(), if under_way.len() < inserts => match block {
                    Some(block) => { under_way.spawn(Arc::clone(&self).store(block)); }
                    None if under_way.is_empty() => return,
                    // Nothing more comes: take no further branch of this kind.
                    None => break,
                },
                Some(done) = under_way.join_next() => done.expect("an insert does not panic"),
                () = over(&mut phase) => return under_way.shutdown().await,
            }
        }
        tokio::select! {
            () = async { while under_way.join_next().await.is_some() {} } => {}
            () = over(&mut phase) => {}
        }
        under_way.shutdown().await;
    }

    async fn prepare(&self) {
        let began = Instant::now();
        let mut pause = Pause::default();
        while let Err(error) = self.target.prepare().await {
            if error.failure == Failure::Refused {
                self.trouble()
                    .report_error(&error, "ClickHouse cannot be used");
            } else if began.elapsed() >= STARTING_MAX {
                self.trouble().report(&error, "ClickHouse is not ready");
            }
            pause.wait().await;
        }
        self.trouble().over();
    }

    /// Sends one block until its fate is known.
    async fn store(self: Arc<Self>, block: Block) {
        match self
            .deliver(block.rows, || self.target.insert(&block))
            .await
        {
            Fate::Stored(elapsed) => self.acknowledged(&block, elapsed),
            Fate::Discarded => self.counts.lost(DropReason::StoreNull, block.rows),
            Fate::Refused => self.counts.lost(DropReason::InsertRefused, block.rows),
        }
    }

    /// Sends rows of a table beside `flows` until their fate is known.
    pub(super) async fn side(&self, batch: &SideBatch) -> Fate {
        let sent = || self.target.insert_side(batch);
        self.deliver(batch.rows, sent).await
    }

    /// Tries `insert`, of so many rows, until their fate is known.
    async fn deliver<'a>(&self, rows: u64, insert: impl Fn() -> Attempt<'a, Taken>) -> Fate {
        let mut pause = Pause::default();
        let mut schema_verified = false;
        let mut unclear = 0;
        loop {
            let began = Instant::now();
            let error = match insert().await {
                Ok(Taken::Stored) => {
                    self.works();
                    return Fate::Stored(began.elapsed());
                }
                Ok(Taken::Discarded) => return Fate::Discarded,
                Err(error) => error,
            };
            match error.failure {
                Failure::Outage => {}
                Failure::Unclear => {
                    unclear += 1;
                    if unclear >= UNCLEAR_MAX {
                        return self.refused(rows, &error);
                    }
                }
                Failure::Refused if schema_verified => return self.refused(rows, &error),
                // Somebody may have dropped the table, or is migrating it just now.
                Failure::Refused => {
                    let outcome = self.target.prepare().await;
                    schema_verified =
                        outcome.map_or_else(|error| error.failure != Failure::Outage, |()| true);
                }
            }
            self.counts.inserts_retried.fetch_add(1, Ordering::Relaxed);
            self.trouble().report(&error, "insert failed, trying again");
            if self.trouble().lasts() >= UNREADY_AFTER {
                self.ready.send_replace(false);
            }
            pause.wait().await;
        }
    }

    fn acknowledged(&self, block: &Block, elapsed: Duration) {
        let Block {
            rows,
            native_bytes,
            compressed,
            ..
        } = block;
        let counts = &self.counts;
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        counts.blocks_stored.fetch_add(1, Ordering::Relaxed);
        counts
            .block_bytes
            .fetch_add(*native_bytes, Ordering::Relaxed);
        let sent = compressed.len() as u64;
        counts.block_bytes_sent.fetch_add(sent, Ordering::Relaxed);
        counts.insert_nanos.fetch_add(nanos, Ordering::Relaxed);
        counts.stored(*rows);
    }

    /// ClickHouse has acknowledged something.
    fn works(&self) {
        self.trouble().over();
        self.ready
            .send_if_modified(|ready| !std::mem::replace(ready, true));
    }

    fn refused(&self, rows: u64, error: &InsertError) -> Fate {
        self.trouble().refused(rows, error);
        Fate::Refused
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

impl Trouble {
    /// Logs what passes by itself.
    fn report(&mut self, error: &InsertError, what: &str) {
        if let Some(for_s) = self.is_to_be_told() {
            warn!(%error, for_s, remedy = error.remedy(), "{what}");
        }
    }

    /// Logs what needs a human.
    fn report_error(&mut self, error: &InsertError, what: &str) {
        if let Some(for_s) = self.is_to_be_told() {
            error!(%error, for_s, remedy = error.remedy(), "{what}");
        }
    }

    /// For how many seconds the trouble lasts, if that is worth a line now.
    fn is_to_be_told(&mut self) -> Option<u64> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let due = is_due(&mut self.last_told, now);
        self.told |= due;
        due.then(|| (now - since).as_secs())
    }

    /// How long no insert was acknowledged although one was tried.
    fn lasts(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn refused(&mut self, rows: u64, error: &InsertError) {
        self.rows_refused += rows;
        if is_due(&mut self.last_refusal, Instant::now()) {
            let rows = std::mem::take(&mut self.rows_refused);
            error!(rows, %error, remedy = error.remedy(), "ClickHouse refused rows for good");
        }
    }

    fn over(&mut self) {
        let since = self.since.take();
        if let Some(since) = since.filter(|_| std::mem::take(&mut self.told)) {
            let after_s = since.elapsed().as_secs_f64();
            info!(after_s, "ClickHouse takes inserts again");
        }
    }
}

/// True, and remembered, when the last time is [`LOG_INTERVAL`] ago.
fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now - last >= LOG_INTERVAL);
    if due {
        *last = Some(now);
    }
    due
}

/// Returns when time is up, or when the store was dropped.
pub(super) async fn over(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

/// Pauses that grow, and differ so that several senders do not come at once.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

impl Pause {
    async fn wait(&mut self) {
        let jitter = rand::random_range(0.5..=1.0);
        tokio::time::sleep(self.0.mul_f64(jitter)).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}
