//! The decoder as a worker sees it: datagrams in, flows and counters out.

mod messages;

use std::sync::Arc;

use flowsluice::config::{self, Protocol};
use flowsluice::decode::{Decoder, Shared};
use flowsluice::flow::{Direction, Flow, FlowType, SamplingSource};
use flowsluice::ledger::DropReason;
use flowsluice::receive::Datagram;
use messages::{
    Bench, EXPORT_MS, RECEIVED, datagram, ipfix, netflow1, netflow5, netflow7, netflow9,
    options_template_ipfix, options_template_v9, set, sflow5, sflow5_beside, template,
    twenty_field_records, twenty_field_template, unaccounted,
};
use proptest::prelude::*;

#[test]
fn netflow9_template_and_data_of_one_datagram_become_flows() {
    let mut bench = Bench::new();
    let data = set(256, &twenty_field_records(3));
    let rows = bench.decode(&netflow9(&[twenty_field_template(), data]));
    assert_eq!(rows.len(), 3);
    let row = rows[2];
    assert_eq!(row.src_addr.to_string(), "10.0.0.2");
    assert_eq!(row.dst_addr.to_string(), "10.1.0.2");
    assert_eq!(row.next_hop.to_string(), "10.2.0.1");
    assert_eq!((row.in_if, row.out_if), (3, 4));
    assert_eq!((row.raw_packets, row.raw_bytes), (11, 1500));
    assert_eq!((row.src_port, row.dst_port), (1234, 443));
    assert_eq!((row.protocol, row.tos, row.tcp_flags), (6, 0x20, 0x1b));
    assert_eq!((row.src_as, row.dst_as), (64_500, 64_501));
    assert_eq!((row.src_mask, row.dst_mask), (24, 16));
    assert_eq!(row.direction, Direction::Egress);
    assert_eq!(row.detail.ingress_vrf, 77);
    assert_eq!(row.flow_start_ms, EXPORT_MS - 2000);
    assert_eq!(row.flow_end_ms, EXPORT_MS - 1000);
    assert_eq!(row.flow_type, FlowType::Netflow9);
    assert_eq!(row.observation_domain, 7);
    assert_eq!(row.time_received_s, RECEIVED.seconds());
    assert_eq!(row.exporter_addr.to_string(), "192.0.2.1");
    assert_eq!(row.exporter_source.to_string(), "192.0.2.1");
}

#[test]
fn netflow5_records_become_flows_with_the_rate_of_the_header() {
    let mut bench = Bench::new();
    let rows = bench.decode(&netflow5(2, 2, 0x4000 | 100));
    assert_eq!(rows.len(), 2);
    let row = rows[1];
    assert_eq!(row.src_addr.to_string(), "10.0.0.1");
    assert_eq!((row.raw_packets, row.raw_bytes), (11, 1500));
    assert_eq!((row.src_as, row.dst_as), (64_500, 64_501));
    assert_eq!((row.src_mask, row.dst_mask), (24, 16));
    assert_eq!(row.flow_start_ms, EXPORT_MS - 2000);
    assert_eq!(row.observation_domain, 0x0203);
    assert_eq!(row.sampling_rate, 100);
    assert_eq!(row.sampling_source, SamplingSource::Header);
}

#[test]
fn netflow5_header_count_larger_than_payload_is_truncated() {
    let mut bench = Bench::new();
    assert_eq!(bench.decode(&netflow5(30, 2, 0)).len(), 2);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 28);
}

#[test]
fn what_a_header_announces_beyond_its_protocol_is_not_believed() {
    let mut bench = Bench::new();
    assert_eq!(bench.decode(&netflow5(u16::MAX, 2, 0)).len(), 2);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 28);
    assert_eq!(bench.counts.records_present, 30);
    // Some exporters send more than 30, and they are all there.
    assert_eq!(bench.decode(&netflow5(40, 40, 0)).len(), 40);
    assert_eq!(bench.decode(&netflow5(u16::MAX, 40, 0)).len(), 40);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 28);
}

