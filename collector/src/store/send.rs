//! Sends blocks until each is stored, refused, or time is up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::insert::{Attempt, Failure, Insert, InsertError, Taken};
use super::line::{self, Next, Outlet};
use super::spool::Spool;
use super::window::{Ticket, Window};
use super::{Block, Phase, SideBatch};
use crate::ledger::{DropReason, Place, StoreCounts};

/// The first pause after a failure; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tries of a block that is answered with an exception in no list: half a minute. And of one that
/// alone fails for whatever reason, while many others are stored.
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
    spool: Option<Arc<Spool>>,
    window: Arc<Window>,
    /// What is in memory and being sent, by number.
    under_way: Mutex<BTreeMap<u64, Arc<Block>>>,
    trouble: Mutex<Trouble>,
    /// True while ClickHouse has the schema and takes inserts.
    ready: watch::Sender<bool>,
}

/// What became of rows in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are in ClickHouse; the last try took so long.
    Stored(Duration),
    /// They were dropped on purpose.
    Discarded,
    /// ClickHouse will never take them.
    Refused(InsertError),
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
        spool: Option<Arc<Spool>>,
        ready: watch::Sender<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            target,
            counts,
            spool,
            window: Arc::default(),
            under_way: Mutex::default(),
            trouble: Mutex::default(),
            ready,
        })
    }

    /// Prepares the tables, says that it is ready, then sends up to `inserts` blocks at once until
    /// no more can come or time is up. What is left in memory then goes to the disk, if there is a
    /// spool.
    pub(super) async fn run(
        self: Arc<Self>,
        mut blocks: Outlet,
        inserts: usize,
        mut phase: watch::Receiver<Phase>,
    ) {
        let is_prepared = tokio::select! {
            () = self.prepare() => true,
            () = over(&mut phase) => false,
        };
        if is_prepared {
            self.ready.send_replace(true);
            self.send_all(&mut blocks, inserts, &mut phase).await;
        }
        self.set_down(blocks).await;
    }

    async fn send_all(
        self: &Arc<Self>,
        blocks: &mut Outlet,
        inserts: usize,
        phase: &mut watch::Receiver<Phase>,
    ) {
        let mut under_way = JoinSet::new();
        let mut may_come = true;
        while may_come || !under_way.is_empty() {
            let may_begin = may_come && under_way.len() < inserts && self.window.is_open();
            tokio::select! {
                next = blocks.next(), if may_begin => match next {
                    Some(Next::Live(block)) => {
                        self.blocks_under_way().insert(block.number, Arc::clone(&block));
                        under_way.spawn(Arc::clone(self).store(block, Place::Memory));
                    }
                    Some(Next::Spooled(number)) => {
                        under_way.spawn(Arc::clone(self).store_spooled(number));
                    }
                    None => may_come = false,
                },
                Some(done) = under_way.join_next() => done.expect("an insert does not panic"),
                () = over(phase) => return under_way.shutdown().await,
            }
        }
    }

    /// Puts on the disk what is left in memory; without a spool it stays where it is, to be
    /// counted.
    async fn set_down(&self, blocks: Outlet) {
        let Some(spool) = &self.spool else {
            return;
        };
        let sent = std::mem::take(&mut *self.blocks_under_way());
        let sent = sent.into_values().map(|block| (block, true));
        for (block, is_tried) in sent.chain(blocks.close().map(|block| (block, false))) {
            line::set_down(spool, &self.counts, block, is_tried).await;
        }
        // The runtime ends: then the kernel does it.
        let _ = spool.on_disk(Spool::finish).await;
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

    /// Sends one block, which waited at `place`, until its fate is known.
    async fn store(self: Arc<Self>, block: Arc<Block>, place: Place) {
        let ticket = self.window.enter();
        let number = block.number;
        self.in_spool(move |spool| spool.tried(number)).await;
        let sent = || self.target.insert(&block);
        let is_alone = |tries| tries >= UNCLEAR_MAX && ticket.is_alone();
        let fate = self.deliver(sent, is_alone).await;
        let kept = match &fate {
            Fate::Refused(error) => self.quarantine(&block, error).await,
            _ => None,
        };
        // From here to the removal of the file nothing waits: flows are counted once.
        self.blocks_under_way().remove(&number);
        match fate {
            Fate::Stored(elapsed) => self.acknowledged(&block, place, elapsed, ticket),
            Fate::Discarded => {
                let reason = DropReason::StoreNull;
                self.counts.lost_from(place, reason, block.rows);
            }
            Fate::Refused(error) => {
                let reason = DropReason::InsertRefused;
                self.counts.lost_from(place, reason, block.rows);
                self.trouble().refused(block.rows, &error, kept.as_deref());
            }
        }
        self.in_spool(move |spool| spool.done(number)).await;
    }

    /// Sends a block that is on the disk alone.
    async fn store_spooled(self: Arc<Self>, number: u64) {
        let Some(spool) = &self.spool else {
            return;
        };
        let read = spool.on_disk(move |spool| spool.read(number)).await;
        // It cannot be read, or the runtime ends.
        if let Some(Some(block)) = read {
            self.store(Arc::new(block), Place::Disk).await;
        }
    }

    /// Keeps a block that was refused; says where, or why not.
    async fn quarantine(&self, block: &Arc<Block>, error: &InsertError) -> Option<String> {
        let spool = self.spool.as_ref()?;
        let (block, error) = (Arc::clone(block), error.clone());
        spool
            .on_disk(move |spool| spool.quarantine(&block, &error))
            .await
    }

    /// Does `work` where it may wait for the disk.
    async fn in_spool(&self, work: impl FnOnce(&Spool) + Send + 'static) {
        if let Some(spool) = &self.spool {
            // The runtime ends: the file stays, and its token keeps it from being stored twice.
            let _ = spool.on_disk(work).await;
        }
    }

    /// Sends rows of a table beside `flows` until their fate is known.
    pub(super) async fn side(&self, batch: &SideBatch) -> Fate {
        let sent = || self.target.insert_side(batch);
        let fate = self.deliver(sent, |_| false).await;
        if let Fate::Refused(error) = &fate {
            self.trouble().refused(batch.rows, error, None);
        }
        fate
    }

    /// Tries `insert` until it is known what becomes of its rows, or `is_alone` says, told how
    /// often it was tried, that whatever goes wrong does so for these rows only.
    async fn deliver<'a>(
        &self,
        insert: impl Fn() -> Attempt<'a, Taken>,
        is_alone: impl Fn(u32) -> bool,
    ) -> Fate {
        let mut pause = Pause::default();
        let mut schema_verified = false;
        let mut unclear = 0;
        let mut tries = 0;
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
            tries += 1;
            match error.failure {
                _ if is_alone(tries) => return Fate::Refused(error),
                Failure::Outage => {}
                Failure::Unclear => {
                    unclear += 1;
                    if unclear >= UNCLEAR_MAX {
                        return Fate::Refused(error);
                    }
                }
                Failure::Refused if schema_verified => return Fate::Refused(error),
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

    fn acknowledged(&self, block: &Block, place: Place, elapsed: Duration, ticket: Ticket) {
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
        counts.stored_from(place, *rows);
        ticket.acknowledged();
    }

    /// ClickHouse has acknowledged something.
    fn works(&self) {
        self.trouble().over();
        self.ready
            .send_if_modified(|ready| !std::mem::replace(ready, true));
    }

    fn blocks_under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Block>>> {
        self.under_way
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
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

    /// Logs what is lost, and where the last of it is kept.
    fn refused(&mut self, rows: u64, error: &InsertError, kept: Option<&str>) {
        self.rows_refused += rows;
        if is_due(&mut self.last_refusal, Instant::now()) {
            let rows = std::mem::take(&mut self.rows_refused);
            let kept = kept.unwrap_or("no");
            error!(
                rows, %error, kept,
                remedy = error.remedy(),
                "ClickHouse refused rows for good; mend it, then see 'flowsluice spool list'"
            );
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
pub(super) fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
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
