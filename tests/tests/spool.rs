//! ClickHouse is away, the collector is killed or stopped: what was sealed is stored once, later.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::generator::{Totals, generate};
use flowsluice_tests::process::{Signal, is_alive, pause, signal_pid};
use flowsluice_tests::{ClickHouse, Collector, Settings, Store};

const PATIENCE: Duration = Duration::from_secs(30);

/// A collector whose data outlast it.
fn settings(data: &Path, more: &str) -> Option<Settings> {
    Some(Settings {
        data_dir: Some(data.to_owned()),
        more: more.to_owned(),
        ..Settings::embedded()?
    })
}

/// Sends flows; all of them have arrived and are in blocks when this returns.
fn send(collector: &Collector, settings: &Settings, flows: u64, before: u64) -> Result<Totals> {
    let count = flows.to_string();
    let arguments = ["--rate", "20000", "--flows", &count];
    let folder = collector.folder();
    let sent = generate(&settings.binary, collector.target(), &arguments, folder)?;
    let wanted = before + sent.flows;
    collector.wait_until("they are in batches", PATIENCE, |status| {
        let ledger = status.ledger();
        ledger.counter("flows_batched") == wanted && ledger.counter("flows_open") == 0
    })?;
    Ok(sent)
}

/// Stops the process of ClickHouse, so that inserts are neither taken nor refused.
fn freeze(collector: &Collector) -> Result<u32> {
    let engine = collector.status()?.engine_pid();
    let engine = engine.context("it has a ClickHouse")?;
    pause(engine)?;
    Ok(engine)
}

/// Waits until a block on the disk is noted as sent.
fn wait_until_sent(collector: &Collector, data: &Path) -> Result<()> {
    collector.wait_until("a block is sent", PATIENCE, |_| {
        let files = std::fs::read_dir(data.join("spool"));
        let names = files.into_iter().flatten().flatten();
        let is_sent = |path: &Path| path.extension().is_some_and(|end| end == "tried");
        names.into_iter().any(|entry| is_sent(&entry.path()))
    })?;
    Ok(())
}

/// Waits until all there ever was is stored, each flow once.
fn assert_stored_once(collector: &Collector, flows: u64) -> Result<()> {
    let status = collector.wait_until("nothing waits", PATIENCE, |status| {
        let ledger = status.ledger();
        ledger.flows_under_way() == 0 && ledger.store("spool_blocks") == 0
    })?;
    let ledger = status.ledger();
    assert_eq!(ledger.losses(), []);
    assert_eq!(ledger.unaccounted(), 0, "\n{}", ledger.table());
    assert_eq!(collector.clickhouse()?.flows()?, flows);
    Ok(())
}

#[test]
fn blocks_of_an_outage_outlast_a_kill_and_are_stored_once_beside_new_ones() -> Result<()> {
    let data = tempfile::tempdir()?;
    let Some(settings) = settings(data.path(), "") else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let stored = send(&collector, &settings, 5_000, 0)?.flows;
    collector.wait_until("they are stored", PATIENCE, |status| {
        status.ledger().store("flows_stored") == stored
    })?;
    freeze(&collector)?;
    let mut flows = stored;
    // Several blocks, of which two are under way and may be stored any moment.
    for _ in 0..4 {
        flows += send(&collector, &settings, 5_000, flows)?.flows;
        std::thread::sleep(Duration::from_millis(300));
    }
    let status = collector.wait_until("all of it is on the disk", PATIENCE, |status| {
        status.ledger().store("spool_blocks") >= 4
    })?;
    assert_eq!(status.ledger().unaccounted(), 0);
    assert_eq!(status.ledger().losses(), []);
    collector.kill()?;

    let again = Collector::start(&settings)?;
    let sent = send(&again, &settings, 3_000, 0)?;
    assert_stored_once(&again, flows + sent.flows)?;
    let stopped = again.stop()?;
    assert_eq!(stopped.flows_recovered, flows - stored);
    assert_eq!((stopped.flows_spooled, stopped.unaccounted), (0, 0));
    Ok(())
}

#[test]
fn what_is_not_stored_at_the_stop_is_stored_at_the_next_start() -> Result<()> {
    let data = tempfile::tempdir()?;
    let more = "\n[store]\nstop_timeout = \"500ms\"\n[store.spool]\nmode = \"overflow\"\n";
    let Some(settings) = settings(data.path(), more) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let engine = freeze(&collector)?;
    let sent = send(&collector, &settings, 10_000, 0)?;
    let stopped = collector.stop()?;
    assert!(!is_alive(engine));
    assert_eq!((stopped.unaccounted, stopped.dropped.as_str()), (0, "none"));
    assert_eq!(stopped.flows_stored + stopped.flows_spooled, sent.flows);
    assert!(stopped.flows_spooled > 0);
    let again = Collector::start(&settings)?;
    assert_stored_once(&again, sent.flows)
}

