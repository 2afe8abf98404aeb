//! What exporters have told of themselves, over a restart.
//!
//! In: what the workers share. Out: a file, written when something changed, at most once in
//! [`SAVE_EVERY`], and at the stop; read before the first datagram. So data are decoded at once,
//! not only when exporters have sent their templates again. Owner: a thread of its own; no worker
//! waits for a disk. Nothing here can keep the collector from running: what goes wrong is told in
//! the log, and the collector learns anew.

mod document;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::{info, warn};

use super::{Shared, Wanted};
use crate::config;
use crate::folder::{self, FILE_MODE, set_aside, write_whole};
use crate::names::NAMES_MAX;
use crate::units::UnixNanos;
use document::{Bounds, Document, SavedDomain, VERSION, Versioned};

pub use document::Taken;

/// The file's name in `decode.state_dir`.
pub const FILE: &str = "exporters.json";
/// A change is written at most so long after the one before it.
pub const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Written so often at least: when templates were used last changes without a word.
const SAVE_ALWAYS: Duration = Duration::from_secs(3600);
/// How often to look whether something changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a file that is read: its templates in hexadecimal digits, and what stands around them.
const BYTES_A_TEMPLATE: u64 = 4 << 10;
const BYTES_AN_EXPORTER: u64 = 16 << 10;
const BYTES_A_NAME: u64 = 1 << 10;

/// Why a file is of no use.
#[derive(Debug, Error)]
pub enum Unusable {
    /// By the operating system.
    #[error("it cannot be read ({0})")]
    Unreadable(io::Error),
    /// More than so many bytes.
    #[error("it is longer than {0} bytes, which is more than the limits of decode allow")]
    TooLong(u64),
    /// No JSON, or not with the fields of a document.
    #[error("it is not what this program writes ({})", printable(.0))]
    NotOurs(#[from] serde_json::Error),
    /// Another one than is known here.
    #[error("it is of version {0}, and this program knows {VERSION} only")]
    Version(u32),
}

/// The file, for as long as this value lives in the hands of this process alone.
#[derive(Debug)]
struct StateFile {
    folder: PathBuf,
    /// Held while the folder is used. It has a byte in it while the file is final and unread: that
    /// can be taken away even where the disk is full and the file cannot be written.
    lock: File,
}

/// Keeps the file, until it is stopped.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    file: StateFile,
    /// [`epochs`] of what the file knows.
    epochs: (u64, u64),
    /// The last attempt to write failed, and that was told.
    is_failing: bool,
}

/// A [`Keeper`] at work.
#[derive(Debug)]
pub struct Keeping {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// The folder, which is this process's alone as long as the keeper lives.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.file.folder
    }

    /// Tells `shared` what the file of `decode.state_dir` knows. `None` when there is to be none,
    /// or there can be none, which is told.
    #[must_use]
    pub fn open(config: &config::Decode, shared: &Arc<Shared>, now: UnixNanos) -> Option<Self> {
        let folder = &config.state_dir;
        if folder.as_os_str().is_empty() {
            return None;
        }
        let file = match StateFile::open(folder) {
            Ok(file) => file,
            Err(error) => {
                warn!(
                    state_dir = %folder.display(),
                    %error,
                    remedy = "let the collector's user write there, or name another folder; \"\" \
                              does without",
                    "what exporters tell will not outlast a restart: decode.state_dir cannot be \
                     used"
                );
                return None;
            }
        };
        let is_known = file.read(config, shared, now);
        let mut keeper = Self {
            shared: Arc::clone(shared),
            file,
            epochs: epochs(shared),
            is_failing: false,
        };
        if is_known {
            // From here on something is received that a final document does not know.
            keeper.save(false);
        }
        Some(keeper)
    }

    /// Starts writing, in a thread of its own.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn keep(mut self) -> io::Result<Keeping> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("state".into()).spawn(move || {
            // The first change is written at once.
            let (mut tried, mut is_first) = (Instant::now(), true);
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let is_new = epochs(&self.shared) != self.epochs;
                let may_be = is_first || tried.elapsed() >= SAVE_EVERY;
                if (is_new && may_be) || tried.elapsed() >= SAVE_ALWAYS {
                    (tried, is_first) = (Instant::now(), false);
                    self.save(false);
                }
            }
            self.save(true);
        })?;
        Ok(Keeping { stop, thread })
    }

    fn save(&mut self, is_final: bool) {
        // What changes while it is written is written again.
        let epochs = epochs(&self.shared);
        let now = UnixNanos::now();
        let outcome = self.file.write(&self.shared, now, is_final);
        let file = self.file.path(FILE);
        match &outcome {
            Err(error) if !self.is_failing => warn!(
                file = %file.display(),
                %error,
                remedy = "make room on the disk, or let the collector's user write there",
                "what exporters told cannot be written"
            ),
            Ok(()) if self.is_failing => info!(file = %file.display(), "written again"),
            _ => {}
        }
        self.is_failing = outcome.is_err();
        if !self.is_failing {
            self.epochs = epochs;
        }
    }
}

