//! One round of one candidate: started, fed at a steady rate, then ever faster, ended.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::candidate::{Candidate, Receiving};
use super::pair::Pair;
use super::source::{Kind, Source};
use crate::bisect::{self, Range};
use crate::cpu::{MachineTimes, ProcessTimes};
use crate::sender::Sent;
use crate::streams::Stream;

/// What to feed it with.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// How datagrams are made.
    pub kind: Kind,
    /// Which.
    pub stream: &'a Stream,
    /// Datagrams a second while CPU time is measured.
    pub rate: u64,
    /// How long.
    pub steady: Duration,
    /// How long each rate of the search is tried.
    pub step_duration: Duration,
    /// Where the search ends, as a part of the rate.
    pub step: f64,
    /// Receive buffer, bytes.
    pub buffer: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// At the steady rate.
    pub steady: Steady,
    /// Datagrams a second, the highest rate at which nothing was lost; `None` when there was none.
    pub highest: Option<f64>,
    /// Why the next rate was not kept; `None` when all were.
    pub limit: Option<Limit>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let highest = self.highest.unwrap_or(0.0);
        let limit = self.limit.map_or("nothing", Limit::name);
        let receiving = self.steady.receiving_ns();
        let lost = self.steady.lost_percent();
        write!(
            f,
            "{highest:.0} datagrams/s, ended by {limit}; receiving {receiving:.0} ns CPU a \
             datagram, {lost:.2} % lost"
        )
    }
}

/// CPU time of a steady rate, seconds.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// What was sent.
    pub sent: Sent,
    /// Datagrams of it that did not arrive.
    pub lost: u64,
    /// The candidate's process, user and system.
    pub process_s: f64,
    /// Interrupts and soft interrupts of all processors.
    pub interrupts_s: f64,
    /// All processors, everything but idle and stolen time.
    pub machine_s: f64,
}

impl Steady {
    /// What receiving costs the machine, nanoseconds a datagram.
    #[must_use]
    pub fn receiving_ns(&self) -> f64 {
        self.process_ns() + self.interrupts_ns()
    }

    /// The candidate's process, nanoseconds a datagram.
    #[must_use]
    pub fn process_ns(&self) -> f64 {
        self.ns(self.process_s)
    }

    /// Interrupts and soft interrupts, nanoseconds a datagram.
    #[must_use]
    pub fn interrupts_ns(&self) -> f64 {
        self.ns(self.interrupts_s)
    }

    /// The sender and everything else, nanoseconds a datagram.
    #[must_use]
    pub fn rest_ns(&self) -> f64 {
        self.ns(self.machine_s - self.process_s - self.interrupts_s)
    }

    /// Datagrams that did not arrive, percent.
    #[must_use]
    pub fn lost_percent(&self) -> f64 {
        100.0 * self.lost as f64 / self.sent.datagrams as f64
    }

    fn ns(&self, seconds: f64) -> f64 {
        seconds * 1e9 / (self.sent.datagrams - self.lost) as f64
    }
}

/// What kept a rate from being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Datagrams did not arrive.
    Lost,
    /// More of them than a pause of the machine explains.
    LostMany,
    /// All arrived, and something was lost behind the receive path.
    LostLater,
    /// The sender could not make it.
    Sender,
}

impl Limit {
    /// In a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost | Self::LostMany => "loss",
            Self::LostLater => "loss behind it",
            Self::Sender => "sender",
        }
    }
}

/// Measures `candidate`. `first` is where the search begins, and then where it ended.
///
/// # Errors
/// When the candidate does not run or does not account for everything, or nothing can be sent.
pub fn run(candidate: Candidate, pair: &Pair, load: &Load<'_>, first: &mut u64) -> Result<Outcome> {
    pair.at_receiver(|| {
        let receiving = candidate.start(pair, load.buffer)?;
        let mut source = Source::open(pair, load.kind, load.stream, receiving.port())?;
        thread::sleep(TAKEN_IN);
        let announced = receiving.settle(source.total().datagrams)?;
        ensure!(
            announced.datagrams == source.total().datagrams && announced.lost_later == 0,
            "{candidate}: announcements were lost: {announced:?}"
        );
        let steady = steady(&receiving, &mut source, load)
            // The machine may have been busy with something else.
            .or_else(|error| {
                eprintln!("veth: {candidate}: once more: {error:#}");
                steady(&receiving, &mut source, load)
            })?;
        let mut search = Search {
            receiving: &receiving,
            source: &mut source,
            load,
        };
        let (highest, limit) = search.run(first)?;
        let (sent, total) = (source.total(), receiving.settle(source.total().datagrams)?);
        let flows = receiving.finish()?;
        let is_whole = total.datagrams == sent.datagrams && total.lost_later == 0;
        ensure!(
            flows <= sent.flows && (!is_whole || flows == sent.flows),
            "{candidate}: {flows} flows of {} that were sent, and {total:?} of {} datagrams",
            sent.flows,
            sent.datagrams
        );
        Ok(Outcome {
            steady,
            highest,
            limit,
        })
    })
}

