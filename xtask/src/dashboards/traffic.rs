//! Traffic out of the smallest table that answers a question: `{{series ...}}`, `{{total ...}}`.
//!
//! The query asks all tables that could answer, and each but one under a condition that is false
//! once Grafana has filled in filters and range. ClickHouse reads nothing of those.

use anyhow::{Result, ensure};

use super::filters;
use super::source::Variable;

/// A table of traffic, or the view of raw rows.
struct Table {
    name: &'static str,
    /// Its column of time, and how many seconds a row tells.
    time: &'static str,
    seconds: u32,
    /// What it can be grouped by.
    has: &'static [&'static str],
    /// What it can be filtered by; `None`: everything.
    filters: Option<&'static [&'static str]>,
    /// For which ranges, in seconds.
    range: Range,
}

enum Range {
    All,
    /// Shorter than this.
    Below(u32),
    /// As long or longer.
    From(u32),
}

/// By size. What is at the same place for a question is told apart by the range.
const TABLES: [Table; 8] = [
    Table {
        name: "rollup_minute_exporters",
        time: "minute",
        seconds: MINUTE,
        has: &[],
        filters: Some(&["exporter"]),
        range: Range::All,
    },
    Table {
        name: "rollup_minute_services",
        time: "minute",
        seconds: MINUTE,
        has: &["interface", "service"],
        filters: Some(&["exporter", "interface", "service"]),
        range: Range::Below(BY_HOUR_FROM),
    },
    Table {
        name: "rollup_hour_services",
        time: "hour",
        seconds: HOUR,
        has: &["interface", "service"],
        filters: Some(&["exporter", "interface", "service"]),
        range: Range::From(BY_HOUR_FROM),
    },
    Table {
        name: "rollup_minute_as",
        time: "minute",
        seconds: MINUTE,
        has: &["as", "country"],
        filters: Some(&["exporter", "as", "country"]),
        range: Range::Below(BY_HOUR_FROM),
    },
    Table {
        name: "rollup_hour_as",
        time: "hour",
        seconds: HOUR,
        has: &["as", "country"],
        filters: Some(&["exporter", "as", "country"]),
        range: Range::From(BY_HOUR_FROM),
    },
    Table {
        name: "hosts_by_hour",
        time: "hour",
        seconds: HOUR,
        has: &["host"],
        filters: Some(&["exporter"]),
        range: Range::From(HOUR),
    },
    Table {
        name: "conversations_by_hour",
        time: "hour",
        seconds: HOUR,
        has: &["conversation"],
        filters: Some(&["exporter", "service"]),
        range: Range::From(HOUR),
    },
    Table {
        name: "flows_by_minute",
        time: "minute",
        seconds: MINUTE,
        has: &[
            "interface",
            "service",
            "as",
            "country",
            "host",
            "conversation",
            "flow",
        ],
        filters: None,
        range: Range::All,
    },
];

const MINUTE: u32 = 60;
const HOUR: u32 = 3600;
/// A day of services by minute is 30 million rows at 1500 flows/s, by hour a sixth of it.
const BY_HOUR_FROM: u32 = 6 * HOUR;
/// How far the clocks of exporters may be ahead of ours, in seconds. The collector's page has the
/// same two, so that it says what a dashboard says (collector/src/http/page/question.rs).
const AHEAD_MAX: u32 = 900;
/// How long after a minute its last flows are told, in seconds: a flow is spread over an hour at
/// most, and told within minutes of its end.
const TOLD_WITHIN: u32 = 4500;

/// What a question can be grouped by.
const NEEDS: [&str; 7] = [
    "interface",
    "service",
    "as",
    "country",
    "host",
    "conversation",
    "flow",
];

/// One row a bucket of time, or the whole range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Series,
    Total,
}

/// The table expression for a question.
pub fn table(shape: Shape, needs: &[&str], variables: &[&Variable]) -> Result<String> {
    for need in needs {
        ensure!(
            NEEDS.contains(need),
            "'{need}' is nothing to group by; there are {NEEDS:?}"
        );
    }
    let is_everything = needs.contains(&"flow");
    ensure!(
        !is_everything || needs.len() == 1,
        "'flow' has every column, ask for nothing else beside it"
    );
    let mut unless: Vec<String> = Vec::new();
    let mut selects = Vec::new();
    for table in TABLES.iter().filter(|table| table.answers(needs)) {
        let can = table.condition(variables);
        let always = can.is_empty();
        let conditions = unless.iter().chain((!always).then_some(&can)).cloned();
        selects.push(table.select(shape, needs, variables, conditions.collect()));
        if always {
            break;
        }
        unless.push(format!("NOT ({can})"));
    }
    Ok(format!("(\n{}\n)", selects.join("\nUNION ALL\n")))
}

