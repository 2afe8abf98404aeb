//! `end-to-end`: from a socket into the embedded ClickHouse, generator, collector and engine on the
//! same processors, with everything known of the flows and all rollups.
//!
//! A steady run, then the highest rate that loses nothing and leaves no backlog. The generator is
//! `flowsluice generate`: no row is there twice, and rows differ as in real traffic.

mod costs;
mod enriched;

use std::time::Duration;

use anyhow::{Context, Result};
use flowsluice::units::UnixNanos;
use flowsluice_tests::load::{self, Load, Outcome};
use flowsluice_tests::{Collector, Settings, Store};

use crate::bisect::{self, Range};
use crate::enrich::files;
use crate::options::Options;
use crate::report::{self, Section, Table};
use crate::rounds::Figure;
use enriched::Enriched;

/// Measures and reports.
///
/// # Errors
/// When the library is missing, or collector or generator fail.
pub fn main(options: &Options) -> Result<()> {
    let enriched = Enriched::new()?;
    let settings = Settings {
        pin: true,
        batch_age: BATCH_AGE,
        memory_max: "2GiB",
        more: enriched.toml.clone(),
        ..Settings::new(Store::Embedded(options.library()?))
    };
    let mut section = Section::new("end-to-end", "Into the embedded ClickHouse");
    steady(options, &settings, &mut section)?;
    highest(options, &settings, &mut section)?;
    report::publish(options, &section)
}

fn load(rate: u64, seconds: u64, profile: &str) -> Load {
    Load {
        rate,
        seconds,
        protocol: "netflow9".into(),
        profile: profile.into(),
        more: Vec::new(),
    }
}

fn steady(options: &Options, settings: &Settings, section: &mut Section) -> Result<()> {
    let default = if options.quick { 20 } else { 300 };
    let (rate, seconds) = (options.rate, options.seconds.unwrap_or(default));
    eprintln!("end-to-end: {rate} flows/s for {seconds} s");
    let data = tempfile::tempdir().context("a temporary folder")?;
    costs::keep_logs(data.path())?;
    let settings = Settings {
        data_dir: Some(data.path().to_owned()),
        ..settings.clone()
    };
    let collector = Collector::start(&settings)?;
    let names = enriched::learn(&collector, &settings.binary)?;
    let clickhouse: String = collector.clickhouse()?.value("SELECT version()")?;
    let mode = collector.status()?.text("/receive/mode")?.to_owned();
    let load = load(rate, seconds, "realistic");
    let since_s = u64::from(UnixNanos::now().seconds());
    let outcome = load::run(&collector, &settings.binary, &load, |_| ())?;
    let writer = collector.clickhouse_as("writer")?;
    let costs = costs::table(&writer, since_s, outcome.sent.flows)?;
    collector.stop()?;
    let caption = format!(
        "{rate} flows/s of NetFlow v9 asked for, realistic profile, {seconds} s; one worker, \
         {mode}, rows sent at an age of {BATCH_AGE}, ClickHouse {clickhouse}; CPU until everything \
         was stored or counted. City and AS databases, {} networks, {} threats, {} applications, \
         interfaces and labels of all exporters, {names} names of addresses when it begins; all \
         rollups.",
        files::NETWORKS,
        files::THREATS,
        files::APPLICATIONS,
    );
    section.table(&caption, &steady_table(&outcome));
    if let Some(costs) = costs {
        section.table(
            "What of ClickHouse's time its own logs tell. An insert contains its views; merges \
             that were under way and the last seconds are missing.",
            &costs,
        );
    }
    Ok(())
}

