//! Cisco NSEL: one connection, several events, its volume once.

mod messages;

use flowsluice::flow::Flow;
use flowsluice::ledger::DropReason;
use messages::{Bench, EXPORT_MS, netflow9, set, template};

const CREATED: u8 = 1;
const TEARDOWN: u8 = 2;
const DENIED: u8 = 3;
const UPDATE: u8 = 5;

/// Connection, addresses, ports, protocol, event, its time, octets and packets of both ways,
/// creation.
const EVENT: [(u16, u16); 13] = [
    (148, 4),
    (8, 4),
    (12, 4),
    (7, 2),
    (11, 2),
    (4, 1),
    (233, 1),
    (323, 8),
    (231, 4),
    (232, 4),
    (298, 4),
    (299, 4),
    (152, 8),
];

#[derive(Clone, Copy)]
struct Event {
    connection: u32,
    event: u8,
    /// Milliseconds after [`EXPORT_MS`].
    at: u64,
    created: u64,
    octets: [u32; 2],
    packets: [u32; 2],
}

impl Event {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = self.connection.to_be_bytes().to_vec();
        bytes.extend([10, 0, 0, 1, 192, 0, 2, 80]);
        bytes.extend([40_000_u16, 443].map(u16::to_be_bytes).concat());
        bytes.extend([6, self.event]);
        bytes.extend((EXPORT_MS + self.at).to_be_bytes());
        bytes.extend(
            [self.octets, self.packets]
                .concat()
                .iter()
                .flat_map(|n| n.to_be_bytes()),
        );
        bytes.extend((EXPORT_MS + self.created).to_be_bytes());
        bytes
    }
}

fn event(connection: u32, event: u8, at: u64, octets: [u32; 2]) -> Event {
    Event {
        connection,
        event,
        at,
        created: 0,
        octets,
        packets: octets.map(|n| n / 100),
    }
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.decode(&netflow9(&[set(0, &template(263, &EVENT))]));
    bench
}

fn decode(bench: &mut Bench, events: &[Event]) -> Vec<Flow> {
    let records: Vec<u8> = events.iter().flat_map(|event| event.bytes()).collect();
    let rows = bench.decode(&netflow9(&[set(263, &records)]));
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 0);
    rows
}

/// Octets of the rows there and back.
fn octets(rows: &[Flow]) -> [u64; 2] {
    let of_port = |port| {
        let rows = rows.iter().filter(|row| row.src_port == port);
        rows.map(|row| row.raw_bytes).sum()
    };
    [of_port(40_000), of_port(443)]
}

#[test]
fn a_connection_with_updates_counts_once_over_all_its_events() {
    let mut bench = bench();
    let mut rows = decode(&mut bench, &[event(1, CREATED, 0, [0, 0])]);
    rows.extend(decode(
        &mut bench,
        &[event(1, UPDATE, 60_000, [2557, 1117])],
    ));
    rows.extend(decode(&mut bench, &[event(1, UPDATE, 120_000, [31, 0])]));
    // The update at teardown comes with the teardown, which tells the sum.
    let last = [
        event(1, UPDATE, 130_000, [12, 400]),
        event(1, TEARDOWN, 130_000, [2600, 1517]),
    ];
    rows.extend(decode(&mut bench, &last));
    assert_eq!(octets(&rows), [2600, 1517]);
    assert_eq!(bench.counts.nsel_totals_told_before, 1);
    let events: Vec<u8> = rows.iter().map(|row| row.detail.firewall_event).collect();
    assert_eq!(events, [1, 5, 5, 5, 5, 5, 2, 2]);
    // An update tells of the time since the one before it.
    let spans = rows
        .iter()
        .filter(|row| row.detail.firewall_event == UPDATE);
    let spans: Vec<_> = spans
        .map(|row| (row.flow_start_ms - EXPORT_MS, row.flow_end_ms - EXPORT_MS))
        .collect();
    let (first, third) = ((0, 60_000), (120_000, 130_000));
    assert_eq!(spans, [first, first, (60_000, 120_000), third, third]);
}

#[test]
fn a_connection_without_updates_counts_at_its_teardown() {
    let mut bench = bench();
    let events = [
        event(1, CREATED, 0, [0, 0]),
        event(2, UPDATE, 60_000, [100, 0]),
        event(1, TEARDOWN, 70_000, [700, 900]),
        event(3, DENIED, 70_000, [0, 0]),
    ];
    let rows = decode(&mut bench, &events);
    assert_eq!(octets(&rows), [800, 900]);
    let packets: u64 = rows.iter().map(|row| row.raw_packets).sum();
    assert_eq!(packets, 7 + 9 + 1);
    assert_eq!(rows.len(), 5);
    assert_eq!(bench.counts.nsel_totals_told_before, 0);
}

