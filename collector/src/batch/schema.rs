//! The table of columns: the only place that says what a row of `flows` holds.
//!
//! From it follow the column buffers, the header of a Native block, the column list of the insert
//! and the JSON of a row. `sql/` declares the same table to ClickHouse; a test holds them together.

use std::io::{self, Write};

use super::extra;
use super::value::{MILLIS_MAX, Millis, Seconds, Value};
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
    pub json: fn(&Flow, &mut dyn Write) -> io::Result<()>,
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
            Self::Map | Self::Alias(_) => Part::Flow,
        }
    }
}

impl Column {
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
            json: |flow, out| of::<_, $value_type>(flow, $value).json(out),
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
            json: |flow, out| of::<_, $value_type>(flow, $value).json(out),
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
            json: |flow, out| json_list::<$item>(&flow.detail, out, $items),
        }
    };
}

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
        json: |_, out| out.write_all(b"{}"),
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
