//! State files: what the collector writes once exporters have told something, mostly with one value
//! of it changed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared, persist};
use flowsluice::flow::Flow;
use flowsluice::ledger::WorkerCounts;
use flowsluice::names::{ApplicationId, SavedName, Subject};
use rand::RngExt;
use serde_json::{Value, json};

use super::exporter::Dialect;
use super::{EDGES, Rng, fault, fixed, pick, sflow};
use crate::tape::{self, RECEIVED};

/// A file that fits into an input.
const BYTES_MAX: usize = 8000;

/// One file.
#[must_use]
pub fn file(rng: &mut Rng) -> Vec<u8> {
    loop {
        let bytes = whole(rng);
        if bytes.len() <= BYTES_MAX {
            return match rng.random_range(0..4) {
                0 => mutated(&bytes, rng),
                _ => bytes,
            };
        }
    }
}

/// Flows are of no interest here.
struct Nowhere;

impl FlowSink for Nowhere {
    fn flows(&mut self, _: &mut [Flow]) {}
}

/// What is written once some tapes were decoded.
fn whole(rng: &mut Rng) -> Vec<u8> {
    let shared = Arc::<Shared>::default();
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::clone(&shared));
    let mut counts = WorkerCounts::default();
    for _ in 0..rng.random_range(1..4) {
        let tape = match rng.random_range(0..6) {
            0 | 1 => fault::any(Dialect::Netflow9, rng).tape(),
            2 | 3 => fault::any(Dialect::Ipfix, rng).tape(),
            4 => fixed::tape(fixed::Version::Five, rng),
            _ => sflow::tape(rng),
        };
        let mut frames = tape::frames(&tape.0);
        // All of them have been by the time that the file is read.
        frames.iter_mut().for_each(|frame| frame.delay = 0);
        tape::play(&frames, |_, datagram| {
            decoder.decode(datagram, &mut counts, &mut Nowhere);
        });
        decoder.turn();
    }
    let names = (0..rng.random_range(0..3)).map(|_| name(rng));
    shared.names.import(names.collect::<Vec<_>>());
    let mut bytes = Vec::new();
    let is_final = rng.random();
    persist::write_document(&mut bytes, &shared, RECEIVED, is_final).expect("memory takes all");
    bytes
}

fn name(rng: &mut Rng) -> SavedName {
    let subject = match rng.random_range(0..3) {
        0 => Subject::Interface(rng.random_range(0..100)),
        1 => Subject::Vrf(rng.random()),
        _ => Subject::Application(ApplicationId {
            engine: 13,
            selector: rng.random_range(0..1000),
        }),
    };
    SavedName {
        exporter: IpAddr::V4(Ipv4Addr::new(192, 0, 2, rng.random_range(1..4))),
        observation_domain: rng.random_range(0..3),
        subject,
        name: pick(&["ge-0/0/1", "eth0", "ssh", ""], rng).into(),
        description: pick(&["", "uplink to the provider", "Zürich"], rng).into(),
        last_seen_s: RECEIVED.seconds(),
    }
}

/// `input` with one value changed; another file when it is none.
#[must_use]
pub fn mutated(input: &[u8], rng: &mut Rng) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Value>(input) else {
        return whole(rng);
    };
    let count = count(&document);
    let mut at = rng.random_range(0..count);
    change(&mut document, &mut at, rng);
    document.to_string().into_bytes()
}

/// Values in `value`, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum::<usize>(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the value that `at` others come before; true once that is done.
fn change(value: &mut Value, at: &mut usize, rng: &mut Rng) -> bool {
    if *at == 0 {
        change_one(value, rng);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|value| change(value, at, rng)),
        Value::Object(fields) => fields.values_mut().any(|value| change(value, at, rng)),
        _ => false,
    }
}

fn change_one(value: &mut Value, rng: &mut Rng) {
    match value {
        Value::Array(list) if !list.is_empty() && rng.random_bool(0.8) => {
            let one = rng.random_range(0..list.len());
            match rng.random_range(0..3) {
                0 => drop(list.remove(one)),
                1 => list.push(list[one].clone()),
                _ => list.rotate_left(one),
            }
        }
        Value::Object(fields) if !fields.is_empty() && rng.random_bool(0.8) => {
            let names: Vec<_> = fields.keys().cloned().collect();
            fields.remove(&names[rng.random_range(0..names.len())]);
        }
        Value::Number(_) if rng.random_bool(0.8) => *value = json!(pick(&EDGES, rng)),
        Value::String(text) if rng.random_bool(0.8) => *text = changed(text, rng),
        other => {
            let values = [
                json!(null),
                json!(true),
                json!(-1),
                json!(1.5),
                json!(u64::MAX),
                json!("\u{7}"),
                json!("::ffff:192.0.2.1"),
                json!("0.0.0.0"),
                json!("ipfix"),
                json!([]),
                json!({}),
            ];
            *other = values[rng.random_range(0..values.len())].clone();
        }
    }
}

/// A text, mostly of hexadecimal digits, with one of them changed, left out or repeated.
fn changed(text: &str, rng: &mut Rng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    if letters.is_empty() {
        return "x".into();
    }
    let at = rng.random_range(0..letters.len());
    match rng.random_range(0..6) {
        0 => drop(letters.remove(at)),
        1 => letters.insert(at, letters[at]),
        2 => letters.truncate(at & !1),
        _ => letters[at] = pick(&['0', '1', '4', '8', 'f', 'g', '.'], rng),
    }
    letters.into_iter().collect()
}
