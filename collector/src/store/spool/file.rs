//! One block as a file.
//!
//! Two lines of text, so that `head -n 2` tells people what a file is, then the bytes that the
//! insert sends:
//!
//! ```text
//! flowsluice-block 1 <checksum of the second line> <checksum of the rest>
//! {"token":"5f3a...-17","rows":4096,...,"columns":"time_received, flow_end, ..."}
//! <ClickHouse's compressed frames>
//! ```
//!
//! The checksums are CityHash128 as ClickHouse has it, 32 hexadecimal digits each. The columns are
//! those that the insert names: another version of the program may know more or fewer.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use bytes::Bytes;
use cityhash_rs::cityhash_102_128;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::Block;
use crate::units::UnixNanos;

/// The version of this format.
const VERSION: u32 = 1;
const MAGIC: &str = "flowsluice-block";
/// Bytes of the first line, and of the second: the columns take some 2 KiB of it.
const FIRST_MAX: u64 = 128;
const HEADER_MAX: u64 = 256 << 10;

/// What a file says of its block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Header {
    /// ClickHouse stores a block with a token that it has stored before only once.
    pub token: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of its Native blocks.
    pub native_bytes: u64,
    /// Bytes that the insert sends, and that follow the header.
    pub bytes: u64,
    /// When it was written down, in seconds since 1970-01-01 UTC.
    pub sealed_s: u32,
    /// The newest migration that the writer knew.
    pub schema: u32,
    /// The columns that the insert names.
    pub columns: String,
    /// Why ClickHouse does not take it, of a block in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// Why ClickHouse does not take a block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Refusal {
    /// What it said.
    pub error: String,
    /// Its exception code.
    pub code: Option<u32>,
    /// When, in seconds since 1970-01-01 UTC.
    pub at_s: u32,
}

/// Why a file is of no use.
#[derive(Debug, Error)]
pub enum Broken {
    /// By the operating system.
    #[error("it cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    /// Something else than this program writes.
    #[error("it is no block of the spool")]
    NotOurs,
    /// Another version than is known here.
    #[error("its format is {0}, and this program knows {VERSION} only")]
    Version(u32),
    /// Other bytes than were written.
    #[error("the checksum of its {0} is wrong")]
    Checksum(&'static str),
    /// Bytes are missing, or there are too many.
    #[error("it has {found} bytes of {wanted}")]
    Length {
        /// Behind the header.
        found: u64,
        /// As the header says.
        wanted: u64,
    },
}

impl Broken {
    /// What may make the file of use again; `None` when its bytes are not what was written.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            // There is nothing to be read any more.
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => None,
            Self::Unreadable(_) => Some("let the collector's user read it"),
            Self::Version(_) => Some("start a version that knows it"),
            Self::NotOurs | Self::Checksum(_) | Self::Length { .. } => None,
        }
    }

    /// True when it may be read a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreadable(_)) && self.remedy().is_some()
    }
}

/// The two lines in front of the bytes of `block`.
pub(super) fn head(block: &Block, schema: u32, refused: Option<Refusal>) -> Vec<u8> {
    let header = Header {
        token: block.token.clone(),
        rows: block.rows,
        native_bytes: block.native_bytes,
        bytes: block.compressed.len() as u64,
        sealed_s: UnixNanos::now().seconds(),
        schema,
        columns: block.columns.clone().into_owned(),
        refused,
    };
    let header = serde_json::to_string(&header).expect("a header is plain fields");
    let [of_header, of_body] = [header.as_bytes(), &block.compressed].map(cityhash_102_128);
    format!("{MAGIC} {VERSION} {of_header:032x} {of_body:032x}\n{header}\n").into_bytes()
}

/// The header of the file at `path`, and what is wrong with the length of the rest, if anything is:
/// the rows of a file that was cut can still be counted.
///
/// # Errors
/// When there is no header that can be read.
pub fn read_header(path: &Path) -> Result<(Header, Option<Broken>), Broken> {
    let open = Open::at(path)?;
    let fault = open.has_length().err();
    Ok((open.header, fault))
}

/// The block in the file at `path`, with `number` as its own.
///
/// # Errors
/// When it is not exactly what was written.
pub fn read_block(path: &Path, number: u64) -> Result<Block, Broken> {
    let mut open = Open::at(path)?;
    open.has_length()?;
    let Header {
        token,
        rows,
        native_bytes,
        columns,
        ..
    } = open.header;
    let mut bytes = Vec::with_capacity(usize::try_from(open.rest).unwrap_or(0));
    open.reader.read_to_end(&mut bytes)?;
    if cityhash_102_128(&bytes) != open.checksum {
        return Err(Broken::Checksum("rows"));
    }
    Ok(Block {
        token,
        number,
        rows,
        native_bytes,
        compressed: Bytes::from(bytes),
        columns: Cow::Owned(columns),
        room: None,
    })
}

