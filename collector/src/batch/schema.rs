//! The table of columns: the only place that says what a row of `flows` holds.
//!
//! From it follow the column buffers, the header of a Native block, the column list of the insert
//! and the JSON of a row. `sql/` declares the same table to ClickHouse; a test holds them together.

use std::io::{self, Write};

use super::extra;
use super::labels::{Enriched, TEXT_TYPE};
use super::value::{MILLIS_MAX, Millis, Seconds, Value};
use crate::enrich::{Label, Locality};
use crate::flow::{
    Address, DetailFields, Direction, Flow, FlowType, MPLS_LABELS_MAX, SamplingSource, TunnelType,
};

/// One column of `flows`.
pub struct Column {
    /// Its name: a public interface.
    pub name: &'static str,
    /// Its ClickHouse type, as ClickHouse prints it.
    pub sql_type: &'static str,
    /// Where its values come from.
    pub source: Source,
    /// Prints the value of a flow as JSON.
    pub json: fn(&Flow, &Enriched<'_>, &mut dyn Write) -> io::Result<()>,
}

/// A part of a flow that many flows do not have: its columns are zero for those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What every flow has.
    Flow,
    /// The detail.
    Detail,
    /// The detail, of flows in a tunnel.
    Tunnel,
}

impl Part {
    /// True when `flow` has it.
    #[must_use]
    #[inline]
    pub fn is_in(self, flow: &Flow) -> bool {
        match self {
            Self::Flow => true,
            Self::Detail => flow.detail.is_written(),
            Self::Tunnel => flow.detail.is_written() && flow.detail.has_tunnel(),
        }
    }
}

/// Where the values of a column come from.
pub enum Source {
    /// Stored, `width` bytes a row.
    Fixed {
        /// Bytes of one value.
        width: usize,
        /// Which part of a flow it is read from.
        part: Part,
        /// Writes the values of the flows into exactly as much room as they take.
        fill: fn(&[Flow], &mut [u8]),
    },
    /// Stored, an array of values a row; read from the flow's detail only.
    List {
        /// Bytes of one value.
        width: usize,
        /// Most values of a row.
        items_max: usize,
        /// Writes offsets and values, given the bytes of `values` in use; returns them after.
        fill: fn(&[Flow], offsets: &mut [u8], values: &mut [u8], used: usize) -> usize,
    },
    /// Stored, names and values that come beside the flow.
    Map,
    /// Stored, text that enrichment knows.
    Label(Label),
    /// Stored, a byte that enrichment says.
    Mark,
    /// Computed by ClickHouse when it is asked for.
    Alias(&'static str),
}

impl Source {
    /// The part of a flow that the values come from.
    #[must_use]
    pub const fn part(&self) -> Part {
        match self {
            Self::Fixed { part, .. } => *part,
            Self::List { .. } => Part::Detail,
            Self::Map | Self::Label(_) | Self::Mark | Self::Alias(_) => Part::Flow,
        }
    }
}

impl Column {
    /// True when a batch has a buffer for it, whatever else it has.
    #[must_use]
    pub fn is_of_flow(&self) -> bool {
        matches!(self.source, Source::Fixed { .. } | Source::List { .. })
    }

    /// True when the column is part of an insert.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !matches!(self.source, Source::Alias(_))
    }
}

/// The columns that an insert sends, in its order.
pub fn stored() -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(|column| column.is_stored())
}

/// `name: type = value`, stored as it is.
macro_rules! stored {
    ($name:ident: $value_type:ty = $value:expr, $part:expr) => {
        Column {
            name: stringify!($name),
            sql_type: <$value_type as Value>::SQL_TYPE,
            source: Source::Fixed {
                width: <$value_type as Value>::WIDTH,
                part: $part,
                fill: |flows, out| fill::<$value_type>(flows, out, $value),
            },
            json: |flow, _, out| of::<_, $value_type>(flow, $value).json(out),
        }
    };
    ($name:ident: $value_type:ty = $value:expr) => {
        stored!($name: $value_type = $value, Part::Flow)
    };
}

