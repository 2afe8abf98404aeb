//! Simulated exporters, as fast as rows can be stored, with the times of the last hours.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice::batch::Batcher;
use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::enrich::dns::Dns;
use flowsluice::enrich::parts::{Learned, Parts};
use flowsluice::enrich::{Enricher, Published};
use flowsluice::flow::Flow;
use flowsluice::generate::{Settings, Simulator, send};
use flowsluice::ledger::{StoreCounts, WorkerCounts};
use flowsluice::receive::Datagram;
use flowsluice::store::Store;
use flowsluice::units::UnixNanos;
use serde::{Deserialize, Serialize};

use super::{ClickHouse, FLOWS_PER_SECOND, READY_MAX};
use crate::enrich::names::NameServer;
use crate::enrich::{databases, files};

/// What was stored.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Filled {
    /// Rows.
    pub flows: u64,
    /// Names of addresses that were known in the end.
    pub names: usize,
    /// How long it took.
    pub took_s: f64,
    /// When the first and the last datagram came, by the simulated clock, in seconds since 1970.
    pub begin_s: u32,
    pub end_s: u32,
    /// An exporter and a host with many flows.
    pub exporter: String,
    pub host: String,
}

/// Stores `hours` of flows that end now.
pub fn fill(
    store: &config::Store,
    clickhouse: &ClickHouse<'_>,
    hours: u32,
    folder: &Path,
) -> Result<Filled> {
    let end = UnixNanos::now();
    let begin = UnixNanos(end.0 - u64::from(hours) * 3_600_000_000_000);
    let mut simulator = Simulator::new(&Settings::default(), begin)?;
    let name_server = NameServer::start()?;
    let enrich = files::write_for(
        folder,
        &databases::all(folder)?,
        name_server.address(),
        &files::addresses(&simulator),
    )?;
    let began = Instant::now();
    let of_store = Arc::new(StoreCounts::default());
    let batch = config::Batch::default();
    let (mut running, mut queues) = {
        let _inside = clickhouse.runtime.enter();
        let (counts, endpoint) = (Arc::clone(&of_store), clickhouse.engine.endpoint());
        Store::start(store, Some(&endpoint), counts, 1, &batch)
    };
    while !running.is_ready() {
        ensure!(
            began.elapsed() < READY_MAX,
            "no schema within {READY_MAX:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
    // Slots of ten minutes go by the clock of the server: they are filled afterwards.
    for what in ["hosts", "conversations"] {
        clickhouse.ask(&format!("DROP VIEW rollup_open_{what}_mv"))?;
    }
    let (learning, enricher) = Learning::new(&enrich, &running, clickhouse)?;
    {
        let _inside = clickhouse.runtime.enter();
        running.enrich(&mut queues, enricher);
    }
    let queue = queues.pop().context("one queue for one worker")?;
    let mut rows = Rows {
        learning,
        batcher: Batcher::new(&batch, queue),
        counts: WorkerCounts::default(),
    };
    rows.simulate(&mut simulator, begin, end);
    let names = rows.learning.dns.snapshot().ids() - 1;
    drop(rows);
    let report = clickhouse.runtime.block_on(running.stop());
    let flows = of_store.flows_stored.load(Ordering::Acquire);
    let sent = simulator.totals().all.flows;
    ensure!(
        report.flows_lost == 0 && flows >= sent,
        "{flows} of {sent} flows were stored"
    );
    let most = |column: &str| {
        let sql = format!(
            "SELECT {column} FROM flows WHERE time_received >= {} GROUP BY {column} \
             ORDER BY count() DESC LIMIT 1",
            end.seconds() - 3600
        );
        clickhouse.ask(&sql)
    };
    Ok(Filled {
        flows,
        names,
        took_s: began.elapsed().as_secs_f64(),
        begin_s: begin.seconds(),
        end_s: end.seconds(),
        exporter: most("exporter_addr")?,
        host: most("dst_addr")?,
    })
}

/// Names that become known while flows are stored.
struct Learning {
    parts: Parts,
    published: Arc<Published>,
    dns: Dns,
}

impl Learning {
    /// With the one who marks rows by it.
    fn new(
        enrich: &config::Enrich,
        store: &Store,
        clickhouse: &ClickHouse<'_>,
    ) -> Result<(Self, Enricher)> {
        let mut parts = Parts::new(enrich);
        let faults = parts.load();
        ensure!(faults.is_empty(), "{faults:?}");
        let fast = config::Dns {
            rate_max: 100_000,
            queries_max: 512,
            ..enrich.dns.clone()
        };
        let dns = Dns::start(&fast, store.side_rows(), clickhouse.runtime.handle());
        let published = Arc::new(Published::default());
        published.publish(parts.tables(&Learned::default()));
        let enricher = Enricher::new(Arc::clone(&published), Some(dns.asker()), true);
        let learning = Self {
            parts,
            published,
            dns,
        };
        Ok((learning, enricher))
    }

    /// Takes the names that came since; rows that are marked from now on have them.
    fn renew(&mut self, shared: &Shared) {
        self.published.publish(self.parts.tables(&Learned {
            names: shared.names.snapshot(),
            hosts: self.dns.snapshot(),
            ..Learned::default()
        }));
    }
}

/// What a worker does, at the pace of the store.
struct Rows {
    learning: Learning,
    batcher: Batcher,
    counts: WorkerCounts,
}

impl Rows {
    fn simulate(&mut self, simulator: &mut Simulator, begin: UnixNanos, end: UnixNanos) {
        let shared = Arc::new(Shared::default());
        let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::clone(&shared));
        let mut counts = WorkerCounts::default();
        let mut hour = 0;
        let mut renewed = Instant::now();
        loop {
            let flows = simulator.totals().all.flows;
            let now = UnixNanos(begin.0 + flows * (1_000_000_000 / FLOWS_PER_SECOND));
            if now >= end {
                break;
            }
            if flows / (3600 * FLOWS_PER_SECOND) > hour {
                hour += 1;
                eprintln!("queries: {hour} h stored");
            }
            let simulated = simulator.next(now);
            let datagram = Datagram {
                source: send::source_address(COLLECTOR, simulated.exporter),
                source_port: 50_000,
                local_port: 2055,
                received: now,
                payload: simulated.payload,
                cut: false,
            };
            decoder.decode(&datagram, &mut counts, self);
            decoder.turn();
            if renewed.elapsed() >= RENEW_EVERY {
                renewed = Instant::now();
                self.learning.renew(&shared);
            }
        }
        decoder.finish(&mut counts);
        self.batcher.finish(&mut self.counts);
    }
}

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        for flow in flows.iter_mut() {
            flow.settle_clock(u64::from(flow.time_received_s) * 1000);
        }
        while self.batcher.batches_free() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let now = UnixNanos::default();
        self.batcher.add(flows, now, &mut self.counts);
    }
}

/// Names are looked at as often as a collector does.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Where exporters send to.
const COLLECTOR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
