//! `flowsluice geoip`: databases fetched from a web server, verified, put in place.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result};
use flowsluice_tests::program::said;
use flowsluice_tests::{mmdb, place};

/// What is asked: the path, and the headers in lower case.
type Request = (String, Vec<String>);
/// Status line, headers, body.
type Answer = (&'static str, Vec<String>, Vec<u8>);

/// Answers on a loopback address until the test ends; what was asked comes out of the channel.
fn serve(
    address: &str,
    answer: impl Fn(&Request) -> Answer + Send + 'static,
) -> Result<(String, Receiver<Request>)> {
    let listener = TcpListener::bind((address, 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let asked = stream.context("accept").and_then(|stream| {
                let request = request(&stream)?;
                let (status, headers, body) = answer(&request);
                let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
                for header in headers {
                    head += &format!("{header}\r\n");
                }
                head += &format!("Content-Length: {}\r\n\r\n", body.len());
                (&stream).write_all(head.as_bytes())?;
                (&stream).write_all(&body)?;
                Ok(request)
            });
            if asked.is_ok_and(|asked| sender.send(asked).is_err()) {
                return;
            }
        }
    });
    Ok((url, receiver))
}

fn request(stream: &TcpStream) -> Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().context("a request line")??;
    let path = first.split(' ').nth(1).context("a path")?.to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').context("a header")?;
        headers.push(format!("{}:{value}", name.to_lowercase()));
    }
    Ok((path, headers))
}

fn has_header(request: &Request, name: &str) -> bool {
    request.1.iter().any(|header| header.starts_with(name))
}

fn geoip(folder: &Path, command: &[&str], updates: &str) -> Result<Output> {
    let config = folder.join("flowsluice.toml");
    std::fs::write(&config, updates)?;
    let output = Command::new(place::binary()?)
        .arg("geoip")
        .args(command)
        .arg("--config")
        .arg(config)
        .output()?;
    Ok(output)
}

fn entry(folder: &Path, name: &str, from: &str, more: &str) -> String {
    let file = folder.join(name);
    format!(
        "[[enrich.geo.updates]]\nfile = \"{}\"\nfrom = \"{from}\"\n{more}\n",
        file.display()
    )
}

#[test]
fn a_database_is_fetched_with_a_password_that_no_other_host_sees() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = mmdb::database("GeoLite2-City", 1_700_000_000, 10);
    let offered = database.clone();
    let modified = "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT";
    let (store, stored) = serve("127.0.0.2", move |request| {
        if has_header(request, "if-modified-since: Tue, 14 Nov 2023 22:13:20 GMT") {
            return ("304 Not Modified", vec![], vec![]);
        }
        ("200 OK", vec![modified.to_owned()], offered.clone())
    })?;
    let (front, asked) = serve("127.0.0.1", move |_| {
        let to = format!("Location: {store}/city.mmdb?signature=1");
        ("302 Found", vec![to], vec![])
    })?;
    let password = folder.path().join("key");
    std::fs::write(&password, "secret\n")?;
    let from = format!("{front}/download?license_key=hidden");
    let more = format!("user = \"me\"\npassword_file = \"{}\"", password.display());
    let config = entry(folder.path(), "geo/city.mmdb", &from, &more);

    let output = geoip(folder.path(), &["update"], &config)?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("GeoLite2-City of 2023-11-14"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("unencrypted"), "{}", said(&output));
    assert_eq!(
        std::fs::read(folder.path().join("geo/city.mmdb"))?,
        database
    );
    // Basic authentication (RFC 7617) of "me:secret".
    let header = "authorization: Basic bWU6c2VjcmV0";
    assert!(
        has_header(&asked.recv()?, header),
        "the server that was named"
    );
    assert!(!has_header(&stored.recv()?, "authorization"), "another one");

    let output = geoip(folder.path(), &["update"], &config)?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("city.mmdb: unchanged"),
        "{}",
        said(&output)
    );
    assert!(has_header(&stored.recv()?, "if-modified-since"));

    let output = geoip(folder.path(), &["show"], &config)?;
    assert!(output.status.success(), "{}", said(&output));
    let told = said(&output);
    assert!(
        told.contains("1 networks") && told.contains("not used"),
        "{told}"
    );
    Ok(())
}

