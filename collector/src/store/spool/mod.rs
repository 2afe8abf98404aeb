//! Blocks on the disk: what ClickHouse has not acknowledged outlasts an outage, a stop and a crash.
//!
//! In: sealed blocks, by number. Out: the same blocks with the same bytes and tokens, oldest first.
//! Owner: one folder of one process, held by a lock; written and read by blocking threads of the
//! runtime, never by a worker. A file is gone only when its block is acknowledged or given up.
//! Losses: `spool_full`, `spool_failed`, `spool_broken`.
//!
//! ```text
//! spool/                                   0750
//!   lock                                   held while a collector uses the folder
//!   00000000000000000042.block             waits, or is in memory as well
//!   00000000000000000041.tried             was sent: ClickHouse may have it already
//!   00000000000000000043.new               is being written; removed at the next start
//!   quarantine/00000000000000000007.block  refused for good, with the reason in its header
//!   quarantine/00000000000000000009.broken cannot be read
//! ```
//!
//! Numbers are those of sealing and go on over a restart, so their order is that of the flows.

mod file;
mod folder;
pub mod quarantine;
mod state;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::insert::InsertError;
use super::{Block, schema};
use crate::config::{self, SpoolFsync, SpoolMode};
use crate::ledger::{DropReason, Place, StoreCounts};
use quarantine::Quarantine;
use state::{Held, State};

pub use file::{Broken, Header, Refusal, read_block, read_header};
pub use folder::{Kind, files};

/// Most blocks of a spool: 18 hours of one a second. Each costs a file, and some 100 bytes of
/// memory.
pub const BLOCKS_MAX: usize = 65_536;

/// The spool of a running collector.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// Held as long as the folder is used.
    _lock: File,
    config: config::Spool,
    quarantine: Quarantine,
    state: Mutex<State>,
    /// Something waits that did not, or something is done with.
    changed: Notify,
    counts: Arc<StoreCounts>,
    next_number: u64,
}

/// Why there is no spool.
#[derive(Debug, Error)]
#[error(
    "store.spool.dir: {folder} cannot be used ({error}); let the collector's user write there, or \
     name another folder; max_bytes = \"0B\" does without"
)]
pub struct Unusable {
    folder: String,
    error: io::Error,
}

/// Why a block is not on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unkept {
    /// There is no room by the configuration.
    Full,
    /// The disk did not take it.
    Failed,
}

impl From<Unkept> for DropReason {
    fn from(unkept: Unkept) -> Self {
        match unkept {
            Unkept::Full => Self::SpoolFull,
            Unkept::Failed => Self::SpoolFailed,
        }
    }
}

impl Spool {
    /// Takes the folder for this process and looks what an earlier one left there; none where the
    /// configuration wants none.
    ///
    /// # Errors
    /// When the folder cannot be made, written to, or is another collector's.
    pub fn open(
        config: &config::Store,
        counts: Arc<StoreCounts>,
    ) -> Result<Option<Arc<Self>>, Unusable> {
        let Some(dir) = config.spool_dir() else {
            return Ok(None);
        };
        let unusable = |error| Unusable {
            folder: dir.display().to_string(),
            error,
        };
        let (folder, lock) = folder::open(&dir).map_err(unusable)?;
        let found = folder::scan(&folder).map_err(unusable)?;
        let quarantine = Quarantine::open(&folder, &config.spool).map_err(unusable)?;
        let next_number = found.last_number.max(quarantine.last_number()) + 1;
        counts
            .spool_bytes_max
            .store(config.spool.max_bytes.as_u64(), Ordering::Release);
        let spool = Self {
            folder,
            _lock: lock,
            config: config.spool.clone(),
            quarantine,
            state: Mutex::default(),
            changed: Notify::new(),
            counts,
            next_number,
        };
        spool.recover(found);
        Ok(Some(Arc::new(spool)))
    }