#[test]
fn a_set_that_announces_far_more_than_its_message_lacks_one_record() {
    for (template_set, options) in [
        (set(0, &template(256, &[(1, 1)])), 0),
        (set(1, &options_template_v9(256, &[(1, 1)], &[(48, 1)])), 2),
    ] {
        let mut bench = Bench::new();
        let mut data = set(256, &[1, 2, 3, 4, 5]);
        data[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
        bench.decode(&netflow9(&[template_set, data]));
        let counts = bench.counts;
        assert_eq!(counts.options_records, options);
        assert_eq!(counts.records_present, counts.records_decoded + 1);
        assert_eq!(bench.dropped(DropReason::RecordTruncated), 1);
        assert_eq!(bench.dropped(DropReason::SetMalformed), 1);
    }
}

#[test]
fn data_set_before_its_template_in_one_datagram_is_decoded() {
    let mut bench = Bench::new();
    let data = set(256, &twenty_field_records(2));
    let rows = bench.decode(&netflow9(&[data, twenty_field_template()]));
    assert_eq!(rows.len(), 2);
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 0);
}

#[test]
fn a_missing_template_costs_its_own_set_only() {
    let mut bench = Bench::new();
    let missing = set(999, &[0; 40]);
    let data = set(256, &twenty_field_records(2));
    let rows = bench.decode(&netflow9(&[twenty_field_template(), missing, data]));
    assert_eq!(rows.len(), 2);
    bench.end();
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 1);
}

#[test]
fn sets_without_template_are_each_counted() {
    let mut bench = Bench::new();
    let sets = vec![set(999, &[0; 8]); 40];
    bench.decode(&netflow9(&sets));
    bench.end();
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 40);
}

#[test]
fn a_set_that_runs_past_the_message_yields_the_records_that_are_there() {
    let mut bench = Bench::new();
    let mut payload = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(3))]);
    payload.truncate(payload.len() - 10);
    assert_eq!(bench.decode(&payload).len(), 2);
    assert_eq!(bench.dropped(DropReason::SetMalformed), 1);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 1);
}

#[test]
fn zero_filled_tail_makes_no_records() {
    let mut bench = Bench::new();
    let mut payload = netflow9(&[twenty_field_template(), set(256, &twenty_field_records(1))]);
    payload.extend([0; 200]);
    assert_eq!(bench.decode(&payload).len(), 1);
    assert_eq!(bench.dropped(DropReason::SetMalformed), 0);
}

#[test]
fn template_without_bytes_is_malformed_and_decodes_nothing() {
    let mut bench = Bench::new();
    let empty = set(0, &template(256, &[(1, 0), (2, 0)]));
    let rows = bench.decode(&netflow9(&[empty, set(256, &[1; 64])]));
    assert_eq!(rows.len(), 0);
    assert_eq!(bench.dropped(DropReason::TemplateMalformed), 1);
    bench.end();
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 1);
}

#[test]
fn a_template_that_became_unusable_is_not_used_in_its_old_meaning() {
    let mut bench = Bench::new();
    bench.decode(&netflow9(&[twenty_field_template()]));
    let empty = set(0, &template(256, &[(1, 0)]));
    let data = set(256, &twenty_field_records(1));
    assert_eq!(bench.decode(&netflow9(&[empty, data])).len(), 0);
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 1);
}

#[test]
fn zero_length_fields_are_passed_over() {
    let mut bench = Bench::new();
    let fields = set(0, &template(256, &[(1, 0), (8, 4), (2, 0), (7, 2)]));
    let rows = bench.decode(&netflow9(&[fields, set(256, &[10, 0, 0, 9, 0, 80])]));
    assert_eq!(rows[0].src_addr.to_string(), "10.0.0.9");
    assert_eq!((rows[0].src_port, rows[0].raw_bytes), (80, 0));
}

#[test]
fn numbers_of_any_length_are_read() {
    let mut bench = Bench::new();
    for len in 1..=20u16 {
        let fields = set(0, &template(256, &[(7, 2), (1, len), (11, 2)]));
        let mut record = vec![0, 80];
        record.extend(vec![0; usize::from(len) - 1]);
        record.extend([200, 1, 187]);
        let rows = bench.decode(&netflow9(&[fields, set(256, &record)]));
        assert_eq!(rows[0].raw_bytes, 200, "length {len}");
        assert_eq!((rows[0].src_port, rows[0].dst_port), (80, 443));
    }
}

#[test]
fn variable_lengths_short_and_long_are_walked() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(7, 2), (82, 65_535), (1, 4)]));
    let mut body = vec![0, 80, 3, b'a', b'b', b'c', 0, 0, 0, 5];
    body.extend([0, 81, 255, 1, 44]);
    body.extend([b'x'; 300]);
    body.extend([0, 0, 0, 6]);
    // Padding.
    body.extend([0, 0]);
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    let got: Vec<_> = rows.iter().map(|r| (r.src_port, r.raw_bytes)).collect();
    assert_eq!(got, [(80, 5), (81, 6)]);
}

