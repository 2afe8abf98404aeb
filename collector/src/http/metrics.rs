//! `/metrics`: the ledger and all gauges in OpenMetrics text, or in the text format before it.
//!
//! Names are `flowsluice_<stage>_<noun>_<unit>_total{worker,reason}`. Values are read when somebody
//! scrapes, all from one reading of the ledger, so the equations hold within one scrape.

mod budget;
mod enrich;
mod exporters;
mod family;
mod occupancy;
mod servers;
mod spool;
mod tee;

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use collector_ebpf::Verdict;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::process::Process;
use super::{Phase, State};
use crate::ledger::{DropLevel, DropReason, LedgerSnapshot, WORKER_COUNTERS, WorkerCounts};

#[cfg(test)]
pub(super) use exporters::EXPORTER_SERIES_MAX;
use family::{Classic, Sink};
pub use family::{Family, Kind, Labels, Value};

/// What the answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Classic,
}

impl Format {
    /// The one that a scraper asks for. OpenMetrics, unless it names the other and not that.
    pub(super) fn asked_for(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let accepted: Vec<_> = accepted.filter_map(|value| value.to_str().ok()).collect();
        let names = |kind| accepted.iter().any(|value| value.contains(kind));
        match names("text/plain") && !names("application/openmetrics-text") {
            true => Self::Classic,
            false => Self::OpenMetrics,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Reads everything. May pause for 20 ms at most, as [`crate::ledger::Ledger::snapshot`] does.
pub(super) fn text(state: &Arc<State>, format: Format) -> Result<String, fmt::Error> {
    if format == Format::Classic {
        let mut text = Classic::default();
        Out(&mut text).everything(state)?;
        return Ok(text.0);
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(state))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Everything but the series of single exporters. May pause as [`text`] does.
pub(super) fn of_collector(state: &State) -> Vec<Family> {
    let mut families = Vec::new();
    let told = Out(&mut families).collector(state);
    told.expect("a list has room");
    families
}

#[derive(Debug)]
struct Scrape(Arc<State>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Out(&mut encoder).everything(&self.0)
    }
}

struct Out<'a>(&'a mut dyn Sink);

impl Out<'_> {
    fn everything(&mut self, state: &State) -> fmt::Result {
        self.collector(state)?;
        self.exporter_series(&state.shared.exporters())
    }

    fn collector(&mut self, state: &State) -> fmt::Result {
        let ledger = state.ledger.snapshot();
        self.facts(state)?;
        self.worker_counters(&ledger)?;
        self.frames(&ledger)?;
        self.tees(&state.tees())?;
        self.drops(&ledger)?;
        self.store(&ledger)?;
        self.budget(&state.ledger.store.budget.read())?;
        self.side(&ledger)?;
        self.store_facts(state)?;
        self.occupancy(&state.occupancy().clone())?;
        self.ledger(&ledger)?;
        self.sequences(&state.shared.sequence_totals())?;
        self.exporters(&state.shared.exporters())?;
        if let Some(facts) = state.enrich() {
            self.enrich(&facts)?;
        }
        self.process(state)
    }

    fn counters<N: Into<Value>>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        self.family(Kind::Counter, name, help, series)
    }

