//! A long session: state is bounded and closes after every datagram, and what is said to teach
//! nothing teaches nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use flowsluice::config::{self, ExporterOverride, TemplateScope, TimeSource};
use flowsluice::decode::Teaching;
use flowsluice::ledger::WorkerCounts;
use ipnet::IpNet;

use super::Watched;
use crate::tape;

/// So small that a tape reaches them.
fn limits() -> config::Decode {
    config::Decode {
        exporters_max: 6,
        templates_max: 12,
        templates_per_exporter_max: 5,
        template_lifetime: Duration::from_secs(3600),
        pending_max: ByteSize::kib(32),
        // One of the four exporters is told what to do.
        exporters: vec![ExporterOverride {
            source: IpNet::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3))),
            sampling_rate: 77,
            sampling_force: true,
            scope: TemplateScope::Exporter,
            time: TimeSource::Received,
        }],
        ..config::Decode::default()
    }
}

/// Decodes a tape of any protocols with limits that it reaches.
///
/// # Panics
/// When a property does not hold.
pub fn session(input: &[u8]) {
    let limits = limits();
    let shared = Arc::default();
    let mut first = Watched::new(&limits, &shared);
    let mut second = Watched::new(&limits, &shared);
    tape::play(&tape::frames(input), |frame, datagram| {
        let (mine, other) = match frame.is_for_second() {
            false => (&mut first, &mut second),
            true => (&mut second, &mut first),
        };
        let teaching = mine.decoder.teaching(datagram);
        if teaching == Teaching::Nothing {
            // Then another worker may have it, and nobody has to hear of it.
            let epoch = shared.epoch();
            other.decoder.take_over();
            other.decode(datagram);
            assert_eq!(shared.epoch(), epoch, "it taught something");
        } else {
            mine.decode(datagram);
        }
        for watched in [mine, other] {
            watched.decoder.turn();
            watched.decoder.age(datagram.received, &mut watched.counts);
        }
        let exporters = shared.exporters();
        assert!(exporters.len() <= limits.exporters_max, "{exporters:?}");
        let templates = exporters.iter().map(|exporter| exporter.templates);
        assert!(templates.max().unwrap_or(0) <= limits.templates_per_exporter_max as u64);
    });
    let mut sum = WorkerCounts::default();
    for watched in [&mut first, &mut second] {
        watched.decoder.finish(&mut watched.counts);
        sum.add(&watched.counts);
    }
    let rows = first.rows.0.len() + second.rows.0.len();
    assert_eq!(rows as u64, sum.flows_decoded);
    let done = sum.sets_replayed + sum.sets_given_up;
    assert_eq!(
        sum.sets_held, done,
        "every set that waited was decoded or counted"
    );
}
