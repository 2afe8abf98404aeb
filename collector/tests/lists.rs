//! RFC 6313: lists are passed over by their length, and fill what the record does not say.

mod messages;

use flowsluice::flow::Flow;
use flowsluice::ledger::DropReason;
use messages::{Bench, ipfix, set, template};
use proptest::prelude::*;

const VARIABLE: u16 = 65_535;

fn list(body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(len) if len < 255 => [&[len], body].concat(),
        _ => [&[255], &(body.len() as u16).to_be_bytes()[..], body].concat(),
    }
}

/// Decodes one record of `fields`, with further `templates`.
fn decode(fields: &[(u16, u16)], templates: &[Vec<u8>], record: &[u8]) -> (Bench, Vec<Flow>) {
    let mut bench = Bench::new();
    let mut all = template(256, fields);
    all.extend(templates.concat());
    bench.decode(&ipfix(&[set(2, &all)]));
    let rows = bench.decode(&ipfix(&[set(256, record)]));
    (bench, rows)
}

#[test]
fn a_basic_list_of_label_stack_entries_becomes_the_label_stack() {
    let entries = [[0, 1, 0x10], [0, 2, 0x20], [0, 3, 0x31]].concat();
    let body = [&[4, 0, 70, 0, 3][..], &entries].concat();
    let record = [&[6][..], &list(&body), &[0, 80]].concat();
    let (_, rows) = decode(&[(4, 1), (291, VARIABLE), (11, 2)], &[], &record);
    assert_eq!((rows[0].protocol, rows[0].dst_port), (6, 80));
    assert_eq!(rows[0].detail.mpls_count, 3);
    assert_eq!(rows[0].detail.mpls_labels[..3], [17, 34, 51]);
}

#[test]
fn a_label_stack_longer_than_there_is_room_for_is_cut() {
    let body = [&[4, 0, 70, 0, 3][..], &[0, 1, 0x10].repeat(1000)].concat();
    let (_, rows) = decode(
        &[(4, 1), (291, VARIABLE)],
        &[],
        &[&[6][..], &list(&body)].concat(),
    );
    assert_eq!(rows[0].detail.mpls_count, 10);
}

#[test]
fn of_a_basic_list_the_first_element_counts_and_only_where_the_record_is_silent() {
    // Two egress interfaces; the record has an ingress interface, which a list does not change.
    let body = [3, 0, 14, 0, 4, 0, 0, 0, 7, 0, 0, 0, 8];
    let other = [3, 0, 10, 0, 4, 0, 0, 0, 9];
    let fields = [(10, 4), (291, VARIABLE), (291, VARIABLE)];
    let record = [&[0, 0, 0, 1][..], &list(&body), &list(&other)].concat();
    let (_, rows) = decode(&fields, &[], &record);
    assert_eq!((rows[0].in_if, rows[0].out_if), (1, 7));
    // Of variable length, and of an enterprise that nobody knows.
    let variable = [3, 0, 14, 0xff, 0xff, 2, 1, 2];
    let unknown = [3, 0x80, 14, 0, 4, 0, 0, 0x30, 0x39, 0, 0, 0, 5];
    let record = [&[0, 0, 0, 1][..], &list(&variable), &list(&unknown)].concat();
    let (_, rows) = decode(&fields, &[], &record);
    assert_eq!(rows[0].out_if, 258);
}

#[test]
fn a_basic_list_may_hold_the_application() {
    let fixed = [3, 0, 95, 0, 4, 13, 0, 1, 0xf0];
    let variable = [3, 0, 95, 0xff, 0xff, 2, 3, 53];
    for (body, expected) in [(&fixed[..], 13 << 56 | 496), (&variable, 3 << 56 | 53)] {
        let record = [&[6][..], &list(body)].concat();
        let (_, rows) = decode(&[(4, 1), (291, VARIABLE)], &[], &record);
        assert_eq!(rows[0].application_id, expected);
    }
}

#[test]
fn a_sub_template_list_fills_what_is_empty_but_no_counters() {
    let nested = template(300, &[(8, 4), (12, 4), (4, 1), (1, 4), (56, 6)]);
    let mut inner = vec![10, 0, 0, 1, 10, 0, 0, 2, 17, 0, 0, 9, 9, 2, 0, 0, 0, 0, 1];
    // A second record is something else than this flow.
    inner.extend([99; 19]);
    let body = [&[3, 1, 44][..], &inner].concat();
    let record = [&[6, 0, 100][..], &list(&body)].concat();
    let (_, rows) = decode(&[(4, 1), (2, 2), (292, VARIABLE)], &[nested], &record);
    let row = rows[0];
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (row.src_addr.to_string(), row.dst_addr.to_string()),
        ("10.0.0.1".into(), "10.0.0.2".into())
    );
    assert_eq!((row.protocol, row.raw_packets, row.raw_bytes), (6, 100, 0));
    assert_eq!(row.detail.frame.src_mac, 0x0200_0000_0001);
}

#[test]
fn blocks_of_unknown_templates_do_not_cost_the_others_of_a_multi_list() {
    let nested = template(301, &[(58, 2)]);
    let unknown = [1, 200, 0, 7, 1, 2, 3];
    let empty = [1, 45, 0, 4];
    let known = [1, 45, 0, 6, 0, 42];
    let body = [&[3][..], &unknown, &empty, &known].concat();
    let (_, rows) = decode(
        &[(4, 1), (293, VARIABLE)],
        &[nested],
        &[&[6][..], &list(&body)].concat(),
    );
    assert_eq!(rows[0].src_vlan, 42);
}

