//! `flowsluice doctor` on interfaces that the test makes, in a network namespace of its own.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use flowsluice_tests::place;
use serde_json::Value;

/// A network namespace; dropped, it is gone with all that is in it.
struct Namespace {
    name: String,
    ip: PathBuf,
}

impl Namespace {
    /// None, and why, where namespaces cannot be made.
    fn new() -> Result<Option<Self>> {
        let Some(ip) = place::program_or_skip("ip", "iproute2") else {
            return Ok(None);
        };
        if !rustix::process::geteuid().is_root() {
            place::skip("only root makes network namespaces");
            return Ok(None);
        }
        let suffix = RandomState::new().build_hasher().finish();
        let name = format!("flowsluice-{suffix:016x}");
        let made = Command::new(&ip).args(["netns", "add", &name]).output()?;
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            place::skip(&format!(
                "no network namespace could be made: {}",
                why.trim()
            ));
            return Ok(None);
        }
        Ok(Some(Self { name, ip }))
    }

    /// Runs `ip` in it.
    fn ip(&self, arguments: &str) -> Result<()> {
        let output = Command::new(&self.ip)
            .args(["-netns", &self.name])
            .args(arguments.split(' '))
            .output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {arguments}: {}", why.trim());
        Ok(())
    }

    /// Runs `flowsluice doctor --json` in it, with a sysfs of its own.
    fn doctor(&self, interfaces: &[&str]) -> Result<Examined> {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.name]);
        self.examine(command, interfaces)
    }

    /// The same, with the sysfs of the host.
    fn doctor_with_the_sysfs_of_the_host(&self, interfaces: &[&str]) -> Result<Examined> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        self.examine(command, interfaces)
    }

    fn examine(&self, mut command: Command, interfaces: &[&str]) -> Result<Examined> {
        let command = command.arg(place::binary()?).args(["doctor", "--json"]);
        Examined::of(&command.args(interfaces).output()?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = Command::new(&self.ip)
            .args(["netns", "delete", &self.name])
            .status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("the namespace {} is left", self.name);
        }
    }
}

/// What doctor said.
struct Examined {
    report: Value,
}

impl Examined {
    /// Reads it, and holds the exit status against it.
    fn of(output: &Output) -> Result<Self> {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no JSON; on standard error: {stderr}"))?;
        let expected = i32::from(report["state"] == "problem");
        assert_eq!(output.status.code(), Some(expected), "{report:#}");
        Ok(Self { report })
    }

    fn names(&self) -> Vec<&str> {
        let sections = self.report["sections"].as_array().into_iter().flatten();
        sections
            .filter_map(|section| section["name"].as_str())
            .collect()
    }

    fn section(&self, name: &str) -> &Value {
        let mut sections = self.report["sections"].as_array().into_iter().flatten();
        let found = sections.find(|section| section["name"] == name);
        found.unwrap_or_else(|| panic!("no section {name}: {:#}", self.report))
    }

    fn check(&self, section: &str, subject: &str) -> &Value {
        let mut checks = self.section(section)["checks"]
            .as_array()
            .into_iter()
            .flatten();
        let found = checks.find(|check| check["subject"] == subject);
        found.unwrap_or_else(|| panic!("{section} has no {subject}: {:#}", self.report))
    }
}

/// A kernel built without a kind of interface is nothing that CI could mend, so it does not fail.
fn without(error: &anyhow::Error) {
    eprintln!("skipped: this kernel does not have such interfaces: {error:#}");
}

#[test]
fn a_vlan_is_examined_at_its_parent() -> Result<()> {
    let Some(namespace) = Namespace::new()? else {
        return Ok(());
    };
    namespace.ip("link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1")?;
    if let Err(error) = namespace.ip("link add link v0 name v0.7 type vlan id 7") {
        without(&error);
        return Ok(());
    }
    for name in ["v0", "v1", "v0.7"] {
        namespace.ip(&format!("link set dev {name} up"))?;
    }
    namespace.ip("address add 192.0.2.1/24 dev v0.7")?;
    namespace.ip("address add 2001:db8::1/64 dev v0.7 nodad")?;

    let seen = namespace.doctor(&["v0.7"])?;
    assert_eq!(seen.names(), ["host", "v0.7", "v0"]);
    let vlan = &seen.section("v0.7")["interface"];
    assert_eq!(vlan["kind"]["vlan"]["parent"], "v0");
    let addresses = vlan["addresses"].to_string();
    assert!(addresses.contains("\"192.0.2.1\""), "{addresses}");
    assert!(addresses.contains("\"2001:db8::1\""), "{addresses}");
    let parent = &seen.section("v0")["interface"];
    assert_eq!(parent["kind"], "veth");
    assert_eq!(parent["driver"], "veth");
    assert_eq!(parent["rx_queues"], 2);
    assert_eq!(seen.check("v0", "link")["state"], "ok");
    let kind = seen.check("v0", "kind");
    assert_eq!(
        kind["mend"][0]["set"],
        "verify_checksum = false in [receive.xdp]"
    );
    Ok(())
}

