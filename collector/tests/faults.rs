//! What made other collectors lose flows, or invent them: one test for each such input. Rows and
//! counters are both looked at: what is lost on purpose is counted, and nothing else is lost.

mod messages;

use std::net::Ipv4Addr;

use flowsluice::decode::TEMPLATE_FIELDS_MAX;
use flowsluice::flow::{Flow, SamplingSource};
use flowsluice::ledger::DropReason;
use messages::{
    Bench, EXPORT_MS, RECEIVED, ipfix, netflow5, netflow9, options_template_ipfix,
    options_template_v9, set, sflow5, template, twenty_field_records, twenty_field_template,
};

fn be(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// `message` as of another observation domain (IPFIX).
fn of_domain(domain: u8, mut message: Vec<u8>) -> Vec<u8> {
    message[15] = domain;
    message
}

/// `message` as of another source id (NetFlow v9).
fn of_source_id(id: u8, mut message: Vec<u8>) -> Vec<u8> {
    message[19] = id;
    message
}

fn bytes_of(rows: &[Flow]) -> Vec<u64> {
    rows.iter().map(|row| row.raw_bytes).collect()
}

/// Asserts that exactly these losses are counted, and no other.
#[track_caller]
fn assert_dropped(bench: &Bench, expected: &[(DropReason, u64)]) {
    let dropped: Vec<_> = DropReason::ALL
        .iter()
        .map(|reason| (*reason, bench.dropped(*reason)))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(dropped, expected);
}

/// Other collectors stored an empty template, and looped over the data without end.
#[test]
fn template_withdrawal_then_data_with_that_id() {
    let mut bench = Bench::new();
    let sets = [256, 257].map(|id| set(2, &template(id, &[(1, 4)])));
    bench.decode(&ipfix(&sets));
    bench.decode(&ipfix(&[set(2, &[1, 0, 0, 0])]));
    let both = ipfix(&[set(256, &[0, 0, 0, 7]), set(257, &[0, 0, 0, 8])]);
    assert_eq!(bytes_of(&bench.decode(&both)), [8]);
    assert_eq!(bench.counts.templates_withdrawn, 1);
    // The id is free for another meaning, which what came after the withdrawal waits for.
    assert_eq!(bench.counts.sets_held, 1);
    let rows = bench.decode(&ipfix(&[set(2, &template(256, &[(2, 4)]))]));
    assert_eq!((rows.len(), rows[0].raw_packets), (1, 7));
    assert_dropped(&bench, &[]);
    let rows = bench.decode(&ipfix(&[set(256, &[0, 0, 0, 9])]));
    assert_eq!((rows[0].raw_bytes, rows[0].raw_packets), (0, 9));
}

/// Other collectors lost the whole set.
#[test]
fn template_with_only_variable_length_fields() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(82, 65_535), (1, 65_535)]));
    let body = [1, b'a', 2, 1, 0, 0, 1, 9, 255, 0, 1, b'b', 1, 5];
    let rows = bench.decode(&ipfix(&[fields, set(256, &body)]));
    assert_eq!(bytes_of(&rows), [256, 9, 5]);
    assert_eq!(bench.counts.records_present, 3);
    assert_dropped(&bench, &[]);
}

/// Other collectors read a value shorter than it says, without a word.
#[test]
fn field_longer_than_the_rest_of_the_set() {
    let mut bench = Bench::new();
    let fields = set(2, &template(256, &[(1, 4), (82, 65_535)]));
    let body = [0, 0, 0, 5, 1, b'a', 0, 0, 0, 6, 200, b'b', b'c'];
    let other = set(2, &template(257, &[(1, 4)]));
    let sets = [fields, other, set(256, &body), set(257, &[0, 0, 0, 7])];
    assert_eq!(bytes_of(&bench.decode(&ipfix(&sets))), [5, 7]);
    assert_dropped(&bench, &[(DropReason::RecordMalformed, 1)]);
    // Of a template of fixed lengths, what is left is no record either.
    let rows = bench.decode(&ipfix(&[set(257, &[0, 0, 0, 8, 0, 0, 0, 9])]));
    assert_eq!(bytes_of(&rows), [8, 9]);
    let long = set(2, &template(258, &[(1, 4), (82, 400)]));
    bench.decode(&ipfix(&[long, set(258, &[9; 40])]));
    let malformed = (DropReason::RecordMalformed, 1);
    assert_dropped(&bench, &[(DropReason::RecordTruncated, 1), malformed]);
}

