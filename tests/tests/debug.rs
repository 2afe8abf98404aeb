//! What the collector shows of what it could not decode, and of what exporters' records mean.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use flowsluice_tests::wire::{self, Sender};
use flowsluice_tests::{Collector, Settings, Store, place};
use serde_json::Value;

const WAIT_MAX: Duration = Duration::from_secs(60);

fn bytes(collector: &Collector, path: &str) -> Result<Vec<u8>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(WAIT_MAX))
        .build()
        .into();
    let mut answer = agent.get(format!("{}{path}", collector.url())).call()?;
    Ok(answer.body_mut().read_to_vec()?)
}

#[test]
fn tshark_reads_what_was_dropped_with_its_addresses_and_ports() -> Result<()> {
    let Some(tshark) = place::program_or_skip("tshark", "tshark") else {
        return Ok(());
    };
    let collector = Collector::start(&Settings::new(Store::Null))?;
    let source = IpAddr::from([127, 0, 0, 9]);
    let mut sender = Sender::between(source, collector.target())?;
    sender.send(&wire::netflow5(0, 1))?;
    // An IPFIX message that claims to be longer than it is, and something else.
    sender.send(&wire::ipfix(Some(900), &[(2, vec![1, 2, 3, 4])]))?;
    sender.send(b"\x77\x77 no flow at all")?;
    collector.settle(3)?;
    let file = collector.folder().join("undecodable.pcap");
    std::fs::write(&file, bytes(&collector, "/debug/undecodable.pcap")?)?;
    let output = Command::new(tshark)
        .args(["-n", "-r"])
        .arg(&file)
        .args(["-T", "fields", "-E", "separator=,"])
        .args([
            "-e",
            "ip.src",
            "-e",
            "udp.dstport",
            "-e",
            "udp.length",
            "-e",
            "udp.payload",
        ])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = text.lines().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines.len(), 2, "{text}\n{errors}");
    let port = collector.port();
    assert!(
        lines[0].starts_with(&format!("127.0.0.9,{port},32,000a0384")),
        "{text}"
    );
    assert!(
        lines[1].starts_with(&format!("127.0.0.9,{port},25,7777")),
        "{text}"
    );
    collector.stop()?;
    Ok(())
}

#[test]
fn templates_are_told_with_their_fields_and_use_to_whom_the_page_is_for() -> Result<()> {
    let collector = Collector::start(&Settings::new(Store::Null))?;
    let mut sender = Sender::new(collector.target())?;
    // Template 300: source address, octets, a field of variable length of enterprise 9.
    let mut template = Vec::new();
    for word in [300_u16, 3, 8, 4, 1, 8, 0x8000 | 12_235, 65_535, 0, 9] {
        template.extend(word.to_be_bytes());
    }
    sender.send(&wire::ipfix(None, &[(2, template)]))?;
    collector.settle(1)?;
    let told: Value = serde_json::from_str(&collector.page("/debug/templates")?)?;
    let templates = told["templates"].as_array().context("a list")?;
    assert_eq!(templates.len(), 1, "{told}");
    let one = &templates[0];
    assert_eq!(
        (&one["exporter"], &one["id"]),
        (&"127.0.0.1".into(), &300.into())
    );
    assert_eq!(
        (&one["observation_domain"], &one["kind"]),
        (&77.into(), &"data".into())
    );
    assert!(
        one["sent_ago_s"].as_u64().is_some_and(|age| age < 60),
        "{one}"
    );
    assert_eq!(one["used_ago_s"], Value::Null, "no record came");
    let fields = one["fields"].as_array().context("fields")?;
    assert_eq!(fields[0]["name"], "sourceIPv4Address", "{one}");
    assert_eq!(
        (&fields[1]["id"], &fields[1]["bytes"]),
        (&1.into(), &8.into())
    );
    assert_eq!(
        (&fields[2]["enterprise"], &fields[2]["bytes"]),
        (&9.into(), &Value::Null)
    );
    collector.stop()?;
    Ok(())
}

#[test]
fn both_need_the_pages_password_where_there_is_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("page.password");
    std::fs::write(&password, "a password of this test\n")?;
    let mut settings = Settings::new(Store::Null);
    settings.http = format!("password_file = \"{}\"", password.display());
    let collector = Collector::start(&settings)?;
    for path in ["/debug/undecodable.pcap", "/debug/templates"] {
        let refused = collector.page(path).expect_err("it needs a password");
        assert!(
            format!("{refused:#}").contains("401"),
            "{path}: {refused:#}"
        );
    }
    collector.page("/status")?;
    collector.stop()?;
    Ok(())
}
