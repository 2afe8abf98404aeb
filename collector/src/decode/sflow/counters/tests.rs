use flowsluice_tests::wire::INTERFACE_COUNTERS;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::store::schema::declared;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn record(format: u32, body: &[u32]) -> Vec<u8> {
    [&words(&[format, 4 * body.len() as u32])[..], &words(body)].concat()
}

fn sample(records: &[Vec<u8>]) -> Vec<u8> {
    let head = words(&[77, 5, records.len() as u32]);
    [&head[..], &records.concat()].concat()
}

fn base() -> Flow {
    Flow {
        time_received_s: 1_700_000_000,
        exporter_addr: Address::from_v4([192, 0, 2, 1]),
        exporter_source: Address::from_v4([192, 0, 2, 2]),
        observation_domain: 3,
        ..Flow::EMPTY
    }
}

struct Decoded {
    rows: Vec<InterfaceCounters>,
    counts: WorkerCounts,
}

fn decoded(sample: &[u8], expanded: bool) -> Decoded {
    let queue = CounterQueue::default();
    let mut counts = WorkerCounts::default();
    decode(sample, expanded, &base(), &queue, &mut counts);
    let mut rows = Vec::new();
    queue.drain(|row| rows.push(row));
    assert_eq!(rows.len() as u64, counts.counter_samples_decoded);
    Decoded { rows, counts }
}

const ETHERNET: [u32; 13] = [31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43];

/// What every row here begins with.
fn row() -> InterfaceCounters {
    InterfaceCounters {
        time_received: 1_700_000_000,
        exporter_addr: Address::from_v4([192, 0, 2, 1]),
        exporter_source: Address::from_v4([192, 0, 2, 2]),
        observation_domain: 3,
        sequence: 77,
        source_index: 5,
        if_index: 5,
        ..InterfaceCounters::default()
    }
}

fn generic() -> InterfaceCounters {
    InterfaceCounters {
        if_index: 9,
        if_type: 6,
        if_speed: 1_000_000_000,
        if_direction: IfDirection::FullDuplex,
        if_admin_status: IfStatus::Up,
        if_oper_status: IfStatus::Up,
        if_promiscuous: 2,
        in_octets: (1 << 32) + 2,
        in_unicast: 11,
        in_multicast: 12,
        in_broadcast: 13,
        in_discards: 14,
        in_errors: 15,
        in_unknown_protocols: 16,
        out_octets: 21,
        out_unicast: 22,
        out_multicast: 23,
        out_broadcast: 24,
        out_discards: 25,
        out_errors: 26,
        ..row()
    }
}

#[test]
fn interface_and_ethernet_records_become_one_row() {
    for order in [[0, 1], [1, 0]] {
        let records = [record(1, &INTERFACE_COUNTERS), record(2, &ETHERNET)];
        let records = order.map(|at: usize| records[at].clone());
        let Decoded { rows, counts } = decoded(&sample(&records), false);
        let expected = InterfaceCounters {
            ethernet_alignment_errors: 31,
            ethernet_fcs_errors: 32,
            ethernet_single_collisions: 33,
            ethernet_multiple_collisions: 34,
            ethernet_sqe_test_errors: 35,
            ethernet_deferred_transmissions: 36,
            ethernet_late_collisions: 37,
            ethernet_excessive_collisions: 38,
            ethernet_internal_transmit_errors: 39,
            ethernet_carrier_sense_errors: 40,
            ethernet_too_long_frames: 41,
            ethernet_internal_receive_errors: 42,
            ethernet_symbol_errors: 43,
            ..generic()
        };
        assert_eq!(rows, [expected]);
        assert_eq!(counts.counter_records_skipped, 0);
        assert_eq!(counts.dropped(DropReason::SampleMalformed), 0);
    }
}

#[test]
fn vlan_and_processor_records_have_their_source() {
    let vlan = words(&[77, 1 << 24 | 30, 1]);
    let vlan = [vlan, record(5, &[30, 0, 1000, 1, 2, 3, 4])].concat();
    let expected = InterfaceCounters {
        source_class: 1,
        source_index: 30,
        if_index: 0,
        vlan_id: 30,
        vlan_octets: 1000,
        vlan_unicast: 1,
        vlan_multicast: 2,
        vlan_broadcast: 3,
        vlan_discards: 4,
        ..row()
    };
    assert_eq!(decoded(&vlan, false).rows, [expected]);

    let processor = words(&[77, 2, 1000, 1]);
    let processor = [processor, record(1001, &[150, 250, 350, 1, 0, 0, 9])].concat();
    let expected = InterfaceCounters {
        source_class: 2,
        source_index: 1000,
        if_index: 0,
        cpu_5s: 150,
        cpu_1m: 250,
        cpu_5m: 350,
        memory_total: 1 << 32,
        memory_free: 9,
        ..row()
    };
    assert_eq!(decoded(&processor, true).rows, [expected]);
}

