//! The ways of batches between workers and store: full ones there, empty ones back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use tokio::sync::Notify;

use crate::batch::Batch;
use crate::ledger::StoreCounts;
use crate::units::UnixNanos;

/// A worker's end. Its batches are made at start; there are never more, so no queue can overflow.
#[derive(Debug)]
pub struct WorkerQueue {
    worker: usize,
    /// Empty batches that were taken back, the latest last: what was used last is used next, as it
    /// may still be in a cache.
    empty: Vec<Batch>,
    /// [`Exchange::calls`] when it was looked at last.
    calls: u64,
    exchange: Arc<Exchange>,
    counts: Arc<StoreCounts>,
}

/// How far the encoder is behind a worker, for whoever can wait for it.
#[derive(Clone, Debug)]
pub struct Backlog(Arc<Exchange>);

impl Backlog {
    /// Sealed batches of all workers that nobody has taken yet, to mark or to encode them.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.0.to_mark.batches.len() + self.0.to_encode.batches.len()
    }
}

/// A batch on its way to the store.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) worker: usize,
    pub(super) batch: Batch,
    /// When its first row came.
    pub(super) since: UnixNanos,
}

/// The ways of all workers' batches.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Those with room for what enrichment says, which is not known yet.
    pub(super) to_mark: Way,
    pub(super) to_encode: Way,
    /// True while there is somebody who marks.
    is_marking: AtomicBool,
    /// One queue a worker.
    empty: Box<[ArrayQueue<Batch>]>,
    /// How often the encoder has called open batches in.
    calls: AtomicU64,
}

/// Sealed batches on their way to one task, the oldest first.
#[derive(Debug)]
pub(super) struct Way {
    batches: ArrayQueue<Sealed>,
    /// Told of every batch.
    wake: Notify,
}

impl WorkerQueue {
    /// An empty batch, if the store has given one back.
    #[inline]
    pub fn take_empty(&mut self) -> Option<Batch> {
        let given_back = &self.exchange.empty[self.worker];
        while let Some(batch) = given_back.pop() {
            // It has room for all there are.
            self.empty.push(batch);
        }
        self.empty.pop()
    }

    /// Puts `change` in the place of each empty batch; at the start these are all.
    pub fn change_empty(&mut self, change: impl Fn(Batch) -> Batch) {
        let given_back = &self.exchange.empty[self.worker];
        self.empty.extend(std::iter::from_fn(|| given_back.pop()));
        self.empty = self.empty.drain(..).map(change).collect();
    }

    /// Empty batches that [`WorkerQueue::take_empty`] would yield.
    #[must_use]
    #[inline]
    pub fn batches_empty(&self) -> usize {
        self.empty.len() + self.exchange.empty[self.worker].len()
    }

    /// True once for each time that the encoder called in what workers have.
    #[inline]
    pub fn is_called_in(&mut self) -> bool {
        let calls = self.exchange.calls.load(Ordering::Relaxed);
        std::mem::replace(&mut self.calls, calls) != calls
    }

    /// A way to look at the encoder's backlog from elsewhere.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        Backlog(Arc::clone(&self.exchange))
    }

    /// Gives a filled batch, whose first row came at `since`, to the store. Its rows are in flight
    /// from here on.
    ///
    /// # Panics
    /// When the batch is empty, or is one too many.
    pub fn hand_over(&mut self, batch: Batch, since: UnixNanos) {
        assert!(batch.rows() > 0, "a batch is sealed with rows in it");
        self.counts.handed_over(batch.rows() as u64);
        let sealed = Sealed {
            worker: self.worker,
            batch,
            since,
        };
        match sealed.batch.has_labels() {
            true => self.exchange.to_mark.push(sealed),
            false => self.exchange.to_encode.push(sealed),
        }
    }
}

impl Way {
    fn new(batches_max: usize) -> Self {
        Self {
            batches: ArrayQueue::new(batches_max),
            wake: Notify::new(),
        }
    }

    pub(super) fn push(&self, sealed: Sealed) {
        let pushed = self.batches.push(sealed);
        pushed.expect("the queue has room for all batches there are");
        self.wake.notify_one();
    }

    /// The oldest batch.
    pub(super) fn take(&self) -> Option<Sealed> {
        self.batches.pop()
    }

    /// False when [`Way::take`] would yield one.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Waits until a batch may have come, or somebody may have ended, since [`Way::is_empty`].
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }
}

impl Exchange {
    /// Queues for `workers` workers with `per_worker` batches of `rows_max` rows each.
    pub(super) fn new(
        workers: usize,
        per_worker: usize,
        rows_max: usize,
        counts: &Arc<StoreCounts>,
    ) -> (Arc<Self>, Vec<WorkerQueue>) {
        let empty = (0..workers).map(|_| {
            let batches = ArrayQueue::new(per_worker);
            for _ in 0..per_worker {
                let made = batches.push(Batch::new(rows_max));
                made.expect("the queue has room for all batches there are");
            }
            batches
        });
        let exchange = Arc::new(Self {
            to_mark: Way::new(workers * per_worker),
            to_encode: Way::new(workers * per_worker),
            is_marking: AtomicBool::new(false),
            empty: empty.collect(),
            calls: AtomicU64::new(0),
        });
        let queues = (0..workers).map(|worker| WorkerQueue {
            worker,
            empty: Vec::with_capacity(per_worker),
            calls: 0,
            exchange: Arc::clone(&exchange),
            counts: Arc::clone(counts),
        });
        let queues = queues.collect();
        (exchange, queues)
    }

    /// Has each worker seal what it has, in its next turn.
    pub(super) fn call_in(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// True while batches that are sealed may still come to the encoder from whoever marks them.
    pub(super) fn is_marking(&self) -> bool {
        self.is_marking.load(Ordering::Acquire)
    }

    /// Somebody marks from now on.
    pub(super) fn marking_begins(&self) {
        self.is_marking.store(true, Ordering::Release);
    }

    /// Nobody marks any more: what was marked has been pushed.
    pub(super) fn marking_ends(&self) {
        self.is_marking.store(false, Ordering::Release);
        self.to_encode.wake.notify_one();
    }

    /// Gives a batch back to its worker.
    pub(super) fn give_back(&self, worker: usize, mut batch: Batch) {
        batch.clear();
        self.empty[worker]
            .push(batch)
            .expect("the queue has room for all batches there are");
    }
}
