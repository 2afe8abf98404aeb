//! ClickHouse dies, the collector is told to stop: every flow is stored or counted.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::generator::{Generator, generate};
use flowsluice_tests::namespace::Namespace;
use flowsluice_tests::outage::{self, Account, Kind, Plan};
use flowsluice_tests::process::{Signal, is_alive, signal_pid};
use flowsluice_tests::{Collector, Settings, place};

#[test]
fn clickhouse_killed_under_load_comes_back_and_every_flow_is_stored_once() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let log = collector.folder().join("generate.log");
    let arguments = ["--rate", "5000", "--duration", "8s"];
    let generator = Generator::start(&settings.binary, collector.target(), &arguments, &log)?;
    collector.wait_until("rows are stored", Duration::from_secs(10), |status| {
        status.ledger().store("blocks_stored") >= 5
    })?;
    let victim = collector
        .status()?
        .engine_pid()
        .context("it has a ClickHouse")?;
    signal_pid(victim, Signal::KILL)?;
    let status = collector.wait_until("another one", Duration::from_secs(30), |status| {
        let pid = status.engine_pid();
        pid.is_some_and(|pid| pid != victim) && status.engine_restarts() > 0
    })?;
    let successor = status.engine_pid().context("it has a ClickHouse again")?;
    assert!(is_alive(successor) && !is_alive(victim));
    let sent = generator.finish(Duration::from_secs(30))?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_accounted(&ledger, sent.datagrams);
    assert_eq!(
        ledger.counter("flows_decoded"),
        sent.flows,
        "decoded = sent"
    );
    assert_eq!(
        ledger.losses(),
        [],
        "so short an outage fits into the queue"
    );
    let rows = collector.clickhouse()?.flows()?;
    assert_eq!(
        rows,
        ledger.store("flows_stored"),
        "count() = acknowledged, none twice"
    );
    assert_eq!(rows, sent.flows);
    let stopped = collector.stop()?;
    assert_eq!(stopped.unaccounted, 0);
    assert!(!is_alive(successor));
    Ok(())
}

#[test]
fn what_was_received_before_sigterm_is_stored_and_there_at_the_next_start() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    // Nothing is sealed by age: at the signal everything is in open batches and socket buffers.
    let settings = Settings {
        batch_age: "60s",
        data_dir: Some(folder.path().to_path_buf()),
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let arguments = ["--rate", "10000", "--flows", "20000"];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    let stopped = collector.stop()?;
    assert_eq!(
        stopped.datagrams_arrived(),
        sent.datagrams,
        "sent = received + kernel drops"
    );
    assert_eq!(stopped.datagrams_dropped_by_kernel, 0);
    assert_eq!(stopped.flows_stored, sent.flows);
    assert_eq!((stopped.unaccounted, stopped.dropped.as_str()), (0, "none"));
    let again = Collector::start(&settings)?;
    assert_eq!(
        again.clickhouse()?.flows()?,
        sent.flows,
        "the rows outlive the process"
    );
    Ok(())
}

#[test]
fn sigterm_while_exporters_send_stores_everything_received() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let settings = Settings {
        data_dir: Some(folder.path().to_path_buf()),
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let log = folder.path().join("generate.log");
    let arguments = ["--rate", "10000"];
    let mut generator = Generator::start(&settings.binary, collector.target(), &arguments, &log)?;
    collector.wait_until("rows are stored", Duration::from_secs(10), |status| {
        status.ledger().store("blocks_stored") >= 5
    })?;
    let stopped = collector.stop()?;
    assert!(!generator.has_ended()?, "exporters send on");
    drop(generator);
    assert_eq!((stopped.unaccounted, stopped.dropped.as_str()), (0, "none"));
    assert!(stopped.flows_decoded > 0);
    // What a slow disk did not take in time waits on it for the next one.
    let kept = stopped.flows_stored + stopped.flows_spooled;
    assert_eq!(kept, stopped.flows_decoded);
    let again = Collector::start(&settings)?;
    again.wait_until("the rest is stored", Duration::from_secs(60), |status| {
        status.ledger().flows_under_way() == 0
    })?;
    assert_eq!(again.clickhouse()?.flows()?, stopped.flows_decoded);
    Ok(())
}

#[test]
fn kills_of_clickhouse_and_of_the_collector_lose_only_what_the_numbers_say() -> Result<()> {
    kill(Kind::Server)
}

#[test]
fn kills_of_the_collectors_own_clickhouse_lose_only_what_the_numbers_say() -> Result<()> {
    kill(Kind::Embedded)
}

/// Each wants the processors for itself.
static ALONE: Mutex<()> = Mutex::new(());

/// Kills each of them once, and has every flow accounted for.
fn kill(kind: Kind) -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let Some(alone) = Namespace::loopback_or_skip()? else {
        return Ok(());
    };
    let _inside = alone.enter()?;
    let _one_at_a_time = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let plan = Plan::short(kind);
    let (binary, never) = (place::binary()?, AtomicBool::new(false));
    let outcome = outage::run(&plan, binary, library, &never, &mut |line| {
        println!("{line}");
    })?;
    let account = Account::of(&plan, &outcome);
    println!("{}", outage::report::table(&plan, &outcome, &account));
    assert_eq!(account.faults, [""; 0]);
    Ok(())
}
