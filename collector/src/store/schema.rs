//! Brings the tables of ClickHouse to what this version of the binary writes.
//!
//! `sql/` holds numbered migrations; each statement may run again without harm, so a start that was
//! cut off, or two at once, heal themselves. What was applied stands in `schema_migrations`.

use std::time::Duration;

use clickhouse::Client;
use tracing::info;

use super::insert::InsertError;

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
];

/// The newest migration that this binary knows.
#[must_use]
pub fn version() -> u32 {
    MIGRATIONS.last().map_or(0, |newest| newest.version)
}

/// Makes the database and its tables, or brings them up to date, and sets the retention.
///
/// # Errors
/// When ClickHouse fails, or when the database was made by a newer version.
pub async fn apply(
    client: &Client,
    database: &str,
    retention: Duration,
) -> Result<(), InsertError> {
    let place = Place {
        client,
        database,
        retention_seconds: retention.as_secs().max(1),
    };
    place.make_database().await?;
    let applied = place.applied_version().await?;
    if applied > version() {
        return Err(InsertError::refused(format!(
            "database {database} has schema {applied}, this version knows {} at most; \
             install the newer flowsluice again, or name another store.database",
            version()
        )));
    }
    // Tables that were dropped by hand are made again, whatever schema_migrations says.
    let found = place.tables().await?;
    let is_there = |table: &String| found.iter().any(|(name, _)| name == table);
    let up_to_now = MIGRATIONS.iter().filter(|m| m.version <= applied);
    let is_whole = up_to_now.flat_map(tables_of).all(|table| is_there(&table));
    let applied = if is_whole { applied } else { 0 };
    for migration in MIGRATIONS.iter().filter(|m| m.version > applied) {
        place.migrate(migration).await?;
    }
    place.set_retention().await
}

/// The tables that a migration makes.
fn tables_of(migration: &Migration) -> impl Iterator<Item = String> {
    const MAKES: &str = "CREATE TABLE IF NOT EXISTS {database}.";
    statements(migration.sql).filter_map(|statement| {
        let (name, _) = statement.strip_prefix(MAKES)?.split_once('\n')?;
        Some(name.to_owned())
    })
}

/// `name` as an identifier.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

struct Place<'a> {
    client: &'a Client,
    database: &'a str,
    retention_seconds: u64,
}

impl Place<'_> {
    async fn make_database(&self) -> Result<(), InsertError> {
        // Asked first: a user who may not create databases can work in one that exists.
        let exists = "SELECT count() FROM system.databases WHERE name = ?";
        let found: u64 = self
            .client
            .query(exists)
            .bind(self.database)
            .fetch_one()
            .await?;
        if found == 0 {
            let database = quoted(self.database);
            self.run(&format!("CREATE DATABASE IF NOT EXISTS {database}"))
                .await?;
        }
        Ok(())
    }

    async fn applied_version(&self) -> Result<u32, InsertError> {
        if !self.exists("schema_migrations").await? {
            return Ok(0);
        }
        let newest = format!(
            "SELECT max(version) FROM {}.schema_migrations",
            quoted(self.database)
        );
        Ok(self.client.query_raw(&newest).fetch_one().await?)
    }

    async fn exists(&self, table: &str) -> Result<bool, InsertError> {
        let sql = "SELECT count() FROM system.tables WHERE database = ? AND name = ?";
        let query = self.client.query(sql).bind(self.database).bind(table);
        Ok(query.fetch_one::<u64>().await? > 0)
    }

    async fn migrate(&self, migration: &Migration) -> Result<(), InsertError> {
        let Migration { version, name, sql } = migration;
        for statement in statements(sql) {
            self.run(&self.fill_in(&statement)).await?;
        }
        let record = "INSERT INTO {database}.schema_migrations (version, name) VALUES ";
        self.run(&format!("{}({version}, '{name}')", self.fill_in(record)))
            .await?;
        info!(version, name, database = self.database, "schema applied");
        Ok(())
    }

    fn fill_in(&self, sql: &str) -> String {
        sql.replace("{database}", &quoted(self.database))
            .replace("{retention_seconds}", &self.retention_seconds.to_string())
    }

    /// Name and full engine of each table in the database.
    async fn tables(&self) -> Result<Vec<(String, String)>, InsertError> {
        let sql = "SELECT name, engine_full FROM system.tables WHERE database = ?";
        let query = self.client.query(sql).bind(self.database);
        Ok(query.fetch_all().await?)
    }

    async fn set_retention(&self) -> Result<(), InsertError> {
        let wanted = self.retention_seconds;
        let ours: Vec<_> = MIGRATIONS.iter().flat_map(tables_of).collect();
        for (table, engine) in self.tables().await? {
            // Someone may have given a table a rule of their own; it stays.
            let rule = retention_of(&engine).filter(|_| ours.contains(&table));
            let Some((column, found)) = rule.filter(|(_, found)| *found != wanted) else {
                continue;
            };
            // Not waited for: ClickHouse goes through the existing parts by itself, and inserts
            // need not stand still for it.
            self.run(&self.fill_in(&format!(
                "ALTER TABLE {{database}}.{table} \
                 MODIFY TTL {column} + toIntervalSecond({{retention_seconds}}) \
                 SETTINGS alter_sync = 0"
            )))
            .await?;
            info!(%table, from_s = found, to_s = wanted, "retention changed");
        }
        Ok(())
    }

    async fn run(&self, sql: &str) -> Result<(), InsertError> {
        Ok(self.client.query_raw(sql).execute().await?)
    }
}

