//! What `deploy/security.md` says of the whole rather than of one part.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;
use flowsluice_tests::process::Process;
use serde_json::Value;

const DOCUMENT: &str = "deploy/security.md";

/// The files with this ending below a folder.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn every_line_of_the_threat_model_names_a_test_that_is_there() -> Result<()> {
    let text = std::fs::read_to_string(place::root().join(DOCUMENT))?;
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("| threat |")).collect();
    ensure!(rows.len() >= 20, "{} lines", rows.len());
    let mut named = BTreeSet::new();
    for row in rows {
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next();
        let quoted = last.unwrap_or_default().split('`').skip(1).step_by(2);
        let tests: Vec<_> = quoted.collect();
        ensure!(!tests.is_empty(), "no test holds this line: {row}");
        named.extend(tests);
    }
    for test in named {
        let (file, name) = test.split_once("::").with_context(|| test.to_owned())?;
        let source = std::fs::read_to_string(place::root().join(file));
        let source = source.with_context(|| format!("{DOCUMENT}: {file}"))?;
        let declared = format!("fn {name}(");
        let before = source
            .split(&declared)
            .next()
            .filter(|all| all.len() < source.len());
        let before = before.with_context(|| format!("{file} has no test {name}"))?;
        let attribute = before.trim_end().trim_end_matches("async").trim_end();
        let is_test = attribute.ends_with("#[test]") || attribute.ends_with("#[tokio::test]");
        ensure!(is_test, "{test} is no test");
    }
    Ok(())
}

#[test]
fn no_program_is_started_but_the_engine_and_what_doctor_is_told_to_run() -> Result<()> {
    let source = place::root().join("collector/src");
    let allowed = [
        "store/embedded/child.rs",
        // ethtool and the like, for who asks for it, never while it collects.
        "cli/doctor/fix.rs",
    ]
    .map(|file| source.join(file));
    for file in files(&source, "rs")? {
        let text = std::fs::read_to_string(&file)?;
        // Unit tests stand at the end, or in files of their own.
        let code = text
            .split("\n#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        let is_test = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
        let starts = [
            "process::Command",
            "Command::new",
            "libc::system",
            "libc::exec",
        ];
        let starts_one = starts.iter().any(|word| code.contains(word));
        ensure!(
            !starts_one || is_test || allowed.contains(&file),
            "{} starts one",
            file.display()
        );
    }
    Ok(())
}

/// The SQL of a dashboard, or of an alert rule.
fn statements(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member
                    .as_str()
                    .filter(|_| name == "rawSql" || name == "query")
                {
                    Some(sql) => found.push(sql.to_owned()),
                    None => statements(member, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| statements(one, found)),
        _ => {}
    }
}

/// What variables stand in a statement for other than as an encoded text between quotes.
fn bare_variables(sql: &str) -> Vec<String> {
    let mut bare = Vec::new();
    for (at, _) in sql.match_indices('$') {
        let (before, rest) = (&sql[..at], &sql[at + 1..]);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let braced = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let plain = rest.split(|c| !is_name(c)).next().unwrap_or_default();
        let is_quoted = |length: usize| {
            before.ends_with('\'') && rest.get(length..).is_some_and(|end| end.starts_with('\''))
        };
        let is_harmless = match braced {
            Some(inner) => inner.ends_with(":percentencode") && is_quoted(inner.len() + 2),
            // Grafana's own, and the argument by which its macro sees whether all are chosen.
            None => {
                plain.starts_with("__")
                    || (before.ends_with(", ") && rest[plain.len()..].starts_with(')'))
            }
        };
        if !is_harmless {
            bare.push(braced.unwrap_or(plain).to_owned());
        }
    }
    bare
}

#[test]
fn a_value_of_a_dashboard_reaches_sql_as_an_encoded_text_only() -> Result<()> {
    let mut count = 0;
    for file in files(&place::root().join("grafana/dashboards"), "json")? {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let mut found = Vec::new();
        statements(&dashboard, &mut found);
        for sql in found.iter().filter(|sql| sql.contains("SELECT")) {
            count += 1;
            let mut bare = bare_variables(sql);
            // The condition that a reader writes himself, who may only read.
            bare.retain(|name| name != "filter:raw");
            ensure!(bare.is_empty(), "{}: {bare:?} in {sql}", file.display());
        }
    }
    ensure!(count > 100, "{count} statements");
    Ok(())
}

#[test]
fn bare_variables_are_found() {
    for (sql, expected) in [
        ("a = '${x:percentencode}' AND $__timeFilter(t)", vec![]),
        ("$__conditionalAll(0, $x)", vec![]),
        ("a = '$x'", vec!["x"]),
        ("a = ${x:percentencode}", vec!["x:percentencode"]),
        ("a IN (${x:csv})", vec!["x:csv"]),
    ] {
        assert_eq!(bare_variables(sql), expected, "{sql}");
    }
}

#[test]
fn no_secret_is_in_the_log_at_its_longest() -> Result<()> {
    const SECRETS: [&str; 3] = ["store-Secret-1", "http-Secret-22", "snmp-Secret-3"];
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, SECRETS[1])?;
    let (port, http) = (place::free_udp_port()?, place::free_tcp_port(0)?);
    let config = folder.path().join("flowsluice.toml");
    let text = format!(
        "[receive]\nworkers = 1\npin = false\n[[receive.listeners]]\nport = {port}\n\
         [decode]\nstate_dir = \"\"\n[log]\nlevel = \"trace\"\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\ntoken_file = {token:?}\n\
         [store]\nurl = \"http://127.0.0.1:9\"\npassword = {:?}\nstop_timeout = \"1s\"\n\
         spool.max_bytes = \"0B\"\n\
         [[enrich.snmp.targets]]\nsource = \"127.0.0.0/8\"\ncommunity = {:?}\n",
        SECRETS[0], SECRETS[2]
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(place::binary()?);
    command.arg("run").arg("--config").arg(&config);
    let log = folder.path().join("log");
    let mut process = Process::spawn("the collector", &mut command, &log)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let url = format!("http://127.0.0.1:{http}/status");
    let bearer = format!("Bearer {}", SECRETS[1]);
    while ureq::get(&url)
        .header("Authorization", &bearer)
        .call()
        .is_err()
    {
        ensure!(process.poll()?.is_none(), "it ended\n{}", process.tail(20));
        ensure!(Instant::now() < deadline, "not ready\n{}", process.tail(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    // ClickHouse was asked at least once by then, and refused.
    while !process.output().contains("127.0.0.1:9") {
        ensure!(
            Instant::now() < deadline,
            "it asks nobody\n{}",
            process.tail(20)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    process.stop()?;
    let said = process.output();
    for secret in SECRETS {
        ensure!(!said.contains(secret), "the log shows {secret}");
    }
    Ok(())
}
