//! What is said of interfaces is put together, classified and found.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::config::{Boundary, InterfaceRule};
use crate::enrich::snmp::Told;
use crate::flow::Address;
use crate::names::{Fact, NameBook, Subject};

const ROUTER: Address = Address::from_v4([192, 0, 2, 1]);
const SWITCH: Address = Address::from_v4([192, 0, 2, 2]);

fn interface(name: &str, alias: &str, speed: u64) -> Interface {
    Interface {
        name: name.into(),
        alias: alias.into(),
        speed,
    }
}

fn polled(exporter: Address, interfaces: Vec<(u32, Interface)>) -> Polled {
    let mut polled = Polled::default();
    let told = Told {
        system_name: "router".into(),
        interfaces: interfaces.into(),
    };
    polled.set(exporter, Arc::new(told));
    polled
}

/// Names out of options, told in a domain: exporter, domain, ifIndex, name, description.
fn options(told: &[(Address, u32, u32, &str, &str)]) -> Arc<Names> {
    let book = NameBook::default();
    for (exporter, observation_domain, if_index, name, description) in told {
        // Other things have numbers as well.
        for subject in [Subject::Vrf(*if_index + 100), Subject::Interface(*if_index)] {
            let fact = Fact {
                exporter: *exporter,
                observation_domain: *observation_domain,
                seen_s: 1_800_000_000,
                subject,
                name: Text::of(name.as_bytes()),
                description: Text::of(description.as_bytes()),
            };
            assert!(book.offer(fact));
        }
        book.take_in(|_| {});
    }
    book.snapshot()
}

/// The interfaces of a file with these lines.
fn file(lines: &str) -> Result<StaticInterfaces, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("interfaces.csv");
    std::fs::write(&path, lines).unwrap();
    let loaded = StaticInterfaces::load(std::slice::from_ref(&path));
    let shown = format!("{}/", folder.path().display());
    loaded.map_err(|error| error.to_string().replace(&shown, ""))
}

fn rules(rules: &[InterfaceRule]) -> InterfaceRules {
    InterfaceRules::new(rules).unwrap()
}

fn label(interfaces: &Interfaces, exporter: Address, if_index: u32) -> &str {
    let exporter = interfaces.exporter(exporter);
    interfaces.label(exporter.map_or(0, |exporter| exporter.get(if_index)))
}

#[test]
fn of_each_field_files_count_before_snmp_and_snmp_before_options() {
    let files = file(
        "exporter,if_index,name,alias,speed\n\
         192.0.2.1,1,,of a file,\n\
         192.0.2.1,2,file2,,7\n192.0.2.1,0,none,,\n",
    )
    .unwrap();
    let polled = polled(
        ROUTER,
        vec![
            (1, interface("snmp1", "snmp", 1_000_000_000)),
            (2, interface("snmp2", "snmp", 9)),
            (3, interface("", "snmp", 0)),
        ],
    );
    let names = options(&[
        (ROUTER, 0, 1, "options1", "options"),
        (ROUTER, 0, 3, "options3", "options"),
        (ROUTER, 0, 0, "options0", ""),
        (SWITCH, 0, 0, "options0", ""),
        (ROUTER, 9, 4, "in domain 9", "nine"),
        (ROUTER, 2, 4, "in domain 2", ""),
        (SWITCH, 0, 1, "other", ""),
    ]);
    let all = Interfaces::new(&files, &polled, &names, &InterfaceRules::default());
    let of_router = |if_index| label(&all, ROUTER, if_index);
    assert_eq!(of_router(0), "none\t\t\t\t\t");
    assert_eq!(label(&all, SWITCH, 0), "");
    assert_eq!(of_router(1), "snmp1\tof a file\t1000000000\t\t\t");
    assert_eq!(of_router(2), "file2\tsnmp\t7\t\t\t");
    assert_eq!(of_router(3), "options3\tsnmp\t\t\t\t");
    assert_eq!(of_router(4), "in domain 2\tnine\t\t\t\t");
    assert_eq!(label(&all, SWITCH, 1), "other\t\t\t\t\t");
    assert_eq!(all.len(), 6);
    assert!(all.memory_bytes() < 10_000, "{}", all.memory_bytes());
}

