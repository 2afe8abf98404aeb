//! Blocks in, acknowledged inserts out.

pub mod embedded;

use crate::config::Secret;

/// Where and as whom ClickHouse is spoken to; the same for a server and for the embedded engine.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Database of the tables.
    pub database: String,
    /// The user that writes and migrates.
    pub user: String,
    /// Its password.
    pub password: Secret,
}
