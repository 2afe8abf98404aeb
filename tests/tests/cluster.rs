//! The schema of a cluster, as far as the embedded engine can have one.
//!
//! It refuses `ON CLUSTER` and has no ClickHouse Keeper for replicated tables. So each statement is
//! given to its parser as it is; without these two the tables are made on several nodes, which are
//! shards of each other, written to by collectors and asked through the distributed tables.

use anyhow::{Context, Result, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::generator::{Totals, generate};
use flowsluice_tests::node::CLUSTER;
use flowsluice_tests::{ClickHouse, Collector, Node, Settings, Store, place, sql};

/// Rows are kept so long by default.
const RETENTION_S: &str = "2592000";

/// The statements of the migrations in `sql/` or `sql/cluster/`, filled in, in their order.
fn statements(folder: &str, database: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for text in sql::migrations(&place::root().join(folder))?.values() {
        let filled = text
            .replace("{database}", database)
            .replace("{database_text}", database)
            .replace("{cluster}", CLUSTER)
            .replace("{retention_seconds}", RETENTION_S);
        all.extend(sql::statements(&filled));
    }
    Ok(all)
}

/// The statement without Keeper: a plain table, made here only.
fn without_keeper(statement: &str) -> Result<String> {
    let text = statement.replace(&format!(" ON CLUSTER '{CLUSTER}'"), "");
    let Some((before, rest)) = text.split_once("ENGINE = Replicated") else {
        return Ok(text);
    };
    let (engine, rest) = rest.split_once('(').context("it has a path in Keeper")?;
    let (_, rest) = rest.split_once("{replica}'").context("it has a replica")?;
    let rest = match rest.strip_prefix(", ") {
        Some(arguments) => format!("({arguments}"),
        None => rest.replacen(')', "", 1),
    };
    let week = ",\n    replicated_deduplication_window_seconds = 604800";
    let rest = rest.replace(week, "");
    let rest = rest.replace(" replicated_dedup", " non_replicated_dedup");
    Ok(format!("{before}ENGINE = {engine}{rest}"))
}

/// Makes the tables of a cluster on a node, as far as they go there, and notes that they are there.
fn make_tables(node: &ClickHouse) -> Result<()> {
    let database = &node.database;
    let anywhere = ClickHouse {
        database: "default".into(),
        ..node.clone()
    };
    anywhere.query(&format!("CREATE DATABASE {database}"))?;
    for statement in statements("sql/cluster", database)? {
        let statement = without_keeper(&statement)?;
        anywhere
            .query(&statement)
            .with_context(|| statement.clone())?;
    }
    let versions = std::fs::read_dir(place::root().join("sql/cluster"))?.count();
    let noted = "INSERT INTO schema_migrations (version, name)";
    node.query(&format!(
        "{noted} SELECT number + 1, 'by hand' FROM numbers({versions})"
    ))?;
    Ok(())
}

#[test]
fn every_statement_is_understood_with_its_cluster_and_its_replicas() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let nodes = Node::start_all(1, &library, folder.path())?;
    let node = nodes[0].clickhouse("default");
    for statement in statements("sql/cluster", "flowsluice")? {
        let tree = node.query(&format!("EXPLAIN AST {statement}"));
        let tree = tree.with_context(|| statement.clone())?;
        let is_one = ["CreateQuery", "AlterQuery", "DropQuery"].map(|kind| tree.starts_with(kind));
        ensure!(is_one.contains(&true), "{statement}\n{tree}");
        // The parser has taken the cluster for one, not for a part of something else.
        let text = statement.replace('\\', "\\\\").replace('\'', "\\'");
        let again = node.query(&format!("SELECT formatQuerySingleLine('{text}')"))?;
        ensure!(again.contains(&format!(" ON CLUSTER {CLUSTER}")), "{again}");
    }
    Ok(())
}

#[test]
fn local_tables_are_those_of_one_server_and_distributed_ones_have_their_columns() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let nodes = Node::start_all(1, &library, folder.path())?;
    let many = nodes[0].clickhouse("many");
    make_tables(&many)?;
    let node = nodes[0].clickhouse("default");
    node.query("CREATE DATABASE one")?;
    for statement in statements("sql", "one")? {
        // As the collector raises it by itself.
        let statement = statement.replace("_window = 1000", "_window = 10000");
        node.query(&statement).with_context(|| statement.clone())?;
    }
    let tables = |condition: &str| {
        let sql = format!(
            "SELECT replaceRegexpOne(name, '_local$', ''), engine_full, \
             replaceRegexpAll(as_select, \
             '(many|one)\\\\.(\\\\w+?)(_local)?( AS \\\\w+)?\\\\b', '\\\\2') \
             FROM system.tables WHERE {condition} ORDER BY name"
        );
        node.query(&sql)
    };
    let one = tables("database = 'one'")?;
    ensure!(one.lines().count() >= 10, "{one}");
    let local = tables("database = 'many' AND engine != 'Distributed'")?;
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        sorted(&local),
        sorted(&one),
        "engines, keys, retention, settings"
    );
    let columns = |condition: &str| {
        let sql = format!(
            "SELECT replaceRegexpOne(table, '_local$', ''), position, name, type, default_kind, \
             default_expression, compression_codec FROM system.columns \
             WHERE {condition} AND table NOT IN ('schema_migrations', 'ingress_only') \
             ORDER BY ALL"
        );
        node.query(&sql)
    };
    let one = columns("database = 'one'")?;
    let local = "database = 'many' AND NOT (database, table) IN \
                 (SELECT database, name FROM system.tables WHERE engine = 'Distributed')";
    assert_eq!(columns(local)?, one);
    let distributed = "database = 'many' AND (database, table) IN \
                       (SELECT database, name FROM system.tables WHERE engine = 'Distributed')";
    let of_tables = "database = 'one' AND (database, table) IN \
                     (SELECT database, name FROM system.tables \
                     WHERE engine LIKE '%MergeTree' OR engine = 'View')";
    assert_eq!(columns(distributed)?, columns(of_tables)?);
    Ok(())
}