fn steady_table(outcome: &Outcome) -> Table {
    let sent = &outcome.sent;
    let mut table = Table::new(["what", "figure"]);
    table.row([
        "sent".to_owned(),
        format!(
            "{} flows, {} datagrams, {:.0} flows/s",
            sent.flows,
            sent.datagrams,
            outcome.rate()
        ),
    ]);
    table.row([
        "received".to_owned(),
        format!("{} datagrams", outcome.datagrams_received),
    ]);
    table.row([
        "acknowledged, `SELECT count()`".to_owned(),
        format!("{}, {}", outcome.flows_stored, outcome.rows),
    ]);
    table.row([
        "dropped by the kernel; by us; unaccounted".to_owned(),
        format!(
            "{}; {}; {}",
            outcome.datagrams_dropped_by_kernel,
            losses(outcome),
            outcome.unaccounted
        ),
    ]);
    table.row([
        "active parts: highest, growth in the last half".to_owned(),
        format!(
            "{}, {:+.2} a second",
            outcome.parts_max(),
            outcome.parts_slope()
        ),
    ]);
    table.row([
        "active parts at each tenth of the time".to_owned(),
        parts_over_time(outcome),
    ]);
    for (name, cpu_s, rss) in [
        ("generator", outcome.generator_cpu_s, None),
        (
            "collector",
            outcome.collector.cpu_s,
            Some(outcome.collector),
        ),
        ("ClickHouse", outcome.engine.cpu_s, Some(outcome.engine)),
    ] {
        let ns = cpu_s * 1e9 / sent.flows as f64;
        let memory = rss.map(|usage| format!(", highest RSS {} MiB", usage.rss_peak_bytes >> 20));
        let memory = memory.unwrap_or_default();
        table.row([name.to_owned(), format!("{ns:.0} ns CPU a flow{memory}")]);
    }
    table.row([
        "bytes a row on disk".to_owned(),
        format!("{:.1}", outcome.bytes_a_row),
    ]);
    table.row([
        "age of the newest row when asked, up to 1 s too high".to_owned(),
        newest_age(outcome),
    ]);
    table.row([
        "from the last datagram until everything could be asked for".to_owned(),
        settled(outcome),
    ]);
    table
}

fn parts_over_time(outcome: &Outcome) -> String {
    let samples = &outcome.samples;
    let tenths = (1..=10).map(|tenth| samples.len() * tenth / 10);
    let looks = tenths.filter_map(|end| samples.get(end.checked_sub(1)?));
    let parts: Vec<_> = looks.map(|sample| sample.parts.to_string()).collect();
    parts.join(", ")
}

fn losses(outcome: &Outcome) -> String {
    let losses = outcome.losses.iter();
    let losses: Vec<_> = losses.map(|(reason, n)| format!("{reason}={n}")).collect();
    match &*losses {
        [] => "0".into(),
        losses => losses.join(" "),
    }
}

fn newest_age(outcome: &Outcome) -> String {
    let ages = outcome.samples.iter().filter_map(|s| s.newest_age_s);
    let ages: Vec<f64> = ages.collect();
    match &*ages {
        [] => "no row was there while it was sent".into(),
        ages => format!("{} s", Figure::of(ages.iter().copied())),
    }
}

fn settled(outcome: &Outcome) -> String {
    let after = outcome.settled.map(|after| after.as_secs_f64());
    after.map_or_else(|| "not in a minute".into(), |s| format!("{s:.1} s"))
}

fn highest(options: &Options, settings: &Settings, section: &mut Section) -> Result<()> {
    let (seconds, step) = if options.quick { (10, 0.3) } else { (30, 0.1) };
    let mut table = Table::new([
        "profile",
        "highest rate without loss, flows/s",
        "generator, collector, ClickHouse: ns CPU a flow",
        "parts: highest, growth a second",
        "settled after",
        "next rate tried, and why not",
    ]);
    for profile in ["realistic", "uniform"] {
        eprintln!("end-to-end: highest rate, {profile}");
        let (works, fails) = search(settings, profile, seconds, step)?;
        let mut cells = vec![profile.to_owned()];
        cells.extend(match &works {
            Some(outcome) => working(outcome),
            None => ["none", "", "", ""].map(str::to_owned),
        });
        let fails = fails.map(|(rate, why)| format!("{rate}: {why}"));
        cells.push(fails.unwrap_or_else(|| "none".into()));
        table.row(cells);
    }
    let caption = format!(
        "The highest rate of NetFlow v9 into ClickHouse, by bisection to {:.0} %: {seconds} s a \
         rate, sent at {:.0} % of it or more, every flow counted by `SELECT count()`, settled \
         within {} s of the last datagram, at most {PARTS_FEW} parts or growing by less than \
         {PARTS_SLOPE_MAX} a second.",
        100.0 * step,
        100.0 * RATE_KEPT,
        SETTLED_MAX.as_secs(),
    );
    section.table(&caption, &table);
    Ok(())
}

