//! A configured ClickHouse server takes the same path as the embedded one.

use anyhow::{Context, Result};
use flowsluice_tests::collector::assert_all_stored;
use flowsluice_tests::generator::generate;
use flowsluice_tests::{ClickHouse, Collector, Settings, Store};

#[test]
fn a_configured_server_gets_the_same_rows_by_the_same_code() -> Result<()> {
    let Some(embedded) = Settings::embedded() else {
        return Ok(());
    };
    // The server is the embedded ClickHouse of another collector, spoken to as its writer.
    let host = Collector::start(&embedded)?;
    let reader = host.clickhouse()?;
    let file = host.data_dir().join("writer.password");
    let password = std::fs::read_to_string(&file)
        .with_context(|| format!("read the writer's password in {}", file.display()))?;
    let server = ClickHouse {
        user: "writer".into(),
        password: password.trim().into(),
        ..reader.clone()
    };
    let settings = Settings::new(Store::Server(server));
    let collector = Collector::start(&settings)?;
    let status = collector.status()?;
    assert_eq!(status.text("/store/kind")?, "server");
    assert_eq!(
        status.engine_pid(),
        None,
        "it starts no ClickHouse of its own"
    );
    let arguments = ["--rate", "5000", "--flows", "10000"];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_all_stored(&ledger, &reader, &sent);
    let stopped = collector.stop()?;
    assert_eq!((stopped.unaccounted, stopped.flows_stored), (0, sent.flows));
    assert_eq!(
        reader.flows()?,
        sent.flows,
        "the server is there after the collector"
    );
    Ok(())
}
