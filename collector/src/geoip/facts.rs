//! What a database says of itself, and whether it can be read to its end.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use maxminddb::{Reader, WithinOptions};
use serde::de::IgnoredAny;

/// Networks beyond which a database is no honest one; City of MaxMind has about 5 million.
const NETWORKS_MAX: u64 = 100_000_000;

/// What a database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its type, such as "GeoLite2-City".
    pub kind: String,
    /// When it was built, seconds since 1970.
    pub built: u64,
    /// 4 or 6.
    pub ip_version: u16,
    /// Languages of its names.
    pub languages: Vec<String>,
    /// Length of the file.
    pub bytes: u64,
}

impl Facts {
    /// Reads what the file says of itself.
    ///
    /// # Errors
    /// When it cannot be read or is no database in MMDB form.
    pub fn read(file: &Path) -> Result<Self> {
        Ok(Self::of(file, &open(file)?)?)
    }

    /// Reads all of its networks and what it says of them, too; returns how many they are.
    ///
    /// # Errors
    /// As [`Facts::read`], and when one of them cannot be read or there is none.
    pub fn verify(file: &Path) -> Result<(Self, u64)> {
        let reader = open(file)?;
        let facts = Self::of(file, &reader)?;
        let mut seen = HashSet::new();
        let (mut networks, mut steps) = (0, 0);
        // Leaves without data are walked, too, so that a tree that leads back to itself ends.
        let options = WithinOptions::default().include_networks_without_data();
        for found in reader.networks(options)? {
            let found = found.context("its tree is broken")?;
            steps += 1;
            ensure!(
                steps <= NETWORKS_MAX,
                "it has more than {NETWORKS_MAX} networks"
            );
            let Some(offset) = found.offset() else {
                continue;
            };
            networks += 1;
            if seen.insert(offset) {
                found
                    .decode::<IgnoredAny>()
                    .context("its data are broken")?;
            }
        }
        ensure!(networks > 0, "it has no networks");
        Ok((facts, networks))
    }

    fn of(file: &Path, reader: &Reader<Vec<u8>>) -> std::io::Result<Self> {
        let metadata = reader.metadata();
        // Both go to a terminal.
        let clean = |text: &String| text.chars().filter(|c| !c.is_control()).collect();
        Ok(Self {
            kind: clean(&metadata.database_type),
            built: metadata.build_epoch,
            ip_version: metadata.ip_version,
            languages: metadata.languages.iter().map(clean).collect(),
            bytes: file.metadata()?.len(),
        })
    }
}

fn open(file: &Path) -> Result<Reader<Vec<u8>>> {
    let bytes = fs::read(file).context("it cannot be read")?;
    Reader::from_source(bytes).map_err(|error| anyhow!("it is no database in MMDB form ({error})"))
}

/// The day of a time in seconds since 1970, UTC, for people.
#[must_use]
pub fn day(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || format!("second {seconds}"),
            |time| time.strftime("%Y-%m-%d").to_string(),
        )
}