#[test]
fn clickhouse_that_dies_while_it_inserts_gets_each_block_once() -> Result<()> {
    let data = tempfile::tempdir()?;
    let Some(settings) = settings(data.path(), "") else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let mut flows = 0;
    let mut retries = 0;
    for _ in 0..3 {
        let engine = freeze(&collector)?;
        flows += send(&collector, &settings, 8_000, flows)?.flows;
        wait_until_sent(&collector, data.path())?;
        signal_pid(engine, Signal::KILL)?;
        let status = collector.wait_until("what was sent is stored", PATIENCE, |status| {
            status.ledger().store("flows_stored") == flows
        })?;
        let retried = status.ledger().store("inserts_retried");
        assert!(retried > retries, "an insert was under way");
        retries = retried;
    }
    assert_stored_once(&collector, flows)
}

#[test]
fn an_insert_whose_answer_nobody_heard_is_stored_once() -> Result<()> {
    let data = tempfile::tempdir()?;
    let Some(embedded) = Settings::embedded() else {
        return Ok(());
    };
    // The server is the embedded ClickHouse of another collector: it outlives this one.
    let host = Collector::start(&embedded)?;
    let password = std::fs::read_to_string(host.data_dir().join("writer.password"))?;
    let server = ClickHouse {
        user: "writer".into(),
        password: password.trim().into(),
        ..host.clickhouse()?
    };
    let settings = Settings {
        data_dir: Some(data.path().to_owned()),
        ..Settings::new(Store::Server(server.clone()))
    };
    let collector = Collector::start(&settings)?;
    let engine = freeze(&host)?;
    let flows = send(&collector, &settings, 2_000, 0)?.flows;
    wait_until_sent(&collector, data.path())?;
    // What was sent is in the kernel's buffers by now, whoever reads it.
    std::thread::sleep(Duration::from_millis(300));
    collector.kill()?;
    signal_pid(engine, Signal::CONT)?;
    let deadline = Instant::now() + PATIENCE;
    while server.flows()? == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(server.flows()? > 0, "flows are stored unheard");
    let again = Collector::start(&settings)?;
    assert_stored_once(&again, flows)?;
    assert_eq!(again.stop()?.flows_recovered, flows);
    Ok(())
}

fn flowsluice(settings: &Settings, collector: &Collector, arguments: &[&str]) -> Result<String> {
    let output = Command::new(&settings.binary)
        .arg("spool")
        .args(arguments)
        .arg("--config")
        .arg(collector.config())
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}{errors}");
    Ok(said)
}

#[test]
fn a_refused_block_is_kept_and_stored_when_it_is_tried_again() -> Result<()> {
    let data = tempfile::tempdir()?;
    let Some(settings) = settings(data.path(), "") else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let password = std::fs::read_to_string(data.path().join("writer.password"))?;
    let writer = ClickHouse {
        user: "writer".into(),
        password: password.trim().into(),
        ..collector.clickhouse()?
    };
    writer.query("ALTER TABLE flows ADD CONSTRAINT none CHECK raw_bytes = 0")?;
    let refused = send(&collector, &settings, 4_000, 0)?;
    let status = collector.wait_until("they are refused", PATIENCE, |status| {
        status.ledger().flows_under_way() == 0
    })?;
    let ledger = status.ledger();
    assert_eq!(ledger.losses(), [("insert_refused".into(), refused.flows)]);
    writer.query("ALTER TABLE flows DROP CONSTRAINT none")?;
    let taken = send(&collector, &settings, 1_000, refused.flows)?;
    collector.wait_until("the next ones are stored", PATIENCE, |status| {
        status.ledger().store("flows_stored") == taken.flows
    })?;

    let listed = flowsluice(&settings, &collector, &["list"])?;
    assert!(listed.contains("refused: Code: 469."), "{listed}");
    let stored = flowsluice(&settings, &collector, &["retry", "--all"])?;
    assert!(stored.contains(" flows stored"), "{stored}");
    assert_eq!(writer.flows()?, refused.flows + taken.flows);
    let listed = flowsluice(&settings, &collector, &["list"])?;
    let nothing = "spool: nothing waits, nothing is in quarantine\n";
    assert!(listed.ends_with(nothing), "{listed}");
    let dropped = flowsluice(&settings, &collector, &["drop", "--all"])?;
    assert_eq!(dropped, "the quarantine is empty\n");
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_used_is_told_and_flows_are_stored_all_the_same() -> Result<()> {
    let data = tempfile::tempdir()?;
    // Nobody makes a folder there.
    let more = "\n[store.spool]\ndir = \"/proc/flowsluice\"\n";
    let Some(settings) = settings(&data.path().join("data"), more) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    assert!(collector.tail().contains("store.spool.dir: "));
    let sent = send(&collector, &settings, 2_000, 0)?;
    assert_stored_once(&collector, sent.flows)
}
