//! `queries`: a day of enriched flows in ClickHouse, what they take on disk, and how long the
//! questions in `queries/queries.sql` take.
//!
//! The flows are those of the traffic model at 1,500 a second, with times of the last hours,
//! through decoder, enrichment, batches and inserts as in the collector.

mod fill;
mod panels;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice::config;
use flowsluice::store::clickhouse as ours;
use flowsluice::store::embedded::Engine;
use flowsluice::store::schema::{self, Wanted};
use flowsluice_tests::place;
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::report::{self, Section, Table};
use crate::rounds::Figure;
use fill::Filled;

/// Flows a second of the simulated network.
pub const FLOWS_PER_SECOND: u64 = 1_500;
const HOURS: u32 = 24;
const HOURS_QUICK: u32 = 1;
/// In the folder of a day that is whole: what was stored.
const NOTE: &str = "filled.toml";
/// Until the engine answers: a cold library is read from the disk.
const READY_MAX: Duration = Duration::from_secs(120);

/// Measures and reports.
///
/// # Errors
/// When the library or a database is missing, flows get lost, or a question fails.
pub fn main(options: &Options) -> Result<()> {
    let hours = options.hours.unwrap_or(match options.quick {
        true => HOURS_QUICK,
        false => HOURS,
    });
    let temporary = tempfile::tempdir().context("make a temporary folder")?;
    let folder = options.data.as_deref().unwrap_or(temporary.path());
    ensure!(
        folder.join(NOTE).exists() || !folder.join("data").exists(),
        "{} holds flows of a run that did not end; remove it, or name another --data",
        folder.display()
    );
    let runtime = runtime()?;
    let store = settings(options, folder)?;
    let engine = started(&store)?;
    let clickhouse = ClickHouse {
        engine: &engine,
        runtime: &runtime,
    };
    rehearse(&store, &clickhouse)?;
    let filled = filled(&store, &clickhouse, hours, folder)?;
    eprintln!("queries: waiting until no merge is under way");
    tables::wait_for_merges(&clickhouse)?;
    let mut section = Section::new("queries", "A day of flows, and questions");
    section.table(&caption(&filled), &tables::sizes(&clickhouse)?);
    section.table(
        "Milliseconds until the whole answer was there, by the user of dashboards; first is the \
         first time after the fill, the others follow it.",
        &ask_all(options, &clickhouse, &filled)?,
    );
    let panels = panels::ask_all(options, &clickhouse, &filled)?;
    section.table(&panels.caption, &panels.table);
    report::publish(options, &section)
}

