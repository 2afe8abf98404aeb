//! Tells in the log what is being lost, while it is.
//!
//! In: the ledger, every [`LOOK_EVERY`]. Out: at most one line for each of [`KINDS`] in
//! [`TELL_EVERY`], with the sum since the line before and what to do. Owner: one task of the
//! runtime beside the workers.
//!
//! Only what an operator can mend here is told. What ClickHouse refused and what a stop left over
//! is told by the store, where it happens; that the null store discards everything is told once, at
//! the start; datagrams and sets that cannot be understood, or not yet, are for whoever sends them,
//! and everybody could fill the log with them: they are counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

use super::{DropReason, Ledger, LedgerSnapshot};

/// How often the ledger is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Pause between two lines about the same kind of loss.
pub const TELL_EVERY: Duration = Duration::from_secs(10);

/// A kind of loss that is told.
#[derive(Debug)]
struct Kind {
    cause: Cause,
    /// What is lost and why.
    what: &'static str,
    /// What the operator can do.
    remedy: &'static str,
    /// True when datagrams or flows are lost, false when it is templates, which are sent again.
    is_error: bool,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Kernel,
    /// Connections that were refused.
    Connections,
    Drop(DropReason),
    /// Rows of the tables beside `flows` that found no room.
    Side,
}

impl Cause {
    fn label(self) -> &'static str {
        match self {
            Self::Kernel => "socket_buffer",
            Self::Connections => "tcp_connections",
            Self::Side => "side_rows",
            Self::Drop(reason) => reason.label(),
        }
    }

    fn total(self, snapshot: &LedgerSnapshot) -> u64 {
        match self {
            Self::Kernel => snapshot.total.datagrams_dropped_by_kernel,
            Self::Connections => snapshot.total.tcp_connections_refused,
            Self::Drop(reason) => snapshot.dropped(reason),
            Self::Side => {
                let backlog = DropReason::StoreBacklog as usize;
                let tables = snapshot.store.side.iter();
                tables.map(|table| table.rows_dropped[backlog]).sum()
            }
        }
    }
}

/// In the order of the data path.
const KINDS: [Kind; 13] = [
    Kind {
        cause: Cause::Kernel,
        what: "the kernel drops datagrams: a socket's buffer or an AF_XDP ring is full",
        remedy: "raise receive.socket_buffer and net.core.rmem_max, receive.xdp.frames, or \
                 receive.workers",
        is_error: true,
    },
    Kind {
        cause: Cause::Connections,
        what: "TCP connections of exporters are refused: there are too many, in all or from one \
               address",
        remedy: "raise receive.tcp.connections_max (one address may have a sixteenth), or keep \
                 strangers from the port",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::FrameMalformed),
        what: "frames are dropped: their length, checksum or source address is wrong",
        remedy: "where the interface leaves checksums unfinished, as veth does, set \
                 receive.xdp.verify_checksum = false; else look for a broken link or exporter",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::ExporterNotAllowed),
        what: "datagrams are dropped: their senders are in no prefix of receive.allow",
        remedy: "add the exporter's prefix to receive.allow, or keep strangers from the port",
        is_error: false,
    },
    Kind {
        cause: Cause::Drop(DropReason::ExporterRateLimited),
        what: "datagrams are dropped: their senders send more than receive.limit lets them",
        remedy: "raise receive.limit.rate, or receive.limit.exporters for those that may send \
                 more; /status tells the rate of each exporter",
        is_error: false,
    },
    Kind {
        cause: Cause::Drop(DropReason::DatagramCut),
        what: "datagrams are dropped: they are longer than receive.datagram_max",
        remedy: "raise receive.datagram_max, or have the exporters send shorter datagrams",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::ExporterLimit),
        what: "datagrams are dropped: more exporters and domains than decode.exporters_max",
        remedy: "raise decode.exporters_max, or keep strangers from the port",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::TemplateLimit),
        what: "templates are not learned: more than decode.templates_max, or too many at once",
        remedy: "raise decode.templates_max or decode.templates_per_exporter_max",
        is_error: false,
    },
    Kind {
        cause: Cause::Drop(DropReason::StoreBacklog),
        what: "flows are dropped, no batch is empty: what marks and encodes rows has too little of \
               the processors, or ClickHouse is slow or away and there is no spool",
        remedy: "with a spool leave a processor to what is beside the workers (fewer \
                 receive.workers) or raise batch.per_worker; without one give ClickHouse more, or \
                 set store.spool.max_bytes",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::SpoolFull),
        what: "flows are dropped: ClickHouse is slower than the exporters, or away, and the spool \
               is full",
        remedy: "see that ClickHouse takes inserts; raise store.spool.max_bytes, and where 65,536 \
                 blocks wait batch.age_max too",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::SpoolFailed),
        what: "flows are dropped: ClickHouse is slower than the exporters, or away, and blocks \
               cannot be written to the spool",
        remedy: "see the line about store.spool; make room on its disk",
        is_error: true,
    },
    Kind {
        cause: Cause::Drop(DropReason::SideBacklog),
        what: "sFlow counters or discarded packets are dropped: more come than are taken on",
        remedy: "have the agents send counters less often; see whether the host is overloaded",
        is_error: true,
    },
    Kind {
        cause: Cause::Side,
        what: "rows of tables beside flows are dropped: ClickHouse is slower than they come, or \
               away",
        remedy: "see ledger.side of /status; give ClickHouse more",
        is_error: true,
    },
];

