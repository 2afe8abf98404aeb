//! The folder: names of files, how they are written, what is there at the start.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::file::{Broken, Header, read_header};
use super::state::Held;
use crate::folder::{FILE_MODE, write_whole};

/// What a file's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A block that was not sent by the process that wrote it.
    Block,
    /// A block that was sent: ClickHouse may have it.
    Tried,
    /// A file that is of no use, in the quarantine.
    Broken,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Block, Self::Tried, Self::Broken];

    /// The end of the name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Tried => "tried",
            Self::Broken => "broken",
        }
    }

    /// The file of block `number` in `folder`; names sort as numbers do.
    #[must_use]
    pub fn path(self, folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:020}.{}", self.extension()))
    }
}

/// What the folder holds at the start.
pub(super) struct Found {
    pub(super) whole: Vec<(u64, Held)>,
    /// With the rows that are known to be in it.
    pub(super) broken: Vec<(PathBuf, Broken, u64)>,
    /// Those that may be whole, but not for this process, with the remedy.
    pub(super) unknown: Vec<(PathBuf, Broken, &'static str)>,
    /// The highest number of all; 0 when there is none.
    pub(super) last_number: u64,
}

/// Number and kind of each file of ours in `folder`, in order; others are not looked at.
///
/// # Errors
/// When the folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<(u64, Kind, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some((number, kind)) = named(&path) {
            files.push((number, kind, path));
        }
    }
    files.sort_by_key(|(number, ..)| *number);
    Ok(files)
}

fn named(path: &Path) -> Option<(u64, Kind)> {
    let extension = path.extension()?.to_str()?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.extension() == extension)?;
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    Some((number, kind))
}

/// Looks at everything, and removes what a process had not finished writing.
pub(super) fn scan(folder: &Path) -> io::Result<Found> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(&path)?;
        }
    }
    let mut found = Found {
        whole: Vec::new(),
        broken: Vec::new(),
        unknown: Vec::new(),
        last_number: 0,
    };
    for (number, kind, path) in files(folder)? {
        found.last_number = number;
        if kind == Kind::Broken {
            continue; // somebody has put it there
        }
        match read_header(&path) {
            Ok((Header { rows, .. }, None)) => {
                let bytes = fs::metadata(&path)?.len();
                found.whole.push((number, Held { rows, bytes, kind }));
            }
            Ok((Header { rows, .. }, Some(broken))) => found.broken.push((path, broken, rows)),
            Err(broken) => match broken.remedy() {
                Some(remedy) => found.unknown.push((path, broken, remedy)),
                // Nobody knows how many rows it had.
                None => found.broken.push((path, broken, 0)),
            },
        }
    }
    Ok(found)
}

/// Writes a file that was not there, whole or not at all; with `is_synced` it is on the disk
/// afterwards.
pub(super) fn write(path: &Path, parts: &[&[u8]], is_synced: bool) -> io::Result<()> {
    let written = write_whole(path, FILE_MODE, is_synced, |to| {
        parts.iter().try_for_each(|part| to.write_all(part))
    });
    if written.is_err() {
        // It may be there, and only its folder not synced: whoever is told that it failed keeps
        // the block, which must not come back beside that.
        let _ = fs::remove_file(path);
    }
    written
}

/// Sees to it that the bytes of a file outlast a loss of power.
pub(super) fn sync_if_there(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|file| file.sync_data()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_folder_cannot_be_synced_does_not_come_back() {
        // The folder of a bare name has no name, and so cannot be opened.
        let name = format!("of-test-{}.block", std::process::id());
        let path = Path::new(&name);
        assert!(write(path, &[b"some", b"bytes"], true).is_err());
        let is_there = fs::remove_file(path).is_ok();
        assert!(!is_there, "it failed, so the block is kept elsewhere");
    }
}
