//! What came in, what became of it, and whether the two agree.
//!
//! Each worker counts in a plain [`WorkerCounts`] that it owns and publishes it once a turn through
//! a sequence lock of atomics, so a reader sees one turn's figures together. The store counts in
//! [`StoreCounts`]. [`Ledger::snapshot`] adds them up and evaluates the conservation equations:
//!
//! ```text
//! datagrams_received = datagrams_decoded + sum(dropped, datagram level)
//! records_present    = records_decoded + sum(dropped, record level)
//! flows_decoded      = records_decoded - options_records - records_suppressed + reverse_rows_added
//! flows_decoded      = flows_batched + sum(dropped, flow level)
//! flows_batched + flows_recovered =
//!     flows_open + flows_in_flight + flows_spooled + flows_stored + sum(flows_lost)
//! rows_offered       = rows_waiting + rows_stored + sum(rows_dropped), beside `flows`
//! ```

mod budget;
mod frames;
pub mod losses;
mod published;
mod side;
mod store;

use std::sync::Arc;
use std::time::Duration;

use collector_ebpf::Verdict;
use crossbeam::utils::CachePadded;

pub use budget::{BudgetCounts, BudgetSnapshot, Expired};
pub use frames::FrameCounts;
use published::PublishedCounts;
pub use side::{SideCounts, SideSnapshot};
pub use store::{DropCells, Place, StoreCounts, StoreSnapshot};

/// At which of the equations' levels something is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropLevel {
    /// A whole UDP payload.
    Datagram,
    /// A set or sample of a message; the records in it cannot be counted.
    Set,
    /// One record of a set whose length says that it is there.
    Record,
    /// A decoded flow that no batch could take.
    Flow,
    /// A batched flow that was not stored.
    Lost,
}

