//! From the exporter simulator to rows: what was sent is what ClickHouse has.

use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::collector::{assert_accounted, assert_all_stored};
use flowsluice_tests::generator::generate;
use flowsluice_tests::{Collector, Settings, place, promtool};

const PROTOCOLS: [&str; 4] = ["netflow5", "netflow9", "ipfix", "sflow5"];

#[test]
fn sums_by_protocol_in_clickhouse_equal_what_was_sent() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let arguments = ["--rate", "8000", "--flows", "40000", "--seed", "7"];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    assert!(
        sent.flows >= 40_000,
        "the generator sends what it was asked for"
    );
    let ledger = collector.settle(sent.datagrams)?;
    let clickhouse = collector.clickhouse()?;
    assert_all_stored(&ledger, &clickhouse, &sent);
    for protocol in PROTOCOLS {
        let stored = clickhouse.raw_sums(&format!("flow_type = '{protocol}'"))?;
        assert_eq!(
            stored,
            sent.raw_of(protocol)?,
            "flows, bytes, packets of {protocol}"
        );
        let decoded = ledger.counter(&format!("datagrams_{protocol}"));
        assert!(decoded > 0, "datagrams are counted as {protocol}");
    }
    let scaled = clickhouse.scaled_sums("1")?;
    let expected = [sent.flows, sent.bytes, sent.packets];
    assert_eq!(scaled, expected, "flows, scaled bytes and packets");
    let stopped = collector.stop()?;
    assert_eq!(stopped.unaccounted, 0);
    assert_eq!(stopped.flows_stored, sent.flows);
    Ok(())
}

#[test]
fn two_workers_with_recvmmsg_share_the_port_and_lose_nothing() -> Result<()> {
    two_workers("recvmmsg")
}

#[test]
fn two_workers_with_io_uring_share_the_port_and_lose_nothing() -> Result<()> {
    two_workers("io_uring")
}

fn two_workers(mode: &'static str) -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let settings = Settings {
        receive_mode: mode,
        workers: 2,
        ..settings
    };
    let collector = match Collector::start(&settings) {
        Err(error) if format!("{error:#}").contains("io_uring") => {
            place::skip(&format!("{error:#}"));
            return Ok(());
        }
        other => other?,
    };
    let arguments = ["--rate", "10000", "--flows", "30000"];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    let ledger = collector.settle(sent.datagrams)?;
    let status = collector.status()?;
    assert_eq!(status.text("/receive/mode")?, mode);
    for worker in 0..2 {
        let pointer = format!("/workers/{worker}/counters/datagrams_received");
        let received = status.at(&pointer).and_then(serde_json::Value::as_u64);
        assert!(
            received > Some(0),
            "worker {worker} got its share: {received:?}"
        );
    }
    assert_all_stored(&ledger, &collector.clickhouse()?, &sent);
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

#[test]
fn twenty_thousand_flows_a_second_for_five_seconds_are_all_stored() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let arguments = [
        "--protocol",
        "netflow9",
        "--rate",
        "20000",
        "--duration",
        "5s",
    ];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    assert!(
        sent.flows > 80_000,
        "the generator keeps up: {}",
        sent.flows
    );
    let ledger = collector.settle(sent.datagrams)?;
    assert_all_stored(&ledger, &collector.clickhouse()?, &sent);
    Ok(())
}

#[test]
fn health_metrics_and_status_tell_the_same_ledger() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let arguments = ["--rate", "5000", "--flows", "5000"];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_accounted(&ledger, sent.datagrams);
    collector.page("/healthz")?;
    collector.page("/readyz")?;
    let metrics = collector.page("/metrics")?;
    let received: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("flowsluice_receive_datagrams_received_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(received, sent.datagrams, "in the metrics:\n{metrics}");
    promtool::approve(&collector)?;
    let status =
        collector.wait_until("exporters are shown", Duration::from_secs(60), |status| {
            let exporters = status.at("/exporters").and_then(|e| e.as_array());
            exporters.is_some_and(|exporters| !exporters.is_empty())
        })?;
    let exporters = status.at("/exporters").and_then(|e| e.as_array());
    let flows: u64 = exporters
        .into_iter()
        .flatten()
        .filter_map(|exporter| exporter["flows"].as_u64())
        .sum();
    assert_eq!(flows, sent.flows, "flows of all exporters");
    Ok(())
}
