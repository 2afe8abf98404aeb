//! The files of `[enrich]`, each replaced by one of two that differ.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::mmdb::{self, Database};

/// The country that a version of the database of places knows.
pub const COUNTRIES: [&str; 2] = ["DE", "JP"];

/// A folder with a database of places, a list of networks and a threat list.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    /// Both databases: made once.
    places: [Vec<u8>; 2],
}

impl Files {
    /// Makes the folder, and all files in their first version.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(folder: PathBuf) -> Result<Self> {
        let failed = || format!("make {}", folder.display());
        std::fs::create_dir(&folder).with_context(failed)?;
        let files = Self {
            folder,
            places: [places(0), places(1)],
        };
        files.swap_places(0)?;
        files.rewrite_lists(0)?;
        Ok(files)
    }

    /// The section `[enrich]` that names them.
    #[must_use]
    pub fn config(&self) -> String {
        let [networks, threats, places] =
            [NETWORKS, THREATS, PLACES].map(|name| self.folder.join(name));
        format!(
            "\n[enrich]\nnetworks = [{networks:?}]\nlook_every = \"2s\"\n\
             [[enrich.threats]]\nfile = {threats:?}\ntag = \"soak\"\n\
             [enrich.geo]\ndatabases = [{places:?}]\n"
        )
    }

    /// Puts another version of the database in place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn swap_places(&self, version: u64) -> Result<()> {
        let [first, second] = &self.places;
        let bytes = if version.is_multiple_of(2) {
            first
        } else {
            second
        };
        replace(&self.folder.join(PLACES), bytes)
    }

    /// Puts other networks and another threat list in place.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rewrite_lists(&self, version: u64) -> Result<()> {
        let second = u32::from(!version.is_multiple_of(2));
        // Those of the simulated hosts inside, and more.
        let networks = (0..4000 - 1000 * second).map(|number| {
            let network = Ipv4Addr::from_bits(0x0a14_0000 + (number << 8));
            format!("{network}/24,net-{second}-{number},office,site-{second}\n")
        });
        let titles = "prefix,name,role,site\n".to_owned();
        let networks = titles + &networks.collect::<String>();
        replace(&self.folder.join(NETWORKS), networks.as_bytes())?;
        let threats = (0..5000 + 500 * second).map(|number| {
            let from = 0x0b00_0000 + (second << 24);
            let network = Ipv4Addr::from_bits(from + number * 0x2_8d00);
            format!("{network}/24\n")
        });
        let threats: String = threats.collect();
        replace(&self.folder.join(THREATS), threats.as_bytes())
    }
}

/// All of IPv4 in some thousand networks, each a city of its own.
fn places(version: u32) -> Vec<u8> {
    let length = 12 - version;
    let mut database = Database::new("GeoLite2-City");
    for number in 0..1_u32 << length {
        let network = Ipv4Addr::from_bits(number << (32 - length));
        let country = COUNTRIES[version as usize];
        let latitude = f64::from(number % 180) - 90.0;
        let city = mmdb::city(
            country,
            &format!("Region {}", number / 64),
            &format!("City {number} of {version}"),
            latitude,
            f64::from(number % 360) - 180.0,
        );
        database.add(IpAddr::V4(network), length, &city);
    }
    database.bytes()
}

/// Puts a file in the place of the one before at once: nobody sees half of it.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("replace {}", path.display()))
}

const PLACES: &str = "city.mmdb";
const NETWORKS: &str = "networks.csv";
const THREATS: &str = "threats.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_each_file_differ_and_nothing_is_left_beside() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let files = Files::new(folder.path().join("enrich"))?;
        let read = || -> Result<[Vec<u8>; 3]> {
            let [places, networks, threats] =
                [PLACES, NETWORKS, THREATS].map(|name| std::fs::read(files.folder.join(name)));
            Ok([places?, networks?, threats?])
        };
        let first = read()?;
        files.swap_places(1)?;
        files.rewrite_lists(1)?;
        let second = read()?;
        assert!(
            first
                .iter()
                .zip(&second)
                .all(|(first, second)| first != second)
        );
        files.swap_places(2)?;
        files.rewrite_lists(2)?;
        assert!(read()? == first);
        assert_eq!(std::fs::read_dir(&files.folder)?.count(), 3);
        Ok(())
    }
}
