//! What options records call interfaces, VRFs and applications.

mod messages;

use std::net::Ipv4Addr;
use std::sync::Arc;

use flowsluice::config;
use flowsluice::decode::Shared;
use flowsluice::enrich::applications::Applications;
use flowsluice::enrich::sides::{self, Sides};
use flowsluice::enrich::{KEYS, Keys};
use flowsluice::flow::Address;
use flowsluice::names::{ApplicationId, Names, Subject};
use messages::{
    Bench, ipfix, netflow9, options_template_ipfix, options_template_v9, set, template,
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

struct Exporter {
    bench: Bench,
    shared: Arc<Shared>,
}

impl Exporter {
    fn new() -> Self {
        let shared = Arc::<Shared>::default();
        let bench = Bench::with(&config::Decode::default(), Arc::clone(&shared));
        Self { bench, shared }
    }

    fn names(&self) -> Arc<Names> {
        self.shared.names.take_in(|_| {});
        self.shared.names.snapshot()
    }
}

/// Name and description.
fn named(names: &Names, exporter: Ipv4Addr, subject: Subject) -> Option<(&str, &str)> {
    let named = names.get(Address::from(exporter), 7, subject)?;
    Some((&named.name, &named.description))
}

fn padded(text: &str, len: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(len, 0);
    bytes
}

#[test]
fn an_interface_table_of_ipfix_with_scopes_in_and_out() {
    // As IOS XR sends it: scopes 10 and 14, then description and name.
    let mut exporter = Exporter::new();
    let fields = [(10, 4), (14, 4), (83, 64), (82, 64)];
    let mut records = Vec::new();
    for (if_index, name) in [(55_u32, "HundredGigE0_0_0_11"), (185, "TenGigE0_0_0_16.22")] {
        records.extend([if_index, if_index].map(u32::to_be_bytes).concat());
        records.extend(padded(&name.replace('_', "/"), 64));
        records.extend(padded(name, 64));
    }
    let templates = set(3, &options_template_ipfix(256, 2, &fields));
    exporter
        .bench
        .decode(&ipfix(&[templates, set(256, &records)]));
    let names = exporter.names();
    let of = |if_index| named(&names, ROUTER, Subject::Interface(if_index)).unwrap();
    assert_eq!(of(55), ("HundredGigE0_0_0_11", "HundredGigE0/0/0/11"));
    assert_eq!(of(185), ("TenGigE0_0_0_16.22", "TenGigE0/0/0/16.22"));
    assert_eq!(exporter.bench.counts.names_told, 2);
    assert_eq!(exporter.bench.counts.options_records, 2);
}

#[test]
fn an_interface_table_of_netflow9_by_its_scope_or_by_a_field() {
    let mut exporter = Exporter::new();
    let by_scope = options_template_v9(256, &[(2, 4)], &[(82, 8)]);
    let by_field = options_template_v9(257, &[(1, 4)], &[(10, 2), (82, 8)]);
    let first = [&[0, 0, 0, 3][..], &padded("Fa0/3", 8)].concat();
    let second = [&[192, 0, 2, 1, 0, 4][..], &padded("Fa0/4", 8)].concat();
    let sets = [
        set(1, &by_scope),
        set(1, &by_field),
        set(256, &first),
        set(257, &second),
    ];
    exporter.bench.decode(&netflow9(&sets));
    let names = exporter.names();
    assert_eq!(
        named(&names, ROUTER, Subject::Interface(3)),
        Some(("Fa0/3", ""))
    );
    assert_eq!(
        named(&names, ROUTER, Subject::Interface(4)),
        Some(("Fa0/4", ""))
    );
}

#[test]
fn a_vrf_table_and_names_of_variable_length() {
    let mut exporter = Exporter::new();
    let fields = [(234, 4), (236, 65_535)];
    let mut records = Vec::new();
    for (id, name) in [(0x6000_0000_u32, "default"), (0x6000_0001, "D10")] {
        records.extend(id.to_be_bytes());
        records.push(name.len() as u8);
        records.extend(name.as_bytes());
    }
    let templates = set(3, &options_template_ipfix(334, 1, &fields));
    exporter
        .bench
        .decode(&ipfix(&[templates, set(334, &records)]));
    let names = exporter.names();
    assert_eq!(
        named(&names, ROUTER, Subject::Vrf(0x6000_0001)),
        Some(("D10", ""))
    );
    assert_eq!(named(&names, ROUTER, Subject::Interface(0x6000_0001)), None);
}

#[test]
fn an_application_table() {
    let mut exporter = Exporter::new();
    let options = options_template_v9(260, &[(1, 4)], &[(95, 4), (96, 24), (94, 55)]);
    let mut record = vec![192, 0, 2, 1, 13, 0, 0, 82];
    record.extend(padded("bittorrent", 24));
    record.extend(padded("BitTorrent, file sharing", 55));
    exporter
        .bench
        .decode(&netflow9(&[set(1, &options), set(260, &record)]));
    let names = exporter.names();
    let id = ApplicationId {
        engine: 13,
        selector: 82,
    };
    let found = named(&names, ROUTER, Subject::Application(id));
    assert_eq!(found, Some(("bittorrent", "BitTorrent, file sharing")));
}

#[test]
fn a_flow_has_the_application_that_its_exporter_names() {
    let mut exporter = Exporter::new();
    let options = options_template_v9(260, &[(1, 4)], &[(95, 9), (96, 24)]);
    // Engine 20, the number of an enterprise and its selector, as FortiOS has them.
    let id = [20, 0, 0, 0x30, 0x44, 0, 0, 0x3e, 0x81];
    let name = [&[192, 0, 2, 1][..], &id, &padded("Facebook", 24)].concat();
    let flows = template(256, &[(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (95, 9)]);
    let flow = [&[10, 0, 0, 1, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb, 6][..], &id].concat();
    let sets = [set(1, &options), set(260, &name), set(0, &flows)];
    exporter.bench.decode(&netflow9(&sets));
    let rows = exporter.bench.decode(&netflow9(&[set(256, &flow)]));
    let names = exporter.names();
    let applications = Applications::new(Arc::default(), Arc::default(), &[], &names);
    let mut keys = Keys::default();
    keys.read(&rows);
    let mut found = [Sides::default(); KEYS];
    sides::find(&applications, &keys, &mut found);
    let Sides {
        client_is_src,
        service,
        application,
    } = found[0];
    assert!(client_is_src);
    assert_eq!(applications.services().label(service), "https");
    assert_eq!(applications.label(application), "Facebook");
}

#[test]
fn names_are_the_exporters_own_and_may_change() {
    let mut exporter = Exporter::new();
    let template = set(3, &options_template_ipfix(256, 1, &[(10, 4), (82, 4)]));
    let message = |name: &str| {
        let record = [&[0, 0, 0, 1][..], &padded(name, 4)].concat();
        ipfix(&[template.clone(), set(256, &record)])
    };
    let other = Ipv4Addr::new(192, 0, 2, 2);
    exporter.bench.decode(&message("eth1"));
    exporter.bench.decode_of(other, 0, &message("xe1"));
    exporter.bench.decode(&message("wan"));
    let names = exporter.names();
    assert_eq!(
        named(&names, ROUTER, Subject::Interface(1)),
        Some(("wan", ""))
    );
    assert_eq!(
        named(&names, other, Subject::Interface(1)),
        Some(("xe1", ""))
    );
}

#[test]
fn what_names_nothing_is_told_to_nobody() {
    let mut exporter = Exporter::new();
    // No number, an empty name, ifIndex 0, a number of 5 bytes that is too large, no selector.
    type Case = (&'static [(u16, u16)], &'static [u8]);
    let cases: [Case; 5] = [
        (&[(82, 4)], b"eth1"),
        (&[(10, 4), (82, 4)], &[0, 0, 0, 1, 0, 0, 0, 0]),
        (&[(10, 4), (82, 4)], b"\0\0\0\0eth0"),
        (&[(10, 5), (82, 4)], b"\x01\0\0\0\0eth0"),
        (&[(95, 1), (96, 4)], b"\x0dhttp"),
    ];
    for (id, (fields, record)) in (300..).zip(cases) {
        let template = set(3, &options_template_ipfix(id, 1, fields));
        exporter.bench.decode(&ipfix(&[template, set(id, record)]));
    }
    assert_eq!(exporter.bench.counts.options_records, 5);
    assert_eq!(exporter.bench.counts.names_told, 0);
}

#[test]
fn a_flood_of_names_waits_for_nobody_and_is_counted() {
    let mut exporter = Exporter::new();
    let template = set(3, &options_template_ipfix(256, 1, &[(10, 4), (82, 4)]));
    exporter.bench.decode(&ipfix(&[template]));
    for block in 0..50_u32 {
        let records = (0..100_u32).flat_map(|n| [(block * 100 + n + 1).to_be_bytes(), *b"eth1"]);
        let records: Vec<u8> = records.flatten().collect();
        exporter.bench.decode(&ipfix(&[set(256, &records)]));
    }
    let counts = &exporter.bench.counts;
    assert_eq!(counts.names_told, 5000);
    assert!(counts.names_dropped > 0);
    let (told, dropped) = (counts.names_told, counts.names_dropped);
    exporter.names();
    let kept = exporter.shared.names.counts();
    assert_eq!(kept.interfaces as u64, told - dropped);
}
