use super::*;
use std::net::IpAddr;

use crate::enrich::lpm::Lpm;
use crate::flow::Address;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> (Self, Vec<PathBuf>) {
        let folder = Self(tempfile::tempdir().unwrap());
        let path = |(name, text): &(&str, &str)| {
            let path = folder.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = files.iter().map(path).collect();
        (folder, paths)
    }

    /// Without the folder in it.
    fn told(&self, errors: &FileErrors) -> String {
        let folder = format!("{}/", self.0.path().display());
        errors.to_string().replace(&folder, "")
    }
}

fn load(files: &[(&str, &str)]) -> Networks {
    let (_folder, paths) = Folder::with(files);
    Networks::load(&paths).unwrap()
}

fn fault(files: &[(&str, &str)]) -> String {
    let (folder, paths) = Folder::with(files);
    folder.told(&Networks::load(&paths).unwrap_err())
}

fn label(networks: &Networks, address: &str) -> String {
    let address: IpAddr = address.parse().unwrap();
    let id = Lpm::new(networks.ranges()).get(Address::from(address));
    networks.labels().get(id).to_owned()
}

#[test]
fn the_longest_prefix_counts_in_both_families_and_over_several_files() {
    let networks = load(&[
        (
            "a.csv",
            "prefix,name,role,site,region,tenant\n10.0.0.0/8,corp,,hq,kanto,\n\
             2001:db8::/32,six,,,,\n",
        ),
        (
            "b.csv",
            "site,prefix\ndc1,10.1.0.0/16\n,10.1.2.0/24\nhost,10.1.2.3\n",
        ),
    ]);
    assert_eq!(label(&networks, "10.2.0.1"), "corp\t\thq\tkanto\t");
    assert_eq!(label(&networks, "10.1.255.255"), "\t\tdc1\t\t");
    assert_eq!(label(&networks, "10.1.2.4"), "");
    assert_eq!(label(&networks, "10.1.2.3"), "\t\thost\t\t");
    assert_eq!(label(&networks, "2001:db8:ffff::1"), "six\t\t\t\t");
    assert_eq!(label(&networks, "11.0.0.0"), "");
    let entries: Vec<_> = networks.read().iter().map(|file| file.entries).collect();
    assert_eq!(entries, [2, 3]);
}

#[test]
fn json_is_an_array_of_objects_or_an_object_of_prefixes() {
    let array = r#" [ {"prefix": "10.0.0.0/8", "name": "corp", "site": null},
        {"name": "Z\u00fcrich", "prefix": "2001:db8::/32"} ] "#;
    let object = r#"{"10.0.0.0/8": {"name": "corp"}, "2001:db8::/32": {"name": "Zürich"}}"#;
    for (name, text) in [
        ("n.json", array),
        ("n.JSON", object),
        ("n", array),
        ("n.txt", object),
    ] {
        let networks = load(&[(name, text)]);
        assert_eq!(label(&networks, "10.0.0.1"), "corp\t\t\t\t");
        assert_eq!(label(&networks, "2001:db8::"), "Z\u{fc}rich\t\t\t\t");
        assert_eq!(networks.read()[0].entries, 2);
    }
    for text in ["[]", "{ }", " [\n] "] {
        assert!(load(&[("n.json", text)]).ranges().is_empty());
    }
}

#[test]
fn a_prefix_twice_is_told_with_both_places() {
    let two = [
        ("a.csv", "prefix\n10.0.0.0/8\n"),
        ("b.json", "[\n{\"prefix\": \"10.1.2.3/8\"}]"),
    ];
    let (folder, paths) = Folder::with(&two);
    let first = format!("{}:2", paths[0].display());
    let errors = Networks::load(&paths).unwrap_err();
    let expected = format!("10.0.0.0/8 is there twice, first in {first}");
    assert_eq!(errors.first()[0].what, expected);
    assert_eq!(errors.first()[0].line, Some(2));
    assert_eq!(
        folder.told(&errors),
        "b.json:2: 10.0.0.0/8 is there twice, first in a.csv:2; leave one of them out"
    );
    let text = "prefix\n::ffff:10.0.0.0/104\n10.0.0.0/8\n";
    assert!(fault(&[("a.csv", text)]).starts_with("a.csv:3: 10.0.0.0/8 is there twice"));
}

