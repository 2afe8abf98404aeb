//! The columns themselves, each as a macro of its kind says it.

use std::io::{self, Write};

use super::super::extra;
use super::super::labels::TEXT_TYPE;
use super::super::value::{MILLIS_MAX, Millis, Seconds, Value};
use super::{Column, Part, Source, fill, fill_list, of};
use crate::enrich::{Label, Locality};
use crate::flow::{
    Address, DetailFields, Direction, Flow, FlowType, MPLS_LABELS_MAX, SamplingSource, TunnelType,
};

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

/// Part `n` of the column `of`, as ClickHouse cuts it out.
macro_rules! cut {
    ($of:ident, 1) => {
        concat!("substringIndex(", stringify!($of), ", '\\t', 1)")
    };
    ($of:ident, $n:tt) => {
        concat!(
            "substringIndex(substringIndex(",
            stringify!($of),
            ", '\\t', ",
            $n,
            "), '\\t', -1)"
        )
    };
}

/// `name: part n of column, label`, a part of a text of several.
macro_rules! part {
    ($name:ident: $n:tt of $of:ident, $label:ident) => {
        Column {
            name: stringify!($name),
            sql_type: TEXT_TYPE,
            source: Source::Alias(cut!($of, $n)),
            json: |_, enriched, out| json_text(enriched.part(Label::$label, $n - 1), out),
        }
    };
}

/// The same as a number, which `parse` makes of it.
macro_rules! number {
    ($name:ident: $value_type:ty = $parse:literal, $n:tt of $of:ident, $label:ident) => {
        Column {
            name: stringify!($name),
            sql_type: <$value_type as Value>::SQL_TYPE,
            source: Source::Alias(concat!($parse, "(", cut!($of, $n), ")")),
            json: |_, enriched, out| {
                let value: $value_type = enriched.number(Label::$label, $n - 1);
                value.json(out)
            },
        }
    };
}

/// `name: label`, where its fourth part says on which side of the network an interface is.
macro_rules! boundary {
    ($name:ident: $of:ident, $label:ident) => {
        Column {
            name: stringify!($name),
            sql_type: "Enum8('undefined' = 0, 'external' = 1, 'internal' = 2)",
            source: Source::Alias(concat!(
                "indexOf(['external', 'internal'], ",
                cut!($of, 4),
                ")"
            )),
            json: |_, enriched, out| json_text(enriched.word(Label::$label, 3, "undefined"), out),
        }
    };
}

/// `name: tags, label`, the tags as a list.
macro_rules! tags {
    ($name:ident: $of:ident, $label:ident) => {
        Column {
            name: stringify!($name),
            sql_type: "Array(LowCardinality(String))",
            source: Source::Alias(concat!(
                "arrayFilter(x -> (x != ''), splitByChar(',', ",
                stringify!($of),
                "))"
            )),
            json: |_, enriched, out| json_tags(enriched.text(Label::$label), out),
        }
    };
}

/// `name: type = source's or destination's`: of the side that `client` or `server` names.
macro_rules! side {
    ($name:ident: $value_type:ty = $src:ident, $dst:ident) => {
        Column {
            name: stringify!($name),
            sql_type: <$value_type as Value>::SQL_TYPE,
            source: Source::Alias(concat!(
                "if(client_is_src, ",
                stringify!($src),
                ", ",
                stringify!($dst),
                ")"
            )),
            json: |flow, enriched, out| match enriched.client_is_src() {
                true => flow.$src.json(out),
                false => flow.$dst.json(out),
            },
        }
    };
}

/// The same of labels.
macro_rules! side_label {
    ($name:ident: $src:ident $src_label:ident, $dst:ident $dst_label:ident) => {
        Column {
            name: stringify!($name),
            sql_type: TEXT_TYPE,
            source: Source::Alias(concat!(
                "if(client_is_src, ",
                stringify!($src),
                ", ",
                stringify!($dst),
                ")"
            )),
            json: |_, enriched, out| match enriched.client_is_src() {
                true => json_text(enriched.text(Label::$src_label), out),
                false => json_text(enriched.text(Label::$dst_label), out),
            },
        }
    };
}

