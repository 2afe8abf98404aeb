//! Brings the tables of ClickHouse to what this version of the binary writes.
//!
//! `sql/` holds numbered migrations; each statement may run again without harm, so a start that was
//! cut off, or two at once, heal themselves. What was applied stands in `schema_migrations`. Behind
//! the migrations, retention and settings of the tables follow the configuration.

mod engine;
mod forms;
mod statement;
mod wanted;

use clickhouse::Client;
use tracing::{info, warn};

use super::cluster;
use super::insert::InsertError;
use engine::Engine;
use statement::{Effect, effect, fill_in, statements};
use wanted::{Change, SETTINGS, WINDOW};

pub use wanted::Wanted;

/// One file of `sql/`.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "flows",
        sql: include_str!("../../../sql/001_flows.sql"),
    },
    Migration {
        version: 2,
        name: "exporters",
        sql: include_str!("../../../sql/002_exporters.sql"),
    },
    Migration {
        version: 3,
        name: "interface_counters",
        sql: include_str!("../../../sql/003_interface_counters.sql"),
    },
    Migration {
        version: 4,
        name: "names",
        sql: include_str!("../../../sql/004_names.sql"),
    },
    Migration {
        version: 5,
        name: "extra",
        sql: include_str!("../../../sql/005_extra.sql"),
    },
    Migration {
        version: 6,
        name: "enrich",
        sql: include_str!("../../../sql/006_enrich.sql"),
    },
    Migration {
        version: 7,
        name: "hosts",
        sql: include_str!("../../../sql/007_hosts.sql"),
    },
    Migration {
        version: 8,
        name: "interfaces",
        sql: include_str!("../../../sql/008_interfaces.sql"),
    },
    Migration {
        version: 9,
        name: "agent_drops",
        sql: include_str!("../../../sql/009_agent_drops.sql"),
    },
    Migration {
        version: 10,
        name: "rollups",
        sql: include_str!("../../../sql/010_rollups.sql"),
    },
    Migration {
        version: 11,
        name: "collector_stats",
        sql: include_str!("../../../sql/011_collector_stats.sql"),
    },
    Migration {
        version: 12,
        name: "dashboards",
        sql: include_str!("../../../sql/012_dashboards.sql"),
    },
    Migration {
        version: 13,
        name: "merging",
        sql: include_str!("../../../sql/013_merging.sql"),
    },
];

/// The newest migration that this binary knows.
#[must_use]
pub fn version() -> u32 {
    MIGRATIONS.last().map_or(0, |newest| newest.version)
}

/// What is to be done to a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are run.
    pub steps: Vec<Step>,
    /// What the configuration wants and ClickHouse cannot alter, with the way out.
    pub refused: Vec<String>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is for: `migration 9, agent_drops`; the statements of one migration say the same.
    pub what: String,
    /// As ClickHouse gets it.
    pub statement: String,
}

impl Plan {
    fn add(&mut self, what: impl Into<String>, statement: String) {
        let what = what.into();
        self.steps.push(Step { what, statement });
    }

    /// What the steps are for, each once.
    pub fn changes(&self) -> impl Iterator<Item = &str> {
        let mut last = "";
        self.steps.iter().filter_map(move |step| {
            let is_new = step.what != last;
            last = &step.what;
            is_new.then_some(last)
        })
    }
}

/// Makes the database and its tables, or brings them up to date, and has retention and settings
/// follow the configuration; all of it on every node of the cluster, if there is one. Tells what it
/// did.
///
/// # Errors
/// When ClickHouse fails, when the database was made by a newer version, or when it was made with
/// `store.cluster` and is to be one without, or the reverse.
pub async fn apply(client: &Client, database: &str, wanted: &Wanted) -> Result<Plan, InsertError> {
    let plan = plan(client, database, wanted).await?;
    let client = cluster::for_schema(client, wanted.cluster());
    for step in &plan.steps {
        client.query_raw(&step.statement).execute().await?;
    }
    for what in plan.changes() {
        info!(database, "schema: {what}");
    }
    for refused in &plan.refused {
        warn!(database, "schema: {refused}");
    }
    Ok(plan)
}

