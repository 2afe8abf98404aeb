use std::io::Write;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

/// What a datagram looked like.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    source: String,
    ports: (u16, u16),
    payload: Vec<u8>,
    received: u64,
    cut: bool,
}

fn file(name: &str, bytes: &[u8]) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(name).tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn replay(files: &[&NamedTempFile]) -> (Vec<Seen>, Result<CaptureCounts, CaptureError>) {
    let mut seen = Vec::new();
    let paths = files.iter().map(|f| f.path().to_owned()).collect();
    let outcome = Capture::new(paths).for_each(&mut |datagram| {
        seen.push(Seen {
            source: datagram.source.to_string(),
            ports: (datagram.source_port, datagram.local_port),
            payload: datagram.payload.to_vec(),
            received: datagram.received.0,
            cut: datagram.cut,
        });
    });
    if let Ok(counts) = &outcome {
        assert_accounted(counts);
    }
    (seen, outcome)
}

fn assert_accounted(c: &CaptureCounts) {
    assert_eq!(
        c.packets + c.reassembled,
        c.datagrams + c.not_udp + c.unreadable + c.link_unknown + c.fragments,
        "{c:?}"
    );
    assert!(c.truncated <= c.datagrams);
    assert!(c.fragments_unfinished <= c.fragments);
}

fn replay_one(bytes: &[u8]) -> (Vec<Seen>, CaptureCounts) {
    let (seen, outcome) = replay(&[&file(".pcap", bytes)]);
    (seen, outcome.unwrap())
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut bytes = [9995_u16, 2055, length, 0].map(u16::to_be_bytes).concat();
    bytes.extend(payload);
    bytes
}

/// An IPv4 packet from 192.0.2.1 with `flags_offset` in its fragment field.
fn ipv4(protocol: u8, flags_offset: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(((20 + data.len()) as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(flags_offset.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9]);
    bytes.extend(data);
    bytes
}

/// An IPv6 packet from 2001:db8::1.
fn ipv6(next_header: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend([next_header, 64]);
    bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    bytes.extend(data);
    bytes
}

fn ethernet(ethertype: &[u8], packet: &[u8]) -> Vec<u8> {
    [&[2; 6], &[4; 6], ethertype, packet].concat()
}

fn pcap_header(link_type: u32) -> Vec<u8> {
    let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(65_535_u32.to_le_bytes());
    bytes.extend(link_type.to_le_bytes());
    bytes
}

fn pcap_packet(seconds: u32, fraction: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    let mut bytes = [seconds, fraction, length, length]
        .map(u32::to_le_bytes)
        .concat();
    bytes.extend(data);
    bytes
}

fn pcap(link_type: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pcap_header(link_type);
    for (n, packet) in packets.iter().enumerate() {
        bytes.extend(pcap_packet(1000 + n as u32, 5, packet));
    }
    bytes
}

fn block(kind: u32, big_endian: bool, body: &[u8]) -> Vec<u8> {
    let word = |n: u32| match big_endian {
        true => n.to_be_bytes(),
        false => n.to_le_bytes(),
    };
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = word((12 + body.len() + padding.len()) as u32);
    [&word(kind), &length, body, &padding, &length].concat()
}

#[test]
fn every_link_type_leads_to_the_same_datagram() {
    let v4 = ipv4(17, 0, &udp(b"flow"));
    let v6 = ipv6(17, &udp(b"flow"));
    let sll =
        |ethertype: [u8; 2]| [&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &ethertype].concat();
    let sll2 = |ethertype: [u8; 2]| [&ethertype[..], &[0; 18]].concat();
    let cases = [
        (0, [&[2, 0, 0, 0][..], &v4].concat()),
        (0, [&[0, 0, 0, 30][..], &v6].concat()),
        (1, ethernet(&[0x08, 0x00], &v4)),
        (1, ethernet(&[0x86, 0xdd], &v6)),
        (1, ethernet(&[0x81, 0, 0, 7, 0x08, 0x00], &v4)),
        (
            1,
            ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 0x86, 0xdd], &v6),
        ),
        (12, v4.clone()),
        (14, v6.clone()),
        (101, v4.clone()),
        (101, v6.clone()),
        (108, [&[0, 0, 0, 24][..], &v6].concat()),
        (113, [&sll([0x08, 0x00])[..], &v4].concat()),
        (
            113,
            [&sll([0x81, 0x00])[..], &[0, 7, 0x86, 0xdd], &v6].concat(),
        ),
        (228, v4.clone()),
        (229, v6.clone()),
        (276, [&sll2([0x08, 0x00])[..], &v4].concat()),
        (276, [&sll2([0x86, 0xdd])[..], &v6].concat()),
    ];
    for (link_type, frame) in cases {
        let (seen, counts) = replay_one(&pcap(link_type, &[frame]));
        assert_eq!(seen.len(), 1, "link type {link_type}");
        assert!(["192.0.2.1", "2001:db8::1"].contains(&seen[0].source.as_str()));
        assert_eq!(seen[0].payload, b"flow");
        assert_eq!(seen[0].ports, (9995, 2055));
        assert_eq!(seen[0].received, 1_000_000_005_000);
        assert_eq!((counts.packets, counts.datagrams), (1, 1));
    }
}

