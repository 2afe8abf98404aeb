use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use bytes::Bytes;
use bytesize::ByteSize;

use super::*;
use crate::batch::{BATCH_ROWS, Batch, Batcher};
use crate::flow::Flow;
use crate::ledger::{Ledger, SideSnapshot, WorkerCounts};
use crate::units::UnixNanos;

const ROWS_MAX: usize = 8;

mod marking;
mod spooling;

/// A store that ended with nothing left over.
const STORED: StopReport = StopReport {
    flows_lost: 0,
    flows_spooled: 0,
};

/// What was sent: token, bytes, rows.
type Call = (String, Bytes, u64);

/// A store that fails on command, and keeps what it was sent.
#[derive(Default)]
struct Scripted {
    /// Answers to the next inserts; then all succeed.
    answers: Mutex<VecDeque<InsertError>>,
    /// No insert is answered at all.
    silent: bool,
    /// Every insert fails as long as this is so.
    away: AtomicBool,
    /// The insert of this block fails, however often it is tried.
    never_takes: Option<u64>,
    /// How long an insert takes.
    takes: Duration,
    /// Every insert is refused as long as it was prepared fewer times.
    prepares_needed: usize,
    prepared: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

impl Scripted {
    fn answer(&self, call: Call) -> Attempt<'_, Taken> {
        let number = call.0.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
        let is_never_taken = self.never_takes.is_some() && number == self.never_takes;
        self.calls.lock().unwrap().push(call);
        Box::pin(async move {
            if self.silent {
                std::future::pending::<()>().await;
            }
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
            if is_never_taken || self.away.load(Ordering::Relaxed) {
                return Err(outage());
            }
            if self.prepared.load(Ordering::Relaxed) < self.prepares_needed {
                return Err(InsertError::exception("Code: 60. DB::Exception: no table"));
            }
            match self.answers.lock().unwrap().pop_front() {
                Some(error) => Err(error),
                None => Ok(Taken::Stored),
            }
        })
    }
}

impl Insert for Arc<Scripted> {
    fn prepare(&self) -> Attempt<'_> {
        self.prepared.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, Taken> {
        let call = (block.token.clone(), block.compressed.clone(), block.rows);
        self.answer(call)
    }

    fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken> {
        let call = (batch.token.clone(), batch.lines.clone(), batch.rows);
        self.answer(call)
    }
}

/// A worker, a store on a scripted target, and the ledger of both.
struct Rig {
    target: Arc<Scripted>,
    ledger: Ledger,
    store: Store,
    batcher: Batcher,
    counts: WorkerCounts,
}

impl Rig {
    fn new(target: Scripted, adapt: impl FnOnce(&mut config::Store)) -> Self {
        Self::on(target, Ledger::new(1), None, adapt)
    }

    fn on(
        target: Scripted,
        ledger: Ledger,
        spool: Option<Arc<Spool>>,
        adapt: impl FnOnce(&mut config::Store),
    ) -> Self {
        let batch = config::Batch {
            rows_max: ROWS_MAX,
            per_worker: 3,
            ..config::Batch::default()
        };
        Self::gathering(&batch, target, ledger, spool, adapt)
    }

    fn gathering(
        batch: &config::Batch,
        target: Scripted,
        ledger: Ledger,
        spool: Option<Arc<Spool>>,
        adapt: impl FnOnce(&mut config::Store),
    ) -> Self {
        let target = Arc::new(target);
        let mut config = config::Store {
            stop_timeout: Duration::from_millis(300),
            inserts: 1,
            ..config::Store::default()
        };
        adapt(&mut config);
        let insert = Box::new(Arc::clone(&target));
        let counts = Arc::clone(&ledger.store);
        let insert: Box<dyn Insert> = insert;
        let (store, mut queues) = Store::start_spooling(insert, spool, &config, counts, 1, batch);
        let batcher = Batcher::new(batch, queues.remove(0));
        Self {
            target,
            ledger,
            store,
            batcher,
            counts: WorkerCounts::default(),
        }
    }

    /// As the decoder does: counts flows as decoded, hands them on.
    fn add(&mut self, flows: usize) {
        self.decoded(flows);
        let flows = vec![Flow::EMPTY; flows];
        self.batcher.add(&flows, UnixNanos(1), &mut self.counts);
        self.publish();
    }

    fn decoded(&mut self, flows: usize) {
        self.counts.records_present += flows as u64;
        self.counts.records_decoded += flows as u64;
        self.counts.flows_decoded += flows as u64;
    }

