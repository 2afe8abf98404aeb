//! From the value of one field to the flow, and what is left to do when all fields are stored.

use super::fields::{Section, Target};
use super::sampling::RateFields;
use crate::flow::{Address, Direction, Flow, MPLS_LABELS_MAX};

/// The exporter's clocks as the message header tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// When the message was sent, milliseconds since the epoch.
    pub export_ms: u64,
    /// The exporter's uptime then, if it says so.
    pub uptime_ms: Option<u32>,
}

impl Clock {
    /// A moment given as uptime, in milliseconds since the epoch. Uptimes wrap after 49.7 days,
    /// so the difference is taken modulo 2^32.
    #[inline]
    #[must_use]
    pub fn at_uptime(&self, value: u32) -> u64 {
        let age = self.uptime_ms.unwrap_or(value).wrapping_sub(value);
        self.export_ms.saturating_sub(u64::from(age))
    }

    fn before_export(&self, micros: u64) -> u64 {
        self.export_ms.saturating_sub(micros / 1000)
    }
}

/// What a record says beside the fields of the flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// IE 48 or 302: who sampled.
    pub sampler: Option<u64>,
    /// What it says of the sampling rate.
    pub rate: RateFields,
    /// IE 160, milliseconds since the epoch; 0 is unknown.
    pub boot_ms: u64,
    duration_ms: u64,
    reverse_bytes: u64,
    reverse_packets: u64,
    reverse_tcp_flags: Option<u16>,
    reverse_tos: Option<u8>,
}

/// Stores `value` where `target` says. `sixteen` reads the field as an IPv6 address.
#[inline(always)]
#[allow(clippy::too_many_lines, reason = "one arm a target, most of one line")]
pub fn store(
    target: Target,
    index: u8,
    value: u64,
    sixteen: impl FnOnce() -> [u8; 16],
    clock: &Clock,
    flow: &mut Flow,
    extras: &mut Extras,
) {
    use Target as T;
    let v4 = || Address::from_v4((value as u32).to_be_bytes());
    match target {
        T::SrcAddrV4 => flow.src_addr = v4(),
        T::SrcAddrV6 => flow.src_addr = Address(sixteen()),
        T::DstAddrV4 => flow.dst_addr = v4(),
        T::DstAddrV6 => flow.dst_addr = Address(sixteen()),
        T::NextHopV4 => flow.next_hop = v4(),
        T::NextHopV6 => flow.next_hop = Address(sixteen()),
        T::BgpNextHopV4 => flow.bgp_next_hop = v4(),
        T::BgpNextHopV6 => flow.bgp_next_hop = Address(sixteen()),
        T::SrcAddrNatV4 => flow.src_addr_nat = v4(),
        T::SrcAddrNatV6 => flow.src_addr_nat = Address(sixteen()),
        T::DstAddrNatV4 => flow.dst_addr_nat = v4(),
        T::DstAddrNatV6 => flow.dst_addr_nat = Address(sixteen()),
        T::ExporterAddrV4 => flow.exporter_addr = v4(),
        T::ExporterAddrV6 => flow.exporter_addr = Address(sixteen()),
        T::Bytes => flow.raw_bytes = value,
        T::Packets => flow.raw_packets = value,
        T::StartSeconds => flow.flow_start_ms = value.saturating_mul(1000),
        T::StartMillis => flow.flow_start_ms = value,
        T::StartNtp => flow.flow_start_ms = ntp_to_ms(value),
        T::StartUptime => flow.flow_start_ms = clock.at_uptime(value as u32),
        T::StartDelta => flow.flow_start_ms = clock.before_export(value),
        T::EndSeconds => flow.flow_end_ms = value.saturating_mul(1000),
        T::EndMillis => flow.flow_end_ms = value,
        T::EndNtp => flow.flow_end_ms = ntp_to_ms(value),
        T::EndUptime => flow.flow_end_ms = clock.at_uptime(value as u32),
        T::EndDelta => flow.flow_end_ms = clock.before_export(value),
        T::ObservedSeconds => observed(flow, value.saturating_mul(1000)),
        T::ObservedMillis => observed(flow, value),
        T::ObservedNtp => observed(flow, ntp_to_ms(value)),
        T::SrcMac => flow.src_mac = value,
        T::DstMac => flow.dst_mac = value,
        T::InIf => flow.in_if = value as u32,
        T::OutIf => flow.out_if = value as u32,
        T::SrcAs => flow.src_as = value as u32,
        T::DstAs => flow.dst_as = value as u32,
        T::IngressVrf => flow.ingress_vrf = value as u32,
        T::EgressVrf => flow.egress_vrf = value as u32,
        T::FlowLabel => flow.flow_label = value as u32,
        T::FragmentId => flow.fragment_id = value as u32,
        T::MplsLabel => mpls_label(flow, index, value as u32),
        T::SrcPort => flow.src_port = value as u16,
        T::DstPort => flow.dst_port = value as u16,
        T::TcpFlags => flow.tcp_flags = value as u16,
        T::FragmentOffset => flow.fragment_offset = value as u16,
        T::Ethertype => flow.ethertype = value as u16,
        T::SrcVlan => flow.src_vlan = value as u16,
        T::DstVlan => flow.dst_vlan = value as u16,
        T::InnerVlan => flow.inner_vlan = value as u16,
        T::SrcPortNat => flow.src_port_nat = value as u16,
        T::DstPortNat => flow.dst_port_nat = value as u16,
        T::Protocol => flow.protocol = value as u8,
        T::Tos => flow.tos = value as u8,
        T::Dscp => flow.tos = (value as u8) << 2,
        T::Ttl => flow.ttl = value as u8,
        T::IcmpTypeCode => (flow.icmp_type, flow.icmp_code) = type_and_code(value as u16),
        T::IcmpType => flow.icmp_type = value as u8,
        T::IcmpCode => flow.icmp_code = value as u8,
        T::SrcMask => flow.src_mask = value as u8,
        T::DstMask => flow.dst_mask = value as u8,
        T::ForwardingStatus => flow.forwarding_status = value as u8,
        T::EndReason => flow.end_reason = value as u8,
        T::FirewallEvent => flow.firewall_event = value as u8,
        T::NatEvent => flow.nat_event = value as u8,
        T::Direction => {
            flow.direction = match value {
                0 => Direction::Ingress,
                1 => Direction::Egress,
                _ => Direction::Undefined,
            }
        }
        T::SamplerId => extras.sampler = Some(value),
        T::SamplingInterval => extras.rate.interval = value,
        T::SamplingRandomInterval => extras.rate.random_interval = value,
        T::SamplingPacketInterval => extras.rate.packet_interval = value,
        T::SamplingPacketSpace => extras.rate.packet_space = Some(value),
        T::SamplingSize => extras.rate.size = value,
        T::SamplingPopulation => extras.rate.population = value,
        T::DurationMillis => extras.duration_ms = value,
        T::DurationMicros => extras.duration_ms = value / 1000,
        T::BootMillis => extras.boot_ms = value,
        // Read ahead of the packet that it belongs to.
        T::FrameLength => {}
        T::ReverseBytes => extras.reverse_bytes = value,
        T::ReversePackets => extras.reverse_packets = value,
        T::ReverseTcpFlags => extras.reverse_tcp_flags = Some(value as u16),
        T::ReverseTos => extras.reverse_tos = Some(value as u8),
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
        T::BgpNextHopV4 => flow.bgp_next_hop.is_unknown(),
        T::SrcAddrNatV4 => flow.src_addr_nat.is_unknown(),
        T::DstAddrNatV4 => flow.dst_addr_nat.is_unknown(),
        T::ExporterAddrV4 => flow.exporter_addr.is_unknown(),
        T::ObservedSeconds => flow.flow_end_ms == 0,
        T::SrcMac => flow.src_mac == 0,
        T::DstMac => flow.dst_mac == 0,
        T::InIf => flow.in_if == 0,
        T::OutIf => flow.out_if == 0,
        T::MplsLabel => usize::from(index) >= usize::from(flow.mpls_count),
        T::SrcVlan => flow.src_vlan == 0,
        T::DstVlan => flow.dst_vlan == 0,
        T::SrcPortNat => flow.src_port_nat == 0,
        T::DstPortNat => flow.dst_port_nat == 0,
        T::IcmpTypeCode => (flow.icmp_type, flow.icmp_code) == (0, 0),
        T::IcmpType => flow.icmp_type == 0,
        T::IcmpCode => flow.icmp_code == 0,
        T::SrcMask => flow.src_mask == 0,
        T::DstMask => flow.dst_mask == 0,
        T::FirewallEvent => flow.firewall_event == 0,
        T::SamplerId => extras.sampler.is_none(),
        _ => false,
    }
}