#[test]
fn records_of_other_kinds_are_skipped_by_length_and_counted() {
    let other = [record(2203, &[1; 10]), record(4300 << 12 | 1, &[2; 3])];
    let [a, b] = other.clone();
    let Decoded { rows, counts } = decoded(&sample(&[a, record(1, &INTERFACE_COUNTERS), b]), false);
    assert_eq!(rows, [generic()]);
    assert_eq!(counts.counter_records_skipped, 2);

    let Decoded { rows, counts } = decoded(&sample(&other), false);
    assert_eq!(rows, []);
    assert_eq!(counts.counter_samples_skipped, 1);
}

#[test]
fn all_ones_is_unknown() {
    let mut body = INTERFACE_COUNTERS;
    body[4] = u32::MAX;
    body[6..9].fill(u32::MAX);
    let expected = InterfaceCounters {
        if_direction: IfDirection::Unknown,
        in_octets: 0,
        in_unicast: 0,
        ..generic()
    };
    let rows = decoded(&sample(&[record(1, &body)]), false).rows;
    assert_eq!(rows, [expected]);
}

#[test]
fn a_record_that_is_cut_leaves_its_counters_out_and_is_counted() {
    let whole = sample(&[record(1, &INTERFACE_COUNTERS), record(2, &ETHERNET)]);
    for length in 0..whole.len() {
        let Decoded { rows, counts } = decoded(&whole[..length], false);
        assert_eq!(counts.dropped(DropReason::SampleMalformed), 1, "{length}");
        match length >= 12 + 8 + 88 {
            true => assert_eq!(rows, [generic()], "{length}"),
            false => assert_eq!(rows, [], "{length}"),
        }
    }
    // A record that says to be shorter than its kind is.
    let short = sample(&[record(1, &INTERFACE_COUNTERS[..21]), record(2, &ETHERNET)]);
    let Decoded { rows, counts } = decoded(&short, false);
    assert_eq!((rows[0].in_octets, rows[0].ethernet_fcs_errors), (0, 32));
    assert_eq!(counts.dropped(DropReason::SampleMalformed), 1);
}

#[test]
fn samples_that_nobody_drains_are_bounded_and_counted() {
    let queue = CounterQueue::default();
    let mut counts = WorkerCounts::default();
    let sample = sample(&[record(1, &INTERFACE_COUNTERS)]);
    for _ in 0..COUNTER_SAMPLES_MAX + 3 {
        decode(&sample, false, &base(), &queue, &mut counts);
    }
    assert_eq!(counts.counter_samples_decoded, COUNTER_SAMPLES_MAX as u64);
    assert_eq!(counts.dropped(DropReason::SideBacklog), 3);
    let mut drained = 0;
    queue.drain(|row| {
        assert_eq!(row, generic());
        drained += 1;
    });
    assert_eq!(drained, COUNTER_SAMPLES_MAX);
}

#[test]
fn a_row_is_written_with_the_columns_of_the_table_and_without_zeros() {
    let declared = declared("interface_counters");
    let names: Vec<_> = declared.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..3],
        ["time_received", "exporter_addr", "exporter_source"]
    );
    assert_eq!(names[3..], *NAMES);

    let written = serde_json::to_value(InterfaceCounters {
        if_oper_status: IfStatus::Down,
        in_octets: 7,
        ..row()
    });
    let expected = json!({
        "time_received": 1_700_000_000,
        "exporter_addr": "::ffff:192.0.2.1",
        "exporter_source": "::ffff:192.0.2.2",
        "observation_domain": 3,
        "sequence": 77,
        "source_index": 5,
        "if_index": 5,
        "if_oper_status": "down",
        "in_octets": 7,
    });
    assert_eq!(written.unwrap(), expected);
    for (number, direction) in [
        IfDirection::Unknown,
        IfDirection::FullDuplex,
        IfDirection::HalfDuplex,
        IfDirection::In,
        IfDirection::Out,
    ]
    .into_iter()
    .enumerate()
    {
        let word = serde_json::to_value(direction).unwrap();
        let variant = format!("'{}' = {number}", word.as_str().unwrap());
        let (_, rest) = declared.iter().find(|(n, _)| n == "if_direction").unwrap();
        assert!(rest.contains(&variant), "{variant}: {rest}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_counted(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        kinds in prop::collection::vec(
            (prop::sample::select(vec![1_u32, 2, 5, 1001, 7]), 0..30_usize), 0..4),
        expanded in any::<bool>(),
    ) {
        let records: Vec<_> = kinds.iter().map(|(kind, n)| record(*kind, &vec![7; *n])).collect();
        for sample in [bytes.clone(), [sample(&records), bytes].concat(), sample(&records)] {
            let Decoded { rows, counts } = decoded(&sample, expanded);
            let known = rows.len() as u64
                + counts.counter_samples_skipped
                + counts.dropped(DropReason::SampleMalformed);
            prop_assert!(known >= 1);
        }
    }
}
