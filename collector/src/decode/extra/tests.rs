use super::*;
use crate::decode::elements::DataType as D;
use crate::decode::plan::{FieldSpec, Layout, Plan, Spans};
use crate::ledger::WorkerCounts;

fn text(data_type: DataType, field: &[u8]) -> String {
    Text::of(data_type, field).as_str().to_owned()
}

#[test]
fn values_are_shown_by_their_type_and_otherwise_as_octets() {
    let cases: [(DataType, &[u8], &str); 20] = [
        (D::Unsigned8, &[0, 0, 1, 0], "256"),
        (D::Unsigned64, &[0xff; 8], "18446744073709551615"),
        (
            D::Unsigned256,
            &[1; 17],
            "0101010101010101010101010101010101",
        ),
        (D::Signed32, &[0xff], "-1"),
        (
            D::Signed64,
            &[0x80, 0, 0, 0, 0, 0, 0, 0],
            "-9223372036854775808",
        ),
        (D::Float32, &[0x3f, 0xc0, 0, 0], "1.5"),
        (D::Float64, &[0x3f, 0xc0, 0, 0], "1.5"),
        (
            D::Float64,
            &[0x7f, 0xef, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "1.7976931348623157e308",
        ),
        (D::Boolean, &[1], "true"),
        (D::Boolean, &[2], "false"),
        (D::Boolean, &[0], "00"),
        (
            D::MacAddress,
            &[0, 1, 2, 0xa, 0xb, 0xc],
            "00:01:02:0a:0b:0c",
        ),
        (D::Ipv4Address, &[192, 0, 2, 1], "192.0.2.1"),
        (D::Ipv4Address, &[192, 0, 2], "c00002"),
        (D::OctetArray, &[0, 0xff], "00ff"),
        (D::String, b"eth0\0\0\0", "eth0"),
        (D::String, b"a\xffb\xe8\xaa\x9e", "a\u{fffd}b\u{8a9e}"),
        (
            D::DateTimeSeconds,
            &[0x65, 0x53, 0xf1, 0x00],
            "2023-11-14T22:13:20Z",
        ),
        (
            D::DateTimeMilliseconds,
            &[0, 0, 0, 0, 0, 0, 3, 0xe9],
            "1970-01-01T00:00:01.001Z",
        ),
        (D::DateTimeMilliseconds, &[0xff; 8], "18446744073709551615"),
    ];
    for (data_type, field, shown) in cases {
        assert_eq!(text(data_type, field), shown, "{data_type:?} {field:02x?}");
    }
}

#[test]
fn microseconds_are_rounded_and_those_of_1970_are_told_by_the_year() {
    // 1,700,000,000.999999 s, the last eleven bits left open.
    let ntp = ((1_700_000_000_u64 + 2_208_988_800) << 32 | 0xffff_ef39) & !0x7ff;
    let shown = text(D::DateTimeMicroseconds, &ntp.to_be_bytes());
    assert_eq!(shown, "2023-11-14T22:13:20.999999Z");
    let plain = 1_700_000_000_999_999_u64;
    assert_eq!(text(D::DateTimeMicroseconds, &plain.to_be_bytes()), shown);
    let nanos = text(D::DateTimeNanoseconds, &(plain * 1000).to_be_bytes());
    assert_eq!(nanos, "2023-11-14T22:13:20.999999000Z");
}

#[test]
fn a_long_value_is_cut_at_a_whole_character() {
    let long = "ab\u{e4}".repeat(100);
    let cut = Text::of(D::String, long.as_bytes());
    assert!(cut.is_cut());
    assert_eq!(cut.as_str(), &long[..EXTRA_VALUE_MAX]);
    let cut = Text::of(D::String, format!("a{long}").as_bytes());
    assert_eq!(
        cut.as_str().len(),
        EXTRA_VALUE_MAX - 1,
        "a character would be cut in two"
    );
    assert!(!Text::of(D::String, &[b'a'; EXTRA_VALUE_MAX]).is_cut());
    assert!(Text::of(D::OctetArray, &[0; EXTRA_VALUE_MAX]).is_cut());
}

fn said(rows: ExtraRows<'_>, flows: usize) -> Vec<Vec<(String, String)>> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    (0..flows)
        .map(|flow| rows.of(flow).map(owned).collect())
        .collect()
}

#[test]
fn what_a_flow_says_stays_its_own_when_the_burst_is_split() {
    let mut buffer = ExtraBuffer::with_room();
    assert!(buffer.is_empty());
    for (flow, value) in [(1, &b"one"[..]), (3, b"three")] {
        let mut writer = buffer.begin(flow);
        writer.put(b"\x01a", D::String, value);
        writer.put(b"\x02bc", D::Unsigned8, &[flow as u8]);
        writer.put(b"\x01d", D::String, b"");
        writer.put(b"\x01e", D::String, b"\0\0");
        assert_eq!(writer.cut, 0);
    }
    assert!(!buffer.is_empty());
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        vec![],
        vec![pair("a", "one"), pair("bc", "1")],
        vec![],
        vec![pair("a", "three"), pair("bc", "3")],
        vec![],
    ];
    let rows = buffer.rows(5);
    assert_eq!(said(rows, 5), expected);
    for first in 0..=5 {
        let (before, after) = rows.split_at(first);
        assert_eq!(said(before, first), expected[..first]);
        assert_eq!(said(after, 5 - first), expected[first..]);
        assert_eq!(before.entries().count(), first);
        assert_eq!(
            after.entries().last().unwrap_or(0),
            expected[first..].concat().len()
        );
    }
    buffer.clear();
    assert!(buffer.is_empty());
    assert_eq!(said(buffer.rows(2), 2), [[], []]);
}

