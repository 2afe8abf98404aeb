//! No bytes make the parsers panic or point outside of what they were given.

use collector_ebpf::{Ethernet, Ip, Transport, Udp, VLANS_MAX};
use proptest::prelude::*;

/// Bytes that often look like headers: most of the space is otherwise rejected at once.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(0x45), Just(0x46), Just(0x4f), Just(0x60), any::<u8>()];
    let next = prop_oneof![
        Just(0),
        Just(43),
        Just(44),
        Just(51),
        Just(60),
        Just(17),
        any::<u8>()
    ];
    let rest = prop::collection::vec(prop_oneof![next.clone(), Just(0), any::<u8>()], 0..160);
    (first, next, rest).prop_map(|(first, next, mut bytes)| {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        if let Some(byte) = bytes.get_mut(6) {
            *byte = next;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn ip_offsets_never_go_backwards_and_stay_bounded(packet in packets()) {
        if let Some(ip) = Ip::parse(&packet) {
            prop_assert!(ip.version == 4 || ip.version == 6);
            prop_assert!(ip.header_length >= 20);
            prop_assert!(ip.version == 4 || ip.header_length <= packet.len());
            prop_assert!(ip.fragment.data_offset <= ip.header_length);
            let upper = packet.get(ip.header_length..).unwrap_or_default();
            let _ = Transport::parse(ip.protocol, upper);
            let _ = Udp::parse(upper);
        }
    }

    #[test]
    fn ethernet_payload_lies_within_the_frame(frame in prop::collection::vec(
        prop_oneof![Just(0x81), Just(0x88), Just(0xa8), Just(0), any::<u8>()], 0..64)) {
        if let Some(ethernet) = Ethernet::parse(&frame) {
            prop_assert!(ethernet.length <= frame.len());
            prop_assert!(usize::from(ethernet.tags.count) <= VLANS_MAX);
        } else {
            prop_assert!(frame.len() < 14);
        }
    }
}
