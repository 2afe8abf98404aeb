//! `receive`: the whole collector over loopback, with a store that keeps nothing.
//!
//! First beside nfcapd and nfacctd, which get the same datagrams at the same rate in turn; then
//! alone, for the highest rate without loss.

pub(crate) mod candidate;
mod highest;
mod nfacctd;
pub(crate) mod nfcapd;
mod round;
pub(crate) mod socket;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flowsluice::generate::Protocols;
use flowsluice::units::UnixNanos;
use flowsluice_tests::place;

use crate::cpu::MachineTimes;
use crate::options::Options;
use crate::report::{self, Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::{Recipe, Stream};
use candidate::Candidate;
use round::{Load, Outcome};

/// What `--quick` makes less.
struct Extent {
    rounds: usize,
    rates: &'static [u64],
    duration: Duration,
    workers: usize,
    step_duration: Duration,
    step: f64,
}

impl Extent {
    fn of(options: &Options) -> Result<Self> {
        let workers = thread::available_parallelism()?.get().min(WORKERS_MAX);
        Ok(if options.quick {
            Self {
                rounds: 1,
                rates: &[100_000],
                duration: Duration::from_secs(2),
                workers: 1,
                step_duration: Duration::from_secs(2),
                step: 0.1,
            }
        } else {
            Self {
                rounds: ROUNDS,
                rates: &[100_000, 200_000],
                duration: Duration::from_secs(8),
                workers,
                step_duration: Duration::from_secs(5),
                step: 0.05,
            }
        })
    }
}

/// Measures and reports.
///
/// # Errors
/// When a program is missing, fails, or says what cannot be.
pub fn main(options: &Options) -> Result<()> {
    let extent = Extent::of(options)?;
    let mut section = Section::new("receive", "Receiving over loopback");
    beside_peers(&extent, &mut section)?;
    without_loss(&extent, &mut section)?;
    report::publish(options, &section)
}

fn beside_peers(extent: &Extent, section: &mut Section) -> Result<()> {
    let idle = idle_cores()?;
    let buffer = socket::buffer_max()?.min(BUFFER);
    let mut table = Table::new([
        "protocol",
        "flows/s",
        "collector",
        "its CPU, ns a flow",
        "whole machine, ns a flow",
        "of that the sender",
        "lost, %",
        "dropped by the kernel, datagrams",
        "highest RSS, MiB",
    ]);
    for (name, protocols) in PROTOCOLS {
        for &rate in extent.rates {
            let flows = rate * (extent.duration.as_secs() + 1);
            let stream = stream(protocols, flows * FLOW_BYTES)?;
            let load = Load {
                rate,
                duration: extent.duration,
                buffer,
            };
            eprintln!("receive: {name}, {rate} flows/s");
            for (candidate, outcomes) in compare(extent.rounds, &stream, load)? {
                let mut cells = vec![name.to_owned(), rate.to_string(), candidate.to_string()];
                if outcomes.iter().any(|outcome| !outcome.is_settled) {
                    cells[2].push_str(" (did not become quiet)");
                }
                cells.extend(figures(&outcomes));
                table.row(cells);
            }
        }
    }
    section.table(&caption(extent, buffer, idle)?, &table);
    section.text(NOTES);
    Ok(())
}

/// All candidates in turn.
fn compare(rounds: usize, stream: &Stream, load: Load) -> Result<Vec<(Candidate, Vec<Outcome>)>> {
    let mut candidates = Candidate::ALL.map(|candidate| -> Round<'_, Outcome> {
        Box::new(move || round::run(candidate, stream, load))
    });
    let outcomes = rounds::alternate(rounds, &mut candidates)?;
    Ok(Candidate::ALL.into_iter().zip(outcomes).collect())
}

fn figures(outcomes: &[Outcome]) -> [String; 6] {
    let figure = |of: fn(&Outcome) -> f64| Figure::of(outcomes.iter().map(of)).to_string();
    let highest = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).fold(0.0, f64::max);
    [
        figure(Outcome::process_ns),
        figure(Outcome::machine_ns),
        figure(Outcome::sender_ns),
        figure(Outcome::lost_percent),
        figure(|outcome| outcome.kernel_drops as f64),
        format!("{:.0}", highest(|outcome| outcome.rss_bytes as f64) / MIB),
    ]
}

