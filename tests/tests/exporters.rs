//! Real exporters from Debian, fed captures of known packets, export on loopback to the collector.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::pcap::{Capture, Fed, Transport};
use flowsluice_tests::{Collector, Process, Settings, place};

const CLIENTS: u8 = 60;
const TAIL_PORT: u16 = 9;

/// Conversations of UDP and TCP, IPv4 and IPv6, each of one to four packets.
fn traffic() -> Capture {
    let mut capture = Capture::default();
    for client in 1..=CLIENTS {
        let port = 20_000 + u16::from(client);
        let number = u16::from(client);
        let from4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client));
        let to4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        for _ in 0..=client % 4 {
            capture.add(Transport::Udp, (from4, port), (to4, 53), 40 + number);
        }
        capture.add(
            Transport::Tcp(0x18),
            (from4, port),
            (to4, 443),
            500 + number,
        );
        let from6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number));
        let to6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
        capture.add(Transport::Udp, (from6, port), (to6, 443), 700 + number);
    }
    capture
}

fn softflowd(version: &str, flow_type: &str, ipv6: bool) -> Result<()> {
    let Some(program) = place::program_or_skip("softflowd", "softflowd") else {
        return Ok(());
    };
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let capture = traffic();
    let file = collector.folder().join("fed.pcap");
    capture.write(&file)?;
    let mut command = Command::new(program);
    command
        .args(["-d", "-c", "none", "-v", version, "-n"])
        .arg(collector.target().to_string())
        .arg("-r")
        .arg(&file)
        .arg("-p")
        .arg(collector.folder().join("softflowd.pid"));
    run(&mut command, "softflowd", collector.folder())?;
    // NetFlow v1 and v5 have no IPv6: softflowd leaves it out.
    let (fed, flows) = if ipv6 {
        (capture.fed(), 3 * u64::from(CLIENTS))
    } else {
        (capture.ipv4, 2 * u64::from(CLIENTS))
    };
    let clickhouse = collector.clickhouse()?;
    wait_for(&collector, flows)?;
    let sums = clickhouse.raw_sums(&format!("flow_type = '{flow_type}'"))?;
    assert_eq!(
        sums,
        [flows, fed.bytes, fed.packets],
        "flows, bytes, packets"
    );
    assert_eq!(
        clickhouse.scaled_sums("1")?,
        sums,
        "softflowd samples every packet"
    );
    let of_one = "src_addr = toIPv6('10.0.0.3') AND dst_port = 53 AND protocol = 17";
    assert_eq!(clickhouse.raw_sums(of_one)?, [1, 4 * (28 + 43), 4]);
    if ipv6 {
        let of_one = "src_addr = toIPv6('2001:db8::3') AND src_port = 20003 AND dst_port = 443";
        assert_eq!(clickhouse.raw_sums(of_one)?, [1, 48 + 703, 1]);
    }
    let ledger = collector.status()?.ledger();
    assert_accounted(&ledger, ledger.datagrams_arrived());
    assert_no_gaps(&collector)?;
    assert_eq!(ledger.losses(), []);
    Ok(())
}

#[test]
fn softflowd_netflow1_sums_equal_what_it_was_fed() -> Result<()> {
    softflowd("1", "netflow1", false)
}

#[test]
fn softflowd_netflow5_sums_equal_what_it_was_fed() -> Result<()> {
    softflowd("5", "netflow5", false)
}

#[test]
fn softflowd_netflow9_sums_equal_what_it_was_fed() -> Result<()> {
    softflowd("9", "netflow9", true)
}

#[test]
fn softflowd_ipfix_sums_equal_what_it_was_fed() -> Result<()> {
    softflowd("10", "ipfix", true)
}

#[test]
fn pmacctd_sflow_sums_equal_what_it_was_fed() -> Result<()> {
    let Some(program) = place::program_or_skip("pmacctd", "pmacct") else {
        return Ok(());
    };
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let mut capture = traffic();
    let Fed { bytes, packets } = capture.fed();
    // pmacctd never sends a datagram that is not full when its capture ends, so what counts is
    // pushed out by more packets than two datagrams hold.
    let tail = (IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), TAIL_PORT);
    for _ in 0..40 {
        capture.add(Transport::Udp, tail, tail, 1000);
    }
    let file = collector.folder().join("fed.pcap");
    capture.write(&file)?;
    let config = sfprobe(&collector, &file)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(config);
    run(&mut command, "pmacctd", collector.folder())?;
    wait_for(&collector, packets)?;
    let clickhouse = collector.clickhouse()?;
    let counted = format!("flow_type = 'sflow5' AND src_port != {TAIL_PORT}");
    let sums = clickhouse.raw_sums(&counted)?;
    assert_eq!(sums, [packets, bytes, packets], "flows, bytes, packets");
    assert_eq!(
        clickhouse.scaled_sums(&counted)?,
        sums,
        "pmacctd samples every packet"
    );
    let of_one = "src_addr = toIPv6('2001:db8::3') AND src_port = 20003 AND dst_port = 443";
    assert_eq!(clickhouse.raw_sums(of_one)?, [1, 48 + 703, 1]);
    let agents: String = clickhouse.value("SELECT DISTINCT exporter_addr FROM flows")?;
    assert_eq!(agents, "::ffff:127.0.0.1", "the agent's address");
    let ledger = collector.status()?.ledger();
    assert_eq!(ledger.unaccounted(), 0, "\n{}", ledger.table());
    assert_eq!(ledger.losses(), []);
    assert_no_gaps(&collector)?;
    Ok(())
}

fn sfprobe(collector: &Collector, capture: &Path) -> Result<PathBuf> {
    let config = collector.folder().join("pmacctd.conf");
    let (target, capture) = (collector.target(), capture.display());
    let text = format!(
        "daemonize: false\npcap_savefile: {capture}\nplugins: sfprobe[s]\n\
         sfprobe_receiver[s]: {target}\nsfprobe_agentip[s]: 127.0.0.1\nsampling_rate: 1\n\
         aggregate: src_host, dst_host\n"
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

fn run(command: &mut Command, name: &str, folder: &Path) -> Result<()> {
    let mut exporter = Process::spawn(name, command, &folder.join(format!("{name}.log")))?;
    let status = exporter.wait(Duration::from_secs(30))?;
    // pmacctd may find its plugin gone, which it told to go, and then calls that a failure; what it
    // sent is held against what it was fed.
    ensure!(
        status.success() || name == "pmacctd",
        "{name} ended with {status}\n{}",
        exporter.tail(20)
    );
    Ok(())
}

/// Asserts that the sequence numbers of the one exporter say that nothing is missing, once what is
/// missing would be known.
fn assert_no_gaps(collector: &Collector) -> Result<()> {
    std::thread::sleep(Duration::from_secs(12));
    let status = collector.status()?;
    let figure = |name: &str| {
        status
            .at(&format!("/exporters/0/sequence/{name}"))?
            .as_u64()
    };
    let names = ["lost", "reordered", "duplicated", "restarts"];
    assert_eq!(names.map(figure), [Some(0); 4], "{names:?}");
    Ok(())
}

/// Waits until so many flows are stored and nothing is under way.
fn wait_for(collector: &Collector, flows: u64) -> Result<()> {
    let what = format!("{flows} flows stored");
    collector.wait_until(&what, Duration::from_secs(60), |status| {
        let ledger = status.ledger();
        ledger.store("flows_stored") >= flows && ledger.flows_under_way() == 0
    })?;
    Ok(())
}
