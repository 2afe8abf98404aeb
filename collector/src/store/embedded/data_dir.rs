//! The engine's folder: who may read what, passwords that outlive a restart, one engine at a time.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Published;
use super::settings::Settings;
use crate::config::Secret;
use crate::folder;

/// A folder that this process alone runs an engine in, for as long as this value lives.
#[derive(Debug)]
pub(super) struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder when it does not exist and takes it; tries until `patience` when an
    /// engine still holds it.
    pub fn open(root: &Path, patience: Instant) -> anyhow::Result<Self> {
        let root = std::path::absolute(root)
            .with_context(|| format!("store.embedded.data_dir: {}", root.display()))?;
        let lock = prepare(&root).map_err(|error| unusable(&root, &error))?;
        take(&root, &lock, patience)?;
        note_owner(&lock).map_err(|error| unusable(&root, &error))?;
        Ok(Self { root, _lock: lock })
    }

    /// Where the running engine's own configuration and log lie.
    pub fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    /// ClickHouse's `--path`.
    pub fn clickhouse(&self) -> PathBuf {
        self.root.join("clickhouse")
    }

    /// Where backups are written to and read from.
    pub fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// The user's password: generated once, then kept. An operator may write another one there.
    pub fn password(&self, user: &str, mode: u32) -> anyhow::Result<Secret> {
        let path = self.root.join(format!("{user}.password"));
        match std::fs::read_to_string(&path) {
            Ok(text) => first_line(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let password = random_hex()?;
                write(&path, mode, format!("{password}\n").as_bytes())?;
                Ok(Secret::new(password))
            }
            Err(error) => bail!("store: {} cannot be read ({error})", path.display()),
        }
    }

    /// Writes what the child reads at its start.
    pub fn write_settings(&self, settings: &Settings<'_>) -> anyhow::Result<()> {
        let engine = self.engine();
        let config = settings.config_xml();
        write(&engine.join("config.xml"), 0o600, config.as_bytes())?;
        let users = settings.users_xml();
        write(&engine.join("users.xml"), 0o600, users.as_bytes())
    }

    /// Tells other processes where the engine listens.
    pub fn publish(&self, published: &Published) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(published).context("store: endpoint.json")?;
        text.push(b'\n');
        write(&self.root.join(ENDPOINT), 0o640, &text)
    }

    /// What another process published, with `user`'s password; `None` when none runs.
    pub fn read(root: &Path, user: &str) -> anyhow::Result<Option<(Published, Secret)>> {
        let lock = match File::open(root.join(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&root.join(LOCK), &error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(unreadable(&root.join(LOCK), &error)),
        }
        let read = |name: &str| {
            let path = root.join(name);
            std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))
        };
        let published = serde_json::from_str(&read(ENDPOINT)?)
            .with_context(|| format!("store: {} is damaged", root.join(ENDPOINT).display()))?;
        let name = format!("{user}.password");
        let password = first_line(&root.join(&name), &read(&name)?)?;
        Ok(Some((published, password)))
    }
}

/// 32 hexadecimal digits from the kernel's generator.
pub(super) fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("store: /dev/urandom cannot be read")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn prepare(root: &Path) -> io::Result<File> {
    folder::make(root, folder::FOLDER_MODE)?;
    for name in ["engine", "clickhouse", "backups"] {
        folder::make(&root.join(name), 0o700)?;
    }
    folder::open_lock(&root.join(LOCK))
}

fn take(root: &Path, lock: &File, patience: Instant) -> anyhow::Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                let owner = std::fs::read_to_string(root.join(LOCK)).unwrap_or_default();
                bail!(
                    "store.embedded.data_dir: {} is in use by another collector (process {}); \
                     stop that one, or choose another folder",
                    root.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => return Err(unusable(root, &error)),
        }
    }
}

