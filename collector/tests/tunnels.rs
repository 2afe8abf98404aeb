//! Which packet of a tunnel is the flow, whoever sampled it.

mod messages;

use std::sync::Arc;

use flowsluice::config::{Decode, Tunnels};
use flowsluice::flow::{Flow, TunnelType};
use flowsluice_tests::packet::udp_in_gre;
use messages::{Bench, ipfix, set, sflow5_of, template};

fn bench(tunnels: Tunnels) -> Bench {
    let config = Decode {
        tunnels,
        ..Decode::default()
    };
    Bench::with(&config, Arc::default())
}

/// The frame as sFlow samples it, and as the two layouts of an IPFIX record carry it (IE 315).
fn messages() -> [Vec<u8>; 3] {
    let frame = udp_in_gre();
    let length = frame.len() as u16;
    let fixed = [
        set(2, &template(256, &[(315, length), (10, 4)])),
        set(256, &[&frame[..], &[0, 0, 0, 7]].concat()),
    ];
    let variable = [
        set(2, &template(256, &[(315, 65_535), (10, 4)])),
        set(256, &[&[length as u8][..], &frame, &[0, 0, 0, 7]].concat()),
    ];
    [sflow5_of(1, &frame), ipfix(&fixed), ipfix(&variable)]
}

#[test]
fn the_outer_packet_is_the_flow_unless_the_inner_one_is_asked_for() {
    assert_eq!(Decode::default().tunnels, Tunnels::Outer);
    for message in messages() {
        let rows = bench(Tunnels::Outer).decode(&message);
        let Flow {
            src_addr,
            dst_port,
            protocol,
            raw_bytes,
            ..
        } = rows[0];
        assert_eq!(src_addr.to_string(), "203.0.113.1");
        assert_eq!((protocol, dst_port, raw_bytes), (47, 0, 56));
        assert_eq!(rows[0].detail.tunnel_type, TunnelType::None);

        let rows = bench(Tunnels::Inner).decode(&message);
        let Flow {
            src_addr,
            dst_addr,
            dst_port,
            protocol,
            raw_bytes,
            detail,
            ..
        } = rows[0];
        assert_eq!(src_addr.to_string(), "10.0.0.1");
        assert_eq!(dst_addr.to_string(), "10.0.0.2");
        assert_eq!((protocol, dst_port, raw_bytes), (17, 53, 28));
        assert_eq!((detail.tunnel_type, detail.tunnel_id), (TunnelType::Gre, 9));
        assert_eq!(detail.outer_src_addr.to_string(), "203.0.113.1");
        assert_eq!(detail.outer_dst_addr.to_string(), "203.0.113.2");
    }
}

#[test]
fn fields_of_the_record_stand_above_what_the_packet_says() {
    let [_, fixed, variable] = messages();
    for message in [fixed, variable] {
        assert_eq!(bench(Tunnels::Inner).decode(&message)[0].in_if, 7);
    }
}