/// The highest rate that worked, and the lowest that did not with the reason.
type Bounds = (Option<Outcome>, Option<(u64, String)>);

fn search(settings: &Settings, profile: &str, seconds: u64, step: f64) -> Result<Bounds> {
    let (mut works, mut fails) = (None, None);
    let range = Range {
        first: RATE_FIRST,
        lowest: RATE_LOWEST,
        highest: RATE_HIGHEST,
        step,
    };
    bisect::highest(range, |rate| {
        // A collector of its own: what a rate that is too high leaves behind is not the next one's.
        let collector = Collector::start(settings)?;
        let load = load(rate, seconds, profile);
        let outcome = load::run(&collector, &settings.binary, &load, |_| ())?;
        collector.stop()?;
        let objection = objection(&outcome, rate);
        let is_fine = objection.is_none();
        match objection {
            Some(why) => fails = Some((rate, why)),
            None => works = Some(outcome),
        }
        Ok(is_fine)
    })?;
    Ok((works, fails))
}

/// Why a rate does not count.
fn objection(outcome: &Outcome, rate: u64) -> Option<String> {
    let is_late = outcome.settled.is_none_or(|after| after > SETTLED_MAX);
    let (sent, slope) = (&outcome.sent, outcome.parts_slope());
    if !outcome.is_whole() {
        let (dropped, rows) = (outcome.datagrams_dropped_by_kernel, outcome.rows);
        let (flows, losses) = (sent.flows, losses(outcome));
        Some(format!(
            "{rows} rows of {flows} flows; the kernel dropped {dropped} datagrams, we {losses}"
        ))
    } else if is_late {
        Some(format!("settled after: {}", settled(outcome)))
    } else if slope >= PARTS_SLOPE_MAX && outcome.parts_max() > PARTS_FEW {
        let parts = outcome.parts_max();
        Some(format!("{parts} parts, growing by {slope:.1} a second"))
    } else if outcome.rate() < RATE_KEPT * rate as f64 {
        Some(format!("the generator made {:.0} of it", outcome.rate()))
    } else {
        None
    }
}

fn working(outcome: &Outcome) -> [String; 4] {
    let cpu = [
        outcome.generator_cpu_s,
        outcome.collector.cpu_s,
        outcome.engine.cpu_s,
    ];
    let [generator, collector, engine] = cpu.map(|s| s * 1e9 / outcome.sent.flows as f64);
    let (parts, slope) = (outcome.parts_max(), outcome.parts_slope());
    [
        format!("{:.0}", outcome.rate()),
        format!("{generator:.0}, {collector:.0}, {engine:.0}"),
        format!("{parts}, {slope:+.2}"),
        settled(outcome),
    ]
}

/// The collector's own default.
const BATCH_AGE: &str = "5s";
const RATE_FIRST: u64 = 200_000;
const RATE_LOWEST: u64 = 10_000;
const RATE_HIGHEST: u64 = 5_000_000;
/// The part of the rate that must have been sent.
const RATE_KEPT: f64 = 0.98;
/// [`BATCH_AGE`], and four seconds for blocks that are under way.
const SETTLED_MAX: Duration = Duration::from_secs(9);
/// Merging begins when there are several parts of a size: so many say nothing yet.
const PARTS_FEW: u64 = 30;
/// Parts come and go by merging; one more each second would soon be too many.
const PARTS_SLOPE_MAX: f64 = 1.0;

#[cfg(test)]
mod tests {
    use flowsluice::config::Batch;

    use super::*;

    #[test]
    fn rows_are_sent_at_the_age_that_the_collector_has_by_default() {
        let text = format!("age_max = \"{BATCH_AGE}\"");
        assert_eq!(toml::from_str(&text), Ok(Batch::default()));
        assert!(Batch::default().age_max < SETTLED_MAX);
    }
}