#[test]
fn what_is_not_known_has_the_id_0_and_no_label() {
    let said = vec![
        (0, interface("none", "", 1)),
        (5, interface("", "", 0)),
        (6, interface("six", "", 0)),
    ];
    let names = Names::default();
    let rules = rules(&[InterfaceRule {
        boundary: Boundary::Internal,
        ..InterfaceRule::default()
    }]);
    let all = Interfaces::new(
        &StaticInterfaces::default(),
        &polled(ROUTER, said),
        &names,
        &rules,
    );
    let router = all.exporter(ROUTER).unwrap();
    for if_index in [0, 1, 4, 5, 7, 1_000_000, u32::MAX] {
        assert_eq!(router.get(if_index), 0, "{if_index}");
    }
    assert_eq!(all.label(router.get(6)), "six\t\t\tinternal\t\t");
    for id in [0, 2, u32::MAX] {
        assert_eq!(all.label(id), "");
    }
    assert!(all.exporter(SWITCH).is_none());
    assert!(Interfaces::default().is_empty());
    assert_eq!(Interfaces::default().label(0), "");
}

#[test]
fn indexes_far_apart_are_found_as_those_close_together_and_cost_no_more() {
    let indexes = (1..100)
        .chain((500..900).step_by(3))
        .chain((0..2000).map(|i| 0x4000_0000 + i * 0x8000))
        .chain([u32::MAX]);
    let indexes: Vec<u32> = indexes.collect();
    let named = |i: &u32| (*i, interface(&format!("if{i}"), "", 0));
    let said: Vec<_> = indexes.iter().map(named).collect();
    let all = Interfaces::new(
        &StaticInterfaces::default(),
        &polled(ROUTER, said),
        &Names::default(),
        &InterfaceRules::default(),
    );
    for i in &indexes {
        assert_eq!(label(&all, ROUTER, *i), format!("if{i}\t\t\t\t\t"));
    }
    assert_eq!(label(&all, ROUTER, 501), "");
    assert_eq!(label(&all, ROUTER, 0x4000_0001), "");
    let bytes = all.memory_bytes() / indexes.len();
    assert!(bytes < 80, "{bytes} bytes an interface");
}

#[test]
fn more_interfaces_than_there_is_room_for_are_left_out_and_counted() {
    let mut polled = Polled::default();
    for host in 0..17_u8 {
        let interfaces = (1..=8192).map(|i| (i, interface("x", "", 0))).collect();
        let told = Told {
            system_name: "".into(),
            interfaces,
        };
        let address = Ipv4Addr::new(192, 0, 2, host);
        polled.set(address.into(), Arc::new(told));
    }
    let all = Interfaces::new(
        &StaticInterfaces::default(),
        &polled,
        &Names::default(),
        &InterfaceRules::default(),
    );
    assert_eq!(all.len(), INTERFACES_MAX);
    assert_eq!(all.left_out(), 17 * 8192 - INTERFACES_MAX);
    assert_eq!(label(&all, SWITCH, 8192), "x\t\t\t\t\t");
}

#[test]
fn the_first_rule_that_fits_counts_and_groups_are_those_of_the_alias() {
    let rule = |name: &str, alias: &str| InterfaceRule {
        name: name.into(),
        alias: alias.into(),
        ..InterfaceRule::default()
    };
    let rules = rules(&[
        InterfaceRule {
            boundary: Boundary::External,
            provider: "$1".into(),
            connectivity: "transit".into(),
            ..rule("", "^Transit: (\\S+)")
        },
        InterfaceRule {
            boundary: Boundary::External,
            provider: "${1}-${kind}".into(),
            connectivity: "$kind".into(),
            ..rule("^(xe)-", "^(?P<who>\\w+) (?P<kind>peering)")
        },
        InterfaceRule {
            provider: "$1".into(),
            ..rule("^(ae)[0-9]+$", "^LAG")
        },
        InterfaceRule {
            speed_min: 10_000_000_000,
            speed_max: 40_000_000_000,
            boundary: Boundary::Internal,
            connectivity: "core\t\u{7}link".into(),
            ..InterfaceRule::default()
        },
    ]);
    let columns = |name: &str, alias: &str, speed: u64| {
        let class = rules.classify(name, alias, speed);
        class.columns().join("|")
    };
    assert_eq!(
        columns("xe-0", "Transit: Example 10G", 0),
        "external|Example|transit"
    );
    assert_eq!(
        columns("xe-0", "IX peering", 0),
        "external|IX-peering|peering"
    );
    assert_eq!(columns("ge-0", "IX peering", 0), "||");
    assert_eq!(columns("ae7", "LAG", 0), "|ae|", "the alias has no group");
    assert_eq!(columns("ge-0", "", 10_000_000_000), "internal||corelink");
    assert_eq!(columns("ge-0", "", 40_000_000_001), "||");
    assert_eq!(columns("ge-0", "", 9_999_999_999), "||");
    let long = format!("Transit: {}", "x".repeat(200));
    assert_eq!(columns("", &long, 0).len(), "external||transit".len() + 127);
    let error = InterfaceRules::new(&[rule("", ""), rule("", "(")]).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("enrich.interface_rules[1].alias: "),
        "{error}"
    );
}