#[test]
fn every_bad_entry_of_every_file_is_told() {
    let csv = "prefix,name\n10.0.0/8,a\n10.0.0.0/8,b\n10.0.0.0/40,c\n";
    let json = "[{\"prefix\": \"10.0.0.0/8\"},\n{\"prefix\": \"x\"},\n{\"nmae\": \"y\"},\n\
                {\"name\": \"y\"},\n{\"prefix\": \"11.0.0.0/8\", \"site\": 4},\n[],\n\
                {\"prefix\": \"12.0.0.0/8\", \"site\": \"a\\tb\"}]";
    let told = fault(&[("a.csv", csv), ("b.json", json), ("c.csv", "name\n")]);
    let starts = [
        "a.csv:2: prefix: found \"10.0.0/8\"; allowed: an address or a prefix",
        "a.csv:4: prefix: found \"10.0.0.0/40\"; allowed: an address or a prefix",
        "b.json:1: 10.0.0.0/8 is there twice, first in a.csv:3; leave one of them out",
        "b.json:2: prefix: found \"x\"; allowed: an address or a prefix",
        "b.json:3: unknown key \"nmae\"; allowed: an object with prefix, name, role, site, region, \
         tenant",
        "b.json:4: prefix is missing; allowed: an object with prefix",
        "b.json:5: site: found \"4\"; allowed: a text in quotes",
        "b.json:6: found \"[]\"; allowed: an object with prefix",
        "b.json:7: site: \"a\\tb\" has control characters",
        "c.csv:1: column 'prefix' is missing",
    ];
    assert_eq!(told.lines().count(), starts.len(), "{told}");
    for (line, start) in told.lines().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn broken_json_is_told_with_its_line() {
    let told = |text: &str| fault(&[("n.json", text)]);
    let good = "[\n{\"prefix\": \"10.0.0.0/8\"}";
    let grammar = "write it as JSON (RFC 8259)";
    assert_eq!(
        told(good),
        "n.json:2: ends too early; ',' or ']' belongs here"
    );
    assert_eq!(
        told(&format!("{good}\n;")),
        "n.json:3: found ';'; ',' or ']' belongs here"
    );
    assert_eq!(
        told(""),
        "n.json:1: ends too early; '[' or '{' belongs here"
    );
    assert_eq!(
        told("[] x"),
        "n.json:1: found 'x'; the file ends here; take it out"
    );
    assert_eq!(told("[\n"), "n.json:2: ends too early; close what is open");
    assert_eq!(
        told("[\n{\"prefix\":\n10.0.0.0/8}]"),
        format!("n.json:3: expected `,` or `}}`; {grammar}")
    );
    let nested = told(&format!("[{}", "[".repeat(100_000)));
    assert_eq!(
        nested,
        format!("n.json:1: recursion limit exceeded; {grammar}")
    );
}

#[test]
fn every_cut_of_a_file_is_an_error_or_fewer_networks_but_no_panic() {
    let csv = "prefix,name\n10.0.0.0/8,\"a, b\"\n192.0.2.0/24,c\n";
    let json = r#"{"10.0.0.0/8": {"name": "corp"}, "2001:db8::/32": {"name": "Zürich"}}"#;
    for (name, text) in [("n.csv", csv), ("n.json", json)] {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let (_folder, paths) = Folder::with(&[(name, &text[..end])]);
            let loaded = Networks::load(&paths);
            assert!(name == "n.csv" || loaded.is_err(), "{}", &text[..end]);
        }
    }
}
