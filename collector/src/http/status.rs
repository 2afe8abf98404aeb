//! `/status`: the collector as one JSON object, for people, the demo and tests.

use std::net::SocketAddr;
use std::time::Instant;

use collector_ebpf::Verdict;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::State;
use super::health::Readings;
use crate::config::Group;
use crate::decode::ExporterStatus;
use crate::decode::sequence::SequenceStatus;
use crate::enrich::parts::{Part, PartStatus};
use crate::enrich::{EnrichFacts, Figure};
use crate::ledger::{
    BudgetSnapshot, DropReason, LedgerSnapshot, SideSnapshot, StoreSnapshot, WORKER_COUNTERS,
    WorkerCounts,
};
use crate::names::Counts;
use crate::receive::tee::TeeFacts;
use crate::receive::xdp::steering::{InterfaceMode, SteeredBy};
use crate::store::endpoints::ServerStatus;
use crate::store::{EndpointsStatus, SideTable};
use crate::units::UnixNanos;

/// Reads everything. May pause for 20 ms at most, as [`crate::ledger::Ledger::snapshot`] does.
pub(super) fn json(state: &State) -> Value {
    let now = Instant::now();
    let uptime = now.saturating_duration_since(state.facts.started.0);
    let ledger = state.ledger.snapshot();
    let store = (state.store)();
    let texts = |listeners: &[SocketAddr]| -> Vec<String> {
        listeners.iter().map(ToString::to_string).collect()
    };
    json!({
        "version": state.facts.version,
        "uptime_s": rounded(uptime.as_secs_f64()),
        "ready": state.unready().is_none(),
        "receive": {
            "mode": state.facts.receive_mode,
            "interfaces": interfaces(state),
            "listeners": texts(&state.facts.listeners),
            "tcp_listeners": texts(&state.facts.tcp_listeners),
            "tee": state.tees().iter().map(tee).collect::<Vec<_>>(),
        },
        "store": {
            "kind": store.kind.name(),
            "url": store.asked_at.as_ref().map(|at| &at.url),
            "database": store.asked_at.as_ref().map(|at| &at.database),
            "user": store.asked_at.as_ref().map(|at| &at.user),
            "servers": servers(&store.endpoints),
            "failovers": store.endpoints.failovers,
            "blocks_moved_unanswered": store.endpoints.blocks_moved_unanswered,
            "rows_moved_unanswered": store.endpoints.rows_moved_unanswered,
            "engine_pid": store.engine_pid,
            "engine_restarts": store.engine_restarts,
            "ready": store.ready,
            "budget": budget(&state.ledger.store.budget.read()),
        },
        "workers": workers(state, &ledger),
        "exporters": exporters(state, now),
        "names": names(state),
        "enrich": state.enrich().as_ref().map(enrich),
        "ledger": {
            "frames": frames(&ledger),
            "counters": counters(&ledger.total),
            "dropped": dropped(&ledger),
            "store": stored(&ledger.store),
            "side": side(&ledger.store),
            "equations": equations(&ledger),
            "unaccounted": ledger.unaccounted(),
        },
    })
}

/// Exporters that the page lists, the busiest first.
const EXPORTERS_SHOWN_MAX: usize = 100;

/// What the page shows of this moment. May pause as [`json`] does.
pub(super) fn now_json(state: &State) -> Value {
    let now = Instant::now();
    let uptime = now.saturating_duration_since(state.facts.started.0);
    let ledger = state.ledger.snapshot();
    let store = (state.store)();
    let unready = state.unready();
    let mut known = state.shared.exporters();
    let readings = state.readings();
    let rate = |status: &ExporterStatus| readings.flows_per_s(now, status);
    known.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    let shown = known.iter().take(EXPORTERS_SHOWN_MAX);
    let shown: Vec<Value> = shown.map(|one| exporter(&readings, now, one)).collect();
    drop(readings);
    json!({
        "version": state.facts.version,
        "now_ms": UnixNanos::now().millis(),
        "uptime_s": rounded(uptime.as_secs_f64()),
        "unready": unready,
        "rates": state.live().json(),
        "store": {
            "kind": store.kind.name(),
            "ready": store.ready,
            "servers": servers(&store.endpoints),
        },
        "exporters": {"known": known.len(), "shown": shown},
        "ledger": {
            "dropped": dropped(&ledger),
            "dropped_by_kernel": ledger.total.datagrams_dropped_by_kernel,
            "store": stored(&ledger.store),
            "equations": equations(&ledger),
            "unaccounted": ledger.unaccounted(),
        },
    })
}

