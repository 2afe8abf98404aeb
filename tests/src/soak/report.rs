//! A run as lines and a table for people.

use std::fmt::Write as _;

use super::judge::{Flat, Verdict};
use super::outcome::{Absence, Outcome, Sample};
use super::plan::Plan;

/// What stands above the lines of [`line`].
#[must_use]
pub fn heading() -> String {
    format!(
        "{:>6}{:>10}{:>12}{:>12}{:>11}{:>7}{:>9}{:>9}{:>5}{:>9}{:>8}{:>7}{:>9}{:>8}",
        "second",
        "flows/s",
        "decoded",
        "stored",
        "under way",
        "lost",
        "disk MiB",
        "RSS MiB",
        "fds",
        "threads",
        "reloads",
        "swaps",
        "restarts",
        "visits"
    )
}

/// How it is, and what was done so far; flows a second since the line before.
#[must_use]
pub fn line(before: &Sample, now: &Sample, outcome: &Outcome) -> String {
    let seconds = (now.at - before.at).as_secs_f64().max(0.001);
    format!(
        "{:>6}{:>10.0}{:>12}{:>12}{:>11}{:>7}{:>9.1}{:>9.1}{:>5}{:>9}{:>8}{:>7}{:>9}{:>8}",
        now.at.as_secs(),
        (now.decoded - before.decoded) as f64 / seconds,
        now.decoded,
        now.stored,
        now.under_way,
        now.lost,
        mib(now.spool_bytes),
        mib(now.rss_bytes),
        now.descriptors,
        now.threads,
        outcome.done.reloads,
        outcome.done.places,
        outcome.absences.len(),
        outcome.visits
    )
}

/// What was done, what became of the flows, what is flat, and what does not hold.
#[must_use]
pub fn table(plan: &Plan, outcome: &Outcome, verdict: &Verdict) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = changes(&mut text, plan, outcome)
        .and_then(|()| flows(&mut text, plan, outcome))
        .and_then(|()| flatness(&mut text, plan, outcome, verdict))
        .and_then(|()| holds(&mut text, verdict));
    text
}

fn changes(text: &mut String, plan: &Plan, outcome: &Outcome) -> std::fmt::Result {
    let (done, told) = (outcome.done, outcome.told);
    writeln!(text, "\n{:<44}{:>12}{:>12}", "", "done", "noticed")?;
    for (what, done, told) in [
        ("SIGHUP", done.reloads, told.reloads),
        (
            "- with another receive.allow",
            done.allow_changes,
            told.allow_changes,
        ),
        (
            "- with another retention",
            done.retention_changes,
            told.retention_changes,
        ),
        ("databases of places", done.places, told.places),
        ("lists of networks", done.networks, told.networks),
        ("threat lists", done.threats, told.threats),
    ] {
        writeln!(text, "{what:<44}{done:>12}{told:>12}")?;
    }
    let [first, second] = outcome.rows_of_places;
    writeln!(
        text,
        "{:<44}{first:>12}{second:>12}",
        "rows with places of either database"
    )?;
    writeln!(
        text,
        "{:<44}{:>12}   {} exporters and domains known at the end",
        "visits of exporters", outcome.visits, outcome.exporters
    )?;
    let away = plan.away.as_secs_f64();
    writeln!(
        text,
        "{:<44}{:>12}   away for {away:.1} s each, then it starts",
        "ClickHouse killed with -9",
        outcome.absences.len()
    )?;
    for Absence {
        from,
        lasted,
        spool_bytes_max,
    } in &outcome.absences
    {
        let (from, lasted) = (from.as_secs(), lasted.as_secs_f64());
        let disk = mib(*spool_bytes_max);
        writeln!(
            text,
            "- in second {from:>5}: back after {lasted:>5.1} s; {disk:>6.1} MiB on the disk"
        )?;
    }
    Ok(())
}

fn flows(text: &mut String, plan: &Plan, outcome: &Outcome) -> std::fmt::Result {
    let (datagrams, flows) = outcome.sent;
    let rate = flows as f64 / plan.duration.as_secs_f64();
    writeln!(text)?;
    let mut line = |what: &str, n: u64, note: &str| writeln!(text, "{what:<44}{n:>12}   {note}");
    line("datagrams sent", datagrams, "")?;
    line("= taken", outcome.received, "")?;
    line("+ dropped by the kernel", outcome.dropped_by_kernel, "")?;
    line("flows sent", flows, &format!("{rate:.0} flows/s"))?;
    line("decoded", outcome.decoded, "")?;
    line("stored", outcome.stored, "acknowledged by ClickHouse")?;
    line("rows", outcome.rows, "SELECT count() FROM flows")?;
    for (reason, n) in &outcome.losses {
        line("lost", *n, reason)?;
    }
    if outcome.losses.is_empty() {
        line("lost", 0, "")?;
    }
    line("unaccounted", outcome.unaccounted, "")?;
    let settled = match outcome.settled {
        Some(after) => format!(
            "nothing under way {:.1} s behind the last flow",
            after.as_secs_f64()
        ),
        None => "and flows are still under way".into(),
    };
    line(
        "bytes on the disk at the end",
        outcome.spool_bytes,
        &settled,
    )
}

fn flatness(
    text: &mut String,
    plan: &Plan,
    outcome: &Outcome,
    verdict: &Verdict,
) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<20}{:>12}{:>12}{:>10}{:>12}{:>12}",
        "median of thirds", "second", "last", "differ", "least", "most"
    )?;
    let rss = verdict.rss;
    let [second, last, least, most] = [rss.second, rss.last, rss.least, rss.most].map(mib);
    let percent = rss.per_mille() as f64 / 10.0;
    let (allowed, peak) = (plan.rss_percent_max, mib(outcome.rss_peak_bytes));
    writeln!(
        text,
        "{:<20}{second:>12.1}{last:>12.1}{percent:>8.1} %{least:>12.1}{most:>12.1}   \
         {allowed} % may differ; peak of all {peak:.1}",
        "RSS, MiB"
    )?;
    for (what, flat) in [
        ("file descriptors", verdict.descriptors),
        ("threads", verdict.threads),
    ] {
        let Flat {
            second,
            last,
            least,
            most,
        } = flat;
        let differ = second.abs_diff(last);
        writeln!(
            text,
            "{what:<20}{second:>12}{last:>12}{differ:>10}{least:>12}{most:>12}"
        )?;
    }
    Ok(())
}

fn holds(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    writeln!(text)?;
    for fault in &verdict.faults {
        writeln!(text, "does not hold: {fault}")?;
    }
    if verdict.faults.is_empty() {
        writeln!(
            text,
            "holds: every flow sent is a row, nothing lost, nothing unaccounted; memory, file \
             descriptors and threads flat; every change noticed"
        )?;
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