/// A line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The drop reason's label; `socket_buffer` for what the kernel dropped.
    pub reason: &'static str,
    /// Datagrams, sets or flows lost since the last line about it.
    pub count: u64,
    /// As many since the start.
    pub total: u64,
    /// What is lost and why.
    pub what: &'static str,
    /// What the operator can do.
    pub remedy: &'static str,
    /// True when datagrams or flows are lost, false when it is templates, which are sent again.
    pub is_error: bool,
}

impl Loss {
    fn log(&self) {
        let &Self {
            reason,
            count,
            total,
            what,
            remedy,
            is_error,
        } = self;
        if is_error {
            error!(reason, count, total, remedy, "{what}");
        } else {
            warn!(reason, count, total, remedy, "{what}");
        }
    }
}

/// What was told of each of [`KINDS`].
#[derive(Debug, Default)]
pub struct Losses([Told; KINDS.len()]);

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    total: u64,
    at: Option<Instant>,
}

impl Losses {
    /// What is to be told at `now`: kinds that grew since they were told last, unless that was
    /// less than [`TELL_EVERY`] ago.
    pub fn due(&mut self, snapshot: &LedgerSnapshot, now: Instant) -> Vec<Loss> {
        let mut due = Vec::new();
        for (kind, told) in KINDS.iter().zip(&mut self.0) {
            let total = kind.cause.total(snapshot);
            let too_early = told.at.is_some_and(|at| now < at + TELL_EVERY);
            if total <= told.total || too_early {
                continue;
            }
            due.push(Loss {
                reason: kind.cause.label(),
                count: total - told.total,
                total,
                what: kind.what,
                remedy: kind.remedy,
                is_error: kind.is_error,
            });
            *told = Told {
                total,
                at: Some(now),
            };
        }
        due
    }
}

