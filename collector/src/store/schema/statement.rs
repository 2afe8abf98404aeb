//! Statements of `sql/`: cut apart, and filled in with what the configuration wants.

use super::forms::{Form, parted};
use super::quoted;
use super::wanted::{WINDOW, Wanted};

/// The statements of a file, which end in `;` at the end of a line; comment lines are left out.
pub(super) fn statements(sql: &str) -> impl Iterator<Item = String> {
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

/// What a statement does to the list of tables and views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect<'a> {
    /// Makes a table of this name, which holds rows.
    Table(&'a str),
    /// Makes a view of this name.
    View(&'a str),
    /// Removes a table or view of this name.
    Drops(&'a str),
    /// Alters this table.
    Alters(&'a str),
    /// Nothing of these.
    None,
}

/// What `statement` of a migration does; names in it stand behind `{database}.`.
pub(super) fn effect(statement: &str) -> Effect<'_> {
    let Some((form, _, name, _)) = parted(statement) else {
        return Effect::None;
    };
    match form {
        Form::Table => Effect::Table(name),
        Form::Materialized | Form::View => Effect::View(name),
        Form::Drop => Effect::Drops(name),
        Form::Alter => Effect::Alters(name),
    }
}

/// `statement` as it is run in `database`.
pub(super) fn fill_in(statement: &str, database: &str, wanted: &Wanted) -> String {
    let effect = effect(statement);
    let table = match effect {
        Effect::Table(table) | Effect::Alters(table) => table,
        Effect::View(_) | Effect::Drops(_) | Effect::None => "",
    };
    let mut text = statement.to_owned();
    if let Effect::Table(table) = effect {
        if let Some(partition) = wanted.partition_of(table) {
            text = text.replacen(BY_DAY, &format!("PARTITION BY {partition}"), 1);
        }
        for (name, value) in wanted.settings_of(table) {
            text = with_setting(&text, name, value);
        }
    }
    let retention = wanted.retention_seconds_of(table).to_string();
    text.replace("{database}", &quoted(database))
        .replace("{database_text}", database)
        .replace("{cluster}", wanted.cluster().unwrap_or_default())
        .replace("{retention_seconds}", &retention)
}

/// A statement that makes a table, with a setting changed, or added to those that it has.
fn with_setting(statement: &str, name: &str, value: u64) -> String {
    let Some((head, settings)) = statement.split_once(SETTINGS) else {
        return statement.to_owned();
    };
    let mut lines: Vec<String> = settings.split(",\n").map(str::to_owned).collect();
    let is_this = |line: &&mut String| {
        line.trim_start()
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(" = "))
    };
    let line = format!("    {name} = {value}");
    match lines.iter_mut().find(is_this) {
        Some(found) => *found = line,
        // A replicated table has other settings for what it remembers.
        None if name == WINDOW => {}
        None => lines.push(line),
    }
    format!("{head}{SETTINGS}{}", lines.join(",\n"))
}

/// How `flows` is partitioned in `sql/`.
const BY_DAY: &str = "PARTITION BY toDate(time_received)";
const SETTINGS: &str = "\nSETTINGS\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn comments_and_semicolons_inside_lines_do_not_end_a_statement() {
        let sql = "-- one; two\nSELECT ';', 1;\n\nSELECT\n  2;\n";
        let found: Vec<_> = statements(sql).collect();
        assert_eq!(found, ["SELECT ';', 1", "SELECT\n  2"]);
    }

    #[test]
    fn a_statement_tells_what_it_makes_alters_and_removes() {
        for (statement, told) in [
            (
                "CREATE TABLE IF NOT EXISTS {database}.flows\n(",
                Effect::Table("flows"),
            ),
            (
                "CREATE TABLE IF NOT EXISTS {database}.x (a UInt8)",
                Effect::Table("x"),
            ),
            (
                "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.to_x TO {database}.x AS",
                Effect::View("to_x"),
            ),
            (
                "CREATE OR REPLACE VIEW {database}.v AS SELECT 1",
                Effect::View("v"),
            ),
            ("DROP VIEW IF EXISTS {database}.to_x", Effect::Drops("to_x")),
            (
                "ALTER TABLE {database}.x\n    ADD COLUMN IF NOT EXISTS b UInt8",
                Effect::Alters("x"),
            ),
            ("SELECT 1", Effect::None),
        ] {
            assert_eq!(effect(statement), told, "{statement}");
        }
    }

    #[test]
    fn a_table_is_made_with_the_retention_partitions_and_settings_that_are_wanted() {
        let mut store = config::Store {
            retention: std::time::Duration::from_secs(86_400),
            profile: config::Profile::Hdd,
            ..config::Store::default()
        };
        let sql = "CREATE TABLE IF NOT EXISTS {database}.flows\n(\n    x UInt8\n)\n\
                   ENGINE = MergeTree\nPARTITION BY toDate(time_received)\nORDER BY x\n\
                   TTL time_received + toIntervalSecond({retention_seconds})\nSETTINGS\n    \
                   ttl_only_drop_parts = 1,\n    non_replicated_deduplication_window = 1000";
        let filled = fill_in(sql, "db", &Wanted::new(&store));
        let blocks = super::super::wanted::BLOCKS_REMEMBERED;
        let expected = format!(
            "CREATE TABLE IF NOT EXISTS `db`.flows\n(\n    x UInt8\n)\n\
             ENGINE = MergeTree\nPARTITION BY toStartOfHour(time_received)\nORDER BY x\n\
             TTL time_received + toIntervalSecond(86400)\nSETTINGS\n    \
             ttl_only_drop_parts = 1,\n    non_replicated_deduplication_window = {blocks},\n    \
             min_bytes_for_wide_part = 536870912,\n    \
             max_bytes_to_merge_at_max_space_in_pool = 34359738368"
        );
        assert_eq!(filled, expected);

        // Tables beside flows get few rows: their partitions and settings are those of sql/.
        store.retention_of.counters = Some(std::time::Duration::from_secs(7200));
        let beside = sql.replace(".flows", ".interface_counters");
        let filled = fill_in(&beside, "db", &Wanted::new(&store));
        assert!(
            filled.contains("PARTITION BY toDate(time_received)"),
            "{filled}"
        );
        assert!(filled.contains("toIntervalSecond(7200)"), "{filled}");
        assert!(
            filled.ends_with("non_replicated_deduplication_window = 1000"),
            "{filled}"
        );
    }
}
