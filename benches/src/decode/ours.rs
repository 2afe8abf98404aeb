//! Our decoder, driven as a worker drives it: bursts of datagrams, a clock reading and a turn each.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Result;
use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::flow::Flow;
use flowsluice::generate::Protocols;
use flowsluice::ledger::WorkerCounts;
use flowsluice::units::UnixNanos;

use super::Pass;
use crate::streams::Stream;

/// Takes flows as a batch would, and does nothing with them.
struct Nothing;

impl FlowSink for Nothing {
    #[inline]
    fn flows(&mut self, flows: &mut [Flow]) {
        black_box(flows);
    }
}

/// Every protocol.
pub fn pass(_: Protocols, stream: &Stream) -> Result<Option<Pass>> {
    let mut decoder = Decoder::new(&config::Decode::default(), &[], Arc::new(Shared::default()));
    let mut counts = WorkerCounts::default();
    for datagram in stream.announcements(UnixNanos::now()) {
        decoder.decode(&datagram, &mut counts, &mut Nothing);
        decoder.turn();
    }
    let burst = config::Receive::default().burst;
    Ok(Some(Box::new(move |data| {
        let before = counts.flows_decoded;
        let mut next = 0;
        while next < data.len() {
            let end = data.len().min(next + burst);
            let received = UnixNanos::now();
            for index in next..end {
                decoder.decode(&data.get(index, received), &mut counts, &mut Nothing);
            }
            decoder.turn();
            next = end;
        }
        Ok(counts.flows_decoded - before)
    })))
}
