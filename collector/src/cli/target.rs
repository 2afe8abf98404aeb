//! Where a command writes to: standard output, or a file that is there only when it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

/// What to write to, as the command line says it.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// The option that says it, for messages.
    pub option: &'static str,
    /// `-` is standard output, which takes anything but a terminal that people should not read it
    /// from.
    pub path: &'a Path,
    pub may_replace: bool,
    pub is_text: bool,
    /// Permissions of the file; the umask takes from them.
    pub mode: u32,
}

/// Where bytes are written.
pub enum Target {
    Stdout(&'static str, BufWriter<StdoutLock<'static>>),
    File(Partial),
}

/// A file under another name until it is whole; removed when it does not become so.
pub struct Partial {
    option: &'static str,
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    may_replace: bool,
}

impl Target {
    pub fn open(named: Named<'_>) -> anyhow::Result<Self> {
        let option = named.option;
        if named.path == Path::new("-") {
            let out = io::stdout();
            if !named.is_text && out.is_terminal() {
                bail!("{option}: this format is not for a terminal; name a file, or a pipe");
            }
            return Ok(Self::Stdout(option, BufWriter::new(out.lock())));
        }
        Partial::open(named).map(Self::File)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(_, out) => out
                .write_all(bytes)
                .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}"))),
            Self::File(partial) => partial.file.write_all(bytes).map_err(|error| {
                let path = partial.path.display();
                io::Error::new(error.kind(), format!("{path} cannot be written ({error})"))
            }),
        }
    }

    /// Says what is left of what failed after so many bytes.
    pub fn undone(&self, error: anyhow::Error, bytes: u64) -> anyhow::Error {
        match self {
            Self::Stdout(..) if bytes == 0 => error,
            Self::Stdout(option, _) => {
                error.context(format!("{option}: what was written is not whole"))
            }
            Self::File(Partial { option, path, .. }) => {
                error.context(format!("{option}: {} is not written", path.display()))
            }
        }
    }

    /// Everything was written. Yields the file, if it is one.
    pub fn keep(self) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Stdout(option, mut out) => {
                out.flush()
                    .with_context(|| format!("{option}: standard output"))?;
                Ok(None)
            }
            Self::File(partial) => partial.keep().map(Some),
        }
    }
}

impl Partial {
    fn open(named: Named<'_>) -> anyhow::Result<Self> {
        let Named {
            option,
            path,
            may_replace,
            is_text: _,
            mode,
        } = named;
        match path.metadata() {
            Ok(found) if !found.is_file() => bail!(
                "{option}: {} is no file; name another, or write to - and redirect that",
                path.display()
            ),
            Ok(_) if !may_replace => bail!("{}", exists(option, path)),
            _ => {}
        }
        let Some(name) = path.file_name() else {
            bail!("{option}: {} names no file", path.display());
        };
        // Beside it, so that it can be renamed.
        let name = format!(".{}.{}.partial", name.display(), std::process::id());
        let partial = path.with_file_name(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(mode);
        let file = file.open(&partial).with_context(|| {
            let folder = folder(path).display();
            format!("{option}: cannot write in the folder {folder}")
        })?;
        Ok(Self {
            option,
            path: path.to_owned(),
            partial,
            file: BufWriter::new(file),
            may_replace,
        })
    }

    fn keep(mut self) -> anyhow::Result<PathBuf> {
        let written = self.file.flush();
        let written = written.and_then(|()| self.file.get_ref().sync_all());
        let (option, path) = (self.option, self.path.clone());
        written.with_context(|| format!("{option}: {} cannot be written", path.display()))?;
        let placed = match self.may_replace {
            true => std::fs::rename(&self.partial, &path),
            false => self.place(),
        };
        match placed {
            Ok(()) => {
                let synced = sync_folder(&path);
                let shown = path.display();
                synced.with_context(|| {
                    format!("{option}: {shown} is whole, its folder not synced")
                })?;
                Ok(path)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{}", exists(option, &path))
            }
            Err(error) => Err(error).with_context(|| format!("{option}: {}", path.display())),
        }
    }

    /// Gives it its name, and replaces nothing that came in between.
    fn place(&self) -> io::Result<()> {
        let Self { path, partial, .. } = self;
        match renameat_with(CWD, partial, CWD, path, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            outcome => return Ok(outcome?),
        }
        // This file system renames only so that it replaces.
        match linkat(CWD, partial, CWD, path, AtFlags::empty()) {
            // Nor has it links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => std::fs::rename(partial, path),
            outcome => Ok(outcome?),
        }
    }
}

/// Sees to it that the name outlasts a loss of power, where the folder may be opened and synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied};
    match File::open(folder(path)).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied) => Ok(()),
        outcome => outcome,
    }
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has no such name any more when it was renamed.
        let _ = std::fs::remove_file(&self.partial);
    }
}

#[cold]
fn exists(option: &'static str, path: &Path) -> String {
    let path = path.display();
    format!("{option}: {path} exists; name another file, or add --force to replace it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, may_replace: bool) -> anyhow::Result<Target> {
        Target::open(Named {
            option: "--output",
            path,
            may_replace,
            is_text: true,
            mode: 0o666,
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let mut target = open(&path, false).unwrap();
        target.write(b"1,2\n").unwrap();
        assert!(!path.exists());
        assert_eq!(target.keep().unwrap().as_ref(), Some(&path));
        assert_eq!(std::fs::read(&path).unwrap(), b"1,2\n");
        assert_eq!(names(folder.path()), ["flows.csv"]);
    }

    #[test]
    fn nothing_is_left_of_one_that_does_not_become_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let mut target = open(&path, false).unwrap();
        target.write(&[b'x'; 1 << 20]).unwrap();
        drop(target);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_file_is_replaced_only_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        std::fs::write(&path, "old").unwrap();
        let Err(error) = open(&path, false) else {
            panic!("it would replace {}", path.display());
        };
        assert!(error.to_string().contains("add --force"), "{error}");
        let mut target = open(&path, true).unwrap();
        target.write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "until it is whole");
        target.keep().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["flows.csv"]);
    }

    #[test]
    fn a_file_that_came_in_between_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let target = open(&path, false).unwrap();
        std::fs::write(&path, "another's").unwrap();
        let error = target.keep().unwrap_err();
        assert!(error.to_string().contains("exists"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    }

    #[test]
    fn a_fault_of_the_folder_is_told_and_not_worked_around() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        let mut target = open(&path, false).unwrap();
        target.write(b"new").unwrap();
        let [name] = &names(folder.path())[..] else {
            panic!("one file");
        };
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let error = format!("{:#}", target.keep().unwrap_err());
        assert!(error.contains("No such file"), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        for path in ["/dev/null", "/"] {
            let Err(error) = open(Path::new(path), true) else {
                panic!("it would replace {path}");
            };
            assert!(error.to_string().contains("is no file"), "{error}");
        }
    }
}
