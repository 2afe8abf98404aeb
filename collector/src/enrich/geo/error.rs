//! Why a database is not taken, and what to do.

use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use thiserror::Error;

/// Why places and autonomous systems were not loaded.
#[derive(Debug, Error)]
pub enum GeoError {
    /// The file cannot be read.
    #[error(
        "{}: {source}; give the collector's user a file that it may read, or take it out of \
         enrich.geo.databases", .file.display()
    )]
    Read {
        /// The database.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than any whose table would be allowed.
    #[error(
        "{}: larger than {}, four times enrich.geo.memory_max; raise that, or name a smaller \
         database", .file.display(), ByteSize(*.max)
    )]
    Large {
        /// The database.
        file: PathBuf,
        /// Bytes that are allowed.
        max: u64,
    },
    /// No database in MMDB form, or not the whole of one.
    #[error(
        "{}: no MMDB database, or a truncated one ({reason}); fetch it anew, unpacked, whole",
        .file.display()
    )]
    Form {
        /// The database.
        file: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A part of it contradicts another.
    #[error("{}: damaged ({reason}); fetch it anew", .file.display())]
    Damaged {
        /// The database.
        file: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// It says nothing that we ask for.
    #[error(
        "{}: says neither places nor autonomous systems (its type is {kind:?}); name a City, \
         Country or ASN database", .file.display()
    )]
    Kind {
        /// The database.
        file: PathBuf,
        /// What it calls itself.
        kind: String,
    },
    /// The table would be too large.
    #[error(
        "enrich.geo.databases: their table needs {} or more, enrich.geo.memory_max is {}; raise \
         that, or name smaller databases", ByteSize(*.bytes), ByteSize(*.max)
    )]
    Memory {
        /// Bytes that were needed when it was given up.
        bytes: u64,
        /// Bytes that are allowed.
        max: u64,
    },
}