/// Other collectors left the enterprise bit in the element's number, and all lengths were wrong.
#[test]
fn options_template_with_enterprise_fields() {
    let mut bench = Bench::new();
    // 9:305 is no sampling interval, 305 is one.
    let mut options = [300u16, 4, 1].map(u16::to_be_bytes).concat();
    options.extend([149, 4].map(u16::to_be_bytes).concat());
    options.extend([0x8000 | 305, 4, 0, 9].map(u16::to_be_bytes).concat());
    options.extend([305, 4, 306, 4].map(u16::to_be_bytes).concat());
    let facts = [be(7), be(5555), be(1), be(99)].concat();
    let fields = set(2, &template(256, &[(1, 4)]));
    bench.decode(&ipfix(&[set(3, &options), set(300, &facts), fields]));
    let rows = bench.decode(&ipfix(&[set(256, &be(6))]));
    assert_eq!(bytes_of(&rows), [6]);
    assert_eq!(rows[0].sampling_rate, 100);
    assert_eq!(rows[0].sampling_source, SamplingSource::Options);
    assert_eq!(bench.counts.options_records, 1);
    assert_dropped(&bench, &[]);
}

/// Other collectors dropped the whole message, and did not count it.
#[test]
fn one_of_several_sets_has_no_template() {
    let mut bench = Bench::new();
    let data = set(256, &twenty_field_records(2));
    let sets = [
        twenty_field_template(),
        data.clone(),
        set(999, &[1; 40]),
        data,
    ];
    let rows = bench.decode(&netflow9(&sets));
    assert_eq!(bytes_of(&rows), [1500; 4]);
    assert_eq!(bench.counts.sets_decoded, 2);
    bench.end();
    assert_dropped(&bench, &[(DropReason::TemplateMissing, 1)]);
}

/// Other collectors called it an error, or stored a template 2.
#[test]
fn withdraw_all_templates_by_id_2_or_3_with_count_0() {
    let mut bench = Bench::new();
    let data = [256, 257].map(|id| set(2, &template(id, &[(1, 4)])));
    let options = set(3, &options_template_ipfix(300, 1, &[(149, 4), (34, 4)]));
    let facts = |rate| set(300, &[be(7), be(rate)].concat());
    bench.decode(&ipfix(&[data.concat(), options, facts(10)]));
    bench.decode(&ipfix(&[set(3, &[0, 3, 0, 0])]));
    let rows = bench.decode(&ipfix(&[facts(20), set(256, &be(5))]));
    assert_eq!(bytes_of(&rows), [5], "templates of flows are still there");
    assert_eq!(rows[0].sampling_rate, 10, "and what was learned");
    assert_eq!(bench.counts.templates_withdrawn, 1);
    bench.decode(&ipfix(&[set(2, &[0, 2, 0, 0])]));
    let rows = bench.decode(&ipfix(&[set(256, &be(5)), set(257, &be(5))]));
    assert_eq!(rows, []);
    assert_eq!(bench.counts.templates_withdrawn, 3);
    bench.end();
    assert_dropped(&bench, &[(DropReason::TemplateMissing, 3)]);
}

