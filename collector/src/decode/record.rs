//! From the value of one field to the flow, and what is left to do when all fields are stored.

use super::BURST_FLOWS;
use super::fields::{Section, Target};
use super::packet::Link;
use super::sampling::RateFields;
use crate::config::Tunnels;
use crate::flow::{Address, Detail, DetailFields, Direction, Flow, Frame, MPLS_LABELS_MAX};

/// The exporter's clocks as the message header tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// When the message was sent, milliseconds since the epoch.
    pub export_ms: u64,
    /// The exporter's uptime then, if it says so.
    pub uptime_ms: Option<u32>,
}

impl Clock {
    /// A moment given as uptime, in milliseconds since the epoch; 0 when the exporter's own uptime
    /// is unknown. Uptimes wrap after 49.7 days, so the difference is taken modulo 2^32; some
    /// exporters stamp a little ahead of their header.
    #[inline]
    #[must_use]
    pub fn at_uptime(&self, value: u32) -> u64 {
        let Some(uptime_ms) = self.uptime_ms else {
            return 0;
        };
        let age = uptime_ms.wrapping_sub(value).cast_signed();
        // Export times have at most 42 bits.
        let at_ms = self.export_ms.cast_signed() - i64::from(age);
        at_ms.max(0).cast_unsigned()
    }

    /// A clock for exporters that send uptimes but not their own: the last packet, at uptime
    /// `last`, is taken to be as old as the message, so durations stay right.
    #[inline]
    #[must_use]
    pub fn or_uptime(self, last: u32) -> Self {
        Self {
            uptime_ms: self.uptime_ms.or(Some(last)),
            ..self
        }
    }

    fn before_export(&self, micros: u64) -> u64 {
        self.export_ms.saturating_sub(micros / 1000)
    }
}

/// What a record says beside the fields of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extras {
    /// IE 48 or 302: who sampled.
    pub sampler: Option<u64>,
    /// What it says of the sampling rate.
    pub rate: RateFields,
    /// IE 160, milliseconds since the epoch; 0 is unknown.
    pub boot_ms: u64,
    /// IE 148 of events of a firewall.
    pub flow_id: u64,
    duration_ms: u64,
    reverse_bytes: u64,
    reverse_packets: u64,
    reverse_tcp_flags: Option<u16>,
    reverse_tos: Option<u8>,
}

/// A record that says nothing more.
pub const NO_EXTRAS: Extras = Extras {
    sampler: None,
    rate: RateFields {
        interval: 0,
        random_interval: 0,
        packet_interval: 0,
        packet_space: None,
        size: 0,
        population: 0,
    },
    boot_ms: 0,
    flow_id: 0,
    duration_ms: 0,
    reverse_bytes: 0,
    reverse_packets: 0,
    reverse_tcp_flags: None,
    reverse_tos: None,
};

impl Extras {
    /// Sets what is not known to what `found` says of the packets of the way back.
    pub fn fill_unknown(&mut self, found: &Self) {
        self.reverse_tcp_flags = self.reverse_tcp_flags.or(found.reverse_tcp_flags);
        self.reverse_tos = self.reverse_tos.or(found.reverse_tos);
    }
}

/// Room for the extras of a burst; made once a worker.
#[derive(Debug)]
pub struct ExtrasBuffer(pub Box<[Extras; BURST_FLOWS]>);

impl Default for ExtrasBuffer {
    fn default() -> Self {
        Self(Box::new([NO_EXTRAS; BURST_FLOWS]))
    }
}

/// A field of a record, read when it is asked for.
pub trait Field {
    /// As a number: the low 64 bits.
    fn number(&self) -> u64;
    /// Four bytes as an IPv4 address.
    fn v4(&self) -> Address;
    /// Sixteen bytes as an IPv6 address.
    fn v6(&self) -> Address;
    /// The byte before the eight that a number can have.
    fn ninth(&self) -> u8;
    /// Bytes behind the first, if it is an application id; `of_template` where the template alone
    /// says how long it is.
    fn selector_bytes(&self, of_template: u8) -> u8;
}

/// The records that one operation works on.
pub trait Records {
    /// The field of each record.
    type Field<'f>: Field;

