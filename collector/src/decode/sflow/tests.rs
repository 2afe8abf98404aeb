use proptest::prelude::*;

use super::*;
use crate::decode::BurstBuffer;
use crate::flow::{Detail, DetailFields, FlowType, Frame, TunnelType};
use crate::ledger::Ledger;

struct Flows(Vec<Flow>);

impl FlowSink for Flows {
    fn flows(&mut self, flows: &mut [Flow]) {
        self.0.extend_from_slice(flows);
    }
}

struct Decoded {
    outcome: Result<(Header, u32), DropReason>,
    flows: Vec<Flow>,
    beside: Beside,
    counts: WorkerCounts,
}

fn decode_bytes(payload: &[u8]) -> Decoded {
    let mut base = Flow {
        exporter_source: Address::from_v4([198, 51, 100, 1]),
        time_received_s: 1_700_000_000,
        flow_type: FlowType::Sflow5,
        ..Flow::EMPTY
    };
    let mut counts = WorkerCounts::default();
    let mut flows = Flows(Vec::new());
    let mut buffer = BurstBuffer::default();
    let mut burst = Burst::new(&mut buffer, &mut flows);
    let beside = Beside::default();
    let outcome = header(payload).map(|(header, samples)| {
        let context = Context {
            base: &mut base,
            tunnels: Tunnels::Outer,
            beside: &beside,
            agent: None,
        };
        let rate_last = decode(&header, samples, context, &mut counts, &mut burst);
        (header, rate_last)
    });
    burst.flush();
    Decoded {
        outcome,
        flows: flows.0,
        beside,
        counts,
    }
}

/// The equations of the ledger, as the decoder around this one completes them.
fn assert_accounted(decoded: &Decoded) {
    let mut counts = decoded.counts;
    counts.datagrams_received = 1;
    match decoded.outcome {
        Ok(_) => counts.datagrams_decoded = 1,
        Err(reason) => counts.drop_one(reason),
    }
    assert_eq!(counts.flows_decoded, decoded.flows.len() as u64);
    counts.flows_batched = counts.flows_decoded;
    counts.flows_open = counts.flows_decoded;
    let ledger = Ledger::new(1);
    ledger.worker(0).publish(&counts);
    assert_eq!(ledger.snapshot().unaccounted(), 0, "{counts:?}");
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// `kind`, the length of `body`, `body`: samples and records alike.
fn framed(kind: u32, body: &[u8]) -> Vec<u8> {
    [&words(&[kind, body.len() as u32]), body].concat()
}

fn datagram(samples: &[Vec<u8>]) -> Vec<u8> {
    let header = words(&[5, 1, 0xc000_0201, 3, 77, 60_000, samples.len() as u32]);
    [header, samples.concat()].concat()
}

fn flow_sample(input: u32, output: u32, records: &[Vec<u8>]) -> Vec<u8> {
    let fixed = words(&[9, input, 512, 5120, 0, input, output, records.len() as u32]);
    framed(1, &[fixed, records.concat()].concat())
}

fn expanded_sample(input: [u32; 2], output: [u32; 2], records: &[Vec<u8>]) -> Vec<u8> {
    let fixed = words(&[
        9,
        0,
        input[1],
        512,
        5120,
        0,
        input[0],
        input[1],
        output[0],
        output[1],
        records.len() as u32,
    ]);
    framed(3, &[fixed, records.concat()].concat())
}

fn frame() -> Vec<u8> {
    let ethernet = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 8, 0];
    let ip = [
        0x45, 0, 5, 220, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9,
    ];
    let udp = [0x14, 0xe9, 0x00, 0x35, 0x05, 0xc8, 0, 0];
    [&ethernet[..], &ip, &udp].concat()
}

fn raw_header(frame: &[u8]) -> Vec<u8> {
    let mut body = words(&[1, 1522, 4, frame.len() as u32]);
    body.extend(frame);
    body.resize(body.len().next_multiple_of(4), 0);
    framed(1, &body)
}

fn one_flow(records: &[Vec<u8>]) -> Flow {
    let decoded = decode_bytes(&datagram(&[flow_sample(1, 2, records)]));
    assert_accounted(&decoded);
    assert_eq!(decoded.counts.dropped(DropReason::SampleMalformed), 0);
    decoded.flows[0]
}

