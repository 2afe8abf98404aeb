//! Files and the configuration change while flows come: what is good is taken, what is bad is told,
//! and no flow is lost.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::collector::assert_all_stored;
use flowsluice_tests::mmdb::{Database, city};
use flowsluice_tests::process::{Signal, signal_pid};
use flowsluice_tests::wire::Sender;
use flowsluice_tests::{ClickHouse, Collector, Generator, Settings, Store};

use super::kit::{Files, LONG, Record, figure, flows, settings, told, wait_for};

const CONFIG: &str = r#"
[enrich]
look_every = "100ms"
networks = ["DIR/networks.csv"]

[enrich.geo]
databases = ["DIR/city.mmdb"]
"#;

/// Two lists of threats.
const LISTS: &str = r#"
[enrich]
look_every = "1s"

[[enrich.threats]]
file = "DIR/a.txt"
tag = "a"

[[enrich.threats]]
file = "DIR/b.txt"
tag = "b"
"#;

/// Networks of everybody, all of them called `name`.
fn everybody(name: &str) -> String {
    format!("prefix,name\n0.0.0.0/0,{name}\n::/0,{name}\n")
}

/// A database that places everybody in one city.
fn everywhere(name: &str) -> Vec<u8> {
    let place = city("JP", "Tokyo", name, 35.69, 139.75);
    let halves = ["0.0.0.0/1", "128.0.0.0/1", "2000::/3", "8000::/1"];
    let database = Database::new("GeoLite2-City");
    let all = halves
        .iter()
        .fold(database, |database, half| database.network(half, &place));
    all.bytes()
}

/// Waits until further rows that satisfy `condition` are stored.
fn wait_for_rows(clickhouse: &ClickHouse, condition: &str) -> Result<()> {
    let count =
        || -> Result<u64> { clickhouse.value(&format!("SELECT countIf({condition}) FROM flows")) };
    let before = count()?;
    wait_for(condition, || Ok(count()? > before + 1000))
}

/// What `/status` and `/metrics` say of a part: loaded, refused, faulty.
fn assert_part(collector: &Collector, part: &str, expected: [u64; 3]) -> Result<()> {
    let names = ["loaded", "refused", "faulty"];
    let status = collector.status()?;
    let shown = names.map(|name| figure(&status, &format!("parts/{part}/{name}")));
    assert_eq!(shown, expected, "{part}: {names:?}");
    let metrics = collector.page("/metrics")?;
    for (name, value) in ["loaded_total", "refused_total", "faulty"]
        .iter()
        .zip(expected)
    {
        let line = format!("flowsluice_enrich_{name}{{part=\"{part}\"}} {value}\n");
        assert!(metrics.contains(&line), "no {line}");
    }
    Ok(())
}

fn wait_for_part(collector: &Collector, part: &str, name: &str, value: u64) -> Result<()> {
    let pointer = format!("parts/{part}/{name}");
    let is_so = |status: &_| figure(status, &pointer) == value;
    collector.wait_until(&format!("{pointer} is {value}"), LONG, is_so)?;
    Ok(())
}

#[test]
fn good_files_are_taken_and_bad_ones_told_under_load_without_a_loss() -> Result<()> {
    let files = Files::new()?;
    files.put("networks.csv", everybody("one"))?;
    files.put("city.mmdb", everywhere("First"))?;
    let Some(settings) = settings(files.config(CONFIG)) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let clickhouse = collector.clickhouse()?;
    let log = collector.folder().join("generate.log");
    let arguments = ["--rate", "5000", "--exporters", "8"];
    let generator = Generator::start(&settings.binary, collector.target(), &arguments, &log)?;
    wait_for_rows(&clickhouse, "src_net_name = 'one' AND dst_city = 'First'")?;

    let grown = everybody("two") + "10.20.0.0/14,inside\n";
    files.put("networks.csv", &grown)?;
    wait_for_rows(
        &clickhouse,
        "src_net_name = 'inside' AND dst_net_name = 'two'",
    )?;
    assert_part(&collector, "networks", [2, 0, 0])?;

    files.put("networks.csv", grown + "not a prefix,lab\nnor this,lab\n")?;
    let whole = everywhere("Second");
    files.put("city.mmdb", &whole[..whole.len() / 2])?;
    wait_for_part(&collector, "networks", "faulty", 1)?;
    wait_for_part(&collector, "geo", "faulty", 1)?;
    wait_for_rows(
        &clickhouse,
        "src_net_name = 'inside' AND dst_city = 'First'",
    )?;
    wait_for_rows(&clickhouse, "src_net_name = 'two' AND src_city = 'First'")?;
    assert_part(&collector, "networks", [2, 1, 1])?;
    assert_part(&collector, "geo", [1, 1, 1])?;

    reconfigure(&collector, &clickhouse)?;

    files.put("networks.csv", everybody("three"))?;
    files.put("city.mmdb", whole)?;
    let repaired = "src_net_name = 'three' AND dst_city = 'Second' AND exporter_name = 'renamed'";
    wait_for_rows(&clickhouse, repaired)?;
    assert_part(&collector, "networks", [3, 2, 0])?;
    assert_part(&collector, "geo", [2, 2, 0])?;

    let sent = generator.stop()?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_all_stored(&ledger, &clickhouse, &sent);
    assert_order(&clickhouse)?;
    assert_told(&collector)?;
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}

