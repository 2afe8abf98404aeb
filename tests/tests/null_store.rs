//! A collector that stores nothing on purpose: every flow is counted, and that is no failure.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::generator::generate;
use flowsluice_tests::{Collector, Settings, Store, place, wire};

#[test]
fn every_flow_is_encoded_counted_as_store_null_and_the_stop_is_a_success() -> Result<()> {
    let settings = Settings::new(Store::Null);
    let collector = Collector::start(&settings)?;
    let status = collector.status()?;
    assert_eq!(status.text("/store/kind")?, "null");
    assert_eq!(status.at("/store/url"), Some(&serde_json::Value::Null));
    assert_eq!(status.engine_pid(), None, "it starts no ClickHouse");
    let arguments = ["--rate", "10000", "--flows", "30000"];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_accounted(&ledger, sent.datagrams);
    assert_eq!(ledger.losses(), [("store_null".to_owned(), sent.flows)]);
    assert_eq!(ledger.store("flows_stored"), 0);
    assert!(ledger.store("blocks_encoded") > 0);
    // A row's two addresses, times and counters alone are more than that.
    assert!(ledger.store("encoded_bytes") > 100 * sent.flows);
    let compressed = ledger.store("compressed_bytes");
    assert!(compressed > 0 && compressed < ledger.store("encoded_bytes") / 2);
    collector.page("/readyz")?;
    let metrics = collector.page("/metrics")?;
    for line in [
        "flowsluice_store_kind{kind=\"null\"} 1".to_owned(),
        format!("flowsluice_store_compressed_bytes_total {compressed}"),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    assert!(!collector.data_dir().exists(), "it needs no data folder");
    let log = collector.tail();
    let told = log.matches("store_null").count();
    assert_eq!(told, 1, "it is told at the start and not again:\n{log}");
    let stopped = collector.stop()?;
    assert_eq!((stopped.unaccounted, stopped.flows_stored), (0, 0));
    assert_eq!(stopped.dropped, format!("store_null={}", sent.flows));
    Ok(())
}

#[test]
fn check_query_and_replay_say_that_nothing_is_stored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("flowsluice.toml");
    std::fs::write(&config, "[store]\nkind = \"null\"\n")?;
    let checked = flowsluice(&["check"], &config)?;
    let said = String::from_utf8(checked.stdout)?;
    assert!(checked.status.success(), "{said}");
    assert!(
        said.contains("warning: store.kind: null stores nothing"),
        "{said}"
    );
    let asked = flowsluice(&["query", "SELECT count() FROM flows"], &config)?;
    let said = String::from_utf8(asked.stderr)?;
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.contains("store.kind: null stores nothing"), "{said}");
    let capture = folder.path().join("netflow5.bin");
    std::fs::write(&capture, wire::netflow5(0, 1))?;
    let replayed = flowsluice(&["replay", &capture.display().to_string()], &config)?;
    let said = String::from_utf8(replayed.stderr)?;
    assert!(replayed.status.success(), "{said}");
    for line in [
        "replay: 1 dropped, store_null: store.kind is null: discarded on purpose.",
        "replay: nothing is stored: store.kind is null",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(said.contains("unaccounted: 0"), "{said}");
    Ok(())
}

#[test]
fn a_replay_waits_for_room_also_within_a_datagram_of_very_many_records() -> Result<()> {
    const RECORDS: usize = 60_000;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("flowsluice.toml");
    std::fs::write(
        &config,
        "[store]\nkind = \"null\"\n[batch]\nper_worker = 2\n",
    )?;
    // NetFlow v9: template 256 has a protocol of one byte, and that is all of a record.
    let set_len = u16::try_from(4 + RECORDS)?.to_be_bytes();
    let mut payload = vec![
        0, 9, 0, 2, 0, 0, 0, 1, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    payload.extend([
        0, 0, 0, 12, 1, 0, 0, 1, 0, 4, 0, 1, 1, 0, set_len[0], set_len[1],
    ]);
    payload.extend([6; RECORDS]);
    let capture = folder.path().join("small-records.bin");
    std::fs::write(&capture, payload)?;
    let replayed = flowsluice(&["replay", &capture.display().to_string()], &config)?;
    let said = String::from_utf8(replayed.stderr)?;
    let all = format!("replay: {RECORDS} dropped, store_null");
    assert!(said.contains(&all) && !said.contains("backlog"), "{said}");
    Ok(())
}

fn flowsluice(arguments: &[&str], config: &Path) -> Result<Output> {
    let mut command = Command::new(place::binary()?);
    command.args(arguments).arg("--config").arg(config);
    Ok(command.output()?)
}