#[test]
fn variable_length_past_its_set_is_a_malformed_record() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(82, 65_535), (1, 4)]));
    let body = [1, b'a', 0, 0, 0, 5, 200, b'a', 0, 0, 0, 5];
    assert_eq!(bench.decode(&ipfix(&[fields, set(256, &body)])).len(), 1);
    assert_eq!(bench.dropped(DropReason::RecordMalformed), 1);
}

#[test]
fn template_of_variable_fields_only_is_decoded() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(82, 65_535), (1, 65_535)]));
    let body = [1, b'a', 2, 1, 0, 0, 1, 9];
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    let got: Vec<_> = rows.iter().map(|r| r.raw_bytes).collect();
    assert_eq!(got, [256, 9]);
}

#[test]
fn withdrawn_template_is_missing_afterwards() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(1, 4)]));
    let other = set(2, &template(257, &[(1, 4)]));
    bench.decode(&ipfix(&[fields, other]));
    bench.decode(&ipfix(&[set(2, &[1, 0, 0, 0])]));
    assert_eq!(bench.decode(&ipfix(&[set(256, &[0; 4])])).len(), 0);
    assert_eq!(bench.decode(&ipfix(&[set(257, &[0; 4])])).len(), 1);
    // All of them.
    bench.decode(&ipfix(&[set(2, &[0, 2, 0, 0])]));
    assert_eq!(bench.decode(&ipfix(&[set(257, &[0; 4])])).len(), 0);
    assert_eq!(bench.counts.templates_withdrawn, 2);
    assert_eq!(bench.dropped(DropReason::TemplateMalformed), 0);
    bench.end();
    assert_eq!(bench.dropped(DropReason::TemplateMissing), 2);
}

#[test]
fn ipfix_messages_that_share_a_datagram_are_all_decoded() {
    let mut bench = Bench::new();
    let mut payload = ipfix(&[set(2, &template(256, &[(1, 4)]))]);
    payload.extend(ipfix(&[set(256, &[0, 0, 0, 1])]));
    payload.extend(ipfix(&[set(256, &[0, 0, 0, 2])]));
    assert_eq!(bench.decode(&payload).len(), 2);
    payload.extend(b"junk");
    assert_eq!(bench.decode(&payload).len(), 2);
    assert_eq!(bench.dropped(DropReason::SetMalformed), 1);
}

#[test]
fn ipfix_length_beyond_the_datagram_is_a_malformed_header() {
    let mut bench = Bench::new();
    let mut payload = ipfix(&[set(2, &template(256, &[(1, 4)]))]);
    payload.pop();
    bench.decode(&payload);
    assert_eq!(bench.dropped(DropReason::HeaderMalformed), 1);
}

#[test]
fn sampler_in_the_record_takes_the_rate_that_options_announced() {
    let mut bench = Bench::new();
    let options = set(1, &options_template_v9(300, &[(1, 4)], &[(48, 1), (50, 4)]));
    let rates = [0, 0, 0, 1, 5, 0, 0, 3, 232, 0, 0, 0, 1, 6, 0, 0, 7, 208];
    let fields = set(0, &template(256, &[(48, 1), (1, 4)]));
    bench.decode(&netflow9(&[options, set(300, &rates), fields]));
    let data = set(256, &[5, 0, 0, 0, 1, 6, 0, 0, 0, 1, 9, 0, 0, 0, 1]);
    let rows = bench.decode(&netflow9(&[data]));
    let got: Vec<_> = rows
        .iter()
        .map(|r| (r.sampling_rate, r.sampling_source))
        .collect();
    let options = SamplingSource::Options;
    let unknown = SamplingSource::Unknown;
    assert_eq!(got, [(1000, options), (2000, options), (0, unknown)]);
    assert_eq!(bench.counts.options_records, 2);
}

#[test]
fn rate_announced_in_another_domain_of_the_exporter_holds() {
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config::Decode::default(), shared);
    let fields = set(2, &template(256, &[(1, 4)]));
    bench.decode(&ipfix(&[fields, set(256, &[0, 0, 0, 1])]));
    let options = options_template_ipfix(300, 1, &[(144, 4), (305, 4), (306, 4)]);
    let rate = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 99];
    let mut other_domain = ipfix(&[set(3, &options), set(300, &rate)]);
    other_domain[15] = 99;
    bench.decode(&other_domain);
    let rows = bench.decode(&ipfix(&[set(256, &[0, 0, 0, 1])]));
    assert_eq!(rows[0].sampling_rate, 100);
    assert_eq!(rows[0].sampling_source, SamplingSource::Options);
}

