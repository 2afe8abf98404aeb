//! The whole collector over loopback with a store that keeps nothing: without enrichment, with what
//! is there by default, with everything; and nfcapd.
//!
//! Each is started once and gets the same flows in turn: names would have to be learned anew after
//! every start.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use flowsluice::config::Enrich;
use flowsluice::generate::Protocols;
use flowsluice::units::UnixNanos;
use flowsluice_tests::{Collector, process};

use super::files;
use crate::cpu::{self, MachineTimes, ProcessTimes};
use crate::options::Options;
use crate::receive::candidate::{self, Running};
use crate::receive::nfcapd::{self, Nfcapd};
use crate::receive::{socket, version};
use crate::report::{Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::sender::Loop;
use crate::streams::{Recipe, Stream};

/// Exporters that send.
pub const EXPORTERS: usize = 8;

/// Measures with what `all` says, beside others.
///
/// # Errors
/// When a candidate does not start, or flows are unaccounted for.
pub fn measure(all: &Enrich, options: &Options, section: &mut Section) -> Result<()> {
    let extent = Extent::of(options);
    let recipe = Recipe {
        protocols: Protocols::Netflow9,
        exporters: EXPORTERS,
        bytes: LOOP_BYTES,
        ..Recipe::default()
    };
    let stream = Stream::new(&recipe, UnixNanos::now())?;
    let mut candidates = start(all, &stream)?;
    let names = candidates[ALL].learn(extent.names)?;
    let mut table = Table::new([
        "flows/s",
        "collector",
        "worker, CPU ns a flow",
        "times worker off",
        "whole process, CPU ns a flow",
        "times process off",
        "times nfcapd",
        "sent at least, flows/s",
    ]);
    let (began, before) = (Instant::now(), MachineTimes::now()?);
    let mut own_s = 0.0;
    for &rate in extent.rates {
        eprintln!("enrich: {rate} flows/s");
        let samples = compare(&mut candidates, rate, &extent)?;
        own_s += samples.iter().flatten().map(|s| s.own_s).sum::<f64>();
        rows(&candidates, rate, &samples, &mut table);
    }
    let (busy_s, elapsed_s) = (
        MachineTimes::now()?.since(&before).busy_s(),
        began.elapsed().as_secs_f64(),
    );
    let others = (busy_s - own_s) / elapsed_s;
    let swap = candidates[ALL].swap(all)?;
    let memory = memory(&candidates, &swap)?;
    let lost = finish(candidates)?;
    section.table(&caption(&extent, names, others)?, &table);
    section.text(&lost);
    section.table("Memory:", &memory);
    Ok(())
}

fn caption(extent: &Extent, names: u64, others: f64) -> Result<String> {
    Ok(format!(
        "The whole collector: the same {LOOP_MIB} MiB of NetFlow v9 ({EXPORTERS} exporters, \
         realistic profile) again and again, {} s to each in turn, {} rounds after one that does \
         not count; all are started once and idle meanwhile. Ours: io_uring, one worker, blocks \
         encoded, compressed and dropped. Off is `enrich.services = false`; everything adds the \
         files and names above, {names} names when it begins, with questions going on at the \
         default rate. nfcapd ({}): {}. Beside candidates and sender the machine used {others:.2} \
         of its cores.",
        extent.duration.as_secs(),
        extent.rounds,
        version("nfcapd")?,
        nfcapd::SET_UP,
    ))
}

fn rows(candidates: &[Candidate], rate: u64, samples: &[Vec<Sample>], table: &mut Table) {
    let figure = |at: usize, of: fn(&Sample) -> f64| Figure::of(samples[at].iter().map(of));
    let off = figure(OFF, |s| s.worker_ns).median;
    let process_off = figure(OFF, |s| s.process_ns).median;
    let peer = figure(PEER, |s| s.process_ns).median;
    for (at, candidate) in candidates.iter().enumerate() {
        let process = figure(at, |s| s.process_ns);
        let worker = figure(at, |s| s.worker_ns);
        let [worker, times, process_times] = match at {
            PEER => ["", "", ""].map(str::to_owned),
            _ => [
                worker.to_string(),
                format!("{:.2}", worker.median / off),
                format!("{:.2}", process.median / process_off),
            ],
        };
        table.row([
            rate.to_string(),
            candidate.name.to_owned(),
            worker,
            times,
            process.to_string(),
            process_times,
            format!("{:.2}", process.median / peer),
            format!("{:.0}", figure(at, |s| s.rate).min),
        ]);
    }
}

fn compare(candidates: &mut [Candidate], rate: u64, extent: &Extent) -> Result<Vec<Vec<Sample>>> {
    let mut rounds: Vec<Round<'_, Sample>> = Vec::new();
    for candidate in candidates {
        rounds.push(Box::new(move || candidate.round(rate, extent.duration)));
    }
    rounds::alternate(extent.rounds, &mut rounds)
}

/// What one candidate used in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    worker_ns: f64,
    process_ns: f64,
    rate: f64,
    /// CPU time of the candidate and of the sender, seconds.
    own_s: f64,
}