/// Column and seconds of `... TTL time_received + toIntervalSecond(2592000) SETTINGS ...`.
fn retention_of(engine_full: &str) -> Option<(&str, u64)> {
    let (_, rule) = engine_full.split_once(" TTL ")?;
    let (rule, _) = rule.split_once(" SETTINGS ").unwrap_or((rule, ""));
    let (column, rest) = rule.split_once(" + toIntervalSecond(")?;
    let seconds = rest.strip_suffix(')')?.parse().ok()?;
    let is_name = column
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((column, seconds))
}

/// The statements of a file, which end in `;` at the end of a line; comment lines are left out.
fn statements(sql: &str) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = sql
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    let text = lines.join("\n") + "\n";
    let statements: Vec<String> = text
        .split(";\n")
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect();
    statements.into_iter()
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
pub(crate) mod tests {
    use super::*;
    use crate::batch::schema::{COLUMNS, Source};

    #[test]
    fn sql_declares_the_columns_that_the_batch_fills() {
        let declared = declared("flows");
        let names = |all: &[(String, String)]| -> Vec<String> {
            all.iter().map(|(name, _)| name.clone()).collect()
        };
        let wanted: Vec<_> = COLUMNS.iter().map(|c| c.name.to_owned()).collect();
        assert_eq!(names(&declared), wanted);
        for (column, (name, rest)) in COLUMNS.iter().zip(&declared) {
            let sql_type = column.sql_type;
            let rest = rest
                .strip_prefix(sql_type)
                .unwrap_or_else(|| panic!("{name} {rest}: the batch sends {sql_type}"))
                .trim();
            match column.source {
                Source::Alias(expression) => {
                    assert_eq!(rest, format!("ALIAS {expression}"), "{name}");
                }
                _ => assert!(
                    rest.is_empty()
                        || rest.starts_with("CODEC(")
                        // Said in every block, so that nobody takes zeros for left out.
                        || (name == "client_is_src" && rest.starts_with("DEFAULT true CODEC(")),
                    "{name} {rest}"
                ),
            }
        }
    }

    #[test]
    fn migrations_are_numbered_without_gaps() {
        for (i, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, i + 1, "{}", migration.name);
        }
    }

    #[test]
    fn every_table_of_ours_keeps_its_rows_as_long_as_is_configured_and_none_twice() {
        let all = || {
            MIGRATIONS
                .iter()
                .flat_map(|migration| statements(migration.sql))
        };
        let tables: Vec<_> = MIGRATIONS.iter().flat_map(tables_of).collect();
        assert_eq!(tables[..3], ["schema_migrations", "flows", "exporter_gaps"]);
        for table in &tables[1..] {
            let makes = format!("CREATE TABLE IF NOT EXISTS {{database}}.{table}\n");
            let statement = all().find(|statement| statement.starts_with(&makes));
            let statement = statement.expect("its name was read there");
            if statement.ends_with("ENGINE = Null") {
                continue; // rows pass through it
            }
            assert!(statement.contains("\nTTL "), "{table}");
            assert!(
                statement.contains("non_replicated_deduplication_window"),
                "{table}"
            );
        }
    }

    #[test]
    fn every_statement_may_run_again() {
        for migration in MIGRATIONS {
            for statement in statements(migration.sql) {
                let guards = ["IF NOT EXISTS", "MODIFY COLUMN IF EXISTS"];
                let is_guarded = guards.iter().any(|guard| statement.contains(guard));
                assert!(is_guarded, "{statement}");
            }
        }
    }

    #[test]
    fn comments_and_semicolons_inside_lines_do_not_end_a_statement() {
        let sql = "-- one; two\nSELECT ';', 1;\n\nSELECT\n  2;\n";
        let found: Vec<_> = statements(sql).collect();
        assert_eq!(found, ["SELECT ';', 1", "SELECT\n  2"]);
    }

    #[test]
    fn the_retention_is_read_from_the_engine() {
        let engine = "MergeTree PARTITION BY toDate(time_received) ORDER BY time_received \
                      TTL time_received + toIntervalSecond(2592000) \
                      SETTINGS index_granularity = 8192";
        assert_eq!(retention_of(engine), Some(("time_received", 2_592_000)));
        assert_eq!(retention_of("MergeTree ORDER BY x"), None);
        let rule = "MergeTree ORDER BY x TTL x + toIntervalSecond(5) WHERE y SETTINGS z = 1";
        assert_eq!(retention_of(rule), None);
    }
}