#[test]
fn a_flow_sample_becomes_one_flow_with_the_agents_view() {
    let decoded = decode_bytes(&datagram(&[flow_sample(11, 12, &[raw_header(&frame())])]));
    assert_accounted(&decoded);
    assert_eq!(
        decoded.outcome,
        Ok((
            Header {
                agent: Address::from_v4([192, 0, 2, 1]),
                sub_agent: 3,
                sequence: 77,
                uptime_ms: 60_000,
                samples: 1,
            },
            512
        ))
    );
    let expected = Flow {
        exporter_source: Address::from_v4([198, 51, 100, 1]),
        exporter_addr: Address::from_v4([192, 0, 2, 1]),
        observation_domain: 3,
        time_received_s: 1_700_000_000,
        flow_start_ms: 1_700_000_000_000,
        flow_end_ms: 1_700_000_000_000,
        flow_type: FlowType::Sflow5,
        sampling_rate: 512,
        sampling_source: SamplingSource::Header,
        in_if: 11,
        out_if: 12,
        raw_packets: 1,
        raw_bytes: 1500,
        detail: Detail::from(DetailFields {
            frame: Frame {
                src_mac: 0x0200_0000_0001,
                dst_mac: 0x0200_0000_0009,
                ethertype: 0x0800,
                fragment_id: 1,
                ..Frame::EMPTY
            },
            ..*Detail::EMPTY
        }),
        src_vlan: 7,
        src_addr: Address::from_v4([192, 0, 2, 1]),
        dst_addr: Address::from_v4([192, 0, 2, 9]),
        src_port: 5353,
        dst_port: 53,
        protocol: 17,
        ttl: 64,
        ..Flow::EMPTY
    };
    assert_eq!(decoded.flows, [expected]);
}

#[test]
fn interfaces_of_both_samples_are_encoded_alike() {
    let cases = [
        ([0, 5], 5),
        ([0, 0x3fff_ffff], 0x3fff_ffff),
        ([1, 258], 0x4000_0102),
        ([2, 7], 0x8000_0007),
        ([0, 0x4000_0001], 0x4000_0001),
    ];
    for (expanded, compact) in cases {
        let sample = expanded_sample([0, 1], expanded, &[]);
        assert_eq!(decode_bytes(&datagram(&[sample])).flows[0].out_if, compact);
        let sample = flow_sample(1, compact, &[]);
        assert_eq!(decode_bytes(&datagram(&[sample])).flows[0].out_if, compact);
    }
}

#[test]
fn a_discard_becomes_a_forwarding_status() {
    for (reason, status) in [(1, 131), (258, 129), (257, 137), (256, 128), (9999, 128)] {
        let sample = expanded_sample([0, 1], [1, reason], &[]);
        let flows = decode_bytes(&datagram(&[sample])).flows;
        assert_eq!(flows[0].forwarding_status, status);
    }
    let flows = decode_bytes(&datagram(&[flow_sample(1, 2, &[])])).flows;
    assert_eq!(flows[0].forwarding_status, 0);
}

#[test]
fn a_sample_with_no_record_that_is_understood_is_still_a_flow() {
    for records in [
        vec![],
        vec![framed(1024, &[0; 28])],
        vec![framed(4 << 12 | 1, &[0; 8])],
    ] {
        let flow = one_flow(&records);
        assert_eq!((flow.raw_packets, flow.in_if, flow.raw_bytes), (1, 1, 0));
    }
}

#[test]
fn the_packets_own_header_outranks_what_the_agent_read_of_it() {
    let sampled_v4 = framed(3, &words(&[40, 6, 1, 2, 3, 4, 0x12, 8]));
    let ethernet = framed(
        2,
        &words(&[64, 0x0a0b_0c0d, 0x0e0f_0000, 0, 0x0001_0000, 0x86dd]),
    );
    let both = [sampled_v4.clone(), ethernet.clone(), raw_header(&frame())];
    let flow = one_flow(&both);
    assert_eq!(
        (flow.protocol, flow.raw_bytes, flow.detail.frame.ethertype),
        (17, 1500, 0x0800)
    );
    assert_eq!(flow.detail.frame.src_mac, 0x0200_0000_0001);

    let flow = one_flow(&[ethernet.clone(), sampled_v4]);
    assert_eq!(
        (flow.protocol, flow.raw_bytes, flow.detail.frame.ethertype),
        (6, 40, 0x86dd)
    );
    assert_eq!((flow.src_port, flow.dst_port), (3, 4));
    assert_eq!((flow.tcp_flags, flow.tos), (0x12, 8));
    assert_eq!(
        (flow.detail.frame.src_mac, flow.detail.frame.dst_mac),
        (0x0a0b_0c0d_0e0f, 1)
    );

    let flow = one_flow(&[ethernet]);
    assert_eq!(flow.raw_bytes, 46);
}