struct Candidate {
    name: &'static str,
    collector: Who,
    sender: Loop,
}

enum Who {
    Ours(Box<Collector>),
    Nfcapd(Box<Nfcapd>),
}

fn start(all: &Enrich, stream: &Stream) -> Result<Vec<Candidate>> {
    let services = Enrich::default();
    let off = Enrich {
        services: false,
        ..Enrich::default()
    };
    let mut candidates = Vec::new();
    for (name, enrich) in [
        ("flowsluice, off", &off),
        ("flowsluice, services (default)", &services),
        ("flowsluice, everything", all),
    ] {
        candidates.push(Candidate::start(name, Who::ours(enrich)?, stream)?);
    }
    let buffer = socket::buffer_max()?.min(BUFFER);
    let nfcapd = Nfcapd::start(Ipv4Addr::LOCALHOST.into(), buffer)?;
    let nfcapd = Who::Nfcapd(Box::new(nfcapd));
    candidates.push(Candidate::start("nfcapd", nfcapd, stream)?);
    Ok(candidates)
}

impl Who {
    fn ours(enrich: &Enrich) -> Result<Self> {
        let mut settings = candidate::flowsluice("io_uring", 1);
        settings.socket_buffer = Some(socket::buffer_max()?.min(BUFFER));
        settings.more = files::toml(enrich)?;
        Ok(Self::Ours(Box::new(Collector::start(&settings)?)))
    }

    fn target(&self) -> SocketAddr {
        match self {
            Self::Ours(collector) => collector.target(),
            Self::Nfcapd(nfcapd) => Running::target(&**nfcapd),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Ours(collector) => collector.pid(),
            Self::Nfcapd(nfcapd) => Running::pid(&**nfcapd),
        }
    }

    /// CPU time of its workers and of all of it so far, seconds.
    fn used_s(&self) -> Result<[f64; 2]> {
        let pids = process::tree(self.pid());
        let all = pids.iter().map(|pid| ProcessTimes::of(*pid));
        let all: Result<f64> = all.map(|times| Ok(times?.total_s())).sum();
        let workers = match self {
            Self::Ours(collector) => cpu::of_threads(collector.pid(), "worker-")?.as_secs_f64(),
            Self::Nfcapd(_) => 0.0,
        };
        Ok([workers, all?])
    }
}

impl Candidate {
    fn start(name: &'static str, collector: Who, stream: &Stream) -> Result<Self> {
        let mut sender = Loop::open(stream, collector.target())?;
        sender.announce()?;
        Ok(Self {
            name,
            collector,
            sender,
        })
    }

    /// Sends slowly until so many names are known.
    fn learn(&mut self, wanted: u64) -> Result<u64> {
        let deadline = Instant::now() + NAMES_TIME_MAX;
        loop {
            let known = self.status("/enrich/dns/names")?;
            if known >= wanted {
                return Ok(known);
            }
            ensure!(Instant::now() < deadline, "{known} names after a long time");
            self.sender.send(LEARN_RATE, Duration::from_secs(1))?;
        }
    }

    /// Replaces one of its databases while it takes flows.
    fn swap(&mut self, all: &Enrich) -> Result<Swap> {
        const LOADED: &str = "/enrich/parts/geo/loaded";
        let file = all.geo.databases.last().context("there are databases")?;
        let new = file.with_extension("new");
        fs::copy(file, &new)?;
        let (pid, before) = (self.collector.pid(), self.status(LOADED)?);
        // Makes the highest memory so far that of now: proc_pid_clear_refs(5).
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset the peak of memory")?;
        let begun = Instant::now();
        fs::rename(&new, file)?;
        while self.status(LOADED)? == before {
            ensure!(
                begun.elapsed() < SWAP_TIME_MAX,
                "the new database is not loaded"
            );
            self.sender.send(SWAP_RATE, Duration::from_millis(500))?;
        }
        let took = begun.elapsed();
        // What marks and what encodes go over to it.
        let sent = self.sender.send(SWAP_RATE, Duration::from_secs(3))?;
        Ok(Swap {
            peak: ByteSize(process::usage(pid).rss_peak_bytes),
            took,
            sent: sent.rate(),
        })
    }

