//! The settings of ElastiFlow OSS 4.0 (Logstash), as an operator edits them.
//!
//! In: its folders (`/etc/logstash/elastiflow`, the drop-in of the service). Out: a configuration
//! of this collector, the files that it names, and what became of each setting. Nothing is left
//! out silently: what has no counterpart and what cannot be read is told with file and line.

mod dictionaries;
mod document;
mod environment;
mod found;
mod listeners;
mod variables;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use document::Document;
use found::Found;

/// Where something stands: the file as it was found, and the line from 1 (0: the whole file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: u64,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.file.to_string_lossy();
        // It stands in comments and on terminals.
        f.write_str(&file.replace(|c: char| c.is_control(), "?"))?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ":{line}"),
        }
    }
}

/// What became of the settings, a line each: where it stood, and what of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Taken over.
    pub taken: Vec<String>,
    /// Without counterpart, or not needed, and why.
    pub left: Vec<String>,
    /// Not understood, and what to do.
    pub odd: Vec<String>,
}

impl Report {
    fn taken(&mut self, at: &At, text: impl AsRef<str>) {
        self.taken.push(format!("{at}: {}", text.as_ref()));
    }

    fn left(&mut self, at: &At, text: impl AsRef<str>) {
        self.left.push(format!("{at}: {}", text.as_ref()));
    }

    fn odd(&mut self, at: &At, text: impl AsRef<str>) {
        self.odd.push(format!("{at}: {}", text.as_ref()));
    }
}

/// What is made of the settings.
#[derive(Debug)]
pub struct Imported {
    /// The configuration: what differs from the defaults, with comments.
    pub configuration: String,
    /// The files beside it: name and contents.
    pub files: Vec<(&'static str, String)>,
    /// What became of each setting.
    pub report: Report,
}

/// Reads everything below `folders`. The configuration names its files in the folder `installed`,
/// which is absolute.
///
/// # Errors
/// When a folder cannot be read, or nothing in them is of ElastiFlow.
pub fn import(folders: &[PathBuf], installed: &Path) -> Result<Imported> {
    let found = Found::below(folders)?;
    ensure!(
        !found.is_empty(),
        "there is no file of ElastiFlow in what was named; name the folder with user_settings and \
         dictionaries (/etc/logstash/elastiflow) and that of elastiflow.conf \
         (/etc/systemd/system/logstash.service.d)"
    );
    let mut making = Making {
        document: Document::default(),
        files: Vec::new(),
        report: Report::default(),
    };
    let variables = environment::read(&found.environments, &mut making.report);
    listeners::import(&found, &variables, &mut making);
    variables::import(&variables, &mut making);
    dictionaries::import(&found, installed, &mut making);
    for (file, why) in &found.left {
        let at = At {
            file: file.clone(),
            line: 0,
        };
        making.report.left(&at, why);
    }
    making.report.left.push(
        "retention: ElastiFlow leaves it to Elasticsearch (ILM, curator); store.retention says how \
         long flows are kept, 30days unless you set it"
            .into(),
    );
    let Making {
        document,
        files,
        report,
    } = making;
    Ok(Imported {
        configuration: document.text(folders),
        files,
        report,
    })
}

/// What is being made.
struct Making {
    document: Document,
    files: Vec<(&'static str, String)>,
    report: Report,
}

impl Making {
    /// Sets `table.key` to `value` (TOML) unless that is the default.
    fn set(&mut self, at: &At, said: &str, table: &'static str, key: &str, value: &str, is: Is) {
        let note = match is {
            Is::Default => " (the default)",
            Is::Other => {
                self.document.key(table, at, &format!("{key} = {value}"));
                ""
            }
        };
        let text = format!("{said} -> {table}.{key} = {value}{note}");
        self.report.taken(at, text);
    }
}

/// Whether a value is what it is anyhow.
#[derive(Clone, Copy)]
enum Is {
    Default,
    Other,
}

impl Is {
    fn of<T: PartialEq>(value: &T, default: &T) -> Self {
        if value == default {
            Self::Default
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests;
