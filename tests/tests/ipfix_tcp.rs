//! IPFIX over TCP into ClickHouse: flows, and the names that options tell.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::{Collector, Settings};

/// An IPFIX message of domain 7 with one set.
fn message(set: u16, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u16 + 20;
    let mut bytes = [10, len].map(u16::to_be_bytes).concat();
    bytes.extend([1_700_000_000_u32, 0, 7].map(u32::to_be_bytes).concat());
    bytes.extend([set, len - 16].map(u16::to_be_bytes).concat());
    bytes.extend(body);
    bytes
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A template of source, destination, octets and packets, and records of it.
fn flows(count: u8) -> Vec<u8> {
    let template = words(&[256, 4, 8, 4, 12, 4, 1, 4, 2, 4]);
    let mut records = Vec::new();
    for n in 1..=count {
        records.extend([10, 0, 0, n, 192, 0, 2, n, 0, 0, 1, 0, 0, 0, 0, 2]);
    }
    [message(2, &template), message(256, &records)].concat()
}

/// Options: the name of interface 3, of application 13:82 and of VRF 5.
fn names() -> Vec<u8> {
    let templates = words(&[
        300, 2, 1, 10, 4, 82, 8, 301, 2, 1, 95, 4, 96, 8, 302, 2, 1, 234, 4, 236, 8,
    ]);
    [
        message(3, &templates),
        message(300, b"\0\0\0\x03eth3\0\0\0\0"),
        message(301, b"\x0d\0\0\x52torrents"),
        message(302, b"\0\0\0\x05red\0\0\0\0\0"),
    ]
    .concat()
}

#[test]
fn messages_by_tcp_become_rows_and_names_rows_of_their_own() -> Result<()> {
    let Some(mut settings) = Settings::embedded() else {
        return Ok(());
    };
    settings.more = "\n[[receive.tcp.listeners]]\naddress = \"127.0.0.1\"\nport = 0\n".into();
    let collector = Collector::start(&settings)?;
    let status = collector.status()?;
    let target: SocketAddr = status.text("/receive/tcp_listeners/0")?.parse()?;
    let mut exporter = TcpStream::connect(target)?;
    exporter.write_all(&[flows(20), names()].concat())?;
    let ledger = collector.settle(6)?;
    assert_accounted(&ledger, 6);
    assert_eq!(ledger.counter("tcp_connections_accepted"), 1);
    assert_eq!(ledger.counter("options_records"), 3);
    let clickhouse = collector.clickhouse()?;
    assert_eq!(
        clickhouse.raw_sums("flow_type = 'ipfix'")?,
        [20, 20 * 256, 40]
    );
    let begun = Instant::now();
    let wanted = [
        ("interfaces", "if_index, name, source", "3\teth3\toptions"),
        ("applications", "application_id, name", "13:82\ttorrents"),
        ("vrfs", "vrf, name", "5\tred"),
    ];
    for (table, columns, row) in wanted {
        let sql = format!(
            "SELECT {columns} FROM {table} FINAL \
             WHERE exporter_addr = toIPv6('127.0.0.1') FORMAT TSV"
        );
        loop {
            let found = clickhouse.query(&sql)?;
            if found.trim() == row {
                break;
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "{table}: {found:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let status = collector.status()?;
    assert_eq!(status.at("/names/interfaces"), Some(&1.into()));
    drop(exporter);
    let stopped = collector.stop()?;
    assert_eq!((stopped.unaccounted, stopped.flows_stored), (0, 20));
    Ok(())
}
