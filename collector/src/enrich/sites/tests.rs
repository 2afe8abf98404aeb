use super::*;
use crate::config;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use proptest::prelude::*;

struct Folder {
    folder: tempfile::TempDir,
    config: config::Enrich,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config::Enrich::default();
        Self { folder, config }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn networks(&mut self, name: &str, text: &str) {
        let path = self.write(name, text);
        self.config.networks.push(path);
    }

    fn sites(&self) -> Sites {
        let networks = Networks::load(&self.config.networks).unwrap();
        let loaded = Threats::load(&self.config, &Threats::default());
        assert_eq!(loaded.refused.count(), 0);
        Sites::combine(&networks, &loaded.threats)
    }

    fn threats(&mut self, tag: &str, text: &str) {
        let file = self.write(tag, text);
        let tag = tag.into();
        self.config.threats.push(config::ThreatList { file, tag });
    }
}

fn says(sites: &Sites, address: &str) -> (String, String) {
    let address: IpAddr = address.parse().unwrap();
    let mut ids = [0];
    sites.find(&[address.into()], &mut ids);
    let [id] = ids;
    (sites.network(id).into(), sites.threats(id).into())
}

fn pair(network: &str, threats: &str) -> (String, String) {
    (network.into(), threats.into())
}

#[test]
fn networks_and_threats_are_told_together_and_apart() {
    let mut folder = Folder::new();
    folder.networks(
        "n.csv",
        "prefix,name\n198.51.100.0/24,ours\n2001:db8::/32,six\n",
    );
    folder.threats("botnet", "198.51.100.7\n203.0.113.0/24\n2001:db8::1\n");
    let sites = folder.sites();
    assert!(!sites.is_empty());
    assert_eq!(says(&sites, "198.51.100.7"), pair("ours\t\t\t\t", "botnet"));
    assert_eq!(says(&sites, "198.51.100.8"), pair("ours\t\t\t\t", ""));
    assert_eq!(says(&sites, "203.0.113.9"), pair("", "botnet"));
    assert_eq!(says(&sites, "2001:db8::1"), pair("six\t\t\t\t", "botnet"));
    assert_eq!(says(&sites, "192.0.2.1"), pair("", ""));
    assert!(sites.memory_bytes() > 0);
}

#[test]
fn without_files_nothing_is_known() {
    let sites = Folder::new().sites();
    assert!(sites.is_empty());
    assert_eq!(says(&sites, "192.0.2.1"), pair("", ""));
    assert_eq!(says(&Sites::default(), "::"), pair("", ""));
    assert_eq!(sites.network(7), "");
    assert_eq!(sites.threats(u32::MAX), "");
}

/// Prefixes that meet each other: few bits differ. None is too wide for a list of threats.
fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (0..32u32, 24..=32u8).prop_map(|(bits, length)| {
        let address = std::net::Ipv4Addr::from(0xc633_6400 | bits);
        IpNet::new(address.into(), length).unwrap().trunc()
    });
    let v6 = (0..32u128, 120..=128u8).prop_map(|(bits, length)| {
        let address = std::net::Ipv6Addr::from(0x2001_0db8 << 96 | bits);
        IpNet::new(address.into(), length).unwrap().trunc()
    });
    proptest::collection::vec(prop_oneof![v4, v6], 0..12)
}

fn lines(prefixes: &[IpNet]) -> String {
    prefixes
        .iter()
        .map(|prefix| format!("{prefix}\n"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_address_has_what_a_walk_through_the_lists_says(
        mut networks in prefixes(),
        threats in proptest::collection::vec(prefixes(), 1..4),
        whitelist in prefixes(),
    ) {
        networks.sort();
        networks.dedup();
        let mut folder = Folder::new();
        let named: String = networks.iter().map(|prefix| format!("{prefix},n{prefix}\n")).collect();
        folder.networks("n.csv", &format!("prefix,name\n{named}"));
        for (number, list) in threats.iter().enumerate() {
            folder.threats(&format!("t{number}"), &lines(list));
        }
        let white = folder.write("white", &lines(&whitelist));
        folder.config.threats_whitelist.push(white);
        let sites = folder.sites();

        let v4 = (0..300u32).map(|low| IpAddr::from((0xc633_6400 + low).to_be_bytes()));
        let v6 = (0..300u128).map(|low| IpAddr::from((0x2001_0db8 << 96 | low).to_be_bytes()));
        for address in v4.chain(v6) {
            let has = |list: &[IpNet]| list.iter().any(|prefix| prefix.contains(&address));
            let around = networks.iter().filter(|prefix| prefix.contains(&address));
            let longest = around.max_by_key(|prefix| prefix.prefix_len());
            let network = longest.map(|prefix| format!("n{prefix}\t\t\t\t")).unwrap_or_default();
            let on = threats.iter().enumerate().filter(|(_, list)| has(list));
            let tags: Vec<_> = on.map(|(number, _)| format!("t{number}")).collect();
            let tags = if has(&whitelist) { String::new() } else { tags.join(",") };
            prop_assert_eq!(says(&sites, &address.to_string()), (network, tags), "{}", address);
        }
    }
}