impl Keeping {
    /// Writes once more and ends. The workers have ended before.
    pub fn stop(self) {
        drop(self.stop);
        // One that panicked has ended the process (panic = "abort").
        let _ = self.thread.join();
    }
}

impl StateFile {
    fn open(folder: &Path) -> io::Result<Self> {
        let (folder, lock) = folder::take(folder)?;
        Ok(Self { folder, lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, shared: &Shared, now: UnixNanos, is_final: bool) -> io::Result<()> {
        write_whole(&self.path(FILE), FILE_MODE, true, |to| {
            write_document(&mut *to, shared, now, is_final)?;
            to.write_all(b"\n")
        })?;
        if is_final {
            (&self.lock).write_all(b"f")?;
            self.lock.sync_all()?;
        }
        Ok(())
    }

    /// Tells `shared` what the file knows, or sets it aside. True when there was one of use.
    fn read(&self, config: &config::Decode, shared: &Shared, now: UnixNanos) -> bool {
        let path = self.path(FILE);
        // From here on something is received that a final file does not know.
        let is_final =
            self.lock.metadata().is_ok_and(|lock| lock.len() > 0) && self.lock.set_len(0).is_ok();
        let outcome = restore(&path, config, shared, now, is_final);
        let is_known = matches!(outcome, Ok(Some(_)));
        match outcome {
            Ok(None) => {}
            Ok(Some(taken)) => info!(
                file = %path.display(),
                exporters = taken.domains,
                templates = taken.templates,
                templates_left_out = taken.left_out,
                "what exporters told before the start is known"
            ),
            Err(error) => {
                let set_aside = set_aside(&path);
                warn!(
                    file = %path.display(),
                    %error,
                    set_aside,
                    "what exporters told before the start is not known: the file is of no use"
                );
            }
        }
        is_known
    }
}

/// Errors repeat words of the file, which may have anything in them.
fn printable(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.replace(char::is_control, "\u{fffd}")
}

/// They move on when domains teach something, and when names do.
fn epochs(shared: &Shared) -> (u64, u64) {
    (shared.epoch(), shared.names.epoch())
}

/// Writes what a file knows once `shared` is kept: all that is in it.
///
/// # Errors
/// Those of `writer`.
pub fn write_document(
    writer: impl io::Write,
    shared: &Shared,
    now: UnixNanos,
    is_final: bool,
) -> io::Result<()> {
    Ok(serde_json::to_writer(
        writer,
        &Document::of(shared, now, is_final),
    )?)
}

/// Tells `shared` what a document knows that was written before: all of it as far as the limits of
/// `config` allow, or nothing. `is_final` says that nothing was received since it was written, as
/// far as anybody but the document knows.
///
/// # Errors
/// When the bytes are no document of this version; then `shared` knows what it knew.
pub fn read_document(
    bytes: &[u8],
    config: &config::Decode,
    shared: &Shared,
    now: UnixNanos,
    is_final: bool,
) -> Result<Taken, Unusable> {
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let document: Document<Vec<SavedDomain>> = serde_json::from_slice(bytes)?;
    let bounds = Bounds {
        exporters: config.exporters_max,
        templates: config.templates_max,
        templates_of_one: config.templates_per_exporter_max,
        lifetime_s: u32::try_from(config.template_lifetime.as_secs()).unwrap_or(u32::MAX),
        wanted: Wanted::of(&config.extra),
        is_exact: is_final && document.is_final,
    };
    let mut taken = Taken::default();
    for domain in document.domains {
        domain.restore(shared, &bounds, now.seconds(), &mut taken);
    }
    shared.names.import(document.names);
    Ok(taken)
}

/// `None` when there is no file.
fn restore(
    path: &Path,
    config: &config::Decode,
    shared: &Shared,
    now: UnixNanos,
    is_final: bool,
) -> Result<Option<Taken>, Unusable> {
    let n = |count: usize| count as u64;
    let bytes_max = BYTES_AN_EXPORTER
        .saturating_mul(n(config.exporters_max))
        .saturating_add(BYTES_A_TEMPLATE.saturating_mul(n(config.templates_max)))
        .saturating_add(BYTES_A_NAME * n(NAMES_MAX));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::Unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(Unusable::Unreadable)?;
    if n(bytes.len()) > bytes_max {
        return Err(Unusable::TooLong(bytes_max));
    }
    read_document(&bytes, config, shared, now, is_final).map(Some)
}
