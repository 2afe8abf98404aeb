//! The configuration as text, each line with where it comes from.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::At;

/// Tables of the file in its order, and whether they are lists of tables.
const TABLES: [(&str, bool); 8] = [
    ("receive", false),
    ("receive.listeners", true),
    ("receive.tcp.listeners", true),
    ("decode.exporters", true),
    ("enrich", false),
    ("enrich.exporters", true),
    ("enrich.geo", false),
    ("enrich.dns", false),
];

/// What stands in the file.
#[derive(Default)]
pub(super) struct Document {
    entries: Vec<Entry>,
}

struct Entry {
    table: &'static str,
    at: String,
    lines: Vec<String>,
}

impl Document {
    /// A key of a table, or a whole table of a list.
    pub(super) fn table(&mut self, table: &'static str, at: &At, lines: Vec<String>) {
        debug_assert!(TABLES.iter().any(|(name, _)| *name == table));
        let at = at.to_string();
        self.entries.push(Entry { table, at, lines });
    }

    /// One line of a table.
    pub(super) fn key(&mut self, table: &'static str, at: &At, line: &str) {
        self.table(table, at, vec![line.to_owned()]);
    }

    /// The file. `folders` is told in its head.
    pub(super) fn text(&self, folders: &[PathBuf]) -> String {
        let mut text = String::from(
            "# Flowsluice: configuration, made by 'flowsluice import elastiflow' of\n",
        );
        let mut line = |line: &str| writeln!(text, "{line}").expect("a String takes everything");
        for folder in folders {
            let file = folder.clone();
            line(&format!("#   {}", At { file, line: 0 }));
        }
        line("# Only what differs from the defaults stands here; 'flowsluice check --config FILE'");
        line("# prints all of it. How long flows are kept: store.retention, 30days by default.");
        for (table, is_list) in TABLES {
            let entries = self.entries.iter().filter(|entry| entry.table == table);
            for (number, entry) in entries.enumerate() {
                if number == 0 || is_list {
                    line("");
                }
                if number == 0 && !is_list {
                    line(&format!("[{table}]"));
                }
                line(&format!("# {}", entry.at));
                if is_list {
                    line(&format!("[[{table}]]"));
                }
                for text in &entry.lines {
                    line(text);
                }
            }
        }
        text
    }
}

/// Text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A list of texts as TOML writes it.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}
