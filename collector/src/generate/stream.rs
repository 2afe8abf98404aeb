//! One observation domain of one exporter: its sequence number, when it announced its templates,
//! and the flows that wait for their turn.

use std::collections::VecDeque;

use super::Protocol;
use super::exporters::Exporter;
use super::totals::Sums;
use super::traffic::{FlowRecord, Traffic};
use super::wire::Wire;
use super::{Family, Numbered, Settings, ipfix, netflow5, netflow9, sflow};
use crate::units::UnixNanos;

/// UDP payload that fits an IPv4 packet of 1500 octets.
pub const PAYLOAD_MAX: usize = 1472;

/// What is the same for all streams of a run.
#[derive(Clone, Debug)]
pub struct Context {
    flows_v4: u32,
    ipv6: f64,
    announce_datagrams: u32,
    announce_ms: u64,
}

impl Context {
    /// `ipv6` is the part of the flows of those exporters that can carry it.
    pub fn new(settings: &Settings, ipv6: f64) -> Self {
        Self {
            flows_v4: settings.flows_per_datagram,
            ipv6,
            announce_datagrams: settings.announce_datagrams,
            announce_ms: settings.announce_every.as_millis() as u64,
        }
    }

    /// The kinds of datagrams that a protocol has: family of all records or any, the part of the
    /// flows that comes so, and flows in one of them.
    pub fn datagrams(&self, protocol: Protocol) -> Vec<(Option<Family>, f64, f64)> {
        let kind = |family, part| {
            let flows = f64::from(self.flows_max(protocol, Some(family)));
            (Some(family), part, flows)
        };
        let mut kinds = match protocol {
            Protocol::Netflow5 => vec![kind(Family::V4, 1.0)],
            Protocol::Sflow5 => vec![(None, 1.0, sflow::SAMPLES_MEAN)],
            // Flow caches of IPv4 and IPv6 are exported apart, as separate flow monitors do.
            Protocol::Netflow9 | Protocol::Ipfix => {
                vec![
                    kind(Family::V4, 1.0 - self.ipv6),
                    kind(Family::V6, self.ipv6),
                ]
            }
        };
        kinds.retain(|&(_, part, _)| part > 0.0);
        kinds
    }

    /// Flows of a full datagram that announces nothing.
    fn flows_max(&self, protocol: Protocol, family: Option<Family>) -> u32 {
        match (protocol, family) {
            (Protocol::Netflow5, _) => netflow5::FLOWS,
            (Protocol::Sflow5, _) => sflow::SAMPLES_MAX,
            (_, Some(Family::V6)) => self.flows_v4.min(FLOWS_V6_MAX),
            (_, _) => self.flows_v4,
        }
    }
}

/// What a datagram shall be.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Of which family the records are; any when absent.
    pub family: Option<Family>,
    /// Flows in it at most.
    pub flows_max: u32,
    /// Wall clock.
    pub now: UnixNanos,
    /// Serial number of its first record and where it stands, when records are numbered.
    pub number: Option<(Numbered, u32)>,
}

/// What the encoders need to know of the datagram besides its records.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// Who exports.
    pub exporter: &'a Exporter,
    /// Its observation domain.
    pub domain: u32,
    /// Its clock, milliseconds since the epoch.
    pub clock_ms: u64,
    /// When it booted, by its own clock.
    pub booted_ms: u64,
    /// Sequence number of the datagram, in the protocol's own unit.
    pub sequence: u32,
    /// Templates and options (sFlow: counters) are due.
    pub announce: bool,
    /// Flows in the datagram at most.
    pub flows_max: u32,
    /// Serial number of the first record and where it stands, when records are numbered.
    pub number: Option<(Numbered, u32)>,
}

