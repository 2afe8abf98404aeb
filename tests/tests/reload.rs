//! SIGHUP: what is taken over while the collector runs, what is refused, and what needs a restart.

use std::net::IpAddr;

use anyhow::Result;
use flowsluice_tests::wire::{self, Sender};
use flowsluice_tests::{Collector, Settings, Store};

#[test]
fn allowed_exporters_change_without_a_restart_and_a_bad_file_changes_nothing() -> Result<()> {
    let first = "allow = [\"127.0.0.1/32\"]";
    let mut settings = Settings::new(Store::Null);
    settings.workers = 2;
    settings.receive = format!("{first}\n");
    let collector = Collector::start(&settings)?;
    let sender = |last| Sender::between(IpAddr::from([127, 0, 0, last]), collector.target());
    let (mut old, mut new) = (sender(1)?, sender(2)?);
    let payload = wire::netflow5(0, 1);
    // Both send all the time; yields how many datagrams of one record were refused so far.
    let mut sent = 0;
    let mut refused = || -> Result<u64> {
        for _ in 0..20 {
            old.send(&payload)?;
            new.send(&payload)?;
        }
        sent += 40;
        let ledger = collector.settle(sent)?;
        let refused = ledger.dropped("exporter_not_allowed");
        assert_eq!(ledger.unaccounted(), 0);
        assert_eq!(
            ledger.counter("flows_decoded") + refused,
            sent,
            "nothing else is lost"
        );
        Ok(refused)
    };
    assert_eq!(refused()?, 20);
    let second = "allow = [\"127.0.0.0/24\"]";
    collector.reload(first, second, "receive.allow is taken over")?;
    // A worker takes it over within its turn.
    let mut before = 20;
    loop {
        let now = refused()?;
        if now == before {
            break;
        }
        before = now;
    }
    let bad = "allow = [\"127.0.0.0/240\"]";
    collector.reload(second, bad, "the configuration stays as it was")?;
    let log = collector.tail();
    assert!(
        log.contains("flowsluice.toml:") && log.contains("receive.allow"),
        "{log}"
    );
    assert_eq!(refused()?, before, "both are allowed as before");
    collector.reload(bad, second, "the configuration was read again")?;
    collector.reload("workers = 2", "workers = 1", "restart flowsluice")?;
    let log = collector.tail();
    assert!(log.contains("keys=\"receive.workers\""), "{log}");
    assert_eq!(refused()?, before);
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

#[test]
fn retention_changes_without_a_restart_and_rows_stay() -> Result<()> {
    let Some(mut settings) = Settings::embedded() else {
        return Ok(());
    };
    settings.more = "\n[store]\nretention = \"20days\"\n".into();
    let collector = Collector::start(&settings)?;
    let mut sender = Sender::new(collector.target())?;
    sender.send(&wire::netflow5(0, 5))?;
    collector.settle(1)?;
    let clickhouse = collector.clickhouse()?;
    let kept = |table: &str| -> Result<String> {
        let sql = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase()";
        clickhouse.value(&format!("{sql} AND name = '{table}'"))
    };
    let seconds = |days: u64| format!("toIntervalSecond({})", days * 86_400);
    assert!(kept("flows")?.contains(&seconds(20)), "{}", kept("flows")?);
    let to = "retention = \"10days\"\n[store.retention_of]\nrollup_minute = \"11days\"";
    let told = "the tables keep their rows as configured";
    collector.reload("retention = \"20days\"", to, told)?;
    assert!(kept("flows")?.contains(&seconds(10)), "{}", kept("flows")?);
    let changed =
        "SELECT count() FROM system.tables WHERE create_table_query LIKE '%toIntervalSecond(";
    let eleven = format!("{changed}{})%'", 11 * 86_400);
    assert!(clickhouse.value::<u64>(&eleven)? > 0, "tables by minute");
    assert_eq!(clickhouse.flows()?, 5);
    let log = collector.tail();
    assert!(!log.contains("restart flowsluice"), "{log}");
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}
