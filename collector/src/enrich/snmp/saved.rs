//! What agents said, over a restart: a file beside that of [`crate::decode::persist`].
//!
//! Whoever reads it passes over fields that he does not know. [`VERSION`] changes when that is not
//! enough.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{info, warn};

use super::INTERFACES_MAX;
use super::walk::ROWS_MAX;
use crate::enrich::interfaces::{Interface, clean};
use crate::folder::{FILE_MODE, set_aside, write_whole};

/// The file's name in `decode.state_dir`.
pub const FILE: &str = "snmp.json";

/// Of files that are written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes of a file that is read; three texts of an interface take less, however they are escaped.
const BYTES_MAX: u64 = 2048 * INTERFACES_MAX as u64;

#[derive(Debug, Deserialize, Serialize)]
struct Document {
    version: u32,
    exporters: Vec<SavedExporter>,
}

/// What one agent said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SavedExporter {
    /// The exporter's own address.
    pub exporter: IpAddr,
    /// When it said so, seconds since the epoch.
    pub told_unix_s: u32,
    /// sysName.
    pub system_name: String,
    /// Its interfaces.
    pub interfaces: Vec<SavedInterface>,
}

/// What it said of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SavedInterface {
    /// ifIndex.
    pub if_index: u32,
    /// The rest.
    #[serde(flatten)]
    pub interface: Interface,
}

#[derive(Debug, Error)]
enum Unusable {
    #[error("it cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not what this program writes ({0})")]
    NotOurs(#[from] serde_json::Error),
    #[error("it is of version {0}, and this program knows {VERSION} only")]
    Version(u32),
}

/// The file of a folder that is in the hands of this process alone.
#[derive(Clone, Debug)]
pub struct SavedFile {
    folder: PathBuf,
}

impl SavedFile {
    /// The file in `folder`, which is `decode.state_dir`.
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What was written before, empty when there is nothing of use; that is told, and what cannot
    /// be understood is set aside.
    pub fn read(&self) -> Vec<SavedExporter> {
        let path = self.path();
        match read(&path) {
            Ok(exporters) => {
                if !exporters.is_empty() {
                    let exporters = exporters.len();
                    info!(
                        file = %path.display(),
                        exporters,
                        "what agents said by SNMP before the start is known"
                    );
                }
                exporters
            }
            Err(error) => {
                let set_aside = set_aside(&path);
                warn!(
                    file = %path.display(),
                    %error,
                    set_aside,
                    "what agents said by SNMP before the start is not known: the file is of no use"
                );
                Vec::new()
            }
        }
    }

    /// Writes all of it, or leaves what was there.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, exporters: Vec<SavedExporter>) -> io::Result<()> {
        let document = Document {
            version: VERSION,
            exporters,
        };
        write_whole(&self.path(), FILE_MODE, true, |to| {
            serde_json::to_writer(&mut *to, &document)?;
            to.write_all(b"\n")
        })
    }

    /// Where it is, for people.
    pub fn shown(&self) -> String {
        self.path().display().to_string()
    }
}

fn read(path: &Path) -> Result<Vec<SavedExporter>, Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Unusable::TooLong);
    }
    let Document {
        version,
        mut exporters,
    } = serde_json::from_slice(&bytes)?;
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    for exporter in &mut exporters {
        exporter.clean();
    }
    Ok(exporters)
}

impl SavedExporter {
    /// Whoever wrote the file: bounds hold, and order.
    fn clean(&mut self) {
        let text = |text: &str| clean(text.as_bytes());
        self.system_name = text(&self.system_name).into();
        let interfaces = &mut self.interfaces;
        interfaces.retain(|interface| interface.if_index != 0);
        interfaces.sort_by_key(|interface| interface.if_index);
        interfaces.dedup_by_key(|interface| interface.if_index);
        interfaces.truncate(ROWS_MAX);
        for SavedInterface { interface, .. } in interfaces {
            interface.name = text(&interface.name);
            interface.alias = text(&interface.alias);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn saved(if_index: u32, name: &str) -> SavedInterface {
        SavedInterface {
            if_index,
            interface: Interface {
                name: name.into(),
                alias: "an alias".into(),
                speed: 1_000_000_000,
            },
        }
    }

    fn exporter() -> SavedExporter {
        SavedExporter {
            exporter: [192, 0, 2, 1].into(),
            told_unix_s: 1_800_000_000,
            system_name: "router".into(),
            interfaces: vec![saved(1, "lo"), saved(7, "eth0")],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = SavedFile::of(folder.path());
        assert_eq!(file.read(), []);
        file.write(vec![exporter()]).unwrap();
        assert_eq!(file.read(), [exporter()]);
        assert!(!folder.path().join("snmp.json.new").exists());
    }

    #[test]
    fn what_others_wrote_is_set_aside_or_made_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let file = SavedFile::of(folder.path());
        let path = folder.path().join(FILE);
        for text in ["", "{", "\0", "{\"version\":2,\"exporters\":[]}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(file.read(), []);
            assert!(!path.exists());
            let aside = fs::read_to_string(path.with_extension("json.broken"));
            assert_eq!(aside.unwrap(), text);
        }
        let mut odd = exporter();
        odd.interfaces = vec![saved(9, "b\t\u{1b}"), saved(0, "none"), saved(9, "twice")];
        file.write(vec![odd]).unwrap();
        let read = file.read();
        assert_eq!(read[0].interfaces, [saved(9, "b")]);
    }
}