#[test]
fn a_server_that_refuses_fails_its_database_only_and_shows_no_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = mmdb::database("GeoLite2-ASN", 1_700_000_000, 10);
    let offered = database.clone();
    let (url, _asked) = serve("127.0.0.1", move |(path, _)| match path.as_str() {
        "/asn" => ("200 OK", vec![], offered.clone()),
        "/asn.sha256" => (
            "200 OK",
            vec![],
            format!("{}  asn\n", "0".repeat(64)).into(),
        ),
        _ => ("401 Unauthorized", vec![], b"no".to_vec()),
    })?;
    std::fs::write(folder.path().join("city.mmdb"), "before")?;
    let sum = format!("sha256_from = \"{url}/asn.sha256\"");
    let config = [
        entry(
            folder.path(),
            "city.mmdb",
            &format!("{url}/city?license_key=hidden"),
            "",
        ),
        entry(folder.path(), "sum.mmdb", &format!("{url}/asn"), &sum),
        entry(folder.path(), "asn.mmdb", &format!("{url}/asn"), ""),
    ]
    .concat();
    let output = geoip(folder.path(), &["update"], &config)?;
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("status 401") && told.contains("password_file"),
        "{told}"
    );
    assert!(told.contains("SHA-256 is"), "{told}");
    assert!(told.contains("2 of 3 databases"), "{told}");
    assert!(!told.contains("hidden"), "{told}");
    assert_eq!(std::fs::read(folder.path().join("city.mmdb"))?, b"before");
    assert!(!folder.path().join("sum.mmdb").exists());
    assert_eq!(
        std::fs::read(folder.path().join("asn.mmdb"))?,
        database,
        "the third"
    );
    Ok(())
}

#[test]
fn without_an_origin_there_is_nothing_to_update() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = geoip(folder.path(), &["update"], "")?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("[[enrich.geo.updates]]"),
        "{}",
        said(&output)
    );
    Ok(())
}

#[test]
fn an_address_is_looked_up_as_the_collector_does_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("city.mmdb");
    std::fs::write(&file, mmdb::database("GeoLite2-City", 1_700_000_000, 10))?;
    let config = format!("[enrich.geo]\ndatabases = [\"{}\"]\n", file.display());
    let output = geoip(folder.path(), &["lookup", "1.1.1.1"], &config)?;
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("country    JP\n"), "{told}");
    assert!(told.contains("private    false\n"), "{told}");
    let output = geoip(folder.path(), &["lookup", "::ffff:192.168.0.1"], &config)?;
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("as name    private\n"), "{told}");
    let output = geoip(folder.path(), &["lookup", "router"], &config)?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    Ok(())
}

#[test]
fn the_units_of_systemd_are_valid() -> Result<()> {
    let Some(analyze) = place::program_or_skip("systemd-analyze", "systemd") else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let binary = place::binary()?;
    for name in ["flowsluice-geoip.service", "flowsluice-geoip.timer"] {
        let text = std::fs::read_to_string(place::root().join("deploy").join(name))?;
        // It is not installed here.
        let text = text.replace("/usr/bin/flowsluice", &binary.display().to_string());
        std::fs::write(folder.path().join(name), text)?;
    }
    let output = Command::new(analyze)
        .arg("verify")
        .args(
            ["flowsluice-geoip.service", "flowsluice-geoip.timer"]
                .map(|name| folder.path().join(name)),
        )
        .output()?;
    let told = said(&output);
    let ours: Vec<_> = told
        .lines()
        .filter(|line| line.contains("flowsluice"))
        .collect();
    assert!(ours.is_empty(), "{told}");
    Ok(())
}
