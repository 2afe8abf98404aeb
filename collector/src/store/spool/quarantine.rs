//! Blocks that ClickHouse refused for good, and files that cannot be read.
//!
//! They are lost and counted; what is here is for whoever mends the reason and tries again
//! (`flowsluice spool`). Bounded by `store.spool.quarantine_max`: what comes when it is full is not
//! kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::file::{self, Refusal};
use super::folder::{self, Kind};
use crate::config;
use crate::folder::{FOLDER_MODE, make};
use crate::store::Block;
use crate::store::insert::InsertError;
use crate::units::UnixNanos;

/// Its name in the spool's folder.
pub const FOLDER: &str = "quarantine";

/// The folder of a running collector. The command may take files away at any time.
#[derive(Debug)]
pub(super) struct Quarantine {
    folder: PathBuf,
    bytes_max: u64,
    last_number: u64,
    /// Bytes when it was looked at last.
    bytes: Mutex<u64>,
}

impl Quarantine {
    pub(super) fn open(spool: &Path, config: &config::Spool) -> io::Result<Self> {
        let folder = spool.join(FOLDER);
        make(&folder, FOLDER_MODE)?;
        let last = folder::files(&folder)?.last().map(|(number, ..)| *number);
        let quarantine = Self {
            folder,
            bytes_max: config.quarantine_max.as_u64(),
            last_number: last.unwrap_or(0),
            bytes: Mutex::new(0),
        };
        quarantine.look()?;
        Ok(quarantine)
    }

    /// The highest number of a file here; 0 when there is none.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Writes `block` with the reason in its header.
    pub(super) fn keep(
        &self,
        block: &Block,
        schema: u32,
        error: &InsertError,
    ) -> io::Result<PathBuf> {
        let refusal = Refusal {
            error: error.message.clone(),
            code: error.code,
            at_s: UnixNanos::now().seconds(),
        };
        let head = file::head(block, schema, Some(refusal));
        self.has_room((head.len() + block.compressed.len()) as u64)?;
        let path = Kind::Block.path(&self.folder, block.number);
        // Nothing waits for it, and a person will look at it.
        folder::write(&path, &[&head, &block.compressed], true)?;
        self.look()?;
        Ok(path)
    }

    /// Moves a file here that is of no use, or removes it when there is no room; says which.
    pub(super) fn set_aside(&self, path: &Path) -> String {
        let name = path.with_extension(Kind::Broken.extension());
        let aside = self.folder.join(name.file_name().unwrap_or_default());
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let outcome = match self.has_room(bytes) {
            Ok(()) => fs::rename(path, &aside).map(|()| aside.display().to_string()),
            Err(full) if full.kind() == io::ErrorKind::QuotaExceeded => fs::remove_file(path)
                .map(|()| "removed: store.spool.quarantine_max is reached".to_owned()),
            Err(error) => Err(error),
        };
        // The figure is as old as the last time when the folder cannot be read.
        let _ = self.look();
        outcome.unwrap_or_else(|error| format!("no ({error})"))
    }

    /// Bytes of all that is kept.
    pub(super) fn bytes(&self) -> u64 {
        *self
            .bytes
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    fn has_room(&self, bytes: u64) -> io::Result<()> {
        if self.look()? + bytes <= self.bytes_max {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "store.spool.quarantine_max is reached; try again or drop what is there",
        ))
    }

    fn look(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for (.., path) in folder::files(&self.folder)? {
            // One may be taken away just now.
            bytes += fs::metadata(path).map_or(0, |metadata| metadata.len());
        }
        *self
            .bytes
            .lock()
            .expect("nothing panics while it holds the lock") = bytes;
        Ok(bytes)
    }
}
