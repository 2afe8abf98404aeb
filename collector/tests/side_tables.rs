//! The tables beside `flows` in a real ClickHouse: made, made again, kept for the retention, and
//! filled once whatever is sent twice.

mod engine;

use std::time::Duration;

use engine::{config, library, run, started};
use flowsluice::config::Store;
use flowsluice::store::embedded::Engine;
use flowsluice::store::{ClickHouse, Failure, Insert, SideBatch, SideTable, Taken};
use tokio::runtime::Runtime;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An engine, and what talks to it as the collector does.
struct Place {
    engine: Engine,
    config: Store,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let library = library()?;
        let folder = tempfile::tempdir().unwrap();
        let config = config(library, folder.path());
        Some(Self {
            engine: started(&config),
            config,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _folder: folder,
        })
    }

    fn clickhouse(&self, retention: Duration) -> ClickHouse {
        let config = Store {
            retention,
            ..self.config.clone()
        };
        let clickhouse = ClickHouse::new(&self.engine.endpoint(), &config);
        self.runtime.block_on(clickhouse.prepare()).unwrap();
        clickhouse
    }

    fn run(&self, sql: &str) -> String {
        run(&self.engine.endpoint(), sql)
    }
}

#[test]
fn a_dropped_table_is_made_again_and_a_changed_retention_holds_for_all() {
    let Some(place) = Place::new() else { return };
    place.clickhouse(30 * DAY);
    place.run("DROP TABLE flowsluice.exporter_gaps SYNC");
    place.run(
        "CREATE TABLE flowsluice.theirs (t DateTime) ENGINE = MergeTree ORDER BY t \
         TTL t + toIntervalSecond(9)",
    );
    place.clickhouse(7 * DAY);
    let kept = |seconds: u32| {
        place.run(&format!(
            "SELECT name FROM system.tables WHERE database = 'flowsluice' \
             AND engine_full LIKE '%toIntervalSecond({seconds})%' ORDER BY name"
        ))
    };
    let ours = kept(7 * 24 * 3600);
    for table in ["exporter_gaps", "exporters", "flows"] {
        assert!(ours.lines().any(|name| name == table), "{table}: {ours}");
    }
    assert_eq!(kept(30 * 24 * 3600), "");
    assert_eq!(kept(9), "theirs\n");
}

#[test]
fn rows_that_are_sent_twice_are_stored_once_and_a_column_too_many_is_refused() {
    let Some(place) = Place::new() else { return };
    let clickhouse = place.clickhouse(30 * DAY);
    let batch = |token: &str, line: &str| SideBatch {
        table: SideTable::ExporterGaps,
        token: token.into(),
        rows: 1,
        lines: format!("{line}\n").into_bytes().into(),
    };
    let minute = place.run("SELECT toUnixTimestamp(toStartOfMinute(now()))");
    let line = format!(
        "{{\"minute\":{},\"exporter_addr\":\"::ffff:192.0.2.1\",\"flow_type\":\"ipfix\",\
         \"unit\":\"records\",\"lost\":7}}",
        minute.trim()
    );
    let rows = batch("one", &line);
    for _ in 0..2 {
        let taken = place.runtime.block_on(clickhouse.insert_side(&rows));
        assert_eq!(taken.unwrap(), Taken::Stored);
    }
    let sql = "SELECT toUnixTimestamp(minute), exporter_addr, flow_type, unit, lost \
               FROM flowsluice.exporter_gaps";
    let wanted = format!("{}\t::ffff:192.0.2.1\tipfix\trecords\t7\n", minute.trim());
    assert_eq!(place.run(sql), wanted);
    let wrong = batch("two", "{\"minute\":1,\"colour\":\"red\"}");
    let refused = place.runtime.block_on(clickhouse.insert_side(&wrong));
    assert_eq!(refused.unwrap_err().failure, Failure::Refused);
}

#[test]
fn what_agents_dropped_is_added_up_apart_from_lost_messages() {
    let Some(place) = Place::new() else { return };
    let clickhouse = place.clickhouse(30 * DAY);
    let minute = place.run("SELECT toUnixTimestamp(toStartOfMinute(now()))");
    let rows = [
        ("packets", 1),
        ("samples", 20),
        ("packets", 2),
        ("samples", 30),
    ];
    for (number, (unit, lost)) in rows.into_iter().enumerate() {
        let line = format!(
            "{{\"minute\":{},\"exporter_addr\":\"::ffff:192.0.2.1\",\"flow_type\":\"sflow5\",\
             \"unit\":\"{unit}\",\"lost\":{lost}}}\n",
            minute.trim()
        );
        let batch = SideBatch {
            table: SideTable::ExporterGaps,
            token: number.to_string(),
            rows: 1,
            lines: line.into_bytes().into(),
        };
        let taken = place.runtime.block_on(clickhouse.insert_side(&batch));
        assert_eq!(taken.unwrap(), Taken::Stored);
    }
    place.run("OPTIMIZE TABLE flowsluice.exporter_gaps FINAL");
    let sql = "SELECT unit, lost, agent_drops FROM flowsluice.exporter_gaps ORDER BY unit";
    assert_eq!(place.run(sql), "packets\t3\t0\nsamples\t50\t50\n");
}
