//! A plan as text for people, as JSON for programs, and the table of `README.md`.

use std::fmt::Write as _;

use serde::Serialize;

use super::constants::{self, ELASTIFLOW, Figure, HARDWARE, Origin};
use super::{Demand, Hosts, Plan, figures, one_host_max};
use crate::config::Store;

/// The lines of the table in `README.md`: those of ElastiFlow's, and two beyond.
const TABLE_RATES: [u64; 6] = [250, 500, 1_000, 1_500, 10_000, 100_000];
const TABLE_DAYS: u64 = 30;

/// The table of `README.md`, in the shape of the one by which hosts for ElastiFlow are chosen.
#[must_use]
pub fn table() -> String {
    let mut table = String::from(
        "| flows/s, mean | cores | memory | disk, 30 days | of that rows \
         | CPU to receive and store | ElastiFlow's host | its disk |\n|",
    );
    table += &"---|".repeat(8);
    table.push('\n');
    for rate in TABLE_RATES {
        let demand = Demand::new(rate, TABLE_DAYS).expect("the table's rates can be planned for");
        let plan = Plan::new(demand);
        let theirs = ELASTIFLOW.iter().find(|one| one.flows_per_second == rate);
        let (host, disk) = theirs.map_or(("–", "–"), |one| (one.host, one.disk));
        let line = format!(
            "| {} | {} | {} | **{}** | {} | {} | {host} | {disk} |",
            thousands(rate),
            cores_cell(&plan),
            memory_cell(&plan),
            rounded(plan.disk.bytes),
            bytes(plan.disk.rows_bytes as f64),
            busy(plan.cores_busy()),
        );
        put(&mut table, &line);
    }
    table
}

/// Of the collector's host and of ClickHouse's, where that is another one.
fn cores_cell(plan: &Plan) -> String {
    match plan.clickhouse {
        None => plan.collectors.cores.to_string(),
        Some(server) => format!("{} + {}", plan.collectors.cores, server.cores),
    }
}

fn memory_cell(plan: &Plan) -> String {
    let memory = memory(&plan.collectors);
    match plan.clickhouse {
        None => memory,
        Some(_) => format!("{memory} + ClickHouse's"),
    }
}

/// For people.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let Demand {
        flows_per_second,
        days,
    } = plan.demand;
    let mut text = String::new();
    put(
        &mut text,
        &format!(
            "{} flows/s on average, kept for {days} days: {} rows\n",
            thousands(flows_per_second),
            thousands(plan.rows)
        ),
    );
    for (subject, amount, why) in host_lines(plan).into_iter().chain(disk_lines(plan)) {
        put(&mut text, &format!("{subject:<12}{amount:<14}{why}"));
    }
    text.push('\n');
    for sentence in advice(plan) {
        put(&mut text, &sentence);
    }
    put(
        &mut text,
        &format!(
            "\nDerived, not measured at this size, from these figures. Measured on one virtual \
             machine,\n{} ({}), shared by all processes and at times by other work.\n",
            HARDWARE.words, HARDWARE.file
        ),
    );
    for figure in figures() {
        put(&mut text, &figure_line(&figure));
    }
    text
}