impl Export<'_> {
    /// The flow as the record behind `before` others of the datagram. A flow is numbered when it is
    /// written: one that did not fit a datagram waits for the exporter's next.
    #[inline]
    pub fn numbered(&self, flow: FlowRecord, before: u64) -> FlowRecord {
        let Some((field, first)) = self.number else {
            return flow;
        };
        let number = u128::from(first.wrapping_add(before as u32));
        match field {
            Numbered::Source => FlowRecord {
                src_addr: flow.src_addr >> 32 << 32 | number,
                ..flow
            },
            Numbered::NextHop => FlowRecord {
                next_hop: flow.next_hop >> 32 << 32 | number,
                ..flow
            },
        }
    }

    /// Milliseconds since boot; wraps after 49.7 days as the field does.
    pub fn uptime_ms(&self) -> u32 {
        self.switched_ms(self.clock_ms)
    }

    /// A moment as `first switched` and `last switched` have it: milliseconds since boot.
    #[inline]
    pub fn switched_ms(&self, clock_ms: u64) -> u32 {
        clock_ms.saturating_sub(self.booted_ms) as u32
    }
}

/// What came of a datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoded {
    /// Sums of its flows; `datagrams` stays 0.
    pub sums: Sums,
    /// Options records in it.
    pub options_records: u32,
}

/// The state of one observation domain.
#[derive(Debug)]
pub struct Stream {
    exporter: usize,
    domain: u32,
    booted_ms: Option<u64>,
    sequence: u32,
    announced_ms: Option<u64>,
    datagrams_since: u32,
    samples: sflow::Samples,
    queues: [Queue; 2],
}

/// The flows of one family that wait.
#[derive(Debug, Default)]
struct Queue {
    /// The other direction of the conversation that was exported last.
    answer: Option<FlowRecord>,
    /// Flows that were exported at the active timeout and go on; the longest wait first.
    open: VecDeque<OpenFlow>,
}

#[derive(Clone, Copy, Debug)]
struct OpenFlow {
    rest: FlowRecord,
    due_ms: u64,
}

impl Stream {
    /// A domain of the exporter with this index that has sent nothing yet.
    pub fn new(exporter: usize, domain: u32) -> Self {
        Self {
            exporter,
            domain,
            booted_ms: None,
            sequence: 0,
            announced_ms: None,
            datagrams_since: 0,
            samples: sflow::Samples::default(),
            queues: [Queue::default(), Queue::default()],
        }
    }

    /// Index of its exporter.
    pub fn exporter(&self) -> usize {
        self.exporter
    }

    /// Builds its next datagram in `buffer`.
    pub fn build(
        &mut self,
        context: &Context,
        exporter: &Exporter,
        order: Order,
        traffic: &mut Traffic,
        buffer: &mut Vec<u8>,
    ) -> Sums {
        let clock_ms = exporter.clock_ms(order.now.millis());
        self.restart_if_booted(exporter.booted_ms(clock_ms));
        let export = Export {
            exporter,
            domain: self.domain,
            clock_ms,
            booted_ms: exporter.booted_ms(clock_ms),
            sequence: self.sequence,
            announce: self.is_announcement_due(context, clock_ms),
            flows_max: order
                .flows_max
                .min(context.flows_max(exporter.protocol, order.family)),
            number: order.number,
        };
        if export.announce {
            self.announced_ms = Some(clock_ms);
            self.datagrams_since = 0;
        }
        self.datagrams_since += 1;
        buffer.clear();
        let wire = &mut Wire(buffer);
        let queues = &mut self.queues;
        let mut next = || match order.family {
            Some(family) => queues[family as usize].next(exporter, family, clock_ms, traffic),
            None => {
                let family = traffic.family(context.ipv6);
                queues[family as usize].next_sample(exporter, family, clock_ms, traffic)
            }
        };
        let encoded = match exporter.protocol {
            Protocol::Netflow5 => netflow5::encode(&export, &mut next, wire),
            Protocol::Netflow9 => netflow9::encode(&export, &mut next, wire),
            Protocol::Ipfix => ipfix::encode(&export, &mut next, wire),
            Protocol::Sflow5 => sflow::encode(&export, &mut self.samples, &mut next, wire),
        };
        debug_assert!(
            wire.position() <= PAYLOAD_MAX,
            "no datagram needs fragments"
        );
        self.count(exporter.protocol, &encoded);
        Sums {
            datagrams: 1,
            ..encoded.sums
        }
    }

