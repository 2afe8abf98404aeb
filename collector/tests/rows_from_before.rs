//! Rows that were stored before there was enrichment, read by the schema of now.

mod engine;

use engine::{config, library, run, started};
use flowsluice::store::{ClickHouse, Insert};

/// The migrations up to the last one without enrichment.
const BEFORE: [(&str, &str); 5] = [
    ("flows", include_str!("../../sql/001_flows.sql")),
    ("exporters", include_str!("../../sql/002_exporters.sql")),
    (
        "interface_counters",
        include_str!("../../sql/003_interface_counters.sql"),
    ),
    ("names", include_str!("../../sql/004_names.sql")),
    ("extra", include_str!("../../sql/005_extra.sql")),
];

#[test]
fn rows_from_before_enrichment_know_nothing_and_their_sources_are_clients() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let (writer, reader) = (engine.endpoint(), engine.reader());
    run(&writer, "CREATE DATABASE IF NOT EXISTS flowsluice");
    for (version, (name, sql)) in (1..).zip(BEFORE) {
        let sql = sql.replace("{database}", "flowsluice");
        let sql = sql.replace("{retention_seconds}", "2592000") + "\n";
        for statement in sql.split(";\n").filter(|sql| !sql.trim().is_empty()) {
            run(&writer, statement);
        }
        run(
            &writer,
            &format!(
                "INSERT INTO flowsluice.schema_migrations (version, name) \
                 VALUES ({version}, '{name}')"
            ),
        );
    }
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
