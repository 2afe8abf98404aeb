//! Decoders: whatever arrives is accounted for, and the same bytes make the same flows, whoever
//! decodes them and whatever came before from others.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use flowsluice::config;
use flowsluice::decode::{Decoder, ElementPattern, ExtraRows, FlowSink, Shared};
use flowsluice::flow::{Flow, MPLS_LABELS_MAX, SamplingSource};
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::receive::Datagram;

use crate::Target;
use crate::tape::{self, Frame};

/// Keeps the flows, and what they say beside their fields, each with the number of its flow.
#[derive(Debug, Default)]
pub struct Rows(pub Vec<Flow>, pub Vec<(usize, String)>);

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }

    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        assert_eq!(extra.entries().count(), flows.len(), "one for each flow");
        for number in 0..flows.len() {
            for (name, value) in extra.of(number) {
                assert!(!name.is_empty());
                let at = self.0.len() + number;
                self.1.push((at, format!("{name}: {value}")));
            }
        }
        self.flows(flows);
    }
}

/// A decoder whose every step is checked.
#[derive(Debug)]
pub struct Watched {
    /// The decoder.
    pub decoder: Decoder,
    /// Its counters.
    pub counts: WorkerCounts,
    /// All flows so far.
    pub rows: Rows,
    /// What its worker shares with others.
    pub shared: Arc<Shared>,
    limits: config::Decode,
    datagrams: u64,
    bytes: u64,
}

/// What a byte can make at most: flows of records of one byte with their reverse, or templates.
const PER_BYTE_MAX: u64 = 4;
/// What a datagram can make whatever its length: samples that its header announces (sFlow).
const PER_DATAGRAM_MAX: u64 = 8192;

impl Watched {
    /// A decoder with these limits among those that share `shared`.
    #[must_use]
    pub fn new(limits: &config::Decode, shared: &Arc<Shared>) -> Self {
        Self {
            decoder: Decoder::new(limits, &[], Arc::clone(shared)),
            counts: WorkerCounts::default(),
            rows: Rows::default(),
            shared: Arc::clone(shared),
            limits: limits.clone(),
            datagrams: 0,
            bytes: 0,
        }
    }

    /// The same for what comes by TCP.
    #[must_use]
    pub fn by_session(self) -> Self {
        let decoder = self.decoder.by_session();
        Self { decoder, ..self }
    }

    /// Decodes one datagram and a turn.
    ///
    /// # Panics
    /// When the ledger does not close, or something has no bound.
    pub fn decode(&mut self, datagram: &Datagram<'_>) {
        let before = self.rows.0.len();
        self.decoder
            .decode(datagram, &mut self.counts, &mut self.rows);
        self.decoder.turn();
        self.datagrams += 1;
        self.bytes += datagram.payload.len() as u64;
        self.check_counts();
        for flow in &self.rows.0[before..] {
            check_flow(flow);
        }
        if let Some(flow) = self.rows.0.get(before) {
            // What waited for its template arrived before.
            assert!(flow.time_received_s <= datagram.received.seconds());
            let mut settled = *flow;
            settled.settle_clock(datagram.received.millis());
        }
    }

    fn check_counts(&self) {
        let Self {
            counts,
            rows,
            shared,
            limits,
            datagrams,
            bytes,
            ..
        } = self;
        assert_eq!(unaccounted(counts), 0, "{counts:?}");
        assert_eq!(counts.datagrams_received, *datagrams);
        assert_eq!(counts.bytes_received, *bytes);
        assert_eq!(counts.flows_decoded, rows.0.len() as u64, "handed on");
        let bound = PER_BYTE_MAX * bytes + PER_DATAGRAM_MAX * datagrams;
        for value in counts.values() {
            assert!(value <= bound, "{value} of {bytes} bytes: {counts:?}");
        }
        assert!(shared.templates() <= limits.templates_max);
    }
}

/// Sum of what the ledger cannot account for, were the flows left in an open batch.
fn unaccounted(counts: &WorkerCounts) -> u64 {
    let mut counts = *counts;
    counts.flows_batched = counts.flows_decoded;
    counts.flows_open = counts.flows_decoded;
    let ledger = Ledger::new(1);
    ledger.worker(0).publish(&counts);
    ledger.snapshot().unaccounted()
}

