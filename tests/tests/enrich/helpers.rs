//! Servers that never answer and lists full of rubbish: flows go on, and each fault is told once.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::Collector;
use flowsluice_tests::collector::assert_all_stored;
use flowsluice_tests::generator::generate;

use super::kit::{Files, LONG, figure, settings, told};

/// A name server and an agent who listen and say nothing.
fn config(files: &Files, server: &UdpSocket, agent: &UdpSocket) -> Result<String> {
    let (server, agent) = (server.local_addr()?, agent.local_addr()?);
    Ok(files.config(&format!(
        r#"
[[enrich.threats]]
file = "DIR/list.txt"
tag = "bad"

[enrich.dns]
names = "both"
servers = ["{server}"]
timeout = "500ms"

[enrich.snmp]
every = "1s"
timeout = "200ms"
retries = 0

[[enrich.snmp.targets]]
source = "0.0.0.0/0"
address = "127.0.0.1"
port = {}
community = "public"
"#,
        agent.port()
    )))
}

#[test]
fn servers_that_are_silent_and_rubbish_in_lists_hold_up_nothing_and_are_told_once() -> Result<()> {
    let files = Files::new()?;
    let list = "10.20.0.0/14\nnot an address\n203.0.113.1\n<html>\n2001:db8::/32\n\u{1b}[2J\n";
    files.put("list.txt", list)?;
    let silent = || UdpSocket::bind("127.0.0.1:0");
    let (server, agent) = (silent()?, silent()?);
    let Some(settings) = settings(config(&files, &server, &agent)?) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let arguments = ["--rate", "5000", "--duration", "5s", "--exporters", "4"];
    let sent = generate(
        &settings.binary,
        collector.target(),
        &arguments,
        collector.folder(),
    )?;
    let clickhouse = collector.clickhouse()?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_all_stored(&ledger, &clickhouse, &sent);
    // As they came: the last rows are no later than what was sent, give or take a batch.
    let took: f64 =
        clickhouse.value("SELECT max(time_received) - min(time_received) FROM flows")?;
    assert!(
        took <= sent.elapsed_s + 2.0,
        "{took} s, sent in {} s",
        sent.elapsed_s
    );

    let status = collector.wait_until("the agent is known to fail", LONG, |status| {
        figure(status, "snmp/exporters_failing") == 4 && figure(status, "dns/servers_dead") == 1
    })?;
    assert!(figure(&status, "dns/timeouts") > 0);
    assert_eq!(figure(&status, "dns/hits"), 0);
    assert!(figure(&status, "snmp/timeouts") > 0);
    assert_eq!(figure(&status, "parts/threats/faulty"), 0);
    let metrics = collector.page("/metrics")?;
    for line in [
        "flowsluice_dns_servers_dead 1",
        "flowsluice_snmp_exporters_failing 4",
    ] {
        assert!(metrics.contains(line), "no {line}\n{metrics}");
    }
    let rows = clickhouse.rows(
        "SELECT count() > 0, groupUniqArray(src_threats), max(src_host), max(in_if_name) \
         FROM flows WHERE src_addr BETWEEN toIPv6('10.20.0.0') AND toIPv6('10.23.255.255')",
    )?;
    assert_eq!(rows.concat(), ["1", "[['bad']]", "", ""]);

    std::thread::sleep(Duration::from_secs(1));
    for (text, lines) in [
        ("name server does not answer", 1..=1),
        ("list.txt:2: ", 1..=1),
        // The first of them; what others are like is counted in a line that comes later.
        ("cannot be asked by SNMP", 1..=4),
        ("names of addresses are not asked for", 0..=1),
    ] {
        let found = told(&collector, text)?;
        assert!(lines.contains(&found.len()), "{text}: {found:#?}");
    }
    let list = told(&collector, "list.txt:2: ")?;
    assert!(list[0].contains("3 such lines are left out"), "{list:?}");
    let warnings = told(&collector, "WARN")?;
    assert!(warnings.len() <= 10, "{warnings:#?}");
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}
