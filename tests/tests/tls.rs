//! HTTPS to a server: whom the collector believes, what it shows, and what it says when that fails.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::collector::assert_all_stored;
use flowsluice_tests::generator::generate;
use flowsluice_tests::process::Process;
use flowsluice_tests::tls::{Authority, Certificate, Stunnel};
use flowsluice_tests::{ClickHouse, Collector, Node, Settings, Store, place};

const DATABASE: &str = "flowsluice";
const NAMES: &str = "DNS:localhost";

/// The library, where everything else that these tests need is there as well.
fn library_or_skip() -> Option<std::path::PathBuf> {
    place::program_or_skip("openssl", "openssl")?;
    place::program_or_skip("stunnel4", "stunnel4")?;
    place::engine_or_skip()
}

/// The lines of `[store.tls]`.
fn tls(ca: &Path, shown: Option<&Certificate>) -> String {
    let shown = shown.map_or_else(String::new, |shown| {
        format!("cert = {:?}\nkey = {:?}\n", shown.cert, shown.key)
    });
    format!("[store.tls]\nca = {ca:?}\n{shown}")
}

/// What `flowsluice query` says when it asks `url`.
fn asked(folder: &Path, url: &str, server: &ClickHouse, tls: &str) -> Result<(bool, String)> {
    let config = folder.join("query.toml");
    let text = format!(
        "[store]\nurl = \"{url}\"\ndatabase = \"default\"\nuser = \"{}\"\npassword = \"{}\"\n{tls}",
        server.user, server.password
    );
    std::fs::write(&config, text)?;
    let output = Command::new(place::binary()?)
        .args(["query", "--format", "csv", "SELECT 41 + 1", "--config"])
        .arg(&config)
        .output()
        .context("run flowsluice query")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(said)?))
}

#[test]
fn rows_go_over_https_to_a_server_that_wants_a_certificate() -> Result<()> {
    let Some(library) = library_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let nodes = Node::start_all(1, &library, folder)?;
    let authority = Authority::make("authority", folder)?;
    let server = authority.sign("server", NAMES, 30)?;
    let client = authority.sign("client", "DNS:collector", 30)?;
    let proxy = Stunnel::start(nodes[0].http_port(), &server, Some(&authority), folder)?;
    let reader = nodes[0].clickhouse(DATABASE);
    let https = ClickHouse {
        url: proxy.url("localhost"),
        ..reader.clone()
    };
    let mut settings = Settings::new(Store::Server(https));
    settings.more = tls(authority.cert(), Some(&client));
    let collector = Collector::start(&settings).with_context(|| proxy.tail())?;
    let arguments = ["--rate", "5000", "--flows", "10000"];
    let sent = generate(
        &settings.binary,
        collector.target(),
        &arguments,
        collector.folder(),
    )?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_all_stored(&ledger, &reader, &sent);
    Ok(())
}

#[test]
fn a_refusal_of_the_servers_certificate_names_the_file_and_the_remedy() -> Result<()> {
    let Some(library) = library_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let nodes = Node::start_all(1, &library, folder)?;
    let authority = Authority::make("authority", folder)?;
    let other = Authority::make("other", folder)?;
    let plain = nodes[0].clickhouse("default");
    let start =
        |certificate: &Certificate| Stunnel::start(nodes[0].http_port(), certificate, None, folder);
    let proxy = start(&authority.sign("server", NAMES, 30)?)?;
    let over = start(&authority.sign("over", NAMES, 0)?)?;
    // It is over a second after it began.
    std::thread::sleep(Duration::from_secs(2));
    let ask = |url: &str, tls: &str| asked(folder, url, &plain, tls);
    let believed = tls(authority.cert(), None);
    let answer = ask(&proxy.url("localhost"), &believed)?;
    ensure!(answer.0 && answer.1.ends_with("42\n"), "{answer:?}");
    let file = other.cert().display().to_string();
    for (url, tls, words) in [
        (
            proxy.url("localhost"),
            tls(other.cert(), None),
            vec![
                "signed by none of the CAs that are believed",
                &file,
                "store.tls.ca",
            ],
        ),
        (
            proxy.url("localhost"),
            String::new(),
            vec!["those that Mozilla lists", "store.tls.ca"],
        ),
        (
            over.url("localhost"),
            believed.clone(),
            vec!["certificate expired", "renew it on the server"],
        ),
        (
            proxy.url("127.0.0.1"),
            believed.clone(),
            vec![
                "not valid for name",
                "write a name that it has into store.url",
            ],
        ),
        (
            plain.url.replace("http://", "https://"),
            believed.clone(),
            vec!["this port speaks no TLS"],
        ),
    ] {
        let (success, said) = ask(&url, &tls)?;
        ensure!(!success, "{said}");
        for word in words {
            ensure!(said.contains(word), "no '{word}' in {said}");
        }
    }
    Ok(())
}

#[test]
fn a_certificate_that_the_server_refuses_is_told_and_a_renewed_one_is_taken_without_a_restart()
-> Result<()> {
    let Some(library) = library_or_skip() else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let nodes = Node::start_all(1, &library, folder)?;
    let authority = Authority::make("authority", folder)?;
    let other = Authority::make("other", folder)?;
    let server = authority.sign("server", NAMES, 30)?;
    let proxy = Stunnel::start(nodes[0].http_port(), &server, Some(&authority), folder)?;
    let node = nodes[0].clickhouse(DATABASE);
    let good = authority.sign("good", "DNS:collector", 30)?;
    let shown = other.sign("collector", "DNS:collector", 30)?;
    let http = place::free_tcp_port(0)?;
    let config = folder.join("flowsluice.toml");
    let text = format!(
        "[receive]\nworkers = 1\npin = false\n[[receive.listeners]]\nport = {}\n\
         [decode]\nstate_dir = \"\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
         [store]\nurl = \"{}\"\nuser = \"{}\"\npassword = \"{}\"\n{}",
        place::free_udp_port()?,
        proxy.url("localhost"),
        node.user,
        node.password,
        tls(authority.cert(), Some(&shown)),
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(place::binary()?);
    command.arg("run").arg("--config").arg(&config);
    let mut process = Process::spawn("the collector", &mut command, &folder.join("log"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !process.output().contains("see store.tls.cert and its date") {
        ensure!(
            Instant::now() < deadline,
            "it says nothing\n{}",
            process.tail(20)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // The key first: between the two files what was there before is shown.
    std::fs::copy(&good.key, &shown.key)?;
    std::fs::copy(&good.cert, &shown.cert)?;
    let http = std::net::SocketAddr::from(([127, 0, 0, 1], http));
    let limit = Duration::from_secs(30);
    flowsluice_tests::collector::wait_ready(&mut process, http, limit, |_| ())?;
    ensure!(
        process.output().contains("is renewed"),
        "{}",
        process.tail(20)
    );
    Ok(())
}