fn check_flow(flow: &Flow) {
    assert!(usize::from(flow.detail.mpls_count) <= MPLS_LABELS_MAX);
    let is_unknown = flow.sampling_source == SamplingSource::Unknown;
    assert_eq!(is_unknown, flow.sampling_rate == 0, "{flow:?}");
    assert!(!flow.exporter_addr.is_unknown() && !flow.exporter_source.is_unknown());
}

/// Decodes a tape of one protocol, which `name_version` puts at the start of each datagram.
///
/// # Panics
/// When a property does not hold.
pub fn protocol(input: &[u8], name_version: impl Fn(&mut [u8])) {
    let mut frames = tape::frames(input);
    for frame in &mut frames {
        name_version(&mut frame.payload);
    }
    let mut limits = config::Decode::default();
    if frames.first().is_some_and(Frame::wants_extra) {
        limits.extra = vec![ElementPattern::All];
    }
    let alone = decoded(&frames, &limits, &[]);
    // What others sent before leaves nothing behind in the buffers that all exporters share.
    let after_others = decoded(&frames, &limits, &OTHERS);
    assert_rows(&alone.rows.0, &after_others.rows.0, "after others");
    assert_eq!(alone.rows.1, after_others.rows.1, "extra after others");
    assert_eq!(alone.counts, after_others.counts, "after others");
    two_workers(&frames, &limits, &alone);
}

/// Flows of every kind from a source of its own.
static OTHERS: LazyLock<Vec<Frame>> = LazyLock::new(|| {
    let targets = [
        Target::Netflow5,
        Target::Netflow9,
        Target::Ipfix,
        Target::Sflow,
    ];
    let tapes = targets.map(|target| (0..2).map(move |seed| target.fresh(seed)));
    let all = tapes.into_iter().flatten();
    all.flat_map(|tape| tape::frames(&tape)).collect()
});

/// What `frames` come to, by a decoder that decoded `before` first, which is not counted.
fn decoded(frames: &[Frame], limits: &config::Decode, before: &[Frame]) -> Watched {
    let mut watched = Watched::new(limits, &Arc::default());
    let (mut ignored, mut nothing) = (WorkerCounts::default(), Rows::default());
    tape::play(before, |_, datagram| {
        let datagram = Datagram {
            source: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
            ..*datagram
        };
        watched
            .decoder
            .decode(&datagram, &mut ignored, &mut nothing);
    });
    watched.decoder.turn();
    tape::play(frames, |_, datagram| watched.decode(datagram));
    watched
}

/// The kernel may bring an exporter's datagrams to any worker: as long as each takes over what the
/// other learned, it makes no difference.
fn two_workers(frames: &[Frame], limits: &config::Decode, alone: &Watched) {
    let shared = Arc::default();
    let mut workers = [0, 1].map(|_| Watched::new(limits, &shared));
    let mut order = Vec::new();
    tape::play(frames, |frame, datagram| {
        let of = usize::from(frame.is_for_second());
        workers[of].decode(datagram);
        workers[1 - of].decoder.turn();
        let rows = workers.each_mut().map(|worker| worker.rows.0.len());
        order.push((of, rows[of]));
    });
    let mut both = Vec::new();
    let mut taken = [0; 2];
    for (of, until) in order {
        both.extend_from_slice(&workers[of].rows.0[taken[of]..until]);
        taken[of] = until;
    }
    assert_rows(&alone.rows.0, &both, "by two workers");
    let [mut sum, second] = workers.map(|worker| worker.counts);
    sum.add(&second);
    for reason in DropReason::ALL {
        let dropped = [&alone.counts, &sum].map(|counts| counts.dropped(*reason));
        assert_eq!(dropped[0], dropped[1], "{reason:?} by two workers");
    }
    assert_eq!(alone.counts.records_decoded, sum.records_decoded);
    assert_eq!(alone.counts.templates_learned, sum.templates_learned);
}

/// # Panics
/// When they are not the same rows.
pub fn assert_rows(expected: &[Flow], rows: &[Flow], how: &str) {
    assert_eq!(expected.len(), rows.len(), "rows {how}");
    for (number, (expected, row)) in expected.iter().zip(rows).enumerate() {
        assert_eq!(expected, row, "row {number} {how}");
    }
}
