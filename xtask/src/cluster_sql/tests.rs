use super::*;

/// Takes back what [`Schema::on_cluster`] did, knowing nothing of how: the statements of one
/// server. `tables` are those that it makes.
fn undone(sql: &str, tables: &[String]) -> Vec<String> {
    let is_distributed = |statement: &String| {
        let altered = statement.strip_prefix("ALTER TABLE {database}.");
        let altered = altered.and_then(|rest| rest.split(' ').next());
        statement.contains("ENGINE = Distributed(")
            // A view that fills a table is no distributed one, and keeps its name.
            || altered.is_some_and(|name| !name.ends_with("_local") && !name.ends_with("_mv"))
    };
    let mut all = statements(sql);
    all.retain(|statement| !is_distributed(statement));
    all.iter()
        .map(|statement| one_server(statement, tables))
        .collect()
}

fn one_server(statement: &str, tables: &[String]) -> String {
    let mut text = statement.replace(" ON CLUSTER '{cluster}'", "");
    if let Some((before, rest)) = text.split_once("ENGINE = Replicated") {
        let (engine, rest) = rest.split_once('(').unwrap();
        let (_, rest) = rest.split_once("{replica}'").unwrap();
        text = match rest.strip_prefix(", ") {
            Some(arguments) => format!("{before}ENGINE = {engine}({arguments}"),
            None => format!("{before}ENGINE = {engine}{}", &rest[1..]),
        };
    }
    for table in tables {
        // What is read keeps its name.
        text = text.replace(&format!(".{table}_local AS {table}"), &format!(".{table}"));
        for end in ["\n", " ", ",", ")"] {
            text = text.replace(&format!(".{table}_local{end}"), &format!(".{table}{end}"));
        }
    }
    let week = ",\n    replicated_deduplication_window_seconds = 604800";
    text.replace(week, "")
        .replace("    replicated_dedup", "    non_replicated_dedup")
        .replace(
            "deduplication_window = 10000",
            "deduplication_window = 1000",
        )
}

#[test]
fn what_is_committed_is_what_the_migrations_make() {
    check().unwrap();
}

#[test]
fn every_migration_taken_back_is_the_one_it_was_made_from() {
    let of_server = migrations(&folder()).unwrap();
    let all = of_server.values().flat_map(|sql| statements(sql));
    let tables = all.filter_map(|statement| {
        let kinds = ["TABLE", "VIEW"].map(|kind| format!("CREATE {kind} IF NOT EXISTS {DATABASE}"));
        let rest = kinds
            .iter()
            .find_map(|create| statement.strip_prefix(create));
        Some(rest?.split(['\n', ' ']).next()?.to_owned())
    });
    let tables: Vec<_> = tables.collect();
    for (name, made) in made().unwrap() {
        let of_server = statements(&of_server[&name]);
        assert_eq!(undone(&made, &tables), of_server, "{name}");
    }
}

#[test]
fn every_statement_names_the_cluster_and_no_plain_engine_is_left() {
    for (name, made) in made().unwrap() {
        for statement in statements(&made) {
            assert!(statement.contains(ON_CLUSTER), "{name}: {statement}");
            assert!(!statement.contains("non_replicated"), "{name}: {statement}");
            let engine = statement.split("ENGINE = ").nth(1).unwrap_or("Null");
            let forms = ["Replicated", "Distributed(", "Null"];
            let is_ours = forms.iter().any(|form| engine.starts_with(form));
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
fn a_materialized_view_is_within_its_shard_and_a_view_is_asked_of_all_shards() {
    let mut schema = schema();
    let view = "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.v\nTO {database}.flows AS \
                SELECT flows.a FROM {database}.flows JOIN {database}.flows AS b USING a, \
                {database}.flowsx";
    assert_eq!(
        schema.on_cluster(view).unwrap(),
        [
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.v ON CLUSTER '{cluster}'\n\
             TO {database}.flows_local AS SELECT flows.a FROM {database}.flows_local AS flows \
             JOIN {database}.flows_local AS b USING a, {database}.flowsx"
        ]
    );
    let made =
        schema.on_cluster("CREATE VIEW IF NOT EXISTS {database}.w AS SELECT {database}.flows");
    assert_eq!(
        made.unwrap(),
        [
            "CREATE VIEW IF NOT EXISTS {database}.w_local ON CLUSTER '{cluster}' AS SELECT \
             {database}.flows_local",
            "CREATE TABLE IF NOT EXISTS {database}.w ON CLUSTER '{cluster}' AS {database}.w_local\n\
             ENGINE = Distributed('{cluster}', '{database_text}', 'w_local', rand())"
        ]
    );
    assert_eq!(
        schema
            .on_cluster("DROP VIEW IF EXISTS {database}.w")
            .unwrap(),
        [
            "DROP TABLE IF EXISTS {database}.w ON CLUSTER '{cluster}'",
            "DROP VIEW IF EXISTS {database}.w_local ON CLUSTER '{cluster}'"
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
fn a_table_that_rows_only_pass_is_on_each_node_by_itself() {
    let mut schema = schema();
    let columns = "\n(\n    a Int8\n)\nENGINE = Null";
    let null = format!("CREATE TABLE IF NOT EXISTS {{database}}.n{columns}");
    let made =
        format!("CREATE TABLE IF NOT EXISTS {{database}}.n ON CLUSTER '{{cluster}}'{columns}");
    assert_eq!(schema.on_cluster(&null).unwrap(), [made]);
    assert_eq!(schema.local("FROM {database}.n"), "FROM {database}.n");
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
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.v\nREFRESH EVERY 5 MINUTE APPEND\n\
         TO {database}.flows AS SELECT a FROM {database}.flows ORDER BY a",
    ] {
        assert!(schema.on_cluster(statement).is_err(), "{statement}");
    }
}