#[test]
fn what_a_flow_says_is_bounded_and_the_rest_counted() {
    let mut buffer = ExtraBuffer::with_room();
    for flow in 0..BURST_FLOWS {
        let mut writer = buffer.begin(flow);
        // 2 + 2 + 200 bytes each: five have room.
        for _ in 0..6 {
            writer.put(b"\x01a", D::String, &[b'x'; 200]);
        }
        writer.put(b"\x01b", D::Unsigned8, &[7]);
        assert_eq!(
            writer.cut, 1,
            "a short one has room behind a long one that has not"
        );
    }
    let rows = buffer.rows(BURST_FLOWS);
    assert!(said(rows, BURST_FLOWS).iter().all(|said| said.len() == 6));
}

#[test]
fn a_buffer_without_room_counts_all() {
    let mut buffer = ExtraBuffer::default();
    let mut writer = buffer.begin(0);
    writer.put(b"\x01a", D::Unsigned8, &[7]);
    assert_eq!(writer.cut, 1);
    assert_eq!(said(buffer.rows(1), 1), [[]]);
}

fn parsed(text: &str) -> Result<ElementPattern, PatternError> {
    text.parse()
}

#[test]
fn elements_are_asked_for_by_number_by_name_or_all_at_once() {
    use ElementPattern as P;
    for (text, pattern, shown) in [
        ("*", P::All, "*"),
        ("9.*", P::Enterprise(9), "9.*"),
        ("9.12235", P::Element(9, 12_235), "9.applicationHTTPHost"),
        (
            "9.applicationHTTPHost",
            P::Element(9, 12_235),
            "9.applicationHTTPHost",
        ),
        ("flowId", P::Element(0, 148), "0.flowId"),
        ("0.flowId", P::Element(0, 148), "0.flowId"),
        ("4000000.7", P::Element(4_000_000, 7), "4000000.7"),
    ] {
        assert_eq!(parsed(text), Ok(pattern), "{text}");
        assert_eq!(pattern.to_string(), shown);
        assert_eq!(parsed(shown), Ok(pattern));
    }
    for text in [
        "",
        "148",
        "flowid",
        "9.flowId",
        "x.1",
        "9.",
        ".1",
        "9.65536",
        "9.-1",
        "4294967296.1",
    ] {
        assert_eq!(parsed(text), Err(PatternError), "{text}");
    }
    let wanted = Wanted::of(&[P::Enterprise(9), P::Element(0, 148)]);
    assert!(wanted.has(9, 1) && wanted.has(0, 148));
    assert!(!wanted.has(0, 1) && !wanted.has(8, 148));
    assert!(Wanted::NOTHING.is_nothing() && !Wanted::NOTHING.has(9, 1));
}

