//! What the simulator says that it sent is what the decoder makes of it.

use std::sync::Arc;

use flowsluice::config::Decode;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::flow::{Flow, SamplingSource};
use flowsluice::generate::capture::{self, Capture};
use flowsluice::generate::pace::Limits;
use flowsluice::generate::{Profile, Protocol, Protocols, Settings, Simulator, Sums, send};
use flowsluice::ledger::{DropReason, WorkerCounts};
use flowsluice::receive::{Datagram, replay};
use flowsluice::units::UnixNanos;

#[derive(Default)]
struct Sink(Vec<Flow>);

impl FlowSink for Sink {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

const START: UnixNanos = UnixNanos(1_750_000_000_123_456_789);

fn decoded_sums_equal_the_totals(protocols: Protocols, profile: Profile, exporters: usize) {
    let settings = Settings {
        protocols,
        profile,
        exporters,
        ..Settings::default()
    };
    let mut simulator = Simulator::new(&settings, START).unwrap();
    let mut decoder = Decoder::new(&Decode::default(), &[], Arc::new(Shared::default()));
    let mut counts = WorkerCounts::default();
    let mut sink = Sink::default();
    let mut decoded = Sums::default();
    let mut now = START;
    while simulator.totals().all.flows < 200_000 {
        now.0 += 10_000_000;
        let datagram = simulator.next(now);
        decoder.decode(
            &Datagram {
                source: send::source_address([127, 0, 0, 1].into(), datagram.exporter),
                source_port: 50_000,
                local_port: 2055,
                received: now,
                payload: datagram.payload,
                cut: false,
            },
            &mut counts,
            &mut sink,
        );
        decoder.turn();
        decoded.datagrams += 1;
        assert_eq!(sink.0.len(), datagram.flows as usize);
        let clock_is_right = exporters < 20 || datagram.exporter != exporters - 2;
        for flow in sink.0.drain(..) {
            decoded.flows += 1;
            decoded.raw_bytes += flow.raw_bytes;
            decoded.raw_packets += flow.raw_packets;
            decoded.bytes += flow.raw_bytes * flow.scale();
            decoded.packets += flow.raw_packets * flow.scale();
            assert!(!flow.src_addr.is_unknown() && !flow.dst_addr.is_unknown());
            if datagram.protocol == Protocol::Netflow9 || datagram.protocol == Protocol::Ipfix {
                assert_eq!(flow.sampling_source, SamplingSource::Options);
            }
            let age_ms = now.millis() as i64 - flow.flow_end_ms as i64;
            assert!(
                !clock_is_right || (-1_000..=80_000).contains(&age_ms),
                "{age_ms} ms: {flow:?}"
            );
            assert!(flow.duration_ms() <= 60_000);
        }
    }
    for &reason in DropReason::ALL {
        assert_eq!(counts.dropped(reason), 0, "{reason:?}");
    }
    assert_eq!(decoded, simulator.totals().all);
}

#[test]
fn netflow5_sums_are_those_of_the_simulator() {
    decoded_sums_equal_the_totals(Protocols::Netflow5, Profile::Realistic, 50);
}

#[test]
fn netflow9_sums_are_those_of_the_simulator() {
    decoded_sums_equal_the_totals(Protocols::Netflow9, Profile::Realistic, 50);
}

#[test]
fn ipfix_sums_are_those_of_the_simulator() {
    decoded_sums_equal_the_totals(Protocols::Ipfix, Profile::Realistic, 50);
}

#[test]
fn sflow_sums_are_those_of_the_simulator() {
    decoded_sums_equal_the_totals(Protocols::Sflow5, Profile::Realistic, 50);
}

#[test]
fn sums_of_the_mix_are_those_of_the_simulator() {
    for exporters in [4, 50] {
        decoded_sums_equal_the_totals(Protocols::Mix, Profile::Realistic, exporters);
    }
}

#[test]
fn sums_of_uniform_flows_are_those_of_the_simulator() {
    decoded_sums_equal_the_totals(Protocols::Mix, Profile::Uniform, 50);
}

#[test]
fn a_written_capture_replays_datagram_for_datagram() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("generated.pcap");
    let mut simulator = Simulator::new(&Settings::default(), START).unwrap();
    let mut capture = Capture::begin(std::fs::File::create(&file).unwrap()).unwrap();
    let limits = Limits {
        rate: 1_000,
        flows: Some(20_000),
        duration: None,
    };
    capture::run(&mut simulator, &mut capture, &limits, START).unwrap();
    capture.finish().unwrap();
    let (mut datagrams, mut bytes) = (0, 0);
    replay::Capture::new(vec![file])
        .for_each(&mut |datagram: &Datagram<'_>| {
            datagrams += 1;
            bytes += datagram.payload.len();
            assert!(datagram.received >= UnixNanos(START.0 - 1_000));
        })
        .unwrap();
    assert_eq!(datagrams, simulator.totals().all.datagrams);
    assert!(bytes > 1_000_000);
}