/// `name: type = value of the detail`, stored as it is.
macro_rules! detail {
    ($name:ident: $value_type:ty = $value:expr) => {
        detail!($name: $value_type = $value, Part::Detail)
    };
    ($name:ident: $value_type:ty = $value:expr, $part:expr) => {
        stored!($name: $value_type = |f| of::<DetailFields, _>(&f.detail, $value), $part)
    };
}

/// `name: type = value, "expression"`: the expression is ClickHouse's way to the same value.
macro_rules! alias {
    ($name:ident: $value_type:ty = $value:expr, $expression:literal) => {
        Column {
            name: stringify!($name),
            sql_type: <$value_type as Value>::SQL_TYPE,
            source: Source::Alias($expression),
            json: |flow, _, out| of::<_, $value_type>(flow, $value).json(out),
        }
    };
}

/// `name: [type; max] = slice of the detail`.
macro_rules! list {
    ($name:ident: [$item:ty; $max:expr] = $sql_type:literal, $items:expr) => {
        Column {
            name: stringify!($name),
            sql_type: $sql_type,
            source: Source::List {
                width: <$item as Value>::WIDTH,
                items_max: $max,
                fill: |flows, offsets, values, used| {
                    fill_list::<$item>(flows, offsets, values, used, $items)
                },
            },
            json: |flow, _, out| json_list::<$item>(&flow.detail, out, $items),
        }
    };
}

/// `name: label`, text as enrichment knows it.
macro_rules! label {
    ($name:ident: $label:ident) => {
        Column {
            name: stringify!($name),
            sql_type: TEXT_TYPE,
            source: Source::Label(Label::$label),
            json: |_, enriched, out| json_text(enriched.text(Label::$label), out),
        }
    };
}