    fn publish(&self) {
        self.ledger.worker(0).publish(&self.counts);
    }

    /// Waits for what the other tasks do, ten seconds at most.
    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < Duration::from_secs(10), "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn stored(&self) -> u64 {
        self.ledger.store.flows_stored.load(Ordering::Acquire)
    }

    fn calls(&self) -> Vec<Call> {
        self.target.calls.lock().unwrap().clone()
    }

    /// Ends worker and store; every flow must be accounted for. Yields stored and lost flows.
    async fn end(mut self) -> (u64, u64) {
        self.batcher.finish(&mut self.counts);
        self.publish();
        let report = self.store.stop().await;
        let snapshot = self.ledger.snapshot();
        assert_eq!(snapshot.unaccounted(), 0, "{snapshot:?}");
        assert_eq!(snapshot.store.flows_in_flight, 0);
        let stopped = snapshot.dropped(DropReason::StoreStopped);
        assert_eq!(stopped, report.flows_lost);
        let refused = snapshot.dropped(DropReason::InsertRefused);
        (snapshot.store.flows_stored, stopped + refused)
    }
}

fn outage() -> InsertError {
    InsertError::outage("connection refused")
}

#[tokio::test]
async fn every_flow_is_stored_and_the_batches_go_round() {
    let mut rig = Rig::new(Scripted::default(), |_| {});
    for n in 1..=20 {
        rig.add(ROWS_MAX);
        rig.until("the batch is stored", |rig| {
            rig.stored() == n * ROWS_MAX as u64
        })
        .await;
    }
    assert!(rig.store.is_ready());
    let mut tokens: Vec<_> = rig.calls().into_iter().map(|(token, ..)| token).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 20, "each block has a token of its own");
    assert_eq!(rig.end().await, (20 * ROWS_MAX as u64, 0));
}

#[tokio::test]
async fn the_null_store_is_ready_and_counts_every_flow_as_lost_and_every_block() {
    let ledger = Ledger::new(1);
    let batch = batch_of(2);
    let config = config::Store::default();
    let counts = Arc::clone(&ledger.store);
    let (store, mut queues) = Store::start(&config, None, counts, 1, &batch);
    let mut ready = store.ready();
    ready.wait_for(|ready| *ready).await.unwrap();
    let mut batcher = Batcher::new(&batch, queues.remove(0));
    let mut worker = WorkerCounts::default();
    batcher.add(&[Flow::EMPTY; ROWS_MAX + 3], UnixNanos(1), &mut worker);
    batcher.finish(&mut worker);
    assert_eq!(worker.flows_batched, ROWS_MAX as u64 + 3);
    assert_eq!(store.stop().await, STORED);
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.dropped(DropReason::StoreNull), ROWS_MAX as u64 + 3);
    let counts = snapshot.store;
    assert_eq!((counts.flows_stored, counts.flows_in_flight), (0, 0));
    assert_eq!((counts.blocks_encoded, counts.blocks_stored), (2, 0));
    // Blocks of a few rows are mostly names and types, and their frames larger than they are.
    assert!(counts.encoded_bytes > 0 && counts.compressed_bytes > 0);
    assert_eq!(counts.block_bytes, 0);
}

#[tokio::test]
async fn a_clock_that_jumps_seals_an_open_batch_and_loses_no_flow() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let mut rig = Rig::new(Scripted::default(), |_| {});
    let mut flows = 0;
    for (before, now) in [(100, 99), (100, 101), (101, 1), (1, 100)] {
        let received = UnixNanos(before * HOUR_NS);
        rig.counts.records_present += 1;
        rig.counts.records_decoded += 1;
        rig.counts.flows_decoded += 1;
        rig.batcher.add(&[Flow::EMPTY], received, &mut rig.counts);
        rig.batcher.turn(UnixNanos(received.0 + 1), &mut rig.counts);
        assert_eq!(rig.counts.flows_open, 1, "it is young");
        flows += 1;
        rig.publish();
        // Batches come back as soon as they are encoded.
        rig.until("a batch is empty", |rig| rig.batcher.batches_free() > 0)
            .await;
        rig.batcher.turn(UnixNanos(now * HOUR_NS), &mut rig.counts);
        assert_eq!(rig.counts.flows_open, 0, "from {before} h to {now} h");
        rig.publish();
    }
    rig.until("all is stored", |rig| rig.stored() == flows)
        .await;
    assert_eq!(rig.ledger.snapshot().unaccounted(), 0);
    assert_eq!(rig.end().await, (flows, 0));
}