/// The flows that stand in `folder`; where there are none, stores them.
fn filled(
    store: &config::Store,
    clickhouse: &ClickHouse<'_>,
    hours: u32,
    folder: &Path,
) -> Result<Filled> {
    let note = folder.join(NOTE);
    if note.exists() {
        let text = fs::read_to_string(&note)?;
        return toml::from_str(&text).with_context(|| format!("read {}", note.display()));
    }
    let filled = fill::fill(store, clickhouse, hours, folder)?;
    tables::fold(clickhouse, &filled)?;
    fs::write(&note, toml::to_string(&filled)?)?;
    Ok(filled)
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

fn started(store: &config::Store) -> Result<Engine> {
    let engine = Engine::start_with(store, &place::binary()?)?;
    ensure!(
        engine.wait_ready(READY_MAX),
        "ClickHouse did not answer within {READY_MAX:?}"
    );
    Ok(engine)
}

/// Makes the tables and asks them everything while they are empty: what is wrong with a question is
/// found before a day is stored.
fn rehearse(store: &config::Store, clickhouse: &ClickHouse<'_>) -> Result<()> {
    let endpoint = clickhouse.engine.endpoint();
    let (client, wanted) = (ours::client(&endpoint), Wanted::new(store));
    let made = schema::apply(&client, &endpoint.database, &wanted);
    clickhouse.runtime.block_on(made)?;
    let nothing = Filled {
        flows: 0,
        names: 0,
        took_s: 0.0,
        begin_s: 0,
        end_s: 0,
        exporter: "::".into(),
        host: "::".into(),
    };
    for Question { name, sql, .. } in questions()? {
        let answer = clickhouse.ask_as_reader(&nothing.fill_in(sql));
        answer.with_context(|| format!("queries.sql: {name}"))?;
    }
    Ok(())
}

fn settings(options: &Options, folder: &Path) -> Result<config::Store> {
    let mut store = config::Store {
        stop_timeout: Duration::from_secs(600),
        ..config::Store::default()
    };
    place_engine(&mut store, options.library()?, folder);
    Ok(store)
}

fn place_engine(store: &mut config::Store, library: PathBuf, folder: &Path) {
    store.embedded.library = Some(library);
    store.embedded.data_dir = folder.join("data");
    store.embedded.http.set_port(0);
}

fn caption(filled: &Filled) -> String {
    let hours = (filled.end_s - filled.begin_s) / 3600;
    format!(
        "{} flows of the realistic profile (50 exporters, all protocols), {FLOWS_PER_SECOND} a \
         second for {hours} h, every column of enrichment filled: City and AS databases, networks, \
         threats, applications, interfaces, labels, {} names of addresses. Stored in {:.0} s with \
         rollups by minute; hosts and conversations folded by ten minutes of receiving time. Sizes \
         once no merge is under way.",
        filled.flows, filled.names, filled.took_s
    )
}

fn ask_all(options: &Options, clickhouse: &ClickHouse<'_>, filled: &Filled) -> Result<Table> {
    let mut table = Table::new(["question", "rows", "first", "ms", "may take", "holds"]);
    for question in questions()? {
        eprintln!("queries: asking {}", question.name);
        let sql = filled.fill_in(question.sql);
        let mut took_ms = Vec::new();
        let mut rows = 0;
        for _ in 0..=options.rounds() {
            let begun = Instant::now();
            let answer = clickhouse.ask_as_reader(&sql)?;
            took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            rows = answer.lines().count();
        }
        let figure = Figure::of(took_ms[1..].iter().copied());
        let holds = figure.median <= f64::from(question.ms_max);
        table.row([
            question.name.to_owned(),
            rows.to_string(),
            format!("{:.0}", took_ms[0]),
            figure.to_string(),
            question.ms_max.to_string(),
            if holds { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    Ok(table)
}

/// One of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    name: &'static str,
    ms_max: u32,
    sql: &'static str,
}

/// Those of `queries.sql`: `-- name: milliseconds` and one statement each.
fn questions() -> Result<Vec<Question>> {
    let (_, rest) = include_str!("queries/queries.sql")
        .split_once("\n\n")
        .context("queries.sql begins with what it is")?;
    let mut questions = Vec::new();
    for text in rest.split(";\n").filter(|text| !text.trim().is_empty()) {
        let line = text.trim_start().strip_prefix("-- ");
        let (name, sql) = line.and_then(|text| text.split_once('\n')).context(text)?;
        let (name, ms_max) = name.rsplit_once(": ").context(name)?;
        questions.push(Question {
            name,
            ms_max: ms_max.parse().context(name)?,
            sql,
        });
    }
    Ok(questions)
}

/// The engine, asked.
struct ClickHouse<'a> {
    engine: &'a Engine,
    runtime: &'a Runtime,
}

impl ClickHouse<'_> {
    /// The answer to the user that writes, tab-separated.
    fn ask(&self, sql: &str) -> Result<String> {
        self.ask_by(&self.engine.endpoint(), sql)
    }

    fn ask_as_reader(&self, sql: &str) -> Result<String> {
        self.ask_by(&self.engine.reader(), sql)
    }

    fn ask_by(&self, endpoint: &flowsluice::store::Endpoint, sql: &str) -> Result<String> {
        let client = ours::client(endpoint).with_database(&endpoint.database);
        let answer = async {
            let mut lines = client.query_raw(sql).fetch_bytes("TabSeparated")?;
            lines.collect().await
        };
        let bytes = self.runtime.block_on(answer).context(sql.to_owned())?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

/// A moment, in seconds since 1970, as a value of SQL.
fn moment(at_s: u32) -> String {
    format!("toDateTime({at_s}, 'UTC')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_has_a_name_a_time_and_one_statement() {
        let questions = questions().unwrap();
        assert!(questions.len() > 10);
        for Question { name, ms_max, sql } in questions {
            assert!([500, 3_000].contains(&ms_max), "{name}");
            assert!(sql.starts_with("SELECT") && !sql.contains("--"), "{name}");
        }
    }

    #[test]
    fn clickhouse_understands_every_question() -> Result<()> {
        let Some(library) = place::engine_or_skip() else {
            return Ok(());
        };
        let (folder, runtime) = (tempfile::tempdir()?, runtime()?);
        let mut store = config::Store::default();
        place_engine(&mut store, library, folder.path());
        let engine = started(&store)?;
        let clickhouse = ClickHouse {
            engine: &engine,
            runtime: &runtime,
        };
        rehearse(&store, &clickhouse)
    }
}
