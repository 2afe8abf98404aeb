//! Names of a real name server (dnsmasq): early rows have none, later ones do, and the dictionary
//! has them for both.

use anyhow::Result;
use flowsluice_tests::wire::Sender;
use flowsluice_tests::{Collector, NameServer, Settings};

use super::kit::{Files, Record, flows, options, settings, wait_for};

const ZONES: &str = "\
local=/10.in-addr.arpa/
ptr-record=1.0.0.10.in-addr.arpa,client.example
ptr-record=2.0.0.10.in-addr.arpa,server.example
ptr-record=3.0.0.10.in-addr.arpa,router.example
";

#[test]
fn early_rows_have_no_name_later_ones_do_and_the_dictionary_has_them_for_both() -> Result<()> {
    let files = Files::new()?;
    let Some(server) = NameServer::start_or_skip(ZONES)? else {
        return Ok(());
    };
    let address = server.address();
    let config = format!("[enrich.dns]\nnames = \"both\"\nservers = [\"{address}\"]\n");
    let Some(settings) = settings(config) else {
        return Ok(());
    };
    let settings = Settings {
        data_dir: Some(files.path("data")),
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let clickhouse = collector.clickhouse()?;
    let mut sender = Sender::new(collector.target())?;
    // The exporter's own address.
    sender.send(&options(
        300,
        (1, 4),
        &[(130, 4)],
        &[127, 0, 0, 1, 10, 0, 0, 3],
    ))?;
    let answer = Record::new("10.0.0.2:443", "10.0.0.1:50000");
    let mut raw_bytes = 1;
    sender.send(&flows(raw_bytes, &[answer]))?;
    collector.settle(sender.sent)?;
    wait_for("names in rows", || {
        raw_bytes += 1;
        sender.send(&flows(raw_bytes, &[answer]))?;
        collector.settle(sender.sent)?;
        Ok(clickhouse
            .value::<u64>("SELECT countIf(src_host != '' AND exporter_name != '') FROM flows")?
            > 0)
    })?;
    let rows = clickhouse.rows(
        "SELECT src_host, dst_host, client_host, server_host, exporter_name FROM flows \
         ORDER BY raw_bytes",
    )?;
    assert_eq!(
        rows.first().map(|row| row.join(" ")).as_deref(),
        Some("    ")
    );
    let last = ["server.example", "client.example"];
    assert_eq!(
        rows.last().expect("rows")[..],
        [last[0], last[1], last[1], last[0], "router.example"]
    );
    wait_for("rows of hosts", || {
        let names = "SELECT arrayStringConcat(groupArray(name), ' ') FROM \
                     (SELECT * FROM hosts FINAL WHERE addr >= toIPv6('10.0.0.0') \
                      AND addr < toIPv6('11.0.0.0') ORDER BY addr)";
        let names = clickhouse.query(names)?;
        Ok(names.trim() == "client.example server.example router.example")
    })?;
    assert_eq!(collector.stop()?.unaccounted, 0);

    // It looks for news at times, and at a start.
    let collector = Collector::start(&settings)?;
    let names = collector.clickhouse()?.rows(
        "SELECT DISTINCT src_host = '', \
         dictGetOrDefault('host_names', 'name', tuple(src_addr), 'none'), \
         dictGetOrDefault('host_names', 'name', tuple(next_hop), 'none') \
         FROM flows ORDER BY 1",
    )?;
    assert_eq!(names, [["0", last[0], "none"], ["1", last[0], "none"]]);
    collector.stop()?;
    Ok(())
}
