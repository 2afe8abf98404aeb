//! `flowsluice generate`: simulated exporters that send to a collector or write a capture.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use flowsluice::generate::capture::{self, Capture};
use flowsluice::generate::pace::Limits;
use flowsluice::generate::send::{self, Sender};
use flowsluice::generate::{
    FLOWS_PER_DATAGRAM_MAX, Numbered, Profile, Protocol, Protocols, Settings, Simulator, Sums,
    Totals,
};
use flowsluice::units::UnixNanos;
use serde::Serialize;

use super::sending;

/// Arguments of `flowsluice generate`.
///
/// The same seed makes the same hosts, flows and exporters. To a loopback address of IPv4 each
/// exporter sends from an address of its own (127.1.0.1, 127.1.0.2, ...), else from a port of its
/// own. Without --duration and --flows it goes on until SIGINT or SIGTERM; the sums of what was
/// sent are printed at the end.
#[derive(clap::Args)]
pub struct Args {
    /// Where to send, for example 127.0.0.1:2055
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = sending::target,
        required_unless_present = "write"
    )]
    target: Option<SocketAddr>,
    /// Write a pcap file instead of sending; nothing waits, times in it follow from --rate
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    write: Option<PathBuf>,
    /// What the flows look like
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// What the exporters speak
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocols,
    /// Flows a second; 0 sends as fast as possible
    #[arg(long, value_name = "FLOWS/S", default_value_t = 1000)]
    rate: u64,
    /// Exporters; four or more keep the mix of protocols
    #[arg(long, value_name = "N", default_value_t = Settings::default().exporters)]
    exporters: usize,
    /// Where the random numbers begin
    #[arg(long, value_name = "N", default_value_t = Settings::default().seed)]
    seed: u64,
    /// How long to send, for example 10s or 5m; a number alone is seconds
    #[arg(long, alias = "seconds", value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Stop after exactly so many flows
    #[arg(long, value_name = "N")]
    flows: Option<u64>,
    /// Part of the flows that is IPv6, from 0 to 1; NetFlow v5 has none
    #[arg(long, value_name = "PART", default_value_t = Settings::default().ipv6)]
    ipv6: f64,
    /// IPv4 flows in a datagram of NetFlow v9 and IPFIX; of IPv6 15 fit
    #[arg(long, value_name = "N", default_value_t = FLOWS_PER_DATAGRAM_MAX)]
    flows_per_datagram: u32,
    /// Part of the first exporter's datagrams that gets lost on the way, from 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    loss: f64,
    /// Number the records from 1 in the low 32 bits of their source address or next hop, in the
    /// order of sending: what is missing at the other end is known one by one
    #[arg(
        long,
        value_name = "FIELD",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "source"
    )]
    number: Option<Numbered>,
    /// Write when what was sent, a line a burst: nanoseconds since 1970, flows and datagrams so far
    #[arg(long, value_name = "FILE", requires = "target")]
    sent_log: Option<PathBuf>,
    /// Print the sums as one JSON object
    #[arg(long)]
    json: bool,
}

/// Sends or writes, then prints the sums.
pub fn main(args: Args) -> anyhow::Result<()> {
    let start = UnixNanos::now();
    let limits = args.limits();
    let mut simulator = Simulator::new(&args.settings(), start)?;
    let (elapsed, refused) = match (args.target, args.write) {
        (Some(target), _) => {
            let watch = Watch::new(args.sent_log.as_deref())?;
            send(target, args.exporters, &limits, &mut simulator, watch)?
        }
        (None, Some(file)) => (write(&file, &limits, &mut simulator, start)?, 0),
        (None, None) => bail!("neither --target nor --write is given; give one of them"),
    };
    let report = Report::new(&simulator, elapsed, refused);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    args.target.map_or(Ok(()), |target| {
        sending::ensure_heard(target, report.sums.datagrams, refused)
    })
}

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            profile: self.profile,
            protocols: self.protocol,
            exporters: self.exporters,
            seed: self.seed,
            flows_per_datagram: self.flows_per_datagram,
            ipv6: self.ipv6,
            loss: self.loss,
            number: self.number,
            ..Settings::default()
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            rate: self.rate,
            duration: self.duration,
            flows: self.flows,
        }
    }
}

/// A time with its unit, or seconds.
fn time(text: &str) -> Result<Duration, humantime::DurationError> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    }
}

fn send(
    target: SocketAddr,
    exporters: usize,
    limits: &Limits,
    simulator: &mut Simulator,
    mut watch: Watch,
) -> anyhow::Result<(Duration, u64)> {
    let mut sender = Sender::open(target, exporters)?;
    let stop = sending::stop_at_signal()?;
    let mut logged = Ok(());
    let elapsed = send::run(simulator, &mut sender, limits, &stop, &mut |at, totals| {
        watch.progress(at, totals);
        if let Err(error) = watch.log(totals) {
            logged = Err(error);
            stop.store(true, Ordering::Relaxed);
        }
    })?;
    logged
        .and_then(|()| watch.end())
        .context("--sent-log: the file cannot be written")?;
    Ok((elapsed, sender.refused()))
}

