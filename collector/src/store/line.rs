//! Blocks between the encoder and ClickHouse: in memory as far as there is room, else on the disk.
//!
//! What is sent next: of blocks in memory and blocks on the disk, when both wait,
//! [`LIVE_IN_A_ROW`] from memory, then one from the disk. So new flows can be asked for as soon as
//! ClickHouse is back, however long the backlog is, and the backlog gets a quarter of the inserts
//! at least, and all that new flows leave over. One block from the disk is under way at a time, in
//! the order in which they were sealed. Those that an earlier process had sent go before the rest,
//! at the stop as well, and side by side: one that fails holds up no other.

use std::sync::Arc;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::spool::{Spool, Unkept};
use super::{Block, Phase};
use crate::ledger::{DropReason, StoreCounts};

/// Blocks from memory that are sent between two from the disk while both wait.
const LIVE_IN_A_ROW: u32 = 3;

/// The encoder's end.
pub(super) struct Inlet {
    live: mpsc::UnboundedSender<Arc<Block>>,
    room: Room,
    spool: Option<Arc<Spool>>,
    counts: Arc<StoreCounts>,
}

/// The sender's end.
pub(super) struct Outlet {
    live: mpsc::UnboundedReceiver<Arc<Block>>,
    spool: Option<Arc<Spool>>,
    phase: watch::Receiver<Phase>,
    live_in_a_row: u32,
}

/// What is sent next.
pub(super) enum Next {
    Live(Arc<Block>),
    /// The number of one on the disk.
    Spooled(u64),
}

/// Both ends of a line that holds `bytes_max` bytes of blocks in memory.
pub(super) fn line(
    bytes_max: u64,
    spool: Option<Arc<Spool>>,
    counts: Arc<StoreCounts>,
    phase: watch::Receiver<Phase>,
) -> (Inlet, Outlet) {
    // What is in it has room, which is bounded.
    let (live_in, live) = mpsc::unbounded_channel();
    let inlet = Inlet {
        live: live_in,
        room: Room::new(bytes_max),
        spool: spool.clone(),
        counts,
    };
    let outlet = Outlet {
        live,
        spool,
        phase,
        live_in_a_row: 0,
    };
    (inlet, outlet)
}

impl Inlet {
    /// The number of the first block.
    pub(super) fn first_number(&self) -> u64 {
        self.spool.as_ref().map_or(1, |spool| spool.next_number())
    }

    /// Takes a block. Without a spool it waits for room; with one it is lost, and counted, when
    /// neither memory nor disk take it. False when nobody takes blocks any more.
    pub(super) async fn push(&self, mut block: Block) -> bool {
        let Some(spool) = &self.spool else {
            block.room = Some(self.room.enter(&block).await);
            return self.live.send(Arc::new(block)).is_ok();
        };
        block.room = self.room.try_enter(&block);
        let has_room = block.room.is_some();
        let block = Arc::new(block);
        if has_room {
            if spool.keeps_all() {
                // Told in the log, and not lost as long as this process lives.
                let kept = Arc::clone(&block);
                let _ = spool.on_disk(move |spool| spool.keep(&kept)).await;
            }
            if self.live.send(Arc::clone(&block)).is_ok() {
                return true;
            }
        }
        set_down(spool, &self.counts, block, false).await;
        true
    }
}

impl Outlet {
    /// Waits for a block to be sent; `None` when none is left in memory and none will come. Those
    /// on the disk wait for the next start then, unless an earlier process had sent them. May be
    /// dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Next> {
        loop {
            let is_running = *self.phase.borrow_and_update() == Phase::Running;
            let spool = self.spool.as_ref();
            let spool = spool.filter(|spool| is_running || spool.has_doubtful());
            let is_their_turn = self.live.is_empty() || self.live_in_a_row >= LIVE_IN_A_ROW;
            // Those that are doubtful can always be taken: no other goes before them.
            if let Some(spool) = spool
                && (is_their_turn || spool.has_doubtful())
                && let Some(number) = spool.take()
            {
                self.live_in_a_row = 0;
                return Some(Next::Spooled(number));
            }
            match self.live.try_recv() {
                Ok(block) => {
                    let both_wait = spool.is_some_and(|spool| spool.has_waiting());
                    self.live_in_a_row = if both_wait { self.live_in_a_row + 1 } else { 0 };
                    return Some(Next::Live(block));
                }
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let changed = async {
                match &self.spool {
                    Some(spool) => spool.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                block = self.live.recv() => {
                    // Its turn is now: nothing else waited.
                    return block.map(Next::Live);
                }
                () = changed => {}
                changed = self.phase.changed() => if changed.is_err() {
                    // The store is gone; whoever waits for this knows.
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    /// Takes no more, and yields what was left in memory.
    pub(super) fn close(mut self) -> impl Iterator<Item = Arc<Block>> {
        self.live.close();
        std::iter::from_fn(move || self.live.try_recv().ok())
    }
}

/// Puts a block, which was sent if `is_tried`, from memory to the disk alone; one that it does not
/// take is lost and counted.
pub(super) async fn set_down(
    spool: &Arc<Spool>,
    counts: &StoreCounts,
    block: Arc<Block>,
    is_tried: bool,
) {
    let rows = block.rows;
    let set_down = spool.on_disk(move |spool| spool.set_down(&block, is_tried));
    // The runtime ends before the work began.
    if let Err(unkept) = set_down.await.unwrap_or(Err(Unkept::Failed)) {
        counts.lost(DropReason::from(unkept), rows);
    }
}

/// The memory that blocks may take, `store.queue_max`.
#[derive(Clone)]
struct Room {
    kibibytes: Arc<Semaphore>,
    kibibytes_max: u32,
}

impl Room {
    fn new(bytes_max: u64) -> Self {
        let kibibytes_max = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            kibibytes: Arc::new(Semaphore::new(kibibytes_max as usize)),
            kibibytes_max,
        }
    }

    /// Waits until the block fits in; one larger than all waits until there is no other.
    async fn enter(&self, block: &Block) -> OwnedSemaphorePermit {
        let kibibytes = Arc::clone(&self.kibibytes);
        let share = kibibytes.acquire_many_owned(self.share(block));
        share.await.expect("the semaphore is never closed")
    }

    /// A share for the block, if it fits in now.
    fn try_enter(&self, block: &Block) -> Option<OwnedSemaphorePermit> {
        let kibibytes = Arc::clone(&self.kibibytes);
        kibibytes.try_acquire_many_owned(self.share(block)).ok()
    }

    fn share(&self, block: &Block) -> u32 {
        let kibibytes = block.compressed.len().div_ceil(1024);
        u32::try_from(kibibytes)
            .unwrap_or(u32::MAX)
            .min(self.kibibytes_max)
    }
}
