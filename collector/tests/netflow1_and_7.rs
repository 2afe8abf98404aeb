//! NetFlow v1 and v7, whose records begin as those of v5 do.

mod messages;

use flowsluice::flow::{Address, Flow, FlowType, SamplingSource};
use flowsluice::ledger::DropReason;
use messages::{Bench, EXPORT_MS, RECEIVED, netflow1, netflow5, netflow7};

/// What record `n` of all three versions says.
fn common(n: u8) -> Flow {
    Flow {
        exporter_addr: Address::from_v4([192, 0, 2, 1]),
        exporter_source: Address::from_v4([192, 0, 2, 1]),
        time_received_s: RECEIVED.seconds(),
        src_addr: Address::from_v4([10, 0, 0, n]),
        dst_addr: Address::from_v4([10, 1, 0, n]),
        next_hop: Address::from_v4([10, 2, 0, 1]),
        in_if: 3,
        out_if: 4,
        raw_packets: 11,
        raw_bytes: 1500,
        flow_start_ms: EXPORT_MS - 2000,
        flow_end_ms: EXPORT_MS - 1000,
        src_port: 1234,
        dst_port: 443,
        protocol: 6,
        tos: 0x20,
        tcp_flags: 0x1b,
        ..Flow::EMPTY
    }
}

#[test]
fn netflow1_records_become_flows_without_systems_and_masks() {
    let mut bench = Bench::new();
    let expected = |n| Flow {
        flow_type: FlowType::Netflow1,
        ..common(n)
    };
    assert_eq!(bench.decode(&netflow1(2, 2)), [expected(0), expected(1)]);
    assert_eq!(bench.counts.datagrams_netflow1, 1);
}

#[test]
fn netflow7_records_become_flows_and_flags_and_router_stay_out_of_them() {
    let mut bench = Bench::new();
    let expected = |n| Flow {
        flow_type: FlowType::Netflow7,
        src_as: 64_500,
        dst_as: 64_501,
        src_mask: 24,
        dst_mask: 16,
        ..common(n)
    };
    assert_eq!(bench.decode(&netflow7(2, 2)), [expected(0), expected(1)]);
    assert_eq!(bench.counts.datagrams_netflow7, 1);
}

#[test]
fn neither_tells_a_sampling_rate_where_version_5_would() {
    let mut bench = Bench::new();
    bench.decode(&netflow5(1, 1, 0x4000 | 100));
    for payload in [netflow1(1, 1), netflow7(1, 1)] {
        let row = bench.decode(&payload)[0];
        assert_eq!(row.sampling_rate, 0);
        assert_eq!(row.sampling_source, SamplingSource::Unknown);
    }
}

#[test]
fn icmp_comes_out_of_the_destination_port() {
    for (mut payload, protocol_at) in [(netflow1(1, 1), 16 + 38), (netflow7(1, 1), 24 + 38)] {
        payload[protocol_at] = 1;
        let row = Bench::new().decode(&payload)[0];
        assert_eq!((row.protocol, row.dst_port), (1, 443));
        assert_eq!((row.icmp_type, row.icmp_code), (1, 0xbb));
    }
}

#[test]
fn records_that_the_datagram_lacks_are_truncated_as_far_as_it_may_have_them() {
    type Make = fn(u16, u16) -> Vec<u8>;
    for (make, header, records_max) in [(netflow1 as Make, 16, 24), (netflow7 as Make, 24, 27)] {
        let mut bench = Bench::new();
        assert_eq!(bench.decode(&make(5, 2)).len(), 2);
        assert_eq!(bench.dropped(DropReason::RecordTruncated), 3);
        assert_eq!(bench.decode(&make(u16::MAX, 2)).len(), 2);
        assert_eq!(
            bench.dropped(DropReason::RecordTruncated),
            3 + records_max - 2
        );
        assert_eq!(bench.decode(&make(40, 40)).len(), 40, "more are taken");
        // Bytes behind what is announced are not looked at.
        assert_eq!(bench.decode(&make(1, 2)).len(), 1);

        let whole = make(1, 1);
        for length in 2..whole.len() {
            let mut bench = Bench::new();
            assert_eq!(bench.decode(&whole[..length]).len(), 0);
            let reason = match length >= header {
                true => DropReason::RecordTruncated,
                false => DropReason::DatagramTruncated,
            };
            assert_eq!(bench.dropped(reason), 1, "{length}");
        }
    }
}
