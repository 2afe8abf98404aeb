//! One datagram: which protocol, which exporter, and what became of it.

use std::net::IpAddr;
use std::sync::Arc;

use super::exporters::{Domain, Domains};
use super::extra::{ExtraBuffer, Wanted};
use super::overrides::Overrides;
use super::plan::Spans;
use super::protocol::{Enabled, protocol};
use super::record::ExtrasBuffer;
use super::sequence::{Held, Observation};
use super::sets::{TemplateLimits, Workspace};
use super::shared::{AGE_EVERY_NS, Aged, DomainKey, Shared};
use super::{
    Burst, BurstBuffer, FlowSink, Teaching, ipfix, netflow1, netflow5, netflow7, netflow9, sflow,
    teaching,
};
use crate::config::{self, Protocol, Tunnels};
use crate::flow::{Flow, FlowType, SamplingSource};
use crate::ledger::{DropReason, WorkerCounts};
use crate::receive::allow::Followed;
use crate::receive::{Datagram, Session};
use crate::units::UnixNanos;

/// A worker's decoder: all state between datagrams.
#[derive(Debug)]
pub struct Decoder {
    allowed: Followed,
    enabled: Enabled,
    /// All bits where the source port names the session, none where datagrams have no sessions.
    session_mask: u16,
    limits: TemplateLimits,
    /// `decode.template_lifetime`.
    lifetime_s: u32,
    /// When this one looked for what is too old.
    aged: UnixNanos,
    has_ended: bool,
    overrides: Overrides,
    tunnels: Tunnels,
    /// `decode.extra`.
    wanted: Wanted,
    domains: Domains,
    shared: Arc<Shared>,
    buffer: BurstBuffer,
    /// What the flows of an sFlow datagram begin as; here, so that none is made for each.
    sflow_base: Flow,
    /// What sFlow agents said that they dropped.
    said: sflow::Said,
    spans: Spans,
    nested: Spans,
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
        shared.decoder_begins();
        let overrides = Overrides::new(&config.exporters);
        Self {
            allowed: Followed::default(),
            session_mask: 0,
            enabled: Enabled::new(&config.protocols, listeners),
            limits: TemplateLimits {
                all: config.templates_max,
                per_domain: config.templates_per_exporter_max,
                pending_bytes: config.pending_max.as_u64() as usize,
            },
            tunnels: config.tunnels,
            lifetime_s: config.template_lifetime.as_secs() as u32,
            aged: UnixNanos::default(),
            has_ended: false,
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
            said: sflow::Said::default(),
            spans: Spans::default(),
            nested: Spans::default(),
            extras: ExtrasBuffer::default(),
            held: Held::default(),
            status: StatusClock::default(),
        }
    }

    /// Takes datagrams of these senders only.
    #[must_use]
    pub fn allowing(self, allowed: Followed) -> Self {
        Self { allowed, ..self }
    }

    /// Whether datagrams of `source` are taken.
    #[must_use]
    pub fn allows(&self, source: IpAddr) -> bool {
        self.allowed.contains(source)
    }

    /// Takes what comes by TCP: what an exporter tells holds for its connection only.
    #[must_use]
    pub fn by_session(self) -> Self {
        Self {
            session_mask: u16::MAX,
            ..self
        }
    }

    /// Forgets what was told in a session.
    pub fn end_session(&mut self, session: &Session) {
        self.domains.end_session(session);
        self.take_over();
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
            Err(reason) => {
                counts.drop_one(reason);
                self.shared.undecodable.keep(datagram, reason);
            }
        }
    }

    /// Once a turn: takes over what other workers learned, and tells the status page once a second.
    #[inline]
    pub fn turn(&mut self) {
        self.allowed.refresh();
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

    /// Once a turn: forgets, now and then, templates and held sets that are too old.
    #[inline]
    pub fn age(&mut self, now: UnixNanos, counts: &mut WorkerCounts) {
        if now.0.abs_diff(self.aged.0) >= AGE_EVERY_NS {
            self.aged = now;
            let Aged { templates, sets } = self.shared.age(now, self.lifetime_s);
            counts.templates_expired += templates;
            counts.give_up_sets(sets);
        }
    }

    /// Nothing is decoded after this: once no other decoder goes on either, held sets are given
    /// up.
    pub fn finish(&mut self, counts: &mut WorkerCounts) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.shared.decoder_ends();
        }
        counts.give_up_sets(self.shared.give_up());
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
            Protocol::Netflow1 => {
                netflow1::header(payload).ok()?;
                return learned(FlowType::Netflow1, 0).map(|_| Teaching::Nothing);
            }
            Protocol::Netflow7 => {
                netflow7::header(payload).ok()?;
                return learned(FlowType::Netflow7, 0).map(|_| Teaching::Nothing);
            }
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
            Protocol::Netflow1 => self.netflow1(datagram, counts, sink),
            Protocol::Netflow5 => self.netflow5(datagram, counts, sink),
            Protocol::Netflow7 => self.netflow7(datagram, counts, sink),
            Protocol::Netflow9 => self.netflow9(datagram, counts, sink),
            Protocol::Ipfix => self.ipfix(datagram, counts, sink),
            Protocol::Sflow5 => self.sflow5(datagram, counts, sink),
        }
    }

    fn netflow1<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let header = netflow1::header(datagram.payload)?;
        let domain = (FlowType::Netflow1, &header);
        self.fixed(domain, datagram, counts, sink, netflow1::decode)?;
        counts.datagrams_netflow1 += 1;
        Ok(())
    }

    fn netflow5<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let header = netflow5::header(datagram.payload)?;
        let domain = (FlowType::Netflow5, &header);
        self.fixed(domain, datagram, counts, sink, netflow5::decode)?;
        counts.datagrams_netflow5 += 1;
        Ok(())
    }

    fn netflow7<S: FlowSink>(
        &mut self,
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
    ) -> Result<(), DropReason> {
        let header = netflow7::header(datagram.payload)?;
        let domain = (FlowType::Netflow7, &header);
        self.fixed(domain, datagram, counts, sink, netflow7::decode)?;
        counts.datagrams_netflow7 += 1;
        Ok(())
    }

    /// Looks the exporter up, lets `decode` work on records of a fixed layout, and concludes.
    #[inline(always)]
    fn fixed<S: FlowSink, D>(
        &mut self,
        (flow_type, header): (FlowType, &netflow5::Header<'_>),
        datagram: &Datagram<'_>,
        counts: &mut WorkerCounts,
        sink: &mut S,
        decode: D,
    ) -> Result<(), DropReason>
    where
        D: FnOnce(&netflow5::Header<'_>, &mut Domain, &mut WorkerCounts, &mut Burst<'_, S>),
    {
        let key = self.key(datagram, flow_type, header.engine);
        let domain = self.domains.get(key, datagram.received);
        let domain = domain.ok_or(DropReason::ExporterLimit)?;
        let flows_before = counts.flows_decoded;
        domain.begin(datagram.received, header.engine);
        let mut burst = Burst::new(&mut self.buffer, sink).ending(domain.flows_end_ms());
        decode(header, domain, counts, &mut burst);
        burst.flush();
        if let Some(sequence) = header.sequence {
            let observation = Observation {
                sequence,
                records: Some(u32::from(header.count)),
                uptime_ms: header.clock.uptime_ms,
                source_port: datagram.source_port,
                received: datagram.received,
            };
            domain.follow(&observation, &mut self.held);
        }
        domain.finish(counts.flows_decoded - flows_before, &self.shared);
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
            ipfix::trailing(&message, payload, work.counts);
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
        let context = sflow::Context {
            base,
            tunnels: self.tunnels,
            beside: self.shared.sflow(),
            agent: domain.agent(&header, &mut self.said),
        };
        let rate = sflow::decode(&header, samples, context, counts, &mut burst);
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
            session: datagram.source_port & self.session_mask,
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
            nested: &mut self.nested,
            extras: &mut self.extras,
            counts,
            burst: &mut burst,
            wanted: &self.wanted,
            limits: self.limits,
            tunnels: self.tunnels,
            shared: &self.shared,
            held: &mut self.held,
            source_port: datagram.source_port,
            padding: 0,
        };
        decode(datagram.payload, &mut work);
        work.conclude();
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
