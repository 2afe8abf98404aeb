//! Rows that were stored by earlier versions, read by the schema of now.
//!
//! `schemas/` holds the migrations as they were when they were released: a state that databases are
//! in can be made from it whatever becomes of `sql/`.

mod engine;

use std::fmt::Write;

use engine::{config, library, run, started};
use flowsluice::store::schema::{self, Wanted};
use flowsluice::store::{ClickHouse, Endpoint, Insert, clickhouse};

const RELEASED: [(&str, &str); 9] = [
    ("flows", include_str!("schemas/001_flows.sql")),
    ("exporters", include_str!("schemas/002_exporters.sql")),
    (
        "interface_counters",
        include_str!("schemas/003_interface_counters.sql"),
    ),
    ("names", include_str!("schemas/004_names.sql")),
    ("extra", include_str!("schemas/005_extra.sql")),
    ("enrich", include_str!("schemas/006_enrich.sql")),
    ("hosts", include_str!("schemas/007_hosts.sql")),
    ("interfaces", include_str!("schemas/008_interfaces.sql")),
    ("agent_drops", include_str!("schemas/009_agent_drops.sql")),
];

/// The first form of the first migration: other codecs and a shorter order.
const FIRST: (&str, &str) = ("flows", include_str!("schemas/001_flows_first.sql"));

/// The migrations up to the last one without enrichment.
const BEFORE_ENRICHMENT: usize = 5;

/// Makes the database anew, as the version that knew `released` left it.
fn make(writer: &Endpoint, released: &[(&str, &str)]) {
    run(writer, "DROP DATABASE IF EXISTS flowsluice SYNC");
    run(writer, "CREATE DATABASE flowsluice");
    for (version, (name, sql)) in (1..).zip(released) {
        let sql = sql.replace("{database}", "flowsluice");
        let sql = sql.replace("{retention_seconds}", "2592000") + "\n";
        for statement in sql.split(";\n").filter(|sql| !sql.trim().is_empty()) {
            run(writer, statement);
        }
        let record = format!(
            "INSERT INTO flowsluice.schema_migrations (version, name) VALUES ({version}, '{name}')"
        );
        run(writer, &record);
    }
}

/// Name and type of each stored column.
fn columns(writer: &Endpoint, table: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT name, type FROM system.columns WHERE database = 'flowsluice' \
         AND table = '{table}' AND default_kind != 'ALIAS' ORDER BY position FORMAT TSVRaw"
    );
    let rows = run(writer, &sql);
    let pair = |line: &str| line.split_once('\t').map(|(a, b)| (a.into(), b.into()));
    rows.lines().filter_map(pair).collect()
}

/// Rows of all kinds of values, none equal in what a table is ordered by.
fn fill(writer: &Endpoint, table: &str, columns: &[(String, String)]) {
    let (mut names, mut values) = (String::new(), String::new());
    for (name, sql_type) in columns {
        let value = match sql_type.as_str() {
            "DateTime('UTC')" => "now() - number % 50 * 60",
            "DateTime64(3, 'UTC')" => "now64(3) - number % 50 * 60",
            "IPv6" => "toIPv6(concat('2001:db8::', hex(number)))",
            "String" | "LowCardinality(String)" => "concat('name ', toString(number))",
            "Bool" => "number % 3 = 0",
            "UInt8" | "UInt16" | "UInt32" | "UInt64" => "number + 1",
            // Enums, arrays and maps have their defaults.
            _ => continue,
        };
        let comma = if names.is_empty() { "" } else { ", " };
        write!(names, "{comma}{name}").unwrap();
        write!(values, "{comma}{value}").unwrap();
    }
    let sql =
        format!("INSERT INTO flowsluice.{table} ({names}) SELECT {values} FROM numbers({ROWS})");
    run(writer, &sql);
}

/// How many rows there are, and a hash of all that they held before.
fn content(writer: &Endpoint, table: &str, columns: &[(String, String)]) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let sql = format!(
        "SELECT count(), sum(cityHash64({})) FROM flowsluice.{table} FORMAT TSV",
        names.join(", ")
    );
    run(writer, &sql)
}