macro_rules! drop_reasons {
    ($($(#[doc = $sentence:literal])+ $variant:ident = ($level:ident, $label:literal),)+) => {
        /// Why something was lost here. Closed: every loss has one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $sentence])+ $variant,)+ }

        impl DropReason {
            /// All reasons, in the order of the data path.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value of the metric label `reason`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// The level of the equation that the loss belongs to.
            #[must_use]
            pub const fn level(self) -> DropLevel {
                match self { $(Self::$variant => DropLevel::$level,)+ }
            }

            /// What it means, for an operator.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($sentence,)+),)+ }
            }
        }
    };
}

drop_reasons! {
    /// A frame that bypassed the kernel has a wrong length, checksum or source address.
    FrameMalformed = (Datagram, "frame_malformed"),
    /// A TCP connection brought something else than IPFIX messages, or ended within one.
    StreamMalformed = (Datagram, "stream_malformed"),
    /// The sender is in no prefix of `receive.allow`.
    ExporterNotAllowed = (Datagram, "exporter_not_allowed"),
    /// The sender sends more than `receive.limit` lets it.
    ExporterRateLimited = (Datagram, "exporter_rate_limited"),
    /// The datagram was longer than `receive.datagram_max` and the kernel cut it.
    DatagramCut = (Datagram, "datagram_cut"),
    /// The datagram is shorter than the header of the protocol that it names.
    DatagramTruncated = (Datagram, "datagram_truncated"),
    /// The first two or four bytes name no version of NetFlow, IPFIX or sFlow that is decoded.
    VersionUnknown = (Datagram, "version_unknown"),
    /// The protocol is switched off, globally or on this port.
    ProtocolDisabled = (Datagram, "protocol_disabled"),
    /// More exporters and domains than `decode.exporters_max`, or than a source's share of them.
    ExporterLimit = (Datagram, "exporter_limit"),
    /// The header contradicts the datagram (IPFIX length, sFlow address type).
    HeaderMalformed = (Datagram, "header_malformed"),
    /// A data or options set came before its template, and could not be held until that came.
    TemplateMissing = (Set, "template_missing"),
    /// A set's length is shorter than its header or longer than the message.
    SetMalformed = (Set, "set_malformed"),
    /// A set id that the specifications reserve.
    SetReserved = (Set, "set_reserved"),
    /// A template with no usable record length, too many fields or cut short.
    TemplateMalformed = (Set, "template_malformed"),
    /// More templates than `decode.templates_max`, for the exporter or in all.
    TemplateLimit = (Set, "template_limit"),
    /// An sFlow sample whose length contradicts the datagram or the records in it.
    SampleMalformed = (Set, "sample_malformed"),
    /// An sFlow sample of a kind that is not decoded.
    SampleUnknown = (Set, "sample_unknown"),
    /// No room on the way to a table beside `flows`: counters or discarded packets of sFlow.
    SideBacklog = (Set, "side_backlog"),
    /// A record that the header or the set announces but that is cut short.
    RecordTruncated = (Record, "record_truncated"),
    /// A record whose variable-length field runs past its set.
    RecordMalformed = (Record, "record_malformed"),
    /// No empty batch: the store is slower than the exporters.
    StoreBacklog = (Flow, "store_backlog"),
    /// ClickHouse was away for longer than the spool has room: `store.spool.max_bytes`, or 65,536
    /// blocks.
    SpoolFull = (Lost, "spool_full"),
    /// No room in memory, and the spool's disk did not take the block.
    SpoolFailed = (Lost, "spool_failed"),
    /// The block's file cannot be read back.
    SpoolBroken = (Lost, "spool_broken"),
    /// ClickHouse refused the block for good.
    InsertRefused = (Lost, "insert_refused"),
    /// The collector stopped before ClickHouse acknowledged the block.
    StoreStopped = (Lost, "store_stopped"),
    /// store.kind is null: discarded on purpose.
    StoreNull = (Lost, "store_null"),
}

/// Number of drop reasons.
pub const DROP_REASONS: usize = DropReason::ALL.len();

macro_rules! worker_counters {
    ($($(#[doc = $help:literal])+ $field:ident,)+) => {
        /// One worker's figures, plain integers that only the worker writes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct WorkerCounts {
            $($(#[doc = $help])+ pub $field: u64,)+
            /// Losses by [`DropReason`].
            pub dropped: [u64; DROP_REASONS],
        }

        /// Name and help of each counter, in the order of [`WorkerCounts::values`].
        pub const WORKER_COUNTERS: &[(&str, &str)] =
            &[$((stringify!($field), concat!($($help,)+)),)+];

        const WORKER_VALUES: usize = WORKER_COUNTERS.len() + DROP_REASONS;

        impl WorkerCounts {
            /// The counters in the order of [`WORKER_COUNTERS`], then the drops.
            #[must_use]
            pub fn values(&self) -> [u64; WORKER_VALUES] {
                let mut values = [0; WORKER_VALUES];
                let named = [$(self.$field,)+];
                values[..named.len()].copy_from_slice(&named);
                values[named.len()..].copy_from_slice(&self.dropped);
                values
            }

            fn from_values(values: &[u64; WORKER_VALUES]) -> Self {
                let mut fields = values.iter().copied();
                let mut next = || fields.next().expect("as many values as fields");
                let mut counts = Self::default();
                $(counts.$field = next();)+
                counts.dropped = std::array::from_fn(|_| next());
                counts
            }

            /// Adds another worker's figures.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
                for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
                    *mine += theirs;
                }
            }
        }
    };
}

worker_counters! {
    /// UDP payloads taken from the sockets, frames that should have held one, and messages by TCP,
    /// counted by the worker that decodes them.
    datagrams_received,
    /// Bytes of those payloads.
    bytes_received,
    /// TCP connections of exporters taken (IPFIX).
    tcp_connections_accepted,
    /// TCP connections closed at once: more than `receive.tcp.connections_max`, or than a source's
    /// share of them.
    tcp_connections_refused,
    /// TCP connections taken that are over.
    tcp_connections_closed,
    /// Datagrams that the kernel dropped because a socket's buffer or ring was full.
    datagrams_dropped_by_kernel,
    /// Datagrams handed to other workers to be decoded, because this one had too many.
    datagrams_lent,
    /// Datagrams decoded for other workers that had too many.
    datagrams_taken_over,
    /// Datagrams whose header was understood and whose sets were walked.
    datagrams_decoded,
    /// NetFlow v1 datagrams decoded.
    datagrams_netflow1,
    /// NetFlow v5 datagrams decoded.
    datagrams_netflow5,
    /// NetFlow v7 datagrams decoded.
    datagrams_netflow7,
    /// NetFlow v9 datagrams decoded.
    datagrams_netflow9,
    /// IPFIX messages decoded.
    datagrams_ipfix,
    /// sFlow v5 datagrams decoded.
    datagrams_sflow5,
    /// Templates and options templates learned or changed.
    templates_learned,
    /// Templates withdrawn by their exporter (RFC 7011 section 8.1).
    templates_withdrawn,
    /// Templates forgotten because their exporter, or all together, had too many: those that were
    /// used least.
    templates_evicted,
    /// Templates that were neither sent nor used for `decode.template_lifetime`.
    templates_expired,
    /// Data and options sets that came before their template and were held for it.
    sets_held,
    /// Held sets decoded when their template came, by whichever worker got it.
    sets_replayed,
    /// Held sets whose template did not come for 30 minutes or before the stop; each counts as
    /// `template_missing` as well.
    sets_given_up,
    /// Data sets walked with their template.
    sets_decoded,
    /// sFlow counter samples that became rows of `interface_counters`.
    counter_samples_decoded,
    /// sFlow counter samples with no record of a kind that is read.
    counter_samples_skipped,
    /// Records of counter samples passed over, because their kind is not read.
    counter_records_skipped,
    /// Records of flow samples passed over, because their kind is not read.
    flow_records_skipped,
    /// sFlow discarded-packet samples that became rows of `discarded_packets`.
    discard_samples_decoded,
    /// Elements that found no room in the column `extra` of their flow, and values cut there.
    extra_cut,
    /// Records that headers and set lengths say are there.
    records_present,
    /// Records decoded, options records included.
    records_decoded,
    /// Options records, which make no flow.
    options_records,
    /// Names of interfaces, VRFs and applications that options records told.
    names_told,
    /// Of those, left out because too many waited to be taken in; exporters repeat them.
    names_dropped,
    /// Data records that make no flow on purpose.
    records_suppressed,
    /// Teardowns of firewall connections whose volume updates had told: it is not counted twice.
    nsel_totals_told_before,
    /// Second rows made from the reverse direction of bidirectional records.
    reverse_rows_added,
    /// Flows that the decoder handed on.
    flows_decoded,
    /// Flows more than a day off by their exporter's clock, put to when they were received.
    clocks_corrected,
    /// Flows that entered a batch.
    flows_batched,
    /// Flows in the batch that the worker is filling.
    flows_open,
}

impl WorkerCounts {
    /// Counts one loss.
    #[inline]
    pub fn drop_one(&mut self, reason: DropReason) {
        self.drop_many(reason, 1);
    }

    /// Counts `n` losses.
    #[inline]
    pub fn drop_many(&mut self, reason: DropReason, n: u64) {
        self.dropped[reason as usize] += n;
    }

    /// Counts held sets whose template did not come.
    pub fn give_up_sets(&mut self, n: u64) {
        self.sets_given_up += n;
        self.drop_many(DropReason::TemplateMissing, n);
    }

    /// Losses for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    fn dropped_at(&self, level: DropLevel) -> u64 {
        DropReason::ALL
            .iter()
            .filter(|r| r.level() == level)
            .map(|r| self.dropped(*r))
            .sum()
    }
}

/// A worker's end of the ledger.
#[derive(Debug)]
pub struct WorkerLedger(Arc<CachePadded<PublishedCounts>>);

impl WorkerLedger {
    /// Makes this turn's figures visible. Called once a turn, by the one owner.
    #[inline]
    pub fn publish(&mut self, counts: &WorkerCounts) {
        self.0.publish(counts);
    }
}

/// All counters of one collector.
#[derive(Debug)]
pub struct Ledger {
    workers: Vec<Arc<CachePadded<PublishedCounts>>>,
    /// What the XDP programs did.
    pub frames: Arc<FrameCounts>,
    /// The store's side.
    pub store: Arc<StoreCounts>,
}

impl Ledger {
    /// A ledger for `workers` workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            frames: Arc::default(),
            store: Arc::default(),
        }
    }

    /// The end that worker `index` writes.
    ///
    /// # Panics
    /// When there is no such worker.
    #[must_use]
    pub fn worker(&self, index: usize) -> WorkerLedger {
        WorkerLedger(Arc::clone(&self.workers[index]))
    }

    /// How often each worker has published: one that stands still does not turn any more.
    #[must_use]
    pub fn turns(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.turns()).collect()
    }

    /// Reads everything and evaluates the equations. A batch between its worker and the store can
    /// make one reading disagree for an instant, so a disagreement is read again, for 20 ms at
    /// most: a real one stays.
    #[must_use]
    pub fn snapshot(&self) -> LedgerSnapshot {
        for _ in 0..20 {
            let snapshot = self.read();
            if snapshot.unaccounted() == 0 {
                return snapshot;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.read()
    }

    fn read(&self) -> LedgerSnapshot {
        let workers: Vec<_> = self
            .workers
            .iter()
            .map(|published| published.read())
            .collect();
        let mut total = WorkerCounts::default();
        for worker in &workers {
            total.add(worker);
        }
        let frames = self.frames.read();
        // The program dropped them as a worker would have: they came in, and were not wanted.
        let not_allowed = frames[Verdict::NotAllowed as usize];
        total.datagrams_received += not_allowed;
        total.drop_many(DropReason::ExporterNotAllowed, not_allowed);
        LedgerSnapshot {
            workers,
            frames,
            total,
            store: self.store.read(),
        }
    }
}

/// The ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Each worker's figures.
    pub workers: Vec<WorkerCounts>,
    /// Frames that the XDP programs saw, in the order of [`Verdict::ALL`].
    pub frames: [u64; Verdict::COUNT],
    /// The workers' sum, and what the XDP programs dropped.
    pub total: WorkerCounts,
    /// The store's figures.
    pub store: StoreSnapshot,
}

