//! Every column, stored and computed, by SQL and as `flowsluice replay` prints it.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::mmdb::{Database, city, system};
use flowsluice_tests::wire::Sender;
use flowsluice_tests::{ClickHouse, Collector};
use serde_json::{Map, Value, json};

use super::kit::{Files, Record, UDP, flows, options, padded, settings, wait_for};

type Row = Map<String, Value>;

const CONFIG: &str = r#"
[enrich]
networks = ["DIR/networks.csv"]
applications = ["DIR/applications.csv"]
interfaces = ["DIR/interfaces.csv"]
threats_whitelist = ["DIR/white.txt"]
mac_vendors = "DIR/oui.csv"

[[enrich.exporters]]
source = "127.0.0.0/8"
name = "edge1"
group = "edge"
site = "tokyo"
region = "kanto"
role = "border"
tenant = "acme"

[[enrich.interface_rules]]
alias = "^Transit: (\\w+)"
boundary = "external"
provider = "$1"
connectivity = "transit"

[[enrich.interface_rules]]
name = "^lan"
boundary = "internal"

[[enrich.threats]]
file = "DIR/scanners.txt"
tag = "scanner"

[[enrich.threats]]
file = "DIR/botnets.txt"
tag = "botnet"

[enrich.geo]
databases = ["DIR/asn.mmdb", "DIR/city.mmdb"]
"#;

fn files() -> Result<Files> {
    let files = Files::new()?;
    let cities = Database::new("GeoLite2-City")
        .network("9.0.0.0/8", &json!({"country": {"iso_code": "DE"}}))
        .network(
            "8.8.8.0/24",
            &city("US", "California", "Mountain View", 37.4056, -122.0775),
        )
        .network(
            "2400:4050::/32",
            &city("JP", "Tokyo", "Chiyoda", 35.69, 139.75),
        );
    let systems = Database::new("GeoLite2-ASN")
        .network("8.8.8.0/24", &system(15169, "GOOGLE"))
        .network("2400:4050::/32", &system(4713, "OCN"));
    files.put("city.mmdb", cities.bytes())?;
    files.put("asn.mmdb", systems.bytes())?;
    for (name, text) in [
        (
            "networks.csv",
            "prefix,name,role,site,region,tenant\n10.1.0.0/16,office,clients,tokyo,kanto,acme\n\
             10.1.2.0/24,lab,,,,\n2400:4050:1::/48,\"R&D, 'six' \"\"\u{6771}\u{4eac}\"\"\",,,,x\n",
        ),
        (
            "applications.csv",
            "address,ports,protocol,application\n10.1.2.3,5601,tcp,kibana\n",
        ),
        (
            "interfaces.csv",
            "exporter,if_index,name,alias,speed\n127.0.0.1,1,xe-0/0/1,Transit: Acme,10000000000\n",
        ),
        ("white.txt", "9.9.9.9\n"),
        ("botnets.txt", "8.8.8.8\n9.9.9.0/24\n2400:4050:1::bad\n"),
        ("scanners.txt", "# as of today\n8.8.8.0/24\n"),
        (
            "oui.csv",
            "Registry,Assignment,Organization Name,Organization Address\n\
             MA-L,00005E,\"ICANN, IANA Department\",x\n",
        ),
    ] {
        files.put(name, text)?;
    }
    Ok(files)
}

/// What an exporter calls interface 2 and application 82 of its own engine.
fn names() -> [Vec<u8>; 2] {
    let interface = [&[0, 0, 0, 2][..], &padded("lan2", 8), &padded("Floor 2", 8)].concat();
    let application = [&[127, 0, 0, 1, 13, 0, 0, 82][..], &padded("bittorrent", 24)].concat();
    [
        options(300, (2, 4), &[(82, 8), (83, 8)], &interface),
        options(301, (1, 4), &[(95, 4), (96, 24)], &application),
    ]
}