#[tokio::test]
async fn a_retry_sends_the_same_bytes_with_the_same_token() {
    let target = Scripted {
        answers: Mutex::new([outage(), outage()].into()),
        ..Scripted::default()
    };
    let mut rig = Rig::new(target, |_| {});
    rig.add(ROWS_MAX);
    rig.until("the third try stores", |rig| {
        rig.stored() == ROWS_MAX as u64
    })
    .await;
    let calls = rig.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| *call == calls[0]));
    assert_eq!(rig.ledger.store.inserts_retried.load(Ordering::Relaxed), 2);
    assert_eq!(rig.end().await, (ROWS_MAX as u64, 0));
}

#[tokio::test]
async fn an_unfinished_batch_is_stored_at_the_end() {
    let mut rig = Rig::new(Scripted::default(), |_| {});
    rig.add(3);
    assert_eq!(rig.counts.flows_open, 3);
    assert_eq!(rig.ledger.snapshot().unaccounted(), 0);
    assert_eq!(rig.end().await, (3, 0));
}

#[tokio::test]
async fn a_batch_is_sealed_by_age_and_not_before() {
    let mut rig = Rig::new(Scripted::default(), |_| {});
    rig.add(3);
    let age = config::Batch::default().age_max.as_nanos() as u64;
    rig.batcher.turn(UnixNanos(age), &mut rig.counts);
    assert_eq!(rig.counts.flows_open, 3);
    rig.batcher.turn(UnixNanos(1 + age), &mut rig.counts);
    assert_eq!(rig.counts.flows_open, 0);
    rig.publish();
    rig.until("the batch is stored", |rig| rig.stored() == 3)
        .await;
    assert_eq!(rig.end().await, (3, 0));
}

#[tokio::test]
async fn what_a_worker_has_goes_into_the_block_that_is_about_to_end() {
    let batch = config::Batch {
        rows_max: 3 * BATCH_ROWS,
        age_max: Duration::from_secs(1),
        ..config::Batch::default()
    };
    let mut rig = Rig::gathering(&batch, Scripted::default(), Ledger::new(1), None, |_| {});
    let now = UnixNanos::now();
    // A whole batch, sealed, and three rows of the next, which by this clock does not get old.
    let flows = vec![Flow::EMPTY; BATCH_ROWS + 3];
    rig.decoded(flows.len());
    rig.batcher.add(&flows, now, &mut rig.counts);
    assert_eq!(rig.counts.flows_open, 3);
    let deadline = Instant::now() + Duration::from_secs(10);
    while rig.stored() == 0 {
        assert!(Instant::now() < deadline, "no block ends");
        rig.batcher.turn(now, &mut rig.counts);
        rig.publish();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        (rig.stored(), rig.calls().len()),
        (BATCH_ROWS as u64 + 3, 1)
    );
    rig.end().await;
}

#[tokio::test]
async fn a_store_that_is_away_makes_counted_drops_and_stops_nothing() {
    let target = Scripted {
        silent: true,
        ..Scripted::default()
    };
    // Room for one block: it is under way, one waits encoded, three batches fill up.
    let mut rig = Rig::new(target, |config| config.queue_max = ByteSize::b(1));
    rig.add(ROWS_MAX);
    rig.until("the first insert is under way", |rig| {
        rig.calls().len() == 1
    })
    .await;
    rig.add(ROWS_MAX);
    rig.until("the second block waits", Rig::batcher_is_whole)
        .await;
    rig.add(3 * ROWS_MAX + 5);
    assert_eq!(rig.counts.dropped(DropReason::StoreBacklog), 5);
    assert_eq!(rig.ledger.snapshot().unaccounted(), 0);
    assert_eq!(rig.end().await, (0, 5 * ROWS_MAX as u64));
}

#[tokio::test]
async fn while_the_store_is_behind_an_old_batch_goes_on_filling() {
    let target = Scripted {
        silent: true,
        ..Scripted::default()
    };
    let mut rig = Rig::new(target, |config| config.queue_max = ByteSize::b(1));
    rig.add(ROWS_MAX);
    rig.until("the first insert is under way", |rig| {
        rig.calls().len() == 1
    })
    .await;
    rig.add(ROWS_MAX);
    rig.until("the second block waits", Rig::batcher_is_whole)
        .await;
    rig.add(2 * ROWS_MAX + 1);
    rig.batcher.turn(UnixNanos(u64::MAX), &mut rig.counts);
    assert_eq!(rig.counts.flows_open, 1);
    rig.add(ROWS_MAX - 1);
    assert_eq!(rig.counts.dropped(DropReason::StoreBacklog), 0);
    assert_eq!(rig.end().await, (0, 5 * ROWS_MAX as u64));
}

