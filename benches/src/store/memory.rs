//! From memory through decode, batch, Native and LZ4 to a store that keeps nothing.
//!
//! The real worker on its real thread, the real store with its encoders; only the socket and
//! ClickHouse are missing. Nothing may be lost: what was decoded must arrive, row for row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use flowsluice::batch::Batcher;
use flowsluice::config;
use flowsluice::decode::sequence::SequenceTotals;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::flow::Flow;
use flowsluice::generate::Protocols;
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::receive::affinity;
use flowsluice::store::{self, Attempt, Block, Insert, SideBatch, Store};
use flowsluice::units::UnixNanos;
use flowsluice::worker::Worker;
use tokio::runtime::Runtime;

use super::replay::Replay;
use crate::cpu;
use crate::options::Options;
use crate::report::{Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::{Recipe, Stream};

const CASES: [(Protocols, &str); 4] = [
    (Protocols::Netflow5, "NetFlow v5"),
    (Protocols::Netflow9, "NetFlow v9, 25 % IPv6"),
    (Protocols::Ipfix, "IPFIX, 25 % IPv6"),
    (Protocols::Sflow5, "sFlow v5, 25 % IPv6"),
];

/// Flows of a round: some ninety batches, so that the memory that the first ones map is little.
const FLOWS: u64 = 6_000_000;
const FLOWS_QUICK: u64 = 2_000_000;

/// Measures all protocols in alternating rounds.
pub fn measure(options: &Options, section: &mut Section) -> Result<()> {
    let flows = if options.quick { FLOWS_QUICK } else { FLOWS };
    let start = UnixNanos::now();
    let streams = CASES
        .iter()
        .map(|&(protocols, _)| {
            let recipe = Recipe {
                protocols,
                ..Recipe::default()
            };
            Stream::new(&recipe, start)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut candidates: Vec<Round<'_, Sample>> = Vec::new();
    for (stream, (_, name)) in streams.iter().zip(CASES) {
        candidates.push(Box::new(move || round(stream, flows).context(name)));
    }
    let measured = rounds::alternate(options.rounds(), &mut candidates)?;
    let mut table = Table::new([
        "datagrams",
        "flows/s",
        "worker, CPU ns a flow",
        "process, CPU ns a flow",
        "Native bytes a row",
        "compressed bytes a row",
    ]);
    for ((_, name), samples) in CASES.iter().zip(&measured) {
        let figure = |value: fn(&Sample) -> f64| Figure::of(samples.iter().map(value)).to_string();
        table.row([
            (*name).to_owned(),
            figure(|s| s.flows_per_s),
            figure(|s| s.worker_ns),
            figure(|s| s.process_ns),
            figure(|s| s.native_bytes),
            figure(|s| s.compressed_bytes),
        ]);
    }
    let caption = format!(
        "One worker from memory: receive is a replay of 8 MiB of datagrams of 50 exporters in \
         bursts of 256, then decode, batch, Native, LZ4, and a store that keeps nothing. {flows} \
         flows a round, the protocols in alternating rounds. flows/s are by the wall clock; where \
         the encoders are slower than the worker, it waits for a batch. Process is worker, \
         encoders and runtime together. In every round flows decoded = rows taken, nothing \
         dropped, nothing unaccounted."
    );
    section.table(&caption, &table);
    Ok(())
}

/// What one round measured.
struct Sample {
    flows_per_s: f64,
    worker_ns: f64,
    process_ns: f64,
    native_bytes: f64,
    compressed_bytes: f64,
}

/// A ClickHouse that takes everything and keeps nothing.
#[derive(Clone, Default)]
struct Taken(Arc<Sums>);

#[derive(Default)]
struct Sums {
    rows: AtomicU64,
    native_bytes: AtomicU64,
    compressed_bytes: AtomicU64,
}

impl Insert for Taken {
    fn prepare(&self) -> Attempt<'_> {
        Box::pin(async { Ok(()) })
    }

    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, store::Taken> {
        let Sums {
            rows,
            native_bytes,
            compressed_bytes,
        } = &*self.0;
        rows.fetch_add(block.rows, Ordering::Relaxed);
        native_bytes.fetch_add(block.native_bytes, Ordering::Relaxed);
        compressed_bytes.fetch_add(block.compressed.len() as u64, Ordering::Relaxed);
        Box::pin(async { Ok(store::Taken::Stored) })
    }

    fn insert_side<'a>(&'a self, _: &'a SideBatch) -> Attempt<'a, store::Taken> {
        Box::pin(async { Ok(store::Taken::Stored) })
    }
}

/// Where the flows go that come with the announcements, before the clock runs.
struct Nothing;

impl FlowSink for Nothing {
    fn flows(&mut self, _: &mut [Flow]) {}
}

fn round(stream: &Stream, flows: u64) -> Result<Sample> {
    let cpus = affinity::plan(&one_worker(), &affinity::available())?;
    let runtime = runtime(&cpus)?;
    let batch = config::Batch::default();
    let ledger = Ledger::new(1);
    let taken = Taken::default();
    let (store, mut queues) = {
        let _inside = runtime.enter();
        let (target, counts) = (Box::new(taken.clone()), Arc::clone(&ledger.store));
        Store::start_with(target, &config::Store::default(), counts, 1, &batch)
    };
    let stop = AtomicBool::new(false);
    let queue = queues.pop().context("one queue for one worker")?;
    let replay = Replay::new(stream.clone(), flows, &batch, queue.backlog(), &stop);
    let batcher = Batcher::new(&batch, queue);
    let shared = Arc::new(Shared::default());
    let decoder = decoder(stream, &shared);
    let worker = Worker::new(replay, decoder, batcher, ledger.worker(0));
    let (begun, process) = (Instant::now(), cpu::of_this_process());
    let worker_used = thread::scope(|scope| {
        let thread = scope.spawn(|| on_worker_thread(worker, cpus[0], &stop));
        thread.join().map_err(|_| anyhow!("the worker panicked"))
    })??;
    let report = runtime.block_on(store.stop());
    let (elapsed, process) = (begun.elapsed(), cpu::of_this_process() - process);
    ensure!(report.flows_lost == 0, "the store did not take everything");
    let missing = shared.sequence_totals();
    ensure!(
        missing == SequenceTotals::default(),
        "the stream's numbers do not go on: {missing:?}"
    );
    let flows = accounted(&ledger, &taken.0)? as f64;
    let a_row = |sum: &AtomicU64| sum.load(Ordering::Relaxed) as f64 / flows;
    Ok(Sample {
        flows_per_s: flows / elapsed.as_secs_f64(),
        worker_ns: worker_used.as_nanos() as f64 / flows,
        process_ns: process.as_nanos() as f64 / flows,
        native_bytes: a_row(&taken.0.native_bytes),
        compressed_bytes: a_row(&taken.0.compressed_bytes),
    })
}

fn one_worker() -> config::Receive {
    config::Receive {
        workers: 1,
        ..config::Receive::default()
    }
}

/// As the collector's: two threads on the processors that no worker has.
fn runtime(cpus: &[Option<usize>]) -> Result<Runtime> {
    let free = affinity::housekeeping(cpus, &affinity::available());
    let next = AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .on_thread_start(move || {
            if !free.is_empty() {
                // A refusal costs speed and nothing else, here as there.
                let _ = affinity::pin(free[next.fetch_add(1, Ordering::Relaxed) % free.len()]);
            }
        })
        .build()
        .context("the runtime cannot be started")
}

/// One that knows the stream's exporters.
fn decoder(stream: &Stream, shared: &Arc<Shared>) -> Decoder {
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::clone(shared));
    let mut counts = WorkerCounts::default();
    for datagram in stream.announcements(UnixNanos::now()) {
        decoder.decode(&datagram, &mut counts, &mut Nothing);
    }
    decoder
}

/// Runs the worker to its end and returns the CPU time that it took.
fn on_worker_thread(
    worker: Worker<Replay<'_>>,
    cpu: Option<usize>,
    stop: &AtomicBool,
) -> Result<Duration> {
    if let Some(cpu) = cpu {
        ensure!(
            affinity::pin(cpu),
            "the worker cannot be pinned to processor {cpu}"
        );
    }
    let before = cpu::of_this_thread();
    worker.run(stop).context("the worker ended early")?;
    Ok(cpu::of_this_thread() - before)
}

/// The flows, which are everywhere as many as were decoded.
fn accounted(ledger: &Ledger, taken: &Sums) -> Result<u64> {
    let snapshot = ledger.snapshot();
    let unaccounted = snapshot.unaccounted();
    ensure!(unaccounted == 0, "{unaccounted} flows are unaccounted for");
    for &reason in DropReason::ALL {
        let dropped = snapshot.dropped(reason);
        ensure!(dropped == 0, "{dropped} dropped as {}", reason.label());
    }
    let decoded = snapshot.total.flows_decoded;
    let (stored, rows) = (
        snapshot.store.flows_stored,
        taken.rows.load(Ordering::Relaxed),
    );
    ensure!(
        decoded > 0 && decoded == stored && decoded == rows,
        "{decoded} flows were decoded, {stored} acknowledged, {rows} taken by the target"
    );
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::BYTES_WARM;

    #[test]
    fn every_flow_of_every_protocol_arrives() {
        for (protocols, name) in CASES {
            let recipe = Recipe {
                protocols,
                bytes: BYTES_WARM,
                ..Recipe::default()
            };
            let stream = Stream::new(&recipe, UnixNanos::now()).unwrap();
            let sample = round(&stream, 500_000).unwrap();
            let row = sample.native_bytes;
            // Columns of zeros are left out: what a row takes depends on what its record tells.
            assert!((120.0..320.0).contains(&row), "{name}: {row} bytes a row");
            assert!(sample.compressed_bytes < row / 2.0);
        }
    }
}
