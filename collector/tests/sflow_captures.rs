//! Every sFlow capture that other projects published decodes to its rows and their values.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use flowsluice::config::Tunnels;
use flowsluice::decode::sflow::{IfDirection, IfStatus, InterfaceCounters};
use flowsluice::decode::{Burst, BurstBuffer, FlowSink, sflow};
use flowsluice::flow::{Address, Flow, FlowType, SamplingSource, TunnelType};
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

struct Decoded {
    flows: Vec<Flow>,
    counters: Vec<InterfaceCounters>,
    counts: WorkerCounts,
}

fn decode(folder: &Path, expected: &Value, tunnels: Tunnels) -> Decoded {
    let files = expected["files"].as_array().unwrap();
    let files = files.iter().map(|f| folder.join(f.as_str().unwrap()));
    let mut counts = WorkerCounts::default();
    let beside = sflow::Beside::default();
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
            let context = sflow::Context {
                base: &mut base,
                tunnels,
                beside: &beside,
                agent: None,
            };
            let mut burst = Burst::new(&mut buffer, &mut flows);
            counts.datagrams_received += 1;
            match sflow::header(datagram.payload) {
                Ok((header, samples)) => {
                    sflow::decode(&header, samples, context, &mut counts, &mut burst);
                    counts.datagrams_decoded += 1;
                }
                Err(reason) => counts.drop_one(reason),
            }
            burst.flush();
        })
        .unwrap();
    counts.flows_batched = counts.flows_decoded;
    counts.flows_open = counts.flows_decoded;
    let mut rows = Vec::new();
    beside.counters.drain(|row| rows.push(row));
    Decoded {
        flows: flows.0,
        counters: rows,
        counts,
    }
}

/// The flow's value of a field of expected.json, and what the wire's number means in it.
fn field(flow: &Flow, name: &str, wire: &Value) -> Option<(Value, Value)> {
    let address = |ours: Address| {
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
        "src_mac" => mac(flow.detail.frame.src_mac),
        "dst_mac" => mac(flow.detail.frame.dst_mac),
        "ethertype" => number(flow.detail.frame.ethertype.into()),
        "src_addr" => address(flow.src_addr),
        "dst_addr" => address(flow.dst_addr),
        "protocol" => number(flow.protocol.into()),
        "tos" => number(flow.tos.into()),
        "ttl" => number(flow.ttl.into()),
        "ip_length" => number(flow.raw_bytes),
        "ip_id" => number(flow.detail.frame.fragment_id.into()),
        "flow_label" => number(flow.detail.frame.flow_label.into()),
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
    let (mut checked, mut values, mut counter_samples) = (0, 0, 0);
    for entry in index.as_array().unwrap() {
        if !entry["protocol"].as_str().unwrap().contains("sFlow") {
            continue;
        }
        let capture = entry["id"].as_str().unwrap();
        let folder = root.join(entry["dir"].as_str().unwrap());
        let expected = read_json(&folder.join("expected.json"));
        let Decoded {
            flows,
            counters,
            counts,
        } = decode(&folder, &expected, Tunnels::Outer);
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
        let decoded = counts.counter_samples_decoded;
        assert_eq!(counters.len() as u64, decoded, "{capture}");
        counter_samples += decoded;
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} captures");
    assert!(values > 900, "only {values} values");
    // Of 73: one tells of a virtual switch and its process, two of applications (formats 2201 up).
    assert_eq!(counter_samples, 70);
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
        counts.counter_samples_decoded + counts.counter_samples_skipped,
        samples("counter_samples") + samples("expanded_counter_samples"),
        "{capture}"
    );
    assert_eq!(
        counts.discard_samples_decoded,
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
    let expected = read_json(&folder.join("expected.json"));
    let flows = decode(&folder, &expected, Tunnels::Outer).flows;
    // Dropped, unroutable (IE 89).
    assert_eq!(flows[0].forwarding_status, 131);
}

#[test]
fn a_counter_sample_tells_what_the_interface_counted() {
    let Some(root) = captures() else { return };
    let folder = root.join("telegraf/sflow_v5_example");
    let expected = read_json(&folder.join("expected.json"));
    let counters = decode(&folder, &expected, Tunnels::Outer).counters;
    let agent = Address::from_v4([192, 168, 119, 184]);
    // Of broadcasts, multicasts and unknown protocols the agent says that it does not know.
    let expected = InterfaceCounters {
        exporter_addr: agent,
        observation_domain: 100_000,
        sequence: 2,
        source_index: 3,
        if_index: 3,
        if_type: 6,
        if_speed: 1_000_000_000,
        if_direction: IfDirection::FullDuplex,
        if_admin_status: IfStatus::Up,
        if_oper_status: IfStatus::Up,
        in_octets: 3910,
        in_unicast: 28,
        out_octets: 3946,
        out_unicast: 29,
        ..InterfaceCounters::default()
    };
    let found = counters.iter().map(|row| InterfaceCounters {
        time_received: 0,
        exporter_source: Address::UNKNOWN,
        ..*row
    });
    assert_eq!(found.collect::<Vec<_>>(), [expected]);
}

/// What Akvorado's own test expects of the packet inside of VXLAN.
#[test]
fn the_packet_inside_of_vxlan_is_the_flow_on_request() {
    let Some(root) = captures() else { return };
    let folder = root.join("akvorado/sflow-vxlan");
    let expected = read_json(&folder.join("expected.json"));
    let flow = decode(&folder, &expected, Tunnels::Inner).flows[0];
    let inner = &expected["peer"]["records"][0]["fields"];
    let mac = |mac: u64| {
        let bytes = mac.to_be_bytes()[2..]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<Vec<_>>();
        bytes.join(":")
    };
    let ours = serde_json::json!({
        "src_addr": flow.src_addr.to_string(),
        "dst_addr": flow.dst_addr.to_string(),
        "sampling_rate": flow.sampling_rate,
        "exporter": flow.exporter_addr.to_string(),
        "bytes": flow.raw_bytes,
        "packets": flow.raw_packets,
        "ethertype": flow.detail.frame.ethertype,
        "protocol": flow.protocol,
        "src_mac": mac(flow.detail.frame.src_mac),
        "dst_mac": mac(flow.detail.frame.dst_mac),
        "ttl": flow.ttl,
        "icmp6_type": flow.icmp_type,
        "flow_label": flow.detail.frame.flow_label,
    });
    assert_eq!(ours, *inner);
    assert_eq!(flow.detail.tunnel_type, TunnelType::Vxlan);
    assert_eq!(flow.detail.outer_src_addr.to_string(), "192.168.108.40");
    assert_eq!(flow.detail.outer_dst_addr.to_string(), "192.168.15.14");
}