#[test]
fn padding_of_short_frames_is_no_payload() {
    let mut frame = ethernet(&[0x08, 0x00], &ipv4(17, 0, &udp(b"x")));
    frame.resize(60, 0xee);
    assert_eq!(replay_one(&pcap(1, &[frame])).0[0].payload, b"x");
}

#[test]
fn packets_that_are_no_datagrams_are_counted_by_kind() {
    let (seen, counts) = replay_one(&pcap(
        1,
        &[
            ethernet(&[0x08, 0x06], &[0; 28]),
            ethernet(&[0x08, 0x00], &ipv4(6, 0, &[0; 20])),
            ethernet(&[0x08, 0x00], &ipv4(17, 0, &[0; 5])),
            ethernet(&[0x08, 0x00], &[0x45, 0, 0]),
            vec![0; 9],
        ],
    ));
    assert!(seen.is_empty());
    assert_eq!(
        counts,
        CaptureCounts {
            files: 1,
            packets: 5,
            not_udp: 2,
            unreadable: 3,
            ..CaptureCounts::default()
        }
    );
    assert_eq!(replay_one(&pcap(147, &[vec![0; 60]])).1.link_unknown, 1);
}

#[test]
fn ipv4_fragments_in_any_order_become_one_datagram() {
    let payload: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
    let whole = udp(&payload);
    let pieces = [
        ipv4(17, 0x2000, &whole[..1480]),
        ipv4(17, 0x2000 | 185, &whole[1480..2960]),
        ipv4(17, 370, &whole[2960..]),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let packets = order.map(|n: usize| pieces[n].clone());
        let (seen, counts) = replay_one(&pcap(101, &packets));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].payload, payload);
        assert_eq!(seen[0].source, "192.0.2.1");
        assert_eq!((counts.fragments, counts.reassembled), (3, 1));
        assert_eq!(counts.fragments_unfinished, 0);
    }
}

#[test]
fn ipv6_fragments_become_one_datagram() {
    let payload = vec![7; 2000];
    let whole = udp(&payload);
    let fragment = |offset_flags: u16, data: &[u8]| {
        let [high, low] = offset_flags.to_be_bytes();
        ipv6(
            44,
            &[&[17, 0, high, low, 0xde, 0xad, 0xbe, 0xef][..], data].concat(),
        )
    };
    let packets = [fragment(1280, &whole[1280..]), fragment(1, &whole[..1280])];
    let (seen, counts) = replay_one(&pcap(229, &packets));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].payload, payload);
    assert_eq!(seen[0].source, "2001:db8::1");
    assert_eq!((counts.fragments, counts.reassembled), (2, 1));
}

#[test]
fn fragments_without_their_rest_are_counted_at_the_end() {
    let (seen, counts) = replay_one(&pcap(101, &[ipv4(17, 0x2000, &[0; 1480])]));
    assert!(seen.is_empty());
    assert_eq!((counts.fragments, counts.fragments_unfinished), (1, 1));
}

#[test]
fn fragments_of_two_datagrams_with_one_id_do_not_mix_after_a_minute() {
    let whole = udp(&[1; 100]);
    let mut bytes = pcap_header(101);
    bytes.extend(pcap_packet(1000, 0, &ipv4(17, 0x2000, &[9; 64])));
    bytes.extend(pcap_packet(1061, 0, &ipv4(17, 0x2000, &whole[..64])));
    bytes.extend(pcap_packet(1061, 1, &ipv4(17, 8, &whole[64..])));
    let (seen, counts) = replay_one(&bytes);
    assert_eq!(seen[0].payload, [1; 100]);
    assert_eq!((counts.fragments, counts.fragments_unfinished), (3, 1));
}

