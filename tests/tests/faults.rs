//! What happens when the host fails beside the collector: a port is taken, the spool's disk fills
//! up or is not to be written to, an interface goes.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowsluice_tests::generator::generate;
use flowsluice_tests::namespace::{COLLECTOR, EXPORTER, ipv4};
use flowsluice_tests::wire::{self, Sender};
use flowsluice_tests::{ClickHouse, Collector, Settings, Status, Store, Veth, place, program};

const WAIT_MAX: Duration = Duration::from_secs(60);
const FLOWS: u64 = 60_000;

/// A collector whose ClickHouse is away and that has little memory for blocks: they go to the disk.
fn settings(data: &Path) -> Result<Settings> {
    let away = ClickHouse {
        url: format!("http://127.0.0.1:{}", place::free_tcp_port(0)?),
        user: "default".into(),
        password: "nobody asks".into(),
        database: "flowsluice".into(),
    };
    Ok(Settings {
        data_dir: Some(data.to_owned()),
        more: "queue_max = \"1MiB\"\nstop_timeout = \"1s\"\n".into(),
        ..Settings::new(Store::Server(away))
    })
}

/// Sends flows and waits until each is in a block in memory, on the disk, or counted as lost.
fn send(collector: &Collector, settings: &Settings, before: u64) -> Result<(u64, Status)> {
    let flows = FLOWS.to_string();
    let arguments = ["--rate", "40000", "--flows", &flows];
    let folder = collector.folder();
    let sent = generate(&settings.binary, collector.target(), &arguments, folder)?;
    let all = before + sent.flows;
    let status = collector.wait_until("each flow has its place", WAIT_MAX, |status| {
        let ledger = status.ledger();
        let places = ledger.store("flows_in_flight") + ledger.store("flows_spooled");
        ledger.counter("flows_batched") == all
            && ledger.counter("flows_open") == 0
            && places + ledger.dropped("spool_failed") == all
    })?;
    assert_eq!(
        status.ledger().unaccounted(),
        0,
        "{}",
        status.ledger().table()
    );
    Ok((all, status))
}

/// Has the disk fail while flows come, and be there again.
fn spool_fails(
    data: &Path,
    fail: impl FnOnce() -> Result<()>,
    mend: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let settings = settings(data)?;
    let collector = Collector::launch(&settings)?;
    let (mut all, mut lost, mut fail) = (0, 0, Some(fail));
    // What is in memory has room for the first blocks.
    for _ in 0..20 {
        let (sent, status) = send(&collector, &settings, all)?;
        (all, lost) = (sent, status.ledger().dropped("spool_failed"));
        if let Some(fail) = fail.take() {
            fail()?;
        }
        if lost > 0 {
            break;
        }
    }
    ensure!(lost > 0, "nothing was lost\n{}", collector.tail());
    let log = collector.tail();
    ensure!(
        log.contains("store.spool: a block cannot be written"),
        "{log}"
    );
    ensure!(log.contains("make room on the disk"), "{log}");
    collector.page("/healthz")?;
    mend()?;
    let before = collector.status()?.ledger().store("flows_spooled");
    // A block that was on its way when the disk came back may be lost yet, and none after it.
    let (all, status) = send(&collector, &settings, all)?;
    let lost = status.ledger().dropped("spool_failed");
    let (_, status) = send(&collector, &settings, all)?;
    let ledger = status.ledger();
    ensure!(ledger.store("flows_spooled") > before, "{}", ledger.table());
    assert_eq!(ledger.dropped("spool_failed"), lost, "nothing more");
    assert_eq!(collector.terminate()?.unaccounted, 0);
    Ok(())
}

#[test]
fn a_spool_that_may_not_be_written_to_any_more_loses_what_is_counted_until_it_may() -> Result<()> {
    let data = tempfile::tempdir()?;
    let spool = data.path().join("spool");
    let allow = |mode| {
        let set = std::fs::set_permissions(&spool, Permissions::from_mode(mode));
        set.with_context(|| format!("chmod {}", spool.display()))
    };
    spool_fails(data.path(), || allow(0o500), || allow(0o700))
}

/// A file system in memory. Dropped, it is unmounted.
struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn mount(&self, options: &str) -> Result<bool> {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.0);
        Ok(command.output()?.status.success())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // It fails where nothing was mounted.
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
fn a_disk_that_fills_up_under_the_spool_loses_what_is_counted_until_there_is_room() -> Result<()> {
    let data = tempfile::tempdir()?;
    let disk = Disk(data.path());
    if !disk.mount("size=3m")? {
        eprintln!("skipped: a file system of its own takes root");
        return Ok(());
    }
    let grow = || {
        ensure!(disk.mount("remount,size=64m")?, "it grows");
        Ok(())
    };
    spool_fails(disk.0, || Ok(()), grow)
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_who_has_it_and_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let (udp_port, http) = (udp.local_addr()?.port(), tcp.local_addr()?);
    let free = place::free_tcp_port(0)?;
    let listener =
        |port| format!("[[receive.listeners]]\naddress = \"127.0.0.1\"\nport = {port}\n");
    let store = "[store]\nkind = \"null\"\n[decode]\nstate_dir = \"\"\n";
    for (config, said) in [
        (
            format!(
                "{}[http]\nlisten = \"127.0.0.1:{free}\"\n{store}",
                listener(udp_port)
            ),
            [
                format!("UDP 127.0.0.1:{udp_port}"),
                "another program has the port".into(),
            ],
        ),
        (
            format!("{}[http]\nlisten = \"{http}\"\n{store}", listener(0)),
            [
                format!("http.listen: {http}"),
                "is taken by another program".into(),
            ],
        ),
    ] {
        let file = folder.path().join("flowsluice.toml");
        std::fs::write(&file, config)?;
        let file = file.to_string_lossy();
        let output = program::run_in(folder.path(), &["run", "--config", &file])?;
        let text = program::said(&output);
        // Another start may succeed: it is no fault of the configuration, which would be 2.
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in said {
            assert!(text.contains(&part), "{part}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn an_interface_that_is_removed_ends_nothing_but_its_own_datagrams() -> Result<()> {
    let Some(veth) = Veth::new_or_skip()? else {
        return Ok(());
    };
    let _inside = veth.collector.enter()?;
    let mut settings = Settings::new(Store::Null);
    settings.namespace = Some(veth.collector.name().to_owned());
    settings.more = format!(
        "[receive.xdp]\ninterfaces = [\"{}\"]\nattach = \"native\"\nverify_checksum = false\n",
        Veth::COLLECTOR
    );
    let collector = Collector::start(&settings)?;
    let to = SocketAddr::new(ipv4(COLLECTOR), collector.port());
    let payload = wire::netflow5(0, 3);
    let sent = veth.exporter.run(|| {
        let mut sender = Sender::between(ipv4(EXPORTER), to)?;
        for _ in 0..5 {
            sender.send(&payload)?;
        }
        anyhow::Ok(sender.sent)
    })??;
    collector.settle(sent)?;
    veth.collector
        .ip(&format!("link del {}\n", Veth::COLLECTOR))?;
    collector.wait_until("it is told", WAIT_MAX, |_| {
        collector.tail().contains("gone: when it")
    })?;
    // By loopback, and so by the kernel's sockets, everything goes on.
    let mut sender = Sender::new(collector.target())?;
    for _ in 0..5 {
        sender.send(&payload)?;
    }
    let ledger = collector.settle(sent + 5)?;
    assert_eq!(ledger.unaccounted(), 0, "{}", ledger.table());
    collector.page("/healthz")?;
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}