/// The name of the column of the client's side.
pub(in crate::batch) const CLIENT_IS_SRC: &str = "client_is_src";
/// The name of the column of private and public.
pub(in crate::batch) const LOCALITY: &str = "locality";

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
    detail!(flow_label: u32 = |d| d.frame.flow_label),
    stored!(icmp_type: u8 = |f| f.icmp_type),
    stored!(icmp_code: u8 = |f| f.icmp_code),
    detail!(fragment_id: u32 = |d| d.frame.fragment_id),
    detail!(fragment_offset: u16 = |d| d.frame.fragment_offset),
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
    detail!(ethertype: u16 = |d| d.frame.ethertype),
    detail!(src_mac: u64 = |d| d.frame.src_mac),
    detail!(dst_mac: u64 = |d| d.frame.dst_mac),
    stored!(src_vlan: u16 = |f| f.src_vlan),
    stored!(dst_vlan: u16 = |f| f.dst_vlan),
    detail!(inner_vlan: u16 = |d| d.frame.inner_vlan),
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
    part!(src_region: 1 of src_place, SrcPlace),
    part!(src_city: 2 of src_place, SrcPlace),
    number!(src_lat: f32 = "toFloat32OrZero", 3 of src_place, SrcPlace),
    number!(src_lon: f32 = "toFloat32OrZero", 4 of src_place, SrcPlace),
    label!(src_as_name: SrcAsName),
    label!(src_net: SrcNet),
    part!(src_net_name: 1 of src_net, SrcNet),
    part!(src_net_role: 2 of src_net, SrcNet),
    part!(src_net_site: 3 of src_net, SrcNet),
    part!(src_net_region: 4 of src_net, SrcNet),
    part!(src_net_tenant: 5 of src_net, SrcNet),
    label!(src_threat_tags: SrcThreatTags),
    tags!(src_threats: src_threat_tags, SrcThreatTags),
    label!(src_host: SrcHost),
    label!(src_mac_vendor: SrcMacVendor),
    label!(dst_country: DstCountry),
    label!(dst_place: DstPlace),
    part!(dst_region: 1 of dst_place, DstPlace),
    part!(dst_city: 2 of dst_place, DstPlace),
    number!(dst_lat: f32 = "toFloat32OrZero", 3 of dst_place, DstPlace),
    number!(dst_lon: f32 = "toFloat32OrZero", 4 of dst_place, DstPlace),
    label!(dst_as_name: DstAsName),
    label!(dst_net: DstNet),
    part!(dst_net_name: 1 of dst_net, DstNet),
    part!(dst_net_role: 2 of dst_net, DstNet),
    part!(dst_net_site: 3 of dst_net, DstNet),
    part!(dst_net_region: 4 of dst_net, DstNet),
    part!(dst_net_tenant: 5 of dst_net, DstNet),
    label!(dst_threat_tags: DstThreatTags),
    tags!(dst_threats: dst_threat_tags, DstThreatTags),
    label!(dst_host: DstHost),
    label!(dst_mac_vendor: DstMacVendor),
    label!(exporter_labels: ExporterLabels),
    part!(exporter_name: 1 of exporter_labels, ExporterLabels),
    part!(exporter_group: 2 of exporter_labels, ExporterLabels),
    part!(exporter_site: 3 of exporter_labels, ExporterLabels),
    part!(exporter_region: 4 of exporter_labels, ExporterLabels),
    part!(exporter_role: 5 of exporter_labels, ExporterLabels),
    part!(exporter_tenant: 6 of exporter_labels, ExporterLabels),
    label!(in_if_labels: InIfLabels),
    part!(in_if_name: 1 of in_if_labels, InIfLabels),
    part!(in_if_alias: 2 of in_if_labels, InIfLabels),
    number!(in_if_speed: u64 = "toUInt64OrZero", 3 of in_if_labels, InIfLabels),
    boundary!(in_if_boundary: in_if_labels, InIfLabels),
    part!(in_if_provider: 5 of in_if_labels, InIfLabels),
    part!(in_if_connectivity: 6 of in_if_labels, InIfLabels),
    label!(out_if_labels: OutIfLabels),
    part!(out_if_name: 1 of out_if_labels, OutIfLabels),
    part!(out_if_alias: 2 of out_if_labels, OutIfLabels),
    number!(out_if_speed: u64 = "toUInt64OrZero", 3 of out_if_labels, OutIfLabels),
    boundary!(out_if_boundary: out_if_labels, OutIfLabels),
    part!(out_if_provider: 5 of out_if_labels, OutIfLabels),
    part!(out_if_connectivity: 6 of out_if_labels, OutIfLabels),
    label!(application: Application),
    label!(service: Service),
    Column {
        name: CLIENT_IS_SRC,
        sql_type: "Bool",
        source: Source::Mark,
        json: |_, enriched, out| write!(out, "{}", enriched.client_is_src()),
    },
    side!(client_addr: Address = src_addr, dst_addr),
    side!(server_addr: Address = dst_addr, src_addr),
    side!(server_port: u16 = dst_port, src_port),
    side_label!(client_host: src_host SrcHost, dst_host DstHost),
    side_label!(server_host: dst_host DstHost, src_host SrcHost),
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
