//! Odd input that other collectors read wrongly or lose without a word.

mod messages;

use flowsluice::flow::Flow;
use flowsluice::ledger::DropReason;
use messages::{
    Bench, EXPORT_MS, TWENTY_FIELDS, ipfix, netflow5, netflow9, options_template_ipfix,
    options_template_v9, set, sflow5, template, twenty_field_records,
};

fn twenty_field_template() -> Vec<u8> {
    set(0, &template(256, &TWENTY_FIELDS))
}

fn be(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

#[test]
fn netflow9_uptime_zero_counts_back_from_the_export_time() {
    let mut bench = Bench::new();
    let fields = set(0, &template(256, &[(22, 4), (21, 4)]));
    let body = [be(1_000_000_000), be(1_000_004_000)].concat();
    let mut payload = netflow9(&[fields, set(256, &body)]);
    payload[4..8].fill(0);
    let rows = bench.decode(&payload);
    assert_eq!(
        (rows[0].flow_start_ms, rows[0].flow_end_ms),
        (EXPORT_MS - 4000, EXPORT_MS)
    );
}

#[test]
fn netflow5_uptime_zero_counts_back_from_the_export_time() {
    let mut bench = Bench::new();
    let mut payload = netflow5(1, 1, 0);
    payload[4..8].fill(0);
    let rows = bench.decode(&payload);
    assert_eq!(
        (rows[0].flow_start_ms, rows[0].flow_end_ms),
        (EXPORT_MS - 1000, EXPORT_MS)
    );
}

#[test]
fn a_set_shorter_than_a_record_is_counted_as_cut() {
    let mut bench = Bench::new();
    bench.decode(&netflow9(&[twenty_field_template()]));
    let rows = bench.decode(&netflow9(&[set(256, &twenty_field_records(1)[..50])]));
    assert!(rows.is_empty());
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 1);
}

#[test]
fn what_is_left_behind_the_last_record_is_counted_as_cut() {
    let mut bench = Bench::new();
    bench.decode(&netflow9(&[twenty_field_template()]));
    let rows = bench.decode(&netflow9(&[set(256, &twenty_field_records(2)[..108])]));
    assert_eq!(rows.len(), 1);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 1);
}

#[test]
fn what_is_left_behind_the_last_variable_record_is_counted_as_cut() {
    let mut bench = Bench::new();
    bench.decode(&ipfix(&[set(
        2,
        &template(256, &[(8, 4), (12, 4), (96, 65535)]),
    )]));
    let rows = bench.decode(&ipfix(&[set(
        256,
        &[10, 0, 0, 1, 10, 0, 0, 2, 1, b'a', 10, 0, 0, 1, 10, 0, 0],
    )]));
    assert_eq!(rows.len(), 1);
    assert_eq!(bench.dropped(DropReason::RecordTruncated), 1);
}

#[test]
fn a_zero_filled_tail_of_a_set_makes_no_rows() {
    let mut bench = Bench::new();
    let mut body = twenty_field_records(1);
    body.extend([0; 58 * 2]);
    let rows = bench.decode(&netflow9(&[twenty_field_template(), set(256, &body)]));
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_zero_filled_tail_of_a_variable_set_makes_no_rows() {
    let mut bench = Bench::new();
    bench.decode(&ipfix(&[set(2, &template(256, &[(8, 4), (96, 65535)]))]));
    let rows = bench.decode(&ipfix(&[set(
        256,
        &[10, 0, 0, 1, 1, b'a', 0, 0, 0, 0, 0, 0],
    )]));
    assert_eq!(rows.len(), 1);
}

#[test]
fn ipfix_boot_time_in_the_record_itself_dates_its_uptimes() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(160, 8), (22, 4), (21, 4)]));
    let boot = EXPORT_MS - 1_000_000;
    let body = [&boot.to_be_bytes()[..], &be(970_000), &be(980_000)].concat();
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    assert_eq!(
        (rows[0].flow_start_ms, rows[0].flow_end_ms),
        (boot + 970_000, boot + 980_000)
    );
}

