//! One round of one candidate: started, fed, let settle, counted, ended.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::process;

use super::candidate::Candidate;
use super::socket;
use crate::cpu::{MachineTimes, ProcessTimes};
use crate::sender::{Loop, Sent};
use crate::streams::Stream;

/// How to feed it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Flows a second.
    pub rate: u64,
    /// How long.
    pub duration: Duration,
    /// Receive buffer of its socket, bytes.
    pub buffer: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What was sent while the clocks ran.
    pub sent: Sent,
    /// Flows sent since the candidate's start, and those that it says it received.
    pub flows_sent: u64,
    pub flows_received: u64,
    /// Datagrams that the kernel dropped at the candidate's socket.
    pub kernel_drops: u64,
    /// CPU time of the candidate's processes from the first flow until it was quiet, seconds.
    pub process_s: f64,
    /// CPU time of the whole machine in the same time, the sender's included, seconds.
    pub machine_s: f64,
    /// Was it quiet before patience ended?
    pub is_settled: bool,
    /// Highest resident memory of its processes, bytes.
    pub rss_bytes: u64,
}

impl Outcome {
    /// Flows received while the clocks ran: all losses are taken to fall into that time, since
    /// announcements are sent slowly.
    fn flows(&self) -> f64 {
        let lost = self.flows_sent.saturating_sub(self.flows_received);
        self.sent.flows.saturating_sub(lost) as f64
    }

    /// The candidate's CPU time, nanoseconds a flow that it received.
    #[must_use]
    pub fn process_ns(&self) -> f64 {
        self.process_s * 1e9 / self.flows()
    }

    /// The machine's CPU time, nanoseconds a flow that the candidate received.
    #[must_use]
    pub fn machine_ns(&self) -> f64 {
        self.machine_s * 1e9 / self.flows()
    }

    /// The sender's CPU time, nanoseconds a flow that it sent.
    #[must_use]
    pub fn sender_ns(&self) -> f64 {
        self.sent.cpu_s * 1e9 / self.sent.flows as f64
    }

    /// The part of the flows that the candidate did not count, percent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        let lost = self.flows_sent.saturating_sub(self.flows_received);
        100.0 * lost as f64 / self.flows_sent as f64
    }
}

/// Measures `candidate` with `stream`.
///
/// # Errors
/// When the candidate does not run, the sender does not keep the rate, or more was received than
/// was sent.
pub fn run(candidate: Candidate, stream: &Stream, load: Load) -> Result<Outcome> {
    let running = candidate.start(load.buffer)?;
    let port = running.target().port();
    let mut sender = Loop::open(stream, running.target())?;
    sender.announce()?;
    thread::sleep(ANNOUNCED);
    let pids = process::tree(running.pid());
    let (machine, process) = (MachineTimes::now()?, cpu_s(&pids)?);
    let sent = sender.send(load.rate, load.duration)?;
    let is_settled = settle(&pids)?;
    let process_s = cpu_s(&pids)? - process;
    let machine_s = MachineTimes::now()?.since(&machine).busy_s();
    ensure!(
        process::tree(running.pid()) == pids,
        "{candidate} started or ended processes; their CPU time would be missed"
    );
    let rss_bytes = pids.iter().map(|pid| process::usage(*pid).rss_peak_bytes);
    let rss_bytes = rss_bytes.sum();
    let drops = socket::drops(port)?;
    let kernel_drops = drops.with_context(|| format!("{candidate} does not listen any more"))?;
    let flows_received = running.finish()?;
    let flows_sent = sender.total().flows;
    ensure!(
        flows_received <= flows_sent,
        "{candidate} received {flows_received} flows of {flows_sent} that were sent"
    );
    ensure!(
        sent.rate() >= RATE_KEPT * load.rate as f64,
        "the sender made {:.0} flows/s of {}; the machine is too busy to measure",
        sent.rate(),
        load.rate
    );
    Ok(Outcome {
        sent,
        flows_sent,
        flows_received,
        kernel_drops,
        process_s,
        machine_s,
        is_settled,
        rss_bytes,
    })
}

/// Waits until the processes do nothing more: not before batches are old enough to be handed on,
/// then until a while has passed in which they used a tick at most. False when they went on.
fn settle(pids: &[u32]) -> Result<bool> {
    thread::sleep(BATCH_AGE);
    let deadline = Instant::now() + SETTLE_MAX;
    let mut before = cpu_s(pids)?;
    while Instant::now() < deadline {
        thread::sleep(QUIET);
        let now = cpu_s(pids)?;
        if now - before <= TICK_S {
            return Ok(true);
        }
        before = now;
    }
    Ok(false)
}

fn cpu_s(pids: &[u32]) -> Result<f64> {
    let times = pids.iter().map(|pid| ProcessTimes::of(*pid));
    times.map(|times| Ok(times?.total_s())).sum()
}

/// Until the announcements are taken.
const ANNOUNCED: Duration = Duration::from_millis(300);
/// Our batches are sealed after a second.
const BATCH_AGE: Duration = Duration::from_millis(1_200);
const QUIET: Duration = Duration::from_millis(400);
/// 10 ms, and what adding floating-point numbers makes of it.
const TICK_S: f64 = 0.0101;
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// The part of the rate that must have been sent.
const RATE_KEPT: f64 = 0.98;