#[test]
fn sampled_ipv6_is_read() {
    let mut body = words(&[60, 17]);
    body.extend([0x20; 16]);
    body.extend([0x21; 16]);
    body.extend(words(&[53, 4000, 0, 1]));
    let flow = one_flow(&[framed(4, &body)]);
    assert_eq!((flow.src_addr.0, flow.dst_addr.0), ([0x20; 16], [0x21; 16]));
    assert_eq!(
        (flow.raw_bytes, flow.protocol, flow.dst_port),
        (60, 17, 4000)
    );
}

#[test]
fn switch_and_router_records_are_read() {
    let flow = one_flow(&[
        framed(1001, &words(&[u32::MAX, 0, 27, 0])),
        raw_header(&frame()),
        framed(1002, &words(&[1, 0xc000_0207, 24, 0xffff_ff80])),
    ]);
    assert_eq!((flow.src_vlan, flow.dst_vlan), (7, 27));
    assert_eq!(flow.next_hop, Address::from_v4([192, 0, 2, 7]));
    assert_eq!((flow.src_mask, flow.dst_mask), (24, 25));
}

#[test]
fn the_last_system_of_the_path_is_the_destination() {
    let path = words(&[
        1,
        0xc000_0208,
        65_000,
        64_500,
        64_501,
        3,
        2,
        2,
        1,
        2,
        1,
        1,
        174,
        2,
        0,
        0,
        100,
    ]);
    let flow = one_flow(&[framed(1003, &path)]);
    assert_eq!(flow.detail.bgp_next_hop, Address::from_v4([192, 0, 2, 8]));
    assert_eq!((flow.src_as, flow.dst_as), (64_500, 174));
    // Four thousand million systems are announced and two are there.
    let endless = words(&[1, 0, 1, 2, 3, u32::MAX, 2, u32::MAX, 4, 5]);
    assert_eq!(one_flow(&[framed(1003, &endless)]).src_as, 2);
}

#[test]
fn translation_labels_and_tunnel_tags_are_read() {
    let flow = one_flow(&[
        framed(1007, &words(&[1, 0xc000_0203, 1, 0xc000_0204])),
        framed(1020, &words(&[1024, 2048])),
        framed(
            1006,
            &words(&[1, 0xc000_0205, 2, 16 << 12, 17 << 12 | 0x100, 0]),
        ),
        framed(1012, &words(&[1, 0x88a8_0064])),
        raw_header(&frame()),
    ]);
    assert_eq!(flow.detail.src_addr_nat, Address::from_v4([192, 0, 2, 3]));
    assert_eq!(flow.detail.dst_addr_nat, Address::from_v4([192, 0, 2, 4]));
    assert_eq!(
        (flow.detail.src_port_nat, flow.detail.dst_port_nat),
        (1024, 2048)
    );
    assert_eq!(flow.next_hop, Address::from_v4([192, 0, 2, 5]));
    assert_eq!(
        (flow.detail.mpls_count, flow.detail.mpls_labels[1]),
        (2, 17)
    );
    assert_eq!((flow.src_vlan, flow.detail.frame.inner_vlan), (100, 7));
}