#[tokio::test]
async fn a_missing_table_is_made_again_before_a_block_is_given_up() {
    let target = Scripted {
        prepares_needed: 2,
        ..Scripted::default()
    };
    let mut rig = Rig::new(target, |_| {});
    rig.add(ROWS_MAX);
    rig.until("the block is stored", |rig| rig.stored() == ROWS_MAX as u64)
        .await;
    assert_eq!(rig.calls().len(), 2);
    assert_eq!(rig.end().await, (ROWS_MAX as u64, 0));
}

#[tokio::test]
async fn a_block_that_is_refused_for_good_is_counted_and_the_next_one_stored() {
    let refusal = InsertError::exception("Code: 16. DB::Exception: No such column src_as");
    let target = Scripted {
        answers: Mutex::new([refusal.clone(), refusal].into()),
        ..Scripted::default()
    };
    let mut rig = Rig::new(target, |_| {});
    rig.add(ROWS_MAX);
    rig.until("the block is refused", |rig| {
        rig.ledger.snapshot().dropped(DropReason::InsertRefused) == ROWS_MAX as u64
    })
    .await;
    assert_eq!(rig.target.prepared.load(Ordering::Relaxed), 2);
    rig.add(2);
    assert_eq!(rig.end().await, (2, ROWS_MAX as u64));
}

#[tokio::test]
async fn what_is_not_acknowledged_when_time_is_up_is_counted_as_lost() {
    let target = Scripted {
        silent: true,
        ..Scripted::default()
    };
    let mut rig = Rig::new(target, |_| {});
    rig.add(2 * ROWS_MAX + 3);
    let began = Instant::now();
    assert_eq!(rig.end().await, (0, 2 * ROWS_MAX as u64 + 3));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn several_workers_get_their_own_batches_back() {
    let ledger = Ledger::new(3);
    let batch = config::Batch {
        rows_max: ROWS_MAX,
        per_worker: 2,
        ..config::Batch::default()
    };
    let target = Box::new(Arc::new(Scripted::default()));
    let counts = Arc::clone(&ledger.store);
    let config = config::Store::default();
    let (store, queues) = Store::start_with(target, &config, counts, 3, &batch);
    let workers: Vec<_> = queues
        .into_iter()
        .enumerate()
        .map(|(n, queue)| {
            let mut published = ledger.worker(n);
            std::thread::spawn(move || {
                let mut batcher = Batcher::new(&batch_of(2), queue);
                let mut counts = WorkerCounts::default();
                for _ in 0..200 {
                    counts.flows_decoded += 5;
                    counts.records_decoded += 5;
                    counts.records_present += 5;
                    batcher.add(&[Flow::EMPTY; 5], UnixNanos(1), &mut counts);
                    published.publish(&counts);
                    std::thread::sleep(Duration::from_micros(300));
                }
                batcher.finish(&mut counts);
                published.publish(&counts);
            })
        })
        .collect();
    let joined = tokio::task::spawn_blocking(|| {
        for worker in workers {
            worker.join().unwrap();
        }
    });
    joined.await.unwrap();
    store.stop().await;
    let snapshot = ledger.snapshot();
    assert_eq!(snapshot.unaccounted(), 0, "{snapshot:?}");
    let backlog = snapshot.dropped(DropReason::StoreBacklog);
    assert_eq!(snapshot.store.flows_stored + backlog, 3 * 200 * 5);
    assert!(snapshot.store.flows_stored > 0);
}

fn batch_of(per_worker: usize) -> config::Batch {
    config::Batch {
        rows_max: ROWS_MAX,
        per_worker,
        ..config::Batch::default()
    }
}

#[test]
fn the_password_is_read_from_the_first_line_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "secret\n").unwrap();
    let config = config::Store {
        url: Some("http://localhost:8123".into()),
        password_file: Some(path),
        ..config::Store::default()
    };
    assert_eq!(endpoint(&config).unwrap().password.reveal(), "secret");
}

#[test]
fn an_address_without_scheme_is_refused_with_an_example() {
    let config = config::Store {
        url: Some("localhost:8123".into()),
        ..config::Store::default()
    };
    let message = endpoint(&config).unwrap_err().to_string();
    assert!(message.contains("http://host:8123"), "{message}");
}

impl Rig {
    /// True when all batches but those being encoded are with the worker again.
    fn batcher_is_whole(&self) -> bool {
        self.batcher.batches_free() == 3
    }
}

