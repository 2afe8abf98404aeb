//! `cargo xtask engine`: the ClickHouse library that the collector embeds.
//!
//! One version, pinned by the hashes of its archive and of the library in it. Looked for in this
//! order: `--library` or FLOWSLUICE_LIBCHDB (taken as it is), `target/engine/`, the user's cache
//! folder, the npm registry. Whatever is not given by hand is hashed each time before it is used.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;
use sha2::{Digest, Sha256};

use crate::debian::{self, Program};
use crate::progress::Progress;

const PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
/// Of the package, and so of the library.
pub const VERSION: &str = "26.7.3-stable.1";
const ARCHIVE: &str = "chdb-lib-linux-x64-gnu-26.7.3-stable.1.tgz";
const ARCHIVE_BYTES: u64 = 177_817_999;
const ARCHIVE_SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
const LIBRARY_BYTES: u64 = 566_330_096;
const LIBRARY_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
/// What fetches packages of JavaScript's registry.
pub const NPM: Program = Program {
    name: "npm",
    package: "npm",
};

/// Arguments of `cargo xtask engine`.
#[derive(clap::Args)]
pub struct Args {
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
}

/// Obtains the library and prints its path.
pub fn main(args: &Args) -> Result<()> {
    println!("{}", obtain(args.library.as_deref())?.display());
    Ok(())
}

/// The library: the given one, the kept one, or a fresh one.
pub fn obtain(given: Option<&Path>) -> Result<PathBuf> {
    let from_environment = place::variable("FLOWSLUICE_LIBCHDB");
    if let Some(path) = given.map(Path::to_path_buf).or(from_environment) {
        ensure!(
            path.is_file(),
            "{}: there is no such library",
            path.display()
        );
        let path = path.canonicalize()?;
        eprintln!(
            "xtask: ClickHouse library: {}, as given; its hash is not checked",
            path.display()
        );
        return Ok(path);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "the embedded ClickHouse exists for Linux on x86_64 only; on this machine set \
             store.url to a ClickHouse server"
        );
    }
    let folder = place::target().join("engine");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let kept = folder.join("libchdb.so");
    if is_pinned(&kept)? {
        return Ok(kept);
    }
    let cached = cache_folder().map(|folder| folder.join(format!("libchdb-{VERSION}.so")));
    if let Some(cached) = cached.as_deref().filter(|path| path.is_file()) {
        if is_pinned(cached)? {
            eprintln!("xtask: ClickHouse library: taken from {}", cached.display());
            place_file(cached, &kept)?;
            return Ok(kept);
        }
        fs::remove_file(cached).with_context(|| format!("remove {}", cached.display()))?;
    }
    download(&folder, &kept)?;
    if let Some(cached) = cached
        && let Err(error) = keep(&kept, &cached)
    {
        eprintln!("xtask: not kept for other clones: {error:#}");
    }
    Ok(kept)
}

/// Is this the pinned library? A missing file is not; a file of another content is said and is not.
fn is_pinned(path: &Path) -> Result<bool> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(false);
    };
    if metadata.len() == LIBRARY_BYTES
        && sha256("verify the ClickHouse library", path)? == LIBRARY_SHA256
    {
        return Ok(true);
    }
    eprintln!(
        "xtask: {} is not the pinned library; it is replaced",
        path.display()
    );
    Ok(false)
}

/// Fetches, verifies and unpacks the archive; `kept` appears at once and whole.
fn download(folder: &Path, kept: &Path) -> Result<()> {
    let missing = debian::provide(&[NPM])?;
    ensure!(
        missing.is_empty(),
        "the ClickHouse library comes by npm; {}, or give --library",
        debian::remedy(&missing)
    );
    let work = folder.join("incoming");
    // What an interrupted attempt left.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    fetch(&work)?;
    let archive = work.join(ARCHIVE);
    let found = sha256("verify the archive", &archive)?;
    ensure!(
        found == ARCHIVE_SHA256,
        "{PACKAGE}@{VERSION} is not what was pinned: sha256 {found}, expected {ARCHIVE_SHA256}; \
         nothing was unpacked"
    );
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&work);
    tar.arg("package/libchdb.so");
    let library = work.join("package/libchdb.so");
    watch(
        "unpack the ClickHouse library",
        LIBRARY_BYTES,
        &mut tar,
        || size(&library),
    )?;
    let found = sha256("verify the ClickHouse library", &library)?;
    ensure!(
        found == LIBRARY_SHA256,
        "libchdb.so in {ARCHIVE} is not what was pinned: sha256 {found}"
    );
    fs::rename(&library, kept)?;
    fs::remove_dir_all(&work).context("remove the archive")
}

/// Lets npm put the archive into `work`. Its own cache is there too, so nothing stays elsewhere.
fn fetch(work: &Path) -> Result<()> {
    let cache = work.join("npm");
    let mut npm = Command::new("npm");
    npm.arg("pack")
        .arg(format!("{PACKAGE}@{VERSION}"))
        .args(["--silent", "--ignore-scripts", "--pack-destination"])
        .arg(work)
        .arg("--cache")
        .arg(&cache)
        .current_dir(work);
    let label = "download the ClickHouse library";
    watch(label, ARCHIVE_BYTES, &mut npm, || {
        // While it downloads, the bytes are in npm's cache; at the end it writes the archive.
        size(&work.join(ARCHIVE)).max(folder_size(&cache))
    })
}

/// Runs `command`, showing how many bytes `done` finds.
pub fn watch(
    label: &'static str,
    total: u64,
    command: &mut Command,
    done: impl Fn() -> u64,
) -> Result<()> {
    let line = crate::shell::line(command);
    eprintln!("xtask: {line}");
    let mut child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("start {line}"))?;
    let mut progress = Progress::new(label, total);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress.at(done());
        std::thread::sleep(Duration::from_millis(100));
    };
    ensure!(status.success(), "{line}: {status}");
    progress.done();
    Ok(())
}

/// The SHA-256 of a file, in hex.
pub fn sha256(label: &'static str, path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut progress = Progress::new(label, file.metadata()?.len());
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        done += read as u64;
        progress.at(done);
    }
    progress.done();
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}

/// `$XDG_CACHE_HOME/flowsluice` or `~/.cache/flowsluice`.
fn cache_folder() -> Option<PathBuf> {
    let cache = place::variable("XDG_CACHE_HOME");
    let cache = cache.or_else(|| Some(place::variable("HOME")?.join(".cache")));
    Some(cache?.join("flowsluice"))
}

fn keep(library: &Path, cached: &Path) -> Result<()> {
    let folder = cached.parent().context("the cache folder has a name")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    place_file(library, cached)
}

/// Makes `to` the same file as `from`: a hard link, or a copy on another file system. It appears
/// whole: made under another name first.
fn place_file(from: &Path, to: &Path) -> Result<()> {
    let incoming = to.with_extension(format!("incoming-{}", std::process::id()));
    let _ = fs::remove_file(&incoming);
    fs::hard_link(from, &incoming)
        .or_else(|_| fs::copy(from, &incoming).map(|_| ()))
        .and_then(|()| fs::rename(&incoming, to))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    // rename(2) of two links to one file does nothing and leaves both.
    let _ = fs::remove_file(&incoming);
    Ok(())
}

/// Bytes of a file; 0 where there is none.
pub fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Bytes of all files in a folder.
pub fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => folder_size(&entry.path()),
            Ok(_) => size(&entry.path()),
            Err(_) => 0,
        })
        .sum()
}