#[test]
fn collectors_write_to_their_shards_and_any_node_answers_for_all() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let nodes = Node::start_all(2, &library, folder.path())?;
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| (node, node.clickhouse("flowsluice")))
        .collect();
    let mut sent = Vec::<Totals>::new();
    for (number, (_, node)) in nodes.iter().enumerate() {
        make_tables(node)?;
        let mut settings = Settings::new(Store::Server(node.clone()));
        // As long as the tables were made for: the engine refuses to alter them ON CLUSTER.
        settings.more = format!(
            "cluster = \"{CLUSTER}\"\n\
             retention_of = {{ rollup_minute = \"30days\", rollup_hour = \"30days\" }}\n"
        );
        let collector = Collector::start(&settings)?;
        let flows = if number == 0 { "10000" } else { "6000" };
        let seed = number.to_string();
        let arguments = ["--rate", "5000", "--flows", flows, "--seed", &seed];
        let totals = generate(
            &settings.binary,
            collector.target(),
            &arguments,
            folder.path(),
        )?;
        let ledger = collector.settle(totals.datagrams)?;
        assert_accounted(&ledger, totals.datagrams);
        let stored = ledger.store("flows_stored");
        assert_eq!((ledger.losses(), stored), (vec![], totals.flows));
        let stopped = collector.stop()?;
        assert_eq!(stopped.unaccounted, 0);
        let local: u64 = node.value("SELECT count() FROM flows_local")?;
        assert_eq!(local, totals.flows, "its shard has its rows");
        sent.push(totals);
    }
    let sum = |of: fn(&Totals) -> u64| sent.iter().map(of).sum::<u64>();
    for (_, node) in &nodes {
        // ALIAS columns, as dashboards ask for them.
        let all = node.scaled_sums("flow_start <= flow_end")?;
        assert_eq!(
            all,
            [sum(|t| t.flows), sum(|t| t.bytes), sum(|t| t.packets)]
        );
        for rollup in [
            "rollup_minute_services",
            "conversations_by_hour",
            "flows_by_minute",
        ] {
            let sums = format!("SELECT sum(flows), sum(bytes), sum(packets) FROM {rollup}");
            assert_eq!(node.three(&sums)?, all, "{rollup}");
        }
        let of_one = "SELECT server_port, sum(bytes) AS n FROM flows WHERE client_is_src \
                      GROUP BY server_port ORDER BY n DESC, server_port LIMIT 5";
        let of_both = of_one.replace(
            "FROM flows",
            &format!("FROM cluster({CLUSTER}, flowsluice.flows_local)"),
        );
        assert_eq!(node.query(of_one)?, node.query(&of_both)?);
        let exporters: u64 = node.value("SELECT count() FROM exporters")?;
        let local: u64 = node.value("SELECT count() FROM exporters_local")?;
        ensure!(
            local > 0 && exporters > local,
            "{local} of {exporters} exporters here"
        );
    }
    Ok(())
}

/// Each replica of a shard refreshes a view by itself. What two of them insert alike counts once:
/// on one server, since here are no replicas, but by the same look at what was inserted before.
#[test]
fn two_refreshes_that_say_the_same_are_stored_once_when_their_order_is_complete() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let nodes = Node::start_all(1, &library, folder.path())?;
    let node = nodes[0].clickhouse("default");
    node.query("CREATE TABLE source (a UInt64, b UInt64) ENGINE = MergeTree ORDER BY a")?;
    node.query("INSERT INTO source SELECT number % 1000, number FROM numbers(100000)")?;
    let rows_after_two = |name: &str, order: &str| -> Result<u64> {
        node.query(&format!(
            "CREATE TABLE {name} (a UInt64, b UInt64) ENGINE = MergeTree ORDER BY a \
             SETTINGS non_replicated_deduplication_window = 1000"
        ))?;
        for number in 1..=2 {
            let view = format!("{name}_{number}");
            node.query(&format!(
                "CREATE MATERIALIZED VIEW {view} REFRESH EVERY 1 YEAR APPEND TO {name} AS \
                 SELECT a, sum(b) AS b FROM source GROUP BY a ORDER BY {order}"
            ))?;
            node.query(&format!("SYSTEM WAIT VIEW {view}"))?;
        }
        node.value(&format!("SELECT count() FROM {name}"))
    };
    assert_eq!(rows_after_two("complete", "ALL")?, 1000);
    assert_eq!(
        rows_after_two("incomplete", "a")?,
        2000,
        "so the order has to be complete"
    );
    Ok(())
}
