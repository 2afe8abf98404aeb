//! The corpus, and what the fuzzer's own exporter makes, held against every property; and what
//! must come of one thing wrong.

use std::fs;
use std::sync::Arc;

use flowsluice::config;
use flowsluice_fuzz::hold::Watched;
use flowsluice_fuzz::make::exporter::Dialect;
use flowsluice_fuzz::make::fault::{self, Fault};
use flowsluice_fuzz::make::{self, Rng};
use flowsluice_fuzz::{Target, tape};
use flowsluice_tests::place;
use rand::SeedableRng;

#[test]
fn every_input_of_the_corpus_holds() {
    let mut inputs = 0;
    for target in Target::ALL {
        let folder = place::root().join("tests/fuzz/corpus").join(target.name());
        for entry in fs::read_dir(&folder).expect("each target has a corpus") {
            let path = entry.expect("an entry can be read").path();
            let input = fs::read(&path).expect("an input can be read");
            assert!(input.len() <= 16 << 10, "{} is too long", path.display());
            println!("{}", path.display());
            target.hold(&input);
            inputs += 1;
        }
    }
    assert!(inputs >= Target::ALL.len(), "the corpus is there");
}

#[test]
fn what_the_encoders_make_holds_and_so_do_its_mutations() {
    for target in Target::ALL {
        for seed in 0..50 {
            let mut input = target.fresh(seed);
            println!("{} {seed}", target.name());
            target.hold(&input);
            for step in 0..4 {
                let mutated = make::mutate(target, &input, seed << 8 | step);
                input = mutated.unwrap_or(input);
                target.hold(&input);
            }
        }
    }
}

#[test]
fn one_thing_wrong_costs_what_it_hits_and_nothing_else() {
    for dialect in [Dialect::Netflow9, Dialect::Ipfix] {
        for fault in Fault::ALL {
            for seed in 0..60 {
                let scenario = fault::scenario(fault, dialect, &mut Rng::seed_from_u64(seed));
                let mut watched = Watched::new(&config::Decode::default(), &Arc::default());
                tape::play(&scenario.frames, |_, datagram| watched.decode(datagram));
                let (rows, expected) = (watched.counts.flows_decoded, scenario.expected);
                assert!(
                    expected.is_met_by(rows),
                    "{dialect:?}, {fault:?}, seed {seed}: {rows} rows, not {expected:?}\n{:?}",
                    watched.counts
                );
            }
        }
    }
}

#[test]
fn every_capture_holds() {
    let captures = place::root().join("../shared/captures");
    if !captures.is_dir() {
        place::skip("the captures are not beside the clone");
        return;
    }
    let mut folders = vec![captures];
    let mut tapes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("a capture can be read");
            Target::Pcap.hold(&bytes);
            tapes += u64::from(of_capture(&path));
        }
    }
    assert!(tapes > 20, "captures were decoded");
}

/// Holds the datagrams of a capture against the properties of their protocol; false when there are
/// none.
fn of_capture(path: &std::path::Path) -> bool {
    let mut tape = tape::Tape::default();
    let mut frames = 0;
    let mut capture = flowsluice::receive::replay::Capture::new(vec![path.into()]);
    // What is no capture yields nothing.
    let _ = capture.for_each(&mut |datagram| {
        // The last byte of the source keeps exporters apart; every third is for another worker.
        let source = match datagram.source {
            std::net::IpAddr::V4(v4) => v4.octets()[3] % 3,
            std::net::IpAddr::V6(_) => 3,
        };
        frames += 1;
        if frames <= tape::FRAMES_MAX {
            tape.push(&tape::Frame {
                control: source | if frames % 3 == 0 { 4 } else { 0 },
                delay: 3,
                payload: datagram.payload.into(),
            });
        }
    });
    let first = tape::frames(&tape.0);
    let target = match first.first().map(|frame| &frame.payload[..]) {
        Some([0, 1 | 5 | 7, ..]) => Target::Netflow5,
        Some([0, 9, ..]) => Target::Netflow9,
        Some([0, 10, ..]) => Target::Ipfix,
        Some([0, 0, 0, 5, ..]) => Target::Sflow,
        _ => return false,
    };
    target.hold(&tape.0);
    Target::Session.hold(&tape.0);
    true
}
