//! Folders that are one process's alone, and files that are written whole or not at all.
//!
//! In: paths of the configuration. Out: folders, locks and files that others never see half of.
//! Owner: whoever asks; nothing is kept here. All of it may wait for a disk.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Folders and files that the owner writes and the group reads.
pub(crate) const FOLDER_MODE: u32 = 0o750;
pub(crate) const FILE_MODE: u32 = 0o640;

/// Makes the folder where it is missing and takes it for this process, as long as the file lives.
///
/// # Errors
/// When it cannot be made or written to, or another process has it.
pub(crate) fn take(dir: &Path) -> io::Result<(PathBuf, File)> {
    let folder = std::path::absolute(dir)?;
    make(&folder, FOLDER_MODE)?;
    let lock = open_lock(&folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok((folder, lock)),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another collector uses it",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Leaves a folder as it is when it exists: its owner may have his reasons.
pub(crate) fn make(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(folder)
}

/// A file to lock, with whatever is in it.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
}

/// Writes the file at `path` with `write`, whole or not at all: one that was there stays until the
/// new one is written, and with `is_synced` on the disk. Until then the new one has `.new` behind
/// its whole name, so that no two files share it, and one that a crash has left is written over.
///
/// # Errors
/// When `write` fails or the disk does not take it.
pub(crate) fn write_whole(
    path: &Path,
    mode: u32,
    is_synced: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut new = path.to_owned();
    new.as_mut_os_string().push(".new");
    let written = write_new(&new, mode, is_synced, write).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // What there is of it takes room that may be the reason.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    match path.parent() {
        Some(folder) if is_synced => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn write_new(
    new: &Path,
    mode: u32,
    is_synced: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(new)?;
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    if is_synced {
        file.sync_all()?;
    }
    Ok(())
}

/// Gives a file that is of no use another name, so that nobody loses what he might want to look at;
/// says which, or why not.
pub(crate) fn set_aside(path: &Path) -> String {
    let aside = path.with_extension("json.broken");
    match fs::rename(path, &aside) {
        Ok(()) => aside.display().to_string(),
        Err(error) => format!("no ({error})"),
    }
}
