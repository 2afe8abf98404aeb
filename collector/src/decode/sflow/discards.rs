//! Samples of discarded packets: what a device did not forward, and why.
//!
//! They are no flows: nothing of them passed. In: a sample. Out: one [`DiscardedPacket`], through a
//! bounded queue to whoever stores it. Drops: `sample_malformed`, `side_backlog`.
//! Spec: "sFlow Discarded Packet Notification Structures" (<https://sflow.org/sflow_drops.txt>).

use std::net::Ipv6Addr;

use serde::Serialize;

use super::forwarding_status_of;
use super::record::Records;
use crate::config::Tunnels;
use crate::decode::Cursor;
use crate::decode::outbox::Outbox;
use crate::flow::Flow;
use crate::ledger::{DropReason, WorkerCounts};
use crate::store::{SideRow, SideTable};

/// Discarded packets that wait to be stored, of all workers; further ones are dropped and counted.
pub const DISCARDS_MAX: usize = 4096;

/// Discarded packets on their way from the workers to the store.
pub type DiscardQueue = Outbox<DiscardedPacket, DISCARDS_MAX>;

/// A packet that a device discarded: a row of the table `discarded_packets`, whose columns have
/// these names. Unknown is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiscardedPacket {
    /// When the datagram arrived, seconds since the epoch.
    pub time_received: u32,
    /// The agent's own address.
    pub exporter_addr: Ipv6Addr,
    /// The UDP source address.
    pub exporter_source: Ipv6Addr,
    /// The sub-agent.
    pub observation_domain: u32,
    /// Discarded packets that this data source told of before this one.
    pub sequence: u32,
    /// Where it was discarded: 0 an interface, 1 a VLAN (smonVlanDataSource), 2 a physical entity.
    pub source_class: u32,
    /// Number of the data source within its class.
    pub source_index: u32,
    /// Discarded packets that the agent could not tell of.
    pub untold: u32,
    /// ifIndex that it came in by.
    pub in_if: u32,
    /// ifIndex that it would have gone out by.
    pub out_if: u32,
    /// Why, in sFlow's numbers.
    pub reason: u32,
    /// Why, as IE 89 has it: 128 and the reason, as far as there is one.
    pub forwarding_status: u8,
    /// Source.
    pub src_addr: Ipv6Addr,
    /// Destination.
    pub dst_addr: Ipv6Addr,
    /// Source transport port.
    pub src_port: u16,
    /// Destination transport port.
    pub dst_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP control bits.
    pub tcp_flags: u16,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// Octets of layer 3.
    pub bytes: u64,
    /// EtherType.
    pub ethertype: u16,
    /// Source MAC address in the low 48 bits.
    pub src_mac: u64,
    /// Destination MAC address in the low 48 bits.
    pub dst_mac: u64,
    /// VLAN on the way in.
    pub src_vlan: u16,
    /// VLAN on the way out.
    pub dst_vlan: u16,
}

impl SideRow for DiscardedPacket {
    const TABLE: SideTable = SideTable::DiscardedPackets;
}

/// Decodes a sample of a discarded packet into `queue`. `base` says who sent it, and when.
#[inline(never)]
pub(super) fn decode(
    sample: &[u8],
    base: &Flow,
    tunnels: Tunnels,
    queue: &DiscardQueue,
    counts: &mut WorkerCounts,
) {
    let mut cursor = Cursor::new(sample);
    let Some(fixed) = cursor.words::<8>() else {
        counts.drop_one(DropReason::SampleMalformed);
        return;
    };
    let [.., announced] = fixed;
    let records = Records { cursor, announced };
    let mut packet = *base;
    let written = records.write_sorted(tunnels, &mut packet);
    counts.flow_records_skipped += u64::from(written.skipped);
    if written.is_cut {
        counts.drop_one(DropReason::SampleMalformed);
    }
    match queue.push(row(&fixed, &packet)) {
        true => counts.discard_samples_decoded += 1,
        false => counts.drop_one(DropReason::SideBacklog),
    }
}

/// The row of a sample whose words before its records are `fixed`, and whose records say `packet`.
fn row(fixed: &[u32; 8], packet: &Flow) -> DiscardedPacket {
    let [
        sequence,
        source_class,
        source_index,
        untold,
        in_if,
        out_if,
        reason,
        _,
    ] = *fixed;
    DiscardedPacket {
        time_received: packet.time_received_s,
        exporter_addr: packet.exporter_addr.0.into(),
        exporter_source: packet.exporter_source.0.into(),
        observation_domain: packet.observation_domain,
        sequence,
        source_class,
        source_index,
        untold,
        in_if,
        out_if,
        reason,
        forwarding_status: forwarding_status_of(reason),
        src_addr: packet.src_addr.0.into(),
        dst_addr: packet.dst_addr.0.into(),
        src_port: packet.src_port,
        dst_port: packet.dst_port,
        protocol: packet.protocol,
        tcp_flags: packet.tcp_flags,
        tos: packet.tos,
        ttl: packet.ttl,
        icmp_type: packet.icmp_type,
        icmp_code: packet.icmp_code,
        bytes: packet.raw_bytes,
        ethertype: packet.detail.frame.ethertype,
        src_mac: packet.detail.frame.src_mac,
        dst_mac: packet.detail.frame.dst_mac,
        src_vlan: packet.src_vlan,
        dst_vlan: packet.dst_vlan,
    }
}