/// One conservation equation with its two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equation {
    /// The quantity that is conserved.
    pub name: &'static str,
    /// What went in.
    pub left: u64,
    /// What became of it.
    pub right: u64,
}

impl LedgerSnapshot {
    /// The equations of the module documentation.
    #[must_use]
    pub fn equations(&self) -> [Equation; 6] {
        let t = &self.total;
        let lost: u64 = self.store.flows_lost.iter().sum();
        let records_as_flows = (t.records_decoded + t.reverse_rows_added)
            .wrapping_sub(t.options_records)
            .wrapping_sub(t.records_suppressed);
        [
            Equation {
                name: "datagrams",
                left: t.datagrams_received,
                right: t.datagrams_decoded + t.dropped_at(DropLevel::Datagram),
            },
            Equation {
                name: "records",
                left: t.records_present,
                right: t.records_decoded + t.dropped_at(DropLevel::Record),
            },
            Equation {
                name: "records_as_flows",
                left: records_as_flows,
                right: t.flows_decoded,
            },
            Equation {
                name: "flows",
                left: t.flows_decoded,
                right: t.flows_batched + t.dropped_at(DropLevel::Flow),
            },
            Equation {
                name: "rows",
                left: t.flows_batched + self.store.flows_recovered,
                right: t.flows_open
                    + self.store.flows_in_flight
                    + self.store.flows_spooled
                    + self.store.flows_stored
                    + lost,
            },
            Equation {
                name: "side_rows",
                left: self.store.side.iter().map(|table| table.rows_offered).sum(),
                right: self.store.side.iter().map(SideSnapshot::rows_known).sum(),
            },
        ]
    }

