//! What deploy/backup.md says of the embedded ClickHouse holds: a backup made while flows come, and
//! a copy of the stopped data folder, have every row that was stored.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use flowsluice_tests::generator::generate;
use flowsluice_tests::outage::sums::Sums;
use flowsluice_tests::{ClickHouse, Collector, Settings};

/// Sums, which those of every rollup are too, and a sum over everything that is stored.
fn sums(clickhouse: &ClickHouse) -> Result<(Sums, String)> {
    let raw = Sums::raw(clickhouse)?;
    for (rollup, sums) in Sums::rollups(clickhouse)? {
        ensure!(sums == raw, "{rollup}: {sums:?}, flows: {raw:?}");
    }
    let stored = clickhouse.value("SELECT sum(cityHash64(*)) FROM flows")?;
    Ok((raw, stored))
}

/// Sends flows and waits until they are stored.
fn store(settings: &Settings, collector: &Collector, flows: &str, before: u64) -> Result<u64> {
    let arguments = ["--rate", "20000", "--flows", flows];
    let target = collector.target();
    let sent = generate(&settings.binary, target, &arguments, collector.folder())?;
    let datagrams = before + sent.datagrams;
    collector.settle(datagrams)?;
    Ok(datagrams)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(
        status.success(),
        "cp -a {} {}",
        from.display(),
        to.display()
    );
    Ok(())
}

const BACKUP: &str = "BACKUP DATABASE flowsluice EXCEPT TABLES flowsluice.host_names TO File";
const RESTORE: &str = "RESTORE DATABASE flowsluice EXCEPT TABLES flowsluice.schema_migrations, \
                       flowsluice.host_names FROM File";

#[test]
fn a_backup_is_restored_into_an_empty_collector() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let first = Collector::start(&settings)?;
    let datagrams = store(&settings, &first, "20000", 0)?;
    let backup = first.clickhouse_as("backup")?;
    backup.query(&format!("{BACKUP}('full')"))?;
    // What came since, in a second one that builds on it.
    store(&settings, &first, "5000", datagrams)?;
    backup.query(&format!(
        "{BACKUP}('since') SETTINGS base_backup = File('full')"
    ))?;
    let reader = first.clickhouse()?;
    let whole = sums(&reader)?;
    assert_eq!(whole.0.flows, 25_000);
    let exporters: u64 = reader.value("SELECT count() FROM exporters FINAL")?;
    let folder = first.data_dir().join("backups");
    assert_no_password(first.data_dir(), &folder)?;

    let second = Collector::start(&settings)?;
    for name in ["full", "since"] {
        copy(&folder.join(name), &second.data_dir().join("backups"))?;
    }
    let writer = second.clickhouse_as("writer")?;
    writer.query(&format!(
        "{RESTORE}('since') SETTINGS allow_non_empty_tables = 1"
    ))?;
    let restored = second.clickhouse()?;
    assert_eq!(sums(&restored)?, whole);
    let found: u64 = restored.value("SELECT count() FROM exporters FINAL")?;
    assert_eq!(found, exporters);
    // And it goes on.
    store(&settings, &second, "3000", 0)?;
    assert_eq!(restored.flows()?, 28_000);
    first.stop()?;
    second.stop()?;
    Ok(())
}

/// Backups are carried elsewhere: no password may be in them.
fn assert_no_password(data_dir: &Path, backups: &Path) -> Result<()> {
    for user in ["writer", "reader", "backup"] {
        let password = std::fs::read_to_string(data_dir.join(format!("{user}.password")))?;
        let found = Command::new("grep")
            .args(["-r", "-F", "-l", "-e", password.trim()])
            .arg(backups)
            .output()?;
        let found = String::from_utf8(found.stdout)?;
        ensure!(found.is_empty(), "the password of {user} is in {found}");
    }
    Ok(())
}

#[test]
fn the_user_for_backups_can_do_nothing_else() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let backup = collector.clickhouse_as("backup")?;
    backup.query(&format!("{BACKUP}('full')"))?;
    for sql in [
        "SELECT count(time_received) FROM flows",
        "INSERT INTO flows (src_port) VALUES (1)",
        "DROP TABLE flows",
        "CREATE TABLE mine (a UInt8) ENGINE = MergeTree ORDER BY a",
        "BACKUP TABLE system.processes TO File('system')",
        &format!("{RESTORE}('full')"),
    ] {
        let error = backup.query(sql).unwrap_err().to_string();
        assert!(error.contains("ACCESS_DENIED"), "{sql}: {error}");
    }
    for place in ["/tmp/elsewhere", "../elsewhere"] {
        let error = backup.query(&format!("{BACKUP}('{place}')")).unwrap_err();
        assert!(
            error.to_string().contains("is not allowed for backups"),
            "{error}"
        );
    }
    // The collector's own user has no use for it.
    let writer = collector.clickhouse_as("writer")?;
    let error = writer.query(&format!("{BACKUP}('mine')")).unwrap_err();
    assert!(error.to_string().contains("ACCESS_DENIED"), "{error}");
    collector.stop()?;
    Ok(())
}

#[test]
fn a_copy_of_the_stopped_data_folder_is_a_backup() -> Result<()> {
    let Some(mut settings) = Settings::embedded() else {
        return Ok(());
    };
    let home = tempfile::tempdir()?;
    settings.data_dir = Some(home.path().join("data"));
    let collector = Collector::start(&settings)?;
    store(&settings, &collector, "20000", 0)?;
    let whole = sums(&collector.clickhouse()?)?;
    collector.stop()?;
    copy(&home.path().join("data"), &home.path().join("copy"))?;
    std::fs::remove_dir_all(home.path().join("data"))?;
    settings.data_dir = Some(home.path().join("copy"));
    let collector = Collector::start(&settings)?;
    assert_eq!(sums(&collector.clickhouse()?)?, whole);
    store(&settings, &collector, "1000", 0)?;
    assert_eq!(collector.clickhouse()?.flows()?, 21_000);
    collector.stop()?;
    Ok(())
}
