//! Counter samples: what an agent's interfaces, VLANs and processor counted since it was started.
//!
//! In: a counter sample. Out: one [`InterfaceCounters`], through a bounded queue to whoever stores
//! it.
//! Drops: `sample_malformed`, `side_backlog`.
//! Specs: "sFlow Version 5", section 5 "Counter Data"; RFC 2863, RFC 3635 for what the fields mean.

use std::net::Ipv6Addr;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::record::Records;
use crate::decode::Cursor;
use crate::decode::outbox::Outbox;
use crate::flow::{Address, Flow};
use crate::ledger::{DropReason, WorkerCounts};
use crate::store::{SideRow, SideTable};

/// Counter samples that wait to be stored, of all workers; further ones are dropped and counted.
pub const COUNTER_SAMPLES_MAX: usize = 8192;

/// Counter record formats of enterprise 0 (<https://sflow.org/developers/structures.php>).
mod format {
    pub const INTERFACE: u32 = 1;
    pub const ETHERNET: u32 = 2;
    pub const VLAN: u32 = 5;
    pub const PROCESSOR: u32 = 1001;
}

/// Classes of a data source; the class of an ifIndex is 0.
const CLASS_INTERFACE: u32 = 0;
const CLASS_SHIFT: u32 = 24;
const INDEX_MASK: u32 = 0x00ff_ffff;

/// Whether an interface is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IfStatus {
    /// The sample does not say.
    #[default]
    Unknown,
    /// It is.
    Up,
    /// It is not.
    Down,
}

/// Which way an interface carries packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IfDirection {
    /// The agent does not say.
    #[default]
    Unknown,
    /// Both ways at once.
    FullDuplex,
    /// Both ways, one at a time.
    HalfDuplex,
    /// In only.
    In,
    /// Out only.
    Out,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $value:ty,)+) => {
        /// What one counter sample tells: a row of the table `interface_counters`, whose columns
        /// have these names. Counters run from the start of the agent and wrap. Unknown is 0.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct InterfaceCounters {
            /// When the datagram arrived, seconds since the epoch.
            pub time_received: u32,
            /// The agent's own address.
            pub exporter_addr: Address,
            /// The UDP source address.
            pub exporter_source: Address,
            $($(#[doc = $doc])+ pub $name: $value,)+
        }

        /// What is 0 is left out: most samples have a quarter of the fields, and ClickHouse fills
        /// the others with the same.
        impl Serialize for InterfaceCounters {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_map(None)?;
                row.serialize_entry("time_received", &self.time_received)?;
                let addr = |addr: Address| Ipv6Addr::from(addr.0);
                row.serialize_entry("exporter_addr", &addr(self.exporter_addr))?;
                row.serialize_entry("exporter_source", &addr(self.exporter_source))?;
                $(if self.$name != <$value>::default() {
                    row.serialize_entry(stringify!($name), &self.$name)?;
                })+
                row.end()
            }
        }

        /// Names of the fields that are counted or told, in the order of the table.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name),)+];
    };
}

