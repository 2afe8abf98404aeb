//! The panels of the dashboards, asked one after the other as Grafana's data source asks them.

use std::time::Instant;

use anyhow::{Context, Result};
use flowsluice_tests::grafana::{Dashboard, Range, expand};

use super::ClickHouse;
use super::fill::Filled;
use crate::options::Options;
use crate::report::Table;
use crate::rounds::Figure;

/// What a panel may take over a range, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    name: &'static str,
    range_s: u32,
    ms_max: u32,
}

/// Panels that read rollups, over a day.
const ROLLUPS: Bound = Bound {
    name: "from rollups, 24 h",
    range_s: 24 * 3600,
    ms_max: 1_000,
};
/// All panels over an hour: those that read rollups could be kept from it by a filter.
const ROWS: Bound = Bound {
    name: "all, 1 h",
    range_s: 3600,
    ms_max: 3_000,
};
/// The slowest of a bound that are told one by one, unless more are too slow.
const TOLD: usize = 5;

/// What is told of them.
pub struct Report {
    pub caption: String,
    pub table: Table,
}

/// A panel, asked.
struct Asked {
    what: String,
    figure: Figure,
}

/// Every panel of every dashboard with everything selected.
///
/// # Errors
/// When one is refused.
pub fn ask_all(options: &Options, clickhouse: &ClickHouse<'_>, filled: &Filled) -> Result<Report> {
    let mut table = Table::new(["panel", "ms", "may take", "holds"]);
    let mut caption = "The panels of the dashboards, everything selected, one at a time, by the \
                       user of dashboards; the slowest of each kind."
        .to_owned();
    for bound in [ROLLUPS, ROWS] {
        let mut asked = ask(options, clickhouse, filled, bound)?;
        asked.sort_by(|a, b| b.figure.median.total_cmp(&a.figure.median));
        let slow = |one: &&Asked| one.figure.median > f64::from(bound.ms_max);
        let over = asked.iter().filter(slow).count();
        caption += &format!(
            " Panels {}: {} within {} ms, {over} over it.",
            bound.name,
            asked.len() - over,
            bound.ms_max
        );
        for (place, Asked { what, figure }) in asked.iter().take(TOLD.max(over)).enumerate() {
            table.row([
                format!("{what}, {}", bound.name),
                figure.to_string(),
                bound.ms_max.to_string(),
                if place < over { "NO" } else { "yes" }.to_owned(),
            ]);
        }
    }
    Ok(Report { caption, table })
}

fn ask(
    options: &Options,
    clickhouse: &ClickHouse<'_>,
    filled: &Filled,
    bound: Bound,
) -> Result<Vec<Asked>> {
    let range = Range {
        from_s: u64::from(filled.end_s.saturating_sub(bound.range_s)),
        to_s: u64::from(filled.end_s),
    };
    let mut asked = Vec::new();
    for dashboard in Dashboard::all("en")? {
        eprintln!(
            "queries: asking the panels of {}, {}",
            dashboard.name, bound.name
        );
        let selection = dashboard.everything();
        for panel in dashboard.panels()? {
            if panel.sql.is_empty() || (bound == ROLLUPS && !reads_rollups(&panel.sql)) {
                continue;
            }
            let what = format!("{}: {}", dashboard.name, panel.title);
            let sql = expand(&panel.sql, &selection, range).with_context(|| what.clone())?;
            let mut took_ms = Vec::new();
            for _ in 0..options.rounds() {
                let begun = Instant::now();
                clickhouse
                    .ask_as_reader(&sql)
                    .with_context(|| what.clone())?;
                took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            let figure = Figure::of(took_ms);
            asked.push(Asked { what, figure });
        }
    }
    Ok(asked)
}

/// True when what it shows comes from rollups alone while everything is selected: rows stand
/// behind a `WHERE NOT` then, which selects none of them, and only names of autonomous systems are
/// looked up in some of the newest.
fn reads_rollups(sql: &str) -> bool {
    const UNREAD: &str = "WHERE NOT (";
    const FOR_NAMES: &str = "WHERE time_received >= greatest(";
    let has_rollup = ["rollup_", "_by_hour"].iter().any(|it| sql.contains(it));
    let is_shown = |(at, _): (usize, &str)| {
        let rest = sql.get(at..).unwrap_or_default();
        let condition = rest.find("WHERE").and_then(|at| rest.get(at..));
        let condition = condition.unwrap_or_default();
        !(condition.starts_with(UNREAD) || condition.starts_with(FOR_NAMES))
    };
    has_rollup && !sql.match_indices("FROM flows").any(is_shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_panels_read_rollups_and_some_do_not() -> Result<()> {
        let (mut rollups, mut rows) = (0, 0);
        for dashboard in Dashboard::all("en")? {
            for panel in dashboard.panels()? {
                match reads_rollups(&panel.sql) {
                    true => rollups += 1,
                    false => rows += usize::from(panel.sql.contains("FROM flows")),
                }
            }
        }
        assert!(rollups > 30 && rows > 30, "{rollups} {rows}");
        Ok(())
    }

    #[test]
    fn a_panel_that_reads_rows_for_the_hosts_of_a_rollup_reads_rows() {
        let rollup = "SELECT 1 FROM rollup_hour_as WHERE 1";
        let guarded = "UNION ALL SELECT 1 FROM flows\nARRAY JOIN [1] AS x\nWHERE NOT (1)";
        assert!(reads_rollups(rollup));
        assert!(reads_rollups(&format!("{rollup} {guarded}")));
        let rows = "SELECT 1 FROM flows_by_minute WHERE 1";
        assert!(!reads_rollups(&format!("{rollup} {guarded} {rows}")));
        assert!(!reads_rollups(rows));
    }
}
