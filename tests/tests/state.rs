//! What exporters told before a restart is known after it, however the collector ended.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::wire::{Sender, netflow9};
use flowsluice_tests::{Collector, Settings, Store};
use serde_json::Value;

const RECORDS: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(state_dir: &Path) -> Settings {
    Settings {
        workers: 2,
        state_dir: Some(state_dir.to_owned()),
        ..Settings::new(Store::Null)
    }
}

/// NetFlow v9: template 256 has a counter of bytes and one of packets.
fn template() -> Vec<u8> {
    let fields = [256_u16, 2, 1, 4, 2, 4].map(u16::to_be_bytes).concat();
    netflow9(1, &[(0, fields)])
}

fn data() -> Vec<u8> {
    netflow9(1, &[(256, vec![1; 8 * RECORDS as usize])])
}

/// Sends `payload` and waits until it is dealt with; returns the flows decoded so far.
fn send(collector: &Collector, sender: &mut Sender, payload: &[u8]) -> Result<u64> {
    sender.send(payload)?;
    let ledger = collector.settle(sender.sent)?;
    assert_eq!(ledger.unaccounted(), 0);
    Ok(ledger.counter("flows_decoded"))
}

/// A collector that has only data decodes them at once.
fn assert_known(state_dir: &Path) -> Result<Collector> {
    let collector = Collector::start(&settings(state_dir))?;
    let mut sender = Sender::new(collector.target())?;
    assert_eq!(send(&collector, &mut sender, &data())?, RECORDS);
    let ledger = collector.status()?.ledger();
    assert_eq!(
        (
            ledger.counter("sets_held"),
            ledger.counter("templates_learned")
        ),
        (0, 0)
    );
    Ok(collector)
}

#[test]
fn templates_outlast_a_stop_and_a_kill() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state_dir = folder.path().join("state");
    let file = state_dir.join("exporters.json");

    let collector = Collector::start(&settings(&state_dir))?;
    let mut sender = Sender::new(collector.target())?;
    assert_eq!(
        send(&collector, &mut sender, &data())?,
        0,
        "nothing is known yet"
    );
    assert_eq!(
        send(&collector, &mut sender, &template())?,
        RECORDS,
        "it waited"
    );
    assert_eq!(collector.status()?.ledger().counter("sets_replayed"), 1);
    collector.stop()?;

    assert_known(&state_dir)?.kill()?;
    assert_known(&state_dir)?.stop()?;

    // Killed after it has saved what it learned itself.
    std::fs::remove_file(&file)?;
    let collector = Collector::start(&settings(&state_dir))?;
    let mut sender = Sender::new(collector.target())?;
    send(&collector, &mut sender, &template())?;
    let mut waits = 0;
    while !file.exists() && waits < 300 {
        std::thread::sleep(Duration::from_millis(100));
        waits += 1;
    }
    collector.kill()?;
    assert_known(&state_dir)?.stop()?;
    Ok(())
}

#[test]
fn what_was_sent_between_a_stop_and_the_next_start_is_a_gap() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let number = |payload: Vec<u8>, sequence: u32| {
        let mut payload = payload;
        payload[12..16].copy_from_slice(&sequence.to_be_bytes());
        payload
    };
    // What may still come late is lost after some seconds.
    let lost = |collector: &Collector, count: u64| {
        collector.wait_until("its sequence numbers tell so", PATIENCE, |status| {
            let lost = status.at("/exporters/0/sequence/lost");
            lost.and_then(Value::as_u64) == Some(count)
        })
    };
    let collector = Collector::start(&settings(folder.path()))?;
    let mut sender = Sender::new(collector.target())?;
    sender.send(&number(template(), 100))?;
    for sequence in 101..150 {
        send(&collector, &mut sender, &number(data(), sequence))?;
    }
    lost(&collector, 0)?;
    collector.stop()?;

    let collector = Collector::start(&settings(folder.path()))?;
    let mut sender = Sender::new(collector.target())?;
    for sequence in 157..160 {
        send(&collector, &mut sender, &number(data(), sequence))?;
    }
    lost(&collector, 7)?;
    collector.stop()?;
    Ok(())
}

#[test]
fn a_broken_file_is_told_and_set_aside_and_a_folder_that_cannot_be_is_a_warning() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("exporters.json"), "{\"version\": 7}")?;
    let collector = Collector::start(&settings(folder.path()))?;
    let log = collector.tail();
    assert!(log.contains("it is of version 7"), "{log}");
    assert!(folder.path().join("exporters.json.broken").exists());
    collector.stop()?;
    assert!(folder.path().join("exporters.json").exists());

    // Nobody makes a folder there.
    let no_folder = Path::new("/proc/flowsluice");
    let collector = Collector::start(&settings(no_folder))?;
    let log = collector.tail();
    assert!(log.contains("decode.state_dir cannot be used"), "{log}");
    let mut sender = Sender::new(collector.target())?;
    send(&collector, &mut sender, &template())?;
    assert_eq!(send(&collector, &mut sender, &data())?, RECORDS);
    collector.stop()?;
    Ok(())
}
