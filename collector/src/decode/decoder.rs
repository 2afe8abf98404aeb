//! One datagram: which protocol, which exporter, and what became of it.

use std::sync::Arc;

use super::exporters::Domains;
use super::extra::{ExtraBuffer, Wanted};
use super::overrides::Overrides;
use super::plan::Spans;
use super::record::ExtrasBuffer;
use super::sequence::{Held, Observation};
use super::sets::{Message, TemplateLimits, Workspace};
use super::shared::{DomainKey, Shared};
use super::{Burst, BurstBuffer, FlowSink, Teaching, ipfix, netflow5, netflow9, sflow, teaching};
use crate::config::{self, Protocol};
use crate::flow::{Flow, FlowType, SamplingSource};
use crate::ledger::{DropReason, WorkerCounts};
use crate::receive::Datagram;
use crate::receive::allow::Allowed;
use crate::units::UnixNanos;

/// A worker's decoder: all state between datagrams.
#[derive(Debug)]
pub struct Decoder {
    allowed: Allowed,
    enabled: Enabled,
    limits: TemplateLimits,
    overrides: Overrides,
    domains: Domains,
    shared: Arc<Shared>,
    buffer: BurstBuffer,
    /// `decode.extra`.
    wanted: Wanted,
    /// What the flows of an sFlow datagram begin as; here, so that none is made for each.
    sflow_base: Flow,
    spans: Spans,
    extras: ExtrasBuffer,
    held: Held,
    status: StatusClock,
}

/// When the status page was told last.
#[derive(Debug, Default)]
struct StatusClock {
    /// When the latest datagram arrived.
    now: UnixNanos,
    told: UnixNanos,
    /// Something was decoded since `told`.
    is_due: bool,
    /// Something was decoded in this turn.
    is_busy: bool,
}

impl Decoder {
    /// `shared` is the same for all workers of a collector.
    #[must_use]
    pub fn new(
        config: &config::Decode,
        listeners: &[config::Listener],
        shared: Arc<Shared>,
    ) -> Self {
        let overrides = Overrides::new(&config.exporters);
        Self {
            allowed: Allowed::default(),
            enabled: Enabled::new(&config.protocols, listeners),
            limits: TemplateLimits {
                all: config.templates_max,
                per_domain: config.templates_per_exporter_max,
            },
            domains: Domains::new(
                config.exporters_max,
                config.sampling_rate_default,
                overrides.clone(),
                Arc::clone(&shared),
            ),
            overrides,
            shared,
            buffer: BurstBuffer::new(match config.extra.is_empty() {
                true => ExtraBuffer::default(),
                false => ExtraBuffer::with_room(),
            }),
            wanted: Wanted::of(&config.extra),
            sflow_base: Flow::EMPTY,
            spans: Spans::default(),
            extras: ExtrasBuffer::default(),
            held: Held::default(),
            status: StatusClock::default(),
        }
    }

    /// Takes datagrams of these senders only.
    #[must_use]
    pub fn allowing(self, allowed: Allowed) -> Self {
        Self { allowed, ..self }
    }

    /// Decodes one datagram: counts all of it in `counts`, hands its flows to `sink`.
    #[inline]
    pub fn decode(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut impl FlowSink,
    ) {
        counts.datagrams_received += 1;
        counts.bytes_received += datagram.payload.len() as u64;
        match self.dispatch(datagram, counts, sink) {
            Ok(()) => {
                counts.datagrams_decoded += 1;
                self.status.now = datagram.received;
                self.status.is_busy = true;
            }
            Err(reason) => counts.drop_one(reason),
        }
    }

    /// Once a turn: takes over what other workers learned, and tells the status page once a second.
    #[inline]
    pub fn turn(&mut self) {
        self.take_over();
        self.held.hand_in();
        let status = &mut self.status;
        status.is_due |= status.is_busy;
        // A turn without a datagram does not move this clock, and is a good moment anyway.
        let due = !status.is_busy || status.now.0.abs_diff(status.told.0) >= STATUS_EVERY_NS;
        status.is_busy = false;
        if status.is_due && due && self.domains.publish_status() {
            status.told = status.now;
            status.is_due = false;
        }
    }

    /// Takes over what other workers learned; one load when that is nothing. Within a turn it is
    /// needed before a datagram that another worker received: that one may just have learned its
    /// template.
    #[inline]
    pub fn take_over(&mut self) {
        self.status.is_due |= self.domains.take_over();
    }

    /// What decoding `datagram` may teach. Of an exporter without a place, and of what cannot be
    /// decoded, [`Teaching::Something`]: it is for the worker that received it.
    #[must_use]
    pub fn teaching(&self, datagram: &Datagram<'_>) -> Teaching {
        self.known_teaching(datagram).unwrap_or(Teaching::Something)
    }