/// What [`apply`] would do; changes nothing.
///
/// # Errors
/// As those of [`apply`].
pub async fn plan(client: &Client, database: &str, wanted: &Wanted) -> Result<Plan, InsertError> {
    let place = Place { client, database };
    let mut plan = Plan::default();
    // Asked first: a user who may not create databases can work in one that exists.
    if !place.exists().await? {
        plan.add(
            format!("database {database}"),
            make_database(database, wanted),
        );
    }
    let found = place.tables().await?;
    let is_there = |table: &str| found.iter().any(|(name, _)| name == table);
    let applied = if is_there(MIGRATIONS_TABLE) {
        place.applied_version().await?
    } else {
        0
    };
    if applied > version() {
        return Err(InsertError::refused(format!(
            "database {database} has schema {applied}, this version knows {} at most; \
             install the newer flowsluice again, or name another store.database",
            version()
        )));
    }
    let mut ours = made(MIGRATIONS, wanted.cluster());
    ours.retain(|table| table != MIGRATIONS_TABLE);
    let ours: Vec<_> = (found.iter())
        .filter(|(table, _)| ours.contains(table))
        .map(|(table, engine)| (table, Engine::of(engine)))
        .collect();
    for (table, engine) in &ours {
        if let Some(how) = made_otherwise(table, *engine, wanted.cluster()) {
            return Err(InsertError::refused(format!(
                "{database}.{table} was made {how} store.cluster; name another store.database, or \
                 set the key as it was"
            )));
        }
    }
    // Tables that were dropped by hand are made again, whatever schema_migrations says.
    let up_to_now = MIGRATIONS.iter().filter(|m| m.version <= applied);
    let is_whole = made(up_to_now, wanted.cluster())
        .iter()
        .all(|name| is_there(name));
    let applied = if is_whole { applied } else { 0 };
    for migration in MIGRATIONS.iter().filter(|m| m.version > applied) {
        let what = format!("migration {}, {}", migration.version, migration.name);
        for statement in filled(migration, database, wanted) {
            plan.add(what.clone(), statement);
        }
    }
    for (table, engine) in ours {
        follow(table, engine, database, wanted, &mut plan);
    }
    Ok(plan)
}

/// "with" or "without" the cluster, where an existing table was made the other way than the
/// configuration has it.
fn made_otherwise(table: &str, found: Engine<'_>, cluster: Option<&str>) -> Option<&'static str> {
    let wanted = Engine::of(&declaration(table, cluster)).is_distributed();
    match (found.is_distributed(), wanted) {
        (true, false) => Some("with"),
        (false, true) => Some("without"),
        _ => None,
    }
}

/// All statements that make a database of now, as ClickHouse would get them.
#[must_use]
pub fn sql(database: &str, wanted: &Wanted) -> Vec<String> {
    let all = MIGRATIONS
        .iter()
        .flat_map(|one| filled(one, database, wanted));
    std::iter::once(make_database(database, wanted))
        .chain(all)
        .collect()
}

/// The tables whose rows are kept for a retention of the configuration.
#[must_use]
pub fn kept(wanted: &Wanted) -> Vec<String> {
    let cluster = wanted.cluster();
    let mut tables = made(MIGRATIONS, cluster);
    tables.retain(|table| declaration(table, cluster).contains(KEPT));
    tables
}

fn make_database(database: &str, wanted: &Wanted) -> String {
    let on_cluster = cluster::on_cluster(wanted.cluster());
    format!(
        "CREATE DATABASE IF NOT EXISTS {}{on_cluster}",
        quoted(database)
    )
}

impl Migration {
    /// Its statements on one server or on a cluster.
    fn sql_for(&self, cluster: Option<&str>) -> &'static str {
        match cluster {
            Some(_) => cluster::MIGRATIONS[self.version as usize - 1],
            None => self.sql,
        }
    }
}

/// The tables and views that are there after `migrations`.
fn made<'a>(
    migrations: impl IntoIterator<Item = &'a Migration>,
    cluster: Option<&str>,
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let migrations = migrations.into_iter();
    for statement in migrations.flat_map(|m| statements(m.sql_for(cluster))) {
        match effect(&statement) {
            Effect::Table(name) | Effect::View(name) if !names.iter().any(|n| n == name) => {
                names.push(name.to_owned());
            }
            Effect::Drops(name) => names.retain(|other| other != name),
            _ => {}
        }
    }
    names
}

/// The statements of a migration with the one that records it, as ClickHouse gets them.
fn filled(migration: &Migration, database: &str, wanted: &Wanted) -> Vec<String> {
    let Migration { version, name, .. } = migration;
    let record = format!(
        "INSERT INTO {{database}}.{MIGRATIONS_TABLE} (version, name) SELECT {version}, '{name}' \
         WHERE {version} NOT IN (SELECT version FROM {{database}}.{MIGRATIONS_TABLE})"
    );
    let statements = statements(migration.sql_for(wanted.cluster())).chain([record]);
    statements
        .map(|statement| fill_in(&statement, database, wanted))
        .collect()
}

