use super::*;
use std::net::IpAddr;

use crate::enrich::lpm::Lpm;

struct Folder {
    folder: tempfile::TempDir,
    config: config::Enrich,
    threats: Threats,
}

impl Folder {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: config::Enrich::default(),
            threats: Threats::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn list(&mut self, tag: &str, text: impl AsRef<[u8]>) {
        let file = self.path(tag);
        std::fs::write(&file, text).unwrap();
        let tag = tag.into();
        self.config.threats.push(config::ThreatList { file, tag });
    }

    fn whitelist(&mut self, name: &str, text: &str) {
        let file = self.path(name);
        std::fs::write(&file, text).unwrap();
        self.config.threats_whitelist.push(file);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load(&mut self) -> Loaded {
        let mut loaded = Threats::load(&self.config, &self.threats);
        self.threats = std::mem::take(&mut loaded.threats);
        loaded
    }

    fn tags(&self, address: &str) -> String {
        let address: IpAddr = address.parse().unwrap();
        let id = Lpm::new(self.threats.ranges()).get(address.into());
        self.threats.labels().get(id).to_owned()
    }

    /// Without the folder in it.
    fn told(&self, text: &impl ToString) -> String {
        let folder = format!("{}/", self.folder.path().display());
        text.to_string().replace(&folder, "")
    }
}

fn entries(loaded: &Loaded) -> Vec<u64> {
    loaded.read.iter().map(|read| read.entries).collect()
}

#[test]
fn addresses_prefixes_and_ranges_stand_one_a_line_with_comments_anywhere() {
    let mut folder = Folder::new();
    let text = "\u{feff}# a list, \"of\nmany\n; things, \"too\n\n198.51.100.1\n\
                203.0.113.0/25 ; SBL1, \"comment\n  192.0.2.10 - 192.0.2.20 # x\n2001:db8::/48\n\
                192.0.2.20-192.0.2.30\n198.51.100.2:443\n[2001:db8:1::1]:80\n::ffff:198.51.100.3";
    folder.list(
        "bad",
        text.replace("\"of\nmany", "\"of").replace('\n', "\r\n"),
    );
    let loaded = folder.load();
    assert_eq!((entries(&loaded), loaded.left_out), (vec![8], vec![]));
    let on = [
        "198.51.100.1",
        "198.51.100.2",
        "198.51.100.3",
        "203.0.113.0",
        "203.0.113.127",
        "192.0.2.10",
        "192.0.2.30",
        "2001:db8::ffff",
        "2001:db8:1::1",
    ];
    for address in on {
        assert_eq!(folder.tags(address), "bad", "{address}");
    }
    for address in [
        "198.51.100.0",
        "203.0.113.128",
        "192.0.2.31",
        "2001:db8:0:ffff:ffff::",
    ] {
        let is_in = address.starts_with("2001");
        assert_eq!(
            folder.tags(address),
            if is_in { "bad" } else { "" },
            "{address}"
        );
    }
}

#[test]
fn an_address_has_the_tags_of_all_entries_that_have_it() {
    let mut folder = Folder::new();
    folder.list("scan", "198.51.100.0/24\n198.51.100.7\n");
    folder.list("botnet", "198.51.100.7\n");
    let csv = "IP,score,Tags\n\"198.51.100.7\",9,\"c2; scan|c2\"\n198.51.100.8,1,\n\
               198.51.100.0/28,2,spam\n";
    folder.list("feed", csv);
    assert_eq!(entries(&folder.load()), [2, 1, 3]);
    assert_eq!(folder.tags("198.51.100.7"), "botnet,c2,feed,scan,spam");
    assert_eq!(folder.tags("198.51.100.8"), "feed,scan,spam");
    assert_eq!(folder.tags("198.51.100.9"), "feed,scan,spam");
    assert_eq!(folder.tags("198.51.100.16"), "scan");
}

#[test]
fn a_csv_without_titles_has_addresses_and_no_tags() {
    let mut folder = Folder::new();
    folder.list("feed", "198.51.100.7,tags\n198.51.100.8,\"x, y\"\n");
    folder.list("plain", "address\n198.51.100.7\n");
    let loaded = folder.load();
    assert_eq!((entries(&loaded), loaded.left_out), (vec![2, 1], vec![]));
    assert_eq!(folder.tags("198.51.100.7"), "feed,plain");
}

#[test]
fn the_whitelist_wins_over_all_lists() {
    let mut folder = Folder::new();
    folder.list("scan", "198.51.100.0/24\n10.1.2.3\n2001:db8::1\n");
    folder.whitelist("white", "198.51.100.7 # ours\n10.0.0.0/8\n");
    folder.whitelist("white6", "::/0\n");
    assert_eq!(entries(&folder.load()), [3, 2, 1]);
    assert_eq!(folder.tags("198.51.100.6"), "scan");
    assert_eq!(folder.tags("198.51.100.7"), "");
    assert_eq!(folder.tags("198.51.100.8"), "scan");
    assert_eq!(folder.tags("10.1.2.3"), "");
    assert_eq!(folder.tags("2001:db8::1"), "");
}

#[test]
fn lines_that_are_no_addresses_are_left_out_and_counted() {
    let mut folder = Folder::new();
    let text = b"# list\n198.51.100.1\n198.51.100.256\n198.51.100.2\n\xff\xfe\n\
        192.0.2.9-192.0.2.1\n198.51.100.3\n0.0.0.0/0\n192.168.0.0/16\n198.51.100.4\n198.51.100.5\n";
    folder.list("bad", text);
    let loaded = folder.load();
    assert_eq!((entries(&loaded), loaded.refused.count()), (vec![5], 0));
    assert_eq!(
        folder.told(&loaded.left_out[0]),
        "bad:3: found \"198.51.100.256\"; allowed: an address, a prefix, or a range of addresses \
         (5 such lines are left out)"
    );
    assert_eq!(folder.tags("198.51.100.5"), "bad");
    assert_eq!(folder.tags("192.168.1.1"), "");
    assert_eq!(folder.tags("8.8.8.8"), "");
}

#[test]
fn tags_that_would_spoil_a_column_leave_their_line_out() {
    let mut folder = Folder::new();
    let many: Vec<_> = (0..17).map(|number| format!("t{number}")).collect();
    let csv = format!(
        "ip,tags\n198.51.100.1,{}\n198.51.100.2,a\x1bb\n198.51.100.3,ok\n198.51.100.4,{}\n\
         198.51.100.5,\n198.51.100.6,\n",
        many.join(";"),
        "x".repeat(65)
    );
    folder.list("feed", csv);
    let loaded = folder.load();
    assert_eq!((entries(&loaded), loaded.left_out[0].lines), (vec![3], 3));
    assert_eq!(folder.tags("198.51.100.3"), "feed,ok");
    assert_eq!(folder.tags("198.51.100.4"), "");
}

#[test]
fn sets_of_tags_of_one_list_are_bounded() {
    let mut folder = Folder::new();
    let line = |number| format!("198.51.{}.{},t{number}\n", number / 250, number % 250);
    let lines: String = (0..300).map(line).collect();
    folder.list("feed", format!("ip,tags\n{lines}"));
    let loaded = folder.load();
    assert_eq!(
        (entries(&loaded), loaded.left_out[0].lines),
        (vec![256], 44)
    );
}

#[test]
fn a_quote_that_is_not_closed_counts_as_all_lines_that_it_swallows() {
    let mut folder = Folder::new();
    let rest = "198.51.100.9\n".repeat(10);
    folder.list(
        "bad",
        format!("198.51.100.1\n198.51.100.2\n\"198.51.100.3\n{rest}"),
    );
    let loaded = folder.load();
    let told = folder.told(&loaded.refused);
    assert!(
        told.starts_with("bad: 11 of 13 lines are no addresses, first bad:3: a quote"),
        "{told}"
    );
}

#[test]
fn what_is_no_list_is_refused_and_the_former_one_stays() {
    let mut folder = Folder::new();
    folder.list("bad", "198.51.100.1\n198.51.100.2\n");
    folder.load();
    let page = "<html>\n<p>gone</p>\n198.51.100.3\n</html>\n";
    for text in [page, "", "# nothing, today\n", "\0\0\0\0\n\0\n"] {
        folder.write("bad", text);
        let loaded = folder.load();
        assert_eq!(loaded.refused.count(), 1, "{text}");
        assert_eq!(folder.tags("198.51.100.2"), "bad", "{text}");
        assert_eq!(folder.tags("198.51.100.3"), "", "{text}");
    }
    std::fs::remove_file(folder.path("bad")).unwrap();
    let told = folder.load().refused;
    assert!(
        folder
            .told(&told)
            .starts_with("bad: cannot be read (No such file"),
        "{told}"
    );
    assert_eq!(folder.tags("198.51.100.2"), "bad");

    folder.config.threats.clear();
    assert_eq!(folder.load().refused.count(), 0);
    assert_eq!(folder.tags("198.51.100.2"), "");
}

#[test]
fn a_list_that_was_always_empty_is_none_but_no_error() {
    let mut folder = Folder::new();
    folder.list("bad", "# nothing yet\n");
    let loaded = folder.load();
    assert_eq!((entries(&loaded), loaded.refused.count()), (vec![0], 0));
    assert_eq!(folder.load().refused.count(), 0);
}

#[test]
fn a_bad_line_refuses_the_whitelist_as_a_whole() {
    let mut folder = Folder::new();
    folder.list("bad", "198.51.100.0/24\n");
    folder.whitelist("white", "198.51.100.1\n");
    folder.load();
    folder.write(
        "white",
        "198.51.100.2\n198.51.100.300\nexample.org\n198.51.100.4\n",
    );
    let told = folder.load().refused;
    assert_eq!(
        folder.told(&told),
        "white:2: found \"198.51.100.300\" (the first of 2 such lines); allowed: an address, a \
         prefix, or a range of addresses"
    );
    assert_eq!(
        (folder.tags("198.51.100.1"), folder.tags("198.51.100.2")),
        ("".into(), "bad".into())
    );
}

#[test]
fn every_cut_and_every_changed_byte_of_a_list_is_read_without_a_panic() {
    let text = b"ip,tags\n\"198.51.100.1\",a;b\n2001:db8::/33 ; x\n192.0.2.1-192.0.2.9,\"c\"\n";
    let parse = |bytes: &[u8]| list::parse(Path::new("list"), bytes, Width::Narrow, 100);
    assert_eq!(parse(text).entries, 3);
    for place in 0..text.len() {
        let list = parse(&text[..place]);
        assert!(list.entries + list.bad <= 3);
        for byte in [0, b'"', b'\n', b',', b'-', b'/', 0xff] {
            let mut changed = text.to_vec();
            changed[place] = byte;
            let list = parse(&changed);
            assert!(list.entries + list.bad <= 6);
        }
    }
}

#[test]
fn entries_beyond_the_bound_are_left_out_and_counted() {
    let parse = |max| {
        list::parse(
            Path::new("list"),
            b"192.0.2.1\n192.0.2.2\n",
            Width::Narrow,
            max,
        )
    };
    assert_eq!((parse(2).entries, parse(2).bad), (2, 0));
    assert_eq!((parse(1).entries, parse(1).bad), (1, 1));
}
