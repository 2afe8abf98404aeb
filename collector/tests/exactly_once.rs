//! One insert is one block of ClickHouse's, and a repeated one is stored once.

mod engine;

use std::time::Duration;

use engine::{config, library, run, started};
use flowsluice::batch::{BATCH_ROWS, Batch};
use flowsluice::flow::Flow;
use flowsluice::store::clickhouse::client;
use flowsluice::store::window::forgetful_tables;
use flowsluice::store::{Block, ClickHouse, Encoder, Endpoint, Insert, Taken};
use flowsluice::units::UnixNanos;
use tokio::runtime::Runtime;

/// As many rows in one body as `batch.rows_max` may be at most: more than ClickHouse makes one
/// block of by itself (1,048,449 rows).
const BATCHES_MAX: usize = 256;

struct Rig {
    runtime: Runtime,
    target: ClickHouse,
    writer: Endpoint,
    encoder: Encoder,
    batch: Batch,
}

impl Rig {
    fn new(config: &flowsluice::config::Store, writer: Endpoint) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let target = ClickHouse::new(&writer, config);
        runtime.block_on(target.prepare()).unwrap();
        let mut batch = Batch::new(BATCH_ROWS);
        let flow = Flow {
            time_received_s: UnixNanos::now().seconds(),
            raw_bytes: 3,
            ..Flow::EMPTY
        };
        batch.append(&[flow; BATCH_ROWS]);
        Self {
            runtime,
            target,
            writer,
            encoder: Encoder::default(),
            batch,
        }
    }

    /// A block of so many Native blocks.
    fn block(&mut self, batches: usize, token: &str) -> Block {
        for _ in 0..batches {
            self.encoder.add(&mut self.batch);
        }
        self.encoder.finish(token.into())
    }

    fn insert(&self, block: &Block) -> Result<Taken, String> {
        let sent = self.runtime.block_on(self.target.insert(block));
        sent.map_err(|error| error.to_string())
    }

    fn number(&self, sql: &str) -> u64 {
        run(&self.writer, sql).trim().parse().unwrap()
    }

    fn parts(&self, table: &str) -> u64 {
        self.number(&format!(
            "SELECT count() FROM system.parts WHERE database = 'flowsluice' AND table = '{table}' \
             AND active"
        ))
    }

    fn rows(&self) -> u64 {
        self.number("SELECT count() FROM flowsluice.flows")
    }
}

#[test]
fn the_longest_insert_is_one_part_and_stored_once_however_often_it_is_sent() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut config = config(library, home.path());
    // A busy machine takes its time for a million rows.
    config.insert_timeout = Duration::from_secs(300);
    let engine = started(&config);
    let mut rig = Rig::new(&config, engine.endpoint());
    let longest = rig.block(BATCHES_MAX, "longest");
    assert_eq!(longest.rows, 1 << 20);
    for _ in 0..2 {
        assert_eq!(rig.insert(&longest), Ok(Taken::Stored));
        assert_eq!((rig.parts("flows"), rig.rows()), (1, 1 << 20));
    }
    // The same rows with another token are other flows.
    let other = rig.block(1, "other");
    assert_eq!(rig.insert(&other), Ok(Taken::Stored));
    assert_eq!(rig.rows(), (1 << 20) + BATCH_ROWS as u64);
}

#[test]
fn an_insert_that_failed_in_a_view_is_whole_and_not_doubled_when_it_is_sent_again() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let mut rig = Rig::new(&config, engine.endpoint());
    let table = |name: &str| {
        format!(
            "CREATE TABLE flowsluice.{name} (time DateTime, flows UInt64, bytes UInt64) \
             ENGINE = SummingMergeTree ORDER BY time \
             SETTINGS non_replicated_deduplication_window = 1000"
        )
    };
    let view = |name: &str, condition: &str| {
        format!(
            "CREATE MATERIALIZED VIEW flowsluice.to_{name} TO flowsluice.{name} AS \
             SELECT toStartOfMinute(time_received) AS time, count() AS flows, \
             sum(raw_bytes) AS bytes FROM flowsluice.flows WHERE {condition} GROUP BY time"
        )
    };
    for sql in [
        "CREATE TABLE flowsluice.broken (x UInt8) ENGINE = MergeTree ORDER BY x",
        &table("good"),
        &view("good", "1"),
        &table("bad"),
        &view(
            "bad",
            "throwIf((SELECT count() FROM flowsluice.broken) > 0) = 0",
        ),
        "INSERT INTO flowsluice.broken VALUES (1)",
        "CREATE TABLE flowsluice.forgetful (time DateTime) ENGINE = MergeTree ORDER BY time",
        "CREATE MATERIALIZED VIEW flowsluice.to_forgetful TO flowsluice.forgetful AS \
         SELECT time_received AS time FROM flowsluice.flows WHERE protocol = 250",
    ] {
        run(&rig.writer, sql);
    }
    let client = client(&rig.writer);
    let forgetful = (rig.runtime).block_on(forgetful_tables(&client, "flowsluice"));
    assert_eq!(forgetful, Ok(vec![("forgetful".to_owned(), 0)]));
    let block = rig.block(16, "with views");
    let refused = rig.insert(&block).unwrap_err();
    assert!(refused.contains("Code: 395"), "{refused}");
    run(&rig.writer, "TRUNCATE TABLE flowsluice.broken");
    for _ in 0..3 {
        assert_eq!(rig.insert(&block), Ok(Taken::Stored));
    }
    let flows = 16 * BATCH_ROWS as u64;
    assert_eq!(rig.rows(), flows);
    for name in ["good", "bad"] {
        let sum =
            |column: &str| rig.number(&format!("SELECT sum({column}) FROM flowsluice.{name}"));
        assert_eq!((sum("flows"), sum("bytes")), (flows, 3 * flows), "{name}");
    }
}

#[test]
fn a_refusal_is_understood_however_long_the_insert_is() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let mut rig = Rig::new(&config, engine.endpoint());
    // Bytes that do not compress, so that ClickHouse answers long before it has read all.
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state
    };
    rig.batch.clear();
    for _ in 0..BATCH_ROWS {
        rig.batch.append(&[Flow {
            raw_bytes: random(),
            raw_packets: random(),
            flow_end_ms: random() >> 24,
            ..Flow::EMPTY
        }]);
    }
    let block = rig.block(64, "long");
    assert!(
        block.compressed.len() > 4 << 20,
        "{}",
        block.compressed.len()
    );
    run(&rig.writer, "DROP TABLE flowsluice.flows SYNC");
    for _ in 0..3 {
        let refused = rig.insert(&block).unwrap_err();
        assert!(refused.contains("Code: 60"), "{refused}");
    }
}