    fn known_teaching(&self, datagram: &Datagram<'_>) -> Option<Teaching> {
        let payload = datagram.payload;
        let learned = |flow_type, observation_domain| {
            let key = self.key(datagram, flow_type, observation_domain);
            self.domains.learned(&key)
        };
        let received_ms = datagram.received.millis();
        let (message, learned) = match protocol(payload).ok().filter(|_| !datagram.cut)? {
            Protocol::Netflow5 => {
                let engine = netflow5::header(payload).ok()?.engine;
                return learned(FlowType::Netflow5, engine).map(|_| Teaching::Nothing);
            }
            Protocol::Sflow5 => {
                let (header, _) = sflow::header(payload).ok()?;
                return learned(FlowType::Sflow5, header.sub_agent).map(|_| Teaching::Nothing);
            }
            Protocol::Netflow9 => {
                let (source_id, message) = netflow9::header(payload, received_ms).ok()?;
                (message, learned(FlowType::Netflow9, source_id)?)
            }
            Protocol::Ipfix => {
                let (domain, message) = ipfix::header(payload, 0, received_ms).ok()?;
                if ipfix::continues(payload, message.bytes.len()) {
                    return None;
                }
                (message, learned(FlowType::Ipfix, domain)?)
            }
        };
        Some(teaching::of_sets(&message, learned))
    }

    fn dispatch<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        if !self.allowed.contains(datagram.source) {
            return Err(DropReason::ExporterNotAllowed);
        }
        if datagram.cut {
            return Err(DropReason::DatagramCut);
        }
        let protocol = protocol(datagram.payload)?;
        if !self.enabled.allows(protocol, datagram.local_port) {
            return Err(DropReason::ProtocolDisabled);
        }
        match protocol {
            Protocol::Netflow5 => self.netflow5(datagram, counts, sink),
            Protocol::Netflow9 => self.netflow9(datagram, counts, sink),
            Protocol::Ipfix => self.ipfix(datagram, counts, sink),
            Protocol::Sflow5 => self.sflow5(datagram, counts, sink),
        }
    }

    fn netflow5<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let header = netflow5::header(datagram.payload)?;
        let key = self.key(datagram, FlowType::Netflow5, header.engine);
        let domain = self.domains.get(key, datagram.received);
        let domain = domain.ok_or(DropReason::ExporterLimit)?;
        let flows_before = counts.flows_decoded;
        domain.begin(datagram.received, header.engine);
        let mut burst = Burst::new(&mut self.buffer, sink).ending(domain.flows_end_ms());
        netflow5::decode(&header, domain, counts, &mut burst);
        burst.flush();
        let observation = Observation {
            sequence: header.sequence,
            records: Some(u32::from(header.count)),
            uptime_ms: header.clock.uptime_ms,
            source_port: datagram.source_port,
            received: datagram.received,
        };
        domain.follow(&observation, &mut self.held);
        domain.finish(counts.flows_decoded - flows_before, &self.shared);
        counts.datagrams_netflow5 += 1;
        Ok(())
    }

    fn netflow9<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let received_ms = datagram.received.millis();
        let (source_id, message) = netflow9::header(datagram.payload, received_ms)?;
        let domain = (FlowType::Netflow9, source_id);
        self.messages(domain, datagram, counts, sink, |_, work| {
            work.decode(&message);
        })?;
        counts.datagrams_netflow9 += 1;
        Ok(())
    }

    fn ipfix<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let payload = datagram.payload;
        let received_ms = datagram.received.millis();
        let (first_domain, first) = ipfix::header(payload, 0, received_ms)?;
        let domain = (FlowType::Ipfix, first_domain);
        self.messages(domain, datagram, counts, sink, |payload, work| {
            let mut message = first;
            loop {
                work.decode(&message);
                let end = message.bytes.len();
                if !ipfix::continues(payload, end) {
                    break;
                }
                // A further message is taken when it is whole and of the same domain.
                match ipfix::header(payload, end, received_ms) {
                    Ok((domain, next)) if domain == first_domain => message = next,
                    _ => break,
                }
            }
            trailing(&message, payload, work.counts);
        })?;
        counts.datagrams_ipfix += 1;
        Ok(())
    }

    fn sflow5<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let (header, samples) = sflow::header(datagram.payload)?;
        let key = self.key(datagram, FlowType::Sflow5, header.sub_agent);
        let domain = self.domains.get(key, datagram.received);
        let domain = domain.ok_or(DropReason::ExporterLimit)?;
        let flows_before = counts.flows_decoded;
        domain.begin(datagram.received, header.sub_agent);
        let base = &mut self.sflow_base;
        base.begin(domain.base());
        base.flow_end_ms = datagram.received.millis();
        let mut burst = Burst::new(&mut self.buffer, sink);
        let rate = sflow::decode(&header, samples, base, counts, &mut burst);
        burst.flush();
        let rate = (rate > 0).then_some((rate, SamplingSource::Header));
        let agent = header.agent;
        let agent = (!agent.to_ip().is_unspecified()).then_some(agent);
        domain.observe(agent, rate);
        let observation = Observation {
            sequence: header.sequence,
            records: None,
            uptime_ms: (header.uptime_ms != 0).then_some(header.uptime_ms),
            source_port: datagram.source_port,
            received: datagram.received,
        };
        domain.follow(&observation, &mut self.held);
        domain.finish(counts.flows_decoded - flows_before, &self.shared);
        counts.datagrams_sflow5 += 1;
        Ok(())
    }

    /// Under what the state of an exporter and domain is kept.
    #[inline(always)]
    fn key(&self, datagram: &Datagram<'_>, flow_type: FlowType, domain: u32) -> DomainKey {
        DomainKey {
            source: datagram.source,
            flow_type,
            observation_domain: self.overrides.scope(datagram.source, domain),
        }
    }

    /// Looks the exporter up, lets `decode` work on the message or messages, and concludes.
    #[inline(always)]
    fn messages<S: FlowSink>(
        &mut self,
        (flow_type, observation_domain): (FlowType, u32),
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
        decode: impl FnOnce(&[u8], &mut Workspace<'_, '_, S>),
    ) -> Result<(), DropReason> {
        let key = self.key(datagram, flow_type, observation_domain);
        let domain = self.domains.get(key, datagram.received);
        let domain = domain.ok_or(DropReason::ExporterLimit)?;
        let flows_before = counts.flows_decoded;
        domain.begin(datagram.received, observation_domain);
        let mut burst = Burst::new(&mut self.buffer, sink).ending(domain.flows_end_ms());
        let mut work = Workspace {
            domain,
            spans: &mut self.spans,
            extras: &mut self.extras,
            counts,
            burst: &mut burst,
            wanted: &self.wanted,
            limits: self.limits,
            shared: &self.shared,
            held: &mut self.held,
            source_port: datagram.source_port,
            padding: 0,
        };
        decode(datagram.payload, &mut work);
        let Workspace {
            domain,
            counts,
            burst,
            ..
        } = work;
        burst.flush();
        domain.finish(counts.flows_decoded - flows_before, &self.shared);
        Ok(())
    }
}

