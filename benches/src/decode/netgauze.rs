//! The crate netgauze-flow-pkt: NetFlow v9 and IPFIX to lists of typed fields.
//!
//! Its parsers take the templates of one exporter as an argument. They are kept by source address,
//! port and observation domain, as RFC 7011 §8 wants; its codec would copy each datagram as well.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::SocketAddr;

use anyhow::{Result, anyhow};
use flowsluice::generate::Protocols;
use flowsluice::receive::Datagram;
use flowsluice::units::UnixNanos;
use netgauze_flow_pkt::{ipfix, netflow};
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

use super::Pass;
use crate::streams::{Stream, domain};

/// NetFlow v9 and IPFIX.
pub fn pass(protocols: Protocols, stream: &Stream) -> Result<Option<Pass>> {
    match protocols {
        Protocols::Netflow9 => with(stream, netflow9).map(Some),
        Protocols::Ipfix => with(stream, ipfix).map(Some),
        _ => Ok(None),
    }
}

type Decode<T> = fn(&[u8], &mut T) -> Result<usize>;

fn with<T: Default + 'static>(stream: &Stream, decode: Decode<T>) -> Result<Pass> {
    let mut templates: HashMap<(SocketAddr, [u8; 4]), T> = HashMap::new();
    let mut one = move |datagram: &Datagram<'_>| {
        let source = SocketAddr::new(datagram.source, datagram.source_port);
        let of_exporter = templates.entry((source, domain(datagram.payload)));
        decode(datagram.payload, of_exporter.or_default())
    };
    let received = UnixNanos::now();
    for datagram in stream.announcements(received) {
        one(&datagram)?;
    }
    Ok(Box::new(move |data| {
        let mut flows = 0;
        for index in 0..data.len() {
            flows += one(&data.get(index, received))?;
        }
        Ok(flows as u64)
    }))
}

fn netflow9(payload: &[u8], templates: &mut netflow::TemplatesMap) -> Result<usize> {
    let mut reader = SliceReader::new(payload);
    let packet = netflow::NetFlowV9Packet::parse(&mut reader, templates);
    let packet = black_box(packet.map_err(|error| anyhow!("{error}"))?);
    let flows = packet.sets().iter().map(|set| match set {
        netflow::Set::Data { records, .. } => {
            let is_flow = |r: &&netflow::DataRecord| r.scope_fields().is_empty();
            records.iter().filter(is_flow).count()
        }
        _ => 0,
    });
    Ok(flows.sum())
}

fn ipfix(payload: &[u8], templates: &mut ipfix::TemplatesMap) -> Result<usize> {
    let mut reader = SliceReader::new(payload);
    let packet = ipfix::IpfixPacket::parse(&mut reader, templates);
    let packet = black_box(packet.map_err(|error| anyhow!("{error}"))?);
    let flows = packet.sets().iter().map(|set| match set {
        ipfix::Set::Data { records, .. } => {
            let is_flow = |r: &&ipfix::DataRecord| r.scope_fields().is_empty();
            records.iter().filter(is_flow).count()
        }
        _ => 0,
    });
    Ok(flows.sum())
}
