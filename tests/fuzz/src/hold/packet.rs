//! Sampled packets: what is read of the beginning stands, and every protocol that carries a packet
//! reads the same in it.

use std::sync::Arc;

use flowsluice::config::{self, Tunnels};
use flowsluice::decode::packet::{self, Link};
use flowsluice::flow::{Flow, MPLS_LABELS_MAX};
use flowsluice::receive::Datagram;

use super::Watched;
use crate::make::{frame, sflow};
use crate::tape;

/// A sampled packet is not longer.
const SAMPLED_MAX: usize = 1024;
const LINK_AND_LENGTH: usize = 5;

/// Parses a packet. Inputs are those of [`frame::input`].
///
/// # Panics
/// When a property does not hold.
pub fn packet(input: &[u8]) {
    let Some((head, bytes)) = input.split_first_chunk::<LINK_AND_LENGTH>() else {
        return;
    };
    let [link, len @ ..] = *head;
    let link = frame::LINKS[usize::from(link) % frame::LINKS.len()];
    let frame_len = u32::from_be_bytes(len);
    let bytes = &bytes[..bytes.len().min(SAMPLED_MAX)];
    let whole = parsed(link, bytes, frame_len);
    assert!(usize::from(whole.detail.mpls_count) <= MPLS_LABELS_MAX);
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = parsed(link, &bytes[..cut], frame_len);
        assert_stands(&part, &whole);
    }
    let by_sflow = of_sflow(link, bytes, frame_len, Tunnels::Outer);
    assert_eq!(seen(&by_sflow), seen(&whole), "by sFlow");
    if link == Link::Ethernet {
        let by_ipfix = of_ipfix(bytes, frame_len, Tunnels::Outer);
        assert_eq!(seen(&by_ipfix), seen(&whole), "by IPFIX");
        // The packet inside of a tunnel, where that is wanted.
        let by_sflow = of_sflow(link, bytes, frame_len, Tunnels::Inner);
        let by_ipfix = of_ipfix(bytes, frame_len, Tunnels::Inner);
        assert_eq!(seen(&by_sflow), seen(&by_ipfix), "inside, by both");
    }
}

fn parsed(link: Link, bytes: &[u8], frame_len: u32) -> Flow {
    let mut flow = Flow::EMPTY;
    packet::parse(link, bytes, frame_len, &mut flow);
    flow
}

/// What more bytes show does not change what fewer showed.
fn assert_stands(part: &Flow, whole: &Flow) {
    let macs = |flow: &Flow| (flow.detail.frame.src_mac, flow.detail.frame.dst_mac);
    assert!(macs(part) == (0, 0) || macs(part) == macs(whole));
    assert!(part.src_vlan == 0 || part.src_vlan == whole.src_vlan);
    let ends = |flow: &Flow| (flow.src_addr, flow.dst_addr, flow.tos, flow.ttl);
    assert!(part.src_addr.is_unknown() || ends(part) == ends(whole));
    let ports = |flow: &Flow| (flow.src_port, flow.dst_port);
    assert!(ports(part) == (0, 0) || ports(part) == ports(whole));
    let labels = usize::from(part.detail.mpls_count);
    assert_eq!(
        part.detail.mpls_labels[..labels],
        whole.detail.mpls_labels[..labels]
    );
}

/// What every carrier takes from the packet alone.
fn seen(flow: &Flow) -> impl PartialEq + std::fmt::Debug {
    (
        (flow.src_addr, flow.dst_addr, flow.src_port, flow.dst_port),
        (flow.protocol, flow.tcp_flags, flow.tos, flow.ttl),
        (flow.icmp_type, flow.icmp_code, flow.src_vlan),
        flow.detail,
    )
}

fn only_flow(payload: &[u8], tunnels: Tunnels) -> Flow {
    let limits = config::Decode {
        tunnels,
        ..config::Decode::default()
    };
    let mut watched = Watched::new(&limits, &Arc::default());
    watched.decode(&Datagram {
        source: [192, 0, 2, 1].into(),
        source_port: 50_000,
        local_port: 2055,
        received: tape::RECEIVED,
        payload,
        cut: false,
    });
    let [flow] = watched.rows.0[..] else {
        panic!("one flow: {:?}", watched.counts);
    };
    flow
}

fn of_sflow(link: Link, bytes: &[u8], frame_len: u32, tunnels: Tunnels) -> Flow {
    let record = sflow::raw_header(frame::sflow_protocol(link), frame_len, bytes);
    only_flow(&sflow::of_record(&record), tunnels)
}

/// IE 315 with the length of the frame in IE 312, and IE 10 in front.
fn of_ipfix(bytes: &[u8], frame_len: u32, tunnels: Tunnels) -> Flow {
    let template = [2, 20, 256, 3, 10, 4, 312, 4, 315, 65_535u16];
    let mut record = 3u32.to_be_bytes().to_vec();
    record.extend(frame_len.to_be_bytes());
    record.push(255);
    record.extend((bytes.len() as u16).to_be_bytes());
    record.extend(bytes);
    let mut sets = template.map(u16::to_be_bytes).concat();
    sets.extend(
        [256, 4 + record.len() as u16]
            .map(u16::to_be_bytes)
            .concat(),
    );
    sets.extend(record);
    let mut message = [10, 16 + sets.len() as u16].map(u16::to_be_bytes).concat();
    message.extend([1_700_000_000u32, 1, 7].map(u32::to_be_bytes).concat());
    message.extend(sets);
    only_flow(&message, tunnels)
}
