//! Takes the database out of what was fetched: plain, `.gz` or `.tar.gz`, told by their contents.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use tar::Archive;

use super::BYTES_MAX;

pub(super) const TOO_LARGE: &str = "it is larger than 2 GiB";
/// RFC 1952 section 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Where POSIX's header of a tar entry says that it is one.
const TAR: (std::ops::Range<usize>, &[u8]) = (257..262, b"ustar");
/// As much as tells what it is: one header of a tar archive.
const HEAD: usize = 512;

/// Writes the one database in `source` to `sink`; returns its length.
pub(super) fn database(source: &mut dyn Read, sink: &mut dyn Write) -> Result<u64> {
    bounded_database(source, sink, BYTES_MAX)
}

fn bounded_database(source: &mut dyn Read, sink: &mut dyn Write, bytes_max: u64) -> Result<u64> {
    let (head, mut source) = peek(source)?;
    if head.starts_with(&GZIP) {
        unzipped(&mut GzDecoder::new(source), sink, bytes_max)
    } else {
        unzipped(&mut source, sink, bytes_max)
    }
}

fn unzipped(source: &mut dyn Read, sink: &mut dyn Write, bytes_max: u64) -> Result<u64> {
    let bounded = Bounded {
        inner: source,
        left: bytes_max,
    };
    let (head, mut source) = peek(bounded)?;
    if head.get(TAR.0) != Some(TAR.1) {
        return Ok(io::copy(&mut source, sink)?);
    }
    let mut found = None;
    for entry in Archive::new(source)
        .entries()
        .context("its archive is broken")?
    {
        let mut entry = entry.context("its archive is broken")?;
        let is_file = entry.header().entry_type().is_file();
        // Only what the name ends with counts; nothing is written to where it points.
        if !is_file || !entry.path_bytes().ends_with(b".mmdb") {
            continue;
        }
        if found.is_some() {
            bail!("there is more than one .mmdb in it; name an archive with one");
        }
        found = Some(io::copy(&mut entry, sink)?);
    }
    found.context("there is no .mmdb in it")
}

/// The first bytes, and the whole again.
fn peek<R: Read>(mut source: R) -> io::Result<(Vec<u8>, impl Read)> {
    let mut head = Vec::with_capacity(HEAD);
    source.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok((head.clone(), io::Cursor::new(head).chain(source)))
}

/// Fails instead of yielding more than it may: a small archive can unpack to anything.
struct Bounded<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        match self.left.checked_sub(taken as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(TOO_LARGE)),
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_small_file_that_unpacks_to_more_than_it_may_is_given_up_on() {
        let bytes = vec![0; 1 << 20];
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        let added = archive.append_data(&mut header, "city.mmdb", &bytes[..]);
        added.unwrap();
        for plain in [bytes, archive.into_inner().unwrap()] {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&plain).unwrap();
            let zipped = encoder.finish().unwrap();
            assert!(zipped.len() < 4096, "{}", zipped.len());
            let mut sink = Vec::new();
            let outcome = bounded_database(&mut &zipped[..], &mut sink, 65_536);
            let told = format!("{:#}", outcome.unwrap_err());
            assert!(told.contains(TOO_LARGE), "{told}");
            assert!(sink.len() <= 65_536, "{}", sink.len());
        }
    }
}