counters! {
    /// The sub-agent.
    observation_domain: u32,
    /// Counter samples of this data source before this one.
    sequence: u32,
    /// What was counted at: 0 an interface, 1 a VLAN (smonVlanDataSource), 2 a physical entity.
    source_class: u32,
    /// Number of the data source within its class.
    source_index: u32,
    /// ifIndex.
    if_index: u32,
    /// ifType (IANAifType-MIB).
    if_type: u32,
    /// ifSpeed, bit/s.
    if_speed: u64,
    /// Duplex.
    if_direction: IfDirection,
    /// ifAdminStatus.
    if_admin_status: IfStatus,
    /// ifOperStatus.
    if_oper_status: IfStatus,
    /// ifPromiscuousMode: 1 is on, 2 is off (RFC 2863: TruthValue).
    if_promiscuous: u32,
    /// ifHCInOctets.
    in_octets: u64,
    /// ifInUcastPkts.
    in_unicast: u32,
    /// ifInMulticastPkts.
    in_multicast: u32,
    /// ifInBroadcastPkts.
    in_broadcast: u32,
    /// ifInDiscards.
    in_discards: u32,
    /// ifInErrors.
    in_errors: u32,
    /// ifInUnknownProtos.
    in_unknown_protocols: u32,
    /// ifHCOutOctets.
    out_octets: u64,
    /// ifOutUcastPkts.
    out_unicast: u32,
    /// ifOutMulticastPkts.
    out_multicast: u32,
    /// ifOutBroadcastPkts.
    out_broadcast: u32,
    /// ifOutDiscards.
    out_discards: u32,
    /// ifOutErrors.
    out_errors: u32,
    /// dot3StatsAlignmentErrors.
    ethernet_alignment_errors: u32,
    /// dot3StatsFCSErrors.
    ethernet_fcs_errors: u32,
    /// dot3StatsSingleCollisionFrames.
    ethernet_single_collisions: u32,
    /// dot3StatsMultipleCollisionFrames.
    ethernet_multiple_collisions: u32,
    /// dot3StatsSQETestErrors.
    ethernet_sqe_test_errors: u32,
    /// dot3StatsDeferredTransmissions.
    ethernet_deferred_transmissions: u32,
    /// dot3StatsLateCollisions.
    ethernet_late_collisions: u32,
    /// dot3StatsExcessiveCollisions.
    ethernet_excessive_collisions: u32,
    /// dot3StatsInternalMacTransmitErrors.
    ethernet_internal_transmit_errors: u32,
    /// dot3StatsCarrierSenseErrors.
    ethernet_carrier_sense_errors: u32,
    /// dot3StatsFrameTooLongs.
    ethernet_too_long_frames: u32,
    /// dot3StatsInternalMacReceiveErrors.
    ethernet_internal_receive_errors: u32,
    /// dot3StatsSymbolErrors.
    ethernet_symbol_errors: u32,
    /// VLAN that the following five were counted in.
    vlan_id: u32,
    /// Octets.
    vlan_octets: u64,
    /// Unicast packets.
    vlan_unicast: u32,
    /// Multicast packets.
    vlan_multicast: u32,
    /// Broadcast packets.
    vlan_broadcast: u32,
    /// Discarded packets.
    vlan_discards: u32,
    /// Load of the agent's processor in the last 5 seconds, hundredths of a percent.
    cpu_5s: u32,
    /// In the last minute.
    cpu_1m: u32,
    /// In the last 5 minutes.
    cpu_5m: u32,
    /// Memory of the agent, bytes.
    memory_total: u64,
    /// Part of it that is free, bytes.
    memory_free: u64,
}

impl SideRow for InterfaceCounters {
    const TABLE: SideTable = SideTable::InterfaceCounters;
}

/// Counters on their way from the workers to the store.
pub type CounterQueue = Outbox<InterfaceCounters, COUNTER_SAMPLES_MAX>;

/// Decodes a counter sample into `queue`. `base` says who sent it, and when.
#[inline(never)]
pub(super) fn decode(
    sample: &[u8],
    expanded: bool,
    base: &Flow,
    queue: &CounterQueue,
    counts: &mut WorkerCounts,
) {
    let Some((mut row, mut records)) = head(sample, expanded, base) else {
        counts.drop_one(DropReason::SampleMalformed);
        return;
    };
    let (mut is_any, mut is_cut) = (false, false);
    while let Some((format, body)) = records.next() {
        // Half a record is worse than none: its counters would jump to zero.
        let mut filled = row;
        let cursor = &mut Cursor::new(body);
        let read = match format {
            format::INTERFACE => interface(cursor, &mut filled),
            format::ETHERNET => ethernet(cursor, &mut filled),
            format::VLAN => vlan(cursor, &mut filled),
            format::PROCESSOR => processor(cursor, &mut filled),
            _ => {
                counts.counter_records_skipped += 1;
                continue;
            }
        };
        match read {
            Some(()) => (row, is_any) = (filled, true),
            None => is_cut = true,
        }
    }
    if is_cut || records.is_cut() {
        counts.drop_one(DropReason::SampleMalformed);
    }
    if !is_any {
        counts.counter_samples_skipped += 1;
    } else if queue.push(row) {
        counts.counter_samples_decoded += 1;
    } else {
        counts.drop_one(DropReason::SideBacklog);
    }
}