impl Table {
    fn answers(&self, needs: &[&str]) -> bool {
        // These two keep the largest only, so they answer who asks for them and nobody else.
        let is_cut = ["host", "conversation"].map(|cut| self.has == [cut]);
        let is_meant = !is_cut.contains(&true) || !needs.is_empty();
        is_meant && needs.iter().all(|need| self.has.contains(need))
    }

    /// When it can answer; empty: always.
    fn condition(&self, variables: &[&Variable]) -> String {
        let is_foreign = |variable: &&&Variable| {
            !self
                .filters
                .is_none_or(|own| own.contains(&&*variable.name))
        };
        let foreign = variables.iter().filter(is_foreign);
        let mut conditions: Vec<String> =
            foreign.map(|variable| filters::is_all(variable)).collect();
        let length = "dateDiff('second', $__fromTime, $__toTime)";
        match self.range {
            Range::All => {}
            Range::Below(seconds) => conditions.push(format!("{length} < {seconds}")),
            Range::From(seconds) => conditions.push(format!("{length} >= {seconds}")),
        }
        conditions.join(" AND ")
    }

    fn select(
        &self,
        shape: Shape,
        needs: &[&str],
        variables: &[&Variable],
        conditions: Vec<String>,
    ) -> String {
        let Self {
            name,
            time,
            seconds,
            ..
        } = self;
        let is_raw = self.filters.is_none();
        let step = match shape {
            Shape::Series => format!(
                "toIntervalSecond(intDiv(greatest($__interval_s, {seconds}) + {}, {seconds}) * \
                 {seconds})",
                seconds - 1
            ),
            Shape::Total => format!("toIntervalSecond({seconds})"),
        };
        let begin = format!("toStartOfInterval($__fromTime, {step})");
        let end = format!("(toStartOfInterval($__toTime, {step}) + {step})");
        // What is not over yet is as long as it has lasted.
        let lasts = |begin: &str, end: &str| {
            format!(
                "greatest(1, toUnixTimestamp(least({end}, now())) - toUnixTimestamp({begin})) AS \
                 seconds"
            )
        };
        let mut columns = match shape {
            Shape::Series => vec![
                format!("toStartOfInterval({time}, {step}) AS time"),
                lasts("time", &format!("time + {step}")),
            ],
            Shape::Total => vec![lasts(&begin, &end)],
        };
        columns.extend(self.columns(needs));
        let mut all = conditions;
        all.push(format!("{time} >= {begin}"));
        all.push(format!("{time} < {end}"));
        if !is_raw && *time == "minute" && !self.has.is_empty() {
            // These are ordered by the hour first; an hour's width for zones of half hours.
            all.push(format!("toStartOfHour(minute) >= {begin} - {HOUR}"));
            all.push(format!("toStartOfHour(minute) < {end}"));
        }
        if is_raw {
            all.push(format!("time_received >= {begin} - {AHEAD_MAX}"));
            all.push(format!("time_received < {end} + {TOLD_WITHIN}"));
        }
        let by_both = match is_raw && needs.contains(&"host") {
            true => "\nARRAY JOIN [src_addr, dst_addr] AS addr, ['source', 'destination'] AS side",
            false => "",
        };
        let own = |variable: &&&Variable| self.filters.is_none_or(|f| f.contains(&&*variable.name));
        format!(
            "SELECT {}\nFROM {name}{by_both}\nWHERE {}{}",
            columns.join(", "),
            all.join("\n    AND "),
            filters::all_of(variables.iter().filter(own).copied())
        )
    }

    fn columns(&self, needs: &[&str]) -> Vec<String> {
        // Under a second name too: a query that calls its own sum `bytes` hides the first.
        const AGAIN: &str = "bytes AS bytes_here, packets AS packets_here, flows AS flows_here";
        if needs.contains(&"flow") {
            return vec!["*".into(), AGAIN.into()];
        }
        let has = |wanted: &[&str]| needs.iter().any(|need| wanted.contains(need));
        let mut names = vec!["exporter_addr"];
        if has(&["interface"]) {
            names.extend(["in_if", "out_if"]);
        }
        if has(&["service", "conversation"]) {
            names.push("service");
        }
        if has(&["as", "country"]) {
            names.extend(["src_as", "dst_as", "src_country", "dst_country"]);
        }
        if has(&["host"]) {
            names.extend(["toString(side) AS side", "addr"]);
        }
        if has(&["conversation"]) {
            names.extend(["client_addr", "server_addr"]);
        }
        names.extend([
            "bytes",
            "packets",
            "raw_bytes",
            "raw_packets",
            "flows",
            AGAIN,
        ]);
        names.into_iter().map(str::to_owned).collect()
    }
}