/// Looks at `ledger` and logs, until the task is dropped.
pub async fn tell(ledger: Arc<Ledger>) {
    let mut losses = Losses::default();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let ledger = Arc::clone(&ledger);
        // It may be read more than once, with pauses: not on a thread of the runtime.
        let Ok(snapshot) = tokio::task::spawn_blocking(move || ledger.snapshot()).await else {
            // The runtime is ending.
            return;
        };
        for loss in losses.due(&snapshot, Instant::now()) {
            loss.log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::WorkerCounts;
    use crate::store::SideTable;

    /// The ledger of a worker that dropped so many flows for want of an empty batch.
    fn backlog(flows: u64) -> LedgerSnapshot {
        let mut counts = WorkerCounts::default();
        counts.drop_many(DropReason::StoreBacklog, flows);
        snapshot(&counts)
    }

    fn snapshot(counts: &WorkerCounts) -> LedgerSnapshot {
        let ledger = Ledger::new(1);
        ledger.worker(0).publish(counts);
        ledger.read()
    }

    fn told(losses: &[Loss]) -> Vec<(&'static str, u64)> {
        losses
            .iter()
            .map(|loss| (loss.reason, loss.count))
            .collect()
    }

    #[test]
    fn a_loss_that_lasts_is_told_at_once_and_then_once_an_interval_with_the_sum() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let mut lines = Vec::new();
        for second in 0..24 {
            let now = start + Duration::from_secs(second);
            let due = losses.due(&backlog(100 * (second + 1)), now);
            lines.extend(due.iter().map(|loss| (second, loss.count, loss.total)));
        }
        assert_eq!(lines, [(0, 100, 100), (10, 1000, 1100), (20, 1000, 2100)]);
    }

    #[test]
    fn the_rest_of_a_loss_that_ended_is_told_when_its_interval_is_over_and_then_no_more() {
        let start = Instant::now();
        let mut losses = Losses::default();
        assert_eq!(losses.due(&backlog(5), start).len(), 1);
        assert!(losses.due(&backlog(7), start + LOOK_EVERY).is_empty());
        let rest = losses.due(&backlog(7), start + TELL_EVERY);
        assert_eq!(told(&rest), [("store_backlog", 2)]);
        assert!(losses.due(&backlog(7), start + 10 * TELL_EVERY).is_empty());
    }

    #[test]
    fn nothing_lost_is_nothing_told() {
        let mut losses = Losses::default();
        let counts = WorkerCounts {
            datagrams_received: 10,
            ..WorkerCounts::default()
        };
        assert!(losses.due(&snapshot(&counts), Instant::now()).is_empty());
    }

    #[test]
    fn each_loss_that_an_operator_can_mend_is_told_with_its_own_count() {
        let mut counts = WorkerCounts {
            datagrams_dropped_by_kernel: 1,
            tcp_connections_refused: 7,
            ..WorkerCounts::default()
        };
        counts.drop_many(DropReason::FrameMalformed, 6);
        counts.drop_many(DropReason::DatagramCut, 2);
        counts.drop_many(DropReason::ExporterLimit, 3);
        counts.drop_many(DropReason::TemplateLimit, 4);
        counts.drop_many(DropReason::StoreBacklog, 5);
        counts.drop_many(DropReason::SideBacklog, 8);
        counts.drop_many(DropReason::SpoolFull, 9);
        counts.drop_many(DropReason::SpoolFailed, 10);
        let due = Losses::default().due(&snapshot(&counts), Instant::now());
        assert_eq!(
            told(&due),
            [
                ("socket_buffer", 1),
                ("tcp_connections", 7),
                ("frame_malformed", 6),
                ("datagram_cut", 2),
                ("exporter_limit", 3),
                ("template_limit", 4),
                ("store_backlog", 5),
                ("spool_full", 9),
                ("spool_failed", 10),
                ("side_backlog", 8)
            ]
        );
        let mild = due.iter().filter(|loss| !loss.is_error);
        assert_eq!(
            mild.map(|loss| loss.reason).collect::<Vec<_>>(),
            ["template_limit"]
        );
    }

    #[test]
    fn rows_beside_flows_that_found_no_room_are_told() {
        let ledger = Ledger::new(1);
        let counts = ledger.store.side(SideTable::Exporters);
        for _ in 0..3 {
            counts.offered();
        }
        counts.dropped(DropReason::StoreBacklog, 2);
        counts.dropped(DropReason::StoreNull, 1);
        let due = Losses::default().due(&ledger.read(), Instant::now());
        assert_eq!(told(&due), [("side_rows", 2)]);
    }

    #[test]
    fn what_strangers_send_and_what_the_store_tells_itself_makes_no_line() {
        let mut counts = WorkerCounts::default();
        let silent = |reason: &&DropReason| {
            let told = |kind: &Kind| kind.cause.label() == reason.label();
            !KINDS.iter().any(told)
        };
        for reason in DropReason::ALL.iter().filter(silent) {
            counts.drop_many(*reason, 9);
        }
        for reason in [
            DropReason::TemplateMissing,
            DropReason::VersionUnknown,
            DropReason::HeaderMalformed,
            DropReason::InsertRefused,
            DropReason::StoreNull,
        ] {
            assert_eq!(counts.dropped(reason), 9, "{reason:?}");
        }
        let due = Losses::default().due(&snapshot(&counts), Instant::now());
        assert_eq!(due, []);
    }
}
