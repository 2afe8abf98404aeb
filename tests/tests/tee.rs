//! Datagrams that are forwarded to other collectors as they came.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::wire::{self, Sender};
use flowsluice_tests::{Collector, Settings, Status, Store};

const WAIT_MAX: Duration = Duration::from_secs(60);

fn listener() -> Result<UdpSocket> {
    let listener = UdpSocket::bind("127.0.0.1:0")?;
    listener.set_read_timeout(Some(WAIT_MAX))?;
    Ok(listener)
}

fn received(listener: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 10_000];
    let (length, from) = listener.recv_from(&mut buffer)?;
    buffer.truncate(length);
    Ok((buffer, from))
}

fn tee(to: SocketAddr, more: &str) -> String {
    format!("[[receive.tee]]\nto = \"{to}\"\n{more}\n")
}

fn told(status: &Status, index: usize, figure: &str) -> u64 {
    let at = format!("/receive/tee/{index}/{figure}");
    status
        .number(&at)
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// What is sent here and what comes out there, of a collector that receives by `mode`.
fn forwards(mode: &'static str) -> Result<()> {
    let [all, some, dead] = [listener()?, listener()?, listener()?];
    let dead_at = dead.local_addr()?;
    drop(dead);
    let mut settings = Settings::new(Store::Null);
    settings.receive_mode = mode;
    settings.receive = "allow = [\"127.0.0.0/24\"]\n".into();
    settings.more = [
        tee(all.local_addr()?, ""),
        tee(some.local_addr()?, "exporters = [\"127.0.0.2/32\"]"),
        tee(dead_at, ""),
    ]
    .concat();
    let collector = Collector::start(&settings)?;
    let source = |last: u8| IpAddr::from([127, 0, 0, last]);
    let mut first = Sender::between(source(1), collector.target())?;
    let mut second = Sender::between(source(2), collector.target())?;
    let mut stranger = Sender::between(IpAddr::from([127, 1, 0, 1]), collector.target())?;
    // Nobody may send this one, and this one is of no protocol: what cannot be decoded here may be
    // there.
    stranger.send(&wire::netflow5(0, 1))?;
    let mut sent = Vec::new();
    for number in 0..100_u8 {
        let payload = match number {
            50 => vec![0xff; 1400],
            _ => wire::netflow5(u32::from(number), 3),
        };
        let sender = if number % 2 == 0 {
            &mut first
        } else {
            &mut second
        };
        sender.send(&payload)?;
        sent.push(payload);
        let (bytes, from) = received(&all)?;
        ensure!(bytes == sent[usize::from(number)], "datagram {number}");
        ensure!(
            from.ip() == IpAddr::from([127, 0, 0, 1]),
            "from its own address: {from}"
        );
    }
    for payload in sent.iter().skip(1).step_by(2) {
        ensure!(received(&some)?.0 == *payload);
    }
    let ledger = collector.settle(101)?;
    assert_accounted(&ledger, 101);
    assert_eq!(ledger.dropped("exporter_not_allowed"), 1);
    let status = collector.wait_until("all copies are counted", WAIT_MAX, |status| {
        (0..3)
            .map(|index| told(status, index, "sent") + told(status, index, "dropped_refused"))
            .eq([100, 50, 100])
    })?;
    assert_eq!(
        (told(&status, 0, "sent"), told(&status, 1, "sent")),
        (100, 50)
    );
    assert!(
        told(&status, 2, "dropped_refused") > 0,
        "nobody listens there"
    );
    let metrics = collector.page("/metrics")?;
    let line = format!(
        "flowsluice_tee_datagrams_sent_total{{to=\"{}\"}} 100",
        all.local_addr()?
    );
    assert!(
        metrics.lines().any(|found| found == line),
        "{line}\n{metrics}"
    );
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

#[test]
fn two_listeners_get_the_same_bytes_and_a_dead_one_is_counted_by_recvmmsg() -> Result<()> {
    forwards("recvmmsg")
}

#[test]
fn two_listeners_get_the_same_bytes_and_a_dead_one_is_counted_by_what_the_kernel_has() -> Result<()>
{
    forwards("auto")
}

/// As root; without the capability the address would be the collector's own.
#[test]
fn an_exporters_address_and_port_are_kept_where_that_is_asked_for() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: keeping the source address takes root");
        return Ok(());
    }
    let target = listener()?;
    let mut settings = Settings::new(Store::Null);
    settings.more = tee(target.local_addr()?, "keep_source = true");
    let collector = Collector::start(&settings)?;
    let socket = UdpSocket::bind("127.0.0.77:0").context("an address of loopback")?;
    let payload = wire::netflow5(0, 2);
    socket.send_to(&payload, collector.target())?;
    let (bytes, from) = received(&target)?;
    assert_eq!((bytes, from), (payload, socket.local_addr()?));
    collector.stop()?;
    Ok(())
}

#[test]
fn a_target_that_leads_back_or_nowhere_is_refused_with_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flowsluice.toml");
    for (to, said) in [
        ("127.0.0.1:2055", "a listener of this collector"),
        ("collector.example", "has no port"),
        ("2001:db8::1:2055", "no brackets"),
        ("collector.example:0", "from 1 to 65535"),
    ] {
        std::fs::write(&file, format!("[[receive.tee]]\nto = \"{to}\"\n"))?;
        let config = file.to_string_lossy();
        let output =
            flowsluice_tests::program::run_in(folder.path(), &["check", "--config", &config])?;
        let text = flowsluice_tests::program::said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(said) && text.contains("flowsluice.toml:2"),
            "{said}\n{text}"
        );
    }
    Ok(())
}
