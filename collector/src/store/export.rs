//! Rows of one table out of ClickHouse, as bytes in a format that others read.
//!
//! In: a table, a span of time, a condition in SQL. Out: the answer's bytes in order, as they come,
//! so that memory is bounded by what a connection holds. Whoever asks can only read: where the user
//! could write, the query runs with `readonly = 1`. An answer that ends in an exception, or before
//! its end, is an error; what was handed out by then is not whole.

use std::io;

use clickhouse::Client;
use serde::Deserialize;

use super::{Endpoint, InsertError, clickhouse as server, embedded, query, schema};
use crate::config::{self, StoreTarget};

mod filter;
mod rows;
mod tail;

use tail::Tail;

pub use rows::Rows;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Apache Parquet, with ClickHouse's types: an address is 16 bytes.
    Parquet,
    /// CSV with a line of names, addresses as text.
    Csv,
    /// One JSON object a row and line, addresses as text.
    Json,
    /// ClickHouse's own, for a table of the same columns: what is stored, and nothing computed.
    Native,
}

impl Format {
    /// The format that a file's name ends like.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "native" => Some(Self::Native),
            _ => None,
        }
    }

    /// True for those that people read.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSVWithNames",
            Self::Json => "JSONEachRow",
            Self::Native => "Native",
        }
    }
}

/// Which rows.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The table or view.
    pub table: String,
    /// The columns in their order; none are all.
    pub columns: Vec<String>,
    /// The first second, since the epoch.
    pub from_s: u32,
    /// The second after the last one.
    pub to_s: u32,
    /// A condition in SQL.
    pub filter: Option<String>,
    /// How they are written.
    pub format: Format,
}

/// Whom to ask: the server that is configured, else the embedded engine that runs on this host. Of
/// that one the writer, whose queries may last, if its password may be read.
///
/// # Errors
/// When there is neither or rows go nowhere, or no password can be read.
pub fn endpoint(config: &config::Store) -> anyhow::Result<Endpoint> {
    match config.target() {
        StoreTarget::Embedded => match embedded::running_for_writing(config) {
            Ok(Some(writer)) => Ok(writer),
            Ok(None) | Err(_) => embedded::running(config),
        },
        StoreTarget::Server(_) | StoreTarget::Null => query::endpoint(config),
    }
}

/// Hands the selected rows to `out`, a piece at a time.
///
/// # Errors
/// When ClickHouse cannot be reached, refuses, or breaks off, in one line; when a name or the
/// filter is wrong; and those of `out`.
pub async fn export(
    endpoint: &Endpoint,
    selection: &Selection,
    mut out: impl FnMut(&[u8]) -> io::Result<()>,
) -> anyhow::Result<()> {
    let source = Source {
        endpoint,
        selection,
        client: reading(endpoint).await?,
    };
    let columns = source.columns().await?;
    let sql = source.sql(&columns)?;
    source.check_filter().await?;
    let format = selection.format;
    let answer = source.client.query_raw(&sql).fetch_bytes(format.name());
    let mut answer = answer.map_err(|error| explain(endpoint, &InsertError::from(error)))?;
    let mut tail = Tail::default();
    loop {
        match answer.next().await {
            Ok(Some(bytes)) => {
                tail.push(&bytes);
                out(&bytes)?;
            }
            Ok(None) => break,
            Err(error) => return Err(broken(endpoint, &tail, InsertError::from(error))),
        }
    }
    if let Some(exception) = tail.exception() {
        return Err(explain(endpoint, &InsertError::exception(&exception)));
    }
    if format == Format::Parquet && !tail.ends_with(PARQUET_END) {
        let cut = InsertError::outage("the answer ended before its end");
        return Err(explain(endpoint, &cut));
    }
    Ok(())
}

/// A client whose queries can only read, however long that takes.
async fn reading(endpoint: &Endpoint) -> anyhow::Result<Client> {
    let client = server::client(endpoint).with_database(&endpoint.database);
    let asked = ask(&client, endpoint, "SELECT getSetting('readonly')", "TSV").await?;
    // An exception must not look like a row: https://clickhouse.com/docs/operations/settings/
    // settings#http_write_exception_in_output_format
    let plain = |client: Client| client.with_setting("http_write_exception_in_output_format", "0");
    Ok(match asked.trim_ascii() {
        b"0" => plain(client)
            .with_setting("readonly", "1")
            .with_setting("max_execution_time", "0"),
        // Such a user may change no setting at all.
        b"1" => client,
        _ => plain(client),
    })
}

async fn ask(
    client: &Client,
    endpoint: &Endpoint,
    sql: &str,
    format: &str,
) -> anyhow::Result<Vec<u8>> {
    let explain = |error| explain(endpoint, &InsertError::from(error));
    let mut answer = client.query_raw(sql).fetch_bytes(format).map_err(explain)?;
    Ok(answer.collect().await.map_err(explain)?.to_vec())
}

/// A column as `DESCRIBE TABLE` tells it.
#[derive(Clone, Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
    default_type: String,
}

