//! What is done with the tables once they are full.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::fill::Filled;
use super::{ClickHouse, moment};
use crate::report::Table;

/// What a slot of ten minutes is of: the columns that rows of a rollup are told apart by, and from
/// where they come.
const OPEN: [(&str, &str, &str); 2] = [
    (
        "hosts",
        "side, addr",
        "ARRAY JOIN [src_addr, dst_addr] AS addr, [1, 2] AS side",
    ),
    ("conversations", "client_addr, server_addr, service", ""),
];

const SLOT_S: u32 = 600;
/// Progress is told after so many of them: an hour.
const SLOTS_TOLD: u32 = 6;

/// Fills the slots of hosts and conversations as if the flows had come in their own time, each
/// folded by the views that do so for a collector.
pub fn fold(clickhouse: &ClickHouse<'_>, filled: &Filled) -> Result<()> {
    let sums = ["bytes", "packets", "raw_bytes", "raw_packets", "flows"]
        .map(|name| format!("sum(spread.{name}) AS {name}"))
        .join(", ");
    let (first, end) = (filled.begin_s / SLOT_S, filled.end_s / SLOT_S);
    for slot in first..end {
        if (slot - first) % SLOTS_TOLD == 0 {
            let hours = (slot - first) * SLOT_S / 3600;
            eprintln!("queries: hosts and conversations of {hours} h folded");
        }
        let (from, to) = (slot * SLOT_S, (slot + 1) * SLOT_S);
        for (what, keys, join) in OPEN {
            clickhouse.ask(&format!(
                "INSERT INTO rollup_open_{what} SELECT toStartOfHour(minute) AS hour, \
                 toDateTime({from}) AS stored, exporter_addr, {keys}, {sums} \
                 FROM flows_by_minute AS spread {join} \
                 WHERE time_received >= {from} AND time_received < {to} \
                 GROUP BY hour, exporter_addr, {keys}"
            ))?;
            for action in ["REFRESH", "WAIT"] {
                clickhouse.ask(&format!("SYSTEM {action} VIEW rollup_hour_{what}_fold"))?;
            }
        }
    }
    Ok(())
}

/// Returns when no merge has been under way for some time.
pub fn wait_for_merges(clickhouse: &ClickHouse<'_>) -> Result<()> {
    let mut quiet = 0;
    while quiet < 10 {
        let merges: u32 = clickhouse
            .ask("SELECT count() FROM system.merges")?
            .parse()?;
        quiet = if merges == 0 { quiet + 1 } else { 0 };
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Rows, parts and bytes of each table.
pub fn sizes(clickhouse: &ClickHouse<'_>) -> Result<Table> {
    let mut table = Table::new(["table", "rows", "parts", "MiB", "bytes a row"]);
    let sql = "SELECT table, sum(rows), count(), round(sum(bytes_on_disk) / 1048576, 1), \
               round(sum(bytes_on_disk) / sum(rows), 2) FROM system.parts \
               WHERE active AND database = currentDatabase() \
               AND (table = 'flows' OR table LIKE 'rollup%') GROUP BY table ORDER BY table";
    for line in clickhouse.ask(sql)?.lines() {
        table.row(line.split('\t'));
    }
    Ok(table)
}

impl Filled {
    /// `sql` with its moments and names.
    pub fn fill_in(&self, sql: &str) -> String {
        let before = |seconds: u32| moment(self.end_s.saturating_sub(seconds));
        sql.replace("{day}", &before(24 * 3600))
            .replace("{hour}", &before(3600))
            .replace("{end}", &before(0))
            .replace("{exporter}", &format!("toIPv6('{}')", self.exporter))
            .replace("{host}", &format!("toIPv6('{}')", self.host))
    }
}
