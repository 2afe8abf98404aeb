use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::config;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Takes its place at once, as operators are told to do it.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.path("new"), self.path(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }

    fn list(&self, name: &str, text: &str) -> config::ThreatList {
        config::ThreatList {
            file: self.write(name, text),
            tag: name.into(),
        }
    }
}

/// Network and tags of 198.51.100.`last`.
fn says(parts: &mut Parts, last: u8) -> (String, String) {
    let sites = parts.tables(&Learned::default()).sites;
    let mut ids = [0];
    sites.find(&[Ipv4Addr::new(198, 51, 100, last).into()], &mut ids);
    (sites.network(ids[0]).into(), sites.threats(ids[0]).into())
}

fn pair(network: &str, threats: &str) -> (String, String) {
    (network.into(), threats.into())
}

/// A look long after the files were written, and another: what is gone counts when two looks agree.
fn look(parts: &mut Parts) -> bool {
    let later = |s| SystemTime::now() + Duration::from_secs(s);
    let first = parts.look(later(60));
    parts.look(later(120)) || first
}

#[test]
fn what_is_bad_in_one_file_does_not_keep_the_others_from_being_renewed() {
    let folder = Folder::new();
    let config = Enrich {
        networks: vec![folder.write("n.csv", "prefix,name\n198.51.100.0/24,old\n")],
        threats: vec![
            folder.list("first", "198.51.100.1\n"),
            folder.list("second", "198.51.100.1\n"),
        ],
        ..Enrich::default()
    };
    let mut parts = Parts::new(&config);
    assert!(parts.load().is_empty());
    assert_eq!(says(&mut parts, 1), pair("old\t\t\t\t", "first,second"));
    assert!(!look(&mut parts), "nothing has changed");

    folder.write(
        "n.csv",
        "prefix,name\n198.51.100.0/24,new\n198.51.100.0/24,twice\n",
    );
    folder.write("first", "198.51.100.2\n");
    std::fs::remove_file(folder.path("second")).unwrap();
    look(&mut parts);
    assert_eq!(says(&mut parts, 1), pair("old\t\t\t\t", "second"));
    assert_eq!(says(&mut parts, 2), pair("old\t\t\t\t", "first"));
    let counts = parts.counts();
    assert!(counts.of(Part::Networks).is_faulty && counts.of(Part::Threats).is_faulty);
    assert!(!counts.of(Part::Geo).is_faulty);

    folder.write("n.csv", "prefix,name\n198.51.100.0/24,new\n");
    folder.write("second", "198.51.100.3\n");
    assert!(look(&mut parts));
    assert_eq!(says(&mut parts, 1), pair("new\t\t\t\t", ""));
    assert_eq!(says(&mut parts, 3), pair("new\t\t\t\t", "second"));
    assert!(!counts.of(Part::Networks).is_faulty && !counts.of(Part::Threats).is_faulty);
}

#[test]
fn faults_at_the_start_are_told_part_by_part() {
    let folder = Folder::new();
    let config = Enrich {
        networks: vec![folder.path("absent.csv")],
        interfaces: vec![folder.write("i.csv", "exporter,if_index\nrouter,1\n")],
        threats: vec![folder.list("botnet", "198.51.100.1\n")],
        ..Enrich::default()
    };
    let mut parts = Parts::new(&config);
    let faults = parts.load();
    let named: Vec<_> = faults.iter().map(|(part, _)| *part).collect();
    assert_eq!(named, [Part::Networks, Part::Interfaces]);
    assert!(faults[0].1.contains("absent.csv"), "{}", faults[0].1);
    assert!(faults[1].1.contains("i.csv:2"), "{}", faults[1].1);
    assert_eq!(says(&mut parts, 1), pair("", "botnet"));
}

#[test]
fn another_configuration_renews_what_it_changes_and_what_was_refused() {
    let folder = Folder::new();
    let before = Enrich {
        networks: vec![folder.write("a.csv", "prefix,name\n198.51.100.0/24,a\n")],
        applications: vec![folder.path("absent.csv")],
        ..Enrich::default()
    };
    let mut parts = Parts::new(&before);
    assert_eq!(parts.load().len(), 1);
    let loaded = |parts: &Parts| Part::ALL.map(|part| parts.counts().of(part).loaded);
    let first = loaded(&parts);
    let after = Enrich {
        networks: vec![folder.write("b.csv", "prefix,name\n198.51.100.0/24,b\n")],
        ..before.clone()
    };
    folder.write("absent.csv", "address,application\n198.51.100.1,kibana\n");
    assert!(parts.reconfigure(&after));
    assert_eq!(says(&mut parts, 1), pair("b\t\t\t\t", ""));
    let mut expected = first;
    expected[Part::Networks as usize] += 1;
    expected[Part::Applications as usize] += 1;
    assert_eq!(loaded(&parts), expected);
    assert!(!parts.reconfigure(&after), "it is the same");
}

#[test]
fn tables_that_take_work_are_made_again_only_when_something_is_another() {
    let mut parts = Parts::new(&Enrich::default());
    parts.load();
    let learned = Learned::default();
    let first = parts.tables(&learned);
    let second = parts.tables(&learned);
    assert!(Arc::ptr_eq(&first.interfaces, &second.interfaces));
    assert!(Arc::ptr_eq(&first.applications, &second.applications));
    let other = Learned {
        names: Arc::default(),
        ..learned
    };
    let third = parts.tables(&other);
    assert!(!Arc::ptr_eq(&first.interfaces, &third.interfaces));
}

#[test]
fn a_part_is_named_when_a_file_of_it_is() {
    let config = Enrich {
        mac_vendors: Path::new("/oui.csv").into(),
        ..Enrich::default()
    };
    let named = Part::ALL.into_iter().filter(|part| part.is_named(&config));
    assert_eq!(named.collect::<Vec<_>>(), [Part::MacVendors]);
}