/// The fixed fields of a sample; `None` when it is shorter than they are.
fn head<'a>(
    sample: &'a [u8],
    expanded: bool,
    base: &Flow,
) -> Option<(InterfaceCounters, Records<'a>)> {
    let mut cursor = Cursor::new(sample);
    let (sequence, source_class, source_index, announced) = if expanded {
        let [sequence, class, index, announced] = cursor.words()?;
        (sequence, class, index, announced)
    } else {
        let [sequence, source, announced] = cursor.words()?;
        (
            sequence,
            source >> CLASS_SHIFT,
            source & INDEX_MASK,
            announced,
        )
    };
    let row = InterfaceCounters {
        time_received: base.time_received_s,
        exporter_addr: base.exporter_addr,
        exporter_source: base.exporter_source,
        observation_domain: base.observation_domain,
        sequence,
        source_class,
        source_index,
        // Records that follow may have no index of their own.
        if_index: match source_class {
            CLASS_INTERFACE => source_index,
            _ => 0,
        },
        ..InterfaceCounters::default()
    };
    Some((row, Records { cursor, announced }))
}

fn interface(cursor: &mut Cursor<'_>, row: &mut InterfaceCounters) -> Option<()> {
    const ADMIN_UP: u32 = 1;
    const OPER_UP: u32 = 2;
    row.if_index = cursor.u32()?;
    row.if_type = cursor.u32()?;
    row.if_speed = wide(cursor)?;
    row.if_direction = match cursor.u32()? {
        1 => IfDirection::FullDuplex,
        2 => IfDirection::HalfDuplex,
        3 => IfDirection::In,
        4 => IfDirection::Out,
        _ => IfDirection::Unknown,
    };
    let status = cursor.u32()?;
    let is_up = |bit| match status & bit {
        0 => IfStatus::Down,
        _ => IfStatus::Up,
    };
    row.if_admin_status = is_up(ADMIN_UP);
    row.if_oper_status = is_up(OPER_UP);
    row.in_octets = wide(cursor)?;
    row.in_unicast = narrow(cursor)?;
    row.in_multicast = narrow(cursor)?;
    row.in_broadcast = narrow(cursor)?;
    row.in_discards = narrow(cursor)?;
    row.in_errors = narrow(cursor)?;
    row.in_unknown_protocols = narrow(cursor)?;
    row.out_octets = wide(cursor)?;
    row.out_unicast = narrow(cursor)?;
    row.out_multicast = narrow(cursor)?;
    row.out_broadcast = narrow(cursor)?;
    row.out_discards = narrow(cursor)?;
    row.out_errors = narrow(cursor)?;
    row.if_promiscuous = narrow(cursor)?;
    Some(())
}

fn ethernet(cursor: &mut Cursor<'_>, row: &mut InterfaceCounters) -> Option<()> {
    row.ethernet_alignment_errors = narrow(cursor)?;
    row.ethernet_fcs_errors = narrow(cursor)?;
    row.ethernet_single_collisions = narrow(cursor)?;
    row.ethernet_multiple_collisions = narrow(cursor)?;
    row.ethernet_sqe_test_errors = narrow(cursor)?;
    row.ethernet_deferred_transmissions = narrow(cursor)?;
    row.ethernet_late_collisions = narrow(cursor)?;
    row.ethernet_excessive_collisions = narrow(cursor)?;
    row.ethernet_internal_transmit_errors = narrow(cursor)?;
    row.ethernet_carrier_sense_errors = narrow(cursor)?;
    row.ethernet_too_long_frames = narrow(cursor)?;
    row.ethernet_internal_receive_errors = narrow(cursor)?;
    row.ethernet_symbol_errors = narrow(cursor)?;
    Some(())
}

fn vlan(cursor: &mut Cursor<'_>, row: &mut InterfaceCounters) -> Option<()> {
    row.vlan_id = narrow(cursor)?;
    row.vlan_octets = wide(cursor)?;
    row.vlan_unicast = narrow(cursor)?;
    row.vlan_multicast = narrow(cursor)?;
    row.vlan_broadcast = narrow(cursor)?;
    row.vlan_discards = narrow(cursor)?;
    Some(())
}

fn processor(cursor: &mut Cursor<'_>, row: &mut InterfaceCounters) -> Option<()> {
    row.cpu_5s = narrow(cursor)?;
    row.cpu_1m = narrow(cursor)?;
    row.cpu_5m = narrow(cursor)?;
    row.memory_total = wide(cursor)?;
    row.memory_free = wide(cursor)?;
    Some(())
}

/// A counter of 32 bits. All ones is an agent's word for one that it does not have.
fn narrow(cursor: &mut Cursor<'_>) -> Option<u32> {
    cursor.u32().map(|value| match value {
        u32::MAX => 0,
        value => value,
    })
}

/// A counter of 64 bits, likewise.
fn wide(cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.u64().map(|value| match value {
        u64::MAX => 0,
        value => value,
    })
}

#[cfg(test)]
mod tests;