/// By their source ports 1001, 5601, 40000, 443 and 50001.
fn records() -> Vec<Record> {
    let asks = Record {
        protocol: UDP,
        tcp_flags: 0,
        interfaces: [2, 1],
        application: [13, 0, 0, 82],
        macs: [[0, 0, 0x5e, 0, 1, 1], [2, 0, 0x5e, 0, 1, 1]],
        ..Record::new("10.1.0.5:1001", "8.8.8.8:53")
    };
    let answers = Record {
        interfaces: [1, 7],
        application: [13, 0, 0, 82],
        macs: [[0; 6], [0, 0, 0x5e, 0, 1, 2]],
        ..Record::new("10.1.2.3:5601", "10.1.0.9:40000")
    };
    let six = Record {
        tcp_flags: 2,
        systems: [0, 64_500],
        ..Record::new("[2400:4050:1::bad]:40000", "[2400:4050:2::1]:39999")
    };
    let white = Record {
        application: [3, 0, 1, 0xbb],
        ..Record::new("9.9.9.9:443", "10.9.9.9:1024")
    };
    let called = Record {
        biflow_direction: 2,
        ..Record::new("8.8.8.9:50001", "9.9.9.1:443")
    };
    vec![asks, answers, six, white, called]
}

/// The rows with `raw_bytes`, by source port.
fn stored(clickhouse: &ClickHouse, columns: &str, raw_bytes: u32) -> Result<Vec<Row>> {
    let text = clickhouse.query(&format!(
        "SELECT {columns} FROM flows WHERE raw_bytes = {raw_bytes} ORDER BY src_port \
         SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow"
    ))?;
    let rows = text.lines().map(|line| Ok(serde_json::from_str(line)?));
    rows.collect()
}

#[track_caller]
fn assert_says(rows: &[Row], src_port: u16, columns: &[(&str, Value)]) {
    let of_it = |row: &&Row| row["src_port"] == json!(src_port);
    let row = rows.iter().find(of_it).expect("a row of each flow");
    let is = |(name, _): &(&str, Value)| (name.to_string(), row.get(*name).cloned());
    let found: Vec<_> = columns.iter().map(is).collect();
    let said = |(name, value): &(&str, Value)| (name.to_string(), Some(value.clone()));
    let expected: Vec<_> = columns.iter().map(said).collect();
    assert_eq!(found, expected, "source port {src_port}");
}

/// Sends all flows until names of options are in their rows, too; the rows of the last time.
fn rows(collector: &Collector, clickhouse: &ClickHouse, columns: &str) -> Result<(u32, Vec<Row>)> {
    let mut sender = Sender::new(collector.target())?;
    for name in names() {
        sender.send(&name)?;
    }
    let (mut raw_bytes, mut rows) = (1000, Vec::new());
    wait_for("names of options in rows", || {
        raw_bytes += 1;
        sender.send(&flows(raw_bytes, &records()))?;
        collector.settle(sender.sent)?;
        rows = stored(clickhouse, columns, raw_bytes)?;
        ensure!(rows.len() == records().len(), "{} rows", rows.len());
        let asks = rows.iter().find(|row| row["src_port"] == json!(1001));
        Ok(asks.is_some_and(|row| row["in_if_name"] != "" && row["application"] != ""))
    })?;
    Ok((raw_bytes, rows))
}

/// What `flowsluice replay --print json` says of the same datagrams, by source port.
fn printed(collector: &Collector, files: &Files, raw_bytes: u32) -> Result<Vec<Row>> {
    let mut command = Command::new(flowsluice_tests::place::binary()?);
    command.args(["replay", "--print", "json", "--config"]);
    command.arg(collector.config());
    let datagrams = names().into_iter().chain([flows(raw_bytes, &records())]);
    for (number, datagram) in datagrams.enumerate() {
        let name = format!("{number}.bin");
        files.put(&name, datagram)?;
        command.arg(files.path(&name));
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "replay: {said}");
    let text = String::from_utf8(output.stdout)?;
    let rows = text.lines().map(|line| Ok(serde_json::from_str(line)?));
    let mut rows: Vec<Row> = rows.collect::<Result<_>>()?;
    rows.sort_by_key(|row| row["src_port"].as_u64());
    Ok(rows)
}