#[test]
fn an_update_counts_although_no_teardown_comes() {
    let mut bench = bench();
    let rows = decode(&mut bench, &[event(9, UPDATE, 60_000, [500, 600])]);
    assert_eq!(octets(&rows), [500, 600]);
}

#[test]
fn a_number_used_again_is_another_connection() {
    let mut bench = bench();
    // Its teardown was lost.
    decode(&mut bench, &[event(1, UPDATE, 60_000, [500, 600])]);
    let again = Event {
        created: 90_000,
        ..event(1, TEARDOWN, 95_000, [70, 80])
    };
    assert_eq!(octets(&decode(&mut bench, &[again])), [70, 80]);
}

#[test]
fn exporters_and_workers_share_what_was_updated_and_mix_nothing_up() {
    let shared = std::sync::Arc::default();
    let config = flowsluice::config::Decode::default();
    let mut first = Bench::with(&config, std::sync::Arc::clone(&shared));
    let mut second = Bench::with(&config, shared);
    let templates = netflow9(&[set(0, &template(263, &EVENT))]);
    let update = netflow9(&[set(263, &event(1, UPDATE, 60_000, [5, 5]).bytes())]);
    let teardown = netflow9(&[set(263, &event(1, TEARDOWN, 61_000, [9, 9]).bytes())]);
    first.decode(&templates);
    first.decode(&update);
    second.decode_of([192, 0, 2, 2].into(), 0, &templates);
    let rows = second.decode_of([192, 0, 2, 2].into(), 0, &teardown);
    assert_eq!(octets(&rows), [9, 9], "another firewall");
    second.decode(&templates);
    assert_eq!(octets(&second.decode(&teardown)), [0, 0], "another worker");
}

#[test]
fn events_that_count_octets_of_one_way_are_taken_as_they_are() {
    // As PAN-OS sends them: each event tells what was not told before.
    let mut bench = Bench::new();
    let fields = [(148, 8), (233, 1), (1, 8), (2, 4), (22, 4), (21, 4)];
    bench.decode(&netflow9(&[set(0, &template(257, &fields))]));
    let mut records = Vec::new();
    for (event, octets) in [(UPDATE, 500_u64), (TEARDOWN, 300)] {
        records.extend(7_u64.to_be_bytes());
        records.push(event);
        records.extend(octets.to_be_bytes());
        records.extend([1_u32, 1000, 2000].map(u32::to_be_bytes).concat());
    }
    let rows = bench.decode(&netflow9(&[set(257, &records)]));
    let octets: Vec<u64> = rows.iter().map(|row| row.raw_bytes).collect();
    assert_eq!(octets, [500, 300]);
}

#[test]
fn address_translation_events_are_rows_without_volume() {
    // RFC 8158's fields of a session, and of a port block (IE 361, 362).
    let mut bench = Bench::new();
    let session = [
        (323, 8),
        (8, 4),
        (225, 4),
        (4, 1),
        (7, 2),
        (227, 2),
        (230, 1),
    ];
    let block = [(323, 8), (8, 4), (225, 4), (230, 1), (361, 2), (362, 2)];
    let templates = [template(256, &session), template(257, &block)].concat();
    bench.decode(&netflow9(&[set(0, &templates)]));
    let at = (EXPORT_MS + 5).to_be_bytes();
    let mut first = [&at[..], &[10, 0, 0, 1, 192, 0, 2, 9, 17]].concat();
    first.extend([5000_u16, 6000].map(u16::to_be_bytes).concat());
    first.push(1);
    let second = [&at[..], &[10, 0, 0, 1, 192, 0, 2, 9, 16, 4, 0, 4, 255]].concat();
    let rows = bench.decode(&netflow9(&[set(256, &first), set(257, &second)]));
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((row.raw_bytes, row.raw_packets), (0, 0));
        assert_eq!(row.detail.src_addr_nat.to_string(), "192.0.2.9");
        assert_eq!(row.flow_end_ms, EXPORT_MS + 5);
    }
    assert_eq!(
        (rows[0].detail.nat_event, rows[0].detail.src_port_nat),
        (1, 6000)
    );
    assert_eq!(rows[1].detail.nat_event, 16);
}