#[test]
fn waiting_fragments_are_bounded_in_number_and_bytes() {
    let limit = fragments::FRAGMENTED_DATAGRAMS_MAX;
    let mut fragments = Fragments::default();
    let mut abandoned = 0;
    let packet = ipv4(17, 0x2000 | 8000, &[0; 1480]);
    let mut ip = Ip::parse(&packet).unwrap();
    let added = limit * 2;
    for n in 0..added {
        ip.fragment.id = n as u32;
        let piece = Piece {
            ip: &ip,
            data: &packet[20..][..1480],
            received: UnixNanos(1),
        };
        let (whole, more) = fragments.add(&piece);
        assert!(whole.is_none());
        abandoned += more;
    }
    // Each one stands for 65,480 bytes, so the bytes are the tighter bound here.
    let kept = added as u64 - abandoned;
    assert!(kept * 65_480 <= fragments::FRAGMENT_BYTES_MAX as u64);
    assert!(kept > 200);
    assert_eq!(fragments.finish(), kept);
}

#[test]
fn a_packet_cut_by_the_snapshot_length_is_handed_on_as_cut() {
    let mut packet = ipv4(17, 0, &udp(b"a whole flow"));
    packet.truncate(32);
    let (seen, counts) = replay_one(&pcap(101, &[packet]));
    assert!(seen[0].cut);
    assert_eq!(seen[0].payload, b"a wh");
    assert_eq!((counts.datagrams, counts.truncated), (1, 1));
}

#[test]
fn a_file_that_ends_within_a_packet_keeps_what_came_before() {
    let mut bytes = pcap(101, &[ipv4(17, 0, &udp(b"one")), ipv4(17, 0, &udp(b"two"))]);
    bytes.truncate(bytes.len() - 1);
    let (seen, counts) = replay_one(&bytes);
    assert_eq!(seen.len(), 1);
    assert_eq!((counts.packets, counts.files_cut), (1, 1));
}

#[test]
fn a_broken_packet_header_names_file_offset_and_remedy() {
    let mut bytes = pcap(101, &[ipv4(17, 0, &udp(b"one"))]);
    let offset = bytes.len();
    bytes.extend([0xff; 16]);
    let capture = file(".pcap", &bytes);
    let (seen, outcome) = replay(&[&capture]);
    assert_eq!(seen.len(), 1);
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.starts_with(&capture.path().display().to_string()),
        "{text}"
    );
    assert!(text.contains(&format!("byte {offset}: ")), "{text}");
    assert!(text.contains("editcap"), "{text}");
}