    fn gauges<N: Into<Value>>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        self.family(Kind::Gauge, name, help, series)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Into<Value>) -> fmt::Result {
        self.counters(name, help, [(Labels::new(), value)])
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<Value>) -> fmt::Result {
        self.gauges(name, help, [(Labels::new(), value)])
    }

    fn family<N: Into<Value>>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        let series = series.into_iter();
        self.0.take(Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind,
            series: series
                .map(|(labels, value)| (labels, value.into()))
                .collect(),
        })
    }

    fn facts(&mut self, state: &State) -> fmt::Result {
        let labels: Labels = vec![("version", state.facts.version.to_owned())];
        self.gauges(
            "flowsluice_build_info",
            "The collector's version",
            [(labels, 1_u64)],
        )?;
        let labels: Labels = vec![("mode", state.facts.receive_mode.to_owned())];
        self.gauges(
            "flowsluice_receive_mode",
            "How datagrams are taken from the kernel",
            [(labels, 1_u64)],
        )?;
        let interfaces = state.facts.interfaces.iter().map(|interface| {
            let labels: Labels = vec![
                ("interface", interface.interface.clone()),
                ("mode", interface.mode.name().to_owned()),
            ];
            (labels, 1_u64)
        });
        self.gauges(
            "flowsluice_receive_interface_mode",
            "How frames of an interface come that AF_XDP was asked for",
            interfaces,
        )?;
        let collecting = u64::from(state.phase() == Phase::Collecting);
        self.gauge(
            "flowsluice_receive_collecting",
            "1 while the workers receive",
            collecting,
        )?;
        self.gauge(
            "flowsluice_ready",
            "1 while flows go from the sockets to the store, as /readyz says",
            u64::from(state.unready().is_none()),
        )?;
        let turns = state.ledger.turns().into_iter().enumerate();
        self.counters(
            "flowsluice_worker_turns",
            "Turns of the worker's loop; one that stands still is stuck",
            turns.map(|(worker, turns)| (by_worker(worker), turns)),
        )
    }

    fn worker_counters(&mut self, ledger: &LedgerSnapshot) -> fmt::Result {
        let values: Vec<_> = ledger.workers.iter().map(WorkerCounts::values).collect();
        for (index, (name, help)) in WORKER_COUNTERS.iter().enumerate() {
            let full = format!("flowsluice_{}_{name}", stage(name));
            let help = help.trim().trim_end_matches('.');
            let workers = values.iter().enumerate();
            let series = workers.map(|(worker, values)| (by_worker(worker), values[index]));
            if *name == FLOWS_OPEN {
                self.gauges(&full, help, series)?;
            } else {
                self.counters(&full, help, series)?;
            }
        }
        Ok(())
    }

    fn frames(&mut self, ledger: &LedgerSnapshot) -> fmt::Result {
        let verdicts = Verdict::ALL.iter().zip(ledger.frames);
        let series = verdicts.map(|(verdict, frames)| {
            let labels: Labels = vec![("verdict", verdict.label().to_owned())];
            (labels, frames)
        });
        self.counters(
            "flowsluice_xdp_frames",
            "Frames that the XDP programs saw; all but redirected and not_allowed went to the \
             kernel, and not_allowed are datagrams received and dropped as exporter_not_allowed",
            series,
        )
    }

    fn drops(&mut self, ledger: &LedgerSnapshot) -> fmt::Result {
        for (level, name, what) in [
            (
                DropLevel::Datagram,
                "flowsluice_decode_datagrams_dropped",
                "Datagrams dropped",
            ),
            (
                DropLevel::Set,
                "flowsluice_decode_sets_dropped",
                "Sets and samples dropped",
            ),
            (
                DropLevel::Record,
                "flowsluice_decode_records_dropped",
                "Records dropped",
            ),
            (
                DropLevel::Flow,
                "flowsluice_batch_flows_dropped",
                "Flows dropped",
            ),
        ] {
            let reasons = reasons(level);
            let help = with_sentences(what, &reasons);
            let workers = ledger.workers.iter().enumerate();
            let series = workers.flat_map(|(worker, counts)| {
                reasons.iter().map(move |reason| {
                    let mut labels = by_worker(worker);
                    labels.push(("reason", reason.label().to_owned()));
                    (labels, counts.dropped(*reason))
                })
            });
            self.counters(name, &help, series)?;
        }
        let reasons = reasons(DropLevel::Lost);
        let help = with_sentences("Batched flows that were not stored", &reasons);
        let series = reasons.iter().map(|reason| {
            let labels = vec![("reason", reason.label().to_owned())];
            (labels, ledger.store.flows_lost[*reason as usize])
        });
        self.counters("flowsluice_store_flows_lost", &help, series)
    }

    fn store(&mut self, ledger: &LedgerSnapshot) -> fmt::Result {
        let store = &ledger.store;
        self.gauge(
            "flowsluice_store_flows_in_flight",
            "Flows handed over and neither stored nor lost",
            store.flows_in_flight,
        )?;
        self.spool(store)?;
        for (name, help, value) in [
            (
                "flows_stored",
                "Flows that ClickHouse acknowledged",
                store.flows_stored,
            ),
            (
                "blocks_encoded",
                "Blocks made of batches, whatever became of them",
                store.blocks_encoded,
            ),
            (
                "encoded_bytes",
                "Native bytes of the encoded blocks, before compression",
                store.encoded_bytes,
            ),
            (
                "compressed_bytes",
                "Bytes of the encoded blocks, compressed",
                store.compressed_bytes,
            ),
            (
                "blocks_stored",
                "Blocks that ClickHouse acknowledged",
                store.blocks_stored,
            ),
            (
                "block_bytes",
                "Bytes of those blocks before compression",
                store.block_bytes,
            ),
            (
                "block_bytes_sent",
                "Bytes sent for those blocks",
                store.block_bytes_sent,
            ),
            (
                "inserts_retried",
                "Inserts that failed and were tried again",
                store.inserts_retried,
            ),
        ] {
            self.counter(&format!("flowsluice_store_{name}"), help, value)?;
        }
        self.counter(
            "flowsluice_store_insert_seconds",
            "Time spent in acknowledged inserts; by blocks_stored it is the mean latency",
            store.insert_nanos as f64 / 1e9,
        )
    }

    fn store_facts(&mut self, state: &State) -> fmt::Result {
        let facts = (state.store)();
        let labels: Labels = vec![("kind", facts.kind.name().to_owned())];
        self.gauges(
            "flowsluice_store_kind",
            "Where rows go; null stores nothing",
            [(labels, 1_u64)],
        )?;
        self.gauge(
            "flowsluice_store_ready",
            "1 once ClickHouse answered and has the schema, or none is needed",
            u64::from(facts.ready),
        )?;
        self.counter(
            "flowsluice_store_engine_restarts",
            "Times that the embedded ClickHouse was started again",
            facts.engine_restarts,
        )?;
        self.servers(&facts.endpoints)
    }

    fn ledger(&mut self, ledger: &LedgerSnapshot) -> fmt::Result {
        let equations = ledger.equations();
        let side = |value: fn(&crate::ledger::Equation) -> u64| {
            equations.iter().map(move |equation| {
                let labels: Labels = vec![("equation", equation.name.to_owned())];
                (labels, value(equation))
            })
        };
        self.gauges("flowsluice_ledger_left", "What went in", side(|e| e.left))?;
        self.gauges(
            "flowsluice_ledger_right",
            "What became of it",
            side(|e| e.right),
        )?;
        self.gauge(
            "flowsluice_ledger_unaccounted",
            "Sum of all disagreements of the equations; other than 0 is a fault of the collector",
            ledger.unaccounted(),
        )
    }

    fn process(&mut self, state: &State) -> fmt::Result {
        let process = Process::read();
        self.counter(
            "process_cpu_seconds",
            "Processor time of the collector, user and system",
            process.cpu_seconds,
        )?;
        self.gauge(
            "process_resident_memory_bytes",
            "Resident memory of the collector",
            process.resident_bytes,
        )?;
        self.gauge(
            "process_resident_memory_max_bytes",
            "The most resident memory that the collector had",
            process.resident_bytes_max,
        )?;
        self.gauge(
            "process_threads",
            "Threads of the collector",
            process.threads,
        )?;
        self.gauge(
            "process_start_time_seconds",
            "When the collector started",
            state.facts.started.1.millis() as f64 / 1e3,
        )
    }
}

/// The one figure of a worker that also falls.
const FLOWS_OPEN: &str = "flows_open";

fn stage(counter: &str) -> &'static str {
    match counter {
        "datagrams_received" | "bytes_received" | "datagrams_dropped_by_kernel" => "receive",
        _ if counter.starts_with("tcp_") => "receive",
        "flows_batched" | FLOWS_OPEN => "batch",
        _ => "decode",
    }
}

fn reasons(level: DropLevel) -> Vec<DropReason> {
    let all = DropReason::ALL.iter().copied();
    all.filter(|reason| reason.level() == level).collect()
}

fn with_sentences(what: &str, reasons: &[DropReason]) -> String {
    let sentence = |reason: &DropReason| {
        let sentence = reason.sentence().trim().trim_end_matches('.');
        format!("{}: {sentence}", reason.label())
    };
    let sentences: Vec<_> = reasons.iter().map(sentence).collect();
    format!("{what}. {}", sentences.join("; "))
}

fn by_worker(worker: usize) -> Labels {
    vec![("worker", worker.to_string())]
}
