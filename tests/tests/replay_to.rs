//! `flowsluice replay --to`: captures are sent to a collector as they were captured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::pcap::{Capture, Transport};
use flowsluice_tests::process::{Signal, signal_pid};
use flowsluice_tests::{Collector, Process, Settings, Store, Totals, place};
use serde_json::Value;
use tempfile::TempDir;

const DATAGRAMS: u8 = 40;
const EXPORTERS: u8 = 3;
const STEP: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(30);

/// The payload of a datagram, and no other's: from none to 1365 bytes.
fn payload(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) * 35]
}

/// Datagrams of exporters that take turns, each behind a packet that is none.
fn capture() -> Capture {
    let mut capture = Capture::default();
    let collector = (IpAddr::from([192, 0, 2, 1]), 2055);
    for number in 0..DATAGRAMS {
        let exporter = (IpAddr::from([10, 0, 0, number % EXPORTERS]), 50_000);
        capture.add(Transport::Tcp(2), exporter, collector, 0);
        capture.add_with(Transport::Udp, exporter, collector, &payload(number));
    }
    capture
}

/// A capture file in a folder, and a socket to send it to.
struct Replay {
    folder: TempDir,
    file: PathBuf,
    socket: UdpSocket,
}

impl Replay {
    /// Packets come at these times since the first one.
    fn new(time: impl Fn(u64) -> Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("captured.pcap");
        let first = Duration::from_secs(1_750_000_000);
        capture().write_at(&file, |index| first + time(index))?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            folder,
            file,
            socket,
        })
    }

    fn start(&self, arguments: &[&str]) -> Result<Process> {
        let target = self.socket.local_addr()?;
        start(target, self.folder.path(), &self.file, arguments)
    }

    /// The next datagram, and where it comes from.
    fn next(&self) -> Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 65_536];
        let (length, from) = self.socket.recv_from(&mut buffer).context("a datagram")?;
        buffer.truncate(length);
        Ok((buffer, from))
    }
}

fn start(target: SocketAddr, folder: &Path, file: &Path, arguments: &[&str]) -> Result<Process> {
    let mut command = Command::new(place::binary()?);
    command.args(["replay", "--to", &target.to_string()]);
    command.args(arguments).arg(file);
    Process::spawn("the replay", &mut command, &folder.join("replay.log"))
}

/// What it says, once it has ended with success.
fn finish(mut process: Process) -> Result<String> {
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "{status}\n{}", process.output());
    Ok(process.output())
}

fn assert_says(said: &str, expected: &str) {
    assert!(said.contains(expected), "{expected}\n{said}");
}

#[test]
fn datagrams_arrive_byte_for_byte_in_order_and_not_before_their_time() -> Result<()> {
    let replay = Replay::new(|index| STEP * (index / 2) as u32)?;
    let began = Instant::now();
    let process = replay.start(&[])?;
    let mut first = None;
    for number in 0..DATAGRAMS {
        let (bytes, from) = replay.next()?;
        first.get_or_insert_with(Instant::now);
        assert_eq!(bytes, payload(number), "datagram {number}");
        let address = IpAddr::from([127, 1, 0, 1 + number % EXPORTERS]);
        assert_eq!(from.ip(), address, "datagram {number}");
    }
    let spread = first.context("there was one")?.elapsed();
    let said = finish(process)?;
    let captured = STEP * u32::from(DATAGRAMS - 1);
    assert!(began.elapsed() >= captured, "it cannot be faster");
    // The first one may have waited for this program.
    assert!(spread >= captured / 2, "{spread:?} instead of {captured:?}");
    let bytes: usize = (0..DATAGRAMS).map(|number| payload(number).len()).sum();
    assert_says(&said, "1 files, 80 packets, 40 datagrams");
    assert_says(&said, "40 packets are not UDP over IP");
    assert_says(&said, "40 of 40 datagrams sent to 127.0.0.1:");
    assert_says(&said, &format!(", {bytes} bytes, in "));
    assert_says(&said, "for 0.8 s of the capture; unaccounted: 0");
    assert_says(&said, "3 exporters, each from an address of its own");
    assert_says(&said, "10.0.0.2 was sent from 127.1.0.3");
    Ok(())
}