/// Type and code of ICMP as IE 32, IE 139 and the destination port of older exporters pack them.
#[inline]
#[must_use]
pub const fn type_and_code(packed: u16) -> (u8, u8) {
    let [kind, code] = packed.to_be_bytes();
    (kind, code)
}

/// ICMP's type and code out of the destination port, which stays as it was on the wire.
#[inline]
pub fn icmp_from_port(flow: &mut Flow) {
    if matches!(flow.protocol, 1 | 58) {
        (flow.icmp_type, flow.icmp_code) = type_and_code(flow.dst_port);
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
        src_mac: flow.dst_mac,
        dst_mac: flow.src_mac,
        src_vlan: flow.dst_vlan,
        dst_vlan: flow.src_vlan,
        src_addr_nat: flow.dst_addr_nat,
        dst_addr_nat: flow.src_addr_nat,
        src_port_nat: flow.dst_port_nat,
        dst_port_nat: flow.src_port_nat,
        in_if: flow.out_if,
        out_if: flow.in_if,
        ingress_vrf: flow.egress_vrf,
        egress_vrf: flow.ingress_vrf,
        // The way back has hops of its own, which the record does not tell.
        next_hop: Address::UNKNOWN,
        bgp_next_hop: Address::UNKNOWN,
        raw_bytes: extras.reverse_bytes,
        raw_packets: extras.reverse_packets,
        tcp_flags: extras.reverse_tcp_flags.unwrap_or(flow.tcp_flags),
        tos: extras.reverse_tos.unwrap_or(flow.tos),
        ..*flow
    })
}

/// What the sampled packet says of the flow.
#[cold]
pub fn packet(section: Section, bytes: &[u8], frame_len: u64, flow: &mut Flow) {
    let _ = (section, bytes, frame_len);
    flow.raw_packets = 1;
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
    if let Some(label) = flow.mpls_labels.get_mut(usize::from(index)) {
        *label = (entry >> 4) & 0xf_ffff;
        flow.mpls_count = flow.mpls_count.max(index + 1);
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
