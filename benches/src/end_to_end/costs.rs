//! What ClickHouse's processor time goes to: inserts, each view, merges of each table, by its own
//! logs, which a collector's engine does not keep unless it is told to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use flowsluice_tests::ClickHouse;

use crate::report::Table;

/// Has the engine whose data are to be in `data_dir` keep its logs.
///
/// # Errors
/// When the folder cannot be written.
pub fn keep_logs(data_dir: &Path) -> Result<()> {
    let folder = data_dir.join("engine/config.d");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let log = |name: &&str| {
        format!(
            "<{name}><database>system</database><table>{name}</table>\
             <flush_interval_milliseconds>2000</flush_interval_milliseconds></{name}>\n"
        )
    };
    let logs: String = LOGS.iter().map(log).collect();
    let file = folder.join("logs.xml");
    fs::write(&file, format!("<clickhouse>\n{logs}</clickhouse>\n"))
        .with_context(|| format!("write {}", file.display()))
}

/// The table; `None` where there are no logs, which is when their thread did not get to it.
///
/// # Errors
/// When ClickHouse does not answer.
pub fn table(clickhouse: &ClickHouse, since_s: u64, flows: u64) -> Result<Option<Table>> {
    let names = LOGS.map(|name| format!("'{name}'")).join(", ");
    let sql = format!("SELECT count() FROM system.tables WHERE name IN ({names})");
    let there: usize = clickhouse.value(&sql)?;
    if there < LOGS.len() {
        return Ok(None);
    }
    let mut table = Table::new(["what", "times", "CPU ns a flow", "rows a flow"]);
    for (what, from) in SOURCES {
        let sql = format!(
            "SELECT {what}, count(), sum({CPU}) * 1000 / {flows} AS ns, sum(rows) / {flows} \
             FROM {from} AND event_time >= {since_s} GROUP BY 1 HAVING ns >= {LEAST_NS} \
             ORDER BY ns DESC"
        );
        for row in clickhouse.rows(&sql)? {
            let number = |at: usize| row[at].parse::<f64>().unwrap_or_default();
            table.row([
                row[0].clone(),
                row[1].clone(),
                format!("{:.0}", number(2)),
                format!("{:.3}", number(3)),
            ]);
        }
    }
    Ok(Some(table))
}

const LOGS: [&str; 3] = ["query_log", "query_views_log", "part_log"];
/// Microseconds.
const CPU: &str = "ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds']";
/// What is told, and of what; an insert contains its views.
const SOURCES: [(&str, &str); 3] = [
    (
        "'inserts, with all views'",
        "(SELECT *, written_rows AS rows FROM system.query_log) WHERE type = 'QueryFinish' \
         AND query_kind = 'Insert'",
    ),
    (
        "concat('view ', splitByChar('.', view_name)[-1])",
        "(SELECT *, written_rows AS rows FROM system.query_views_log) WHERE 1",
    ),
    (
        "concat('merges of ', table)",
        "system.part_log WHERE event_type = 'MergeParts'",
    ),
];
/// Less is not told.
const LEAST_NS: u32 = 10;