/// Other collectors discarded the whole template.
#[test]
fn one_unknown_field() {
    let mut bench = Bench::new();
    let known = |unknown: (u16, u16)| template(256, &[(8, 4), unknown, (1, 4)]);
    let record = |len: usize| [&[10, 0, 0, 1][..], &vec![0xee; len], &be(77)].concat();
    for (id, len) in [(499, 3), (32_000, 17), (20, 1), (0, 8)] {
        let sets = [set(0, &known((id, len))), set(256, &record(len.into()))];
        let rows = bench.decode(&netflow9(&sets));
        assert_eq!(bytes_of(&rows), [77], "NetFlow v9 element {id}");
        assert_eq!(rows[0].src_addr.to_string(), "10.0.0.1");
    }
    let mut fields = template(256, &[(8, 4), (0x8000 | 1, 5)]);
    fields.extend(be(65_000));
    fields.extend([1, 4].map(u16::to_be_bytes).concat());
    fields[3] = 3;
    let rows = bench.decode(&ipfix(&[set(2, &fields), set(256, &record(5))]));
    assert_eq!(bytes_of(&rows), [77], "enterprise 65000");
    assert_dropped(&bench, &[]);
}

/// Other collectors made records of them, or looped over them without end.
#[test]
fn padding_as_long_as_a_record_and_zero_length_fields_and_a_zero_filled_tail() {
    let mut bench = Bench::new();
    let fields = set(0, &template(256, &[(7, 0), (8, 4), (11, 2), (1, 0)]));
    let mut body = vec![10, 0, 0, 9, 0, 80];
    body.extend([0; 6 * 5]);
    let mut payload = netflow9(&[fields, set(256, &body)]);
    payload.extend([0; 300]);
    let rows = bench.decode(&payload);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].dst_port, rows[0].raw_bytes), (80, 0));
    let counts = bench.counts;
    let [present, suppressed] = [counts.records_present, counts.records_suppressed];
    assert_eq!(present, 1 + suppressed, "padding is counted as such");
    let variable = set(2, &template(257, &[(8, 4), (82, 65_535)]));
    let mut body = vec![10, 0, 0, 9, 1, b'a'];
    body.extend([0; 40]);
    let rows = bench.decode(&ipfix(&[variable, set(257, &body)]));
    assert_eq!(rows.len(), 1);
    assert_dropped(&bench, &[]);
    // Nothing but fields of length 0 cannot be walked through at all.
    let empty = set(0, &template(258, &[(1, 0), (2, 0)]));
    assert_eq!(bench.decode(&netflow9(&[empty, set(258, &[1; 64])])), []);
    let missing = (DropReason::TemplateMissing, 1);
    bench.end();
    assert_dropped(&bench, &[missing, (DropReason::TemplateMalformed, 1)]);
}

/// Other collectors decoded with the template of whoever sent last.
#[test]
fn same_template_id_from_two_exporters_or_two_domains() {
    let mut bench = Bench::new();
    let [first, second] = [1, 2].map(|n| Ipv4Addr::new(198, 51, 100, n));
    let octets = ipfix(&[set(2, &template(256, &[(1, 4)]))]);
    let packets = ipfix(&[set(2, &template(256, &[(2, 4)]))]);
    let both = ipfix(&[set(2, &template(256, &[(1, 2), (2, 2)]))]);
    bench.decode_of(first, 0, &octets);
    bench.decode_of(second, 0, &packets);
    bench.decode_of(first, 0, &of_domain(8, both));
    // Another protocol of the same exporter and domain.
    bench.decode_of(first, 0, &netflow9(&[set(0, &template(256, &[(7, 4)]))]));
    let data = ipfix(&[set(256, &[0, 1, 0, 2])]);
    let mut volume = |source, payload: &[u8]| {
        let rows = bench.decode_of(source, 1, payload);
        (rows[0].raw_bytes, rows[0].raw_packets, rows[0].src_port)
    };
    assert_eq!(volume(first, &data), (0x1_0002, 0, 0));
    assert_eq!(volume(second, &data), (0, 0x1_0002, 0));
    assert_eq!(volume(first, &of_domain(8, data)), (1, 2, 0));
    let of_netflow9 = netflow9(&[set(256, &[0, 0, 0, 2])]);
    assert_eq!(volume(first, &of_netflow9), (0, 0, 2));
    assert_eq!(bench.counts.templates_learned, 4);
    assert_dropped(&bench, &[]);
}