    /// The sum of all disagreements; 0 when every datagram and flow is stored or counted.
    #[must_use]
    pub fn unaccounted(&self) -> u64 {
        self.equations()
            .iter()
            .map(|e| e.left.abs_diff(e.right))
            .sum()
    }

    /// Losses for `reason`, workers and store together.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.total.dropped(reason) + self.store.flows_lost[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_turn_is_read_back_whole() {
        let ledger = Ledger::new(2);
        let mut counts = WorkerCounts {
            datagrams_received: 3,
            ..WorkerCounts::default()
        };
        counts.datagrams_decoded = 1;
        counts.drop_many(DropReason::VersionUnknown, 2);
        ledger.worker(1).publish(&counts);
        let snapshot = ledger.snapshot();
        assert_eq!(snapshot.workers[0], WorkerCounts::default());
        assert_eq!(snapshot.workers[1], counts);
        assert_eq!(snapshot.unaccounted(), 0);
    }

    #[test]
    fn a_flow_that_is_neither_stored_nor_counted_is_unaccounted() {
        let ledger = Ledger::new(1);
        let counts = WorkerCounts {
            records_present: 5,
            records_decoded: 5,
            flows_decoded: 5,
            flows_batched: 5,
            ..WorkerCounts::default()
        };
        ledger.worker(0).publish(&counts);
        ledger.store.handed_over(4);
        ledger.store.stored(3);
        assert_eq!(ledger.snapshot().unaccounted(), 1);
        ledger.store.handed_over(1);
        assert_eq!(ledger.snapshot().unaccounted(), 0);
        ledger.store.lost(DropReason::StoreStopped, 2);
        assert_eq!(ledger.snapshot().unaccounted(), 0);
    }

    #[test]
    fn flows_on_the_disk_are_accounted_for_in_the_process_that_wrote_them_and_in_the_next() {
        let ledger = Ledger::new(1);
        let counts = WorkerCounts {
            records_present: 5,
            records_decoded: 5,
            flows_decoded: 5,
            flows_batched: 5,
            ..WorkerCounts::default()
        };
        ledger.worker(0).publish(&counts);
        ledger.store.handed_over(5);
        ledger.store.spooled(5);
        let before = ledger.snapshot();
        assert_eq!((before.unaccounted(), before.store.flows_in_flight), (0, 0));
        let next = Ledger::new(1);
        next.store.recovered(before.store.flows_spooled);
        assert_eq!(next.snapshot().unaccounted(), 0);
        next.store.stored_from(Place::Disk, 3);
        assert_eq!(next.snapshot().unaccounted(), 0);
        next.store
            .lost_from(Place::Disk, DropReason::SpoolBroken, 2);
        let after = next.snapshot();
        assert_eq!((after.unaccounted(), after.store.flows_spooled), (0, 0));
    }

    #[test]
    fn readers_never_see_half_a_turn() {
        let ledger = Ledger::new(1);
        let mut writer = ledger.worker(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..20_000 {
                    let mut counts = WorkerCounts {
                        datagrams_received: n,
                        ..Default::default()
                    };
                    counts.drop_many(DropReason::VersionUnknown, n);
                    writer.publish(&counts);
                }
            });
            for _ in 0..2_000 {
                let [datagrams, ..] = ledger.read().equations();
                assert_eq!(datagrams.left, datagrams.right);
            }
        });
    }
}