#[test]
fn tunnel_records_tell_what_is_around_the_sampled_packet() {
    let around = |dst_port| words(&[1600, 17, 0xc000_0206, 0xc000_0207, 4444, dst_port, 0, 0]);
    for (format, dst_port, tunnel_type) in [
        (1023, 4789, TunnelType::Vxlan),
        (1024, 2152, TunnelType::Gtpu),
        (1024, 53, TunnelType::None),
    ] {
        let tunnel = framed(format, &around(dst_port));
        let flow = one_flow(&[raw_header(&frame()), tunnel, framed(1030, &words(&[77]))]);
        let DetailFields {
            outer_src_addr,
            outer_dst_addr,
            ..
        } = *flow.detail;
        assert_eq!(outer_src_addr, Address::from_v4([192, 0, 2, 6]));
        assert_eq!(outer_dst_addr, Address::from_v4([192, 0, 2, 7]));
        assert_eq!(flow.detail.tunnel_type, tunnel_type);
        assert_eq!(flow.detail.tunnel_id, 77);
        assert_eq!((flow.dst_port, flow.raw_bytes), (53, 1500), "stays itself");
    }
    let mut body = words(&[60, 47]);
    body.extend([0x20; 16]);
    body.extend([0x21; 16]);
    body.extend(words(&[0, 0, 0, 0]));
    let flow = one_flow(&[framed(1025, &body)]);
    assert_eq!(flow.detail.outer_dst_addr.0, [0x21; 16]);
    assert_eq!(flow.detail.tunnel_type, TunnelType::Gre);
    assert!(flow.src_addr.is_unknown());
    // Agents without an answer send zeros.
    let flow = one_flow(&[framed(1024, &words(&[0; 8]))]);
    assert!(flow.detail.outer_src_addr.is_unknown());
}

#[test]
fn records_of_other_kinds_are_counted() {
    let user = framed(1004, &words(&[0, 0, 0, 0]));
    let router = framed(1002, &words(&[1, 0xc000_0207, 24, 24]));
    for records in [
        [user.clone(), raw_header(&frame()), router.clone()],
        [router, user, raw_header(&frame())],
    ] {
        let decoded = decode_bytes(&datagram(&[flow_sample(1, 2, &records)]));
        assert_eq!(decoded.counts.flow_records_skipped, 1);
        assert_eq!(
            (decoded.flows[0].src_mask, decoded.flows[0].dst_port),
            (24, 53)
        );
    }
}

#[test]
fn counter_samples_go_beside_the_flows() {
    let interface = |index| framed(1, &words(&[[index; 1].as_slice(), &[0; 21]].concat()));
    let compact = [words(&[1, 7, 1]), interface(7)].concat();
    let expanded = [words(&[1, 0, 8, 1]), interface(8)].concat();
    let decoded = decode_bytes(&datagram(&[
        framed(2, &compact),
        flow_sample(1, 2, &[]),
        framed(4, &expanded),
    ]));
    assert_accounted(&decoded);
    assert_eq!(decoded.flows.len(), 1);
    assert_eq!(decoded.counts.counter_samples_decoded, 2);
    let mut rows = Vec::new();
    decoded.beside.counters.drain(|row| rows.push(row));
    assert_eq!(rows.len(), 2);
    for (row, if_index) in rows.iter().zip([7, 8]) {
        assert_eq!((row.if_index, row.source_index), (if_index, if_index));
        assert_eq!(row.exporter_addr, Address::from_v4([192, 0, 2, 1]));
        assert_eq!(
            (row.observation_domain, row.time_received),
            (3, 1_700_000_000)
        );
    }
}

fn discard(records: &[Vec<u8>]) -> Vec<u8> {
    let fixed = words(&[9, 0, 7, 3, 11, 12, 258, records.len() as u32]);
    framed(5, &[fixed, records.concat()].concat())
}