/// `name: type = value, "expression"`, of what enrichment says.
macro_rules! told {
    ($name:ident: $value_type:ty = $value:expr, $expression:literal) => {
        Column {
            name: stringify!($name),
            sql_type: <$value_type as Value>::SQL_TYPE,
            source: Source::Alias($expression),
            json: |flow, enriched, out| {
                let value: fn(&Flow, &Enriched<'_>) -> $value_type = $value;
                value(flow, enriched).json(out)
            },
        }
    };
}

/// `name: "type" = text, "expression"`, likewise.
macro_rules! told_text {
    ($name:ident: $sql_type:literal = $value:expr, $expression:literal) => {
        Column {
            name: stringify!($name),
            sql_type: $sql_type,
            source: Source::Alias($expression),
            json: |_, enriched, out| {
                let value: for<'a> fn(&'a Enriched<'_>) -> &'a str = $value;
                json_text(value(enriched), out)
            },
        }
    };
}

/// The name of the column of the client's side.
pub(super) const CLIENT_IS_SRC: &str = "client_is_src";
/// The name of the column of private and public.
pub(super) const LOCALITY: &str = "locality";

/// All columns of `flows` in the order of the table.
pub static COLUMNS: &[Column] = &[
    stored!(time_received: Seconds = |f| Seconds(f.time_received_s)),
    stored!(flow_end: Millis = |f| Millis(end_ms(f))),
    stored!(flow_duration_ms: u32 = Flow::duration_ms),
    alias!(flow_start: Millis = |f| Millis(end_ms(f) - u64::from(f.duration_ms())),
           "flow_end - toIntervalMillisecond(flow_duration_ms)"),
    stored!(exporter_addr: Address = |f| f.exporter_addr),
    stored!(exporter_source: Address = |f| f.exporter_source),
    stored!(observation_domain: u32 = |f| f.observation_domain),
    stored!(flow_type: FlowType = |f| f.flow_type),
    stored!(sampling_rate: u32 = |f| f.sampling_rate),
    stored!(sampling_source: SamplingSource = |f| f.sampling_source),
    stored!(in_if: u32 = |f| f.in_if),
    stored!(out_if: u32 = |f| f.out_if),
    stored!(src_addr: Address = |f| f.src_addr),
    stored!(dst_addr: Address = |f| f.dst_addr),
    stored!(src_port: u16 = |f| f.src_port),
    stored!(dst_port: u16 = |f| f.dst_port),
    stored!(protocol: u8 = |f| f.protocol),
    stored!(tcp_flags: u16 = |f| f.tcp_flags),
    stored!(tos: u8 = |f| f.tos),
    stored!(ttl: u8 = |f| f.ttl),
    detail!(flow_label: u32 = |d| d.flow_label),
    stored!(icmp_type: u8 = |f| f.icmp_type),
    stored!(icmp_code: u8 = |f| f.icmp_code),
    detail!(fragment_id: u32 = |d| d.fragment_id),
    detail!(fragment_offset: u16 = |d| d.fragment_offset),
    stored!(raw_bytes: u64 = |f| f.raw_bytes),
    stored!(raw_packets: u64 = |f| f.raw_packets),
    alias!(bytes: u64 = |f| f.raw_bytes.wrapping_mul(f.scale()),
           "raw_bytes * greatest(sampling_rate, 1)"),
    alias!(packets: u64 = |f| f.raw_packets.wrapping_mul(f.scale()),
           "raw_packets * greatest(sampling_rate, 1)"),
    stored!(src_as: u32 = |f| f.src_as),
    stored!(dst_as: u32 = |f| f.dst_as),
    stored!(src_mask: u8 = |f| f.src_mask),
    stored!(dst_mask: u8 = |f| f.dst_mask),
    stored!(next_hop: Address = |f| f.next_hop),
    detail!(bgp_next_hop: Address = |d| d.bgp_next_hop),
    detail!(ingress_vrf: u32 = |d| d.ingress_vrf),
    detail!(egress_vrf: u32 = |d| d.egress_vrf),
    detail!(ethertype: u16 = |d| d.ethertype),
    detail!(src_mac: u64 = |d| d.src_mac),
    detail!(dst_mac: u64 = |d| d.dst_mac),
    stored!(src_vlan: u16 = |f| f.src_vlan),
    stored!(dst_vlan: u16 = |f| f.dst_vlan),
    detail!(inner_vlan: u16 = |d| d.inner_vlan),
    list!(mpls_labels: [u32; MPLS_LABELS_MAX] = "Array(UInt32)", mpls_labels),
    detail!(src_addr_nat: Address = |d| d.src_addr_nat),
    detail!(dst_addr_nat: Address = |d| d.dst_addr_nat),
    detail!(src_port_nat: u16 = |d| d.src_port_nat),
    detail!(dst_port_nat: u16 = |d| d.dst_port_nat),
    stored!(direction: Direction = |f| f.direction),
    stored!(forwarding_status: u8 = |f| f.forwarding_status),
    stored!(end_reason: u8 = |f| f.end_reason),
    detail!(firewall_event: u8 = |d| d.firewall_event),
    detail!(nat_event: u8 = |d| d.nat_event),
    detail!(tunnel_type: TunnelType = |d| d.tunnel_type, Part::Tunnel),
    detail!(tunnel_id: u32 = |d| d.tunnel_id, Part::Tunnel),
    detail!(outer_src_addr: Address = |d| d.outer_src_addr, Part::Tunnel),
    detail!(outer_dst_addr: Address = |d| d.outer_dst_addr, Part::Tunnel),
    Column {
        name: extra::NAME,
        sql_type: "Map(LowCardinality(String), String)",
        source: Source::Map,
        json: |_, _, out| out.write_all(b"{}"),
    },
    label!(src_country: SrcCountry),
    label!(src_place: SrcPlace),
    told_text!(src_region: "LowCardinality(String)" = |e| e.part(Label::SrcPlace, 0),
        "substringIndex(src_place, '\\t', 1)"),
    told_text!(src_city: "LowCardinality(String)" = |e| e.part(Label::SrcPlace, 1),
        "substringIndex(substringIndex(src_place, '\\t', 2), '\\t', -1)"),
    told!(src_lat: f32 = |_, e| e.number(Label::SrcPlace, 2),
        "toFloat32OrZero(substringIndex(substringIndex(src_place, '\\t', 3), '\\t', -1))"),
    told!(src_lon: f32 = |_, e| e.number(Label::SrcPlace, 3),
        "toFloat32OrZero(substringIndex(substringIndex(src_place, '\\t', 4), '\\t', -1))"),
    label!(src_as_name: SrcAsName),
    label!(src_net: SrcNet),
    told_text!(src_net_name: "LowCardinality(String)" = |e| e.part(Label::SrcNet, 0),
        "substringIndex(src_net, '\\t', 1)"),
    told_text!(src_net_role: "LowCardinality(String)" = |e| e.part(Label::SrcNet, 1),
        "substringIndex(substringIndex(src_net, '\\t', 2), '\\t', -1)"),
    told_text!(src_net_site: "LowCardinality(String)" = |e| e.part(Label::SrcNet, 2),
        "substringIndex(substringIndex(src_net, '\\t', 3), '\\t', -1)"),
    told_text!(src_net_region: "LowCardinality(String)" = |e| e.part(Label::SrcNet, 3),
        "substringIndex(substringIndex(src_net, '\\t', 4), '\\t', -1)"),
    told_text!(src_net_tenant: "LowCardinality(String)" = |e| e.part(Label::SrcNet, 4),
        "substringIndex(substringIndex(src_net, '\\t', 5), '\\t', -1)"),
    label!(src_threat_tags: SrcThreatTags),
    Column {
        name: "src_threats",
        sql_type: "Array(LowCardinality(String))",
        source: Source::Alias("arrayFilter(x -> (x != ''), splitByChar(',', src_threat_tags))"),
        json: |_, enriched, out| json_tags(enriched.text(Label::SrcThreatTags), out),
    },
    label!(src_host: SrcHost),
    label!(src_mac_vendor: SrcMacVendor),
    label!(dst_country: DstCountry),
    label!(dst_place: DstPlace),
    told_text!(dst_region: "LowCardinality(String)" = |e| e.part(Label::DstPlace, 0),
        "substringIndex(dst_place, '\\t', 1)"),
    told_text!(dst_city: "LowCardinality(String)" = |e| e.part(Label::DstPlace, 1),
        "substringIndex(substringIndex(dst_place, '\\t', 2), '\\t', -1)"),
    told!(dst_lat: f32 = |_, e| e.number(Label::DstPlace, 2),
        "toFloat32OrZero(substringIndex(substringIndex(dst_place, '\\t', 3), '\\t', -1))"),
    told!(dst_lon: f32 = |_, e| e.number(Label::DstPlace, 3),
        "toFloat32OrZero(substringIndex(substringIndex(dst_place, '\\t', 4), '\\t', -1))"),
    label!(dst_as_name: DstAsName),
    label!(dst_net: DstNet),
    told_text!(dst_net_name: "LowCardinality(String)" = |e| e.part(Label::DstNet, 0),
        "substringIndex(dst_net, '\\t', 1)"),
    told_text!(dst_net_role: "LowCardinality(String)" = |e| e.part(Label::DstNet, 1),
        "substringIndex(substringIndex(dst_net, '\\t', 2), '\\t', -1)"),
    told_text!(dst_net_site: "LowCardinality(String)" = |e| e.part(Label::DstNet, 2),
        "substringIndex(substringIndex(dst_net, '\\t', 3), '\\t', -1)"),
    told_text!(dst_net_region: "LowCardinality(String)" = |e| e.part(Label::DstNet, 3),
        "substringIndex(substringIndex(dst_net, '\\t', 4), '\\t', -1)"),
    told_text!(dst_net_tenant: "LowCardinality(String)" = |e| e.part(Label::DstNet, 4),
        "substringIndex(substringIndex(dst_net, '\\t', 5), '\\t', -1)"),
    label!(dst_threat_tags: DstThreatTags),
    Column {
        name: "dst_threats",
        sql_type: "Array(LowCardinality(String))",
        source: Source::Alias("arrayFilter(x -> (x != ''), splitByChar(',', dst_threat_tags))"),
        json: |_, enriched, out| json_tags(enriched.text(Label::DstThreatTags), out),
    },
    label!(dst_host: DstHost),
    label!(dst_mac_vendor: DstMacVendor),
    label!(exporter_labels: ExporterLabels),
    told_text!(exporter_name: "LowCardinality(String)" = |e| e.part(Label::ExporterLabels, 0),
        "substringIndex(exporter_labels, '\\t', 1)"),
    told_text!(exporter_group: "LowCardinality(String)" = |e| e.part(Label::ExporterLabels, 1),
        "substringIndex(substringIndex(exporter_labels, '\\t', 2), '\\t', -1)"),
    told_text!(exporter_site: "LowCardinality(String)" = |e| e.part(Label::ExporterLabels, 2),
        "substringIndex(substringIndex(exporter_labels, '\\t', 3), '\\t', -1)"),
    told_text!(exporter_region: "LowCardinality(String)" = |e| e.part(Label::ExporterLabels, 3),
        "substringIndex(substringIndex(exporter_labels, '\\t', 4), '\\t', -1)"),
    told_text!(exporter_role: "LowCardinality(String)" = |e| e.part(Label::ExporterLabels, 4),
        "substringIndex(substringIndex(exporter_labels, '\\t', 5), '\\t', -1)"),
    told_text!(exporter_tenant: "LowCardinality(String)" = |e| e.part(Label::ExporterLabels, 5),
        "substringIndex(substringIndex(exporter_labels, '\\t', 6), '\\t', -1)"),
    label!(in_if_labels: InIfLabels),
    told_text!(in_if_name: "LowCardinality(String)" = |e| e.part(Label::InIfLabels, 0),
        "substringIndex(in_if_labels, '\\t', 1)"),
    told_text!(in_if_alias: "LowCardinality(String)" = |e| e.part(Label::InIfLabels, 1),
        "substringIndex(substringIndex(in_if_labels, '\\t', 2), '\\t', -1)"),
    told!(in_if_speed: u64 = |_, e| e.number(Label::InIfLabels, 2),
        "toUInt64OrZero(substringIndex(substringIndex(in_if_labels, '\\t', 3), '\\t', -1))"),
    told_text!(in_if_boundary: "Enum8('undefined' = 0, 'external' = 1, 'internal' = 2)" =
        |e| e.word(Label::InIfLabels, 3, "undefined"),
        "indexOf(['external', 'internal'], substringIndex(substringIndex(in_if_labels, '\\t', 4), '\\t', -1))"),
    told_text!(in_if_provider: "LowCardinality(String)" = |e| e.part(Label::InIfLabels, 4),
        "substringIndex(substringIndex(in_if_labels, '\\t', 5), '\\t', -1)"),
    told_text!(in_if_connectivity: "LowCardinality(String)" = |e| e.part(Label::InIfLabels, 5),
        "substringIndex(substringIndex(in_if_labels, '\\t', 6), '\\t', -1)"),
    label!(out_if_labels: OutIfLabels),
    told_text!(out_if_name: "LowCardinality(String)" = |e| e.part(Label::OutIfLabels, 0),
        "substringIndex(out_if_labels, '\\t', 1)"),
    told_text!(out_if_alias: "LowCardinality(String)" = |e| e.part(Label::OutIfLabels, 1),
        "substringIndex(substringIndex(out_if_labels, '\\t', 2), '\\t', -1)"),
    told!(out_if_speed: u64 = |_, e| e.number(Label::OutIfLabels, 2),
        "toUInt64OrZero(substringIndex(substringIndex(out_if_labels, '\\t', 3), '\\t', -1))"),
    told_text!(out_if_boundary: "Enum8('undefined' = 0, 'external' = 1, 'internal' = 2)" =
        |e| e.word(Label::OutIfLabels, 3, "undefined"),
        "indexOf(['external', 'internal'], substringIndex(substringIndex(out_if_labels, '\\t', 4), '\\t', -1))"),
    told_text!(out_if_provider: "LowCardinality(String)" = |e| e.part(Label::OutIfLabels, 4),
        "substringIndex(substringIndex(out_if_labels, '\\t', 5), '\\t', -1)"),
    told_text!(out_if_connectivity: "LowCardinality(String)" = |e| e.part(Label::OutIfLabels, 5),
        "substringIndex(substringIndex(out_if_labels, '\\t', 6), '\\t', -1)"),
    label!(application: Application),
    label!(service: Service),
    Column {
        name: CLIENT_IS_SRC,
        sql_type: "Bool",
        source: Source::Mark,
        json: |_, enriched, out| write!(out, "{}", enriched.client_is_src()),
    },
    told!(client_addr: Address = |f, e| if e.client_is_src() { f.src_addr } else { f.dst_addr },
        "if(client_is_src, src_addr, dst_addr)"),
    told!(server_addr: Address = |f, e| if e.client_is_src() { f.dst_addr } else { f.src_addr },
        "if(client_is_src, dst_addr, src_addr)"),
    told!(server_port: u16 = |f, e| if e.client_is_src() { f.dst_port } else { f.src_port },
        "if(client_is_src, dst_port, src_port)"),
    told_text!(client_host: "LowCardinality(String)" = |e| e.text(if e.client_is_src() { Label::SrcHost } else { Label::DstHost }),
        "if(client_is_src, src_host, dst_host)"),
    told_text!(server_host: "LowCardinality(String)" = |e| e.text(if e.client_is_src() { Label::DstHost } else { Label::SrcHost }),
        "if(client_is_src, dst_host, src_host)"),
    Column {
        name: LOCALITY,
        sql_type: Locality::SQL_TYPE,
        source: Source::Mark,
        json: |_, enriched, out| enriched.locality().json(out),
    },
];

/// The end of a flow of which only the start is known is its start, so that the start, which
/// ClickHouse computes from the end, is kept.
#[inline]
fn end_ms(flow: &Flow) -> u64 {
    let end_ms = if flow.flow_end_ms == 0 {
        flow.flow_start_ms
    } else {
        flow.flow_end_ms
    };
    // Here already, because ClickHouse computes the start from what is stored.
    end_ms.min(MILLIS_MAX)
}

#[inline]
fn mpls_labels(detail: &DetailFields) -> &[u32] {
    let count = usize::from(detail.mpls_count).min(MPLS_LABELS_MAX);
    &detail.mpls_labels[..count]
}

/// Fixes the types of a closure over a flow or its detail.
#[inline]
fn of<F, T>(flow: &F, value: impl Fn(&F) -> T) -> T {
    value(flow)
}

#[inline]
fn fill<T: Value>(flows: &[Flow], out: &mut [u8], value: impl Fn(&Flow) -> T) {
    debug_assert_eq!(out.len(), flows.len() * T::WIDTH);
    for (place, flow) in out.chunks_exact_mut(T::WIDTH).zip(flows) {
        place.copy_from_slice(value(flow).wire().as_ref());
    }
}

#[inline]
fn fill_list<T: Value>(
    flows: &[Flow],
    offsets: &mut [u8],
    values: &mut [u8],
    used: usize,
    items: impl Fn(&DetailFields) -> &[T],
) -> usize {
    let mut end = used;
    for (offset, flow) in offsets.chunks_exact_mut(size_of::<u64>()).zip(flows) {
        let items = items(&flow.detail);
        let place = &mut values[end..end + items.len() * T::WIDTH];
        for (place, item) in place.chunks_exact_mut(T::WIDTH).zip(items) {
            place.copy_from_slice(item.wire().as_ref());
        }
        end += items.len() * T::WIDTH;
        offset.copy_from_slice(&((end / T::WIDTH) as u64).to_le_bytes());
    }
    end
}

fn json_list<T: Value>(
    detail: &DetailFields,
    out: &mut dyn Write,
    items: impl Fn(&DetailFields) -> &[T],
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (i, item) in items(detail).iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        item.json(out)?;
    }
    out.write_all(b"]")
}

fn json_text(text: &str, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

/// `tags` stand behind each other, commas between.
fn json_tags(tags: &str, out: &mut dyn Write) -> io::Result<()> {
    let tags: Vec<_> = tags.split(',').filter(|tag| !tag.is_empty()).collect();
    serde_json::to_writer(out, &tags).map_err(io::Error::from)
}