#[test]
fn default_rate_is_the_last_resort_and_the_record_the_first() {
    let config = config::Decode {
        sampling_rate_default: 512,
        ..Default::default()
    };
    let mut bench = Bench::with(&config, Arc::default());
    let fields = set(2, &template(256, &[(1, 4), (34, 4)]));
    let data = set(256, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8]);
    let rows = bench.decode(&ipfix(&[fields, data]));
    let got = |row: &Flow| (row.sampling_rate, row.sampling_source);
    assert_eq!(got(&rows[0]), (512, SamplingSource::Default));
    assert_eq!(got(&rows[1]), (8, SamplingSource::Record));
}

#[test]
fn reverse_counters_make_a_second_row_with_the_sides_exchanged() {
    let mut bench = Bench::new();
    let mut fields = template(256, &[(8, 4), (12, 4), (7, 2), (11, 2), (1, 4)]);
    fields[3] += 1;
    fields.extend([0x80, 1, 0, 4, 0, 0, 0x72, 0x79]);
    let record = |reverse| {
        let ends = [10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 80];
        [&ends[..], &[0, 0, 0, 100, 0, 0, 0, reverse]].concat()
    };
    let body = [record(50), record(0)].concat();
    let rows = bench.decode(&ipfix(&[set(2, &fields), set(256, &body)]));
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1].src_addr, rows[0].dst_addr);
    assert_eq!((rows[1].src_port, rows[1].dst_port), (80, 1024));
    assert_eq!((rows[0].raw_bytes, rows[1].raw_bytes), (100, 50));
    assert_eq!(bench.counts.reverse_rows_added, 1);
}

#[test]
fn what_one_set_tells_beside_its_flows_does_not_leak_into_the_next() {
    let mut bench = Bench::new();
    let told = set(2, &template(256, &[(1, 4), (232, 4), (161, 4), (34, 4)]));
    let plain = set(2, &template(257, &[(1, 4)]));
    let body = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 7];
    let rows = bench.decode(&ipfix(&[
        told,
        plain,
        set(256, &body),
        set(257, &[0, 0, 0, 1]),
    ]));
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[0].sampling_rate, rows[0].duration_ms()), (7, 9));
    assert_eq!(rows[1].raw_bytes, 2);
    assert_eq!((rows[2].sampling_rate, rows[2].duration_ms()), (0, 0));
}

#[test]
fn more_records_than_a_burst_holds_all_come_out_in_order() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(7, 2), (11, 2)]));
    let body: Vec<u8> = (0..1000u16)
        .flat_map(|n| [n, 7])
        .flat_map(u16::to_be_bytes)
        .collect();
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    let ports: Vec<u16> = rows.iter().map(|row| row.src_port).collect();
    assert_eq!(ports, (0..1000).collect::<Vec<_>>());
}

#[test]
fn ipv4_and_ipv6_addresses_in_one_template_yield_the_family_that_is_set() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(27, 16), (8, 4)]));
    let mut body = vec![0; 16];
    body.extend([10, 0, 0, 1]);
    body.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    body.extend([0; 4]);
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    assert_eq!(rows[0].src_addr.to_string(), "10.0.0.1");
    assert_eq!(rows[1].src_addr.to_string(), "2001:db8::1");
}

#[test]
fn uptime_that_wrapped_between_flow_and_export_is_seen_through() {
    let mut bench = Bench::new();
    let fields = set(0, &template(256, &[(22, 4), (21, 4)]));
    let mut body = (u32::MAX - 999).to_be_bytes().to_vec();
    body.extend(1000u32.to_be_bytes());
    let mut payload = netflow9(&[fields, set(256, &body)]);
    payload[4..8].copy_from_slice(&2000u32.to_be_bytes());
    let rows = bench.decode(&payload);
    assert_eq!(rows[0].flow_start_ms, EXPORT_MS - 3000);
    assert_eq!(rows[0].flow_end_ms, EXPORT_MS - 1000);
}