#[test]
fn a_bond_is_examined_at_its_members() -> Result<()> {
    let Some(namespace) = Namespace::new()? else {
        return Ok(());
    };
    if let Err(error) = namespace.ip("link add b0 type bond") {
        without(&error);
        return Ok(());
    }
    for pair in ["0", "1"] {
        namespace.ip(&format!("link add m{pair} type veth peer name p{pair}"))?;
        namespace.ip(&format!("link set dev m{pair} master b0"))?;
        namespace.ip(&format!("link set dev p{pair} up"))?;
    }
    namespace.ip("link set dev b0 up")?;

    let seen = namespace.doctor(&["b0"])?;
    assert_eq!(seen.names(), ["host", "b0", "m0", "m1"]);
    let members = &seen.section("b0")["interface"]["kind"]["bond"]["members"];
    assert_eq!(members, &serde_json::json!(["m0", "m1"]));
    Ok(())
}

#[test]
fn facts_are_those_of_the_namespace_without_its_sysfs_too() -> Result<()> {
    let Some(namespace) = Namespace::new()? else {
        return Ok(());
    };
    if place::program_or_skip("nsenter", "util-linux").is_none() {
        return Ok(());
    }
    // Named like an interface that the host has for certain, to be mistaken for it.
    namespace.ip("link add eth0 numrxqueues 3 numtxqueues 3 type veth peer name v1")?;
    namespace.ip("link set dev eth0 mtu 1300 up")?;
    let own = namespace.doctor(&["eth0", "lo"])?;
    let hosts = namespace.doctor_with_the_sysfs_of_the_host(&["eth0", "lo"])?;
    for name in ["eth0", "lo"] {
        let facts = |seen: &Examined| seen.section(name)["interface"].clone();
        assert_eq!(facts(&own), facts(&hosts));
    }
    let veth = &hosts.section("eth0")["interface"];
    assert_eq!(
        (&veth["mtu"], &veth["rx_queues"]),
        (&1300.into(), &3.into())
    );
    Ok(())
}

#[test]
fn a_link_that_is_down_is_a_problem_with_its_command() -> Result<()> {
    let Some(namespace) = Namespace::new()? else {
        return Ok(());
    };
    namespace.ip("link add v0 type veth peer name v1")?;
    let seen = namespace.doctor(&["v0"])?;
    assert_eq!(seen.report["state"], "problem");
    let link = seen.check("v0", "link");
    assert_eq!(link["state"], "problem");
    assert_eq!(link["mend"][0]["run"], "ip link set dev v0 up");
    // And that command mends it.
    namespace.ip("link set dev v0 up")?;
    namespace.ip("link set dev v1 up")?;
    assert_eq!(
        namespace.doctor(&["v0"])?.check("v0", "link")["state"],
        "ok"
    );
    Ok(())
}

#[test]
fn an_mtu_beyond_one_buffer_is_told_with_the_one_that_fits() -> Result<()> {
    let Some(namespace) = Namespace::new()? else {
        return Ok(());
    };
    namespace.ip("link add v0 mtu 9000 type veth peer name v1 mtu 9000")?;
    let seen = namespace.doctor(&["v0"])?;
    let mtu = seen.check("v0", "MTU");
    assert_eq!(mtu["state"], "problem");
    assert_eq!(mtu["mend"][0]["run"], "ip link set dev v0 mtu 3506");
    namespace.ip("link set dev v0 mtu 3506")?;
    assert_eq!(namespace.doctor(&["v0"])?.check("v0", "MTU")["state"], "ok");
    Ok(())
}

#[test]
fn an_interface_that_does_not_exist_is_a_problem() -> Result<()> {
    let binary = place::binary()?;
    let output = Command::new(binary)
        .args(["doctor", "--json", "flowsluice-none"])
        .output()?;
    let seen = Examined::of(&output)?;
    assert_eq!(seen.check("flowsluice-none", "link")["state"], "problem");
    Ok(())
}

#[test]
fn a_configuration_that_is_wrong_cannot_be_examined() -> Result<()> {
    let output = Command::new(place::binary()?)
        .args(["doctor", "--config", "/does/not/exist.toml"])
        .output()?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("/does/not/exist.toml"), "{said}");
    Ok(())
}
