//! The migrations of `sql/` and `sql/cluster/`, and their statements.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The files `NNN_*.sql` of a folder by their names, in their order.
///
/// # Errors
/// When there is none, or when one cannot be read.
pub fn migrations(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".sql") && name.starts_with(|c: char| c.is_ascii_digit()) {
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            files.insert(name.into_owned(), text);
        }
    }
    ensure!(!files.is_empty(), "{}: no migration", folder.display());
    Ok(files)
}

/// The statements of a file as the collector reads them: they end in `;` at the end of a line,
/// comment lines are left out.
#[must_use]
pub fn statements(sql: &str) -> Vec<String> {
    let is_comment = |line: &&str| line.trim_start().starts_with("--");
    let lines: Vec<&str> = sql.lines().filter(|line| !is_comment(line)).collect();
    let text = lines.join("\n") + "\n";
    let statements = text.split(";\n").map(str::trim);
    statements
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}
