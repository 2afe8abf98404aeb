//! Which of the files that were read have changed since.
//!
//! Files are looked at, not followed by inotify: that misses what happens on network disks and in
//! folders that are replaced, and tens of files cost microseconds to look at.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was written to more recently may still be being written.
const FRESH: Duration = Duration::from_secs(1);

/// Files, and how each was when it was last read.
#[derive(Debug)]
pub struct Watched {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// As it was taken to be read; `None` was not there.
    taken: Option<Stamp>,
    /// As the last look found it.
    seen: Option<Stamp>,
}

/// What differs between two versions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    written_s: i64,
    written_ns: i64,
}

impl Watched {
    /// The files at `paths` as they are now; empty paths and repeated ones are left out. To be made
    /// before they are read: what happens meanwhile is then a change.
    #[must_use]
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let mut paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        paths.retain(|path| !path.as_os_str().is_empty());
        paths.sort_unstable();
        paths.dedup();
        let file = |path: PathBuf| {
            let stamp = Stamp::of(&path);
            File {
                path,
                taken: stamp,
                seen: stamp,
            }
        };
        Self {
            files: paths.into_iter().map(file).collect(),
        }
    }

    /// True when any of them is another than when it was last read, also one that may still be
    /// being written: for whoever says that it is not.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let mut files = self.files.iter();
        files.any(|file| Stamp::of(&file.path) != file.taken)
    }

    /// The files that have changed, each version once. A file that was written to within the last
    /// second, or that is gone, is told when the next look finds it unchanged: it may be about to
    /// be written or replaced.
    pub fn look(&mut self, now: SystemTime) -> Vec<&Path> {
        let files = self.files.iter_mut();
        let changed = files.filter_map(|file| file.look(now).then_some(&file.path));
        changed.map(PathBuf::as_path).collect()
    }
}

impl File {
    fn look(&mut self, now: SystemTime) -> bool {
        let Self { path, taken, seen } = self;
        let found = Stamp::of(path);
        let is_settled = *seen == found || found.is_some_and(|stamp| stamp.is_settled(now));
        *seen = found;
        let is_changed = *taken != found && is_settled;
        if is_changed {
            *taken = found;
        }
        is_changed
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::from)
    }

    /// A time in the future says nothing of when that was.
    fn is_settled(&self, now: SystemTime) -> bool {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = since_epoch.unwrap_or_default();
        let written_s = u64::try_from(self.written_s).unwrap_or_default();
        let written_ns = u32::try_from(self.written_ns).unwrap_or_default();
        let age = now.checked_sub(Duration::new(written_s, written_ns));
        age.is_some_and(|age| age > FRESH)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            written_s: metadata.mtime(),
            written_ns: metadata.mtime_nsec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Folder {
        folder: tempfile::TempDir,
        now: SystemTime,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            Self { folder, now }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// `ms` before now.
        fn write(&self, name: &str, text: &str, ms: u64) {
            fs::write(self.path(name), text).unwrap();
            let file = fs::File::options().write(true).open(self.path(name));
            let written = self.now - Duration::from_millis(ms);
            file.unwrap().set_modified(written).unwrap();
        }

        fn look(&self, watched: &mut Watched) -> Vec<PathBuf> {
            watched
                .look(self.now)
                .into_iter()
                .map(Path::to_owned)
                .collect()
        }
    }

    #[test]
    fn a_change_is_told_once() {
        let folder = Folder::new();
        folder.write("a", "1", 9000);
        folder.write("b", "1", 9000);
        let mut watched = Watched::new([folder.path("a"), folder.path("b")]);
        assert!(folder.look(&mut watched).is_empty());
        folder.write("b", "2", 5000);
        assert_eq!(folder.look(&mut watched), [folder.path("b")]);
        assert!(folder.look(&mut watched).is_empty());
    }

    #[test]
    fn a_file_that_was_just_written_is_told_when_two_looks_agree() {
        let folder = Folder::new();
        folder.write("a", "1", 9000);
        let mut watched = Watched::new([folder.path("a")]);
        for (text, ms) in [("12", 300), ("123", 200), ("1234", 100)] {
            folder.write("a", text, ms);
            assert!(folder.look(&mut watched).is_empty(), "{text}");
        }
        assert_eq!(folder.look(&mut watched), [folder.path("a")]);
        assert!(folder.look(&mut watched).is_empty());
    }

    #[test]
    fn a_file_of_tomorrow_is_told_when_two_looks_agree() {
        let mut folder = Folder::new();
        folder.write("a", "1", 0);
        folder.now -= Duration::from_secs(86_400);
        let mut watched = Watched::new([folder.path("b")]);
        fs::rename(folder.path("a"), folder.path("b")).unwrap();
        assert!(folder.look(&mut watched).is_empty());
        assert_eq!(folder.look(&mut watched), [folder.path("b")]);
    }

    #[test]
    fn a_file_that_is_gone_is_told_once_and_again_when_it_is_back() {
        let folder = Folder::new();
        folder.write("a", "1", 9000);
        let mut watched = Watched::new([folder.path("a")]);
        fs::remove_file(folder.path("a")).unwrap();
        assert!(folder.look(&mut watched).is_empty());
        assert_eq!(folder.look(&mut watched), [folder.path("a")]);
        assert!(folder.look(&mut watched).is_empty());
        folder.write("a", "1", 9000);
        assert_eq!(folder.look(&mut watched), [folder.path("a")]);
    }

    #[test]
    fn a_file_that_is_away_for_one_look_has_not_changed() {
        let folder = Folder::new();
        folder.write("a", "1", 9000);
        let mut watched = Watched::new([folder.path("a")]);
        fs::rename(folder.path("a"), folder.path("b")).unwrap();
        assert!(folder.look(&mut watched).is_empty());
        fs::rename(folder.path("b"), folder.path("a")).unwrap();
        assert!(folder.look(&mut watched).is_empty());
        assert!(folder.look(&mut watched).is_empty());
    }

    #[test]
    fn another_file_of_the_same_size_and_time_is_a_change() {
        let folder = Folder::new();
        folder.write("a", "1", 9000);
        folder.write("b", "2", 9000);
        let mut watched = Watched::new([folder.path("a")]);
        fs::rename(folder.path("b"), folder.path("a")).unwrap();
        assert_eq!(folder.look(&mut watched), [folder.path("a")]);
    }

    #[test]
    fn a_path_twice_is_one_and_an_empty_one_is_none() {
        let folder = Folder::new();
        let mut watched = Watched::new([folder.path("a"), PathBuf::new(), folder.path("a")]);
        folder.write("a", "1", 9000);
        assert_eq!(folder.look(&mut watched), [folder.path("a")]);
    }
}
