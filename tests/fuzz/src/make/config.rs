//! Configuration files: lines of the documented one, its examples made real, mostly with one wrong.

use rand::RngExt;

use super::{Rng, pick};

/// All keys, commented out.
const DOCUMENTED: &str = include_str!("../../../../deploy/flowsluice.toml");

/// Values that some key takes, or hardly any.
const VALUES: [&str; 22] = [
    "0",
    "1",
    "-1",
    "4096",
    "18446744073709551615",
    "9223372036854775807",
    "1.5",
    "true",
    "\"\"",
    "\"auto\"",
    "\"1s\"",
    "\"0s\"",
    "\"300 years\"",
    "\"32MiB\"",
    "\"16EiB\"",
    "\"::\"",
    "\"10.0.0.0/8\"",
    "[]",
    "[1, 2]",
    "[\"netflow9\"]",
    "\"\\u0007\"",
    "1979-05-27",
];

/// A file.
#[must_use]
pub fn file(rng: &mut Rng) -> String {
    let mut lines = Vec::new();
    let keep = f64::from(rng.random_range(1..10u32)) / 20.0;
    for line in DOCUMENTED.lines() {
        let key = line.trim_start_matches('#');
        let is_table = key.starts_with('[');
        let is_key = key.starts_with(|c: char| c.is_ascii_lowercase()) && key.contains(" = ");
        if is_table || (is_key && rng.random_bool(keep)) {
            lines.push(key.to_owned());
        }
    }
    if rng.random_bool(0.5) {
        change(&mut lines, rng);
    }
    lines.join("\n") + "\n"
}

/// `input` with a line changed.
#[must_use]
pub fn mutated(input: &[u8], rng: &mut Rng) -> Vec<u8> {
    let text = String::from_utf8_lossy(input);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return file(rng).into_bytes();
    }
    change(&mut lines, rng);
    (lines.join("\n") + "\n").into_bytes()
}

fn change(lines: &mut Vec<String>, rng: &mut Rng) {
    let at = rng.random_range(0..lines.len());
    match rng.random_range(0..6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let to = rng.random_range(0..lines.len());
            lines.swap(at, to);
        }
        3 => {
            let documented: Vec<_> = DOCUMENTED.lines().collect();
            let line = pick(&documented, rng).trim_start_matches('#');
            lines.insert(at, line.to_owned());
        }
        _ => {
            if let Some((key, _)) = lines[at].split_once('=') {
                lines[at] = format!("{key}= {}", pick(&VALUES, rng));
            }
        }
    }
}