struct Source<'a> {
    endpoint: &'a Endpoint,
    selection: &'a Selection,
    client: Client,
}

impl Source<'_> {
    fn table(&self) -> String {
        let database = schema::quoted(&self.endpoint.database);
        format!("{database}.{}", schema::quoted(&self.selection.table))
    }

    /// All columns of the table.
    async fn columns(&self) -> anyhow::Result<Vec<Column>> {
        let sql = format!("DESCRIBE TABLE {}", self.table());
        let lines = ask(&self.client, self.endpoint, &sql, "JSONEachRow").await?;
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter();
        Ok(lines.collect::<Result<_, _>>()?)
    }

    fn sql(&self, columns: &[Column]) -> anyhow::Result<String> {
        let Selection {
            table,
            from_s,
            to_s,
            filter,
            format,
            ..
        } = self.selection;
        let Some(time) = time_of(columns).map(|column| schema::quoted(&column.name)) else {
            anyhow::bail!(
                "--table: {table} has no column of a time that --from and --to could mean"
            );
        };
        let chosen = self.chosen(columns)?;
        let names: Vec<_> = chosen.iter().map(|c| schema::quoted(&c.name)).collect();
        let texts: Vec<_> = chosen
            .iter()
            .filter(|column| format.is_text() && column.sql_type == "IPv6")
            .map(|column| address_as_text(&schema::quoted(&column.name)))
            .collect();
        let star = match texts.is_empty() {
            true => "*".to_owned(),
            false => format!("* REPLACE ({})", texts.join(", ")),
        };
        let filter = match filter {
            Some(filter) => format!(" AND {}", filter::in_brackets(filter)?),
            None => String::new(),
        };
        Ok(format!(
            // Named with its table: an alias in the filter may have the same name.
            "SELECT {star} FROM (SELECT {names} FROM {table} AS rows_of \
             WHERE rows_of.{time} >= toDateTime({from_s}) \
             AND rows_of.{time} < toDateTime({to_s}){filter})",
            names = names.join(", "),
            table = self.table(),
        ))
    }

    /// The columns that are asked for.
    fn chosen<'a>(&self, columns: &'a [Column]) -> anyhow::Result<Vec<&'a Column>> {
        let Selection {
            table,
            columns: wanted,
            format,
            ..
        } = self.selection;
        if wanted.is_empty() {
            let is_stored = |column: &Column| matches!(&*column.default_type, "" | "DEFAULT");
            let all = columns.iter();
            let all = all.filter(|column| *format != Format::Native || is_stored(column));
            return Ok(all.collect());
        }
        let find = |name: &String| {
            let found = columns.iter().find(|column| column.name == *name);
            found.ok_or_else(|| {
                let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
                anyhow::anyhow!(
                    "--columns: table {table} has no column '{name}'; it has {}",
                    names.join(", ")
                )
            })
        };
        wanted.iter().map(find).collect()
    }

    /// Asks for no row, to tell a fault of the filter from others.
    async fn check_filter(&self) -> anyhow::Result<()> {
        let Some(filter) = &self.selection.filter else {
            return Ok(());
        };
        let filter = filter::in_brackets(filter)?;
        let sql = format!("SELECT 1 FROM {} WHERE 0 AND {filter}", self.table());
        let checked = ask(&self.client, self.endpoint, &sql, "TSV").await;
        checked.map_err(|error| error.context("--where"))?;
        Ok(())
    }
}

/// What the rows are sorted by in time: when they were received, else the first time there is.
fn time_of(columns: &[Column]) -> Option<&Column> {
    let mut times = columns
        .iter()
        .filter(|column| column.default_type != "ALIAS" && column.sql_type.starts_with("DateTime"));
    let received = columns.iter().find(|column| column.name == "time_received");
    received.or_else(|| times.next())
}

/// IPv4 stands in an `IPv6` as `::ffff:192.0.2.1`, and people want to read `192.0.2.1`.
fn address_as_text(column: &str) -> String {
    format!(r"replaceRegexpOne(toString({column}), '^::ffff:([0-9]+[.])', '\\1') AS {column}")
}

/// Why the answer broke off.
#[cold]
fn broken(endpoint: &Endpoint, tail: &Tail, error: InsertError) -> anyhow::Error {
    // ClickHouse writes the reason and cuts the connection, and the two may come apart.
    let said = match error.code {
        Some(_) => None,
        None => tail.exception(),
    };
    let error = said.map_or(error, |said| InsertError::exception(&said));
    explain(endpoint, &error)
}

#[cold]
fn explain(endpoint: &Endpoint, error: &InsertError) -> anyhow::Error {
    let Endpoint { url, user, .. } = endpoint;
    match error.code {
        Some(159) => anyhow::anyhow!(
            "ClickHouse at {url}: {error}; user {user} may not ask for so long: export a shorter \
             time, or as the user that runs the collector"
        ),
        _ => query::explain(url, error),
    }
}

/// <https://parquet.apache.org/docs/file-format/>
const PARQUET_END: &[u8] = b"PAR1";

#[cfg(test)]
mod tests;
