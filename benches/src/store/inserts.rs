//! Our Native blocks beside the row-wise inserts of the `clickhouse` crate, the same rows into the
//! same table of the embedded ClickHouse.
//!
//! Each round begins with an empty table and ends when ClickHouse has acknowledged every row; the
//! rows are counted, and a checksum over all columns must be the same however they came.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clickhouse::{Client, Compression};
use flowsluice::batch::Batcher;
use flowsluice::batch::schema::stored;
use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::flow::Flow;
use flowsluice::generate::Protocols;
use flowsluice::ledger::{StoreCounts, WorkerCounts};
use flowsluice::store::embedded::Engine;
use flowsluice::store::{Endpoint, Store, clickhouse as ours};
use flowsluice::units::UnixNanos;
use flowsluice_tests::place;
use tokio::runtime::Runtime;

use super::row::FlowRow;
use crate::cpu::{self, ProcessTimes};
use crate::machine::crate_version;
use crate::options::Options;
use crate::report::{Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::{Recipe, Stream};

/// Full batches a round.
const BLOCKS: usize = 8;
const BLOCKS_QUICK: usize = 4;
/// Until the engine answers: a cold library is read from the disk.
const READY_MAX: Duration = Duration::from_secs(60);

/// Measures the ways in alternating rounds.
pub fn measure(options: &Options, section: &mut Section) -> Result<()> {
    let blocks = if options.quick { BLOCKS_QUICK } else { BLOCKS };
    let batch = config::Batch::default();
    let flows = flows(blocks * batch.rows_max)?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let mut store = config::Store {
        inserts: 1,
        stop_timeout: READY_MAX,
        ..config::Store::default()
    };
    store.embedded.library = Some(options.library()?);
    store.embedded.data_dir = folder.path().join("data");
    store.embedded.http.set_port(0);
    let engine = Engine::start_with(&store, &place::binary()?)?;
    ensure!(
        engine.wait_ready(READY_MAX),
        "ClickHouse did not answer within {READY_MAX:?}"
    );
    let bench = Bench {
        flows: &flows,
        batch,
        endpoint: engine.endpoint(),
        engine: &engine,
        store,
        runtime: tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
    };
    let mut candidates: Vec<Round<'_, Sample>> = vec![
        Box::new(|| bench.round(|| bench.native(config::Compression::Lz4))),
        Box::new(|| bench.round(|| bench.native(config::Compression::None))),
        Box::new(|| bench.round(|| bench.row_binary(true))),
        Box::new(|| bench.round(|| bench.row_binary(false))),
    ];
    let measured = rounds::alternate(options.rounds(), &mut candidates)?;
    let checksum = measured[0][0].checksum;
    let is_same = |samples: &Vec<Sample>| samples.iter().all(|s| s.checksum == checksum);
    ensure!(
        measured.iter().all(is_same),
        "the rows are not the same in every way of inserting"
    );
    let version = bench.ask("SELECT version()")?;
    section.table(
        &caption(flows.len(), &bench.batch, &version),
        &table(&measured),
    );
    Ok(())
}

fn caption(rows: usize, batch: &config::Batch, version: &str) -> String {
    let of_crate = crate_version("clickhouse").unwrap_or("?");
    // `extra` is sent only where it is asked for.
    let columns = stored().count() - 1;
    let rows_max = batch.rows_max;
    format!(
        "The same {rows} flows (NetFlow v9, 25 % IPv6) into an empty `flows` of the embedded \
         ClickHouse {version}, {rows_max} rows an insert, one insert at a time, LZ4, alternating \
         rounds. Native is Batcher and Store as in the collector (its next block is filled and \
         encoded while one is sent); RowBinary is `Insert` of the crate clickhouse {of_crate} \
         with a derived row of the same {columns} columns, with and without its validation. \
         Client is the CPU of this process, from the decoded flow to the acknowledgement; \
         ClickHouse is that of the engine until then, later merges not included. Bytes are what \
         ClickHouse received by its own count. In every round `SELECT count()` was \
         the number of flows and the checksum over all columns the same."
    )
}

fn table(measured: &[Vec<Sample>]) -> Table {
    let mut table = Table::new([
        "insert",
        "rows/s",
        "client, CPU ns a row",
        "ClickHouse, CPU ns a row",
        "bytes a row",
    ]);
    let names = [
        "Native",
        "Native, store.compression = \"none\"",
        "RowBinary, validated",
        "RowBinary",
    ];
    for (name, samples) in names.into_iter().zip(measured) {
        let figure = |value: fn(&Sample) -> f64| Figure::of(samples.iter().map(value)).to_string();
        table.row([
            name.to_owned(),
            figure(|s| s.rows_per_s),
            figure(|s| s.client_ns),
            figure(|s| s.engine_ns),
            figure(|s| s.bytes),
        ]);
    }
    table
}

/// Decoded flows, received now.
fn flows(wanted: usize) -> Result<Vec<Flow>> {
    let recipe = Recipe {
        protocols: Protocols::Netflow9,
        bytes: wanted * BYTES_A_FLOW_MAX,
        ..Recipe::default()
    };
    let received = UnixNanos::now();
    let stream = Stream::new(&recipe, received)?;
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::new(Shared::default()));
    let (mut counts, mut kept) = (WorkerCounts::default(), Kept(Vec::with_capacity(wanted)));
    for datagram in stream.announcements(received) {
        decoder.decode(&datagram, &mut counts, &mut kept);
    }
    let data = stream.data();
    for index in 0..data.len() {
        decoder.decode(&data.get(index, received), &mut counts, &mut kept);
    }
    let Kept(mut flows) = kept;
    ensure!(flows.len() >= wanted, "too few flows: {}", flows.len());
    flows.truncate(wanted);
    for flow in &mut flows {
        flow.settle_clock(received.millis());
    }
    Ok(flows)
}