#[test]
fn record_without_a_time_ends_when_it_was_received() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(1, 4), (161, 4)]));
    let rows = bench.decode(&ipfix(&[fields, set(256, &[0, 0, 0, 1, 0, 0, 1, 0])]));
    assert_eq!(rows[0].flow_end_ms, RECEIVED.millis());
    assert_eq!(rows[0].duration_ms(), 256);
}

#[test]
fn icmp_type_and_code_come_out_of_the_destination_port() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(4, 1), (11, 2)]));
    let rows = bench.decode(&ipfix(&[fields, set(256, &[1, 8, 3, 6, 8, 3])]));
    assert_eq!((rows[0].icmp_type, rows[0].icmp_code), (8, 3));
    assert_eq!(rows[0].dst_port, 0x0803);
    assert_eq!((rows[1].icmp_type, rows[1].icmp_code), (0, 0));
}

#[test]
fn exporter_address_comes_from_options_and_the_source_stays() {
    let mut bench = Bench::new();
    let options = set(3, &options_template_ipfix(300, 1, &[(144, 4), (130, 4)]));
    let facts = set(300, &[0, 0, 0, 1, 198, 51, 100, 7]);
    let fields = set(2, &template(256, &[(1, 4)]));
    bench.decode(&ipfix(&[options, facts, fields]));
    let rows = bench.decode(&ipfix(&[set(256, &[0, 0, 0, 1])]));
    assert_eq!(rows[0].exporter_addr.to_string(), "198.51.100.7");
    assert_eq!(rows[0].exporter_source.to_string(), "192.0.2.1");
}

#[test]
fn frame_in_an_ipfix_record_is_read_and_fields_of_the_record_stand() {
    let mut bench = Bench::new();
    let fields = [(10, 4), (312, 2), (315, 65_535), (5, 1)];
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0x10, 0x02, 0, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 1, 0, 1, 4, 210, 0, 53, 0, 8, 0, 0]);
    let mut body = vec![0, 0, 0, 3, 2, 14, frame.len() as u8];
    body.extend(frame);
    body.push(0x20);
    let sets = [set(2, &template(256, &fields)), set(256, &body)];
    let rows = bench.decode(&ipfix(&sets));
    let row = rows[0];
    assert_eq!(row.src_addr.to_string(), "10.0.0.1");
    assert_eq!((row.protocol, row.src_port, row.dst_port), (17, 1234, 53));
    assert_eq!((row.raw_packets, row.raw_bytes), (1, 512));
    assert_eq!((row.detail.frame.src_mac, row.in_if), (0x0200_0000_0001, 3));
    assert_eq!(row.tos, 0x20);
}

#[test]
fn sflow_agent_is_an_exporter_like_the_others() {
    let shared = Arc::<Shared>::default();
    let mut bench = Bench::with(&config::Decode::default(), Arc::clone(&shared));
    let rows = bench.decode(&sflow5(3));
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].exporter_addr.to_string(), "192.0.2.9");
    assert_eq!(rows[0].exporter_source.to_string(), "192.0.2.1");
    assert_eq!(rows[0].flow_end_ms, RECEIVED.millis());
    assert_eq!(rows[0].sampling_rate, 1000);
    bench.decoder.turn();
    let exporter = shared.exporters()[0];
    assert_eq!(exporter.exporter_addr.to_string(), "192.0.2.9");
    assert_eq!((exporter.flows, exporter.sampling_rate), (3, 1000));
    let config = config::Decode {
        exporters_max: 0,
        ..Default::default()
    };
    let mut full = Bench::with(&config, Arc::default());
    full.decode(&sflow5(1));
    assert_eq!(full.dropped(DropReason::ExporterLimit), 1);
}

#[test]
fn protocols_are_off_globally_and_by_port() {
    let config = config::Decode {
        protocols: vec![Protocol::Netflow5, Protocol::Netflow9],
        ..Default::default()
    };
    let listener = config::Listener {
        address: "::".parse().expect("an address"),
        port: 2055,
        protocols: vec![Protocol::Netflow9, Protocol::Ipfix],
    };
    let mut bench = Bench::new();
    bench.decoder = Decoder::new(&config, &[listener], Arc::default());
    assert_eq!(bench.decode(&netflow5(1, 1, 0)).len(), 0);
    bench.decode(&ipfix(&[]));
    assert_eq!(bench.dropped(DropReason::ProtocolDisabled), 2);
    bench.decode(&netflow9(&[]));
    assert_eq!(bench.counts.datagrams_decoded, 1);
}