/// Each of several servers; empty where there is only one.
fn servers(endpoints: &EndpointsStatus) -> Vec<Value> {
    let server = |server: &ServerStatus| {
        json!({
            "url": server.url,
            "in_use": server.in_use,
            "up": server.up,
            "failures": server.failures,
            "error": server.error,
        })
    };
    endpoints.servers.iter().map(server).collect()
}

fn interfaces(state: &State) -> Vec<Value> {
    let interface = |InterfaceMode { interface, mode }: &InterfaceMode| match mode {
        SteeredBy::AfXdp { queues, .. } => {
            json!({"name": interface, "mode": mode.name(), "queues": queues})
        }
        SteeredBy::Sockets(refused) => {
            json!({"name": interface, "mode": mode.name(), "why": refused.to_string()})
        }
    };
    state.facts.interfaces.iter().map(interface).collect()
}

fn tee(facts: &TeeFacts) -> Value {
    json!({
        "to": facts.to,
        "sent": facts.sent,
        "dropped_backlog": facts.dropped_backlog,
        "dropped_refused": facts.dropped_refused,
    })
}

/// What the XDP programs did with frames, by verdict.
fn frames(ledger: &LedgerSnapshot) -> Map<String, Value> {
    let named = Verdict::ALL.iter().zip(ledger.frames);
    named
        .map(|(verdict, frames)| (verdict.label().to_owned(), frames.into()))
        .collect()
}

fn workers(state: &State, ledger: &LedgerSnapshot) -> Vec<Value> {
    let worker = |(index, counts)| {
        let cpu = state.facts.cpus.get(index).copied().flatten();
        json!({"index": index, "cpu": cpu, "counters": counters(counts)})
    };
    ledger.workers.iter().enumerate().map(worker).collect()
}

fn exporters(state: &State, now: Instant) -> Vec<Value> {
    let exporters = state.shared.exporters();
    let readings = state.readings();
    let exporters = exporters.iter();
    exporters
        .map(|status| exporter(&readings, now, status))
        .collect()
}

fn exporter(readings: &Readings, now: Instant, status: &ExporterStatus) -> Value {
    json!({
        "source": status.source.to_string(),
        "exporter_addr": status.exporter_addr.to_string(),
        "flow_type": status.flow_type.name(),
        "observation_domain": status.observation_domain,
        "last_seen": rfc3339(status.last_seen),
        "datagrams": status.datagrams,
        "flows": status.flows,
        "flows_per_s": rounded(readings.flows_per_s(now, status)),
        "templates": status.templates,
        "sampling_rate": status.sampling_rate,
        "sampling_source": status.sampling_source.name(),
        "sequence": sequence(status),
    })
}

/// What is known beside flows; null where nothing is.
fn enrich(facts: &EnrichFacts) -> Value {
    let parts = Part::ALL.iter().map(|part| {
        let PartStatus {
            loaded,
            refused,
            is_faulty,
            memory_bytes,
        } = facts.parts.of(*part);
        let status = json!({
            "loaded": loaded,
            "refused": refused,
            "faulty": is_faulty,
            "memory_bytes": memory_bytes,
        });
        (part.name().to_owned(), status)
    });
    let named = |figures: &[Figure]| -> Map<String, Value> {
        let figures = figures.iter();
        figures
            .map(|figure| (figure.name.to_owned(), figure.value.into()))
            .collect()
    };
    json!({
        "parts": parts.collect::<Map<_, _>>(),
        "dns": named(&facts.dns.figures()),
        "snmp": named(&facts.snmp.figures()),
        "interfaces_left_out": facts.interfaces_left_out,
    })
}

/// What exporters call things by.
fn names(state: &State) -> Value {
    let Counts {
        exporters,
        interfaces,
        vrfs,
        applications,
        refused,
    } = state.shared.names.counts();
    json!({
        "exporters": exporters,
        "interfaces": interfaces,
        "vrfs": vrfs,
        "applications": applications,
        "refused": refused,
    })
}