    fn recover(&self, found: folder::Found) {
        let mut rows = 0;
        for (number, held) in found.whole {
            rows += held.rows;
            self.counts.recovered(held.rows);
            self.state().add_waiting(number, held);
        }
        let blocks = self.state().len();
        if blocks > 0 {
            let folder = self.folder.display();
            info!(%folder, blocks, rows, "blocks of an earlier run wait to be stored");
        }
        for (path, broken, rows) in found.broken {
            self.counts.recovered(rows);
            self.give_up(&path, &broken, rows);
        }
        self.publish();
    }

    /// The number of the first block that is sealed now.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether each block is to be written before it is sent.
    pub(super) fn keeps_all(&self) -> bool {
        self.config.mode == SpoolMode::Always
    }

    /// Writes `block`, which stays in memory.
    pub(super) fn keep(&self, block: &Block) -> Result<(), Unkept> {
        self.keep_as(block, Kind::Block)
    }

    /// Puts a block, which was sent if `is_tried`, from memory to the disk alone.
    pub(super) fn set_down(&self, block: &Block, is_tried: bool) -> Result<(), Unkept> {
        let kind = if is_tried { Kind::Tried } else { Kind::Block };
        if !self.state().has(block.number) {
            self.keep_as(block, kind)?;
        }
        self.state().wait(block.number);
        self.counts.spooled(block.rows);
        self.changed.notify_one();
        Ok(())
    }

    fn keep_as(&self, block: &Block, kind: Kind) -> Result<(), Unkept> {
        let head = file::head(block, schema::version(), None);
        let held = Held {
            rows: block.rows,
            bytes: (head.len() + block.compressed.len()) as u64,
            kind,
        };
        let bytes_max = self.config.max_bytes.as_u64();
        let (number, bytes) = (block.number, held.bytes);
        if !self.state().reserve(number, held, bytes_max, BLOCKS_MAX) {
            return Err(Unkept::Full);
        }
        let is_synced = self.config.fsync == SpoolFsync::Always;
        let path = kind.path(&self.folder, number);
        let written = folder::write(&path, &[&head, &block.compressed], is_synced);
        if let Err(error) = written {
            self.state().remove(number);
            self.tell_unwritten(&path, bytes, &error);
            return Err(Unkept::Failed);
        }
        if !is_synced {
            self.state().unsynced.push(number);
        }
        self.counts.blocks_spooled.fetch_add(1, Ordering::Relaxed);
        self.publish();
        Ok(())
    }

    fn tell_unwritten(&self, path: &Path, bytes: u64, error: &io::Error) {
        if self.state().is_to_be_told(Instant::now()) {
            let file = path.display();
            error!(
                %file, bytes, %error,
                remedy = "make room on the disk, or let the collector's user write there; until \
                          then blocks wait in memory alone",
                "store.spool: a block cannot be written"
            );
        }
    }

    /// Notes that a block is about to be sent: from now on ClickHouse may have it. Does nothing
    /// for one that is in memory alone.
    pub(super) fn tried(&self, number: u64) {
        if !self.state().becomes_tried(number) {
            return;
        }
        let [from, to] = [Kind::Block, Kind::Tried].map(|kind| kind.path(&self.folder, number));
        if let Err(error) = std::fs::rename(&from, &to) {
            self.state().stays_untried(number);
            let file = from.display();
            warn!(%file, %error, "store.spool: that a block was sent cannot be noted");
        }
    }

    /// A block is acknowledged, or needed no more for another reason.
    pub(super) fn done(&self, number: u64) {
        let Some(held) = self.state().remove(number) else {
            return;
        };
        let path = held.kind.path(&self.folder, number);
        if let Err(error) = std::fs::remove_file(&path) {
            error!(
                file = %path.display(), %error,
                remedy = "remove it by hand, else it is stored again at the next start",
                "store.spool: a block that is stored cannot be removed"
            );
        }
        self.publish();
        self.changed.notify_one();
    }

    /// The block whose turn it is, of those that are on the disk alone; none while one is under
    /// way.
    pub(super) fn take(&self) -> Option<u64> {
        self.state().take()
    }