/// A changed `[enrich]` is taken at SIGHUP, one that is no TOML is not.
fn reconfigure(collector: &Collector, clickhouse: &ClickHouse) -> Result<()> {
    let add = |text: &str| -> Result<()> {
        let config = std::fs::File::options()
            .append(true)
            .open(collector.config());
        config?.write_all(text.as_bytes())?;
        signal_pid(collector.pid(), Signal::HUP)
    };
    add("\n[[enrich.exporters]]\nsource = \"0.0.0.0/0\"\nname = \"renamed\"\n")?;
    wait_for_rows(clickhouse, "exporter_name = 'renamed'")?;
    // What was refused is read again, and refused again.
    assert_part(collector, "networks", [2, 2, 1])?;
    assert_part(collector, "geo", [1, 2, 1])?;
    add("\n[enrich.geo\n")?;
    wait_for("the bad configuration is told", || {
        Ok(!told(collector, "stays as it was")?.is_empty())
    })?;
    wait_for_rows(
        clickhouse,
        "exporter_name = 'renamed' AND src_net_name = 'inside'",
    )
}

/// Names stand in rows in the order in which they were told, and no row has none.
fn assert_order(clickhouse: &ClickHouse) -> Result<()> {
    let nameless = clickhouse.rows(
        "SELECT src_addr, src_net_name, dst_addr, dst_net_name, dst_city FROM flows \
         WHERE src_net_name = '' OR dst_net_name = '' OR dst_city = '' LIMIT 5",
    )?;
    assert!(nameless.is_empty(), "{nameless:?}");
    let sql = "SELECT maxIf(time_received, dst_net_name = 'one') > \
             minIf(time_received, dst_net_name IN ('two', 'inside')), \
         maxIf(time_received, dst_net_name IN ('two', 'inside')) > \
             minIf(time_received, dst_net_name = 'three'), \
         maxIf(time_received, exporter_name = '') > \
             minIf(time_received, exporter_name = 'renamed') FROM flows";
    assert_eq!(clickhouse.rows(sql)?.concat(), ["0", "0", "0"]);
    Ok(())
}

/// One line for all that is wrong: each file, line and remedy.
fn assert_told(collector: &Collector) -> Result<()> {
    let networks = told(collector, "networks.csv:5: ")?;
    // When it was found, and at the first SIGHUP.
    assert_eq!(networks.len(), 2, "{networks:#?}");
    for part in [
        "ERROR",
        "what was read before stays in use",
        "not a prefix",
        "networks.csv:6: ",
    ] {
        assert!(networks[0].contains(part), "{part}: {networks:?}");
    }
    assert_eq!(told(collector, "networks.csv:6: ")?, networks);
    let geo = told(collector, "city.mmdb: ")?;
    assert_eq!(geo.len(), 2, "{geo:#?}");
    assert!(geo[0].contains("ERROR"), "{geo:?}");
    let config = told(collector, "flowsluice.toml:")?;
    assert_eq!(config.len(), 1, "{config:#?}");
    assert!(config[0].contains("ERROR"), "{config:?}");
    Ok(())
}

#[test]
fn a_list_is_taken_though_another_is_refused_at_the_same_time() -> Result<()> {
    let files = Files::new()?;
    files.put("a.txt", "10.0.0.1\n")?;
    files.put("b.txt", "10.0.0.2\n")?;
    let config = files.config(LISTS);
    let Some(settings) = settings(config) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let clickhouse = collector.clickhouse()?;
    let mut sender = Sender::new(collector.target())?;
    let flow = flows(1, &[Record::new("10.0.0.1:1", "10.0.0.2:2")]);
    sender.send(&flow)?;
    collector.settle(sender.sent)?;
    // A new exporter is news of its own; after that there is nothing else.
    std::thread::sleep(Duration::from_secs(3));
    files.put("b.txt", "<html>\n<body>\n")?;
    files.put("a.txt", "10.0.0.1\n10.0.0.2\n")?;
    wait_for("the tags of both lists", || {
        sender.send(&flow)?;
        collector.settle(sender.sent)?;
        let tags = "SELECT countIf(src_threats = ['a'] AND dst_threats = ['a', 'b']) FROM flows";
        Ok(clickhouse.value::<u64>(tags)? > 0)
    })?;
    let status = collector.status()?;
    assert_eq!(figure(&status, "parts/threats/faulty"), 1);
    assert_eq!(told(&collector, "b.txt: ")?.len(), 1);
    Ok(())
}

#[test]
fn sighup_without_enrichment_at_the_start_says_that_a_restart_is_needed() -> Result<()> {
    let settings = Settings {
        more: "\n[enrich]\nservices = false\n".into(),
        ..Settings::new(Store::Null)
    };
    let collector = Collector::start(&settings)?;
    let text = std::fs::read_to_string(collector.config())?;
    let text = text.replace("services = false", "services = true");
    std::fs::write(collector.config(), text)?;
    signal_pid(collector.pid(), Signal::HUP)?;
    wait_for("it is told", || {
        Ok(!told(&collector, "restart flowsluice")?.is_empty())
    })
}

#[test]
fn sighup_reads_files_that_changed_at_once() -> Result<()> {
    let files = Files::new()?;
    files.put("networks.csv", everybody("one"))?;
    files.put("city.mmdb", everywhere("First"))?;
    let config = files.config(CONFIG).replace("100ms", "1h");
    let Some(settings) = settings(config) else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    // Written just now: whoever sends the signal has finished it.
    std::fs::write(files.path("networks.csv"), everybody("two"))?;
    signal_pid(collector.pid(), Signal::HUP)?;
    wait_for_part(&collector, "networks", "loaded", 2)?;
    std::fs::write(files.path("networks.csv"), "no titles\n")?;
    signal_pid(collector.pid(), Signal::HUP)?;
    wait_for_part(&collector, "networks", "refused", 1)?;
    std::thread::sleep(Duration::from_millis(1500));
    assert_part(&collector, "networks", [2, 1, 1])?;
    assert_part(&collector, "geo", [1, 0, 0])
}
