//! `veth`: the receive paths beside each other, in one run over one veth pair.
//!
//! Exporter and collector are each in a network namespace of its own. What they exchange is made
//! by the kernel as frames without socket buffers, as a network card's driver makes them, or sent
//! by a program from a socket. The collector is the real one, with a store that keeps nothing.

mod candidate;
mod kernel;
mod pair;
mod round;
mod source;

use std::time::Duration;

use anyhow::Result;
use flowsluice::generate::Protocols;
use flowsluice::units::UnixNanos;

use crate::options::Options;
use crate::receive::{self, socket};
use crate::report::{self, Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::{Recipe, Stream};
use candidate::Candidate;
use pair::Pair;
use round::{Load, Outcome, Steady};
use source::Kind;

/// What `--quick` makes less.
struct Extent {
    rounds: usize,
    steady: Duration,
    step_duration: Duration,
    step: f64,
}

impl Extent {
    fn of(options: &Options) -> Self {
        if options.quick {
            Self {
                rounds: 3,
                steady: Duration::from_millis(1_000),
                step_duration: Duration::from_millis(300),
                step: 0.25,
            }
        } else {
            Self {
                rounds: 5,
                steady: Duration::from_secs(2),
                step_duration: Duration::from_millis(500),
                step: 0.15,
            }
        }
    }
}

/// One table.
struct Case {
    title: &'static str,
    kind: Kind,
    flows_per_datagram: u32,
    /// Datagrams a second while CPU time is measured.
    rate: u64,
}

const CASES: [Case; 3] = [
    Case {
        title: "Frames without socket buffers, 24 flows each",
        kind: Kind::Frames,
        flows_per_datagram: 24,
        rate: 40_000,
    },
    Case {
        title: "Frames without socket buffers, 1 flow each: little is left but the receive path",
        kind: Kind::Frames,
        flows_per_datagram: 1,
        rate: 100_000,
    },
    Case {
        title: "A socket, 24 flows a datagram",
        kind: Kind::Socket,
        flows_per_datagram: 24,
        rate: 40_000,
    },
];

/// A candidate and its rounds, or why it has none.
type Measured = (Candidate, Result<Vec<Outcome>, String>);

/// Measures and reports.
///
/// # Errors
/// When this user may not make network namespaces, or a program is missing, fails, or says what
/// cannot be.
pub fn main(options: &Options) -> Result<()> {
    let extent = Extent::of(options);
    let buffer = socket::buffer_max()?.min(BUFFER);
    let idle = receive::idle_cores()?;
    let pair = Pair::new()?;
    let refused = refused(&pair, buffer)?;
    let mut section = Section::new("veth", "Receive paths over a veth pair");
    section.text(&set_up(&extent, buffer, idle)?);
    for case in &CASES {
        let stream = stream(case.flows_per_datagram)?;
        let load = Load {
            kind: case.kind,
            stream: &stream,
            rate: case.rate,
            steady: extent.steady,
            step_duration: extent.step_duration,
            step: extent.step,
            buffer,
        };
        let measured = compare(case, &pair, &load, &extent, &refused)?;
        let caption = format!("{}; CPU at {} datagrams/s.", case.title, case.rate);
        section.table(&caption, &table(&measured));
        if case.kind == Kind::Frames {
            section.text(&aim(&measured));
        }
    }
    section.text(NOTES);
    report::publish(options, &section)
}

/// Those of our own receive paths that this build or this kernel does not have, each with what the
/// collector says about it.
fn refused(pair: &Pair, buffer: u64) -> Result<Vec<(Candidate, String)>> {
    let mut refused = Vec::new();
    for candidate in [Candidate::XdpNative, Candidate::XdpSkb] {
        let started = pair.at_receiver(|| {
            let receiving = candidate.start(pair, buffer)?;
            receiving.finish().map(|_| ())
        });
        if let Err(error) = started {
            eprintln!("veth: {candidate} is not available: {error:#}");
            refused.push((candidate, last_words(&format!("{error:#}"))));
        }
    }
    Ok(refused)
}

/// The last line, without the folder of a temporary configuration.
fn last_words(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next_back().unwrap_or("no reason given");
    let from = line.find("flowsluice.toml:").unwrap_or(0);
    line[from..].replace('|', "\\|")
}

/// All candidates in turn.
fn compare(
    case: &Case,
    pair: &Pair,
    load: &Load<'_>,
    extent: &Extent,
    refused: &[(Candidate, String)],
) -> Result<Vec<Measured>> {
    let why_not = |candidate| {
        let found = refused.iter().find(|(other, _)| *other == candidate);
        found.map(|(_, why)| why.clone())
    };
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for candidate in Candidate::ALL {
        match why_not(candidate) {
            Some(why) => absent.push((candidate, Err(why))),
            None => present.push(candidate),
        }
    }
    let mut candidates: Vec<_> = (present.iter())
        .map(|&candidate| -> Round<'_, Outcome> {
            let mut first = case.rate;
            Box::new(move || {
                let outcome = round::run(candidate, pair, load, &mut first)?;
                eprintln!("veth: {}: {candidate}: {outcome}", case.title);
                Ok(outcome)
            })
        })
        .collect();
    let outcomes = rounds::alternate(extent.rounds, &mut candidates)?;
    drop(candidates);
    let measured = present.into_iter().zip(outcomes.into_iter().map(Ok));
    Ok(absent.into_iter().chain(measured).collect())
}

fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new([
        "receive path",
        "datagrams/s without loss",
        "what ended that",
        "receiving, CPU ns a datagram",
        "of that interrupts",
        "of that the collector",
        "sender and the rest",
        "lost at this rate, %",
    ]);
    for (candidate, outcomes) in measured {
        let name = candidate.to_string();
        match outcomes {
            Ok(outcomes) => {
                let steady = |of: fn(&Steady) -> f64| {
                    let figures = outcomes.iter().map(|outcome| of(&outcome.steady));
                    Figure::of(figures).to_string()
                };
                table.row([
                    name,
                    highest(outcomes).to_string(),
                    limits(outcomes),
                    steady(Steady::receiving_ns),
                    steady(Steady::interrupts_ns),
                    steady(Steady::process_ns),
                    steady(Steady::rest_ns),
                    steady(Steady::lost_percent),
                ]);
            }
            Err(why) => {
                let mut cells = [const { String::new() }; 8];
                cells[0] = name;
                cells[1] = format!("not available: {why}");
                table.row(cells);
            }
        }
    }
    table
}

/// A round in which every rate lost something counts as none.
fn highest(outcomes: &[Outcome]) -> Figure {
    Figure::of(
        outcomes
            .iter()
            .map(|outcome| outcome.highest.unwrap_or(0.0)),
    )
}

fn receiving(outcomes: &[Outcome]) -> Figure {
    Figure::of(outcomes.iter().map(|outcome| outcome.steady.receiving_ns()))
}