/// Other collectors knew no rate, or that of another sampler: the Catalyst 9000 sends options under
/// another source id than flows, the NCS 5500 and IOS XR have several samplers.
#[test]
fn options_under_another_source_id_and_several_samplers_a_box() {
    let mut bench = Bench::new();
    let options = set(1, &options_template_v9(300, &[(1, 4)], &[(48, 2), (50, 4)]));
    let sampler = |id: u8, rate| [&be(0)[..], &[0, id], &be(rate)].concat();
    let facts = set(300, &[sampler(1, 100), sampler(2, 4000)].concat());
    let fields = set(0, &template(256, &[(48, 2), (1, 4)]));
    let record = |id: u8| [&[0, id][..], &be(9)].concat();
    let data = [1, 2, 3].map(record).concat();
    bench.decode(&of_source_id(0, netflow9(&[options, facts])));
    let flows = netflow9(&[fields, set(256, &data)]);
    let rows = bench.decode(&of_source_id(42, flows));
    let rates: Vec<_> = rows
        .iter()
        .map(|row| (row.sampling_rate, row.sampling_source))
        .collect();
    let told = SamplingSource::Options;
    let expected = [(100, told), (4000, told), (0, SamplingSource::Unknown)];
    assert_eq!(rates, expected);
    assert_eq!(bytes_of(&rows), [9; 3], "raw values stay as they came");
    assert_eq!(bench.counts.options_records, 2);
    assert_dropped(&bench, &[]);
}

/// Other collectors showed no bytes, or counted a connection at its creation and its end.
#[test]
fn nsel_bytes_in_231_and_232_and_the_same_flow_two_or_three_times() {
    let mut bench = Bench::new();
    let fields = [
        (148, 4),
        (8, 4),
        (12, 4),
        (7, 2),
        (11, 2),
        (4, 1),
        (233, 1),
        (231, 4),
        (232, 4),
    ];
    let record = |event: u8, initiator, responder| {
        let ends = [10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 80, 6, event];
        [&be(1001)[..], &ends, &be(initiator), &be(responder)].concat()
    };
    let mut volume = |events: &[Vec<u8>]| {
        let sets = [set(0, &template(256, &fields)), set(256, &events.concat())];
        let rows = bench.decode(&netflow9(&sets));
        let of = |port| rows.iter().filter(move |row| row.dst_port == port);
        let sum = |port| of(port).map(|row| row.raw_bytes).sum::<u64>();
        let with_volume = rows.iter().filter(|row| row.raw_bytes > 0).count();
        (sum(80), sum(1024), with_volume)
    };
    // Created, and torn down with what was transferred in all: there and back.
    let short = [record(1, 0, 0), record(2, 1000, 100)];
    assert_eq!(volume(&short), (1000, 100, 2), "each byte once");
    // Updates tell what came since the one before, a last one comes with the teardown.
    let updates = [record(5, 600, 90), record(5, 400, 10)];
    let long = [&[record(1, 0, 0)], &updates[..], &[record(2, 1000, 100)]].concat();
    assert_eq!(volume(&long), (1000, 100, 4), "each byte once");
    assert_eq!(bench.counts.nsel_totals_told_before, 1);
    assert_dropped(&bench, &[]);
}