#[test]
fn what_is_no_message_is_counted_by_reason() {
    let mut bench = Bench::new();
    for payload in [
        &b""[..],
        b"\0",
        b"\0\x05\0",
        b"\0\x09abc",
        b"\0\x0a",
        b"\0\0\0",
    ] {
        bench.decode(payload);
    }
    assert_eq!(bench.dropped(DropReason::DatagramTruncated), 6);
    for payload in [&b"GET / HTTP/1.1"[..], &[0; 64], &[255; 64]] {
        bench.decode(payload);
    }
    assert_eq!(bench.dropped(DropReason::VersionUnknown), 3);
    let payload = netflow5(1, 1, 0);
    let cut = Datagram {
        cut: true,
        ..datagram(&payload)
    };
    bench
        .decoder
        .decode(&cut, &mut bench.counts, &mut bench.rows);
    assert_eq!(bench.dropped(DropReason::DatagramCut), 1);
    assert_eq!(unaccounted(&bench.counts), 0);
}

#[test]
fn a_template_of_too_many_fields_is_malformed() {
    let mut bench = Bench::new();
    let many = vec![(1, 1); flowsluice::decode::TEMPLATE_FIELDS_MAX + 1];
    let ok = template(257, &[(1, 4)]);
    let both = [template(256, &many), ok].concat();
    let rows = bench.decode(&ipfix(&[set(2, &both), set(257, &[0; 4])]));
    assert_eq!(bench.dropped(DropReason::TemplateMalformed), 1);
    assert_eq!(rows.len(), 1, "the template behind it is taken");
}

/// Real messages, to be mutated.
fn seeds() -> Vec<Vec<u8>> {
    let v9_options = options_template_v9(300, &[(1, 4)], &[(48, 1), (50, 4)]);
    let ipfix_fields = template(
        256,
        &[(7, 2), (82, 65_535), (1, 4), (315, 65_535), (27, 16)],
    );
    let ipfix_options = options_template_ipfix(300, 1, &[(302, 4), (305, 4), (306, 4)]);
    let mut body = vec![0, 80, 3, b'a', b'b', b'c', 0, 0, 0, 5, 4, 1, 2, 3, 4];
    body.extend([7; 16]);
    vec![
        netflow5(30, 30, 100),
        netflow9(&[
            twenty_field_template(),
            set(256, &twenty_field_records(10)),
            set(1, &v9_options),
            set(300, &[0, 0, 0, 1, 5, 0, 0, 3, 232]),
        ]),
        ipfix(&[
            set(2, &ipfix_fields),
            set(256, &body),
            set(3, &ipfix_options),
            set(300, &[1; 12]),
            set(2, &[1, 0, 0, 0]),
        ]),
        sflow5(4),
        netflow1(24, 24),
        netflow7(27, 27),
        sflow5_beside(),
    ]
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_are_accounted_for(
        version in prop::sample::select(vec![0u8, 1, 5, 7, 9, 10]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bench = Bench::new();
        let mut payload = vec![0, version];
        if version == 0 {
            payload.extend([0, 5]);
        }
        payload.extend(bytes);
        bench.decode(&payload);
        bench.decode(&payload);
    }

    #[test]
    fn mutated_messages_never_panic_and_are_accounted_for(
        seed in 0..7usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        for intact in seeds() {
            bench.decode(&intact);
        }
        let mut payload = seeds().swap_remove(seed);
        for (at, byte) in edits {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if is_cut {
            payload.truncate(cut.index(payload.len()));
        }
        bench.decode(&payload);
        for intact in seeds() {
            bench.decode(&intact);
        }
    }

    #[test]
    fn random_templates_never_panic_and_are_accounted_for(
        dialect in 0..2u16,
        fields in prop::collection::vec(
            (any::<u16>(), prop_oneof![0..40u16, Just(65_535u16)]), 1..60),
        known in prop::collection::vec(
            (0..400u16, prop_oneof![0..20u16, Just(65_535u16)]), 0..60),
        data in prop::collection::vec(any::<u8>(), 0..900),
    ) {
        let mut bench = Bench::new();
        for fields in [fields, known] {
            let kinds = if dialect == 0 {
                netflow9(&[set(0, &template(256, &fields)), set(256, &data)])
            } else {
                ipfix(&[
                    set(3, &options_template_ipfix(257, 1, &fields)),
                    set(2, &template(256, &fields)),
                    set(256, &data),
                    set(257, &data),
                ])
            };
            bench.decode(&kinds);
        }
    }
}
