//! One decoded flow.
//!
//! [`Flow`] is `Copy` and owns no heap: the decoder fills a burst of them in place, the batch turns
//! the burst into columns. Names and meanings are those of the `flows` table.

mod detail;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use detail::{Detail, DetailFields, Frame, MPLS_LABELS_MAX, TunnelType};

use serde::Deserialize;

/// An IPv6 address in network byte order; an IPv4 address is held v4-mapped (RFC 4291 §2.5.5.2).
/// All zero (`::`) means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// Unknown, `::`.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// From the four bytes of an IPv4 address in network order.
    #[must_use]
    #[inline]
    pub const fn from_v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// Makes one IPv4 address another.
    #[inline]
    pub const fn set_v4(&mut self, [a, b, c, d]: [u8; 4]) {
        let [.., w, x, y, z] = &mut self.0;
        (*w, *x, *y, *z) = (a, b, c, d);
    }

    /// True for `::`.
    #[must_use]
    #[inline]
    pub fn is_unknown(self) -> bool {
        self.0 == [0; 16]
    }

    /// True for a group of receivers (RFC 5771, RFC 4291 section 2.7).
    #[must_use]
    #[inline]
    pub fn is_multicast(self) -> bool {
        let bits = u128::from_be_bytes(self.0);
        bits >> 120 == 0xff || bits >> 28 == 0xf_fffe
    }

    /// The address as people write it: IPv4 as IPv4.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.0);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from(v4),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(v4: Ipv4Addr) -> Self {
        Self::from_v4(v4.octets())
    }
}

impl From<Address> for Ipv6Addr {
    fn from(address: Address) -> Self {
        address.0.into()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// The export protocol a flow came by. The discriminants are the values of the column `flow_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(i8)]
pub enum FlowType {
    /// Never stored: the value of a [`Flow`] that no decoder has touched.
    #[default]
    Unknown = 0,
    /// NetFlow version 1.
    Netflow1 = 1,
    /// NetFlow version 5.
    Netflow5 = 5,
    /// NetFlow version 7.
    Netflow7 = 7,
    /// NetFlow version 9 (RFC 3954).
    Netflow9 = 9,
    /// IPFIX (RFC 7011).
    Ipfix = 10,
    /// sFlow version 5.
    Sflow5 = 15,
}

/// Where the sampling rate of a row came from; column `sampling_source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum SamplingSource {
    /// Nobody said; the flow counts as 1.
    #[default]
    Unknown = 0,
    /// The datagram's header (NetFlow v5) or the sample (sFlow).
    Header = 1,
    /// A field of the flow record itself.
    Record = 2,
    /// An options record of the exporter.
    Options = 3,
    /// The operator's configuration for this exporter.
    Static = 4,
    /// The operator's default.
    Default = 5,
}

/// Direction of the flow at the observation point (IE 61); column `direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Direction {
    /// Not reported.
    #[default]
    Undefined = 0,
    /// Entering the exporter.
    Ingress = 1,
    /// Leaving the exporter.
    Egress = 2,
}

/// A flow that ends further from its receive time than this has an exporter with a wrong clock.
pub const CLOCK_OFFSET_MAX_MS: u64 = 24 * 3600 * 1000;

/// One flow as decoded, before scaling. Unknown is zero throughout.
///
/// What most records tell comes first and is set anew for every flow; the [`Detail`] is left alone
/// until a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// Source of the flow, IE 8 / 27.
    pub src_addr: Address,
    /// Destination of the flow, IE 12 / 28.
    pub dst_addr: Address,
    /// Next hop, IE 15 / 62.
    pub next_hop: Address,
    /// The exporter's own address: the UDP source, or what its options or the sFlow agent say.
    pub exporter_addr: Address,
    /// The UDP source address, always.
    pub exporter_source: Address,
    /// Octets of layer 3 as reported, before scaling.
    pub raw_bytes: u64,
    /// Packets as reported, before scaling.
    pub raw_packets: u64,
    /// First packet, milliseconds since the epoch; 0 is unknown.
    pub flow_start_ms: u64,
    /// Last packet, milliseconds since the epoch; 0 is unknown.
    pub flow_end_ms: u64,
    /// What the exporter takes for the application, IE 95 (RFC 6759): the engine in the upper 8
    /// bits, the selector below; 0 is unknown. Not in the detail: who sends it sends it always.
    pub application_id: u64,
    /// When the datagram arrived, seconds since the epoch (the collector's clock).
    pub time_received_s: u32,
    /// Source id (v9), domain id (IPFIX), sub-agent (sFlow) or engine type and id (v5).
    pub observation_domain: u32,
    /// Packets on the wire for one that was seen; 0 is unknown.
    pub sampling_rate: u32,
    /// SNMP ifIndex where the flow came in.
    pub in_if: u32,
    /// SNMP ifIndex where the flow went out.
    pub out_if: u32,
    /// Source autonomous system.
    pub src_as: u32,
    /// Destination autonomous system.
    pub dst_as: u32,
    /// Source transport port.
    pub src_port: u16,
    /// Destination transport port.
    pub dst_port: u16,
    /// Union of the TCP control bits, IE 6.
    pub tcp_flags: u16,
    /// VLAN on the way in, IE 58 (or the frame's outer tag).
    pub src_vlan: u16,
    /// VLAN on the way out, IE 59.
    pub dst_vlan: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// IPv4 type of service or IPv6 traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// Prefix length of the source.
    pub src_mask: u8,
    /// Prefix length of the destination.
    pub dst_mask: u8,
    /// Forwarding status, IE 89.
    pub forwarding_status: u8,
    /// Flow end reason, IE 136.
    pub end_reason: u8,
    /// Export protocol.
    pub flow_type: FlowType,
    /// Where `sampling_rate` came from.
    pub sampling_source: SamplingSource,
    /// Direction at the observation point.
    pub direction: Direction,
    /// Who began the conversation, IE 239: 1 the source, 2 the destination; 0 and 3 do not say.
    pub biflow_direction: u8,
    /// What only some records tell.
    pub detail: Detail,
}

