//! Side by side with nfdump: real exporters are heard by its daemons and by the collector at once,
//! and both have the same flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::pcap::{Capture, Transport};
use flowsluice_tests::{Collector, Duplicator, Process, Settings, place};

const CLIENTS: u8 = 60;

/// A flow as both tell it: addresses, ports, protocol; packets and bytes.
type Row = (IpAddr, IpAddr, u16, u16, u8, u64, u64);

/// Who exports, and how.
#[derive(Clone, Copy, Debug)]
enum Exporter {
    /// softflowd, NetFlow of this version; 10 is IPFIX.
    Softflowd(u8),
    /// pmacctd's NetFlow probe, likewise.
    Pmacctd(u8),
    /// pmacctd's sFlow probe.
    Sflow,
}

/// What nfdump counts of a packet that sFlow sampled, and the collector does not: the Ethernet
/// header and the check sequence.
const FRAME_BYTES: u64 = 18;

fn traffic() -> Capture {
    let mut capture = Capture::default();
    for client in 1..=CLIENTS {
        let number = u16::from(client);
        let port = 20_000 + number;
        let from4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client));
        let to4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        for _ in 0..=client % 4 {
            capture.add(Transport::Udp, (from4, port), (to4, 53), 40 + number);
        }
        capture.add(Transport::Tcp(0x18), (from4, port), (to4, 443), 500);
        let from6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number));
        let to6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
        capture.add(Transport::Udp, (from6, port), (to6, 443), 700 + number);
    }
    capture
}

/// One of nfdump's daemons, which writes its flows to a folder.
#[derive(Debug)]
struct Nfcapd {
    process: Process,
    target: SocketAddr,
    flows: PathBuf,
}

impl Nfcapd {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        let target = SocketAddr::from(([127, 0, 0, 1], place::free_udp_port()?));
        let flows = folder.join("nfdump");
        std::fs::create_dir(&flows)?;
        let mut command = Command::new(program);
        command.args(["-t", "3600", "-b", "127.0.0.1", "-p"]);
        command.arg(target.port().to_string()).arg("-w").arg(&flows);
        let mut process = Process::spawn("nfcapd", &mut command, &folder.join("nfcapd.log"))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while place::udp_port_is_free(target.port()) {
            let ended = process.poll()?.is_some() || Instant::now() > deadline;
            ensure!(!ended, "it does not listen\n{}", process.tail(20));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            process,
            target,
            flows,
        })
    }

    /// Ends it and reads what it wrote.
    fn rows(mut self, nfdump: &Path) -> Result<Vec<Row>> {
        let status = self.process.stop()?;
        ensure!(status.success(), "{status}\n{}", self.process.tail(20));
        let output = Command::new(nfdump)
            .args(["-q", "-o", "csv", "-R"])
            .arg(&self.flows)
            .output()?;
        ensure!(output.status.success(), "nfdump: {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| row_of_csv(line).with_context(|| line.to_owned()))
            .collect()
    }
}

/// Of nfdump's CSV: times and duration come first.
fn row_of_csv(line: &str) -> Option<Row> {
    let fields: Vec<_> = line.split(',').map(str::trim).collect();
    let protocol = match *fields.get(7)? {
        "TCP" => 6,
        "UDP" => 17,
        other => other.parse().ok()?,
    };
    Some((
        fields.get(3)?.parse().ok()?,
        fields.get(4)?.parse().ok()?,
        fields.get(5)?.parse().ok()?,
        fields.get(6)?.parse().ok()?,
        protocol,
        fields.get(11)?.parse().ok()?,
        fields.get(12)?.parse().ok()?,
    ))
}

fn rows_of(collector: &Collector) -> Result<Vec<Row>> {
    let sql = "SELECT src_addr, dst_addr, src_port, dst_port, protocol, raw_packets, raw_bytes \
               FROM flows";
    let rows = collector.clickhouse()?.rows(sql)?;
    rows.iter()
        .map(|columns| {
            let [src, dst, src_port, dst_port, protocol, packets, bytes] = columns.as_slice()
            else {
                bail!("seven columns: {columns:?}");
            };
            let address = |text: &str| text.parse::<IpAddr>().map(|ip| ip.to_canonical());
            Ok((
                address(src)?,
                address(dst)?,
                src_port.parse()?,
                dst_port.parse()?,
                protocol.parse()?,
                packets.parse()?,
                bytes.parse()?,
            ))
        })
        .collect()
}