fn steady(receiving: &Receiving, source: &mut Source<'_>, load: &Load<'_>) -> Result<Steady> {
    let before = receiving.settle(source.total().datagrams)?;
    let (machine, process) = (MachineTimes::now()?, ProcessTimes::of(receiving.pid())?);
    let sent = source.send(load.rate, load.steady)?;
    thread::sleep(TAKEN_IN);
    let process = ProcessTimes::of(receiving.pid())?.since(&process);
    let machine = MachineTimes::now()?.since(&machine);
    let after = receiving.settle(source.total().datagrams)?;
    let taken = after.datagrams - before.datagrams;
    ensure!(taken <= sent.datagrams, "more was received than was sent");
    ensure!(taken > 0, "nothing was received");
    ensure!(
        sent.datagrams as f64 >= STEADY_KEPT * load.rate as f64 * sent.elapsed_s,
        "the sender made {:.0} datagrams/s of {}; the machine is too busy to measure",
        sent.datagrams as f64 / sent.elapsed_s,
        load.rate
    );
    Ok(Steady {
        sent,
        lost: sent.datagrams - taken,
        process_s: process.total_s(),
        interrupts_s: machine.interrupts_s,
        machine_s: machine.busy_s(),
    })
}

struct Search<'a, 'b> {
    receiving: &'a Receiving,
    source: &'a mut Source<'b>,
    load: &'a Load<'a>,
}

impl Search<'_, '_> {
    fn run(&mut self, first: &mut u64) -> Result<(Option<f64>, Option<Limit>)> {
        let range = Range {
            first: *first,
            lowest: RATE_MIN,
            highest: RATE_MAX,
            step: self.load.step,
        };
        let (mut highest, mut limit) = (None, None);
        let found = bisect::highest(range, |rate| {
            let mut outcome = self.attempt(rate)?;
            if matches!(outcome, Err(limit) if limit != Limit::LostMany) {
                // A pause of the machine is not the receiver's.
                outcome = self.attempt(rate)?;
            }
            let works = outcome.is_ok();
            match outcome {
                Ok(sent) => highest = Some(sent.datagrams as f64 / sent.elapsed_s),
                Err(why) => limit = Some(why),
            }
            Ok(works)
        })?;
        *first = found.works.unwrap_or(*first);
        Ok((highest, limit.filter(|_| found.fails.is_some())))
    }

    /// The inner result is what the rate was like.
    fn attempt(&mut self, rate: u64) -> Result<Result<Sent, Limit>> {
        let before = self.receiving.settle(self.source.total().datagrams)?;
        let sent = self.source.send(rate, self.load.step_duration)?;
        thread::sleep(TAKEN_IN);
        let after = self.receiving.settle(self.source.total().datagrams)?;
        let is_kept = sent.datagrams as f64 >= RATE_KEPT * rate as f64 * sent.elapsed_s;
        let lost = sent.datagrams.abs_diff(after.datagrams - before.datagrams);
        Ok(if lost > sent.datagrams / LOST_MANY {
            Err(Limit::LostMany)
        } else if lost > 0 {
            Err(Limit::Lost)
        } else if after.lost_later != before.lost_later {
            Err(Limit::LostLater)
        } else if !is_kept {
            Err(Limit::Sender)
        } else {
            Ok(sent)
        })
    }
}

/// Until what was sent is taken, decoded and encoded; its last batch is 200 ms old by then.
const TAKEN_IN: Duration = Duration::from_millis(300);
/// The part of a rate that must have been sent.
const STEADY_KEPT: f64 = 0.95;
const RATE_KEPT: f64 = 0.97;
/// Its reciprocal is the part of the datagrams that no pause of the machine costs.
const LOST_MANY: u64 = 20;
const RATE_MIN: u64 = 2_000;
const RATE_MAX: u64 = 16_000_000;
