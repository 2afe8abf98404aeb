//! Every capture in `../shared/captures` yields the rows and the values that its `expected.json`
//! tells, which were read from the wire by other programs. Single values that must be others stand,
//! with their reasons, in `tests/captures-exceptions.toml`; all the rest of such a capture holds.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowsluice::config;
use flowsluice::decode::{Decoder, FlowSink, Shared};
use flowsluice::flow::{Address, Direction, Flow};
use flowsluice::ledger::{Ledger, WorkerCounts};
use flowsluice::names::{ApplicationId, SavedName, Subject};
use flowsluice::receive::replay::Capture;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Exceptions {
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    /// The folder: `source/capture`.
    capture: String,
    /// Index in its `records`.
    record: usize,
    /// The name of the value there.
    value: String,
    /// What it has to be.
    must_be: Value,
    reason: String,
}

#[derive(Default)]
struct Rows(Vec<Flow>);

impl FlowSink for Rows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

#[test]
fn captures_yield_the_rows_and_values_that_others_read_from_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let captures = root.join("../shared/captures");
    if !captures.is_dir() {
        assert!(
            std::env::var_os("CI").is_none(),
            "there are no captures in ../shared/captures, and CI must not skip them"
        );
        eprintln!("skipped: there are no captures in ../shared/captures");
        return;
    }
    let exceptions = exceptions(&root.join("tests/captures-exceptions.toml"));
    let mut wrong = Vec::new();
    let found = expected_files(&captures);
    for file in &found {
        let name = name_of(&captures, file);
        let own: Vec<_> = exceptions.iter().filter(|e| e.capture == name).collect();
        if let Err(why) = check(file, &own) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(!found.is_empty(), "no expected.json found");
    for Exception { capture, .. } in &exceptions {
        let exists = found
            .iter()
            .any(|file| name_of(&captures, file) == *capture);
        assert!(exists, "exception {capture} is of no capture");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn exceptions(file: &Path) -> Vec<Exception> {
    let text = fs::read_to_string(file).expect("the list of exceptions is there");
    let list: Exceptions = toml::from_str(&text).expect("the list of exceptions is TOML");
    for Exception {
        capture, reason, ..
    } in &list.exceptions
    {
        assert!(reason.len() > 60, "{capture}: give a reason");
    }
    list.exceptions
}

fn expected_files(captures: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).expect("a folder can be read");
        let paths = entries.map(|entry| entry.expect("an entry can be read").path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut files: Vec<PathBuf> = folders(captures)
        .iter()
        .flat_map(|source| folders(source))
        .map(|capture| capture.join("expected.json"))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    files
}

fn name_of(captures: &Path, file: &Path) -> String {
    let folder = file.parent().expect("a file has a folder");
    let name = folder.strip_prefix(captures).expect("it was found there");
    name.to_string_lossy().into_owned()
}

fn check(expected_file: &Path, exceptions: &[&Exception]) -> Result<(), String> {
    let text = fs::read_to_string(expected_file).map_err(|e| e.to_string())?;
    let mut expected: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    for exception in exceptions {
        let Exception {
            record,
            value,
            must_be,
            ..
        } = exception;
        let place = &mut expected["records"][*record][value];
        if place.is_null() || place == must_be {
            return Err(format!(
                "record {record} has no other {value}; strike it out"
            ));
        }
        *place = must_be.clone();
    }
    let folder = expected_file.parent().expect("a file has a folder");
    let names = expected["files"].as_array().ok_or("no files")?;
    let files = names
        .iter()
        .filter_map(Value::as_str)
        .map(|name| folder.join(name))
        .collect();
    let rows = decode(files)?;
    let rows_expected = expected["rows_expected"]
        .as_u64()
        .ok_or("no rows_expected")?;
    let mut wrong = String::new();
    if rows.len() as u64 != rows_expected {
        wrong += &format!("{} rows instead of {rows_expected}; ", rows.len());
    }
    let mut free: Vec<&Flow> = rows.iter().collect();
    let records = expected["records"].as_array().ok_or("no records")?;
    let records = records.iter().filter_map(Value::as_object).enumerate();
    let both_ways = records.flat_map(|(number, record)| {
        let back = way_back(record).map(|back| (number, back));
        [Some((number, record.clone())), back].into_iter().flatten()
    });
    for (number, record) in both_ways {
        let record = &record;
        // Rows of the other direction stand between those of the records.
        match free
            .iter()
            .position(|row| differences(record, row).is_empty())
        {
            Some(at) => drop(free.remove(at)),
            None => {
                let near = free.iter().map(|row| differences(record, row));
                let near = near.min_by_key(Vec::len).unwrap_or_default();
                wrong += &format!("record {number}: {}; ", near.join(", "));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// What the row of the other direction must say, if `record` counted something there.
fn way_back(record: &Map<String, Value>) -> Option<Map<String, Value>> {
    const EXCHANGED: [(&str, &str); 10] = [
        ("src_addr", "dst_addr"),
        ("dst_addr", "src_addr"),
        ("src_port", "dst_port"),
        ("dst_port", "src_port"),
        ("in_if", "out_if"),
        ("out_if", "in_if"),
        ("reverse_bytes_total", "bytes_total"),
        ("reverse_packets_total", "packets_total"),
        ("responder_bytes", "bytes"),
        ("responder_packets", "packets"),
    ];
    const SAME: [&str; 3] = ["protocol", "start_ms", "end_ms"];
    let counters = EXCHANGED[6..]
        .iter()
        .filter_map(|(name, _)| record.get(*name));
    counters.clone().find(|value| **value != 0)?;
    let exchanged = EXCHANGED.iter().map(|(from, to)| (*from, *to));
    let all = exchanged.chain(SAME.map(|name| (name, name)));
    let back = all.filter_map(|(from, to)| Some((to.to_owned(), record.get(from)?.clone())));
    Some(back.collect())
}

/// The rows of a capture; the ledger agrees with itself and with them.
fn decode(files: Vec<PathBuf>) -> Result<Vec<Flow>, String> {
    decode_with(files, Arc::default())
}

fn decode_with(files: Vec<PathBuf>, shared: Arc<Shared>) -> Result<Vec<Flow>, String> {
    let mut decoder = Decoder::new(&config::Decode::default(), &[], shared);
    let mut counts = WorkerCounts::default();
    let mut rows = Rows::default();
    Capture::new(files)
        .for_each(&mut |datagram| {
            decoder.decode(datagram, &mut counts, &mut rows);
            decoder.turn();
        })
        .map_err(|error| format!("{error:?}"))?;
    if counts.flows_decoded != rows.0.len() as u64 {
        return Err(format!(
            "{} flows counted, {} came",
            counts.flows_decoded,
            rows.0.len()
        ));
    }
    // No batch follows here.
    counts.flows_batched = counts.flows_decoded;
    counts.flows_open = counts.flows_decoded;
    let ledger = Ledger::new(1);
    ledger.worker(0).publish(&counts);
    let snapshot = ledger.snapshot();
    if snapshot.unaccounted() != 0 {
        return Err(format!("unaccounted: {:?}", snapshot.equations()));
    }
    Ok(rows.0)
}

/// What of `record` the row does not say, as `name: got, want`.
fn differences(record: &Map<String, Value>, row: &Flow) -> Vec<String> {
    let wanted = record.iter().filter_map(|(name, value)| {
        let (got, want) = compare(record, name, value, row)?;
        (got != want).then(|| format!("{name}: {got} instead of {want}"))
    });
    wanted.collect()
}

/// Both sides of one value as text; `None` when the row has no place for it, or a better element
/// of the same record fills that place.
#[expect(clippy::too_many_lines, reason = "a table, one arm a name")]
fn compare(
    record: &Map<String, Value>,
    name: &str,
    value: &Value,
    row: &Flow,
) -> Option<(String, String)> {
    let absent = |names: &[&str]| names.iter().all(|name| !record.contains_key(*name));
    let unset = |name: &str| record.get(name).is_none_or(|v| v == 0 || v == "::");
    let number = |got: u64| Some((got.to_string(), value.as_u64()?.to_string()));
    let text = |got: String| Some((got, value.as_str()?.to_owned()));
    match name {
        "src_addr" if unset("src_addr6") => address(row.src_addr, value),
        "dst_addr" if unset("dst_addr6") => address(row.dst_addr, value),
        "next_hop" if unset("next_hop6") => address(row.next_hop, value),
        "bgp_next_hop" if unset("bgp_next_hop6") => address(row.detail.bgp_next_hop, value),
        "src_addr6" if !unset(name) => address(row.src_addr, value),
        "dst_addr6" if !unset(name) => address(row.dst_addr, value),
        "next_hop6" if !unset(name) => address(row.next_hop, value),
        "bgp_next_hop6" if !unset(name) => address(row.detail.bgp_next_hop, value),
        "agent" => address(row.exporter_addr, value),
        "src_mac" => text(mac(row.detail.frame.src_mac)),
        "dst_mac" => text(mac(row.detail.frame.dst_mac)),
        "post_dst_mac" if absent(&["dst_mac"]) => text(mac(row.detail.frame.dst_mac)),
        "bytes" | "ip_length" => number(row.raw_bytes),
        "bytes_total" if absent(&["bytes"]) => number(row.raw_bytes),
        "initiator_bytes" if absent(&["bytes", "bytes_total"]) => number(row.raw_bytes),
        "packets" => number(row.raw_packets),
        "packets_total" if absent(&["packets"]) => number(row.raw_packets),
        "initiator_packets" if absent(&["packets", "packets_total"]) => number(row.raw_packets),
        "src_port" => number(row.src_port.into()),
        "dst_port" => number(row.dst_port.into()),
        "protocol" => number(row.protocol.into()),
        "tos" => number(row.tos.into()),
        "tcp_flags" => number(row.tcp_flags.into()),
        "ttl" => number(row.ttl.into()),
        "ttl_min" if absent(&["ttl"]) => number(row.ttl.into()),
        "ip_id" => number(row.detail.frame.fragment_id.into()),
        "flow_label" => number(row.detail.frame.flow_label.into()),
        "ethertype" => number(row.detail.frame.ethertype.into()),
        // sFlow's output interface has a format in its upper bits; 0x3fffffff is the device itself.
        "in_if" | "out_if" if value.as_u64() >= Some(1 << 30) => None,
        "in_if" if unset("ingress_phys_if") || !unset(name) => number(row.in_if.into()),
        "out_if" if unset("egress_phys_if") || !unset(name) => number(row.out_if.into()),
        "ingress_phys_if" if unset("in_if") => number(row.in_if.into()),
        "egress_phys_if" if unset("out_if") => number(row.out_if.into()),
        "src_as" => number(row.src_as.into()),
        "dst_as" => number(row.dst_as.into()),
        "src_mask" => number(row.src_mask.into()),
        "dst_mask" => number(row.dst_mask.into()),
        // 0xffffffff is sFlow's unknown.
        "src_vlan" | "dst_vlan" if value == u64::from(u32::MAX) => None,
        "src_vlan" if unset("dot1q_vlan") || !unset(name) => number(row.src_vlan.into()),
        "dst_vlan" => number(row.dst_vlan.into()),
        "dot1q_vlan" if unset("src_vlan") => number(row.src_vlan.into()),
        "dot1q_customer_vlan" => number(row.detail.frame.inner_vlan.into()),
        "ingress_vrf_id" => number(row.detail.ingress_vrf.into()),
        "egress_vrf_id" => number(row.detail.egress_vrf.into()),
        "forwarding_status" => number(row.forwarding_status.into()),
        "flow_end_reason" => number(row.end_reason.into()),
        "firewall_event" => number(row.detail.firewall_event.into()),
        "icmp_type" => number(row.icmp_type.into()),
        "icmp_code" => number(row.icmp_code.into()),
        "icmp_type_code" => {
            let packed = u16::from_be_bytes([row.icmp_type, row.icmp_code]);
            number(packed.into())
        }
        "start_ms" => number(row.flow_start_ms),
        "end_ms" => number(row.flow_end_ms),
        "start_s" if absent(&["start_ms"]) => number(row.flow_start_ms / 1000),
        "end_s" if absent(&["end_ms"]) => number(row.flow_end_ms / 1000),
        "start_us_ntp" => number_of_ntp(row.flow_start_ms, value),
        "end_us_ntp" => number_of_ntp(row.flow_end_ms, value),
        // Where the exporter's uptime is not told, durations stay right all the same.
        "last_switched" if absent(&["end_ms"]) => {
            let first = record.get("first_switched")?.as_u64()?;
            let wanted = value.as_u64()?.wrapping_sub(first) & u64::from(u32::MAX);
            Some((row.duration_ms().to_string(), wanted.to_string()))
        }
        "duration_ms" if absent(&["first_switched"]) => number(row.duration_ms().into()),
        "observation_ms" if absent(&["end_ms", "end_s"]) => number(row.flow_end_ms),
        "sampling_interval" if !unset(name) => number(row.sampling_rate.into()),
        "sampling_rate" => number(row.sampling_rate.into()),
        "direction" => {
            let wanted = match value.as_u64()? {
                0 => Direction::Ingress,
                1 => Direction::Egress,
                _ => Direction::Undefined,
            };
            Some((format!("{:?}", row.direction), format!("{wanted:?}")))
        }
        _ => mpls_label(name, value, row),
    }
}

/// Seconds since 1900 and their fraction, hexadecimal (RFC 7011 section 6.1.9).
fn number_of_ntp(got_ms: u64, want: &Value) -> Option<(String, String)> {
    let want = u64::from_str_radix(want.as_str()?.strip_prefix("0x")?, 16).ok()?;
    let seconds = (want >> 32).checked_sub(2_208_988_800)?;
    let want_ms = seconds * 1000 + (((want & 0xffff_ffff) * 1000) >> 32);
    Some((got_ms.to_string(), want_ms.to_string()))
}

fn address(got: Address, want: &Value) -> Option<(String, String)> {
    let want: IpAddr = want.as_str()?.parse().ok()?;
    Some((got.to_string(), want.to_canonical().to_string()))
}

fn mac(mac: u64) -> String {
    let bytes = mac.to_be_bytes().map(|byte| format!("{byte:02x}"));
    bytes[2..].join(":")
}

/// `mpls_label_1` is the hexadecimal label stack entry of three bytes.
fn mpls_label(name: &str, value: &Value, row: &Flow) -> Option<(String, String)> {
    let number: usize = name.strip_prefix("mpls_label_")?.parse().ok()?;
    let entry = u32::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()?;
    let got = row.detail.mpls_labels.get(number - 1)?;
    Some((got.to_string(), (entry >> 4).to_string()))
}

/// The rows of one capture, and the names that it tells; `None` where there are no captures.
fn rows_and_names(capture: &str) -> Option<(Vec<Flow>, Vec<SavedName>)> {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if !captures.is_dir() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must not skip captures"
        );
        return None;
    }
    let folder = captures.join(capture);
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let files = expected["files"].as_array().unwrap().iter();
    let files = files.map(|name| folder.join(name.as_str().unwrap()));
    let shared = Arc::<Shared>::default();
    let rows = decode_with(files.collect(), Arc::clone(&shared)).unwrap();
    shared.names.take_in(|_| {});
    Some((rows, shared.names.export()))
}

/// What the records of vendors say in elements that expected.json does not read.
#[test]
fn enterprise_elements_fill_columns_that_the_record_leaves_empty() {
    // Cisco AVC: the client is the source, the server the destination.
    let Some((rows, _)) = rows_and_names("netflow_parser/ipfix-cisco-avc-enterprise") else {
        return;
    };
    assert_eq!(rows[0].src_addr.to_string(), "10.209.101.66");
    assert_eq!(rows[0].dst_addr.to_string(), "10.0.0.241");
    assert_eq!((rows[0].src_port, rows[0].dst_port), (49_376, 80));
    // Viptela: the VPN is the VRF.
    let (rows, _) = rows_and_names("logstash-codec-netflow/ipfix-viptela").unwrap();
    assert_eq!(rows[0].detail.ingress_vrf, 100);
    // YAF: the TCP flags stand in a subTemplateMultiList.
    let (rows, _) = rows_and_names("telegraf/ipfix_example").unwrap();
    let of_port = |src_port, dst_port| {
        let found = |row: &&Flow| (row.src_port, row.dst_port) == (src_port, dst_port);
        rows.iter().find(found).map(|row| row.tcp_flags)
    };
    assert_eq!(of_port(51_008, 443), Some(0x14));
    assert_eq!(of_port(54_330, 443), Some(0x11));
    assert_eq!(of_port(443, 54_330), Some(0x11));
}

/// Names that routers told in captures, by what they name.
#[test]
fn captures_name_interfaces_vrfs_and_applications() {
    let capture = "pmacct-netgauze/112-IPFIXv10-CISCO-options-map-reassignment";
    let Some((_, routers)) = rows_and_names(capture) else {
        return;
    };
    let of = |wanted: fn(&Subject) -> bool| {
        let named = routers.iter().filter(move |name| wanted(&name.subject));
        named.map(|name| name.name.as_str()).collect::<Vec<_>>()
    };
    let interfaces = of(|subject| matches!(subject, Subject::Interface(_)));
    assert!(interfaces.contains(&"TenGigE0_0_0_16.22"), "{interfaces:?}");
    let vrfs = of(|subject| matches!(subject, Subject::Vrf(_)));
    assert!(vrfs.contains(&"**nVSatellite"), "{vrfs:?}");
    let capture = "logstash-codec-netflow/nf9-cisco-nbar-options260";
    let (_, applications) = rows_and_names(capture).unwrap();
    assert_eq!(applications.len(), 15);
    let gre = ApplicationId {
        engine: 1,
        selector: 47,
    };
    let gre = applications
        .iter()
        .find(|n| n.subject == Subject::Application(gre));
    let gre = gre.map(|n| (n.name.as_str(), n.description.as_str()));
    assert_eq!(gre, Some(("gre", "General Routing Encapsulation")));
}