fn tables(writer: &Endpoint) -> Vec<String> {
    let sql = "SELECT name FROM system.tables WHERE database = 'flowsluice' \
               AND engine LIKE '%MergeTree' AND name != 'schema_migrations' ORDER BY name";
    run(writer, sql).lines().map(str::to_owned).collect()
}

/// All that a database is asked by: columns with their types and defaults.
fn shape(writer: &Endpoint) -> String {
    let sql = "SELECT table, name, type, default_kind, default_expression FROM system.columns \
               WHERE database = 'flowsluice' AND table != 'host_names' \
               ORDER BY table, position FORMAT TSV";
    run(writer, sql)
}

#[test]
fn every_released_schema_is_brought_to_that_of_now_with_its_rows() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let writer = engine.endpoint();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = clickhouse::client(&writer);
    let wanted = Wanted::new(&config);
    let apply = || runtime.block_on(schema::apply(&client, "flowsluice", &wanted));

    apply().unwrap();
    let of_now = shape(&writer);
    let mut heads: Vec<Vec<_>> = (1..=RELEASED.len())
        .map(|head| RELEASED[..head].to_vec())
        .collect();
    heads.push(vec![FIRST]);
    for head in heads {
        make(&writer, &head);
        let before: Vec<_> = tables(&writer)
            .into_iter()
            .map(|table| {
                let columns = columns(&writer, &table);
                fill(&writer, &table, &columns);
                let content = content(&writer, &table, &columns);
                assert!(
                    content.starts_with(&format!("{ROWS}\t")),
                    "{table}: {content}"
                );
                (table, columns, content)
            })
            .collect();
        apply().unwrap();
        for (table, columns, held) in &before {
            let holds = content(&writer, table, columns);
            assert_eq!(&holds, held, "{table} of schema {}", head.len());
        }
        assert_eq!(shape(&writer), of_now, "schema {}", head.len());
        let newest = run(
            &writer,
            "SELECT max(version) FROM flowsluice.schema_migrations",
        );
        assert_eq!(newest.trim(), schema::version().to_string());
        let left = runtime.block_on(schema::plan(&client, "flowsluice", &wanted));
        assert_eq!(left.unwrap(), schema::Plan::default(), "all is done");
    }
}

/// Of each table.
const ROWS: u32 = 200;

#[test]
fn rows_from_before_enrichment_know_nothing_and_their_sources_are_clients() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let (writer, reader) = (engine.endpoint(), engine.reader());
    make(&writer, &RELEASED[..BEFORE_ENRICHMENT]);
    run(
        &writer,
        "INSERT INTO flowsluice.flows \
         (time_received, src_addr, dst_addr, src_port, dst_port, raw_bytes) \
         VALUES (now(), '::ffff:10.0.0.1', '::ffff:10.0.0.2', 443, 50000, 7)",
    );
    let told = "SELECT count() FROM system.columns WHERE table = 'flows' AND name = 'src_country'";
    assert_eq!(run(&writer, told), "0\n", "a schema from before");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clickhouse = ClickHouse::new(&writer, &config);
    runtime.block_on(clickhouse.prepare()).unwrap();
    let applied = "SELECT count() FROM flowsluice.schema_migrations WHERE version = 6";
    assert_eq!(run(&writer, applied), "1\n");
    let row = run(
        &reader,
        "SELECT raw_bytes, client_is_src, client_addr, server_addr, server_port, locality, \
         src_country, src_region, src_city, src_lat, src_as_name, dst_net_tenant, src_threats, \
         src_host, server_host, dst_mac_vendor, exporter_name, exporter_tenant, in_if_name, \
         in_if_speed, out_if_boundary, application, service FROM flowsluice.flows \
         WHERE src_country = '' AND client_is_src FORMAT TSV",
    );
    let expected = [
        "7",
        "true",
        "::ffff:10.0.0.1",
        "::ffff:10.0.0.2",
        "50000",
        "unknown",
        "",
        "",
        "",
        "0",
        "",
        "",
        "[]",
        "",
        "",
        "",
        "",
        "",
        "",
        "0",
        "undefined",
        "",
        "",
    ];
    assert_eq!(row.trim_end_matches('\n'), expected.join("\t"));
}
