//! The crate netflow_parser: NetFlow v5, v9 and IPFIX to lists of typed fields.
//!
//! With the `AutoScopedParser` that its documentation recommends where there are several exporters,
//! and the iterator that it calls the more efficient way.

use std::hint::black_box;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use flowsluice::generate::Protocols;
use flowsluice::receive::Datagram;
use flowsluice::units::UnixNanos;
use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{AutoScopedParser, NetflowPacket};

use super::Pass;
use crate::streams::Stream;

/// Everything but sFlow.
pub fn pass(protocols: Protocols, stream: &Stream) -> Result<Option<Pass>> {
    if protocols == Protocols::Sflow5 {
        return Ok(None);
    }
    let mut parser = AutoScopedParser::new();
    let received = UnixNanos::now();
    for datagram in stream.announcements(received) {
        decode(&mut parser, &datagram)?;
    }
    Ok(Some(Box::new(move |data| {
        let mut flows = 0;
        for index in 0..data.len() {
            flows += decode(&mut parser, &data.get(index, received))?;
        }
        Ok(flows as u64)
    })))
}

fn decode(parser: &mut AutoScopedParser, datagram: &Datagram<'_>) -> Result<usize> {
    let source = SocketAddr::new(datagram.source, datagram.source_port);
    let mut flows = 0;
    for packet in parser.iter_packets_from_source(source, datagram.payload)? {
        flows += flows_of(&black_box(packet?))?;
    }
    Ok(flows)
}

fn flows_of(packet: &NetflowPacket) -> Result<usize> {
    Ok(match packet {
        NetflowPacket::V5(v5) => v5.flowsets.len(),
        NetflowPacket::V9(v9) => {
            let flows = v9.flowsets.iter().map(|set| match &set.body {
                v9::FlowSetBody::Data(data) => data.fields.len(),
                _ => 0,
            });
            flows.sum()
        }
        NetflowPacket::IPFix(ipfix) => {
            let flows = ipfix.flowsets.iter().map(|set| match &set.body {
                ipfix::FlowSetBody::Data(data) => data.fields.len(),
                _ => 0,
            });
            flows.sum()
        }
        _ => bail!("a packet of a protocol that nobody sent"),
    })
}