fn note_owner(mut lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

/// Replaces the file in one step, so that a reader never sees half of it.
fn write(path: &Path, mode: u32, text: &[u8]) -> anyhow::Result<()> {
    let written = folder::write_whole(path, mode, true, |to| {
        // The umask may have taken bits away, an old file may have had more.
        let permissions = Permissions::from_mode(mode);
        to.get_ref().set_permissions(permissions)?;
        to.write_all(text)
    });
    written.with_context(|| format!("store: {} cannot be written", path.display()))
}

fn first_line(path: &Path, text: &str) -> anyhow::Result<Secret> {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() || line.chars().any(char::is_control) {
        bail!(
            "store: {} holds no password; write one line of text into it, or remove it to get a \
             new one",
            path.display()
        );
    }
    Ok(Secret::new(line))
}

#[cold]
fn unusable(root: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "store.embedded.data_dir: {root} cannot be used ({error}); make it with 'install -d -m \
         750 -o USER {root}' for the user that runs the collector, or choose another folder",
        root = root.display()
    )
}

#[cold]
fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "store: {} cannot be read ({error}); ask as the user that runs the collector, or as a \
         member of the file's group",
        path.display()
    )
}

const LOCK: &str = "engine.lock";

const ENDPOINT: &str = "endpoint.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::settings::READER;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folder_and_passwords_are_not_for_everyone() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("flowsluice");
        let folder = DataDir::open(&root, Instant::now()).unwrap();
        folder.password("writer", 0o600).unwrap();
        folder.password("reader", 0o640).unwrap();
        assert_eq!(mode(&root), 0o750);
        assert_eq!(mode(&root.join("engine")), 0o700);
        assert_eq!(mode(&root.join("clickhouse")), 0o700);
        assert_eq!(mode(&root.join("backups")), 0o700);
        assert_eq!(mode(&root.join("writer.password")), 0o600);
        assert_eq!(mode(&root.join("reader.password")), 0o640);
    }

    #[test]
    fn password_outlives_the_process_and_differs_by_user() {
        let home = tempfile::tempdir().unwrap();
        let folder = DataDir::open(home.path(), Instant::now()).unwrap();
        let reader = folder.password("reader", 0o640).unwrap();
        let writer = folder.password("writer", 0o600).unwrap();
        assert_eq!(reader.reveal().len(), 32);
        assert_ne!(reader, writer);
        drop(folder);
        let folder = DataDir::open(home.path(), Instant::now()).unwrap();
        assert_eq!(folder.password("reader", 0o640).unwrap(), reader);
    }

    #[test]
    fn empty_password_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = DataDir::open(home.path(), Instant::now()).unwrap();
        std::fs::write(home.path().join("reader.password"), "\n").unwrap();
        let error = folder.password("reader", 0o640).unwrap_err();
        assert!(error.to_string().contains("holds no password"), "{error}");
    }

    #[test]
    fn second_engine_in_a_folder_is_told_who_has_it() {
        let home = tempfile::tempdir().unwrap();
        let _first = DataDir::open(home.path(), Instant::now()).unwrap();
        let error = DataDir::open(home.path(), Instant::now()).unwrap_err();
        let owner = format!(
            "in use by another collector (process {})",
            std::process::id()
        );
        assert!(error.to_string().contains(&owner), "{error}");
    }

    #[test]
    fn folder_that_cannot_be_made_says_how_to_make_it() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("below"), Instant::now()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("store.embedded.data_dir: "),
            "{message}"
        );
        assert!(message.contains("install -d"), "{message}");
    }

    #[test]
    fn folder_without_a_running_engine_publishes_nothing() {
        let home = tempfile::tempdir().unwrap();
        assert!(DataDir::read(home.path(), READER).unwrap().is_none());
        let folder = DataDir::open(home.path(), Instant::now()).unwrap();
        folder.password(READER, 0o640).unwrap();
        let published = Published {
            url: "http://127.0.0.1:1".into(),
            database: "flows".into(),
            user: READER.into(),
            pid: 1,
        };
        folder.publish(&published).unwrap();
        let (found, _) = DataDir::read(home.path(), READER)
            .unwrap()
            .expect("it runs");
        assert_eq!(found.url, published.url);
        drop(folder);
        assert!(DataDir::read(home.path(), READER).unwrap().is_none());
    }
}
