use std::fs;
use std::path::PathBuf;

use super::*;

fn load(rules: &str, ids: &str) -> Result<Told, String> {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| -> Vec<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        vec![path]
    };
    let config = Enrich {
        applications: written("applications.csv", rules),
        application_ids: written("ids.csv", ids),
        ..Enrich::default()
    };
    Told::load(&config).map_err(|errors| {
        let folder = format!("{}/", folder.path().display());
        errors.to_string().replace(&folder, "")
    })
}

const RULES: &str = "address,ports,protocol,application\n";
const IDS: &str = "type,id,application\n";

fn fault_of_rule(line: &str) -> String {
    load(&format!("{RULES}192.0.2.1,80,tcp,a\n{line}\n"), IDS).unwrap_err()
}

fn fault_of_id(line: &str) -> String {
    load(RULES, &format!("{IDS}{line}\n")).unwrap_err()
}

#[test]
fn a_wrong_line_is_told_with_its_file_and_what_is_allowed() {
    for (line, expected) in [
        (
            "192.0.2.256,80,tcp,a",
            "applications.csv:3: address: found \"192.0.2.256\"",
        ),
        (",80,tcp,a", "applications.csv:3: address is empty"),
        (
            "192.0.2.1,http,tcp,a",
            "ports: found \"http\"; allowed: a port such as 443",
        ),
        ("192.0.2.1,90-80,tcp,a", "ports: found \"90-80\""),
        ("192.0.2.1,65536,tcp,a", "ports: found \"65536\""),
        (
            "192.0.2.1,80,tpc,a",
            "protocol: found \"tpc\"; allowed: tcp, udp",
        ),
        ("192.0.2.1,80,256,a", "protocol: found \"256\""),
        (
            "192.0.2.1,80,gre,a",
            "ports: protocol \"gre\" has none; leave ports empty",
        ),
        ("192.0.2.1,80,tcp,", "application is empty"),
    ] {
        let found = fault_of_rule(line);
        assert!(found.contains(expected), "{line}: {found}");
    }
    for (line, expected) in [
        (
            "cisco,1,a",
            "ids.csv:2: type: found \"cisco\"; allowed: cisco_nbar2, fortinet",
        ),
        (
            "fortinet,x,a",
            "id: found \"x\"; allowed: a number such as 16001",
        ),
        ("fortinet,,a", "id is empty"),
        ("fortinet,-1,a", "id: found"),
        ("fortinet,256:1,a", "id: found"),
        ("fortinet,13:1:1,a", "id: found"),
        ("fortinet,20:1:1:1,a", "id: found"),
        ("fortinet,20:4294967296:1,a", "id: found"),
        ("fortinet,20:1:4294967296,a", "id: found"),
        ("cisco_nbar2,13:72057594037927936,a", "id: found"),
        ("cisco_nbar2,72057594037927936,a", "id: found"),
        ("cisco_nbar2,1,", "application is empty"),
    ] {
        let found = fault_of_id(line);
        assert!(found.contains(expected), "{line}: {found}");
    }
}

#[test]
fn faults_of_all_files_are_told_at_once() {
    let found = load(&format!("{RULES}x,,,a\n"), &format!("{IDS}fortinet,y,a\n")).unwrap_err();
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn lines_beyond_the_most_are_refused() {
    let line = "192.0.2.1,80,tcp,a\n";
    let most = format!("{RULES}{}", line.repeat(LINES_MAX));
    assert!(load(&most, IDS).is_ok());
    let found = load(&most, &format!("{IDS}fortinet,1,a\n")).unwrap_err();
    assert!(
        found.contains("ids.csv:2: there are more than 262144 lines"),
        "{found}"
    );
}

fn keys_of(line: &str) -> Vec<u64> {
    let (kind, id) = line.split_once(',').unwrap();
    let (_, mut keys) = keys(kind, id).unwrap();
    keys.sort_unstable();
    keys
}

#[test]
fn an_id_has_the_keys_of_all_that_it_may_look_like() {
    let engine_20 = |enterprise: u64, bytes: u32, selector: u64| {
        20 << 56 | enterprise << (8 * bytes) | selector
    };
    assert_eq!(keys_of("cisco_nbar2,496"), [496]);
    assert_eq!(keys_of("cisco_nbar2,13:496"), [13 << 56 | 496]);
    assert_eq!(keys_of("fortinet,20:5"), [20 << 56 | 5]);
    let of = |enterprise| [2, 3, 4].map(|bytes| engine_20(enterprise, bytes, 16_001));
    assert_eq!(
        keys_of("fortinet,16001"),
        [&[16_001], &of(12_356)[..]].concat()
    );
    assert_eq!(
        keys_of("velocloud,16001"),
        [&[16_001], &of(45_346)[..]].concat()
    );
    assert_eq!(keys_of("velocloud,20:12356:16001"), of(12_356));
    assert_eq!(keys_of("fortinet,7").len(), 5);
    assert_eq!(keys_of("fortinet,4294967295").len(), 2);
    assert_eq!(keys_of("fortinet,4294967296").len(), 1);
}

#[test]
fn equal_names_have_one_id_and_files_without_lines_tell_nothing() {
    let told = load(
        &format!("{RULES}192.0.2.1,80,tcp,web\n192.0.2.1,443,,web\n"),
        &format!("{IDS}fortinet,1,web\nfortinet,2,mail\n"),
    )
    .unwrap();
    let labels: Vec<&str> = told.labels.iter().map(|label| &**label).collect();
    assert_eq!(labels, ["web", "mail"]);
    let told = load(RULES, IDS).unwrap();
    assert!(told.labels.is_empty() && told.ids.is_empty());
}
