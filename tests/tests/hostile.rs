//! Bad input through the socket: counted by reason, and nothing else is lost for it.

use anyhow::Result;
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::wire::{Sender, ipfix, netflow5, netflow5_header, netflow9, sflow5};
use flowsluice_tests::{Collector, Settings};

const GOOD_RECORDS: u16 = 20;

/// Datagrams, each with the reason that must count it.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    // A template of one field of four bytes, and sets that break it.
    let template = |id: u16, fields: u16| -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend(fields.to_be_bytes());
        bytes.extend([0, 8, 0, 4]);
        bytes
    };
    let mut long_set = netflow9(1, &[]);
    long_set.extend([1, 0, 0xff, 0xff, 1, 2, 3, 4]);
    let mut empty_set = ipfix(None, &[]);
    empty_set.extend([1, 0, 0, 0]);
    empty_set[3] = 20;
    let huge_sample = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    vec![
        ("datagram_truncated", vec![]),
        ("datagram_truncated", vec![0]),
        ("datagram_truncated", netflow5_header(1, 3)[..20].to_vec()),
        ("datagram_truncated", netflow9(1, &[])[..19].to_vec()),
        ("datagram_truncated", sflow5(1, &[])[..27].to_vec()),
        ("version_unknown", vec![0; 64]),
        ("version_unknown", vec![0xff; 1400]),
        ("version_unknown", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("record_truncated", netflow5_header(1, 30)),
        ("record_truncated", netflow5_header(1, u16::MAX)),
        ("header_malformed", ipfix(Some(u16::MAX), &[])),
        ("header_malformed", ipfix(Some(3), &[])),
        (
            "template_missing",
            netflow9(u16::MAX, &[(999, vec![0; 400])]),
        ),
        ("template_missing", ipfix(None, &[(999, vec![0; 400])])),
        ("set_malformed", long_set),
        ("set_malformed", empty_set),
        (
            "template_malformed",
            ipfix(None, &[(2, template(300, u16::MAX))]),
        ),
        (
            "template_malformed",
            netflow9(1, &[(0, template(300, u16::MAX))]),
        ),
        ("sample_malformed", sflow5(u32::MAX, &huge_sample)),
    ]
}

#[test]
fn bad_datagrams_are_counted_by_reason_and_good_ones_between_them_are_stored() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let settings = Settings {
        // The test waits many times until everything is stored.
        batch_age: "20ms",
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let mut sender = Sender::new(collector.target())?;
    let mut good = 0;
    let mut before = collector.status()?.ledger();
    for (index, (reason, datagram)) in bad().iter().enumerate() {
        sender.send(&netflow5(index as u32, GOOD_RECORDS))?;
        sender.send(datagram)?;
        sender.send(&netflow5(index as u32, GOOD_RECORDS))?;
        good += 2 * u64::from(GOOD_RECORDS);
        let after = collector.settle(sender.sent)?;
        // A set that no template describes may still get one, for half an hour.
        let moved = match *reason {
            "template_missing" => after.counter("sets_held") > before.counter("sets_held"),
            _ => after.dropped(reason) > before.dropped(reason),
        };
        assert!(
            moved,
            "datagram {index} counts as {reason}:\n{}",
            after.table()
        );
        assert_accounted(&after, sender.sent);
        before = after;
    }
    let rows = collector.clickhouse()?.raw_sums("1")?;
    assert_eq!(
        rows,
        [good, good * 300, good * 3],
        "flows, bytes, packets of the good ones"
    );
    assert_eq!(before.counter("datagrams_dropped_by_kernel"), 0);
    let stopped = collector.stop()?;
    assert_eq!(stopped.unaccounted, 0);
    let given_up = format!("template_missing={}", before.counter("sets_held"));
    assert!(stopped.dropped.contains(&given_up), "{}", stopped.dropped);
    Ok(())
}

#[test]
fn ten_thousand_random_datagrams_neither_crash_it_nor_cost_a_good_flow() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let settings = Settings {
        // The test waits many times until everything is stored.
        batch_age: "20ms",
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let pid = collector.pid();
    let mut sender = Sender::new(collector.target())?;
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut good = 0;
    for turn in 0..10_000u32 {
        let length = 1 + random.next() % 1400;
        let mut datagram = random.bytes(length as usize);
        // Most would end at their first two bytes; three of four get a header that leads inside.
        let header: &[u8] = match turn % 4 {
            0 => &[],
            1 => &netflow9(24, &[]),
            2 => &ipfix(Some(datagram.len() as u16), &[]),
            _ => &sflow5(8, &[]),
        };
        let overlap = header.len().min(datagram.len());
        datagram[..overlap].copy_from_slice(&header[..overlap]);
        sender.send(&datagram)?;
        if turn % 100 == 0 {
            sender.send(&netflow5(turn, GOOD_RECORDS))?;
            good += u64::from(GOOD_RECORDS);
            // Waiting now and then keeps the kernel's buffer from filling up.
            collector.settle(sender.sent)?;
        }
    }
    let ledger = collector.settle(sender.sent)?;
    assert_accounted(&ledger, sender.sent);
    assert_eq!(ledger.counter("datagrams_dropped_by_kernel"), 0);
    assert_eq!(collector.pid(), pid);
    let clickhouse = collector.clickhouse()?;
    assert_eq!(
        clickhouse.flows()?,
        ledger.store("flows_stored"),
        "count() = acknowledged"
    );
    let sums = clickhouse.raw_sums("flow_type = 'netflow5' AND dst_port = 53")?;
    assert_eq!(
        sums,
        [good, good * 300, good * 3],
        "flows, bytes, packets of the good ones"
    );
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

/// xorshift64: the same bytes at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
