use super::*;

/// Takes back what [`Schema::on_cluster`] did, knowing nothing of how: the statements of one server.
fn undone(sql: &str) -> Vec<String> {
    let all = statements(sql);
    let is_distributed = |statement: &str| {
        let begins = |form: &str, rest: &str| {
            let after = statement
                .strip_prefix(form)
                .and_then(|s| s.strip_prefix(DATABASE));
            after.is_some_and(|after| {
                after
                    .split(rest)
                    .next()
                    .is_some_and(|name| !name.ends_with("_local") && !EVERYWHERE.contains(&name))
            })
        };
        statement.contains("ENGINE = Distributed(") || begins("ALTER TABLE ", " ON CLUSTER")
    };
    let kept = all.iter().filter(|statement| !is_distributed(statement));
    kept.map(|statement| one_server(statement)).collect()
}

fn one_server(statement: &str) -> String {
    let text = statement.replace(" ON CLUSTER '{cluster}'", "");
    let text = match text.split_once("ENGINE = Replicated") {
        None => text,
        Some((before, rest)) => {
            let (engine, rest) = rest.split_once('(').unwrap();
            let (_, rest) = rest.split_once("{replica}'").unwrap();
            match rest.strip_prefix(", ") {
                Some(arguments) => format!("{before}ENGINE = {engine}({arguments}"),
                None => format!(
                    "{before}ENGINE = {engine}{}",
                    rest.strip_prefix(')').unwrap()
                ),
            }
        }
    };
    let text = text.replace(
        ",\n    replicated_deduplication_window_seconds = 604800",
        "",
    );
    // No name but a local table's ends like that.
    let text: String = (text.split("_local").enumerate())
        .map(|(index, piece)| {
            let is_in_name = piece.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            format!(
                "{}{piece}",
                if index > 0 && is_in_name {
                    "_local"
                } else {
                    ""
                }
            )
        })
        .collect();
    text.replace("    replicated_dedup", "    non_replicated_dedup")
        .trim()
        .to_owned()
}

#[test]
fn what_is_committed_is_what_the_migrations_make() {
    check().unwrap();
}

#[test]
fn every_migration_taken_back_is_the_one_it_was_made_from() {
    let of_server = migrations(&folder()).unwrap();
    for (name, made) in made().unwrap() {
        assert_eq!(undone(&made), statements(&of_server[&name]), "{name}");
    }
}

#[test]
fn every_statement_names_the_cluster_and_no_plain_engine_is_left() {
    for (name, made) in made().unwrap() {
        for statement in statements(&made) {
            assert!(statement.contains(ON_CLUSTER), "{name}: {statement}");
            assert!(!statement.contains("non_replicated"), "{name}: {statement}");
            let engine = statement.split("ENGINE = ").nth(1).unwrap_or("Replicated");
            let is_ours = engine.starts_with("Replicated") || engine.starts_with("Distributed(");
            assert!(is_ours, "{name}: {statement}");
        }
    }
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    let flows = "CREATE TABLE IF NOT EXISTS {database}.flows\n(\n    exporter_addr IPv6,\n    \
                 a Int8\n)\nENGINE = SummingMergeTree((a))\nORDER BY a\nSETTINGS\n    \
                 non_replicated_deduplication_window = 7,\n    fsync_after_insert = 1";
    assert_eq!(
        schema.on_cluster(flows).unwrap(),
        [
            "CREATE TABLE IF NOT EXISTS {database}.flows_local ON CLUSTER '{cluster}'\n(\n    \
             exporter_addr IPv6,\n    a Int8\n)\n\
             ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/\
             flows_local', '{replica}', (a))\nORDER BY a\nSETTINGS\n    \
             replicated_deduplication_window = 7,\n    \
             replicated_deduplication_window_seconds = 604800,\n    fsync_after_insert = 1",
            "CREATE TABLE IF NOT EXISTS {database}.flows ON CLUSTER '{cluster}' AS \
             {database}.flows_local\nENGINE = Distributed('{cluster}', '{database_text}', \
             'flows_local', cityHash64(exporter_addr))",
        ]
    );
    schema
}

#[test]
fn a_materialized_view_reads_and_writes_local_tables_and_a_view_asks_all_shards() {
    let mut schema = schema();
    let select = "TO {database}.flows AS SELECT a FROM {database}.flows, {database}.flowsx";
    let view = format!("CREATE MATERIALIZED VIEW IF NOT EXISTS {{database}}.v\n{select}");
    assert_eq!(
        schema.on_cluster(&view).unwrap(),
        [
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.v ON CLUSTER '{cluster}'\n\
          TO {database}.flows_local AS SELECT a FROM {database}.flows_local, {database}.flowsx"
        ]
    );
    assert_eq!(
        schema
            .on_cluster("CREATE OR REPLACE VIEW {database}.w AS SELECT 1 FROM {database}.flows")
            .unwrap(),
        [
            "CREATE OR REPLACE VIEW {database}.w ON CLUSTER '{cluster}' AS SELECT 1 FROM {database}.flows"
        ]
    );
    assert_eq!(
        schema
            .on_cluster("DROP VIEW IF EXISTS {database}.v")
            .unwrap(),
        ["DROP VIEW IF EXISTS {database}.v ON CLUSTER '{cluster}'"]
    );
}

#[test]
fn columns_are_altered_in_both_tables_and_settings_in_the_local_one() {
    let mut schema = schema();
    let mut alter =
        |commands: &str| schema.on_cluster(&format!("ALTER TABLE {{database}}.flows\n{commands}"));
    let added = alter("    ADD COLUMN IF NOT EXISTS b Int8,\n    MODIFY COLUMN a Int8").unwrap();
    assert!(
        added[0].starts_with("ALTER TABLE {database}.flows_local ON CLUSTER"),
        "{added:?}"
    );
    assert!(
        added[1].starts_with("ALTER TABLE {database}.flows ON CLUSTER"),
        "{added:?}"
    );
    let dropped = alter("    DROP COLUMN IF EXISTS b").unwrap();
    assert!(
        dropped[0].starts_with("ALTER TABLE {database}.flows ON CLUSTER"),
        "{dropped:?}"
    );
    assert_eq!(
        alter("    MODIFY SETTING non_replicated_deduplication_window = 9").unwrap(),
        [
            "ALTER TABLE {database}.flows_local ON CLUSTER '{cluster}'\n    MODIFY SETTING \
          replicated_deduplication_window = 9,\n    \
          replicated_deduplication_window_seconds = 604800"
        ]
    );
    assert!(alter("    ADD COLUMN b Int8,\n    ADD INDEX i a TYPE minmax").is_err());
}

#[test]
fn what_cannot_run_on_every_node_is_refused() {
    let mut schema = schema();
    for statement in [
        "INSERT INTO {database}.flows SELECT 1",
        "ALTER TABLE {database}.nothing\n    ADD COLUMN b Int8",
        "CREATE TABLE IF NOT EXISTS {database}.m\n(\n    a Int8\n)\nENGINE = Memory",
        "CREATE TABLE IF NOT EXISTS {database}.c AS {database}.flows",
    ] {
        assert!(schema.on_cluster(statement).is_err(), "{statement}");
    }
}