#[test]
fn big_endian_and_nanosecond_captures_are_read() {
    let packet = ipv4(17, 0, &udp(b"flow"));
    let length = packet.len() as u32;
    for (magic, nanos) in [(0xa1b2_c3d4_u32, 7_000), (0xa1b2_3c4d, 7)] {
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend([0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(
            [65_535_u32, 101, 9, 7, length, length]
                .map(u32::to_be_bytes)
                .concat(),
        );
        bytes.extend(&packet);
        let (seen, _) = replay_one(&bytes);
        assert_eq!(seen[0].received, 9_000_000_000 + nanos, "{magic:x}");
        assert_eq!(seen[0].payload, b"flow");
    }
    let mut bytes = pcap_header(101);
    bytes[..4].copy_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
    bytes.extend(pcap_packet(9, 7, &packet));
    assert_eq!(replay_one(&bytes).0[0].received, 9_000_000_007);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one file, block by block")]
fn pcapng_interfaces_have_their_own_link_type_clock_and_offset() {
    for big_endian in [false, true] {
        let half = |n: u16| match big_endian {
            true => n.to_be_bytes(),
            false => n.to_le_bytes(),
        };
        let word = |n: u32| match big_endian {
            true => n.to_be_bytes(),
            false => n.to_le_bytes(),
        };
        let long = |n: u64| match big_endian {
            true => n.to_be_bytes(),
            false => n.to_le_bytes(),
        };
        let packet = ipv4(17, 0, &udp(b"ng"));
        let enhanced = |interface: u32, timestamp: u64, data: &[u8]| {
            let length = word(data.len() as u32);
            let high = word((timestamp >> 32) as u32);
            let low = word(timestamp as u32);
            let padding = vec![0; data.len().next_multiple_of(4) - data.len()];
            let body = [
                &word(interface)[..],
                &high,
                &low,
                &length,
                &length,
                data,
                &padding,
            ]
            .concat();
            block(6, big_endian, &body)
        };
        let interface = |link_type: u16, options: &[u8]| {
            let body = [&half(link_type)[..], &half(0), &word(0), options].concat();
            block(1, big_endian, &body)
        };
        let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
        // if_tsresol 10^-9 and, for the third, 2^-10 with an offset of 100 s.
        let nanos = [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(0), &half(0)].concat();
        let binary = [
            &half(9)[..],
            &half(1),
            &[0x8a, 0, 0, 0],
            &half(14),
            &half(8),
            &long(100),
            &half(0),
            &half(0),
        ]
        .concat();
        let ether = ethernet(&[0x08, 0x00], &packet);
        let simple = [&word(ether.len() as u32)[..], &ether].concat();
        let bytes = [
            block(0x0a0d_0d0a, big_endian, &section),
            interface(1, &[]),
            interface(101, &nanos),
            interface(101, &binary),
            enhanced(0, 5_000_001, &ether),
            enhanced(1, 6_000_000_001, &packet),
            enhanced(2, 7 << 10 | 512, &packet),
            enhanced(3, 1, &packet),
            block(3, big_endian, &simple),
            block(5, big_endian, &[0; 12]),
        ]
        .concat();
        let (seen, counts) = replay_one(&bytes);
        let times: Vec<_> = seen.iter().map(|s| s.received).collect();
        assert_eq!(
            times,
            [
                5_000_001_000,
                6_000_000_001,
                107_500_000_000,
                107_500_000_000
            ],
            "big endian: {big_endian}"
        );
        assert!(seen.iter().all(|s| s.payload == b"ng"));
        assert_eq!((counts.packets, counts.link_unknown), (5, 1));
    }
}

#[test]
fn raw_payload_files_come_from_one_exporter_in_the_order_given() {
    let (one, two) = (file(".dat", b"\0\x05one"), file(".BIN", b"\0\x09two"));
    let (seen, outcome) = replay(&[&one, &two]);
    assert_eq!(seen[0].payload, b"\0\x05one");
    assert_eq!(seen[1].payload, b"\0\x09two");
    assert!(seen.iter().all(|s| s.source == "127.0.0.1" && !s.cut));
    assert!(seen[0].received > 1_700_000_000_000_000_000);
    assert_eq!(outcome.unwrap().datagrams, 2);
}

#[test]
fn a_capture_is_recognised_under_any_name() {
    let capture = file(".dat", &pcap(101, &[ipv4(17, 0, &udp(b"flow"))]));
    assert_eq!(replay(&[&capture]).0[0].payload, b"flow");
}

#[test]
fn what_is_neither_capture_nor_payload_is_refused_with_a_remedy() {
    let text = replay(&[&file(".txt", b"hello")])
        .1
        .unwrap_err()
        .to_string();
    assert!(text.contains("neither pcap nor pcapng"), "{text}");
    assert!(text.contains(".dat"), "{text}");
    let outcome = Capture::new(vec!["/nonexistent.pcap".into()]).for_each(&mut |_| {});
    let text = outcome.unwrap_err().to_string();
    assert!(text.starts_with("/nonexistent.pcap: "), "{text}");
    let text = replay(&[&file(".bin", &[0; 65_528])])
        .1
        .unwrap_err()
        .to_string();
    assert!(text.contains("65528 bytes"), "{text}");
}

proptest! {
    #[test]
    fn mutated_captures_never_panic_and_stay_accounted(
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        ng in any::<bool>(),
    ) {
        let packet = ethernet(&[0x08, 0x00], &ipv4(17, 0, &udp(b"flow")));
        let mut bytes = if ng {
            let mut body = [0_u8; 20];
            body[12] = packet.len() as u8;
            body[16] = packet.len() as u8;
            let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
            section.extend([1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
            [
                block(0x0a0d_0d0a, false, &section),
                block(1, false, &[1, 0, 0, 0, 0, 0, 0, 0]),
                block(6, false, &[&body[..], &packet].concat()),
            ].concat()
        } else {
            pcap(1, &[packet.clone(), packet])
        };
        for (index, value) in at {
            *index.get_mut(&mut bytes) = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = replay(&[&file(".bin", &bytes)]);
    }
}
