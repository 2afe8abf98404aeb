//! Databases of places and autonomous systems: fetched, verified, and put in place whole.
//!
//! In: `[[enrich.geo.updates]]`. Out: the files that they name. Owner: `flowsluice geoip`, never
//! the collector, which sees by itself that a file is another one. The former file stays until the
//! new one is known to be a database, complete, of the same kind and not older.

mod beside;
mod facts;
mod origin;
mod unpack;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::config::GeoUpdate;

pub use facts::{Facts, day};

use beside::Beside;
use origin::Origin;

/// Most bytes of what is fetched, and of the database in it.
pub const BYTES_MAX: u64 = 2 << 30;
/// A database that shrinks to less than this part of what it was has lost something.
const SHRINK_MAX: u64 = 10;

/// What became of one database.
#[derive(Debug)]
pub enum Outcome {
    /// There is no other one at the origin.
    Unchanged,
    /// It has taken the place of what was there.
    Replaced {
        /// What was there, as far as it was a database.
        before: Option<Facts>,
        /// What is there now.
        after: Facts,
        /// Networks in it.
        networks: u64,
    },
}

/// Fetches one database and puts it in the place of `update.file`. `force` takes what is there even
/// if nothing says that it is new, and even if it is older, smaller or of another kind. `progress`
/// is told the bytes that came so far, and how many there will be if that is known.
///
/// # Errors
/// When it cannot be fetched, is no database, is not the one that its SHA-256 promises, or should
/// not replace the one that is there; `update.file` is then as it was.
pub fn update(
    update: &GeoUpdate,
    force: bool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Outcome> {
    let GeoUpdate {
        file, sha256_from, ..
    } = update;
    let before = present(file)?;
    let since = before.as_ref().filter(|_| !force);
    let since = since.map(|present| present.modified);
    let origin = Origin::of(update)?;
    let Some(opened) = origin.open(file, since)? else {
        return Ok(Outcome::Unchanged);
    };
    let mut source = Source {
        inner: opened.body,
        hash: Sha256::new(),
        bytes: 0,
        length: opened.length,
        progress,
    };
    let mut beside = Beside::create(file)?;
    let unpacked = unpack::database(&mut source, beside.file())
        // A checksum is of everything, also of what follows the database.
        .and_then(|_| io::copy(&mut source, &mut io::sink()).map_err(Into::into));
    unpacked.with_context(|| format!("{} cannot be taken", opened.name))?;
    if !sha256_from.is_empty() {
        check_sha256(&origin.sha256(sha256_from)?, &source.hash.finalize())
            .with_context(|| format!("{} is not what it should be", opened.name))?;
    }
    let (after, networks) = Facts::verify(beside.path())
        .with_context(|| format!("{} has no database that can be used", opened.name))?;
    let known = before.as_ref().and_then(|present| present.facts.as_ref());
    if let Some(known) = known {
        if *known == after && is_same(file, beside.path())? {
            return Ok(Outcome::Unchanged);
        }
        if !force {
            check_succession(known, &after)?;
        }
    }
    beside.put_in_place(opened.modified)?;
    Ok(Outcome::Replaced {
        before: before.and_then(|present| present.facts),
        after,
        networks,
    })
}

/// What is there before.
struct Present {
    modified: SystemTime,
    /// `None` when it is no database.
    facts: Option<Facts>,
}

/// `None` when there is no file.
fn present(file: &Path) -> Result<Option<Present>> {
    let metadata = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("{} cannot be read", file.display()))?,
    };
    ensure!(metadata.is_file(), "{} is no file", file.display());
    let facts = Facts::read(file).ok();
    // What is no database is replaced however new it is.
    let modified = match facts {
        Some(_) => metadata.modified()?,
        None => SystemTime::UNIX_EPOCH,
    };
    Ok(Some(Present { modified, facts }))
}

/// Refuses what an operator would not want in the place of what is there.
fn check_succession(before: &Facts, after: &Facts) -> Result<()> {
    const REMEDY: &str = "--force takes it all the same";
    if before.kind != after.kind {
        bail!(
            "it is a {}, the present file is a {}; {REMEDY}",
            after.kind,
            before.kind
        );
    }
    if after.built < before.built {
        let (after, before) = (day(after.built), day(before.built));
        bail!("it is of {after}, the present file of {before}; {REMEDY}");
    }
    if after.bytes < before.bytes / SHRINK_MAX {
        bail!(
            "it has {} bytes, the present file {}; {REMEDY}",
            after.bytes,
            before.bytes
        );
    }
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> Result<bool> {
    Ok(fs::read(a)? == fs::read(b)?)
}

/// `text` begins with the checksum, in hex; a file name may follow, as MaxMind and sha256sum write.
fn check_sha256(text: &str, found: &[u8]) -> Result<()> {
    let wanted = text.split_whitespace().next().unwrap_or_default();
    let is_hex = wanted.len() == 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(
        is_hex,
        "sha256_from yields no SHA-256 (64 hex digits) at its start"
    );
    let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        found.eq_ignore_ascii_case(wanted),
        "its SHA-256 is {found}, sha256_from says {}",
        wanted.to_ascii_lowercase()
    );
    Ok(())
}

/// What is fetched, as it comes: counted and hashed.
struct Source<'a> {
    inner: Box<dyn Read>,
    hash: Sha256,
    bytes: u64,
    length: Option<u64>,
    progress: &'a mut dyn FnMut(u64, Option<u64>),
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.hash.update(&buffer[..taken]);
        self.bytes += taken as u64;
        if self.bytes > BYTES_MAX {
            return Err(io::Error::other(unpack::TOO_LARGE));
        }
        (self.progress)(self.bytes, self.length);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