/// Nanoseconds between two reports to the status page.
const STATUS_EVERY_NS: u64 = 1_000_000_000;

/// Counts bytes after the last message that are neither a message nor padding.
fn trailing(last: &Message<'_>, payload: &[u8], counts: &mut WorkerCounts) {
    let rest = payload.get(last.bytes.len()..).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        counts.drop_one(DropReason::SetMalformed);
    }
}

/// The protocol that the first bytes name. sFlow's version has four of them, the others' two.
#[inline]
fn protocol(payload: &[u8]) -> Result<Protocol, DropReason> {
    let [v0, v1, rest @ ..] = payload else {
        return Err(DropReason::DatagramTruncated);
    };
    match u16::from_be_bytes([*v0, *v1]) {
        netflow5::VERSION => Ok(Protocol::Netflow5),
        netflow9::VERSION => Ok(Protocol::Netflow9),
        ipfix::VERSION => Ok(Protocol::Ipfix),
        0 => match rest {
            [0, 5, ..] => Ok(Protocol::Sflow5),
            [] | [_] => Err(DropReason::DatagramTruncated),
            _ => Err(DropReason::VersionUnknown),
        },
        _ => Err(DropReason::VersionUnknown),
    }
}

/// Protocols that are switched on, globally and by port.
#[derive(Debug)]
struct Enabled {
    everywhere: u8,
    /// By port, where a listener has protocols of its own. Its list narrows the global one.
    ports: Vec<(u16, u8)>,
}

impl Enabled {
    fn new(protocols: &[Protocol], listeners: &[config::Listener]) -> Self {
        let everywhere = bits(protocols);
        let mut ports = Vec::<(u16, u8)>::new();
        for listener in listeners {
            let own = match listener.protocols.as_slice() {
                [] => everywhere,
                protocols => everywhere & bits(protocols),
            };
            // Two listeners may share a port on different addresses; the datagram does not say
            // which of them it came by.
            match ports.iter_mut().find(|(port, _)| *port == listener.port) {
                Some((_, bits)) => *bits |= own,
                None => ports.push((listener.port, own)),
            }
        }
        ports.retain(|(_, bits)| *bits != everywhere);
        Self { everywhere, ports }
    }

    #[inline]
    fn allows(&self, protocol: Protocol, local_port: u16) -> bool {
        let own = self.ports.iter().find(|(port, _)| *port == local_port);
        own.map_or(self.everywhere, |(_, bits)| *bits) & bit(protocol) != 0
    }
}

const fn bit(protocol: Protocol) -> u8 {
    1 << protocol as u8
}

fn bits(protocols: &[Protocol]) -> u8 {
    protocols.iter().fold(0, |bits, p| bits | bit(*p))
}
