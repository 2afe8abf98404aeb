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
//!   00000000000000000043.block.new         is being written; removed at the next start
//!   quarantine/00000000000000000007.block  refused for good, with the reason in its header
//!   quarantine/00000000000000000009.broken cannot be read
//! ```
//!
//! A file that this process cannot read, or whose version it does not know, stays where it is.
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
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::insert::InsertError;
use super::send::is_due;
use super::{Block, schema};
use crate::config::{self, SpoolFsync, SpoolMode};
use crate::folder::take;
use crate::ledger::{DropReason, Place, StoreCounts};
use quarantine::Quarantine;
use state::{Held, State};

pub use file::{Broken, Header, Refusal, read_block, read_header};
pub use folder::{Kind, files};

/// Most blocks of a spool: 18 hours of one a second. Each costs a file, and some 100 bytes of
/// memory.
pub const BLOCKS_MAX: usize = 65_536;

/// Pauses before a file that cannot be read is tried again.
const READ_AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
];

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
        let (folder, lock) = take(&dir).map_err(unusable)?;
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
        for (path, broken, remedy) in found.unknown {
            warn!(
                file = %path.display(), error = %broken, remedy,
                "store.spool: a file of an earlier run stays where it is, and is not stored"
            );
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

    /// Writes `block`, which stays in memory; when that cannot be it is told and counted.
    pub(super) fn keep(&self, block: &Block) {
        let Err(unkept) = self.keep_as(block, Kind::Block) else {
            return;
        };
        self.counts.blocks_unkept.fetch_add(1, Ordering::Relaxed);
        // That the disk does not take it is told already.
        let now = Instant::now();
        if unkept == Unkept::Full && is_due(&mut self.state().told_full, now) {
            warn!(
                remedy = "see that ClickHouse takes inserts; raise store.spool.max_bytes, and \
                          where 65,536 blocks wait batch.age_max too",
                "store.spool is full: blocks are in memory alone"
            );
        }
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
        if self.config.fsync == SpoolFsync::Interval {
            self.state().unsynced.push(number);
        }
        self.counts.blocks_spooled.fetch_add(1, Ordering::Relaxed);
        self.publish();
        Ok(())
    }

    fn tell_unwritten(&self, path: &Path, bytes: u64, error: &io::Error) {
        if is_due(&mut self.state().told_unwritten, Instant::now()) {
            let file = path.display();
            error!(
                %file, bytes, %error,
                remedy = "make room on the disk, or let the collector's user write there; until \
                          then blocks wait in memory alone",
                "store.spool: a block cannot be written"
            );
        }
    }

    fn tell_unsynced(&self, path: &Path, error: &io::Error) {
        if is_due(&mut self.state().told_unsynced, Instant::now()) {
            error!(
                file = %path.display(), %error,
                remedy = "look at the disk that it is on",
                "store.spool: what is written cannot be synced; it may not outlast a loss of power"
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

    /// The block whose turn it is, of those that are on the disk alone: one that an earlier process
    /// sent as long as there are any, else none while one is under way.
    pub(super) fn take(&self) -> Option<u64> {
        self.state().take()
    }

    /// True while blocks that an earlier process sent are not under way: nothing else is sent
    /// before them, so that ClickHouse still knows their tokens.
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

    /// Reads a block that was taken; one that is damaged is set aside, and its rows are lost. So
    /// are those of one that cannot be read at several tries, which stays for the next start.
    pub(super) fn read(&self, number: u64) -> Option<Block> {
        let (path, rows) = {
            let state = self.state();
            let held = state.held(number)?;
            (held.kind.path(&self.folder, number), held.rows)
        };
        let mut outcome = read_block(&path, number);
        for pause in READ_AGAIN {
            if !matches!(&outcome, Err(broken) if broken.may_pass()) {
                break;
            }
            std::thread::sleep(pause);
            outcome = read_block(&path, number);
        }
        match outcome {
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

    /// Gives up a file whose rows were waiting; sets it aside when it is damaged.
    fn give_up(&self, path: &Path, broken: &Broken, rows: u64) {
        let counts = &self.counts;
        counts.spool_files_broken.fetch_add(1, Ordering::Relaxed);
        counts.lost_from(Place::Disk, DropReason::SpoolBroken, rows);
        let set_aside = match broken.remedy() {
            Some(_) => "no (it is tried again at the next start)".to_owned(),
            None => self.quarantine.set_aside(path),
        };
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
                        self.tell_unsynced(&path, &error);
                    }
                }
            }
        }
        // Removals, too: a file that comes back would be stored again.
        if std::mem::take(&mut self.state().is_removed) || is_any {
            let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
            if let Err(error) = synced {
                self.tell_unsynced(&self.folder, &error);
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
            if self.on_disk(Self::sync).await.is_none() {
                return; // the runtime ends
            }
        }
    }

    /// Does `work` where it may wait for the disk; `None` when the runtime ends before it began.
    pub(super) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let spool = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&spool)).await.ok()
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_never_synced_is_not_remembered_for_it() {
        for (fsync, remembered) in [
            (SpoolFsync::Never, 0),
            (SpoolFsync::Interval, 1),
            (SpoolFsync::Always, 0),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut config = config::Store::default();
            config.spool.dir = folder.path().to_owned();
            config.spool.fsync = fsync;
            let spool = Spool::open(&config, Arc::default()).unwrap().unwrap();
            spool.keep(&Block {
                token: "00ff-1".into(),
                number: 1,
                rows: 1,
                native_bytes: 1,
                compressed: Bytes::from_static(b"bytes"),
                columns: Cow::Borrowed("time_received"),
                room: None,
            });
            assert!(spool.state().has(1));
            assert_eq!(spool.state().unsynced.len(), remembered, "{fsync:?}");
        }
    }
}
