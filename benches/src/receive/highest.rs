//! The highest rate of NetFlow v9 that the collector takes from a socket without loss.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::{Collector, Ledger};

use super::candidate;
use crate::bisect::{self, Range};
use crate::sender::{Loop, Sent};
use crate::streams::Stream;

/// What a search found.
#[derive(Clone, Debug)]
pub struct Highest {
    /// The highest rate at which nothing was lost; `None` when there was none.
    pub works: Option<Step>,
    /// The lowest rate that did not work, and why; `None` when all did.
    pub fails: Option<(u64, String)>,
}

/// A rate at which nothing was lost.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What was sent.
    pub sent: Sent,
    /// CPU time of the collector, nanoseconds a flow.
    pub collector_ns: f64,
}

/// Searches with a collector of so many workers.
///
/// # Errors
/// When collector or sender fail, or what was sent does not become accounted for.
pub fn search(
    stream: &Stream,
    mode: &'static str,
    workers: usize,
    duration: Duration,
    step: f64,
) -> Result<Highest> {
    let collector = Collector::start(&candidate::flowsluice(mode, workers))?;
    let mut sender = Loop::open(stream, collector.target())?;
    sender.announce()?;
    collector.settle(sender.total().datagrams)?;
    let mut highest = Highest {
        works: None,
        fails: None,
    };
    let range = Range {
        first: 500_000,
        lowest: 10_000,
        highest: 8_000_000,
        step,
    };
    bisect::highest(range, |rate| {
        let outcome = attempt(&collector, &mut sender, rate, duration)?;
        let works = outcome.is_ok();
        match outcome {
            Ok(step) => highest.works = Some(step),
            Err(why) => highest.fails = Some((rate, why)),
        }
        Ok(works)
    })?;
    collector.stop()?;
    Ok(highest)
}

/// The inner result is what the rate was like: a step that worked, or why it did not.
fn attempt(
    collector: &Collector,
    sender: &mut Loop,
    rate: u64,
    duration: Duration,
) -> Result<Result<Step, String>> {
    let before = collector.status()?.ledger();
    let cpu_s = flowsluice_tests::process::usage(collector.pid()).cpu_s;
    let sent = sender.send(rate, duration)?;
    let after = collector.settle(sender.total().datagrams)?;
    let cpu_s = flowsluice_tests::process::usage(collector.pid()).cpu_s - cpu_s;
    let what = judge(&before, &after, &sent, rate);
    Ok(what.map(|()| Step {
        sent,
        collector_ns: cpu_s * 1e9 / sent.flows as f64,
    }))
}

fn judge(before: &Ledger, after: &Ledger, sent: &Sent, rate: u64) -> Result<(), String> {
    let grown = |name: &str| after.counter(name) - before.counter(name);
    let (received, dropped) = (
        grown("datagrams_received"),
        grown("datagrams_dropped_by_kernel"),
    );
    let counted = after.dropped(NOT_KEPT) - before.dropped(NOT_KEPT);
    if dropped > 0 {
        let of = sent.datagrams;
        return Err(format!("the kernel dropped {dropped} datagrams of {of}"));
    }
    if received != sent.datagrams || counted != sent.flows {
        let (datagrams, flows) = (sent.datagrams, sent.flows);
        let losses = after.losses_since(before).into_iter();
        let losses = losses.filter(|(reason, _)| reason != NOT_KEPT);
        let losses: Vec<_> = losses.map(|(reason, n)| format!("{reason}={n}")).collect();
        return Err(format!(
            "{received} datagrams of {datagrams} were received, {counted} flows of {flows} reached \
             the store; dropped: {}",
            losses.join(" ")
        ));
    }
    if after.unaccounted() > 0 {
        return Err(format!("{} unaccounted", after.unaccounted()));
    }
    if sent.rate() < RATE_KEPT * rate as f64 {
        return Err(format!("the sender made {:.0} flows/s of it", sent.rate()));
    }
    Ok(())
}

/// How fast the sender is when nobody takes anything: datagrams are dropped at a full socket.
///
/// # Errors
/// When the sender fails.
pub fn of_the_sender(stream: &Stream) -> Result<Sent> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut sender = Loop::open(stream, socket.local_addr()?)?;
    sender.send(0, Duration::from_secs(2))
}

/// The reason under which a store that keeps nothing counts its flows.
const NOT_KEPT: &str = "store_null";
/// The part of the rate that must have been sent.
const RATE_KEPT: f64 = 0.99;