#[test]
fn lists_in_lists_are_looked_into_and_end() {
    // A record of template 302 holds a list of records of template 302, and a VLAN at the bottom.
    let nested = template(302, &[(292, VARIABLE)]);
    let bottom = template(303, &[(58, 2)]);
    let mut body = vec![3, 1, 47, 0, 42];
    for _ in 0..10 {
        body = [&[3, 1, 46][..], &list(&body)].concat();
    }
    let record = [&[6][..], &list(&body)].concat();
    let fields = [(4, 1), (292, VARIABLE)];
    let (_, rows) = decode(&fields, &[nested.clone(), bottom.clone()], &record);
    assert_eq!(rows[0].src_vlan, 42);
    // Deeper than anybody means: passed over, and the record is there all the same.
    for _ in 0..100 {
        body = [&[3, 1, 46][..], &list(&body)].concat();
    }
    let record = [&[6][..], &list(&body)].concat();
    let (_, rows) = decode(&fields, &[nested, bottom], &record);
    assert_eq!((rows.len(), rows[0].protocol, rows[0].src_vlan), (1, 6, 0));
}

#[test]
fn a_malformed_list_costs_nothing_but_itself() {
    let nested = template(300, &[(58, 2)]);
    let bodies: [&[u8]; 10] = [
        &[],
        &[3],
        &[3, 1],
        &[3, 1, 44],
        &[3, 1, 44, 0],
        &[3, 1, 44, 0, 2, 9],
        &[3, 1, 44, 0xff, 0xff, 0, 42],
        &[3, 0, 14, 0, 4, 0, 0],
        &[3, 0, 14, 0, 0, 0, 0],
        &[3, 0x80, 14, 0, 4],
    ];
    for kind in 291..=293 {
        for body in bodies {
            let fields = [(4, 1), (kind, VARIABLE), (11, 2)];
            let record = [&[6][..], &list(body), &[0, 80]].concat();
            let (bench, rows) = decode(&fields, std::slice::from_ref(&nested), &record);
            assert_eq!((rows.len(), rows[0].dst_port), (1, 80), "{kind} {body:?}");
            assert_eq!(bench.dropped(DropReason::RecordMalformed), 0);
            assert_eq!(rows[0].out_if, 0, "{kind} {body:?}");
        }
    }
}

#[test]
fn a_list_longer_than_the_record_is_a_malformed_record() {
    let (bench, rows) = decode(&[(4, 1), (291, VARIABLE)], &[], &[6, 9, 1, 2, 3]);
    assert!(rows.is_empty());
    assert_eq!(bench.dropped(DropReason::RecordMalformed), 1);
}

#[test]
fn flags_of_yaf_are_those_of_the_first_packet_and_of_the_others() {
    // As YAF sends them: CERT's elements, in a subTemplateMultiList of a bidirectional record.
    let cert = |id: u16| [id | 0x8000, 1, 0, 6871].map(u16::to_be_bytes).concat();
    let mut nested = [303_u16, 4].map(u16::to_be_bytes).concat();
    for id in [14, 15, 14 | 0x4000, 15 | 0x4000] {
        nested.extend(cert(id));
    }
    let reverse = [0x8000 | 85, 4, 0, 29305].map(u16::to_be_bytes).concat();
    let mut outer = [256_u16, 3].map(u16::to_be_bytes).concat();
    outer.extend([85_u16, 4].map(u16::to_be_bytes).concat());
    outer.extend(reverse);
    outer.extend([293_u16, VARIABLE].map(u16::to_be_bytes).concat());
    let mut bench = Bench::new();
    bench.decode(&ipfix(&[set(2, &[outer, nested].concat())]));
    let body = [3, 1, 47, 0, 8, 0x02, 0x19, 0x12, 0x10];
    let record = [&[0, 0, 1, 0, 0, 0, 0, 9][..], &list(&body)].concat();
    let rows = bench.decode(&ipfix(&[set(256, &record)]));
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].raw_bytes, rows[0].tcp_flags), (256, 0x1b));
    assert_eq!((rows[1].raw_bytes, rows[1].tcp_flags), (9, 0x12));
}

proptest! {
    /// Whatever a list holds, the record around it is one row with its own fields.
    #[test]
    fn a_record_survives_any_list(
        kind in 291..=293_u16,
        head in prop::sample::select(vec![
            vec![],
            vec![3, 1, 44],
            vec![3, 1, 46],
            vec![3, 0, 70, 0, 3],
            vec![3, 0, 8, 0, 4],
            vec![3, 0, 28, 0, 16],
            vec![3, 0x80, 14, 0xff, 0xff, 0, 0, 0x1a, 0xd7],
            vec![3, 1, 46, 0, 40, 36, 3, 1, 44],
        ]),
        tail in prop::collection::vec(prop_oneof![any::<u8>(), 0..4_u8], 0..300),
    ) {
        let fields = [(4, 1), (kind, VARIABLE), (11, 2)];
        let nested = template(300, &[(27, 16), (7, 2), (58, 2)]);
        let nested_lists = template(302, &[(292, VARIABLE), (293, VARIABLE), (291, VARIABLE)]);
        let body = [&head[..], &tail].concat();
        let record = [&[6][..], &list(&body), &[0, 80]].concat();
        let (bench, rows) = decode(&fields, &[nested, nested_lists], &record);
        prop_assert_eq!(rows.len(), 1);
        prop_assert_eq!((rows[0].protocol, rows[0].dst_port), (6, 80));
        prop_assert_eq!((rows[0].raw_bytes, rows[0].raw_packets), (0, 0));
        prop_assert_eq!(bench.counts.records_present, 1);
    }
}