fn export(exporter: Exporter, capture: &Path, to: SocketAddr, folder: &Path) -> Result<()> {
    let (name, mut command) = match exporter {
        Exporter::Softflowd(version) => {
            let program = place::program("softflowd").context("it was there just now")?;
            let mut command = Command::new(program);
            command.args(["-d", "-c", "none", "-v", &version.to_string(), "-n"]);
            command.arg(to.to_string()).arg("-r").arg(capture);
            command.arg("-p").arg(folder.join("softflowd.pid"));
            ("softflowd", command)
        }
        Exporter::Pmacctd(_) | Exporter::Sflow => {
            let program = place::program("pmacctd").context("it was there just now")?;
            let config = folder.join("pmacctd.conf");
            let probe = match exporter {
                Exporter::Pmacctd(version) => format!(
                    "plugins: nfprobe[n]\nnfprobe_receiver[n]: {to}\n\
                     nfprobe_version[n]: {version}\n\
                     aggregate[n]: src_host, dst_host, src_port, dst_port, proto, tos\n"
                ),
                _ => format!(
                    "plugins: sfprobe[s]\nsfprobe_receiver[s]: {to}\n\
                     sfprobe_agentip[s]: 127.0.0.1\nsampling_rate: 1\n\
                     aggregate: src_host, dst_host\n"
                ),
            };
            let capture = capture.display();
            let text = format!("daemonize: false\npcap_savefile: {capture}\n{probe}");
            std::fs::write(&config, text)?;
            let mut command = Command::new(program);
            command.arg("-f").arg(config);
            ("pmacctd", command)
        }
    };
    let mut process = Process::spawn(name, &mut command, &folder.join("exporter.log"))?;
    let status = process.wait(Duration::from_secs(30))?;
    // pmacctd may find its plugin gone, which it told to go, and then calls that a failure; what it
    // sent is held against what it was fed.
    let is_done = status.success() || name == "pmacctd";
    ensure!(is_done, "{name}: {status}\n{}", process.tail(20));
    Ok(())
}

fn side_by_side(exporter: Exporter) -> Result<()> {
    let program = match exporter {
        Exporter::Softflowd(_) => place::program_or_skip("softflowd", "softflowd"),
        Exporter::Pmacctd(_) | Exporter::Sflow => place::program_or_skip("pmacctd", "pmacct"),
    };
    let nfcapd = match exporter {
        Exporter::Sflow => place::program_or_skip("sfcapd", "nfdump-sflow"),
        _ => place::program_or_skip("nfcapd", "nfdump"),
    };
    let nfdump = place::program_or_skip("nfdump", "nfdump");
    let (Some(_), Some(nfcapd), Some(nfdump)) = (program, nfcapd, nfdump) else {
        return Ok(());
    };
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let folder = collector.folder();
    let nfcapd = Nfcapd::start(&nfcapd, folder)?;
    let capture = traffic();
    let file = folder.join("fed.pcap");
    capture.write(&file)?;
    let duplicator = Duplicator::start(vec![nfcapd.target, collector.target()])?;
    export(exporter, &file, duplicator.address(), folder)?;
    let datagrams = duplicator.finish()?;
    ensure!(datagrams > 1, "{datagrams} datagrams were exported");
    let ledger = collector.settle(datagrams)?;
    assert_accounted(&ledger, datagrams);
    assert_eq!(ledger.losses(), []);
    let (mut ours, mut theirs) = (rows_of(&collector)?, nfcapd.rows(&nfdump)?);
    if matches!(exporter, Exporter::Sflow) {
        theirs.iter_mut().for_each(|row| row.6 -= FRAME_BYTES);
    }
    let totals = |rows: &[Row]| {
        let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
        (rows.len(), sum(|row| row.5), sum(|row| row.6))
    };
    ensure!(ours.len() > usize::from(CLIENTS), "{} flows", ours.len());
    assert_eq!(totals(&ours), totals(&theirs), "flows, packets, bytes");
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    let fed = match exporter {
        // NetFlow v5 has no IPv6: the exporters leave it out.
        Exporter::Softflowd(5) | Exporter::Pmacctd(5) => capture.ipv4,
        // It keeps what does not fill a datagram to itself.
        Exporter::Sflow => return Ok(()),
        _ => capture.fed(),
    };
    let (_, packets, bytes) = totals(&ours);
    assert_eq!((packets, bytes), (fed.packets, fed.bytes), "what was fed");
    Ok(())
}

#[test]
fn softflowd_netflow5_is_the_same_to_nfcapd() -> Result<()> {
    side_by_side(Exporter::Softflowd(5))
}

#[test]
fn softflowd_netflow9_is_the_same_to_nfcapd() -> Result<()> {
    side_by_side(Exporter::Softflowd(9))
}

#[test]
fn softflowd_ipfix_is_the_same_to_nfcapd() -> Result<()> {
    side_by_side(Exporter::Softflowd(10))
}

#[test]
fn pmacctd_netflow5_is_the_same_to_nfcapd() -> Result<()> {
    side_by_side(Exporter::Pmacctd(5))
}

#[test]
fn pmacctd_netflow9_is_the_same_to_nfcapd() -> Result<()> {
    side_by_side(Exporter::Pmacctd(9))
}

#[test]
fn pmacctd_sflow_is_the_same_to_sfcapd_but_for_the_frames() -> Result<()> {
    side_by_side(Exporter::Sflow)
}

#[test]
fn pmacctd_ipfix_is_the_same_to_nfcapd() -> Result<()> {
    side_by_side(Exporter::Pmacctd(10))
}