/// Bytes on the wire of a flow of NetFlow v9, headers and IPv6 included.
const BYTES_A_FLOW_MAX: usize = 80;

struct Kept(Vec<Flow>);

impl FlowSink for Kept {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

/// What one round measured.
struct Sample {
    rows_per_s: f64,
    client_ns: f64,
    engine_ns: f64,
    bytes: f64,
    checksum: u64,
}

struct Bench<'a> {
    flows: &'a [Flow],
    batch: config::Batch,
    store: config::Store,
    endpoint: Endpoint,
    engine: &'a Engine,
    runtime: Runtime,
}

/// When the clocks were read.
struct Reading {
    wall: Instant,
    client: Duration,
    engine: ProcessTimes,
}

impl Bench<'_> {
    /// Empties the table, lets `insert` prepare, insert and tell when it began, and checks.
    fn round(&self, insert: impl FnOnce() -> Result<Reading>) -> Result<Sample> {
        self.empty()?;
        let bytes_before = self.bytes_received()?;
        let begun = insert()?;
        let ended = self.reading()?;
        let bytes = self.bytes_received()? - bytes_before;
        let rows = self.flows.len();
        let counted: usize = self.ask("SELECT count() FROM flows")?.parse()?;
        ensure!(
            counted == rows,
            "{counted} rows are in ClickHouse, {rows} were inserted"
        );
        let checksum = self.ask("SELECT sum(cityHash64(*)) FROM flows")?;
        let a_row = |seconds: f64| seconds * 1e9 / rows as f64;
        Ok(Sample {
            rows_per_s: rows as f64 / (ended.wall - begun.wall).as_secs_f64(),
            client_ns: a_row((ended.client - begun.client).as_secs_f64()),
            engine_ns: a_row(ended.engine.since(&begun.engine).total_s()),
            bytes: bytes as f64 / rows as f64,
            checksum: checksum.parse()?,
        })
    }

    /// Batches through the store, as a worker's.
    fn native(&self, compression: config::Compression) -> Result<Reading> {
        let config = config::Store {
            compression,
            ..self.store.clone()
        };
        let of_store = Arc::new(StoreCounts::default());
        let (store, mut queues) = {
            let _inside = self.runtime.enter();
            let counts = Arc::clone(&of_store);
            Store::start(&config, Some(&self.endpoint), counts, 1, &self.batch)
        };
        wait_until("the store is ready", || store.is_ready())?;
        let begun = self.reading()?;
        let queue = queues.pop().context("one queue for one worker")?;
        let mut batcher = Batcher::new(&self.batch, queue);
        let (mut counts, now) = (WorkerCounts::default(), UnixNanos::now());
        for burst in self.flows.chunks(64) {
            while batcher.batches_free() == 0 {
                thread::sleep(Duration::from_micros(50));
            }
            batcher.add(burst, now, &mut counts);
        }
        batcher.finish(&mut counts);
        let report = self.runtime.block_on(store.stop());
        let stored = of_store.flows_stored.load(Ordering::Acquire);
        ensure!(
            report.flows_lost == 0 && stored == self.flows.len() as u64,
            "{stored} of {} flows were stored",
            self.flows.len()
        );
        Ok(begun)
    }

    /// Rows through the crate's own insert.
    fn row_binary(&self, validated: bool) -> Result<Reading> {
        let client = self.client().with_compression(Compression::Lz4);
        let client = client.with_validation(validated);
        let begun = self.reading()?;
        self.runtime.block_on(async {
            for (block, flows) in self.flows.chunks(self.batch.rows_max).enumerate() {
                // ClickHouse would take the rows of the next round for a repetition of this one.
                let token = format!("{:?}-{block}", begun.wall);
                let insert = client.insert::<FlowRow<'_>>("flows").await?;
                let mut insert = insert
                    .with_setting("async_insert", "0")
                    .with_setting("wait_end_of_query", "1")
                    .with_setting("insert_deduplication_token", token);
                for flow in flows {
                    insert.write(&FlowRow::new(flow)).await?;
                }
                insert.end().await?;
            }
            anyhow::Ok(())
        })?;
        Ok(begun)
    }

    fn reading(&self) -> Result<Reading> {
        let pid = self.engine.pid().context("ClickHouse runs")?;
        Ok(Reading {
            wall: Instant::now(),
            client: cpu::of_this_process(),
            engine: ProcessTimes::of(pid)?,
        })
    }

    fn client(&self) -> Client {
        ours::client(&self.endpoint).with_database(&self.endpoint.database)
    }

    fn ask(&self, sql: &str) -> Result<String> {
        let client = self.client();
        let answer = async {
            let mut lines = client.query_raw(sql).fetch_bytes("TabSeparated")?;
            lines.collect().await
        };
        let bytes = self.runtime.block_on(answer).context(sql.to_owned())?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Makes the tables if this is the first round.
    fn empty(&self) -> Result<()> {
        let client = ours::client(&self.endpoint);
        let wanted = flowsluice::store::schema::Wanted::new(&self.store);
        let (database, runtime) = (&self.endpoint.database, &self.runtime);
        let applied = flowsluice::store::schema::apply(&client, database, &wanted);
        runtime.block_on(applied)?;
        self.ask("TRUNCATE TABLE flows").map(|_| ())
    }

    fn bytes_received(&self) -> Result<u64> {
        let sql = "SELECT value FROM system.events WHERE event = 'NetworkReceiveBytes'";
        let text = self.ask(sql)?;
        text.parse()
            .with_context(|| format!("{sql}: {text:?} is no number"))
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        ensure!(
            begun.elapsed() < READY_MAX,
            "not within {READY_MAX:?}: {what}"
        );
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
