//! A file that is made beside another one and then takes its place at once.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// What others may do with a file that was not there before: the collector runs as another user.
const MODE: u32 = 0o644;

/// Removed again unless it is put in place.
pub(super) struct Beside {
    target: PathBuf,
    path: PathBuf,
    file: File,
    is_placed: bool,
}

impl Beside {
    /// Makes `.NAME.new` in the folder of `target`, which is made when it is not there. Nobody else
    /// has it: a lock says so, which ends with its process.
    pub(super) fn create(target: &Path) -> Result<Self> {
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            bail!("{} names no file", target.display());
        };
        fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        let path = folder.join(format!(".{}.new", name.display()));
        let unwritable = || {
            format!(
                "{} cannot be written; this user must be able to write in the folder",
                path.display()
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .with_context(unwritable)?;
        let busy = || format!("{} is being updated by another process", target.display());
        file.try_lock().with_context(busy)?;
        // Whoever had the lock may have put the file in place in the meantime.
        let (ours, named) = (file.metadata()?, fs::metadata(&path).with_context(busy)?);
        if ours.ino() != named.ino() || ours.dev() != named.dev() {
            bail!(busy());
        }
        file.set_len(0).with_context(unwritable)?;
        Ok(Self {
            target: target.to_owned(),
            path,
            file,
            is_placed: false,
        })
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in the place of the target, with the owner and mode that the target has. `modified`
    /// becomes its time: what the origin is asked about the next time.
    pub(super) fn put_in_place(mut self, modified: Option<SystemTime>) -> Result<()> {
        self.place(modified)
            .with_context(|| format!("{} cannot be replaced", self.target.display()))
    }

    fn place(&mut self, modified: Option<SystemTime>) -> io::Result<()> {
        let Self {
            target, path, file, ..
        } = self;
        let mut mode = MODE;
        if let Ok(former) = fs::metadata(&*target) {
            mode = former.mode() & 0o777;
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
                // Only root may; what others write is theirs.
                let _ = fchown(&*file, Some(former.uid()), Some(former.gid()));
            }
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        if let Some(modified) = modified {
            file.set_modified(modified)?;
        }
        file.sync_all()?;
        fs::rename(&*path, &*target)?;
        self.is_placed = true;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_placed {
            // What stays is used again the next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}