#[test]
fn columns_of_a_file_come_in_any_order_and_texts_in_quotes() {
    let files = file(
        "\u{feff}speed,alias,if_index,exporter\r\n\
         # a remark\r\n\
         \r\n\
         1000000000,\"to Z\u{fc}rich, 10G\",7,2001:db8::1\r\n\
         , ,8, 192.0.2.1\r\n",
    )
    .unwrap();
    assert_eq!(files.len(), 2);
    let all: Vec<_> = files.iter().collect();
    let v6: std::net::IpAddr = "2001:db8::1".parse().unwrap();
    let first = interface("", "to Z\u{fc}rich, 10G", 1_000_000_000);
    assert_eq!(all[0], (v6.into(), 7, &first));
    assert_eq!(all[1], (ROUTER, 8, &Interface::default()));
    assert!(file("").unwrap().is_empty());
}

#[test]
fn a_line_that_makes_no_sense_is_named_with_what_is_allowed() {
    let bad = [
        (
            "exporter,name\n",
            "interfaces.csv:1: the first line has to name",
        ),
        (
            "exporter,if_index,vlan\n",
            ":1: found the column \"vlan\"; allowed",
        ),
        (
            "exporter,if_index,name,name\n",
            ":1: found the column \"name\"",
        ),
        (
            "exporter,if_index\n\n# x\nrouter,1\n",
            ":4: exporter: found \"router\"",
        ),
        (
            "exporter,if_index\n192.0.2.1,-1\n",
            ":2: if_index: found \"-1\"",
        ),
        (
            "exporter,if_index\n192.0.2.1,4294967296\n",
            ":2: if_index: found",
        ),
        (
            "exporter,if_index\n192.0.2.1\n",
            ":2: found 1 fields, the first line has 2",
        ),
        (
            "exporter,if_index,alias\n192.0.2.1,1,a,b\n",
            ":2: found 4 fields, the first line has 3",
        ),
        (
            "exporter,if_index,speed\n192.0.2.1,1,10G\n",
            ":2: speed: found \"10G\"; allowed: bit/s",
        ),
        (
            "exporter,if_index,name\n192.0.2.1,1,a\tb\n",
            ":2: name: found \"a\\tb\"; allowed: 127 bytes",
        ),
        (
            "exporter,if_index\n192.0.2.1,1\n\n::ffff:192.0.2.1,1\n",
            ":4: interface 1 of 192.0.2.1 stands in interfaces.csv:2 already",
        ),
        ("exporter,if_index\n192.0.2.1,\u{1f}\n", ":2: if_index"),
    ];
    for (text, why) in bad {
        let error = file(text).unwrap_err();
        assert!(error.contains(why), "{error}\n{why}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes.csv");
    std::fs::write(&path, b"exporter,if_index,name\n192.0.2.1,1,\xff\n").unwrap();
    let error = StaticInterfaces::load(&[path]).unwrap_err().to_string();
    assert!(error.contains("bytes.csv:2: "), "{error}");
    let none = folder.path().join("none.csv");
    let error = StaticInterfaces::load(&[none]).unwrap_err().to_string();
    assert!(error.contains("none.csv: No such file"), "{error}");
}
