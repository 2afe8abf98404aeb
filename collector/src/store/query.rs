//! Asks ClickHouse and shows what it answers.

use std::io::Write;

use anyhow::Context;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Deserialize;
use serde_json::Value;

use super::{Endpoint, InsertError, clickhouse};

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
    let url = &endpoint.url;
    let explain = |error: ::clickhouse::error::Error| {
        let error = InsertError::from(error);
        match error.code {
            Some(_) => anyhow::anyhow!("ClickHouse at {url}: {error}"),
            None => anyhow::anyhow!("ClickHouse at {url}: {error}; {}", error.remedy()),
        }
    };
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
    out.flush().context("the answer cannot be written")
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
