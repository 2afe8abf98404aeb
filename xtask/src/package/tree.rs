//! The files of a package, as they will lie on the host.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{engine, shell};

/// A folder with the files of one package, and nothing else.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one in place of what was there.
    pub fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
        }
        make_folders(&root)?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the host in it; its folder is made.
    pub fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.root.join(path.trim_start_matches('/'));
        make_folders(place.parent().unwrap_or(&self.root))?;
        Ok(place)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let place = self.place(path)?;
        fs::write(&place, text).with_context(|| format!("write {}", place.display()))?;
        set_mode(&place, 0o644)
    }

    pub fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let place = self.place(path)?;
        let copied = fs::copy(from, &place);
        copied.with_context(|| format!("copy {} to {}", from.display(), place.display()))?;
        set_mode(&place, mode)
    }

    /// Copies all that is in a folder.
    pub fn copy_folder(&self, from: &Path, path: &str) -> Result<()> {
        let entries = fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let to = format!("{path}/{}", name.to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => self.copy_folder(&entry.path(), &to)?,
                false => self.copy(&entry.path(), &to, 0o644)?,
            }
        }
        Ok(())
    }

    /// Puts file.gz in place of the file.
    pub fn compress(&self, path: &str) -> Result<()> {
        let mut gzip = Command::new("gzip");
        shell::run(gzip.args(["-9", "-n", "-f"]).arg(self.place(path)?))
    }

    /// Every file in it, as the host names it, in order.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(format!("/{}", path.strip_prefix(&self.root)?.display()));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// What it takes of the disk, in KiB.
    pub fn kib(&self) -> u64 {
        engine::folder_size(&self.root).div_ceil(1024)
    }
}

pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.with_context(|| format!("set the mode of {}", path.display()))
}

/// Makes a folder and those above it, for everybody to look into whatever the umask is.
fn make_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
    set_mode(folder, 0o755)
}
