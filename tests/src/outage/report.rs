//! An account as a table for people.

use std::fmt::Write as _;

use super::account::{Account, Missing};
use super::plan::Plan;
use super::run::Outcome;
use super::sums::Sums;

/// What happened, what became of every flow, and what does not hold.
#[must_use]
pub fn table(plan: &Plan, outcome: &Outcome, account: &Account) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = timeline(&mut text, outcome)
        .and_then(|()| flows(&mut text, plan, outcome, account))
        .and_then(|()| collectors(&mut text, outcome))
        .and_then(|()| sums(&mut text, outcome))
        .and_then(|()| verdict(&mut text, plan, account));
    text
}

fn timeline(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(text, "\nsecond    what happened")?;
    let began = outcome.sent_log.began().unwrap_or_default();
    for (at, what) in &outcome.timeline {
        let second = at.saturating_sub(began) as f64 / 1e9;
        writeln!(text, "{second:>7.2}   {what}")?;
    }
    Ok(())
}

fn flows(text: &mut String, plan: &Plan, outcome: &Outcome, account: &Account) -> std::fmt::Result {
    let sent = &outcome.sent;
    let mut line =
        |name: &str, flows: u64, note: &str| writeln!(text, "{name:<44}{flows:>12}   {note}");
    line(
        "\nflows sent, numbered from 1 on",
        account.sent,
        &format!(
            "{} datagrams, {:.1} s, {:.0} flows/s",
            sent.datagrams,
            sent.elapsed_s,
            sent.flows as f64 / sent.elapsed_s.max(0.001)
        ),
    )?;
    for Missing {
        by_kill,
        absent_ns,
        refused,
        datagrams_refused,
        in_memory,
        oldest_ns,
        unread,
    } in account.absences.iter().copied()
    {
        let signal = if by_kill { "-9" } else { "SIGTERM" };
        line(
            &format!("- refused while no collector ran ({signal})"),
            refused,
            &format!(
                "{datagrams_refused} datagrams; {:.2} s from the signal until the next one turned",
                absent_ns as f64 / 1e9
            ),
        )?;
        if by_kill {
            line(
                "- in memory at the -9",
                in_memory,
                &format!(
                    "the oldest sent {:.2} s before; allowed {:.1} s (batch.age_max {})",
                    oldest_ns as f64 / 1e9,
                    plan.memory_age_max.as_secs_f64(),
                    plan.batch_age
                ),
            )?;
        }
        line(
            &format!("- in sockets that nobody read any more ({signal})"),
            unread,
            "",
        )?;
    }
    line("- missing, unexplained", account.unexplained, "")?;
    line("= numbers that are rows", account.stored, "")?;
    line("rows", outcome.rows.rows, "SELECT count() FROM flows")?;
    line("duplicates", account.duplicates, "rows - numbers")?;
    let udp = outcome.udp;
    writeln!(
        text,
        "kernel: {} datagrams read (trials of io_uring included), {} without a socket (answered: \
         {}), {} for full buffers, {} in sockets at an end",
        udp.read,
        udp.no_port,
        outcome.refused.len(),
        udp.buffer_full,
        account.datagrams_unread
    )
}

fn collectors(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<17}{:>12}{:>12}{:>12}{:>12}   lost by reason",
        "collector, until", "decoded", "recovered", "stored", "on disk"
    )?;
    for (index, life) in outcome.lives.iter().enumerate() {
        let losses = life
            .losses
            .iter()
            .map(|(reason, n)| format!("{reason}={n}"));
        let mut losses = losses.collect::<Vec<_>>().join(" ");
        if losses.is_empty() {
            losses = "nothing".into();
        }
        let who = format!("{} {}", index + 1, life.end);
        writeln!(
            text,
            "{who:<17}{:>12}{:>12}{:>12}{:>12}   {losses}",
            life.decoded, life.recovered, life.stored, life.left_on_disk
        )?;
    }
    Ok(())
}

fn sums(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<28}{:>22}{:>18}{:>14}",
        "sums of", "bytes", "packets", "flows"
    )?;
    let mut line = |name: &str, sums: &Sums, note: &str| {
        let Sums {
            bytes,
            packets,
            flows,
            ..
        } = sums;
        writeln!(
            text,
            "{name:<28}{bytes:>22}{packets:>18}{flows:>14}   {note}"
        )
    };
    line("flows, as they came", &outcome.raw, "")?;
    for (table, sums) in &outcome.rollups {
        let note = if *sums == outcome.raw {
            "equal"
        } else {
            "NOT EQUAL"
        };
        line(table, sums, note)?;
    }
    Ok(())
}

fn verdict(text: &mut String, plan: &Plan, account: &Account) -> std::fmt::Result {
    writeln!(text)?;
    for fault in &account.faults {
        writeln!(text, "does not hold: {fault}")?;
    }
    if account.faults.is_empty() {
        writeln!(
            text,
            "holds: rows = {} sent - {} while no collector ran - {} in memory at the -9 (sent \
             within {:.1} s before) - {} in sockets at an end; no duplicate; sums equal",
            account.sent,
            account.refused(),
            account.in_memory(),
            plan.memory_age_max.as_secs_f64(),
            account.unread()
        )?;
    }
    Ok(())
}
