//! Every sFlow capture that other projects published decodes to its rows and their values.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use flowsluice::decode::{Burst, BurstBuffer, FlowSink, sflow};
use flowsluice::flow::{Flow, FlowType, SamplingSource};
use flowsluice::ledger::{DropReason, Ledger, WorkerCounts};
use flowsluice::receive::replay::Capture;
use serde_json::Value;

/// Values of expected.json that a flow rightly does not have: capture, record, field, our value.
const EXCEPTIONS: &[(&str, usize, &str, u64)] = &[
    // 0 is the hop-by-hop header; the packet is an MLD report, ICMPv6, behind it.
    ("sflow_issue_15918", 2, "protocol", 58),
    // The agent sends netmasks for prefix lengths.
    ("sflow-extended-router", 0, "src_mask", 32),
];

struct Flows(Vec<Flow>);

impl FlowSink for Flows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

/// Where the captures are, when they are there: beside the checkout.
fn captures() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if root.join("INDEX.json").exists() {
        return Some(root);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no captures in {}",
        root.display()
    );
    eprintln!("skipped: no captures in {}", root.display());
    None
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn decode(folder: &Path, expected: &Value) -> (Vec<Flow>, WorkerCounts) {
    let files = expected["files"].as_array().unwrap();
    let files = files.iter().map(|f| folder.join(f.as_str().unwrap()));
    let mut counts = WorkerCounts::default();
    let mut flows = Flows(Vec::new());
    let mut buffer = BurstBuffer::default();
    Capture::new(files.collect())
        .for_each(&mut |datagram| {
            let mut base = Flow {
                exporter_source: datagram.source.into(),
                time_received_s: datagram.received.seconds(),
                flow_type: FlowType::Sflow5,
                ..Flow::EMPTY
            };
            let mut burst = Burst::new(&mut buffer, &mut flows);
            counts.datagrams_received += 1;
            match sflow::header(datagram.payload) {
                Ok((header, samples)) => {
                    sflow::decode(&header, samples, &mut base, &mut counts, &mut burst);
                    counts.datagrams_decoded += 1;
                }
                Err(reason) => counts.drop_one(reason),
            }
            burst.flush();
        })
        .unwrap();
    counts.flows_batched = counts.flows_decoded;
    counts.flows_open = counts.flows_decoded;
    (flows.0, counts)
}

/// The flow's value of a field of expected.json, and what the wire's number means in it.
fn field(flow: &Flow, name: &str, wire: &Value) -> Option<(Value, Value)> {
    let address = |ours: flowsluice::flow::Address| {
        let wire: IpAddr = wire.as_str()?.parse().ok()?;
        // A next hop of 0.0.0.0 is as unknown as none; both are the same nowhere.
        let ours = match ours.is_unknown() {
            true if wire.is_unspecified() => wire,
            _ => ours.to_ip(),
        };
        Some((ours.to_string().into(), wire.to_string().into()))
    };
    let mac = |ours: u64| {
        let bytes = ours.to_be_bytes();
        let text: Vec<_> = bytes[2..].iter().map(|b| format!("{b:02x}")).collect();
        Some((text.join(":").into(), wire.clone()))
    };
    let number = |ours: u64| Some((ours.into(), wire.clone()));
    let vlan = |ours: u16| {
        let wire = wire.as_u64()?;
        let wire = if wire == u64::from(u32::MAX) { 0 } else { wire };
        Some((ours.into(), wire.into()))
    };
    match name {
        "agent" => address(flow.exporter_addr),
        "sampling_rate" => number(flow.sampling_rate.into()),
        "in_if" => number(flow.in_if.into()),
        "out_if" => number(flow.out_if.into()),
        "src_vlan" => vlan(flow.src_vlan),
        "dst_vlan" => vlan(flow.dst_vlan),
        "header_vlans" => vlan(flow.src_vlan).or(Some((vec![flow.src_vlan].into(), wire.clone()))),
        "src_mac" => mac(flow.detail.src_mac),
        "dst_mac" => mac(flow.detail.dst_mac),
        "ethertype" => number(flow.detail.ethertype.into()),
        "src_addr" => address(flow.src_addr),
        "dst_addr" => address(flow.dst_addr),
        "protocol" => number(flow.protocol.into()),
        "tos" => number(flow.tos.into()),
        "ttl" => number(flow.ttl.into()),
        "ip_length" => number(flow.raw_bytes),
        "ip_id" => number(flow.detail.fragment_id.into()),
        "flow_label" => number(flow.detail.flow_label.into()),
        "src_port" => number(flow.src_port.into()),
        "dst_port" => number(flow.dst_port.into()),
        "tcp_flags" => number(flow.tcp_flags.into()),
        "icmp_type" => number(flow.icmp_type.into()),
        "icmp_code" => number(flow.icmp_code.into()),
        "next_hop" => address(flow.next_hop),
        "bgp_next_hop" => address(flow.detail.bgp_next_hop),
        "src_mask" => number(flow.src_mask.into()),
        "dst_mask" => number(flow.dst_mask.into()),
        "src_as" => number(flow.src_as.into()),
        "dst_as" => number(flow.dst_as.into()),
        _ => None,
    }
}