#[test]
fn ipfix_boot_time_of_the_same_message_dates_its_uptimes() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(22, 4), (21, 4)]));
    let options = set(3, &options_template_ipfix(300, 1, &[(144, 4), (160, 8)]));
    let boot = EXPORT_MS - 1_000_000;
    let facts = set(300, &[&be(1)[..], &boot.to_be_bytes()].concat());
    let body = [be(970_000), be(980_000)].concat();
    let rows = bench.decode(&ipfix(&[fields, options, facts, set(256, &body)]));
    assert_eq!(
        (rows[0].flow_start_ms, rows[0].flow_end_ms),
        (boot + 970_000, boot + 980_000)
    );
}

#[test]
fn an_unspecified_exporter_in_a_record_leaves_the_udp_source() {
    let mut bench = Bench::new();
    let rows = bench.decode(&ipfix(&[
        set(2, &template(256, &[(130, 4), (1, 4)])),
        set(256, &[0, 0, 0, 0, 0, 0, 0, 9]),
    ]));
    assert_eq!(rows[0].exporter_addr.to_string(), "192.0.2.1");
    let mut body = vec![0; 16];
    body.extend(be(9));
    let rows = bench.decode(&ipfix(&[
        set(2, &template(257, &[(131, 16), (1, 4)])),
        set(257, &body),
    ]));
    assert_eq!(rows[0].exporter_addr.to_string(), "192.0.2.1");
}

#[test]
fn an_unspecified_sflow_agent_leaves_the_udp_source() {
    let mut bench = Bench::new();
    let mut payload = sflow5(1);
    payload[8..12].fill(0);
    let rows = bench.decode(&payload);
    assert_eq!(rows[0].exporter_addr.to_string(), "192.0.2.1");
}

#[test]
fn rates_announced_by_interface_do_not_overwrite_each_other() {
    let mut bench = Bench::new();
    let options = set(1, &options_template_v9(300, &[(2, 4)], &[(34, 4)]));
    let facts = set(300, &[be(1), be(100), be(2), be(1000)].concat());
    bench.decode(&netflow9(&[options, facts]));
    let rows = bench.decode(&netflow9(&[
        set(0, &template(256, &[(10, 4), (1, 4)])),
        set(256, &[be(1), be(5), be(2), be(5)].concat()),
    ]));
    assert_eq!(
        rows.iter().map(|r| r.sampling_rate).collect::<Vec<_>>(),
        [100, 1000]
    );
}

#[test]
fn json_and_clickhouse_agree_on_times_beyond_2299() {
    let flow = Flow {
        flow_start_ms: u64::MAX - 5000,
        flow_end_ms: u64::MAX,
        ..Flow::EMPTY
    };
    let mut out = Vec::new();
    flowsluice::batch::json::write_row(&flow, &mut out).unwrap();
    let row: serde_json::Value = serde_json::from_slice(&out).unwrap();
    // ClickHouse: stored flow_end (clamped) - 5000 ms.
    assert_eq!(row["flow_start"], "2299-12-31 23:59:54.999");
}

#[test]
fn a_start_by_an_unknown_uptime_is_not_after_its_end() {
    let mut bench = Bench::new();
    // 22 with 153: start by uptime, end absolute, uptime unknown.
    let fields = set(2, &template(256, &[(22, 4), (153, 8)]));
    let body = [&be(5)[..], &(EXPORT_MS - 60_000).to_be_bytes()].concat();
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    assert!(
        rows[0].flow_start_ms <= rows[0].flow_end_ms,
        "{} {}",
        rows[0].flow_start_ms,
        rows[0].flow_end_ms
    );
}

#[test]
fn a_reverse_row_does_not_carry_what_forward_packets_had() {
    let mut bench = Bench::new();
    let fields = set(
        0,
        &template(256, &[(1, 4), (232, 4), (6, 1), (52, 1), (31, 4)]),
    );
    let rows = bench.decode(&netflow9(&[
        fields,
        set(256, &[&be(5)[..], &be(99), &[0x02, 63], &be(77)].concat()),
    ]));
    assert_eq!(
        (
            rows[1].tcp_flags,
            rows[1].ttl,
            rows[1].detail.frame.flow_label
        ),
        (0, 0, 0)
    );
}

#[test]
fn a_flow_whose_clock_is_years_off_ends_when_it_was_received() {
    let mut flow = Flow {
        flow_start_ms: 5_000,
        flow_end_ms: 9_000,
        ..Flow::EMPTY
    };
    assert!(flow.settle_clock(EXPORT_MS));
    assert_eq!(
        (flow.flow_start_ms, flow.flow_end_ms),
        (EXPORT_MS - 4000, EXPORT_MS)
    );
}
