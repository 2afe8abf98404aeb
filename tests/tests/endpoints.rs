//! Several servers, of which one is written to: it dies, the next one takes over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::generator::{Generator, generate};
use flowsluice_tests::{Collector, Node, Settings, Status, Store, place};

const DATABASE: &str = "flowsluice";
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A collector that writes to `nodes`, and returns to a preferred one after two seconds.
fn collector_on(nodes: &[Node]) -> Result<Collector> {
    let servers = nodes.iter().map(|node| node.clickhouse(DATABASE)).collect();
    let mut settings = Settings::new(Store::Servers(servers));
    settings.more = "failback_after = \"2s\"\n".into();
    settings.batch_age = "500ms";
    Collector::start(&settings)
}

/// Which of the servers is in use, by its place in the list.
fn in_use(status: &Status) -> Option<usize> {
    let servers = status.at("/store/servers")?.as_array()?;
    servers.iter().position(|server| server["in_use"] == true)
}

fn rows(nodes: &[Node]) -> Result<Vec<u64>> {
    nodes
        .iter()
        .map(|node| node.clickhouse(DATABASE).flows())
        .collect()
}

#[test]
fn the_next_server_takes_over_and_the_preferred_one_is_returned_to() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut nodes = Node::start_all(3, &library, folder.path())?;
    let collector = collector_on(&nodes)?;
    let binary = place::binary()?;
    let mut sent = (0, 0);
    let mut send = || -> Result<()> {
        let arguments = ["--rate", "5000", "--flows", "5000"];
        let totals = generate(&binary, collector.target(), &arguments, collector.folder())?;
        sent = (sent.0 + totals.datagrams, sent.1 + totals.flows);
        collector.settle(sent.0)?;
        Ok(())
    };
    send()?;
    nodes[0].kill()?;
    send()?;
    let status = collector.status()?;
    assert_eq!(in_use(&status), Some(1));
    assert_eq!(status.at("/store/servers/0/up"), Some(&false.into()));
    nodes[1].kill()?;
    send()?;
    assert_eq!(in_use(&collector.status()?), Some(2));
    nodes[0].start()?;
    let what = "the preferred server is in use again";
    collector.wait_until(what, WAIT_MAX, |status| in_use(status) == Some(0))?;
    send()?;
    nodes[1].start()?;
    // Every row is on the server that was in use, and on no other.
    assert_eq!(rows(&nodes)?, [10_000, 5000, 5000]);
    assert_eq!(sent.1, 20_000);
    let status = collector.status()?;
    let ledger = status.ledger();
    assert_accounted(&ledger, sent.0);
    assert_eq!(
        (ledger.losses(), ledger.store("flows_stored")),
        (vec![], 20_000)
    );
    let metrics = collector.page("/metrics")?;
    let url = nodes[0].clickhouse(DATABASE).url;
    let line = format!("flowsluice_store_server_in_use{{url=\"{url}\"}} 1");
    assert!(metrics.contains(&line), "{line}\n{metrics}");
    assert!(
        metrics.contains("flowsluice_store_failovers_total 2"),
        "{metrics}"
    );
    Ok(())
}

#[test]
fn a_server_killed_in_the_midst_of_inserts_loses_nothing_and_doubles_are_counted() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut nodes = Node::start_all(2, &library, folder.path())?;
    let collector = collector_on(&nodes)?;
    let log = collector.folder().join("generate.log");
    let arguments = ["--rate", "8000", "--flows", "48000"];
    let target = collector.target();
    let generator = Generator::start(&place::binary()?, target, &arguments, &log)?;
    let what = "a part is stored";
    collector.wait_until(what, WAIT_MAX, |status| {
        status.ledger().store("flows_stored") > 8000
    })?;
    nodes[0].kill()?;
    let sent = generator.finish(Duration::from_secs(60))?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_accounted(&ledger, sent.datagrams);
    assert_eq!(
        (ledger.losses(), ledger.store("flows_stored")),
        (vec![], sent.flows)
    );
    let moved = collector.status()?.number("/store/rows_moved_unanswered")?;
    nodes[0].start()?;
    let rows = rows(&nodes)?;
    ensure!(
        rows.iter().all(|rows| *rows > 0),
        "both have some: {rows:?}"
    );
    let stored: u64 = rows.iter().sum();
    // The servers share nothing: what the first one had stored without saying so is there twice.
    ensure!(
        (sent.flows..=sent.flows + moved).contains(&stored),
        "{stored} rows of {} flows, {moved} of which may be there twice",
        sent.flows
    );
    Ok(())
}

#[test]
fn a_question_goes_to_a_server_that_is_there() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let nodes = Node::start_all(1, &library, folder.path())?;
    let collector = collector_on(&nodes)?;
    let nobody = place::free_tcp_port(0)?;
    let text = std::fs::read_to_string(collector.config())?;
    let text = text.replace(
        "urls = [",
        &format!("urls = [\"http://127.0.0.1:{nobody}\", "),
    );
    let config = collector.folder().join("query.toml");
    std::fs::write(&config, text)?;
    let asked = std::process::Command::new(place::binary()?)
        .args([
            "query",
            "--format",
            "csv",
            "SELECT count() AS n FROM flows",
            "--config",
        ])
        .arg(&config)
        .output()
        .context("run flowsluice query")?;
    assert_eq!(
        String::from_utf8_lossy(&asked.stdout),
        "\"n\"\n0\n",
        "{asked:?}"
    );
    Ok(())
}