#[test]
fn a_discarded_packet_goes_beside_the_flows_with_its_reason() {
    let acl = framed(1037, &words(&[42, 4, 0x666f_6f21, 2]));
    let decoded = decode_bytes(&datagram(&[discard(&[acl, raw_header(&frame())])]));
    assert_accounted(&decoded);
    assert_eq!(decoded.flows, []);
    assert_eq!(decoded.counts.records_present, 0);
    assert_eq!(decoded.counts.flow_records_skipped, 1);
    let mut rows = Vec::new();
    decoded.beside.discards.drain(|row| rows.push(row));
    let address = |addr: [u8; 4]| Address::from_v4(addr).0.into();
    let expected = DiscardedPacket {
        time_received: 1_700_000_000,
        exporter_addr: address([192, 0, 2, 1]),
        exporter_source: address([198, 51, 100, 1]),
        observation_domain: 3,
        sequence: 9,
        source_class: 0,
        source_index: 7,
        untold: 3,
        in_if: 11,
        out_if: 12,
        reason: 258,
        // Dropped by an access list (IE 89).
        forwarding_status: 129,
        src_addr: address([192, 0, 2, 1]),
        dst_addr: address([192, 0, 2, 9]),
        src_port: 5353,
        dst_port: 53,
        protocol: 17,
        tcp_flags: 0,
        tos: 0,
        ttl: 64,
        icmp_type: 0,
        icmp_code: 0,
        bytes: 1500,
        ethertype: 0x0800,
        src_mac: 0x0200_0000_0001,
        dst_mac: 0x0200_0000_0009,
        src_vlan: 7,
        dst_vlan: 0,
    };
    assert_eq!(rows, [expected]);

    let written = serde_json::to_value(expected).unwrap();
    let declared = crate::store::schema::declared("discarded_packets");
    let names: Vec<_> = declared.into_iter().map(|(name, _)| name).collect();
    let keys: Vec<_> = written.as_object().unwrap().keys().cloned().collect();
    assert_eq!(sorted(names), sorted(keys));
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn discarded_packets_that_are_cut_or_not_drained_are_counted() {
    let whole = discard(&[raw_header(&frame())]);
    let head = 8 + 8 * 4;
    for length in 8..whole.len() {
        let mut cut = whole[..length].to_vec();
        cut[4..8].copy_from_slice(&(length as u32 - 8).to_be_bytes());
        let decoded = decode_bytes(&datagram(&[cut]));
        assert_eq!(decoded.counts.dropped(DropReason::SampleMalformed), 1);
        let rows = u64::from(length >= head);
        assert_eq!(decoded.counts.discard_samples_decoded, rows, "{length}");
    }
    let mut counts = WorkerCounts::default();
    let queue = DiscardQueue::default();
    for _ in 0..DISCARDS_MAX + 2 {
        let sample = &whole[8..];
        discards::decode(sample, &Flow::EMPTY, Tunnels::Outer, &queue, &mut counts);
    }
    assert_eq!(counts.dropped(DropReason::SideBacklog), 2);
}

#[test]
fn other_samples_are_counted_by_kind() {
    let decoded = decode_bytes(&datagram(&[
        framed(2, &[0; 12]),
        framed(4, &[0; 16]),
        framed(5, &[0; 32]),
        framed(6, &[0; 4]),
        framed(1 << 12 | 1, &[0; 32]),
        flow_sample(1, 2, &[]),
    ]));
    assert_accounted(&decoded);
    assert_eq!(decoded.counts.counter_samples_skipped, 2);
    assert_eq!(decoded.counts.discard_samples_decoded, 1);
    assert_eq!(decoded.counts.dropped(DropReason::SampleUnknown), 2);
    assert_eq!(decoded.counts.records_present, 1);
    assert_eq!(decoded.flows.len(), 1);
}

#[test]
fn headers_that_cannot_be_are_dropped_for_a_reason() {
    let whole = datagram(&[]);
    for length in 0..whole.len() {
        let decoded = decode_bytes(&whole[..length]);
        assert_eq!(decoded.outcome, Err(DropReason::DatagramTruncated));
        assert_accounted(&decoded);
    }
    assert!(decode_bytes(&whole).outcome.is_ok());
    let version_4 = words(&[4, 1, 0, 0, 0, 0, 0]);
    assert_eq!(
        decode_bytes(&version_4).outcome,
        Err(DropReason::VersionUnknown)
    );
    let address_type_3 = words(&[5, 3, 0, 0, 0, 0, 0]);
    assert_eq!(
        decode_bytes(&address_type_3).outcome,
        Err(DropReason::HeaderMalformed)
    );
}

#[test]
fn an_ipv6_agent_is_the_exporter() {
    let mut bytes = words(&[5, 2]);
    bytes.extend([0x20; 16]);
    bytes.extend(words(&[0, 1, 2, 1]));
    bytes.extend(flow_sample(1, 2, &[]));
    assert_eq!(decode_bytes(&bytes).flows[0].exporter_addr.0, [0x20; 16]);
}

#[test]
fn announced_samples_that_are_missing_are_counted_within_reason() {
    let mut bytes = datagram(&[flow_sample(1, 2, &[])]);
    bytes[24..28].copy_from_slice(&4_u32.to_be_bytes());
    let decoded = decode_bytes(&bytes);
    assert_accounted(&decoded);
    assert_eq!(decoded.flows.len(), 1);
    assert_eq!(decoded.counts.dropped(DropReason::SampleMalformed), 3);
    bytes[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
    let decoded = decode_bytes(&bytes);
    assert_eq!(
        decoded.counts.dropped(DropReason::SampleMalformed),
        u64::from(SAMPLES_MAX)
    );
}

#[test]
fn a_flow_sample_that_is_cut_is_present_and_dropped() {
    let whole = datagram(&[flow_sample(1, 2, &[raw_header(&frame())])]);
    for length in 36..whole.len() {
        let decoded = decode_bytes(&whole[..length]);
        assert_accounted(&decoded);
        assert!(decoded.flows.is_empty());
        assert_eq!(decoded.counts.records_present, 1);
        assert_eq!(decoded.counts.dropped(DropReason::RecordTruncated), 1);
    }
    let short = decode_bytes(&datagram(&[framed(1, &[0; 31]), framed(3, &[0; 43])]));
    assert_accounted(&short);
    assert_eq!(short.counts.dropped(DropReason::RecordTruncated), 2);
}

#[test]
fn a_record_that_runs_past_its_sample_gives_what_it_has() {
    let mut router = framed(1002, &words(&[1, 0xc000_0207, 24]));
    router[7] += 4;
    let decoded = decode_bytes(&datagram(&[
        flow_sample(1, 2, &[router]),
        flow_sample(3, 4, &[]),
    ]));
    assert_accounted(&decoded);
    assert_eq!((decoded.flows[0].src_mask, decoded.flows[1].in_if), (24, 3));
    assert_eq!(decoded.counts.dropped(DropReason::SampleMalformed), 1);
}

fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![
        1, 2, 3, 4, 1001, 1002, 1003, 1006, 1007, 1012, 1020, 1023, 1026, 1030, 99,
    ]);
    let word = prop_oneof![0..4_u32, Just(u32::MAX), any::<u32>()];
    (kind, prop::collection::vec(word, 0..16)).prop_map(|(kind, body)| framed(kind, &words(&body)))
}

