//! What sFlow tells beside flows stands in tables of its own, and what is around the packet inside
//! of a tunnel in columns of its own.

use anyhow::Result;
use flowsluice_tests::packet::udp_in_gre;
use flowsluice_tests::wire::{INTERFACE_COUNTERS, Sender, sflow5};
use flowsluice_tests::{Collector, Settings};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// `kind`, the length of `body`, `body`: samples and records alike.
fn framed(kind: u32, body: &[u8]) -> Vec<u8> {
    [&words(&[kind, body.len() as u32])[..], body].concat()
}

/// Of [`udp_in_gre`].
fn raw_header() -> Vec<u8> {
    let frame = udp_in_gre();
    let mut body = words(&[1, 74, 4, frame.len() as u32]);
    body.extend(&frame);
    body.resize(body.len().next_multiple_of(4), 0);
    framed(1, &body)
}

/// A datagram with the counters of interface 9, a flow and a discarded packet.
fn datagram() -> Vec<u8> {
    let mut generic = INTERFACE_COUNTERS;
    // Up by the administrator's will, and down all the same.
    generic[5] = 1;
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
