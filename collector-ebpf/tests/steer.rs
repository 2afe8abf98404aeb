//! What is steered is what the parsers of the same headers say, for every frame and every cut.

use collector_ebpf::{Ethernet, Ip, Pass, Udp, UdpFrame, ethertype, protocol, udp_frame};
use proptest::prelude::*;

/// Frames that are nearly UDP: each header field that decides is mostly right.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::collection::vec(
        prop_oneof![
            Just(ethertype::VLAN),
            Just(ethertype::SERVICE_VLAN),
            Just(ethertype::SERVICE_VLAN_OLD)
        ],
        0..4,
    );
    let payload = prop::collection::vec(any::<u8>(), 0..32);
    // A byte written over the frame somewhere in its headers, more often than not.
    let damage = prop::option::of((0_usize..70, any::<u8>()));
    (any::<bool>(), tags, any::<[u8; 32]>(), payload, damage).prop_map(
        |(is_v4, tags, addresses, payload, damage)| {
            let mut frame = vec![2; 12];
            for tag in tags {
                frame.extend(tag.to_be_bytes());
                frame.extend([0x20, 7]);
            }
            let udp_length = 8 + payload.len() as u16;
            if is_v4 {
                frame.extend(ethertype::IPV4.to_be_bytes());
                frame.extend([0x45, 0]);
                frame.extend((20 + udp_length).to_be_bytes());
                frame.extend([0, 1, 0x40, 0, 64, protocol::UDP, 0, 0]);
                frame.extend(&addresses[..8]);
            } else {
                frame.extend(ethertype::IPV6.to_be_bytes());
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(udp_length.to_be_bytes());
                frame.extend([protocol::UDP, 64]);
                frame.extend(addresses);
            }
            frame.extend([0x12, 0x34, 0x08, 0x07]);
            frame.extend(udp_length.to_be_bytes());
            frame.extend([0xab, 0xcd]);
            frame.extend(payload);
            if let Some((at, value)) = damage
                && let Some(byte) = frame.get_mut(at)
            {
                *byte = value;
            }
            frame
        },
    )
}

/// The same, by the parsers for slices.
fn by_the_parsers(frame: &[u8]) -> Option<UdpFrame> {
    let ethernet = Ethernet::parse(frame)?;
    let version = match ethernet.tags.ethertype {
        ethertype::IPV4 => 4,
        ethertype::IPV6 => 6,
        _ => return None,
    };
    let packet = frame.get(ethernet.length..)?;
    let ip = Ip::parse(packet).filter(|ip| ip.version == version)?;
    let plain_length = if version == 4 { 20 } else { 40 };
    if ip.protocol != protocol::UDP
        || ip.fragment.is_piece()
        || ip.header_length != plain_length
        || ip.fragment.data_offset != plain_length
    {
        return None;
    }
    let udp = Udp::parse(packet.get(plain_length..)?)?;
    (plain_length as u32 + u32::from(udp.length) <= ip.total_length).then_some(UdpFrame {
        src: ip.src,
        dst: ip.dst,
        version,
        src_port: udp.src_port,
        dst_port: udp.dst_port,
        ip_offset: ethernet.length,
        udp_offset: ethernet.length + plain_length,
        ip_length: ip.total_length,
        udp_length: udp.length,
        udp_checksum: udp.checksum,
    })
}

proptest! {
    #[test]
    fn steering_and_parsing_see_the_same_datagram(frame in frames()) {
        prop_assert_eq!(udp_frame(&frame[..]).ok(), by_the_parsers(&frame));
    }

    #[test]
    fn any_bytes_are_either_a_datagram_or_passed(frame in prop::collection::vec(any::<u8>(), 0..96)) {
        prop_assert_eq!(udp_frame(&frame[..]).ok(), by_the_parsers(&frame));
    }

    #[test]
    fn every_cut_before_the_payload_is_seen_and_none_after_it(frame in frames()) {
        let Ok(udp) = udp_frame(&frame[..]) else { return Ok(()) };
        for length in 0..=frame.len() {
            let expected = match length < udp.udp_offset + Udp::HEADER_BYTES {
                true => Err(Pass::Cut),
                false => Ok(udp),
            };
            prop_assert_eq!(udp_frame(&frame[..length]), expected);
        }
    }
}