/// SQL shows an IPv4 address in IPv6, JSON as it is written.
fn plain(value: &Value) -> Value {
    let address = value
        .as_str()
        .and_then(|text| text.parse::<Ipv6Addr>().ok());
    match address.and_then(|address| address.to_ipv4_mapped()) {
        Some(v4) => json!(v4.to_string()),
        None => value.clone(),
    }
}

#[test]
fn everything_that_is_known_is_in_rows_and_a_replay_prints_the_same() -> Result<()> {
    let files = files()?;
    let Some(settings) = settings(files.config(CONFIG)) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    // The user who may only read.
    let clickhouse = collector.clickhouse()?;
    assert_eq!(clickhouse.user, "reader");
    let names = clickhouse.rows(
        "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'flows'",
    )?;
    let names: Vec<String> = names.concat();
    let (raw_bytes, rows) = rows(&collector, &clickhouse, &names.join(", "))?;
    assert_asks(&rows);
    assert_answers(&rows);
    assert_others(&rows);

    let printed = printed(&collector, &files, raw_bytes)?;
    assert_eq!(printed.len(), rows.len());
    let in_table: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for (stored, printed) in rows.iter().zip(&printed) {
        let in_print: BTreeSet<&str> = printed.keys().map(String::as_str).collect();
        assert_eq!(in_print, in_table, "names of columns");
        let timeless = (in_table.iter())
            .filter(|name| !["time_received", "flow_start", "flow_end"].contains(name));
        for name in timeless {
            let stored = stored.get(*name).context("a column of the table")?;
            assert_eq!(plain(&printed[*name]), plain(stored), "{name}: {printed:?}");
        }
    }
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

fn assert_asks(rows: &[Row]) {
    let exporter = "edge1\tedge\ttokyo\tkanto\tborder\tacme";
    let columns = [
        ("src_country", json!("")),
        ("src_place", json!("")),
        ("src_lat", json!(0)),
        ("src_as", json!(0)),
        ("src_as_name", json!("private")),
        ("src_net", json!("office\tclients\ttokyo\tkanto\tacme")),
        ("src_net_name", json!("office")),
        ("src_net_role", json!("clients")),
        ("src_net_site", json!("tokyo")),
        ("src_net_region", json!("kanto")),
        ("src_net_tenant", json!("acme")),
        ("src_threats", json!([])),
        ("src_mac_vendor", json!("ICANN, IANA Department")),
        ("dst_mac_vendor", json!("")),
        ("dst_country", json!("US")),
        (
            "dst_place",
            json!("California\tMountain View\t37.4056\t-122.0775"),
        ),
        ("dst_region", json!("California")),
        ("dst_city", json!("Mountain View")),
        ("dst_lat", json!(37.4056)),
        ("dst_lon", json!(-122.0775)),
        ("dst_as", json!(15169)),
        ("dst_as_name", json!("GOOGLE")),
        ("dst_net_name", json!("")),
        ("dst_threat_tags", json!("botnet,scanner")),
        ("dst_threats", json!(["botnet", "scanner"])),
        ("exporter_labels", json!(exporter)),
        ("exporter_name", json!("edge1")),
        ("exporter_group", json!("edge")),
        ("exporter_site", json!("tokyo")),
        ("exporter_region", json!("kanto")),
        ("exporter_role", json!("border")),
        ("exporter_tenant", json!("acme")),
        ("in_if_labels", json!("lan2\tFloor 2\t\tinternal\t\t")),
        ("in_if_name", json!("lan2")),
        ("in_if_alias", json!("Floor 2")),
        ("in_if_speed", json!(0)),
        ("in_if_boundary", json!("internal")),
        ("in_if_provider", json!("")),
        ("out_if_name", json!("xe-0/0/1")),
        ("out_if_alias", json!("Transit: Acme")),
        ("out_if_speed", json!(10_000_000_000_u64)),
        ("out_if_boundary", json!("external")),
        ("out_if_provider", json!("Acme")),
        ("out_if_connectivity", json!("transit")),
        ("application", json!("bittorrent")),
        ("service", json!("domain")),
        ("client_is_src", json!(true)),
        ("client_addr", json!("::ffff:10.1.0.5")),
        ("server_addr", json!("::ffff:8.8.8.8")),
        ("server_port", json!(53)),
        ("locality", json!("public")),
    ];
    assert_says(rows, 1001, &columns);
}

fn assert_answers(rows: &[Row]) {
    let columns = [
        ("src_net", json!("lab\t\t\t\t")),
        ("src_net_name", json!("lab")),
        ("src_net_tenant", json!("")),
        ("dst_net_name", json!("office")),
        ("dst_as_name", json!("private")),
        ("src_mac_vendor", json!("")),
        ("dst_mac_vendor", json!("ICANN, IANA Department")),
        ("in_if_name", json!("xe-0/0/1")),
        ("out_if_labels", json!("")),
        ("out_if_name", json!("")),
        ("out_if_boundary", json!("undefined")),
        ("application", json!("kibana")),
        ("service", json!("esmagent")),
        ("client_is_src", json!(false)),
        ("client_addr", json!("::ffff:10.1.0.9")),
        ("server_addr", json!("::ffff:10.1.2.3")),
        ("server_port", json!(5601)),
        ("locality", json!("private")),
    ];
    assert_says(rows, 5601, &columns);
}

fn assert_others(rows: &[Row]) {
    let six = [
        ("src_country", json!("JP")),
        ("src_region", json!("Tokyo")),
        ("src_city", json!("Chiyoda")),
        ("src_lat", json!(35.69)),
        ("src_lon", json!(139.75)),
        ("src_as", json!(4713)),
        ("src_as_name", json!("OCN")),
        ("src_net_name", json!("R&D, 'six' \"\u{6771}\u{4eac}\"")),
        ("src_net_tenant", json!("x")),
        ("src_threats", json!(["botnet"])),
        ("dst_country", json!("JP")),
        // What the exporter says counts.
        ("dst_as", json!(64_500)),
        ("dst_as_name", json!("")),
        ("dst_net_name", json!("")),
        // A SYN alone, though the destination's port is the lower one.
        ("client_is_src", json!(true)),
        ("server_port", json!(39_999)),
        ("in_if_name", json!("")),
        ("application", json!("")),
        ("locality", json!("public")),
    ];
    assert_says(rows, 40_000, &six);
    let white = [
        ("src_country", json!("DE")),
        ("src_place", json!("")),
        ("src_city", json!("")),
        ("src_lat", json!(0)),
        ("src_threats", json!([])),
        ("src_as_name", json!("")),
        ("dst_as_name", json!("private")),
        ("dst_net_name", json!("")),
        // IANA's ports are an engine of their own.
        ("application", json!("https")),
        ("service", json!("https")),
        ("client_is_src", json!(false)),
        ("client_addr", json!("::ffff:10.9.9.9")),
        ("server_port", json!(443)),
        ("exporter_name", json!("edge1")),
        ("locality", json!("public")),
    ];
    assert_says(rows, 443, &white);
    let called = [
        ("src_threats", json!(["scanner"])),
        ("dst_threats", json!(["botnet"])),
        ("dst_country", json!("DE")),
        // The exporter says that the destination began it.
        ("client_is_src", json!(false)),
        ("server_port", json!(50_001)),
        ("service", json!("")),
    ];
    assert_says(rows, 50_001, &called);
}