    /// True while blocks that an earlier process sent are not done with: nothing else is sent
    /// meanwhile, so that ClickHouse still knows their tokens.
    pub(super) fn has_doubtful(&self) -> bool {
        self.state().has_doubtful()
    }

    /// True when blocks wait that [`Spool::take`] would yield, now or when another is done with.
    pub(super) fn has_waiting(&self) -> bool {
        self.state().has_waiting()
    }

    /// Returns when something may have changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads a block that was taken; one that cannot be read is set aside, and its rows are lost.
    pub(super) fn read(&self, number: u64) -> Option<Block> {
        let (path, rows) = {
            let state = self.state();
            let held = state.held(number)?;
            (held.kind.path(&self.folder, number), held.rows)
        };
        match read_block(&path, number) {
            Ok(block) => Some(block),
            Err(broken) => {
                self.give_up(&path, &broken, rows);
                self.state().remove(number);
                self.publish();
                self.changed.notify_one();
                None
            }
        }
    }

    /// Sets a file aside whose rows were waiting.
    fn give_up(&self, path: &Path, broken: &Broken, rows: u64) {
        let counts = &self.counts;
        counts.spool_files_broken.fetch_add(1, Ordering::Relaxed);
        counts.lost_from(Place::Disk, DropReason::SpoolBroken, rows);
        let set_aside = self.quarantine.set_aside(path);
        error!(
            file = %path.display(), error = %broken, set_aside, rows,
            remedy = "look at the disk that it is on; nothing else is lost",
            "store.spool: a file is of no use"
        );
    }

    /// Keeps a block that ClickHouse refused for good, for whoever wants to try it again; tells
    /// where, or why not.
    pub(super) fn quarantine(&self, block: &Block, error: &InsertError) -> String {
        let kept = self.quarantine.keep(block, schema::version(), error);
        match kept {
            Ok(path) => {
                let counts = &self.counts;
                counts.blocks_quarantined.fetch_add(1, Ordering::Relaxed);
                self.publish();
                path.display().to_string()
            }
            Err(error) => format!("no ({error})"),
        }
    }

    /// Sees to it that what was written so far outlasts a loss of power.
    pub(super) fn sync(&self) {
        let unsynced = std::mem::take(&mut self.state().unsynced);
        let mut is_any = false;
        for number in unsynced {
            if self.state().has(number) {
                is_any = true;
                // It may be sent just now, which changes its name, or be done with.
                for kind in [Kind::Block, Kind::Tried] {
                    let path = kind.path(&self.folder, number);
                    if let Err(error) = folder::sync_if_there(&path) {
                        self.tell_unwritten(&path, 0, &error);
                    }
                }
            }
        }
        // Removals, too: a file that comes back would be stored again.
        if std::mem::take(&mut self.state().is_removed) || is_any {
            let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
            if let Err(error) = synced {
                self.tell_unwritten(&self.folder, 0, &error);
            }
        }
    }

    /// Syncs every `store.spool.fsync_interval`, where the configuration says so, until the task is
    /// dropped.
    pub(super) async fn keep_synced(self: Arc<Self>) {
        if self.config.fsync != SpoolFsync::Interval {
            return;
        }
        loop {
            tokio::time::sleep(self.config.fsync_interval).await;
            let spool = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || spool.sync())
                .await
                .is_err()
            {
                return; // the runtime ends
            }
        }
    }

    /// Syncs a last time, unless the kernel is trusted to.
    pub(super) fn finish(&self) {
        if self.config.fsync != SpoolFsync::Never {
            self.sync();
        }
    }

    fn publish(&self) {
        let (blocks, bytes) = {
            let state = self.state();
            (state.len() as u64, state.bytes())
        };
        let counts = &self.counts;
        counts.spool_blocks.store(blocks, Ordering::Release);
        counts.spool_bytes.store(bytes, Ordering::Release);
        let quarantined = self.quarantine.bytes();
        counts
            .quarantine_bytes
            .store(quarantined, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}