    fn restart_if_booted(&mut self, booted_ms: u64) {
        if self.booted_ms.is_some_and(|before| before != booted_ms) {
            *self = Self::new(self.exporter, self.domain);
        }
        self.booted_ms = Some(booted_ms);
    }

    fn is_announcement_due(&self, context: &Context, clock_ms: u64) -> bool {
        self.announced_ms.is_none_or(|announced_ms| {
            self.datagrams_since >= context.announce_datagrams
                || clock_ms >= announced_ms + context.announce_ms
        })
    }

    fn count(&mut self, protocol: Protocol, encoded: &Encoded) {
        let flows = encoded.sums.flows as u32;
        let counted = match protocol {
            Protocol::Netflow5 => flows,
            // RFC 3954 section 5.1 counts export packets, RFC 7011 section 3.1 data records.
            Protocol::Netflow9 | Protocol::Sflow5 => 1,
            Protocol::Ipfix => flows + encoded.options_records,
        };
        self.sequence = self.sequence.wrapping_add(counted);
    }
}

impl Queue {
    #[inline]
    fn next(
        &mut self,
        exporter: &Exporter,
        family: Family,
        now_ms: u64,
        traffic: &mut Traffic,
    ) -> FlowRecord {
        if let Some(open) = self.open.pop_front_if(|open| open.due_ms <= now_ms) {
            return self.cut(open.rest);
        }
        let record = self.next_sample(exporter, family, now_ms, traffic);
        if record.end_ms - record.start_ms <= ACTIVE_TIMEOUT_MS {
            return record;
        }
        // Drawn as if it were over; instead its first minute is, and the rest is still to come.
        let moved_ms = now_ms.saturating_sub(record.start_ms + ACTIVE_TIMEOUT_MS);
        self.cut(FlowRecord {
            start_ms: record.start_ms + moved_ms,
            end_ms: record.end_ms + moved_ms,
            ..record
        })
    }

    /// A packet sample has no duration to cut.
    #[inline]
    fn next_sample(
        &mut self,
        exporter: &Exporter,
        family: Family,
        now_ms: u64,
        traffic: &mut Traffic,
    ) -> FlowRecord {
        self.answer.take().unwrap_or_else(|| {
            let [request, answer] = traffic.conversation(exporter, family, now_ms);
            self.answer = Some(answer);
            request
        })
    }

    /// The part of a flow up to the active timeout; the rest waits as long as it takes.
    fn cut(&mut self, flow: FlowRecord) -> FlowRecord {
        let duration_ms = flow.end_ms - flow.start_ms;
        if duration_ms <= ACTIVE_TIMEOUT_MS || flow.packets < 2 || self.open.len() >= OPEN_MAX {
            return FlowRecord {
                end_ms: flow.start_ms + duration_ms.min(ACTIVE_TIMEOUT_MS),
                ..flow
            };
        }
        let in_time = u64::from(flow.packets) * ACTIVE_TIMEOUT_MS / duration_ms;
        let packets = (in_time as u32).clamp(1, flow.packets - 1);
        let cut_ms = flow.start_ms + ACTIVE_TIMEOUT_MS;
        self.open.push_back(OpenFlow {
            rest: FlowRecord {
                start_ms: cut_ms,
                packets: flow.packets - packets,
                ..flow
            },
            due_ms: flow.end_ms.min(cut_ms + ACTIVE_TIMEOUT_MS),
        });
        FlowRecord {
            end_ms: cut_ms,
            packets,
            ..flow
        }
    }
}

/// 15 IPv6 records of NetFlow v9 (92 bytes) or IPFIX (96 bytes) fill a datagram.
const FLOWS_V6_MAX: u32 = 15;
const ACTIVE_TIMEOUT_MS: u64 = 60_000;
/// Open flows of a domain and family; one more ends at its active timeout.
const OPEN_MAX: usize = 1024;