/// How often each limit ended the search, `loss 4, sender 1`.
fn limits(outcomes: &[Outcome]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for outcome in outcomes {
        let name = outcome.limit.map_or("nothing", round::Limit::name);
        match counts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let counts: Vec<_> = (counts.iter())
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    counts.join(", ")
}

/// What is aimed at, and how far it is.
fn aim(measured: &[Measured]) -> String {
    let outcomes = |wanted: Candidate| {
        let found = measured.iter().find(|(candidate, _)| *candidate == wanted);
        found.and_then(|(_, outcomes)| outcomes.as_deref().ok())
    };
    let found = match (
        outcomes(Candidate::XdpNative),
        outcomes(Candidate::Recvmmsg),
    ) {
        (Some(xdp), Some(recvmmsg)) => {
            let rate = highest(xdp).median / highest(recvmmsg).median;
            let cpu = receiving(xdp).median / receiving(recvmmsg).median;
            format!("Measured, of the medians: {rate:.2} times, and {cpu:.2}.")
        }
        _ => "Not measured.".to_owned(),
    };
    format!(
        "The aim: AF_XDP, native, takes at least 1.5 times the datagrams/s of recvmmsg, and \
         receiving takes at most 0.5 of its CPU a datagram. {found}"
    )
}

fn set_up(extent: &Extent, buffer: u64, idle: f64) -> Result<String> {
    Ok(format!(
        "Exporter and collector in network namespaces of their own, one veth pair of two queues \
         between them, GRO on at the collector's end. NetFlow v9 of one exporter, IPv4, \
         realistic profile. `flowsluice run` with a store that keeps nothing (blocks encoded, \
         compressed, dropped), one worker pinned to the last processor, the sender to the first; \
         AF_XDP with `receive.xdp.verify_checksum = false`, recvmmsg with UDP_GRO by `receive.gro \
         = true`. nfcapd ({}): {}, not pinned. Receive buffers of {buffer} bytes, of AF_XDP the \
         default of `receive.xdp.frames`. {} rounds of all candidates in turn after one that does \
         not count, each started anew; median and range. Idle, the machine used {idle:.2} cores; \
         that is not subtracted.",
        receive::version("nfcapd")?,
        receive::nfcapd::SET_UP,
        extent.rounds,
    ) + &format!(
        "\n\nDatagrams/s without loss: the highest rate, by bisection to {:.0} % from where the \
         round before ended, {} ms a rate, sent at 97 % of it or more, every datagram received, \
         nothing dropped behind, nothing unaccounted; a rate fails when a twentieth was lost, or \
         it failed twice: a pause of the machine is not the receiver's. CPU: {} s at the rate \
         named. Receiving is \
         the collector's process (user and system) and the interrupts and soft interrupts of all \
         processors by /proc/stat: the whole machine without the sender. The sender's own CPU \
         time cannot just be subtracted, since the kernel takes in what came over a veth in soft \
         interrupts in the sender's name, and that is receiving. The rest of the machine, the \
         making of frames or the system calls of the sender, stands apart.",
        100.0 * extent.step,
        extent.step_duration.as_millis(),
        extent.steady.as_secs(),
    ))
}

fn stream(flows_per_datagram: u32) -> Result<Stream> {
    let recipe = Recipe {
        protocols: Protocols::Netflow9,
        ipv6: 0.0,
        exporters: 1,
        flows_per_datagram,
        bytes: BYTES,
        ..Recipe::default()
    };
    Stream::new(&recipe, UnixNanos::now())
}

const NOTES: &str = "Frames are made by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES of a \
    program that redirects them into the pair: 16 in turn, up to 256 times each, with whole \
    checksums, which sockets verify and AF_XDP here does not. So many equal ones on end are the \
    best that UDP_GRO can meet. A program's datagrams come one by one, each in a soft interrupt of \
    its own, with a checksum that a veth leaves unfinished. Sender, soft interrupts and encoder \
    share the first processor, so its limits are in all figures. What ended the search: `loss` of \
    datagrams, `loss behind it` (the encoder did not keep up: `store_backlog`), or the `sender`, \
    and then the receive path may be able to do more.";
/// What everybody asks for, if `net.core.rmem_max` allows it.
const BUFFER: u64 = 32 << 20;
const BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_the_folder_of_its_configuration() {
        let said = "the collector ended with exit status: 1\nthe collector printed:\n\
                    /tmp/.tmpX/flowsluice.toml:2: receive.mode: found \"a\"; allowed: \"b|c\"\n";
        let expected = "flowsluice.toml:2: receive.mode: found \"a\"; allowed: \"b\\|c\"";
        assert_eq!(last_words(said), expected);
        assert_eq!(
            last_words("receive: eth0 is away\n\n"),
            "receive: eth0 is away"
        );
    }
}
