//! What information elements can fill: the fields of a [`Flow`](crate::flow::Flow).
//!
//! Which one fills what stands in the data of [`super::elements`]. Several elements can fill the
//! same field; [`Element::rank`] says which one wins.

use super::lists::ListKind;

/// What one operation of a plan fills. Numbers come in as the low 64 bits of the field.
#[allow(
    missing_docs,
    reason = "each is the field of Flow or of Extras with the same name"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Target {
    SrcAddrV4,
    SrcAddrV6,
    DstAddrV4,
    DstAddrV6,
    NextHopV4,
    NextHopV6,
    BgpNextHopV4,
    BgpNextHopV6,
    SrcAddrNatV4,
    SrcAddrNatV6,
    DstAddrNatV4,
    DstAddrNatV6,
    ExporterAddrV4,
    ExporterAddrV6,
    Bytes,
    Packets,
    StartSeconds,
    StartMillis,
    StartNtp,
    StartUptime,
    StartDelta,
    EndSeconds,
    EndMillis,
    EndNtp,
    EndUptime,
    EndDelta,
    ObservedSeconds,
    ObservedMillis,
    ObservedNtp,
    SrcMac,
    DstMac,
    InIf,
    OutIf,
    SrcAs,
    DstAs,
    IngressVrf,
    EgressVrf,
    FlowLabel,
    FragmentId,
    /// Entry `index` of the label stack.
    MplsLabel,
    SrcPort,
    DstPort,
    TcpFlags,
    /// Flags of some packets of the flow.
    TcpFlagsPart,
    FragmentOffset,
    Ethertype,
    SrcVlan,
    DstVlan,
    InnerVlan,
    SrcPortNat,
    DstPortNat,
    Protocol,
    Tos,
    /// The six upper bits of the type of service.
    Dscp,
    Ttl,
    IcmpTypeCode,
    IcmpType,
    IcmpCode,
    SrcMask,
    DstMask,
    ForwardingStatus,
    EndReason,
    FirewallEvent,
    NatEvent,
    Direction,
    /// Engine and selector (RFC 6759); `index` is the bytes of the selector.
    ApplicationId,
    BiflowDirection,
    /// From here on the value goes to `Extras`, not to the flow.
    SamplerId,
    SamplingInterval,
    SamplingRandomInterval,
    SamplingPacketInterval,
    SamplingPacketSpace,
    SamplingSize,
    SamplingPopulation,
    DurationMillis,
    DurationMicros,
    /// Number of the connection, where several records tell of one.
    FlowId,
    BootMillis,
    FrameLength,
    ReverseBytes,
    ReversePackets,
    ReverseTcpFlags,
    ReverseTcpFlagsPart,
    ReverseTos,
}

/// What length a field must have to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A big-endian number of any length but zero; of longer ones the low eight bytes count.
    Number,
    /// Exactly this many bytes.
    Exactly(u16),
    /// So many bytes at least and at most, or as many as the record tells.
    Within(u16, u16),
}

impl Width {
    /// True when a field of `len` bytes is taken.
    #[must_use]
    pub const fn fits(self, len: u16) -> bool {
        match self {
            Self::Number => len > 0,
            Self::Exactly(exactly) => len == exactly,
            Self::Within(min, max) => min <= len && len <= max,
        }
    }
}

/// When an element is used although one of a better rank is in the same template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Else {
    /// Never.
    Absent,
    /// In records where what the better one filled is still unknown.
    Unknown,
}

/// One information element that fills something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// What it fills.
    pub target: Target,
    /// Entry of the label stack, or which part; 0 otherwise.
    pub index: u8,
    /// The lengths that are taken.
    pub width: Width,
    /// 0 is the best of those that fill the same field.
    pub rank: u8,
    /// Its part beside a better one.
    pub otherwise: Else,
}

