//! maxminddb's reader of the same databases.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use flowsluice::flow::Address;
use maxminddb::Reader;
use serde::Deserialize;

/// A City database by family, and one of autonomous systems.
pub struct Peer {
    city_v4: Reader<Vec<u8>>,
    city_v6: Reader<Vec<u8>>,
    systems: Reader<Vec<u8>>,
}

/// The fields that ours keeps, as DB-IP's schema has them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[allow(dead_code, reason = "they are decoded, as ours are")]
pub struct Found<'a> {
    #[serde(borrow, default)]
    country_code: &'a str,
    #[serde(borrow, default)]
    state1: &'a str,
    #[serde(borrow, default)]
    city: &'a str,
    #[serde(default)]
    latitude: f32,
    #[serde(default)]
    longitude: f32,
    /// Number of the autonomous system.
    #[serde(default)]
    pub as_number: u32,
}

impl Found<'_> {
    /// DB-IP writes ZZ for what is in no country.
    pub fn country_or_none(&self) -> &str {
        if self.country_code == "ZZ" {
            ""
        } else {
            self.country_code
        }
    }
}

#[derive(Deserialize)]
struct System {
    autonomous_system_number: u32,
}

impl Peer {
    /// Reads the files of [`super::databases::all`].
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        let read = |at: usize| {
            let file = files.get(at).context("three databases")?;
            Reader::open_readfile(file).with_context(|| format!("read {}", file.display()))
        };
        Ok(Self {
            city_v4: read(0)?,
            city_v6: read(1)?,
            systems: read(2)?,
        })
    }

    /// What both databases say.
    ///
    /// # Errors
    /// When they are damaged.
    pub fn look_up(&self, address: Address) -> Result<Found<'_>> {
        let ip = address.to_ip();
        let city = match ip {
            IpAddr::V4(_) => &self.city_v4,
            IpAddr::V6(_) => &self.city_v6,
        };
        let mut found: Found<'_> = city.lookup(ip)?.decode()?.unwrap_or_default();
        let system: Option<System> = self.systems.lookup(ip)?.decode()?;
        found.as_number = system.map_or(0, |system| system.autonomous_system_number);
        Ok(found)
    }
}
