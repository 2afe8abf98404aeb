//! `flowsluice doctor` on interfaces that the test makes, in a network namespace of its own.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use flowsluice_tests::namespace::Namespace;
use flowsluice_tests::place;
use serde_json::Value;

/// Runs one command of `ip` in it.
fn ip(namespace: &Namespace, arguments: &str) -> Result<()> {
    namespace.ip(&format!("{arguments}\n"))
}

/// Lays a cable between v0 and v1, whose frames are longer than a buffer.
fn link_jumbo(namespace: &Namespace) -> Result<()> {
    ip(
        namespace,
        "link add v0 mtu 9000 type veth peer name v1 mtu 9000",
    )
}

/// Runs `flowsluice doctor --json` in it, with a sysfs of its own.
fn doctor(namespace: &Namespace, interfaces: &[&str]) -> Result<Examined> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace.name()]);
    examine(command, interfaces)
}

/// The same, with the sysfs of the host.
fn doctor_with_the_sysfs_of_the_host(
    namespace: &Namespace,
    interfaces: &[&str],
) -> Result<Examined> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", namespace.name()));
    examine(command, interfaces)
}

fn examine(mut command: Command, interfaces: &[&str]) -> Result<Examined> {
    let command = command.arg(place::binary()?).args(["doctor", "--json"]);
    Examined::of(&command.args(interfaces).output()?)
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

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn a_vlan_is_examined_at_its_parent() -> Result<()> {
    let Some(namespace) = Namespace::new_or_skip("doctor") else {
        return Ok(());
    };
    ip(
        &namespace,
        "link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1",
    )?;
    ip(&namespace, "link add link v0 name v0.7 type vlan id 7")?;
    for name in ["v0", "v1", "v0.7"] {
        ip(&namespace, &format!("link set dev {name} up"))?;
    }
    ip(&namespace, "address add 192.0.2.1/24 dev v0.7")?;
    ip(&namespace, "address add 2001:db8::1/64 dev v0.7 nodad")?;

    let seen = doctor(&namespace, &["v0.7"])?;
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
#[ignore = "needs a kernel with CONFIG_BONDING"]
fn a_bond_is_examined_at_its_members() -> Result<()> {
    let Some(namespace) = Namespace::new_or_skip("doctor") else {
        return Ok(());
    };
    ip(&namespace, "link add b0 type bond")?;
    for pair in ["0", "1"] {
        ip(
            &namespace,
            &format!("link add m{pair} type veth peer name p{pair}"),
        )?;
        ip(&namespace, &format!("link set dev m{pair} master b0"))?;
        ip(&namespace, &format!("link set dev p{pair} up"))?;
    }
    ip(&namespace, "link set dev b0 up")?;

    let seen = doctor(&namespace, &["b0"])?;
    assert_eq!(seen.names(), ["host", "b0", "m0", "m1"]);
    let members = &seen.section("b0")["interface"]["kind"]["bond"]["members"];
    assert_eq!(members, &serde_json::json!(["m0", "m1"]));
    Ok(())
}

#[test]
fn facts_are_those_of_the_namespace_without_its_sysfs_too() -> Result<()> {
    let Some(namespace) = Namespace::new_or_skip("doctor") else {
        return Ok(());
    };
    if place::program_or_skip("nsenter", "util-linux").is_none() {
        return Ok(());
    }
    // Named like an interface that the host has for certain, to be mistaken for it.
    ip(
        &namespace,
        "link add eth0 numrxqueues 3 numtxqueues 3 type veth peer name v1",
    )?;
    ip(&namespace, "link set dev eth0 mtu 1300 up")?;
    let own = doctor(&namespace, &["eth0", "lo"])?;
    let hosts = doctor_with_the_sysfs_of_the_host(&namespace, &["eth0", "lo"])?;
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
    let Some(namespace) = Namespace::new_or_skip("doctor") else {
        return Ok(());
    };
    ip(&namespace, "link add v0 type veth peer name v1")?;
    let seen = doctor(&namespace, &["v0"])?;
    assert_eq!(seen.report["state"], "problem");
    let link = seen.check("v0", "link");
    assert_eq!(link["state"], "problem");
    assert_eq!(link["mend"][0]["run"], "ip link set dev v0 up");
    // And that command mends it.
    ip(&namespace, "link set dev v0 up")?;
    ip(&namespace, "link set dev v1 up")?;
    assert_eq!(
        doctor(&namespace, &["v0"])?.check("v0", "link")["state"],
        "ok"
    );
    Ok(())
}

#[test]
fn an_mtu_beyond_one_buffer_is_told_with_the_one_that_fits() -> Result<()> {
    let Some(namespace) = Namespace::new_or_skip("doctor") else {
        return Ok(());
    };
    link_jumbo(&namespace)?;
    let seen = doctor(&namespace, &["v0"])?;
    let mtu = seen.check("v0", "MTU");
    assert_eq!(mtu["state"], "problem");
    assert_eq!(mtu["mend"][0]["run"], "ip link set dev v0 mtu 3506");
    ip(&namespace, "link set dev v0 mtu 3506")?;
    assert_eq!(
        doctor(&namespace, &["v0"])?.check("v0", "MTU")["state"],
        "ok"
    );
    Ok(())
}

#[test]
fn what_is_fixed_is_shown_first_done_once_and_undone() -> Result<()> {
    let Some(namespace) = Namespace::new_or_skip("doctor") else {
        return Ok(());
    };
    link_jumbo(&namespace)?;
    ip(&namespace, "link set dev v1 up")?;
    let folder = tempfile::tempdir()?;
    let undo_file = folder.path().join("undo.json");
    let run = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name()]);
        command.arg(place::binary()?).arg("doctor").args(arguments);
        let output = command.arg("--undo-file").arg(&undo_file).output()?;
        let said = flowsluice_tests::program::said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        Ok(said)
    };
    let [up, mtu] = ["ip link set dev v0 up", "ip link set dev v0 mtu 3506"];
    let facts = || -> Result<Value> {
        let seen = doctor(&namespace, &["v0"])?;
        let interface = &seen.section("v0")["interface"];
        Ok(serde_json::json!([interface["mtu"], interface["is_up"]]))
    };
    let before = facts()?;
    let shown = run(&["--fix", "--dry-run", "v0"])?;
    assert!(shown.contains(up) && shown.contains(mtu), "{shown}");
    assert_eq!(facts()?, before, "nothing is done");
    assert!(!undo_file.exists());
    let done = run(&["--fix", "v0"])?;
    assert!(done.contains(up) && done.contains(mtu), "{done}");
    assert_eq!(facts()?, serde_json::json!([3506, true]));
    let again = run(&["--fix", "v0"])?;
    assert!(again.contains("# nothing to change"), "{again}");
    let undone = run(&["--undo"])?;
    assert!(undone.contains("ip link set dev v0 mtu 9000"), "{undone}");
    assert_eq!(facts()?, before);
    assert!(!undo_file.exists());
    assert!(run(&["--undo"])?.contains("# nothing was changed"));
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