/// A file whose header was read.
struct Open {
    reader: BufReader<File>,
    header: Header,
    /// Bytes behind the header.
    rest: u64,
    /// What their checksum should be.
    checksum: u128,
}

impl Open {
    fn at(path: &Path) -> Result<Self, Broken> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        let first = line(&mut reader, FIRST_MAX)?;
        let (of_header, checksum) = first_line(&first)?;
        let second = line(&mut reader, HEADER_MAX)?;
        if cityhash_102_128(second.as_bytes()) != of_header {
            return Err(Broken::Checksum("header"));
        }
        let header: Header = serde_json::from_str(&second).map_err(|_| Broken::NotOurs)?;
        // They become part of a statement.
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ' ');
        if !header.columns.chars().all(is_name) {
            return Err(Broken::NotOurs);
        }
        let lines = (first.len() + second.len() + 2) as u64;
        Ok(Self {
            reader,
            header,
            rest: length.saturating_sub(lines),
            checksum,
        })
    }

    fn has_length(&self) -> Result<(), Broken> {
        let (found, wanted) = (self.rest, self.header.bytes);
        if found == wanted {
            return Ok(());
        }
        Err(Broken::Length { found, wanted })
    }
}

/// One line, without its end.
fn line(reader: &mut BufReader<File>, bytes_max: u64) -> Result<String, Broken> {
    let mut line = Vec::new();
    reader.take(bytes_max).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(Broken::NotOurs);
    }
    String::from_utf8(line).map_err(|_| Broken::NotOurs)
}

/// The checksums that the first line names.
fn first_line(line: &str) -> Result<(u128, u128), Broken> {
    let words: Vec<_> = line.split(' ').collect();
    let [MAGIC, version, of_header, of_body] = words[..] else {
        return Err(Broken::NotOurs);
    };
    let version: u32 = version.parse().map_err(|_| Broken::NotOurs)?;
    if version != VERSION {
        return Err(Broken::Version(version));
    }
    let checksum = |digits| u128::from_str_radix(digits, 16).map_err(|_| Broken::NotOurs);
    Ok((checksum(of_header)?, checksum(of_body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block {
            token: "00ff-3".into(),
            number: 3,
            rows: 7,
            native_bytes: 100,
            compressed: Bytes::from_static(b"some\nbytes"),
            columns: Cow::Borrowed("time_received, flow_end"),
            room: None,
        }
    }

    fn written(change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("block");
        let mut bytes = head(&block(), 9, None);
        bytes.extend_from_slice(&block().compressed);
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn a_block_is_read_back_with_the_bytes_the_token_and_the_columns_that_it_had() {
        let (_folder, path) = written(|_| ());
        let (header, fault) = read_header(&path).unwrap();
        assert!(fault.is_none());
        assert_eq!((header.rows, header.schema, header.bytes), (7, 9, 10));
        let read = read_block(&path, 3).unwrap();
        let block = block();
        assert_eq!(
            (read.token, read.number, read.rows, read.native_bytes),
            (block.token, block.number, block.rows, block.native_bytes)
        );
        assert_eq!(read.compressed, block.compressed);
        assert_eq!(read.columns, block.columns);
    }

    #[test]
    fn every_byte_that_is_changed_or_missing_is_seen() {
        let (_folder, path) = written(|_| ());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read_block(&path, 3).is_err(), "byte {at} changed");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read_block(&path, 3).is_err(), "cut at {at}");
            let is_whole = read_header(&path).is_ok_and(|(_, fault)| fault.is_none());
            assert!(!is_whole, "cut at {at}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(read_header(&path).unwrap().1.is_some());
    }

    #[test]
    fn what_is_wrong_is_told_and_the_rows_of_a_cut_file_are_known() {
        let text = |path: &Path| read_block(path, 1).unwrap_err().to_string();
        let (_folder, path) = written(|bytes| bytes.truncate(bytes.len() - 3));
        assert_eq!(text(&path), "it has 7 bytes of 10");
        assert_eq!(read_header(&path).unwrap().0.rows, 7);
        let (_folder, path) = written(|bytes| *bytes.last_mut().unwrap() = b'S');
        assert_eq!(text(&path), "the checksum of its rows is wrong");
        let (_folder, path) = written(|bytes| bytes[17] = b'2');
        assert_eq!(
            text(&path),
            "its format is 2, and this program knows 1 only"
        );
        let (_folder, path) = written(|bytes| *bytes = b"ELF".to_vec());
        assert_eq!(text(&path), "it is no block of the spool");
    }

    #[test]
    fn columns_that_would_be_more_than_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("block");
        let forged = Block {
            columns: Cow::Borrowed("a) SELECT 1 --"),
            ..block()
        };
        let bytes = [&head(&forged, 1, None)[..], &forged.compressed].concat();
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(read_block(&path, 1), Err(Broken::NotOurs)));
    }
}