/// Has retention and settings of an existing table follow the configuration.
fn follow(table: &str, found: Engine<'_>, database: &str, wanted: &Wanted, plan: &mut Plan) {
    let on_cluster = cluster::on_cluster(wanted.cluster());
    let alter = format!("ALTER TABLE {}.{table}{on_cluster}", quoted(database));
    let seconds = wanted.retention_seconds_of(table);
    // Someone may have given a table a rule of their own; it stays.
    if let Some((column, kept)) = found.retention.filter(|(_, kept)| *kept != seconds) {
        let (from, to) = (wanted::shown(kept), wanted::shown(seconds));
        // Not waited for: ClickHouse goes through the existing parts by itself, and inserts need
        // not stand still for it.
        plan.add(
            format!("{table}: retention {from} -> {to}"),
            format!(
                "{alter} MODIFY TTL {column} + toIntervalSecond({seconds}) SETTINGS alter_sync = 0"
            ),
        );
    }
    let declared = declaration(table, wanted.cluster());
    let declared = Engine::of(&declared);
    let settings = SETTINGS
        .into_iter()
        .filter(|name| found.is_merge_tree() && !(found.is_replicated() && *name == WINDOW));
    for name in settings {
        let value = found.setting(name);
        let from = value.map_or("default".to_owned(), |value| value.to_string());
        let (to, change) = match wanted.setting(table, name, value, declared.setting(name)) {
            Change::Nothing => continue,
            Change::To(value) => (
                value.to_string(),
                format!("MODIFY SETTING {name} = {value}"),
            ),
            Change::ToDefault => ("default".to_owned(), format!("RESET SETTING {name}")),
        };
        plan.add(
            format!("{table}: {name} {from} -> {to}"),
            format!("{alter} {change}"),
        );
    }
    let is_flows = wanted::is_flows(table) && !found.partition.is_empty();
    let named = wanted.partition_named().filter(|_| is_flows);
    if let Some(length) = named.filter(|length| wanted::key_of(*length) != found.partition) {
        plan.refused.push(format!(
            "store.partition: \"{}\" is for a table that is made; {table} has partitions by {}, \
             which ClickHouse cannot alter; set \"auto\" to keep it, or with all collectors \
             stopped drop the views on {table}, rename it to {table}_before, run 'flowsluice \
             schema apply', and ask both until {table}_before may be dropped",
            length.name(),
            found.partition,
        ));
    }
}

/// How many tokens of blocks a table that is no replica remembers; 0 where it has no number.
pub(super) fn window_of(engine_full: &str) -> u64 {
    Engine::of(engine_full).setting(WINDOW).unwrap_or(0)
}

/// The engine that `sql/` makes a table with, in one line.
fn declaration(table: &str, cluster: Option<&str>) -> String {
    let mut all = MIGRATIONS
        .iter()
        .flat_map(|m| statements(m.sql_for(cluster)));
    let found = all.find(|statement| effect(statement) == Effect::Table(table));
    let found = found.unwrap_or_default();
    let engine = found
        .split_once("\nENGINE = ")
        .map_or("", |(_, engine)| engine);
    engine.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `name` as an identifier.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// The rule of such a table.
const KEPT: &str = " + toIntervalSecond({retention_seconds})";

/// What was applied, by version.
const MIGRATIONS_TABLE: &str = "schema_migrations";

struct Place<'a> {
    client: &'a Client,
    database: &'a str,
}

impl Place<'_> {
    async fn exists(&self) -> Result<bool, InsertError> {
        let sql = "SELECT count() FROM system.databases WHERE name = ?";
        let query = self.client.query(sql).bind(self.database);
        Ok(query.fetch_one::<u64>().await? > 0)
    }

    async fn applied_version(&self) -> Result<u32, InsertError> {
        let newest = format!(
            "SELECT max(version) FROM {}.{MIGRATIONS_TABLE}",
            quoted(self.database)
        );
        Ok(self.client.query_raw(&newest).fetch_one().await?)
    }

    /// Name and full engine of each table and view in the database.
    async fn tables(&self) -> Result<Vec<(String, String)>, InsertError> {
        let sql = "SELECT name, engine_full FROM system.tables WHERE database = ? ORDER BY name";
        let query = self.client.query(sql).bind(self.database);
        Ok(query.fetch_all().await?)
    }
}

/// Name and rest of each column that `sql/` gives `table`: those that it was made with, then
/// those that were added.
#[cfg(test)]
pub(crate) fn declared(table: &str) -> Vec<(String, String)> {
    let creates = format!("CREATE TABLE IF NOT EXISTS {{database}}.{table}\n(\n");
    let alters = format!("ALTER TABLE {{database}}.{table}\n");
    let mut columns = Vec::new();
    for statement in MIGRATIONS.iter().flat_map(|m| statements(m.sql)) {
        let (body, adds) = if let Some(body) = statement.strip_prefix(&creates) {
            (body.split_once("\n)\n").unwrap().0, "")
        } else if let Some(body) = statement.strip_prefix(&alters) {
            (body, "ADD COLUMN IF NOT EXISTS ")
        } else {
            continue;
        };
        if body.trim_start().starts_with("MODIFY SETTING ") {
            continue;
        }
        for line in body.lines().filter(|line| !line.is_empty()) {
            let line = line.trim().trim_end_matches(',');
            let (name, rest) = line.strip_prefix(adds).unwrap().split_once(' ').unwrap();
            columns.push((name.to_owned(), rest.trim().to_owned()));
        }
    }
    assert!(!columns.is_empty(), "no migration makes {table}");
    columns
}

#[cfg(test)]
mod tests;
