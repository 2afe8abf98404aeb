//! Information elements: which field of a [`Flow`](crate::flow::Flow) each one fills.
//!
//! Names and numbers are those of the IANA IPFIX registry, which NetFlow v9 shares up to 127.
//! Several elements can fill the same field; [`Element::rank`] says which one wins.

use super::lists::ListKind;

/// The private enterprise number under which reverse elements travel (RFC 5103 section 6.1).
pub const PEN_REVERSE: u32 = 29305;

/// Of CERT, whose YAF is the usual exporter on taps.
const PEN_CERT: u32 = 6871;

const PEN_CISCO: u32 = 9;
/// Of Cisco's SD-WAN edges.
const PEN_VIPTELA: u32 = 41_916;

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
    const fn number(target: Target) -> Self {
        Self {
            target,
            index: 0,
            width: Width::Number,
            rank: 0,
            otherwise: Else::Absent,
        }
    }

    const fn exactly(target: Target, bytes: u16) -> Self {
        Self {
            width: Width::Exactly(bytes),
            ..Self::number(target)
        }
    }

    /// Used only when none of a better rank is in the template.
    const fn if_absent(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Used where those of a better rank left the field unknown.
    const fn if_unknown(self, rank: u8) -> Self {
        Self {
            rank,
            otherwise: Else::Unknown,
            ..self
        }
    }

    const fn label(index: u8) -> Self {
        Self::part(Target::MplsLabel, index)
    }

    /// Fills its field together with those of other indexes.
    const fn part(target: Target, index: u8) -> Self {
        Self {
            index,
            ..Self::number(target)
        }
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

/// The element `id` of `enterprise` (0: IANA), if it fills anything.
#[must_use]
pub const fn element(enterprise: u32, id: u16) -> Option<Element> {
    match enterprise {
        0 => match id {
            0..128 => classic(id),
            128..40_000 => registered(id),
            _ => nsel(id),
        },
        PEN_REVERSE => reverse(id),
        PEN_CERT => cert(id),
        PEN_CISCO => cisco(id),
        PEN_VIPTELA => viptela(id),
        _ => None,
    }
}

/// The elements that NetFlow v9 brought along.
const fn classic(id: u16) -> Option<Element> {
    use Target as T;
    Some(match id {
        1 => Element::number(T::Bytes),
        2 => Element::number(T::Packets),
        4 => Element::number(T::Protocol),
        5 => Element::number(T::Tos),
        6 => Element::number(T::TcpFlags),
        7 => Element::number(T::SrcPort),
        8 => Element::exactly(T::SrcAddrV4, 4).if_unknown(1),
        9 => Element::number(T::SrcMask),
        10 => Element::number(T::InIf),
        11 => Element::number(T::DstPort),
        12 => Element::exactly(T::DstAddrV4, 4).if_unknown(1),
        13 => Element::number(T::DstMask),
        14 => Element::number(T::OutIf),
        15 => Element::exactly(T::NextHopV4, 4).if_unknown(1),
        16 => Element::number(T::SrcAs),
        17 => Element::number(T::DstAs),
        18 => Element::exactly(T::BgpNextHopV4, 4).if_unknown(1),
        21 => Element::number(T::EndUptime).if_absent(4),
        22 => Element::number(T::StartUptime).if_absent(4),
        // Counters after the observation point: the same packets once more when 1 and 2 are there.
        23 => Element::number(T::Bytes).if_absent(3),
        24 => Element::number(T::Packets).if_absent(3),
        27 => Element::exactly(T::SrcAddrV6, 16),
        28 => Element::exactly(T::DstAddrV6, 16),
        29 => Element::number(T::SrcMask).if_unknown(1),
        30 => Element::number(T::DstMask).if_unknown(1),
        31 => Element::number(T::FlowLabel),
        32 => Element::number(T::IcmpTypeCode),
        34 => Element::number(T::SamplingInterval),
        44 => Element::exactly(T::SrcAddrV4, 4).if_absent(2),
        45 => Element::exactly(T::DstAddrV4, 4).if_absent(2),
        48 => Element::number(T::SamplerId).if_absent(1),
        50 => Element::number(T::SamplingRandomInterval),
        52 => Element::number(T::Ttl).if_absent(1),
        53 => Element::number(T::Ttl).if_absent(2),
        54 => Element::number(T::FragmentId),
        56 => Element::exactly(T::SrcMac, 6),
        57 => Element::exactly(T::DstMac, 6).if_unknown(1),
        58 => Element::number(T::SrcVlan),
        59 => Element::number(T::DstVlan),
        61 => Element::number(T::Direction),
        62 => Element::exactly(T::NextHopV6, 16),
        63 => Element::exactly(T::BgpNextHopV6, 16),
        70 => Element::label(0),
        71 => Element::label(1),
        72 => Element::label(2),
        73 => Element::label(3),
        74 => Element::label(4),
        75 => Element::label(5),
        76 => Element::label(6),
        77 => Element::label(7),
        78 => Element::label(8),
        79 => Element::label(9),
        80 => Element::exactly(T::DstMac, 6),
        81 => Element::exactly(T::SrcMac, 6).if_unknown(1),
        85 => Element::number(T::Bytes).if_absent(1),
        86 => Element::number(T::Packets).if_absent(1),
        88 => Element::number(T::FragmentOffset),
        89 => Element::number(T::ForwardingStatus),
        _ => return None,
    })
}

/// The elements from 128 on.
const fn registered(id: u16) -> Option<Element> {
    use Target as T;
    Some(match id {
        // The neighbour's AS stands in where the origin's is not exported.
        128 => Element::number(T::DstAs).if_absent(1),
        129 => Element::number(T::SrcAs).if_absent(1),
        130 => Element::exactly(T::ExporterAddrV4, 4).if_unknown(1),
        131 => Element::exactly(T::ExporterAddrV6, 16),
        136 => Element::number(T::EndReason),
        139 => Element::number(T::IcmpTypeCode).if_unknown(1),
        148 => Element::number(T::FlowId),
        150 => Element::number(T::StartSeconds).if_absent(3),
        151 => Element::number(T::EndSeconds).if_absent(3),
        152 => Element::number(T::StartMillis),
        153 => Element::number(T::EndMillis),
        154 => Element::number(T::StartNtp).if_absent(1),
        155 => Element::number(T::EndNtp).if_absent(1),
        156 => Element::number(T::StartNtp).if_absent(1),
        157 => Element::number(T::EndNtp).if_absent(1),
        158 => Element::number(T::StartDelta).if_absent(2),
        159 => Element::number(T::EndDelta).if_absent(2),
        160 => Element::number(T::BootMillis),
        161 => Element::number(T::DurationMillis),
        162 => Element::number(T::DurationMicros),
        176 => Element::number(T::IcmpType),
        177 => Element::number(T::IcmpCode),
        178 => Element::number(T::IcmpType).if_unknown(1),
        179 => Element::number(T::IcmpCode).if_unknown(1),
        192 => Element::number(T::Ttl),
        195 => Element::number(T::Dscp).if_absent(1),
        225 => Element::exactly(T::SrcAddrNatV4, 4).if_unknown(1),
        226 => Element::exactly(T::DstAddrNatV4, 4).if_unknown(1),
        227 => Element::number(T::SrcPortNat),
        228 => Element::number(T::DstPortNat),
        230 => Element::number(T::NatEvent),
        231 => Element::number(T::Bytes).if_absent(2),
        232 => Element::number(T::ReverseBytes),
        233 => Element::number(T::FirewallEvent),
        234 => Element::number(T::IngressVrf),
        235 => Element::number(T::EgressVrf),
        243 => Element::number(T::SrcVlan).if_unknown(1),
        245 => Element::number(T::InnerVlan),
        252 => Element::number(T::InIf).if_unknown(1),
        253 => Element::number(T::OutIf).if_unknown(1),
        254 => Element::number(T::DstVlan).if_unknown(1),
        256 => Element::number(T::Ethertype),
        281 => Element::exactly(T::SrcAddrNatV6, 16),
        282 => Element::exactly(T::DstAddrNatV6, 16),
        298 => Element::number(T::Packets).if_absent(2),
        299 => Element::number(T::ReversePackets),
        302 => Element::number(T::SamplerId),
        305 => Element::number(T::SamplingPacketInterval),
        306 => Element::number(T::SamplingPacketSpace),
        309 => Element::number(T::SamplingSize),
        310 => Element::number(T::SamplingPopulation),
        312 => Element::number(T::FrameLength),
        322 => Element::number(T::ObservedSeconds).if_unknown(6),
        323 => Element::number(T::ObservedMillis).if_unknown(5),
        324 | 325 => Element::number(T::ObservedNtp).if_unknown(5),
        352 => Element::number(T::Bytes).if_absent(4),
        _ => return None,
    })
}

/// Cisco AVC exports a connection instead of a flow: the client is who began it, and the counters
/// beside it are the initiator's (IE 231) and the responder's.
const fn cisco(id: u16) -> Option<Element> {
    use Target as T;
    Some(match id {
        12_236 => Element::exactly(T::SrcAddrV4, 4).if_absent(3),
        12_237 => Element::exactly(T::DstAddrV4, 4).if_absent(3),
        12_238 => Element::exactly(T::SrcAddrV6, 16).if_absent(3),
        12_239 => Element::exactly(T::DstAddrV6, 16).if_absent(3),
        12_240 => Element::number(T::SrcPort).if_absent(1),
        12_241 => Element::number(T::DstPort).if_absent(1),
        _ => return None,
    })
}

/// The VPN of a vEdge is what others call a VRF.
const fn viptela(id: u16) -> Option<Element> {
    match id {
        4321 => Some(Element::number(Target::IngressVrf).if_absent(1)),
        _ => None,
    }
}

/// Cisco's elements in v9, which has no enterprise bit: numbers above 32767 in the clear. Some are
/// what ASA used before they were registered.
const fn nsel(id: u16) -> Option<Element> {
    use Target as T;
    Some(match id {
        40_001 => Element::exactly(T::SrcAddrNatV4, 4).if_unknown(2),
        40_002 => Element::exactly(T::DstAddrNatV4, 4).if_unknown(2),
        40_003 => Element::number(T::SrcPortNat).if_unknown(1),
        40_004 => Element::number(T::DstPortNat).if_unknown(1),
        40_005 => Element::number(T::FirewallEvent).if_unknown(1),
        45_004..=45_009 => return cisco(id & 0x7fff),
        _ => return None,
    })
}

/// RFC 5103 section 6.1: the reverse of element `id`.
const fn reverse(id: u16) -> Option<Element> {
    use Target as T;
    Some(match id {
        1 => Element::number(T::ReverseBytes),
        2 => Element::number(T::ReversePackets),
        5 => Element::number(T::ReverseTos),
        6 => Element::number(T::ReverseTcpFlags),
        85 => Element::number(T::ReverseBytes).if_absent(1),
        86 => Element::number(T::ReversePackets).if_absent(1),
        _ => return None,
    })
}

/// YAF tells the flags of the first packet and those of all others; where they belong to the way
/// back, its numbers have another bit instead of another enterprise.
const fn cert(id: u16) -> Option<Element> {
    use Target as T;
    const REVERSE_BIT: u16 = 0x4000;
    const FIRST: u16 = 14;
    const OTHERS: u16 = 15;
    const FIRST_BACK: u16 = FIRST | REVERSE_BIT;
    const OTHERS_BACK: u16 = OTHERS | REVERSE_BIT;
    Some(match id {
        FIRST => Element::part(T::TcpFlagsPart, 0),
        OTHERS => Element::part(T::TcpFlagsPart, 1),
        FIRST_BACK => Element::part(T::ReverseTcpFlagsPart, 0),
        OTHERS_BACK => Element::part(T::ReverseTcpFlagsPart, 1),
        _ => return None,
    })
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

    /// True when the value goes to `Extras`.
    #[must_use]
    pub const fn is_extra(self) -> bool {
        self as u8 >= Self::SamplerId as u8
    }
}