/// What the sequence numbers of an exporter say.
fn sequence(status: &ExporterStatus) -> Value {
    let SequenceStatus { unit, next, counts } = &status.sequence;
    json!({
        "unit": next.map(|_| unit.name(status.flow_type)),
        "next": next,
        "received": counts.received,
        "lost": counts.lost,
        "reordered": counts.reordered,
        "duplicated": counts.duplicated,
        "restarts": counts.restarts,
        "agent_drops": counts.agent_drops,
    })
}

fn counters(counts: &WorkerCounts) -> Map<String, Value> {
    let named = WORKER_COUNTERS.iter().zip(counts.values());
    named
        .map(|((name, _), value)| ((*name).to_owned(), value.into()))
        .collect()
}

fn dropped(ledger: &LedgerSnapshot) -> Map<String, Value> {
    let named = DropReason::ALL.iter();
    named
        .map(|reason| (reason.label().to_owned(), ledger.dropped(*reason).into()))
        .collect()
}

fn stored(store: &StoreSnapshot) -> Value {
    let StoreSnapshot {
        flows_in_flight,
        flows_spooled,
        flows_recovered,
        flows_stored,
        blocks_encoded,
        encoded_bytes,
        compressed_bytes,
        blocks_stored,
        block_bytes,
        block_bytes_sent,
        inserts_retried,
        insert_nanos,
        blocks_spooled,
        blocks_unkept,
        spool_blocks,
        spool_bytes,
        spool_bytes_max,
        spool_files_broken,
        blocks_quarantined,
        quarantine_bytes,
        flows_lost,
        side: _,
    } = store;
    json!({
        "flows_in_flight": flows_in_flight,
        "flows_spooled": flows_spooled,
        "flows_recovered": flows_recovered,
        "flows_stored": flows_stored,
        "blocks_encoded": blocks_encoded,
        "encoded_bytes": encoded_bytes,
        "compressed_bytes": compressed_bytes,
        "blocks_stored": blocks_stored,
        "block_bytes": block_bytes,
        "block_bytes_sent": block_bytes_sent,
        "inserts_retried": inserts_retried,
        "insert_seconds": rounded(*insert_nanos as f64 / 1e9),
        "blocks_spooled": blocks_spooled,
        "blocks_unkept": blocks_unkept,
        "spool_blocks": spool_blocks,
        "spool_bytes": spool_bytes,
        "spool_bytes_max": spool_bytes_max,
        "spool_files_broken": spool_files_broken,
        "blocks_quarantined": blocks_quarantined,
        "quarantine_bytes": quarantine_bytes,
        "flows_lost": flows_lost.iter().sum::<u64>(),
    })
}

/// What the disk's budget found and dropped.
fn budget(budget: &BudgetSnapshot) -> Value {
    let BudgetSnapshot {
        expired,
        bytes_used,
        bytes_over,
        disk_free_bytes,
    } = budget;
    let groups = Group::ALL.iter().zip(expired);
    let rows = groups.map(|(group, expired)| (group.name().to_owned(), expired.rows.into()));
    json!({
        "bytes_used": bytes_used,
        "bytes_over": bytes_over,
        "disk_free_bytes": disk_free_bytes,
        "rows_expired_by_budget": rows.collect::<Map<String, Value>>(),
    })
}

/// Rows of the tables beside `flows`.
fn side(store: &StoreSnapshot) -> Map<String, Value> {
    let tables = SideTable::ALL.iter().zip(&store.side);
    let figures = tables.map(|(table, side)| {
        let SideSnapshot {
            rows_offered,
            rows_waiting,
            rows_stored,
            rows_dropped,
        } = side;
        let figures = json!({
            "rows_offered": rows_offered,
            "rows_waiting": rows_waiting,
            "rows_stored": rows_stored,
            "rows_dropped": rows_dropped.iter().sum::<u64>(),
        });
        (table.name().to_owned(), figures)
    });
    figures.collect()
}

fn equations(ledger: &LedgerSnapshot) -> Vec<Value> {
    let equations = ledger.equations();
    let equation = equations.iter().map(
        |equation| json!({"name": equation.name, "left": equation.left, "right": equation.right}),
    );
    equation.collect()
}

fn rfc3339(time: UnixNanos) -> Option<String> {
    let millis = i64::try_from(time.millis()).ok()?;
    let time = Timestamp::from_millisecond(millis).ok()?;
    Some(format!("{time:.3}"))
}

/// Milliseconds of seconds, thousandths of rates: more digits are noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
