//! sFlow version 5: packet samples with the header of the frame, and now and then counters.
//!
//! Layout: "sFlow Version 5", sflow.org, July 2004, section 5. Switches send compact samples,
//! routers expanded ones.

use super::Family;
use super::exporters::Role;
use super::frame;
use super::stream::{Encoded, Export, PAYLOAD_MAX};
use super::traffic::FlowRecord;
use super::wire::Wire;

/// Samples of a datagram on average, as measured; most have five or six.
pub const SAMPLES_MEAN: f64 = 5.45;

/// Most samples of a datagram.
pub const SAMPLES_MAX: u32 = 7;

/// What an agent counts for one sub-agent.
#[derive(Debug, Default)]
pub struct Samples {
    flow_samples: u32,
    counter_samples: u32,
    octets: u64,
    /// The sample that did not fit the last datagram.
    kept: Option<FlowRecord>,
}

/// Writes one datagram.
pub fn encode(
    export: &Export<'_>,
    samples: &mut Samples,
    next: &mut impl FnMut() -> FlowRecord,
    wire: &mut Wire<'_>,
) -> Encoded {
    wire.u32(5);
    wire.u32(ADDRESS_V4);
    wire.u32(export.exporter.management.to_bits());
    wire.u32(export.domain);
    wire.u32(export.sequence);
    wire.u32(export.uptime_ms());
    wire.u32(0);
    let mut encoded = Encoded::default();
    let mut count = 0;
    if export.announce {
        counters(samples, wire);
        count += 1;
    }
    let flows_max = u64::from(export.flows_max);
    while encoded.sums.flows < flows_max {
        let flow = samples.kept.take().unwrap_or_else(&mut *next);
        let start = wire.position();
        let numbered = export.numbered(flow, encoded.sums.flows);
        let octets = flow_sample(
            export,
            samples.flow_samples.wrapping_add(1),
            &numbered,
            wire,
        );
        if wire.position() > PAYLOAD_MAX {
            wire.0.truncate(start);
            samples.kept = Some(flow);
            break;
        }
        samples.flow_samples = samples.flow_samples.wrapping_add(1);
        samples.octets += u64::from(octets);
        encoded
            .sums
            .add_flow(1, octets, export.exporter.sampling_rate());
        count += 1;
    }
    wire.patch_u32(COUNT_AT, count);
    encoded
}

fn flow_sample(export: &Export<'_>, number: u32, flow: &FlowRecord, wire: &mut Wire<'_>) -> u32 {
    let rate = export.exporter.sampling_rate();
    let is_expanded = export.exporter.role != Role::Access;
    let length_at = begin(
        if is_expanded {
            FLOW_SAMPLE_EXPANDED
        } else {
            FLOW_SAMPLE
        },
        wire,
    );
    wire.u32(number);
    if is_expanded {
        wire.u32(0);
    }
    wire.u32(flow.in_if);
    wire.u32(rate);
    wire.u32(number.wrapping_mul(rate));
    wire.u32(0);
    for interface in [flow.in_if, flow.out_if] {
        if is_expanded {
            wire.u32(0);
        }
        wire.u32(interface);
    }
    wire.u32(3);
    let octets = raw_header(export, flow, wire);
    extended_switch(flow, wire);
    extended_router(flow, wire);
    end(length_at, wire);
    octets
}

fn raw_header(export: &Export<'_>, flow: &FlowRecord, wire: &mut Wire<'_>) -> u32 {
    let length_at = begin(RAW_PACKET_HEADER, wire);
    wire.u32(HEADER_ETHERNET);
    let frame_length_at = wire.position();
    wire.u32(0);
    wire.u32(STRIPPED);
    wire.u32(0);
    let frame = frame::write(export.exporter, flow, wire);
    wire.pad4(length_at);
    wire.patch_u32(frame_length_at, frame.length);
    wire.patch_u32(frame_length_at + 8, frame.sampled);
    end(length_at, wire);
    frame.ip_octets
}

fn extended_switch(flow: &FlowRecord, wire: &mut Wire<'_>) {
    let length_at = begin(EXTENDED_SWITCH, wire);
    for vlan in [flow.vlan, flow.vlan] {
        wire.u32(u32::from(vlan));
        wire.u32(u32::from(flow.tos >> 5));
    }
    end(length_at, wire);
}

fn extended_router(flow: &FlowRecord, wire: &mut Wire<'_>) {
    let length_at = begin(EXTENDED_ROUTER, wire);
    wire.u32(match flow.family {
        Family::V4 => ADDRESS_V4,
        Family::V6 => ADDRESS_V6,
    });
    wire.address(flow.family, flow.next_hop);
    wire.u32(u32::from(flow.src_mask));
    wire.u32(u32::from(flow.dst_mask));
    end(length_at, wire);
}

/// The generic counters of one interface.
fn counters(samples: &mut Samples, wire: &mut Wire<'_>) {
    samples.counter_samples = samples.counter_samples.wrapping_add(1);
    let interface = 1 + samples.counter_samples % 48;
    let length_at = begin(COUNTER_SAMPLE, wire);
    wire.u32(samples.counter_samples);
    wire.u32(interface);
    wire.u32(1);
    let record_at = begin(GENERIC_COUNTERS, wire);
    wire.u32(interface);
    wire.u32(6); // ethernetCsmacd
    wire.u64(1_000_000_000);
    wire.u32(1); // full duplex
    wire.u32(3); // admin and oper up
    wire.u64(samples.octets);
    wire.u32(samples.flow_samples);
    // Multicast, broadcast, discards, errors and unknown protocols on the way in.
    wire.bytes(&[0; 20]);
    wire.u64(samples.octets);
    wire.u32(samples.flow_samples);
    // Multicast, broadcast, discards and errors on the way out, promiscuous mode.
    wire.bytes(&[0; 20]);
    end(record_at, wire);
    end(length_at, wire);
}

/// Writes a tag and leaves room for the length; yields where that stands.
fn begin(tag: u32, wire: &mut Wire<'_>) -> usize {
    wire.u32(tag);
    wire.u32(0);
    wire.position() - 4
}

fn end(length_at: usize, wire: &mut Wire<'_>) {
    let length = wire.position() - length_at - 4;
    wire.patch_u32(length_at, length as u32);
}

const ADDRESS_V4: u32 = 1;
const ADDRESS_V6: u32 = 2;
const FLOW_SAMPLE: u32 = 1;
const COUNTER_SAMPLE: u32 = 2;
const FLOW_SAMPLE_EXPANDED: u32 = 3;
const RAW_PACKET_HEADER: u32 = 1;
const EXTENDED_SWITCH: u32 = 1001;
const EXTENDED_ROUTER: u32 = 1002;
const GENERIC_COUNTERS: u32 = 1;
const HEADER_ETHERNET: u32 = 1;
/// The frame check sequence.
const STRIPPED: u32 = 4;
const COUNT_AT: usize = 24;