fn caption(extent: &Extent, buffer: u64, idle: f64) -> Result<String> {
    let (nfcapd, nfacctd) = (version("nfcapd")?, version("nfacctd")?);
    Ok(format!(
        "The same datagrams ({EXPORTERS} exporters, realistic profile, none twice in a round) for \
         {} s, candidates in turn, {} rounds after one that does not count; each started anew, \
         with a receive buffer of {buffer} bytes. Ours: one worker, blocks encoded, compressed and \
         dropped. nfcapd ({nfcapd}): {}. nfacctd ({nfacctd}): {}. Idle, the machine used {idle:.2} \
         cores; that is not subtracted.",
        extent.duration.as_secs(),
        extent.rounds,
        nfcapd::SET_UP,
        nfacctd::SET_UP,
    ))
}

fn without_loss(extent: &Extent, section: &mut Section) -> Result<()> {
    let stream = stream(Protocols::Netflow9, LOOP_BYTES)?;
    let sender = highest::of_the_sender(&stream)?;
    let mut table = Table::new([
        "receive mode",
        "workers",
        "highest rate without loss, flows/s",
        "collector, ns CPU a flow",
        "sender, ns CPU a flow",
        "next rate tried, and why not",
    ]);
    for workers in 1..=extent.workers {
        for mode in ["io_uring", "recvmmsg"] {
            eprintln!("receive: highest rate, {mode}, {workers} workers");
            let found = highest::search(&stream, mode, workers, extent.step_duration, extent.step)?;
            let [rate, collector, sender] = match found.works {
                Some(step) => [
                    format!("{:.0}", step.sent.rate()),
                    format!("{:.0}", step.collector_ns),
                    format!("{:.0}", step.sent.cpu_s * 1e9 / step.sent.flows as f64),
                ],
                None => ["none", "", ""].map(str::to_owned),
            };
            let fails = found.fails.map(|(rate, why)| format!("{rate}: {why}"));
            let fails = fails.unwrap_or_else(|| "none".into());
            let (mode, workers) = (mode.to_owned(), workers.to_string());
            table.row([mode, workers, rate, collector, sender, fails]);
        }
    }
    let caption = format!(
        "The highest rate of NetFlow v9 without loss, by bisection to {:.0} %: {} s a rate, sent \
         at 99 % of it or more, all received, nothing dropped, nothing unaccounted; default \
         receive buffer. Sender and collector share the processors. The sender alone, into a full \
         socket: {:.0} flows/s.",
        100.0 * extent.step,
        extent.step_duration.as_secs(),
        sender.rate(),
    );
    section.table(&caption, &table);
    Ok(())
}

fn stream(protocols: Protocols, bytes: u64) -> Result<Stream> {
    let recipe = Recipe {
        protocols,
        exporters: EXPORTERS,
        bytes: usize::try_from(bytes)?,
        ..Recipe::default()
    };
    Stream::new(&recipe, UnixNanos::now())
}

/// Cores' worth of CPU time that the machine uses when nothing is measured.
pub(crate) fn idle_cores() -> Result<f64> {
    let (started, before) = (Instant::now(), MachineTimes::now()?);
    thread::sleep(IDLE);
    let busy_s = MachineTimes::now()?.since(&before).busy_s();
    Ok(busy_s / started.elapsed().as_secs_f64())
}

/// The first line of what `program -V` prints that has a digit in it.
pub(crate) fn version(program: &str) -> Result<String> {
    let file = place::program(program).with_context(|| format!("{program} is not here"))?;
    let output = Command::new(file).arg("-V").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| line.contains(|c: char| c.is_ascii_digit()));
    let line = line.with_context(|| format!("{program} -V tells no version: {text}"))?;
    let words = line.split_whitespace();
    let version = words.skip_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(version.collect::<Vec<_>>().join(" "))
}

const PROTOCOLS: [(&str, Protocols); 3] = [
    ("NetFlow v5", Protocols::Netflow5),
    ("NetFlow v9", Protocols::Netflow9),
    ("IPFIX", Protocols::Ipfix),
];
const NOTES: &str = "CPU is user and system time of all processes of the candidate, from the first \
    flow until it was quiet. What the kernel does to deliver a datagram over loopback is charged \
    to the sender. Flows lost are those sent less those that the candidate counts: ours decoded, \
    by its last log line; nfcapd's logged with its files; nfacctd's in its table, where up to one \
    buffer between its processes (64 KiB) is missing because it hands on only full ones. What it \
    loses besides, it loses in the queue between them.";
const ROUNDS: usize = 3;
const EXPORTERS: usize = 8;
/// Bytes of a datagram a flow, headers and a quarter of IPv6 included: a little more than needed.
const FLOW_BYTES: u64 = 75;
/// Where nothing needs to be new.
const LOOP_BYTES: u64 = 16 << 20;
/// What everybody asks for, if `net.core.rmem_max` allows it.
const BUFFER: u64 = 32 << 20;
const WORKERS_MAX: usize = 2;
const IDLE: Duration = Duration::from_secs(3);
const MIB: f64 = 1_048_576.0;
