//! What sFlow tells beside flows stands in tables of its own, and what is around the packet inside
//! of a tunnel in columns of its own.

use anyhow::Result;
use flowsluice_tests::wire::{Sender, sflow5};
use flowsluice_tests::{Collector, Settings};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// `kind`, the length of `body`, `body`: samples and records alike.
fn framed(kind: u32, body: &[u8]) -> Vec<u8> {
    [&words(&[kind, body.len() as u32])[..], body].concat()
}

/// UDP from 10.0.0.1 to port 53 of 10.0.0.2, in GRE with key 9 from 203.0.113.1 to 203.0.113.2, as
/// a raw header.
fn raw_header() -> Vec<u8> {
    let udp = [0x13, 0x88, 0x00, 0x35, 0, 8, 0, 0];
    let inner = [
        0x45, 0, 0, 28, 0, 1, 0, 0, 61, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let gre = [0x20, 0, 0x08, 0x00, 0, 0, 0, 9];
    let outer = [
        0x45, 0, 0, 56, 0, 2, 0, 0, 250, 47, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2,
    ];
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    let frame = [&ethernet[..], &outer, &gre, &inner, &udp].concat();
    let mut body = words(&[1, 74, 4, frame.len() as u32]);
    body.extend(&frame);
    body.resize(body.len().next_multiple_of(4), 0);
    framed(1, &body)
}

/// A datagram with the counters of interface 9, a flow and a discarded packet.
fn datagram() -> Vec<u8> {
    let generic = [
        9,
        6,
        0,
        1_000_000_000,
        1,
        1,
        1,
        2,
        11,
        12,
        13,
        14,
        15,
        16,
        0,
        21,
        22,
        23,
        24,
        25,
        26,
        2,
    ];
    let counters = [words(&[77, 9, 1]), framed(1, &words(&generic))].concat();
    let flow = [words(&[1, 9, 100, 100, 0, 9, 10, 1]), raw_header()].concat();
    let discard = [words(&[5, 0, 9, 2, 9, 10, 258, 1]), raw_header()].concat();
    let samples = [framed(2, &counters), framed(1, &flow), framed(5, &discard)];
    sflow5(3, &samples.concat())
}

#[test]
fn counters_discarded_packets_and_tunnels_are_stored() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let settings = Settings {
        data_dir: Some(folder.path().join("data")),
        decode: "tunnels = \"inner\"\n".into(),
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let mut sender = Sender::new(collector.target())?;
    sender.send(&datagram())?;
    let ledger = collector.settle(1)?;
    assert_eq!(ledger.counter("counter_samples_decoded"), 1);
    assert_eq!(ledger.counter("discard_samples_decoded"), 1);
    assert_eq!(ledger.losses(), []);
    // What is not stored by now is stored to the end, and there for the next one.
    assert_eq!(collector.stop()?.unaccounted, 0);

    let collector = Collector::start(&settings)?;
    let clickhouse = collector.clickhouse()?;
    let row = clickhouse.rows(
        "SELECT exporter_addr, exporter_source, sequence, source_class, source_index, if_index, \
         if_speed, if_direction, if_admin_status, if_oper_status, in_octets, in_errors, \
         out_octets, out_errors, ethernet_fcs_errors, time_received > now() - 600 \
         FROM interface_counters",
    )?;
    assert_eq!(
        row.concat().join(" "),
        "::ffff:10.0.0.1 ::ffff:127.0.0.1 77 0 9 9 1000000000 full_duplex up down 4294967298 15 \
         21 26 0 1"
    );
    let row = clickhouse.rows(
        "SELECT exporter_addr, in_if, out_if, reason, forwarding_status, untold, src_addr, \
         dst_addr, dst_port, protocol, bytes, lower(hex(src_mac)) FROM discarded_packets",
    )?;
    assert_eq!(
        row.concat().join(" "),
        "::ffff:10.0.0.1 9 10 258 129 2 ::ffff:10.0.0.1 ::ffff:10.0.0.2 53 17 28 020000000001"
    );
    let row = clickhouse.rows(
        "SELECT src_addr, dst_addr, dst_port, protocol, raw_bytes, tunnel_type, tunnel_id, \
         outer_src_addr, outer_dst_addr FROM flows",
    )?;
    assert_eq!(
        row.concat().join(" "),
        "::ffff:10.0.0.1 ::ffff:10.0.0.2 53 17 28 gre 9 ::ffff:203.0.113.1 ::ffff:203.0.113.2"
    );
    collector.stop()?;
    Ok(())
}