/// Other collectors were days or decades off.
#[test]
fn sys_uptime_wrap_after_49_days_and_uptime_0_and_wrong_clocks() {
    let mut bench = Bench::new();
    let fields = set(0, &template(256, &[(22, 4), (21, 4)]));
    let message = |uptime, first, last| {
        let data = set(256, &[be(first), be(last)].concat());
        let mut payload = netflow9(&[fields.clone(), data]);
        payload[4..8].copy_from_slice(&be(uptime));
        payload
    };
    let mut times = |payload: &[u8]| {
        let rows = bench.decode(payload);
        (rows[0].flow_start_ms, rows[0].flow_end_ms)
    };
    // The uptime wrapped between the flow and its export.
    let wrapped = message(2000, u32::MAX - 999, 1000);
    assert_eq!(times(&wrapped), (EXPORT_MS - 3000, EXPORT_MS - 1000));
    // An uptime of 0 is none: the flow ended when it was exported.
    let none = message(0, 1_000_000_000, 1_000_004_000);
    assert_eq!(times(&none), (EXPORT_MS - 4000, EXPORT_MS));
    let mut netflow5 = netflow5(1, 1, 0);
    netflow5[4..8].fill(0);
    assert_eq!(times(&netflow5), (EXPORT_MS - 1000, EXPORT_MS));
    // A clock that is years off is not believed; how long the flow took is.
    let mut wrong = message(5000, 1000, 4000);
    wrong[8..12].copy_from_slice(&be(86_400));
    let mut row = bench.decode(&wrong)[0];
    assert!(row.settle_clock(RECEIVED.millis()));
    assert_eq!(row.flow_end_ms, RECEIVED.millis());
    assert_eq!(row.duration_ms(), 3000);
    assert_dropped(&bench, &[]);
}

/// Other collectors discarded the flow.
#[test]
fn no_snmp_or_unknown_if_index() {
    let mut bench = Bench::new();
    let without = set(2, &template(256, &[(1, 4)]));
    let with = set(2, &template(257, &[(10, 4), (14, 4), (1, 4)]));
    let of = |input, output| [be(input), be(output), be(3)].concat();
    let data = [of(0, 0), of(u32::MAX, 0x3fff_ffff), of(12, 4_000_000)].concat();
    let sets = [without, with, set(256, &be(3)), set(257, &data)];
    let mut rows = bench.decode(&ipfix(&sets));
    assert_eq!(bytes_of(&rows), [3; 4]);
    // An agent without ifIndex, and one that says "several" and "discarded".
    let mut sample = sflow5(1);
    // Behind the datagram's header, the sample's, and five words of it.
    sample[56..64].copy_from_slice(&[be(0), be(2 << 30 | 5)].concat());
    rows.extend(bench.decode(&sample));
    let interfaces: Vec<_> = rows.iter().map(|row| (row.in_if, row.out_if)).collect();
    let expected = [
        (0, 0),
        (0, 0),
        (u32::MAX, 0x3fff_ffff),
        (12, 4_000_000),
        (0, 2 << 30 | 5),
    ];
    assert_eq!(interfaces, expected);
    assert_dropped(&bench, &[]);
}

/// Other collectors stopped at the count, or beyond what is there.
#[test]
fn header_count_differs_from_the_records_present() {
    let mut bench = Bench::new();
    // NetFlow v9 counts sets, records, or whatever it likes.
    for count in [0, 1, 3, 24, u16::MAX] {
        let sets = [twenty_field_template(), set(256, &twenty_field_records(3))];
        let mut payload = netflow9(&sets);
        payload[2..4].copy_from_slice(&count.to_be_bytes());
        assert_eq!(bench.decode(&payload).len(), 3, "count {count}");
    }
    assert_dropped(&bench, &[]);
    // In NetFlow v5 and sFlow the count is all that says what should be there.
    assert_eq!(bench.decode(&netflow5(30, 2, 0)).len(), 2);
    assert_eq!(bench.decode(&netflow5(1, 2, 0)).len(), 1);
    assert_dropped(&bench, &[(DropReason::RecordTruncated, 28)]);
    let mut samples = sflow5(2);
    samples[24..28].copy_from_slice(&be(5));
    assert_eq!(bench.decode(&samples).len(), 2);
    let cut = (DropReason::SampleMalformed, 3);
    assert_dropped(&bench, &[cut, (DropReason::RecordTruncated, 28)]);
    let many = set(2, &template(256, &[(1, 1); TEMPLATE_FIELDS_MAX]));
    let data = set(256, &[1; 2 * TEMPLATE_FIELDS_MAX]);
    let rows = bench.decode(&ipfix(&[many, data]));
    assert_eq!(bytes_of(&rows), [1, 1], "as many fields as are allowed");
}
