//! Reads the files in which operators write down what they know.
//!
//! A file is taken whole or not at all: who reads one gets all that is wrong with it, with lines
//! and remedies, and keeps what was read before. Sizes are bounded, and what stands in a file is
//! never trusted: control characters and long texts are refused, so labels can be put together and
//! shown.

mod error;
mod table;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};

pub use error::{Fault, FileError, FileErrors, quoted};
pub use table::{Column, Others, optional, parse_csv, read_csv, required};

/// Most bytes of a file.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// Most characters of a field.
pub const FIELD_CHARS_MAX: usize = 100;

/// A file that was read, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// The file.
    pub file: PathBuf,
    /// What it tells: rows, addresses, prefixes.
    pub entries: u64,
}

impl FileRead {
    /// `file` had `entries`.
    #[must_use]
    pub fn new(file: &Path, entries: u64) -> Self {
        let file = file.to_owned();
        Self { file, entries }
    }
}

/// The bytes of the file at `path`, without a byte order mark.
///
/// # Errors
/// When it is no ordinary file, cannot be read or has more than [`FILE_BYTES_MAX`] bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, FileErrors> {
    read_at_most(path, FILE_BYTES_MAX)
}

/// `bytes` of the file at `path` as text.
///
/// # Errors
/// When they are no UTF-8.
pub fn as_text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, FileErrors> {
    std::str::from_utf8(bytes).map_err(|error| {
        let until = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + until.iter().filter(|byte| **byte == b'\n').count();
        let fault = Fault::new("a character is no UTF-8", "save the file as UTF-8");
        fault.at(path, Some(line as u64)).into()
    })
}

/// The value of a field as it may become (a part of) a label.
///
/// # Errors
/// When it is longer than [`FIELD_CHARS_MAX`] or has control characters.
pub fn checked<'a>(name: &str, value: &'a str) -> Result<&'a str, Fault> {
    if value.chars().any(char::is_control) {
        let what = format!("{name}: {} has control characters", quoted(value));
        let remedy = "take them out; a text over several lines is often a quote that is not closed";
        return Err(Fault::new(what, remedy));
    }
    let count = value.chars().count();
    if count > FIELD_CHARS_MAX {
        let what = format!("{name}: {} has {count} characters", quoted(value));
        return Err(Fault::new(what, format!("at most {FIELD_CHARS_MAX}")));
    }
    Ok(value)
}

/// A text of somebody else's as it may become (a part of) a label: without control characters and
/// cut at [`FIELD_CHARS_MAX`].
#[must_use]
pub fn cleaned(text: &str) -> String {
    let harmless = text.trim().chars().filter(|c| !c.is_control());
    harmless.take(FIELD_CHARS_MAX).collect()
}

/// A prefix, or an address as the prefix of itself. Bits beyond the prefix are cleared, and IPv4 in
/// IPv6 (RFC 4291 section 2.5.5.2) is IPv4, so the same addresses are the same prefix.
///
/// # Errors
/// When `text` is neither.
pub fn prefix(name: &str, text: &str) -> Result<IpNet, Fault> {
    parse_prefix(text).ok_or_else(|| {
        let what = format!("{name}: found {}", quoted(text));
        let remedy = "allowed: an address or a prefix, such as 192.0.2.1, 192.0.2.0/24 or \
                      2001:db8::/32";
        Fault::new(what, remedy)
    })
}

/// [`prefix`] without the words.
#[must_use]
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    let prefix = match text.contains('/') {
        true => text.parse::<IpNet>().ok()?.trunc(),
        false => text.parse::<IpAddr>().ok()?.into(),
    };
    let IpNet::V6(v6) = prefix else {
        return Some(prefix);
    };
    let mapped = v6.addr().to_ipv4_mapped();
    let as_v4 = mapped.zip(v6.prefix_len().checked_sub(96));
    Some(match as_v4 {
        Some((address, len)) => Ipv4Net::new_assert(address, len).into(),
        None => prefix,
    })
}

fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileErrors> {
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "make it, or take it out of the configuration",
            std::io::ErrorKind::PermissionDenied => {
                "let the user that flowsluice runs as read it and open its folder"
            }
            _ => "see to the disk that it is on",
        };
        FileErrors::from(Fault::new(format!("cannot be read ({error})"), remedy).at(path, None))
    };
    // Before it is opened: a pipe would wait for somebody to write.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let fault = Fault::new("is no ordinary file", "name a file");
        return Err(fault.at(path, None).into());
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(failed)?.take(bytes_max + 1);
    if metadata.len() <= bytes_max {
        bytes.reserve_exact(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    if metadata.len().max(bytes.len() as u64) > bytes_max {
        let mib = bytes_max >> 20;
        let what = format!("is larger than {mib} MiB");
        let fault = Fault::new(what, "leave out what is not needed, or name several files");
        return Err(fault.at(path, None).into());
    }
    let mark = b"\xef\xbb\xbf";
    if bytes.starts_with(mark) {
        bytes.drain(..mark.len());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