type Line = (&'static str, String, String);

fn host_lines(plan: &Plan) -> Vec<Line> {
    let busy = format!(
        "{} busy to receive and store on average",
        busy(plan.cores_busy())
    );
    let peak = format!(
        "{} flows/s at the peak",
        thousands(plan.peak_flows_per_second)
    );
    let hosts = plan.collectors;
    let Some(servers) = plan.clickhouse else {
        let engine = gib(Store::default().embedded.memory_max.as_u64());
        let takers = format!("collector, embedded ClickHouse ({engine} at most), page cache");
        return vec![
            ("cores", hosts.cores.to_string(), format!("{peak}; {busy}")),
            ("memory", memory(&hosts), takers),
        ];
    };
    let count = |hosts: &Hosts| match hosts.count {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    };
    let shards = match plan.shards {
        1 => "one shard".to_owned(),
        shards => format!("{shards} shards of {} each", servers.count / shards),
    };
    let of = |hosts: &Hosts| {
        let each = if hosts.count > 1 { " each" } else { "" };
        format!("{} cores{each}, {}", hosts.cores, memory(hosts))
    };
    let collectors = format!("{}; {peak}; {busy}", of(&hosts));
    let servers_why = format!("{}; {shards}", of(&servers));
    vec![
        ("collectors", count(&hosts), collectors),
        ("ClickHouse", count(&servers), servers_why),
    ]
}

fn disk_lines(plan: &Plan) -> [Line; 3] {
    let disk = &plan.disk;
    let parts = format!(
        "rows {}, rollups kept as long or open {}, and room for merges",
        bytes(disk.rows_bytes as f64),
        bytes(disk.rollups_bytes as f64)
    );
    let parts = match plan.shards {
        1 => parts,
        _ => format!("{parts}; all shards, one replica"),
    };
    let longer = format!(
        "with rollups kept as by default, by minute {} days, by hour {}",
        disk.default_minute_days, disk.default_hour_days
    );
    let spool = gib(Store::default().spool.max_bytes.as_u64());
    let outage = format!(
        "beside it, on each collector; full after {} without ClickHouse",
        time(plan.spool_holds_s)
    );
    [
        ("disk", rounded(disk.bytes), parts),
        ("", rounded(disk.bytes_with_default_rollups), longer),
        ("spool", spool, outage),
    ]
}

/// When another host is due.
fn advice(plan: &Plan) -> Vec<String> {
    let rate = |rate: f64| thousands(rate as u64);
    let mut advice = Vec::new();
    if plan.clickhouse.is_none() {
        advice.push(format!(
            "One host does, with ClickHouse embedded. A ClickHouse server of its own is due above \
             {} flows/s on average,\nbecause no more was measured on one host; and earlier where \
             questions are many.",
            rate(two_digits(one_host_max()))
        ));
    } else {
        advice.push(format!(
            "ClickHouse needs a server of its own (store.url): on one host no more was measured \
             than {} flows/s.",
            rate(constants::ONE_HOST_RATE.value)
        ));
    }
    advice.push(
        "A second collector and a second replica are due at any rate where flows must be kept \
         while a host is down:\ndeploy/scale-out.md."
            .to_owned(),
    );
    if plan.peak_flows_per_second as f64 > constants::ROLLUP_RATE.value * 10.0 {
        advice.push(
            "Rollups are taken to grow with the rate. Keys repeat, so at this rate they take less."
                .to_owned(),
        );
    }
    advice
}

fn figure_line(figure: &Figure) -> String {
    let Figure {
        unit, what, origin, ..
    } = figure;
    let (kind, from) = match origin {
        Origin::Measured(words) => ("measured", words.file),
        Origin::Planned(words) => ("planned", words.file),
        Origin::Assumed(reason) => ("assumed", *reason),
    };
    let value = format!("{} {unit}", exact(figure.value));
    format!("{kind:<10}{value:<18}{what} ({from})")
}

/// For programs.
///
/// # Errors
/// None that a plan can cause.
pub fn json(plan: &Plan) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(flatten)]
        plan: &'a Plan,
        hardware: &'static str,
        figures: Vec<Figure>,
    }
    let answer = Answer {
        plan,
        hardware: HARDWARE.words,
        figures: figures().collect(),
    };
    serde_json::to_string_pretty(&answer).map(|text| text + "\n")
}

/// Of a host, where it is known.
fn memory(hosts: &Hosts) -> String {
    hosts.memory_bytes.map_or("memory not measured".into(), gib)
}

fn gib(bytes: u64) -> String {
    format!("{} GiB", exact(bytes as f64 / (1024.0 * constants::MIB)))
}

/// Bytes to buy: two digits, since the figures behind them have no more.
fn rounded(count: u64) -> String {
    bytes(two_digits(count as f64))
}

/// Bytes in the largest decimal unit of which there is one, a digit behind the point below ten.
fn bytes(count: f64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count / 1e3;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Cores that are busy.
fn busy(cores: f64) -> String {
    match two_digits(cores) {
        cores if cores < 1.0 => format!("{} % of a core", exact(two_digits(cores * 100.0))),
        1.0 => "one core".to_owned(),
        cores => format!("{} cores", exact(cores)),
    }
}

fn two_digits(value: f64) -> f64 {
    let text = format!("{value:.1e}");
    text.parse().expect("what was printed as a number is one")
}

/// A figure without the digits that only binary fractions have.
fn exact(value: f64) -> String {
    if value >= 1e3 {
        return thousands(value.round() as u64);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Digits in groups of three.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds in the unit that people would take.
fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}
