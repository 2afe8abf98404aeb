//! Stores the flows of captures, at the time of now or at their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use flowsluice::batch::{BATCH_ROWS, Batcher};
use flowsluice::config::Config;
use flowsluice::decode::{Decoder, ExtraRows, FlowSink, Shared};
use flowsluice::enrich::offline::Offline;
use flowsluice::flow::Flow;
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::names;
use flowsluice::receive::replay::{Capture, CaptureCounts, CaptureError};
use flowsluice::store::SideRows;
use flowsluice::units::UnixNanos;

use super::super::storage::Storage;

/// How long ClickHouse may take to answer before the replay gives up.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long the last blocks may take: a replay may wait longer than a service that is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(300);

/// Decodes `files` and stores their flows where `config` says.
pub fn store(files: Vec<PathBuf>, mut config: Config, keep_time: bool) -> anyhow::Result<()> {
    config.store.stop_timeout = config.store.stop_timeout.max(STOP_TIMEOUT);
    let now = UnixNanos::now();
    let shifts = match keep_time {
        true => vec![Shift::NONE; files.len()],
        false => files
            .iter()
            .map(|file| Ok(Shift::between(last_datagram(file)?, now)))
            .collect::<anyhow::Result<_>>()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let ledger = Ledger::new(1);
    let counts = Arc::clone(&ledger.store);
    let (mut storage, mut queues) = Storage::join(&config, &runtime, counts)?;
    wait_until_ready(&storage)?;
    let enriching = super::offline(&config)?;
    storage.enrich(&mut queues, enriching.enricher(), &runtime);
    let queue = queues.pop().expect("one queue for one worker");
    let batches = queue.batches_empty();
    let mut rows = Rows {
        batcher: Batcher::new(&config.batch, queue).with_extra(!config.decode.extra.is_empty()),
        batches,
        enriching,
        side_rows: storage.side_rows(),
        batch_rows: BATCH_ROWS.min(config.batch.rows_max),
        counts: WorkerCounts::default(),
        shift: Shift::NONE,
        expires_s: now
            .seconds()
            .saturating_sub(u32::try_from(config.store.retention.as_secs()).unwrap_or(u32::MAX)),
        expired: 0,
    };
    let (read, outcome) = rows.decode(files.into_iter().zip(shifts), &config, &ledger);
    let endpoint = storage.endpoint.clone();
    storage.stop(&runtime);
    let snapshot = ledger.snapshot();
    super::summary_of_files(&read, &mut io::stderr())?;
    super::summary_of_flows(&snapshot, &mut io::stderr())?;
    let Some(endpoint) = endpoint else {
        eprintln!("replay: nothing is stored: store.kind is null");
        return Ok(outcome?);
    };
    eprintln!(
        "replay: {} flows stored in {}.flows",
        snapshot.store.flows_stored, endpoint.database
    );
    if rows.expired > 0 {
        eprintln!(
            "replay: {} of them are older than store.retention ({}); ClickHouse drops such rows as \
             it inserts them, so leave out --keep-time or raise store.retention",
            rows.expired,
            humantime::format_duration(config.store.retention)
        );
    }
    let lost =
        snapshot.dropped(DropReason::InsertRefused) + snapshot.dropped(DropReason::StoreStopped);
    anyhow::ensure!(lost == 0, "{lost} flows were not stored");
    // What came before the file that cannot be read is stored.
    Ok(outcome?)
}

/// When the newest datagram of `file` was captured. Each file moves by itself: captures of
/// different years are replayed together.
fn last_datagram(file: &Path) -> anyhow::Result<UnixNanos> {
    let mut last = UnixNanos::default();
    Capture::new(vec![file.to_owned()])
        .for_each(&mut |datagram| last = last.max(datagram.received))?;
    Ok(last)
}

fn wait_until_ready(storage: &Storage) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !storage.is_ready() {
        if let Some(endpoint) = &storage.endpoint {
            anyhow::ensure!(
                begun.elapsed() < READY_MAX,
                "store: ClickHouse at {} does not answer or has no schema after {} s; see that it \
                 runs and that user '{}' may write to database '{}'",
                endpoint.url,
                READY_MAX.as_secs(),
                endpoint.user,
                endpoint.database
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// From the clock of the capture to that of the rows, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shift {
    moves: bool,
    by_ms: i64,
}

impl Shift {
    /// Rows keep the capture's times.
    const NONE: Self = Self {
        moves: false,
        by_ms: 0,
    };

    fn between(last: UnixNanos, now: UnixNanos) -> Self {
        let by_ms =
            i64::try_from(now.millis()).unwrap_or(0) - i64::try_from(last.millis()).unwrap_or(0);
        Self { moves: true, by_ms }
    }

    fn apply(self, flow: &mut Flow) {
        if !self.moves {
            return;
        }
        let received_ms = self.moved(u64::from(flow.time_received_s) * 1000);
        flow.time_received_s = self.moved_s(flow.time_received_s);
        if flow.flow_start_ms > 0 {
            flow.flow_start_ms = self.moved(flow.flow_start_ms);
        }
        if flow.flow_end_ms > 0 {
            flow.flow_end_ms = self.moved(flow.flow_end_ms);
            flow.settle_clock(received_ms);
        }
    }

    fn moved(self, unix_ms: u64) -> u64 {
        unix_ms.saturating_add_signed(self.by_ms)
    }

    fn moved_s(self, unix_s: u32) -> u32 {
        let moved_ms = self.moved(u64::from(unix_s) * 1000);
        u32::try_from(moved_ms / 1000).unwrap_or(u32::MAX)
    }
}

/// Where decoded flows go. Unlike a worker, a replay can wait for the store.
struct Rows {
    enriching: Offline,
    batcher: Batcher,
    /// All that there are.
    batches: usize,
    side_rows: SideRows,
    /// Rows of a batch.
    batch_rows: usize,
    counts: WorkerCounts,
    shift: Shift,
    /// Rows received before this moment are past the retention.
    expires_s: u32,
    expired: u64,
}

impl Rows {
    /// Decodes one capture after the other, with one decoder: a template may stand in an earlier
    /// file. Ends at a capture that cannot be read.
    fn decode(
        &mut self,
        captures: impl Iterator<Item = (PathBuf, Shift)>,
        config: &Config,
        ledger: &Ledger,
    ) -> (CaptureCounts, Result<(), CaptureError>) {
        // The ports of a capture are those of another collector: no listener restricts them.
        let shared = Arc::new(Shared::default());
        let mut decoder = Decoder::new(&config.decode, &[], Arc::clone(&shared));
        let mut counts = WorkerCounts::default();
        let mut read = CaptureCounts::default();
        let mut outcome = Ok(());
        for (file, shift) in captures {
            self.shift = shift;
            let one = Capture::new(vec![file]).for_each(&mut |datagram| {
                decoder.decode(datagram, &mut counts, self);
                decoder.turn();
                self.push_beside(&shared);
                self.enriching.follow(&shared);
            });
            match one {
                Ok(one) => read = read.plus(&one),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        decoder.finish(&mut counts);
        self.batcher.finish(&mut self.counts);
        counts.add(&self.counts);
        ledger.worker(0).publish(&counts);
        (read, outcome)
    }

    /// Hands on what was decoded beside flows.
    fn push_beside(&self, shared: &Shared) {
        let beside = shared.sflow();
        beside.counters.drain(|mut row| {
            row.time_received = self.shift.moved_s(row.time_received);
            self.wait_for_side_rows();
            self.side_rows.push(&row);
        });
        beside.discards.drain(|mut row| {
            row.time_received = self.shift.moved_s(row.time_received);
            self.wait_for_side_rows();
            self.side_rows.push(&row);
        });
        let moved = |last_seen_s| self.shift.moved_s(last_seen_s);
        self.wait_for_side_rows();
        names::rows::take_in_moved(&shared.names, &self.side_rows, moved);
    }

    /// A capture is read faster than rows are stored.
    fn wait_for_side_rows(&self) {
        while !self.side_rows.has_room() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Rows {
    /// Waits until so many are empty.
    fn wait_for_batches(&self, free: usize) {
        while self.batcher.batches_free() < free {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.add(flows, None);
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        self.add(flows, Some(extra));
    }
}

impl Rows {
    fn add(&mut self, flows: &mut [Flow], extra: Option<ExtraRows<'_>>) {
        for flow in flows.iter_mut() {
            self.shift.apply(flow);
            self.expired += u64::from(flow.time_received_s < self.expires_s);
        }
        if self.enriching.is_stale() {
            // What was read before is marked with what was told before.
            self.batcher.finish(&mut self.counts);
            self.wait_for_batches(self.batches);
            self.enriching.renew();
        }
        let (now, mut extra) = (UnixNanos::default(), extra);
        for flows in flows.chunks(self.batch_rows) {
            // The open batch and one more take as many rows as one holds; the one more does by
            // itself, where the open one has no room for what comes beside.
            self.wait_for_batches(1);
            let Self {
                batcher, counts, ..
            } = self;
            match extra.map(|extra| extra.split_at(flows.len())) {
                Some((of_these, others)) => {
                    batcher.add_with(flows, of_these, now, counts);
                    extra = Some(others);
                }
                None => batcher.add(flows, now, counts),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn flow(received_s: u32, start_ms: u64, end_ms: u64) -> Flow {
        Flow {
            time_received_s: received_s,
            flow_start_ms: start_ms,
            flow_end_ms: end_ms,
            ..Flow::EMPTY
        }
    }

    #[test]
    fn times_move_together_so_that_the_last_datagram_is_now() {
        let shift = Shift::between(UnixNanos(1_000_000_000_000), UnixNanos(5_000_000_000_000));
        let mut moved = flow(1000, 990_000, 999_500);
        shift.apply(&mut moved);
        assert_eq!(moved, flow(5000, 4_990_000, 4_999_500));
    }

    #[test]
    fn a_clock_that_is_days_off_is_put_to_the_receive_time() {
        let shift = Shift::between(UnixNanos(0), UnixNanos(0));
        let received_ms = 40 * DAY_MS;
        let received_s = u32::try_from(received_ms / 1000).unwrap();
        let mut moved = flow(received_s, 5 * DAY_MS - 2000, 5 * DAY_MS);
        shift.apply(&mut moved);
        assert_eq!(moved, flow(received_s, received_ms - 2000, received_ms));
    }

    #[test]
    fn kept_times_and_unknown_times_stay() {
        let mut kept = flow(1000, 1, 2);
        Shift::NONE.apply(&mut kept);
        assert_eq!(kept, flow(1000, 1, 2));
        let mut unknown = flow(1000, 0, 0);
        Shift::between(UnixNanos(0), UnixNanos(1_000_000_000)).apply(&mut unknown);
        assert_eq!(unknown, flow(1001, 0, 0));
    }
}
