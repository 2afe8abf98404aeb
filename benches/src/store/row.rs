//! A row of `flows` as one writes it for the `clickhouse` crate: a struct with a field a column.

use std::net::Ipv6Addr;

use clickhouse::Row;
use flowsluice::flow::Flow;
use serde::Serialize;

/// Every stored column but `extra`, in the order of the table.
#[derive(Row, Serialize)]
pub struct FlowRow<'a> {
    time_received: u32,
    flow_end: i64,
    flow_duration_ms: u32,
    exporter_addr: Ipv6Addr,
    exporter_source: Ipv6Addr,
    observation_domain: u32,
    flow_type: i8,
    sampling_rate: u32,
    sampling_source: i8,
    in_if: u32,
    out_if: u32,
    src_addr: Ipv6Addr,
    dst_addr: Ipv6Addr,
    src_port: u16,
    dst_port: u16,
    protocol: u8,
    tcp_flags: u16,
    tos: u8,
    ttl: u8,
    flow_label: u32,
    icmp_type: u8,
    icmp_code: u8,
    fragment_id: u32,
    fragment_offset: u16,
    raw_bytes: u64,
    raw_packets: u64,
    src_as: u32,
    dst_as: u32,
    src_mask: u8,
    dst_mask: u8,
    next_hop: Ipv6Addr,
    bgp_next_hop: Ipv6Addr,
    ingress_vrf: u32,
    egress_vrf: u32,
    ethertype: u16,
    src_mac: u64,
    dst_mac: u64,
    src_vlan: u16,
    dst_vlan: u16,
    inner_vlan: u16,
    mpls_labels: &'a [u32],
    src_addr_nat: Ipv6Addr,
    dst_addr_nat: Ipv6Addr,
    src_port_nat: u16,
    dst_port_nat: u16,
    direction: i8,
    forwarding_status: u8,
    end_reason: u8,
    firewall_event: u8,
    nat_event: u8,
    tunnel_type: i8,
    tunnel_id: u32,
    outer_src_addr: Ipv6Addr,
    outer_dst_addr: Ipv6Addr,
}

impl<'a> FlowRow<'a> {
    /// The same values as in a Native block.
    pub fn new(f: &'a Flow) -> Self {
        Self {
            time_received: f.time_received_s,
            flow_end: end_ms(f),
            flow_duration_ms: f.duration_ms(),
            exporter_addr: f.exporter_addr.0.into(),
            exporter_source: f.exporter_source.0.into(),
            observation_domain: f.observation_domain,
            flow_type: f.flow_type as i8,
            sampling_rate: f.sampling_rate,
            sampling_source: f.sampling_source as i8,
            in_if: f.in_if,
            out_if: f.out_if,
            src_addr: f.src_addr.0.into(),
            dst_addr: f.dst_addr.0.into(),
            src_port: f.src_port,
            dst_port: f.dst_port,
            protocol: f.protocol,
            tcp_flags: f.tcp_flags,
            tos: f.tos,
            ttl: f.ttl,
            flow_label: f.detail.frame.flow_label,
            icmp_type: f.icmp_type,
            icmp_code: f.icmp_code,
            fragment_id: f.detail.frame.fragment_id,
            fragment_offset: f.detail.frame.fragment_offset,
            raw_bytes: f.raw_bytes,
            raw_packets: f.raw_packets,
            src_as: f.src_as,
            dst_as: f.dst_as,
            src_mask: f.src_mask,
            dst_mask: f.dst_mask,
            next_hop: f.next_hop.0.into(),
            bgp_next_hop: f.detail.bgp_next_hop.0.into(),
            ingress_vrf: f.detail.ingress_vrf,
            egress_vrf: f.detail.egress_vrf,
            ethertype: f.detail.frame.ethertype,
            src_mac: f.detail.frame.src_mac,
            dst_mac: f.detail.frame.dst_mac,
            src_vlan: f.src_vlan,
            dst_vlan: f.dst_vlan,
            inner_vlan: f.detail.frame.inner_vlan,
            mpls_labels: &f.detail.mpls_labels[..usize::from(f.detail.mpls_count)],
            src_addr_nat: f.detail.src_addr_nat.0.into(),
            dst_addr_nat: f.detail.dst_addr_nat.0.into(),
            src_port_nat: f.detail.src_port_nat,
            dst_port_nat: f.detail.dst_port_nat,
            direction: f.direction as i8,
            forwarding_status: f.forwarding_status,
            end_reason: f.end_reason,
            firewall_event: f.detail.firewall_event,
            nat_event: f.detail.nat_event,
            tunnel_type: f.detail.tunnel_type as i8,
            tunnel_id: f.detail.tunnel_id,
            outer_src_addr: f.detail.outer_src_addr.0.into(),
            outer_dst_addr: f.detail.outer_dst_addr.0.into(),
        }
    }
}

/// The end of a flow of which only the start is known is its start, as in the schema table.
fn end_ms(flow: &Flow) -> i64 {
    let end_ms = match flow.flow_end_ms {
        0 => flow.flow_start_ms,
        end_ms => end_ms,
    };
    i64::try_from(end_ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_columns_of_the_table() {
        // A flow that is not enriched has no others.
        let stored = flowsluice::batch::schema::stored()
            .filter(|column| column.is_of_flow())
            .map(|column| column.name);
        assert_eq!(FlowRow::COLUMN_NAMES, stored.collect::<Vec<_>>());
    }
}