fn any_sample() -> impl Strategy<Value = Vec<u8>> {
    let records = || prop::collection::vec(any_record(), 0..5);
    prop_oneof![
        (any::<u32>(), any::<u32>(), records()).prop_map(|(i, o, r)| flow_sample(i, o, &r)),
        (any::<[u32; 2]>(), any::<[u32; 2]>(), records())
            .prop_map(|(i, o, r)| expanded_sample(i, o, &r)),
        Just(flow_sample(1, 2, &[raw_header(&frame())])),
        (0..8_u32, prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(k, b)| framed(k, &b)),
    ]
}

proptest! {
    #[test]
    fn random_bytes_are_accounted(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_accounted(&decode_bytes(&bytes));
        assert_accounted(&decode_bytes(&[datagram(&[]), bytes].concat()));
    }

    #[test]
    fn whole_samples_each_become_what_they_are(
        samples in prop::collection::vec(any_sample(), 0..90),
    ) {
        let decoded = decode_bytes(&datagram(&samples));
        assert_accounted(&decoded);
        prop_assert!(decoded.outcome.is_ok());
        prop_assert!(decoded.counts.records_present <= samples.len() as u64);
    }

    /// One walk is enough for records in the order of their say; the same comes of any other order.
    #[test]
    fn the_order_of_records_does_not_matter(
        (sorted, shuffled) in prop::collection::vec(any_record(), 0..8).prop_flat_map(|records| {
            let mut of_a_kind = std::collections::BTreeMap::new();
            for record in records {
                of_a_kind.entry(record[..4].to_vec()).or_insert(record);
            }
            // That of the numbers, but for Ethernet behind IP and the tunnel before the switch.
            let mut sorted: Vec<_> = of_a_kind.into_values().collect();
            sorted.sort_by_key(|record| match u32::from_be_bytes(record[..4].try_into().unwrap()) {
                2 => 4 << 1 | 1,
                1012 => 1000 << 1 | 1,
                kind => kind << 1,
            });
            (Just(sorted.clone()), Just(sorted).prop_shuffle())
        }),
    ) {
        let flow = |records: &[Vec<u8>]| {
            let decoded = decode_bytes(&datagram(&[flow_sample(1, 2, records)]));
            assert_accounted(&decoded);
            decoded.flows
        };
        prop_assert_eq!(flow(&sorted), flow(&shuffled));
    }

    #[test]
    fn mutated_datagrams_are_accounted(
        samples in prop::collection::vec(any_sample(), 1..6),
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = datagram(&samples);
        for (index, value) in at {
            *index.get_mut(&mut bytes) = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        assert_accounted(&decode_bytes(&bytes));
    }
}