impl Element {
    /// Filled by a number of any length.
    pub(super) const fn number(target: Target) -> Self {
        Self {
            target,
            index: 0,
            width: Width::Number,
            rank: 0,
            otherwise: Else::Absent,
        }
    }

    /// Filled by a field of so many bytes.
    pub(super) const fn exactly(target: Target, bytes: u16) -> Self {
        Self {
            width: Width::Exactly(bytes),
            ..Self::number(target)
        }
    }

    /// Filled by a field of `min` to `max` bytes.
    pub(super) const fn within(target: Target, min: u16, max: u16) -> Self {
        Self {
            width: Width::Within(min, max),
            ..Self::number(target)
        }
    }

    /// What a field of `len` bytes is stored with as its index.
    #[must_use]
    pub const fn index_for(self, len: u16) -> u8 {
        match self.target {
            Target::ApplicationId => selector_bytes(len),
            _ => self.index,
        }
    }

    /// Used only when none of a better rank is in the template.
    pub(super) const fn if_absent(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Used where those of a better rank left the field unknown.
    pub(super) const fn if_unknown(self, rank: u8) -> Self {
        Self {
            rank,
            otherwise: Else::Unknown,
            ..self
        }
    }

    /// Fills its field together with those of other indexes.
    pub(super) const fn part(target: Target, index: u8) -> Self {
        Self {
            index,
            ..Self::number(target)
        }
    }
}

/// Bytes of the selector in an application id of `len` bytes (RFC 6759 section 4); 0 when it has
/// none, or more than a number has.
#[must_use]
pub const fn selector_bytes(len: u16) -> u8 {
    match len {
        2..=9 => len as u8 - 1,
        _ => 0,
    }
}

/// What holds the bytes of a sampled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// IE 315: from the link layer on.
    Frame,
    /// IE 313: from the IP header on.
    Ip,
}

/// The element that carries a sampled packet, if `id` is one.
#[must_use]
pub const fn section(enterprise: u32, id: u16) -> Option<Section> {
    match (enterprise, id) {
        (0, 315) => Some(Section::Frame),
        (0, 313) => Some(Section::Ip),
        _ => None,
    }
}

/// The list that `id` is, if it is one.
#[must_use]
pub const fn list(enterprise: u32, id: u16) -> Option<ListKind> {
    match (enterprise, id) {
        (0, 291) => Some(ListKind::Basic),
        (0, 292) => Some(ListKind::SubTemplate),
        (0, 293) => Some(ListKind::SubTemplateMulti),
        _ => None,
    }
}

impl Target {
    /// Targets with the same slot fill the same field.
    #[must_use]
    pub const fn slot(self) -> Self {
        match self {
            Self::SrcAddrV6 => Self::SrcAddrV4,
            Self::DstAddrV6 => Self::DstAddrV4,
            Self::NextHopV6 => Self::NextHopV4,
            Self::BgpNextHopV6 => Self::BgpNextHopV4,
            Self::SrcAddrNatV6 => Self::SrcAddrNatV4,
            Self::DstAddrNatV6 => Self::DstAddrNatV4,
            Self::ExporterAddrV6 => Self::ExporterAddrV4,
            Self::StartMillis | Self::StartNtp | Self::StartUptime | Self::StartDelta => {
                Self::StartSeconds
            }
            Self::EndMillis | Self::EndNtp | Self::EndUptime | Self::EndDelta => Self::EndSeconds,
            Self::ObservedMillis | Self::ObservedNtp => Self::ObservedSeconds,
            Self::Dscp => Self::Tos,
            other => other,
        }
    }

    /// False when no column has the value as it is: then operators may want it besides.
    #[must_use]
    pub const fn is_column(self) -> bool {
        !matches!(self, Self::ApplicationId | Self::BiflowDirection)
    }

    /// True when the value goes to `Extras`.
    #[must_use]
    pub const fn is_extra(self) -> bool {
        self as u8 >= Self::SamplerId as u8
    }
}