#[test]
fn the_memory_of_the_default_batches_is_what_the_configuration_says() {
    let config = config::Batch::default();
    let bytes = Batch::memory_bytes_for(BATCH_ROWS);
    assert!(config.rows_max > BATCH_ROWS && bytes < 1_468_006, "{bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_inserts_fail_for_seconds_is_not_ready_until_one_succeeds() {
    let outages = (0..7).map(|_| InsertError::outage("connection refused"));
    let target = Scripted {
        answers: Mutex::new(outages.collect()),
        ..Scripted::default()
    };
    let mut rig = Rig::new(target, |_| {});
    rig.until("prepared", |rig| rig.store.is_ready()).await;
    rig.add(ROWS_MAX);
    rig.until("unready", |rig| !rig.store.is_ready()).await;
    assert_eq!(rig.stored(), 0);
    rig.target.answers.lock().unwrap().clear();
    rig.until("stored", |rig| rig.stored() == ROWS_MAX as u64)
        .await;
    rig.until("ready again", |rig| rig.store.is_ready()).await;
}

/// A row of a table beside `flows`.
#[derive(serde::Serialize)]
struct Told {
    number: u32,
}

impl SideRow for Told {
    const TABLE: SideTable = SideTable::Exporters;
}

fn exporters_of(counts: &StoreCounts) -> SideSnapshot {
    counts.side(SideTable::Exporters).read()
}

impl Rig {
    fn side(&self) -> SideSnapshot {
        assert_eq!(self.ledger.snapshot().unaccounted(), 0);
        exporters_of(&self.ledger.store)
    }

    fn push(&self, numbers: std::ops::Range<u32>) {
        let rows = self.store.side_rows();
        numbers.for_each(|number| rows.push(&Told { number }));
    }
}

#[tokio::test]
async fn rows_beside_the_flows_are_sent_as_json_before_the_store_ends() {
    let target = Scripted {
        answers: Mutex::new([outage()].into()),
        ..Scripted::default()
    };
    let rig = Rig::new(target, |config| {
        config.stop_timeout = Duration::from_secs(5);
    });
    rig.push(1..3);
    assert_eq!(rig.side().rows_waiting, 2);
    let target = Arc::clone(&rig.target);
    let counts = Arc::clone(&rig.ledger.store);
    assert_eq!(rig.end().await, (0, 0));
    let calls = target.calls.lock().unwrap();
    let [first, again] = &calls[..] else {
        panic!("one batch, sent twice: {calls:?}");
    };
    assert_eq!(first, again);
    assert_eq!(first.1, "{\"number\":1}\n{\"number\":2}\n");
    assert_eq!(first.2, 2);
    assert_eq!(exporters_of(&counts).rows_stored, 2);
}

#[tokio::test]
async fn rows_beside_the_flows_are_lost_and_counted_when_time_is_up_and_afterwards() {
    let target = Scripted {
        silent: true,
        ..Scripted::default()
    };
    let rig = Rig::new(target, |_| {});
    rig.push(0..3);
    let rows = rig.store.side_rows();
    let counts = Arc::clone(&rig.ledger.store);
    assert_eq!(rig.end().await, (0, 0));
    rows.push(&Told { number: 9 });
    let side = exporters_of(&counts);
    assert_eq!(side.rows_dropped[DropReason::StoreStopped as usize], 4);
    assert_eq!((side.rows_offered, side.rows_waiting), (4, 0));
}

#[tokio::test]
async fn rows_for_which_there_is_no_room_are_dropped_and_counted() {
    let rig = Rig::new(
        Scripted {
            silent: true,
            ..Scripted::default()
        },
        |_| {},
    );
    rig.push(0..400_000);
    let side = rig.side();
    let dropped = side.rows_dropped[DropReason::StoreBacklog as usize];
    assert!(dropped > 0 && side.rows_waiting > 200_000, "{side:?}");
    assert_eq!(dropped + side.rows_waiting, 400_000);
}

#[tokio::test]
async fn the_null_store_drops_rows_beside_the_flows_and_counts_them() {
    let counts = Arc::new(StoreCounts::default());
    let config = config::Store::default();
    let (store, queues) = Store::start(&config, None, Arc::clone(&counts), 1, &batch_of(2));
    store.side_rows().push(&Told { number: 1 });
    drop(queues);
    assert_eq!(store.stop().await, STORED);
    let side = exporters_of(&counts);
    assert_eq!(side.rows_dropped[DropReason::StoreNull as usize], 1);
}
