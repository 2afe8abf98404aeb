//! Asks ClickHouse and shows what it answers.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Deserialize;
use serde_json::Value;

use super::{Endpoint, InsertError, clickhouse};
use crate::config::{self, StoreTarget};

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object a row.
    Json,
    /// CSV with a line of names.
    Csv,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "JSONCompact",
            Self::Json => "JSONEachRow",
            Self::Csv => "CSVWithNames",
        }
    }
}

/// Whom to ask: the server that is configured, of several one that takes connections, else the
/// embedded engine that runs on this host.
///
/// # Errors
/// When there is neither or rows go nowhere, or its password cannot be read.
pub fn endpoint(config: &config::Store) -> anyhow::Result<Endpoint> {
    match config.target() {
        StoreTarget::Server(_) => Ok(super::endpoint(config)?.reachable()),
        StoreTarget::Embedded => super::embedded::running(config),
        StoreTarget::Null => anyhow::bail!(
            "store.kind: null stores nothing, so there is nothing to ask; remove the key to ask \
             the server of store.url or the embedded ClickHouse"
        ),
    }
}

/// Runs `sql` with the database as default and prints the answer to `out`. A FORMAT clause in `sql`
/// wins over `format`.
///
/// # Errors
/// When ClickHouse cannot be reached or refuses, in one line; and those of `out`.
pub async fn query(
    endpoint: &Endpoint,
    sql: &str,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let explain = |error| explain(&endpoint.url, &InsertError::from(error));
    let client = clickhouse::client(endpoint).with_database(&endpoint.database);
    let mut answer = client
        .query_raw(sql)
        .fetch_bytes(format.name())
        .map_err(explain)?;
    if format == Format::Table {
        let bytes = answer.collect().await.map_err(explain)?;
        match serde_json::from_slice::<Answer>(&bytes) {
            Ok(answer) => writeln!(out, "{}", answer.table())?,
            Err(_) => out.write_all(&bytes)?,
        }
    } else {
        while let Some(bytes) = answer.next().await.map_err(explain)? {
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// One line: who said what, and what to do about it.
pub(super) fn explain(url: &str, error: &InsertError) -> anyhow::Error {
    let remedy = match error.code {
        Some(47 | 46) => "see DESCRIBE TABLE flows for the names",
        Some(60) => "see SHOW TABLES for the tables",
        Some(62) => "correct the statement",
        Some(158 | 159 | 241 | 307 | 396) => "ask for less: a shorter time, fewer groups, a LIMIT",
        Some(164 | 497) => "this user may only read",
        None | Some(192 | 193 | 194 | 516) => error.remedy(),
        Some(_) => return anyhow::anyhow!("ClickHouse at {url}: {error}"),
    };
    anyhow::anyhow!("ClickHouse at {url}: {error}; {remedy}")
}

/// ClickHouse's format JSONCompact.
#[derive(Deserialize)]
struct Answer {
    meta: Vec<Meta>,
    data: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
}

impl Answer {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(self.meta.iter().map(|meta| &meta.name));
        for row in &self.data {
            let cells = row.iter().zip(&self.meta).map(|(value, meta)| {
                let alignment = if is_number(&meta.sql_type) {
                    CellAlignment::Right
                } else {
                    CellAlignment::Left
                };
                Cell::new(text(value)).set_alignment(alignment)
            });
            table.add_row(cells);
        }
        table
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// True for the types whose values are compared by their right end.
fn is_number(sql_type: &str) -> bool {
    let inner = ["Nullable(", "LowCardinality("]
        .iter()
        .fold(sql_type, |name, wrapper| {
            name.strip_prefix(wrapper).unwrap_or(name)
        });
    ["Int", "UInt", "Float", "Decimal", "BFloat"]
        .iter()
        .any(|number| inner.starts_with(number) && !inner.starts_with("Interval"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_code_and_a_remedy() {
        let error = InsertError::exception(
            "Code: 47. DB::Exception: Unknown identifier `nope`. (UNKNOWN_IDENTIFIER) \
             (version 26.7.2.1)\nStack trace: ...",
        );
        assert_eq!(
            explain("http://h:8123", &error).to_string(),
            "ClickHouse at http://h:8123: Code: 47. DB::Exception: Unknown identifier `nope`. \
             (UNKNOWN_IDENTIFIER); see DESCRIBE TABLE flows for the names"
        );
    }

    #[test]
    fn numbers_stand_to_the_right_and_null_is_shown() {
        let answer: Answer = serde_json::from_str(
            r#"{"meta":[{"name":"who","type":"String"},{"name":"n","type":"Nullable(UInt64)"}],
                "data":[["a","12345"],["b",null]],"rows":2}"#,
        )
        .unwrap();
        let table = answer.table().to_string();
        assert!(table.contains("│ a   ┆ 12345 │"), "{table}");
        assert!(table.contains("│ b   ┆  NULL │"), "{table}");
    }
}