#[test]
fn gaps_are_shortened_or_left_out_on_request() -> Result<()> {
    let replay = Replay::new(|index| HOUR * (index / 40) as u32)?;
    for arguments in [&["--gap-max", "100ms"][..], &["--speed", "0"]] {
        let began = Instant::now();
        let process = replay.start(arguments)?;
        for number in 0..DATAGRAMS {
            assert_eq!(replay.next()?.0, payload(number), "datagram {number}");
        }
        let said = finish(process)?;
        assert_says(&said, "40 of 40 datagrams sent");
        let is_paced = arguments.contains(&"100ms");
        assert!(!is_paced || began.elapsed() >= Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn what_is_left_at_a_signal_is_counted() -> Result<()> {
    let replay = Replay::new(|index| HOUR * (index / 2) as u32)?;
    let again = replay.file.display().to_string();
    let process = replay.start(&["--speed", "2", &again])?;
    assert_eq!(replay.next()?.0, payload(0));
    signal_pid(process.pid(), Signal::INT)?;
    let said = finish(process)?;
    assert_says(&said, "1 of 40 datagrams sent");
    assert_says(&said, "for 0.0 s of the capture");
    assert_says(&said, "39 not sent: sending had ended before");
    assert_says(&said, "1 files not read");
    assert_says(&said, "unaccounted: 0");
    Ok(())
}

#[test]
fn a_target_that_refuses_is_told_and_all_is_sent() -> Result<()> {
    let replay = Replay::new(|_| Duration::ZERO)?;
    let target = replay.socket.local_addr()?;
    let (folder, file) = (replay.folder.path(), replay.file.as_path());
    drop(replay.socket);
    let mut process = start(target, folder, file, &[])?;
    let status = process.wait(LIMIT)?;
    let said = process.output();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_says(&said, &format!("{target} refuses datagrams"));
    assert_says(&said, "40 of 40 datagrams sent");
    assert_says(&said, " or more refused: nobody listens there");
    assert_says(&said, &format!("nobody listens on {target}"));
    Ok(())
}

#[test]
fn a_collector_receives_what_was_sent_and_tells_exporters_apart() -> Result<()> {
    let settings = Settings::new(Store::Null);
    let collector = Collector::start(&settings)?;
    let file = collector.folder().join("generated.pcap");
    let mut command = Command::new(&settings.binary);
    command.args(["generate", "--json", "--exporters", "4", "--flows", "5000"]);
    command.args(["--rate", "5000", "--write"]).arg(&file);
    let generated = Totals::last_of(&String::from_utf8(command.output()?.stdout)?)?;
    let process = start(collector.target(), collector.folder(), &file, &[])?;
    let said = finish(process)?;
    let n = generated.datagrams;
    assert_says(&said, &format!("{n} of {n} datagrams sent"));
    let ledger = collector.settle(n)?;
    assert_accounted(&ledger, n);
    let decoded = ledger.counter("flows_decoded");
    assert_eq!(decoded, generated.flows, "decoded = generated");
    assert_eq!(
        ledger.losses(),
        [("store_null".to_owned(), generated.flows)]
    );
    let all = ["127.1.0.1", "127.1.0.2", "127.1.0.3", "127.1.0.4"];
    collector.wait_until("4 exporters are shown", LIMIT, |status| {
        let exporters = status.at("/exporters").and_then(Value::as_array);
        let sources = exporters.into_iter().flatten();
        let mut sources: Vec<_> = sources.filter_map(|one| one["source"].as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        sources == all
    })?;
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_as_usage() -> Result<()> {
    for (arguments, said) in [
        ("--to 127.0.0.1:0", "port 0"),
        ("--to 127.0.0.1", "HOST:PORT is wanted"),
        ("--to ::1:2055", "in brackets"),
        ("--to no..host:2055", "HOST:PORT is wanted"),
        ("--to 127.0.0.1:2055 --config a.toml", "--config"),
        ("--to 127.0.0.1:2055 --print json", "--print"),
        ("--to 127.0.0.1:2055 --keep-time", "--keep-time"),
        (
            "--to 127.0.0.1:2055 --speed=-1",
            "a number from 0 is wanted",
        ),
        ("--speed 2", "--to"),
        ("--gap-max 1s", "--to"),
    ] {
        let mut command = Command::new(place::binary()?);
        command
            .arg("replay")
            .args(arguments.split(' '))
            .arg("a.pcap");
        let output = command.output()?;
        let told = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{arguments}\n{told}");
        assert_says(&told, said);
    }
    Ok(())
}
