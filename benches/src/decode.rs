//! `decode`: datagrams in memory to flows, one thread, CPU time a flow, beside other decoders.
//!
//! Every candidate keeps its templates between datagrams and hands over every flow; a pass that
//! yields another number of flows than the exporters sent is an error.

#[cfg(feature = "peers")]
mod netflow_parser;
#[cfg(feature = "peers")]
mod netgauze;
mod ours;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice::generate::Protocols;
use flowsluice::units::UnixNanos;

use crate::cpu;
use crate::machine::crate_version;
use crate::options::Options;
use crate::report::{self, Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::{BYTES_COLD, BYTES_WARM, Data, Recipe, Stream};

/// Decodes the data datagrams of a stream once and returns how many flows that gave.
type Pass = Box<dyn FnMut(Data<'_>) -> Result<u64>>;

/// A decoder by name, and a pass with it; none where it does not know the protocol.
type Decoder = (&'static str, MakePass);
type MakePass = fn(Protocols, &Stream) -> Result<Option<Pass>>;

/// CPU time of one round of one decoder: many passes.
const ROUND: Duration = Duration::from_millis(200);

#[cfg(feature = "peers")]
const DECODERS: [Decoder; 3] = [
    ("flowsluice", ours::pass),
    ("netgauze-flow-pkt", netgauze::pass),
    ("netflow_parser", netflow_parser::pass),
];
#[cfg(not(feature = "peers"))]
const DECODERS: [Decoder; 1] = [("flowsluice", ours::pass)];

/// What is decoded: protocol, IPv6 share, and how the table calls it.
const CASES: [(Protocols, f64, &str); 6] = [
    (Protocols::Netflow5, 0.0, "NetFlow v5, 30 records"),
    (Protocols::Netflow9, 0.0, "NetFlow v9, 24 records, IPv4"),
    (Protocols::Netflow9, 0.25, "NetFlow v9, 25 % IPv6"),
    (Protocols::Ipfix, 0.0, "IPFIX, 24 records, IPv4"),
    (Protocols::Ipfix, 0.25, "IPFIX, 25 % IPv6"),
    (
        Protocols::Sflow5,
        0.25,
        "sFlow v5, 5 to 7 samples, 25 % IPv6",
    ),
];

/// Measures and reports.
///
/// # Errors
/// When a decoder yields another number of flows than was exported.
pub fn main(options: &Options) -> Result<()> {
    let mut section = Section::new("decode", "Decoding alone");
    section.text(&explanation());
    for (bytes, caption) in [
        (
            BYTES_COLD,
            "CPU ns a flow; 8 MiB of datagrams of 50 exporters in turn, which no second-level \
             cache holds:",
        ),
        (
            BYTES_WARM,
            "CPU ns a flow; 128 KiB of datagrams of 4 exporters in turn, again and again from \
             the second-level cache:",
        ),
    ] {
        section.table(caption, &table(bytes, options)?);
    }
    report::publish(options, &section)
}

fn explanation() -> String {
    let version = |name| crate_version(name).unwrap_or("?");
    let peers = match cfg!(feature = "peers") {
        true => format!(
            "Beside it netgauze-flow-pkt {} (no NetFlow v5, no sFlow; a template map an exporter \
             and domain) and netflow_parser {} (no sFlow; its AutoScopedParser, which its \
             documentation recommends for several exporters). Both yield a list of typed fields a \
             record, ours a fixed struct a flow.",
            version("netgauze-flow-pkt"),
            version("netflow_parser")
        ),
        false => "Built without the feature `peers`: nothing to compare with.".to_owned(),
    };
    format!(
        "From memory, one thread, thread CPU time, {} ms a round, the decoders in alternating \
         rounds; median and range over the rounds. 20 fields a record of NetFlow v9 and IPFIX. \
         Each decoder has its own copy of the datagrams. Between two passes, outside of what is \
         timed, their sequence numbers are set to those that the exporters go on with. {peers} \
         Each has yielded as many flows as the exporters sent.",
        ROUND.as_millis()
    )
}

fn table(bytes: usize, options: &Options) -> Result<Table> {
    let names = DECODERS.iter().map(|(name, _)| *name);
    let mut table = Table::new(std::iter::once("datagrams").chain(names));
    for (protocols, ipv6, name) in CASES {
        let recipe = Recipe {
            protocols,
            ipv6,
            bytes,
            exporters: if bytes == BYTES_WARM { 4 } else { 50 },
            ..Recipe::default()
        };
        let stream = Stream::new(&recipe, UnixNanos::now())?;
        let figures = measure(protocols, &stream, options.rounds()).context(name)?;
        let ours = figures[0].context("ours decodes every protocol")?;
        let cells = figures.iter().enumerate().map(|(index, figure)| {
            let times = |figure: &Figure| figure.median / ours.median;
            match figure {
                Some(figure) if index > 0 => format!("{figure}, {:.1} x", times(figure)),
                Some(figure) => figure.to_string(),
                None => "not decoded".to_owned(),
            }
        });
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    Ok(table)
}

/// CPU ns a flow of each of [`DECODERS`]; none of those that do not know the protocol.
fn measure(protocols: Protocols, stream: &Stream, rounds: usize) -> Result<Vec<Option<Figure>>> {
    let mut able = Vec::new();
    let mut candidates: Vec<Round<'_, f64>> = Vec::new();
    for (name, make_pass) in DECODERS {
        let pass = make_pass(protocols, stream).context(name)?;
        able.push(pass.is_some());
        if let Some(mut pass) = pass {
            let mut stream = stream.clone();
            candidates.push(Box::new(move || {
                round(&mut pass, &mut stream).context(name)
            }));
        }
    }
    let mut measured = rounds::alternate(rounds, &mut candidates)?.into_iter();
    let figures = able.into_iter().map(|is_able| {
        let samples = is_able.then(|| measured.next().expect("a list of samples a candidate"));
        samples.map(Figure::of)
    });
    Ok(figures.collect())
}

/// CPU ns a flow over passes of [`ROUND`]; between them the stream goes on, untimed.
fn round(pass: &mut Pass, stream: &mut Stream) -> Result<f64> {
    let (mut used, mut flows) = (Duration::ZERO, 0);
    while used < ROUND {
        let begun = cpu::of_this_thread();
        let decoded = pass(stream.data())?;
        used += cpu::of_this_thread() - begun;
        let exported = stream.data().flows();
        ensure!(
            decoded == exported,
            "{decoded} flows were decoded, {exported} were exported"
        );
        flows += decoded;
        stream.go_on();
    }
    Ok(used.as_nanos() as f64 / flows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decoder_yields_what_was_exported() {
        for (protocols, ipv6, name) in CASES {
            let recipe = Recipe {
                protocols,
                ipv6,
                bytes: BYTES_WARM,
                ..Recipe::default()
            };
            let stream = Stream::new(&recipe, UnixNanos::now()).unwrap();
            for (decoder, make_pass) in DECODERS {
                let Some(mut pass) = make_pass(protocols, &stream).unwrap() else {
                    continue;
                };
                let mut stream = stream.clone();
                for _ in 0..2 {
                    let data = stream.data();
                    assert_eq!(pass(data).unwrap(), data.flows(), "{decoder}: {name}");
                    stream.go_on();
                }
            }
        }
    }

    #[test]
    fn a_decoder_that_misses_flows_is_an_error() {
        let recipe = Recipe {
            exporters: 1,
            bytes: 10_000,
            ..Recipe::default()
        };
        let mut stream = Stream::new(&recipe, UnixNanos::now()).unwrap();
        let flows = stream.data().flows();
        let mut pass: Pass = Box::new(|data| Ok(data.flows() - 1));
        let error = round(&mut pass, &mut stream).unwrap_err().to_string();
        let expected = format!("{} flows were decoded, {flows} were exported", flows - 1);
        assert_eq!(error, expected);
    }
}