    /// Calls `store` with each record's field and the flow that it fills.
    fn each_flow(self, store: impl FnMut(Self::Field<'_>, &mut Flow));

    /// Calls `store` with each record's field and the extras that it fills.
    fn each_extras(self, store: impl FnMut(Self::Field<'_>, &mut Extras));
}

/// Stores the fields of `records` where `target` says. The choice is made once for all of them.
#[inline(always)]
#[allow(clippy::too_many_lines, reason = "one arm a target, most of one line")]
pub fn store(target: Target, index: u8, clock: &Clock, records: impl Records) {
    use Target as T;
    macro_rules! flow {
        (|$field:ident, $flow:ident| $store:expr) => {
            records.each_flow(|$field, $flow| {
                $store;
            })
        };
    }
    macro_rules! extra {
        (|$field:ident, $extras:ident| $store:expr) => {
            records.each_extras(|$field, $extras| {
                $store;
            })
        };
    }
    match target {
        T::SrcAddrV4 => flow!(|f, flow| flow.src_addr = f.v4()),
        T::SrcAddrV6 => flow!(|f, flow| flow.src_addr = f.v6()),
        T::DstAddrV4 => flow!(|f, flow| flow.dst_addr = f.v4()),
        T::DstAddrV6 => flow!(|f, flow| flow.dst_addr = f.v6()),
        T::NextHopV4 => flow!(|f, flow| flow.next_hop = f.v4()),
        T::NextHopV6 => flow!(|f, flow| flow.next_hop = f.v6()),
        T::BgpNextHopV4 => flow!(|f, flow| flow.detail.bgp_next_hop = f.v4()),
        T::BgpNextHopV6 => flow!(|f, flow| flow.detail.bgp_next_hop = f.v6()),
        T::SrcAddrNatV4 => flow!(|f, flow| flow.detail.src_addr_nat = f.v4()),
        T::SrcAddrNatV6 => flow!(|f, flow| flow.detail.src_addr_nat = f.v6()),
        T::DstAddrNatV4 => flow!(|f, flow| flow.detail.dst_addr_nat = f.v4()),
        T::DstAddrNatV6 => flow!(|f, flow| flow.detail.dst_addr_nat = f.v6()),
        T::ExporterAddrV4 => flow!(|f, flow| exporter_addr(flow, f.v4())),
        T::ExporterAddrV6 => flow!(|f, flow| exporter_addr(flow, f.v6())),
        T::Bytes => flow!(|f, flow| flow.raw_bytes = f.number()),
        T::Packets => flow!(|f, flow| flow.raw_packets = f.number()),
        T::StartSeconds => flow!(|f, flow| flow.flow_start_ms = f.number().saturating_mul(1000)),
        T::StartMillis => flow!(|f, flow| flow.flow_start_ms = f.number()),
        T::StartNtp => flow!(|f, flow| flow.flow_start_ms = ntp_to_ms(f.number())),
        T::StartUptime => flow!(|f, flow| flow.flow_start_ms = clock.at_uptime(f.number() as u32)),
        T::StartDelta => flow!(|f, flow| flow.flow_start_ms = clock.before_export(f.number())),
        T::EndSeconds => flow!(|f, flow| flow.flow_end_ms = f.number().saturating_mul(1000)),
        T::EndMillis => flow!(|f, flow| flow.flow_end_ms = f.number()),
        T::EndNtp => flow!(|f, flow| flow.flow_end_ms = ntp_to_ms(f.number())),
        T::EndUptime => flow!(|f, flow| flow.flow_end_ms = clock.at_uptime(f.number() as u32)),
        T::EndDelta => flow!(|f, flow| flow.flow_end_ms = clock.before_export(f.number())),
        T::ObservedSeconds => flow!(|f, flow| observed(flow, f.number().saturating_mul(1000))),
        T::ObservedMillis => flow!(|f, flow| observed(flow, f.number())),
        T::ObservedNtp => flow!(|f, flow| observed(flow, ntp_to_ms(f.number()))),
        T::SrcMac => flow!(|f, flow| flow.detail.frame_mut().src_mac = f.number()),
        T::DstMac => flow!(|f, flow| flow.detail.frame_mut().dst_mac = f.number()),
        T::InIf => flow!(|f, flow| flow.in_if = f.number() as u32),
        T::OutIf => flow!(|f, flow| flow.out_if = f.number() as u32),
        T::SrcAs => flow!(|f, flow| flow.src_as = f.number() as u32),
        T::DstAs => flow!(|f, flow| flow.dst_as = f.number() as u32),
        T::IngressVrf => flow!(|f, flow| flow.detail.ingress_vrf = f.number() as u32),
        T::EgressVrf => flow!(|f, flow| flow.detail.egress_vrf = f.number() as u32),
        T::FlowLabel => flow!(|f, flow| flow.detail.frame_mut().flow_label = f.number() as u32),
        T::FragmentId => flow!(|f, flow| flow.detail.frame_mut().fragment_id = f.number() as u32),
        T::MplsLabel => flow!(|f, flow| mpls_label(flow, index, f.number() as u32)),
        T::SrcPort => flow!(|f, flow| flow.src_port = f.number() as u16),
        T::DstPort => flow!(|f, flow| flow.dst_port = f.number() as u16),
        T::TcpFlags => flow!(|f, flow| flow.tcp_flags = f.number() as u16),
        T::TcpFlagsPart => flow!(|f, flow| flow.tcp_flags |= f.number() as u16),
        T::FragmentOffset => {
            flow!(|f, flow| flow.detail.frame_mut().fragment_offset = f.number() as u16);
        }
        T::Ethertype => flow!(|f, flow| flow.detail.frame_mut().ethertype = f.number() as u16),
        T::SrcVlan => flow!(|f, flow| flow.src_vlan = f.number() as u16),
        T::DstVlan => flow!(|f, flow| flow.dst_vlan = f.number() as u16),
        T::InnerVlan => flow!(|f, flow| flow.detail.frame_mut().inner_vlan = f.number() as u16),
        T::SrcPortNat => flow!(|f, flow| flow.detail.src_port_nat = f.number() as u16),
        T::DstPortNat => flow!(|f, flow| flow.detail.dst_port_nat = f.number() as u16),
        T::Protocol => flow!(|f, flow| flow.protocol = f.number() as u8),
        T::Tos => flow!(|f, flow| flow.tos = f.number() as u8),
        T::Dscp => flow!(|f, flow| flow.tos = (f.number() as u8) << 2),
        T::Ttl => flow!(|f, flow| flow.ttl = f.number() as u8),
        T::IcmpTypeCode => flow!(|f, flow| icmp(flow, f.number() as u16)),
        T::IcmpType => flow!(|f, flow| flow.icmp_type = f.number() as u8),
        T::IcmpCode => flow!(|f, flow| flow.icmp_code = f.number() as u8),
        T::SrcMask => flow!(|f, flow| flow.src_mask = f.number() as u8),
        T::DstMask => flow!(|f, flow| flow.dst_mask = f.number() as u8),
        T::ForwardingStatus => flow!(|f, flow| flow.forwarding_status = f.number() as u8),
        T::EndReason => flow!(|f, flow| flow.end_reason = f.number() as u8),
        T::FirewallEvent => flow!(|f, flow| flow.detail.firewall_event = f.number() as u8),
        T::NatEvent => flow!(|f, flow| flow.detail.nat_event = f.number() as u8),
        T::Direction => flow!(|f, flow| flow.direction = match f.number() {
            0 => Direction::Ingress,
            1 => Direction::Egress,
            _ => Direction::Undefined,
        }),
        T::ApplicationId => flow!(|f, flow| flow.application_id = application_id(&f, index)),
        T::BiflowDirection => flow!(|f, flow| flow.biflow_direction = f.number() as u8),
        T::SamplerId => extra!(|f, extras| extras.sampler = Some(f.number())),
        T::SamplingInterval => extra!(|f, extras| extras.rate.interval = f.number()),
        T::SamplingRandomInterval => extra!(|f, extras| extras.rate.random_interval = f.number()),
        T::SamplingPacketInterval => extra!(|f, extras| extras.rate.packet_interval = f.number()),
        T::SamplingPacketSpace => extra!(|f, extras| extras.rate.packet_space = Some(f.number())),
        T::SamplingSize => extra!(|f, extras| extras.rate.size = f.number()),
        T::SamplingPopulation => extra!(|f, extras| extras.rate.population = f.number()),
        T::DurationMillis => extra!(|f, extras| extras.duration_ms = f.number()),
        T::DurationMicros => extra!(|f, extras| extras.duration_ms = f.number() / 1000),
        T::FlowId => extra!(|f, extras| extras.flow_id = f.number()),
        T::BootMillis => extra!(|f, extras| extras.boot_ms = f.number()),
        // Read ahead of the packet that it belongs to.
        T::FrameLength => {}
        T::ReverseBytes => extra!(|f, extras| extras.reverse_bytes = f.number()),
        T::ReversePackets => extra!(|f, extras| extras.reverse_packets = f.number()),
        T::ReverseTcpFlags => extra!(|f, x| x.reverse_tcp_flags = Some(f.number() as u16)),
        T::ReverseTcpFlagsPart => extra!(|f, x| {
            let others = x.reverse_tcp_flags.unwrap_or_default();
            x.reverse_tcp_flags = Some(others | f.number() as u16);
        }),
        T::ReverseTos => extra!(|f, extras| extras.reverse_tos = Some(f.number() as u8)),
    }
}

/// True when nothing has filled yet what `target` fills: then a fallback may.
#[must_use]
pub fn is_unknown(target: Target, index: u8, flow: &Flow, extras: &Extras) -> bool {
    use Target as T;
    match target.slot() {
        T::SrcAddrV4 => flow.src_addr.is_unknown(),
        T::DstAddrV4 => flow.dst_addr.is_unknown(),
        T::NextHopV4 => flow.next_hop.is_unknown(),
        T::BgpNextHopV4 => flow.detail.bgp_next_hop.is_unknown(),
        T::SrcAddrNatV4 => flow.detail.src_addr_nat.is_unknown(),
        T::DstAddrNatV4 => flow.detail.dst_addr_nat.is_unknown(),
        // Every flow begins with its source for the exporter.
        T::ExporterAddrV4 => flow.exporter_addr == flow.exporter_source,
        T::ObservedSeconds => flow.flow_end_ms == 0,
        T::SrcMac => flow.detail.frame.src_mac == 0,
        T::DstMac => flow.detail.frame.dst_mac == 0,
        T::InIf => flow.in_if == 0,
        T::OutIf => flow.out_if == 0,
        T::MplsLabel => usize::from(index) >= usize::from(flow.detail.mpls_count),
        T::SrcVlan => flow.src_vlan == 0,
        T::DstVlan => flow.dst_vlan == 0,
        T::SrcPortNat => flow.detail.src_port_nat == 0,
        T::DstPortNat => flow.detail.dst_port_nat == 0,
        T::IcmpTypeCode => (flow.icmp_type, flow.icmp_code) == (0, 0),
        T::IcmpType => flow.icmp_type == 0,
        T::IcmpCode => flow.icmp_code == 0,
        T::SrcMask => flow.src_mask == 0,
        T::DstMask => flow.dst_mask == 0,
        T::FirewallEvent => flow.detail.firewall_event == 0,
        T::SamplerId => extras.sampler.is_none(),
        _ => false,
    }
}

/// Type and code of ICMP as IE 32, IE 139 and the destination port of older exporters pack them.
#[inline]
fn icmp(flow: &mut Flow, packed: u16) {
    [flow.icmp_type, flow.icmp_code] = packed.to_be_bytes();
}

/// ICMP's type and code out of the destination port, which stays as it was on the wire.
#[inline]
pub fn icmp_from_port(flow: &mut Flow) {
    if matches!(flow.protocol, 1 | 58) {
        icmp(flow, flow.dst_port);
    }
}

/// Start and end for records that tell only one of them, or none.
#[inline]
pub fn complete_times(flow: &mut Flow, extras: &Extras, received_ms: u64) {
    if flow.flow_end_ms == 0 {
        flow.flow_end_ms = match flow.flow_start_ms {
            0 => received_ms,
            start => start.saturating_add(extras.duration_ms),
        };
    }
    if flow.flow_start_ms == 0 {
        flow.flow_start_ms = flow.flow_end_ms.saturating_sub(extras.duration_ms);
    }
}

/// The row of the other direction, when the record counted something there.
#[must_use]
pub fn reversed(flow: &Flow, extras: &Extras) -> Option<Flow> {
    if extras.reverse_bytes == 0 && extras.reverse_packets == 0 {
        return None;
    }
    Some(Flow {
        src_addr: flow.dst_addr,
        dst_addr: flow.src_addr,
        src_port: flow.dst_port,
        dst_port: flow.src_port,
        src_mask: flow.dst_mask,
        dst_mask: flow.src_mask,
        src_as: flow.dst_as,
        dst_as: flow.src_as,
        src_vlan: flow.dst_vlan,
        dst_vlan: flow.src_vlan,
        in_if: flow.out_if,
        out_if: flow.in_if,
        // The way back has hops of its own, which the record does not tell.
        next_hop: Address::UNKNOWN,
        raw_bytes: extras.reverse_bytes,
        raw_packets: extras.reverse_packets,
        // What was seen in packets of the way there says nothing of the way back.
        tcp_flags: extras.reverse_tcp_flags.unwrap_or_default(),
        ttl: 0,
        tos: extras.reverse_tos.unwrap_or(flow.tos),
        biflow_direction: reversed_direction(flow.biflow_direction),
        detail: reversed_detail(&flow.detail),
        ..*flow
    })
}

/// RFC 5103 section 6.3: who began the way there was the destination of the way back.
const fn reversed_direction(biflow_direction: u8) -> u8 {
    match biflow_direction {
        1 => 2,
        2 => 1,
        other => other,
    }
}

fn reversed_detail(detail: &Detail) -> Detail {
    if !detail.is_written() {
        return Detail::EMPTY;
    }
    Detail::from(DetailFields {
        frame: Frame {
            src_mac: detail.frame.dst_mac,
            dst_mac: detail.frame.src_mac,
            ethertype: detail.frame.ethertype,
            inner_vlan: detail.frame.inner_vlan,
            ..Frame::EMPTY
        },
        src_addr_nat: detail.dst_addr_nat,
        dst_addr_nat: detail.src_addr_nat,
        src_port_nat: detail.dst_port_nat,
        dst_port_nat: detail.src_port_nat,
        outer_src_addr: detail.outer_dst_addr,
        outer_dst_addr: detail.outer_src_addr,
        ingress_vrf: detail.egress_vrf,
        egress_vrf: detail.ingress_vrf,
        bgp_next_hop: Address::UNKNOWN,
        mpls_count: 0,
        ..**detail
    })
}

/// What the sampled packet says of the flow.
#[cold]
pub fn packet(section: Section, bytes: &[u8], frame_len: u64, tunnels: Tunnels, flow: &mut Flow) {
    let link = match section {
        Section::Frame => Link::Ethernet,
        Section::Ip => Link::Ip,
    };
    flow.raw_packets = 1;
    let frame_len = u32::try_from(frame_len).unwrap_or(u32::MAX);
    let layers = super::packet::parse(link, bytes, frame_len, flow);
    if tunnels == Tunnels::Inner {
        super::packet::tunnel::enter(bytes, layers, flow);
    }
}

/// 0.0.0.0 and :: are no address of an exporter: it stays the one that is known otherwise.
#[inline]
fn exporter_addr(flow: &mut Flow, addr: Address) {
    if !addr.to_ip().is_unspecified() {
        flow.exporter_addr = addr;
    }
}

/// RFC 6759 section 4: one byte of engine, then the selector, of `of_template` bytes if the
/// template says that. 0 when the selector needs more than 56 bits: there is no room for it, and
/// nobody has such numbers.
#[inline(always)]
fn application_id(field: &impl Field, of_template: u8) -> u64 {
    const ENGINE_SHIFT: u32 = 56;
    let number = field.number();
    let selector_bytes = field.selector_bytes(of_template);
    let (engine, selector) = match selector_bytes {
        1..=7 => {
            let bits = 8 * u32::from(selector_bytes);
            (number >> bits, number & !(u64::MAX << bits))
        }
        8 if number >> ENGINE_SHIFT == 0 => (field.ninth().into(), number),
        _ => return 0,
    };
    engine << ENGINE_SHIFT | selector
}

#[inline]
fn observed(flow: &mut Flow, at_ms: u64) {
    flow.flow_end_ms = at_ms;
}

/// RFC 3032: 20 bits of label, 3 of class, 1 that ends the stack. All zero is an unused entry.
#[inline]
fn mpls_label(flow: &mut Flow, index: u8, entry: u32) {
    if entry == 0 {
        return;
    }
    if let Some(label) = flow.detail.mpls_labels.get_mut(usize::from(index)) {
        *label = (entry >> 4) & 0xf_ffff;
        flow.detail.mpls_count = flow.detail.mpls_count.max(index + 1);
    }
}

const _: () = assert!(MPLS_LABELS_MAX == 10, "IE 70 to 79 name ten entries");

/// Seconds from 1900, where NTP begins to count, to 1970.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

/// RFC 7011 section 6.1.9: seconds since 1900 in the upper half, their fraction in the lower.
/// Exporters that put plain micro- or nanoseconds there are told by the impossible year.
fn ntp_to_ms(value: u64) -> u64 {
    match (value >> 32).checked_sub(NTP_TO_UNIX_S) {
        Some(seconds) => seconds * 1000 + (((value & 0xffff_ffff) * 1000) >> 32),
        None if value > 100_000_000_000_000_000 => value / 1_000_000,
        None => value / 1000,
    }
}