impl Flow {
    /// A flow of which nothing is known.
    pub const EMPTY: Self = Self {
        src_addr: Address::UNKNOWN,
        dst_addr: Address::UNKNOWN,
        next_hop: Address::UNKNOWN,
        exporter_addr: Address::UNKNOWN,
        exporter_source: Address::UNKNOWN,
        raw_bytes: 0,
        raw_packets: 0,
        flow_start_ms: 0,
        flow_end_ms: 0,
        application_id: 0,
        time_received_s: 0,
        observation_domain: 0,
        sampling_rate: 0,
        in_if: 0,
        out_if: 0,
        src_as: 0,
        dst_as: 0,
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
        src_vlan: 0,
        dst_vlan: 0,
        protocol: 0,
        tos: 0,
        ttl: 0,
        icmp_type: 0,
        icmp_code: 0,
        src_mask: 0,
        dst_mask: 0,
        forwarding_status: 0,
        end_reason: 0,
        flow_type: FlowType::Unknown,
        sampling_source: SamplingSource::Unknown,
        direction: Direction::Undefined,
        biflow_direction: 0,
        detail: Detail::EMPTY,
    };

    /// Begins anew as `base`. Costs little when neither has a detail.
    #[inline(always)]
    pub fn begin(&mut self, base: &Self) {
        self.begin_columns(base);
        self.begin_detail(base);
    }

    /// [`Flow::begin`] for many. Details after all else: calls for those that have one would keep
    /// the copying loop from holding `base` in registers.
    #[inline]
    pub fn begin_all(flows: &mut [Self], base: &Self) {
        flows.iter_mut().for_each(|flow| flow.begin_columns(base));
        flows.iter_mut().for_each(|flow| flow.begin_detail(base));
    }

    #[inline(always)]
    fn begin_columns(&mut self, base: &Self) {
        // Named one by one, so that no field can be forgotten and the detail is not copied too.
        macro_rules! copy {
            ($($field:ident),+) => {
                let Self { $($field,)+ detail: _ } = *base;
                $(self.$field = $field;)+
            };
        }
        copy!(
            src_addr,
            dst_addr,
            next_hop,
            exporter_addr,
            exporter_source,
            raw_bytes,
            raw_packets,
            flow_start_ms,
            flow_end_ms,
            application_id,
            time_received_s,
            observation_domain,
            sampling_rate,
            in_if,
            out_if,
            src_as,
            dst_as,
            src_port,
            dst_port,
            tcp_flags,
            src_vlan,
            dst_vlan,
            protocol,
            tos,
            ttl,
            icmp_type,
            icmp_code,
            src_mask,
            dst_mask,
            forwarding_status,
            end_reason,
            flow_type,
            sampling_source,
            direction,
            biflow_direction
        );
    }

    #[inline(always)]
    fn begin_detail(&mut self, base: &Self) {
        if base.detail.is_written() {
            self.detail = base.detail;
        } else {
            self.detail.clear();
        }
    }

    /// What `raw_bytes` and `raw_packets` are multiplied with: unknown counts as 1.
    #[must_use]
    #[inline]
    pub fn scale(&self) -> u64 {
        u64::from(self.sampling_rate.max(1))
    }

    /// Moves a flow whose end is more than [`CLOCK_OFFSET_MAX_MS`] away from when it was received,
    /// because its exporter's clock is wrong, to end then; true when it was moved. Its duration
    /// stays.
    #[inline]
    pub fn settle_clock(&mut self, received_ms: u64) -> bool {
        let is_wrong = self.flow_end_ms.abs_diff(received_ms) > CLOCK_OFFSET_MAX_MS;
        if is_wrong {
            self.end_at(received_ms);
        }
        is_wrong
    }

    /// Moves it to end at `end_ms`, milliseconds since the epoch; its duration stays.
    #[inline]
    pub fn end_at(&mut self, end_ms: u64) {
        let duration_ms = u64::from(self.duration_ms());
        self.flow_end_ms = end_ms;
        self.flow_start_ms = end_ms.saturating_sub(duration_ms);
    }

    /// `flow_end_ms - flow_start_ms`, 0 when either is unknown or the clock ran backwards.
    #[must_use]
    #[inline]
    pub fn duration_ms(&self) -> u32 {
        if self.flow_start_ms == 0 {
            return 0;
        }
        u32::try_from(self.flow_end_ms.saturating_sub(self.flow_start_ms)).unwrap_or(u32::MAX)
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self::EMPTY
    }
}

// Five cache lines and a half: what a burst of 64 costs in L1 is known, and grows only on purpose.
// Of flows without detail, half of them is neither read nor written.
const _: () = assert!(size_of::<Flow>() <= 352);