fn assert_accounted(counts: &WorkerCounts, capture: &str) {
    let ledger = Ledger::new(1);
    ledger.worker(0).publish(counts);
    assert_eq!(ledger.snapshot().unaccounted(), 0, "{capture}: {counts:?}");
}

#[test]
fn every_sflow_capture_gives_its_rows_and_their_values() {
    let Some(root) = captures() else { return };
    let index = read_json(&root.join("INDEX.json"));
    let mut exceptions: HashSet<_> = EXCEPTIONS.iter().collect();
    let (mut checked, mut values) = (0, 0);
    for entry in index.as_array().unwrap() {
        if !entry["protocol"].as_str().unwrap().contains("sFlow") {
            continue;
        }
        let capture = entry["id"].as_str().unwrap();
        let folder = root.join(entry["dir"].as_str().unwrap());
        let expected = read_json(&folder.join("expected.json"));
        let (flows, counts) = decode(&folder, &expected);
        let rows = expected["rows_expected"].as_u64();
        assert_eq!(Some(flows.len() as u64), rows, "{capture}: {counts:?}");
        let none = Vec::new();
        let records = expected["records"].as_array().unwrap_or(&none);
        for (n, (record, flow)) in records.iter().zip(&flows).enumerate() {
            assert_eq!(flow.flow_type, FlowType::Sflow5);
            assert_eq!(flow.sampling_source, SamplingSource::Header);
            assert_eq!(flow.raw_packets, 1);
            for (name, wire) in record.as_object().unwrap() {
                let Some((ours, wire)) = field(flow, name, wire) else {
                    continue;
                };
                values += 1;
                let exception = EXCEPTIONS
                    .iter()
                    .find(|(c, r, f, _)| (*c, *r, *f) == (capture, n, name));
                if let Some(exception) = exception {
                    assert_eq!(ours, exception.3, "{capture}: record {n}: {name}");
                    exceptions.remove(exception);
                } else {
                    assert_eq!(ours, wire, "{capture}: record {n}: {name}: {flow:#?}");
                }
            }
        }
        assert_accounted(&counts, capture);
        assert_samples(&expected, &counts, capture);
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} captures");
    assert!(values > 900, "only {values} values");
    assert!(exceptions.is_empty(), "no exceptions: {exceptions:?}");
}

/// Nothing but what the captures are known for is dropped.
fn assert_samples(expected: &Value, counts: &WorkerCounts, capture: &str) {
    let samples = |name: &str| expected["sflow_samples"][name].as_u64().unwrap_or(0);
    assert_eq!(
        counts.records_present,
        samples("flow_samples") + samples("expanded_flow_samples"),
        "{capture}"
    );
    assert_eq!(
        counts.counter_samples_skipped,
        samples("counter_samples") + samples("expanded_counter_samples"),
        "{capture}"
    );
    assert_eq!(
        counts.discard_samples_skipped,
        samples("drop_samples"),
        "{capture}"
    );
    for &reason in DropReason::ALL {
        let known = match (capture, reason) {
            // It ends within its IPv6 agent address.
            ("sflow-print-segv", DropReason::DatagramTruncated) => 1,
            // The sample is four bytes shorter than the record in it.
            ("sflow-extended-router", DropReason::SampleMalformed) => 1,
            _ => 0,
        };
        assert_eq!(counts.dropped(reason), known, "{capture}: {reason:?}");
    }
}

#[test]
fn a_discarded_packet_has_a_forwarding_status() {
    let Some(root) = captures() else { return };
    let folder = root.join("akvorado/sflow-discard-interface");
    let (flows, _) = decode(&folder, &read_json(&folder.join("expected.json")));
    // Dropped, unroutable (IE 89).
    assert_eq!(flows[0].forwarding_status, 131);
}