/// The elements that a template of these has for `extra`, asked for all.
fn keys(fields: &[(u16, u16)]) -> Vec<String> {
    let (keys, cut) = keys_and_cut(fields);
    assert_eq!(cut, 0);
    keys
}

/// The same, with how many have no room.
fn keys_and_cut(fields: &[(u16, u16)]) -> (Vec<String>, u64) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(id, len)| FieldSpec {
            enterprise: 0,
            id: *id,
            len: *len,
            is_scope: false,
        })
        .collect();
    let wanted = Wanted::of(&[ElementPattern::All]);
    let plan = Plan::compile(&fields, &wanted).unwrap();
    let record = [1; 128];
    let mut buffer = ExtraBuffer::with_room();
    let mut counts = WorkerCounts::default();
    let room = (&mut buffer, 0..1);
    match plan.layout() {
        Layout::Fixed { len } => {
            plan.extra
                .fixed(&record[..8 + len], *len, room, &mut counts);
        }
        Layout::Variable { .. } => {
            let mut spans = Spans::default();
            plan.measure(&record[8..], &mut spans).unwrap();
            plan.extra.variable(&record, &spans, room, &mut counts);
        }
    }
    let said = buffer.rows(1).of(0);
    let keys = said.map(|(name, _)| name.to_owned()).collect();
    (keys, counts.extra_cut)
}

#[test]
fn only_what_fills_no_column_goes_to_extra() {
    assert_eq!(keys(&[(1, 8), (8, 4), (95, 4)]), ["0.applicationId"]);
    // 23 counts what 1 counts; 44 would stand in for 8; 8 of three bytes is no address.
    assert_eq!(keys(&[(1, 8), (23, 8)]), ["0.postOctetDeltaCount"]);
    assert_eq!(keys(&[(23, 8), (4, 1)]), [""; 0]);
    assert_eq!(keys(&[(8, 3), (4, 1)]), ["0.sourceIPv4Address"]);
    // A fallback fills where the better one is zero.
    assert_eq!(keys(&[(27, 16), (8, 4)]), [""; 0]);
    // The packet in the record, sampling, and padding.
    assert_eq!(keys(&[(315, 20), (34, 4), (210, 3), (160, 8)]), [""; 0]);
}

#[test]
fn elements_of_a_template_beyond_the_most_are_counted_in_each_record() {
    // Numbers that nobody knows.
    let fields: Vec<_> = (20_000..20_066).map(|id| (id, 1)).collect();
    let (keys, cut) = keys_and_cut(&fields);
    assert_eq!((keys.len(), cut), (EXTRA_ENTRIES_MAX, 2));
    assert_eq!(keys[63], "0.20063");
}

#[test]
fn of_a_repeated_element_the_first_goes_to_extra() {
    assert_eq!(keys(&[(95, 4), (95, 4), (4, 1)]), ["0.applicationId"]);
}

#[test]
fn an_empty_field_does_not_hide_the_one_before_it() {
    assert_eq!(
        keys(&[(95, 4), (96, 0), (94, 2)]),
        ["0.applicationId", "0.applicationDescription"]
    );
    assert_eq!(
        keys(&[(95, 65_535), (1, 8), (94, 65_535)]),
        ["0.applicationId", "0.applicationDescription"]
    );
}

#[test]
fn a_buffer_takes_what_it_says() {
    let buffer = ExtraBuffer::with_room();
    let bytes = buffer.names.len() + buffer.values.len();
    assert_eq!(bytes, ExtraBuffer::MEMORY_BYTES);
    let buffer = ExtraBuffer::default();
    assert_eq!(buffer.names.len() + buffer.values.len(), 0);
}