    fn status(&self, pointer: &str) -> Result<u64> {
        let Who::Ours(collector) = &self.collector else {
            return Ok(0);
        };
        collector.status()?.number(pointer)
    }

    /// Sends, and waits until batches are old enough to have been handed on and encoded.
    fn round(&mut self, rate: u64, duration: Duration) -> Result<Sample> {
        let before = self.collector.used_s()?;
        let sent = self.sender.send(rate, duration)?;
        thread::sleep(SETTLED);
        let after = self.collector.used_s()?;
        let [worker_s, process_s] = [after[0] - before[0], after[1] - before[1]];
        let ns = |seconds: f64| seconds * 1e9 / sent.flows as f64;
        Ok(Sample {
            worker_ns: ns(worker_s),
            process_ns: ns(process_s),
            rate: sent.rate(),
            own_s: process_s + sent.cpu_s,
        })
    }
}

fn memory(candidates: &[Candidate], swap: &Swap) -> Result<Table> {
    let mut table = Table::new(["what", "memory"]);
    for candidate in candidates {
        let bytes = process::usage(candidate.collector.pid()).rss_peak_bytes;
        let what = format!("{}, resident at most", candidate.name);
        table.row([what, ByteSize(bytes).to_string()]);
    }
    let Swap { peak, took, sent } = swap;
    table.row([
        format!(
            "flowsluice, everything, resident at most while a database is replaced, with {sent:.0} \
             flows/s ({:.1} s until the new table is there)",
            took.as_secs_f64()
        ),
        peak.to_string(),
    ]);
    for part in ["geo", "threats"] {
        let bytes = candidates[ALL].status(&format!("/enrich/parts/{part}/memory_bytes"))?;
        let what = match part {
            "threats" => "table of networks and threats",
            _ => "table of places",
        };
        table.row([what.to_owned(), ByteSize(bytes).to_string()]);
    }
    Ok(table)
}

/// What a database costs that is replaced.
struct Swap {
    peak: ByteSize,
    /// From the new file to the new table; files are looked at every few seconds.
    took: Duration,
    /// Flows/s meanwhile.
    sent: f64,
}

/// Ends all; says what each lost.
fn finish(candidates: Vec<Candidate>) -> Result<String> {
    let mut lost = Vec::new();
    for candidate in candidates {
        let sent = candidate.sender.total().flows;
        let received = match candidate.collector {
            Who::Ours(collector) => Running::finish(collector)?,
            Who::Nfcapd(nfcapd) => Running::finish(nfcapd)?,
        };
        ensure!(received <= sent, "{received} received of {sent}");
        let percent = 100.0 * (sent - received) as f64 / sent as f64;
        lost.push(format!("{}: {percent:.2} %", candidate.name));
    }
    Ok(format!("Flows lost in all: {}.", lost.join("; ")))
}

/// What `--quick` makes less.
struct Extent {
    rounds: usize,
    rates: &'static [u64],
    duration: Duration,
    names: u64,
}

impl Extent {
    const fn of(options: &Options) -> Self {
        if options.quick {
            Self {
                rounds: 2,
                rates: &[100_000],
                duration: Duration::from_secs(2),
                names: 5_000,
            }
        } else {
            Self {
                rounds: 3,
                rates: &[100_000, 200_000],
                duration: Duration::from_secs(4),
                names: 24_000,
            }
        }
    }
}

/// Places in the list of candidates.
const OFF: usize = 0;
const ALL: usize = 2;
const PEER: usize = 3;

const LOOP_MIB: usize = 16;
const LOOP_BYTES: usize = LOOP_MIB << 20;
/// What everybody asks for, if `net.core.rmem_max` allows it.
const BUFFER: u64 = 32 << 20;
/// Batches are handed on after a second.
const SETTLED: Duration = Duration::from_millis(1_600);
const LEARN_RATE: u64 = 20_000;
const SWAP_RATE: u64 = 50_000;
const SWAP_TIME_MAX: Duration = Duration::from_secs(120);
const NAMES_TIME_MAX: Duration = Duration::from_secs(120);