/// Tells of the sending while it goes on.
struct Watch {
    is_terminal: bool,
    /// When the last line for people was written, and the sums then.
    before: (Duration, Sums),
    log: Option<BufWriter<File>>,
}

impl Watch {
    fn new(log: Option<&Path>) -> anyhow::Result<Self> {
        let create = |file: &Path| {
            let failed = || format!("--sent-log: {} cannot be written", file.display());
            File::create(file).with_context(failed).map(BufWriter::new)
        };
        Ok(Self {
            is_terminal: io::stderr().is_terminal(),
            before: (Duration::ZERO, Sums::default()),
            log: log.map(create).transpose()?,
        })
    }

    /// Shows people the rate, once a second.
    fn progress(&mut self, at: Duration, totals: &Totals) {
        let (at_before, sums) = self.before;
        if !self.is_terminal || at < at_before + PROGRESS {
            return;
        }
        let seconds = (at - at_before).as_secs_f64();
        let flows = (totals.all.flows - sums.flows) as f64 / seconds;
        let datagrams = (totals.all.datagrams - sums.datagrams) as f64 / seconds;
        eprint!(
            "\r{:>4} s  {flows:>9.0} flows/s  {datagrams:>7.0} datagrams/s  {:>11} flows ",
            at.as_secs(),
            totals.all.flows,
        );
        self.before = (at, totals.all);
    }

    /// Notes that everything in `totals` is sent by now.
    fn log(&mut self, totals: &Totals) -> io::Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let (now, sums) = (UnixNanos::now().0, &totals.all);
        writeln!(log, "{now} {} {}", sums.flows, sums.datagrams)
    }

    fn end(self) -> io::Result<()> {
        if self.before.0 > Duration::ZERO {
            eprintln!();
        }
        self.log.map_or(Ok(()), |mut log| log.flush())
    }
}

const PROGRESS: Duration = Duration::from_secs(1);

fn write(
    file: &Path,
    limits: &Limits,
    simulator: &mut Simulator,
    start: UnixNanos,
) -> anyhow::Result<Duration> {
    ensure!(
        limits.duration.is_some() || limits.flows.is_some(),
        "--write: the capture would never end; give --duration or --flows"
    );
    ensure!(
        limits.rate > 0,
        "--write: times follow from the rate; give --rate above 0"
    );
    let failed = || format!("--write: {} cannot be written", file.display());
    let output = BufWriter::new(File::create(file).with_context(failed)?);
    let mut capture = Capture::begin(output).with_context(failed)?;
    let end = capture::run(simulator, &mut capture, limits, start).with_context(failed)?;
    capture.finish().with_context(failed)?;
    Ok(Duration::from_nanos(end.0 - start.0))
}

/// What is printed at the end.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    sums: Sums,
    elapsed_s: f64,
    refused: u64,
    lost: Sums,
    by_protocol: serde_json::Map<String, serde_json::Value>,
}

impl Report {
    fn new(simulator: &Simulator, elapsed: Duration, refused: u64) -> Self {
        let totals = simulator.totals();
        let by_protocol = Protocol::ALL
            .into_iter()
            .filter(|&protocol| totals.of(protocol).datagrams > 0)
            .map(|protocol| {
                (
                    protocol.name().into(),
                    serde_json::json!(totals.of(protocol)),
                )
            })
            .collect();
        Self {
            sums: totals.all,
            elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            refused,
            lost: totals.lost,
            by_protocol,
        }
    }

    fn print(&self) {
        let Sums {
            datagrams,
            flows,
            bytes,
            packets,
            raw_bytes,
            raw_packets,
        } = self.sums;
        println!(
            "{flows} flows in {datagrams} datagrams in {:.1} s ({:.0} flows/s): \
             {raw_packets} packets of {raw_bytes} bytes, scaled {packets} packets of {bytes} bytes",
            self.elapsed_s,
            flows as f64 / self.elapsed_s.max(0.001),
        );
        if self.lost.datagrams > 0 {
            println!(
                "lost on purpose: {} flows in {} datagrams",
                self.lost.flows, self.lost.datagrams
            );
        }
        if self.refused > 0 {
            println!("refused by the target: {} datagrams", self.refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn how_long_to_send_may_be_said_in_seconds() {
        let said = |name: &str, time: &str| {
            let line = ["generate", "--target", "127.0.0.1:2055", name, time];
            Line::try_parse_from(line).map(|line| line.args.duration)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(said("--duration", "90").unwrap(), seconds(90));
        assert_eq!(said("--seconds", "90").unwrap(), seconds(90));
        assert_eq!(said("--duration", "5m").unwrap(), seconds(300));
        assert!(said("--duration", "soon").is_err());
    }
}
