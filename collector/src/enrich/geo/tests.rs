use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use flowsluice_tests::mmdb::{self, Database};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// Writes each database to a file, and loads them in this order.
fn load(databases: &[Vec<u8>]) -> Result<Places, GeoError> {
    load_with(databases, |_| ())
}

fn load_with(
    databases: &[Vec<u8>],
    configure: impl FnOnce(&mut config::Geo),
) -> Result<Places, GeoError> {
    let folder = TempDir::new().unwrap();
    let files = databases.iter().enumerate().map(|(number, bytes)| {
        let file = folder.path().join(format!("{number}.mmdb"));
        std::fs::write(&file, bytes).unwrap();
        file
    });
    let mut config = config::Geo {
        databases: files.collect(),
        ..config::Geo::default()
    };
    configure(&mut config);
    Places::load(&config)
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// Label, number of the system, its name.
fn said<'a>(places: &'a Places, text: &str) -> (&'a str, u32, &'a str) {
    let mut ids = [u32::MAX];
    places.find(&[address(text)], &mut ids);
    let number = places.as_number(ids[0]);
    (places.label(ids[0]), number, places.as_name(number))
}

fn is_private(places: &Places, text: &str) -> bool {
    let mut ids = [u32::MAX];
    places.find(&[address(text)], &mut ids);
    places.is_private(ids[0])
}

fn nested() -> Vec<u8> {
    Database::new("GeoLite2-City")
        .network(
            "1.2.0.0/16",
            &mmdb::city("JP", "Tokyo", "Chiyoda", 35.6762, 139.6503),
        )
        .network("1.2.3.0/24", &json!({"country": {"iso_code": "US"}}))
        .network("2400::/12", &mmdb::city("SG", "", "Singapore", 1.3, 103.8))
        .aliased()
        .bytes()
}

fn flat() -> Vec<u8> {
    let value: Value = json!({
        "city": "South Brisbane", "country_code": "AU", "latitude": -27.4767, "longitude": 153.017,
        "postcode": "", "state1": "Queensland", "state2": "", "timezone": "",
    });
    Database::new_v4("city")
        .network("1.0.0.0/8", &value)
        .bytes()
}

fn systems() -> Vec<u8> {
    Database::new("GeoLite2-ASN")
        .network("1.2.3.0/25", &mmdb::system(64_500, "Example One"))
        .network("1.2.4.0/24", &mmdb::system(64_501, ""))
        .network("9.0.0.0/8", &mmdb::system(64_501, "Example Two"))
        .network("10.1.0.0/16", &mmdb::system(64_502, "Ours"))
        .network("2001:db8::/48", &mmdb::system(4_200_000_001, "Documents"))
        .bytes()
}

#[test]
fn without_databases_private_addresses_are_known_and_nothing_else() {
    let places = Places::load(&config::Geo::default()).unwrap();
    for text in ["10.0.0.1", "fe80::1", "127.0.0.1", "2001:db8::1"] {
        assert!(is_private(&places, text), "{text}");
        assert_eq!(said(&places, text), ("", 0, ""));
    }
    for text in ["8.8.8.8", "224.0.0.1", "ff02::1", "::"] {
        assert!(!is_private(&places, text), "{text}");
        let mut ids = [7];
        places.find(&[address(text)], &mut ids);
        assert_eq!(ids, [0], "{text}: nothing known");
    }
    assert_eq!(places.as_name(PRIVATE_AS), "private");
    assert_eq!((places.as_name(0), places.as_name(64_500)), ("", ""));
    let default = Places::default();
    assert_eq!(
        (
            default.label(3),
            default.as_number(9),
            default.is_private(9)
        ),
        ("", 0, false)
    );
}

#[test]
fn nested_and_flat_databases_say_the_same_kind_of_things() {
    for bits in [24, 28, 32] {
        let value = mmdb::city("JP", "Tokyo", "Chiyoda", 35.67624, -139.0);
        let nested = Database::new("City")
            .with_record_bits(bits)
            .network("1.2.0.0/16", &value);
        let places = load(&[nested.bytes()]).unwrap();
        let expected = ("JP\tTokyo\tChiyoda\t35.6762\t-139", 0, "");
        assert_eq!(said(&places, "1.2.255.255"), expected, "{bits} bits");
        assert_eq!(said(&places, "1.3.0.0"), ("", 0, ""));
    }
    let places = load(&[flat()]).unwrap();
    let expected = ("AU\tQueensland\tSouth Brisbane\t-27.4767\t153.017", 0, "");
    assert_eq!(said(&places, "1.255.0.1"), expected);
}

#[test]
fn other_ways_to_put_it_are_understood() {
    for (value, expected) in [
        (
            json!({"country": "FR", "region": "IDF", "asn": "AS64500", "as_name": "E"}),
            ("FR\tIDF\t\t\t", 64_500, "E"),
        ),
        (
            json!({"country": "France", "country_code": "FR"}),
            ("FR\t\t\t\t", 0, ""),
        ),
        (
            json!({"country_code": "FR", "country": "France"}),
            ("FR\t\t\t\t", 0, ""),
        ),
        (
            json!({"country_code": "ZZ", "as_number": 64_500}),
            ("", 64_500, ""),
        ),
        (
            json!({"subdivisions": [{"iso_code": "13"}], "latitude": "1.5", "longitude": "2"}),
            ("\t13\t\t1.5\t2", 0, ""),
        ),
        (
            json!({"traits": {"autonomous_system_number": 64_500,
            "autonomous_system_organization": "E"}}),
            ("", 64_500, "E"),
        ),
        (
            json!({"city": {"names": {"de": "Wien"}}, "asn": 64_500}),
            ("", 64_500, ""),
        ),
        (
            json!({"city": [[{"names": {"en": "no"}}]], "subdivisions": [], "asn": 64_500}),
            ("", 64_500, ""),
        ),
        (
            json!({"city": true, "country": 7, "location": "here",
            "asn": {"a": [1]}, "as_number": 64_500}),
            ("", 64_500, ""),
        ),
    ] {
        let database = Database::new("x").network("1.0.0.0/8", &value).bytes();
        let places = load(&[database]).unwrap();
        assert_eq!(said(&places, "1.0.0.1"), expected, "{value}");
    }
}

#[test]
fn names_are_in_the_configured_language_or_else_in_english() {
    let japanese = load_with(&[nested()], |config| config.language = "ja".into()).unwrap();
    let expected = "JP\tTokyo (ja)\tChiyoda (ja)\t35.6762\t139.6503";
    assert_eq!(said(&japanese, "1.2.0.0").0, expected);
    let finnish = load_with(&[nested()], |config| config.language = "fi".into()).unwrap();
    assert_eq!(
        said(&finnish, "1.2.0.0").0,
        "JP\tTokyo\tChiyoda\t35.6762\t139.6503"
    );
}

#[test]
fn the_first_database_that_says_something_of_a_kind_counts() {
    for order in [[nested(), flat(), systems()], [systems(), nested(), flat()]] {
        let places = load(&order).unwrap();
        let australia = "AU\tQueensland\tSouth Brisbane\t-27.4767\t153.017";
        let japan = "JP\tTokyo\tChiyoda\t35.6762\t139.6503";
        assert_eq!(said(&places, "1.2.0.1"), (japan, 0, ""));
        assert_eq!(
            said(&places, "1.2.3.1"),
            ("US\t\t\t\t", 64_500, "Example One")
        );
        assert_eq!(said(&places, "1.2.3.128"), ("US\t\t\t\t", 0, ""));
        // The name of a system may stand in another record of it.
        assert_eq!(said(&places, "1.2.4.1"), (japan, 64_501, "Example Two"));
        assert_eq!(said(&places, "1.9.0.1"), (australia, 0, ""));
        assert_eq!(said(&places, "9.9.9.9"), ("", 64_501, "Example Two"));
        assert_eq!(
            said(&places, "2400::1"),
            ("SG\t13\tSingapore\t1.3\t103.8", 0, "")
        );
    }
    let places = load(&[flat(), nested()]).unwrap();
    assert_eq!(
        said(&places, "1.2.3.1").0,
        "AU\tQueensland\tSouth Brisbane\t-27.4767\t153.017"
    );
}

#[test]
fn private_addresses_stay_private_whatever_databases_say_of_them() {
    let places = load(&[nested(), systems()]).unwrap();
    assert_eq!(said(&places, "10.1.0.1"), ("", 64_502, "Ours"));
    assert_eq!(
        said(&places, "2001:db8::1"),
        ("", 4_200_000_001, "Documents")
    );
    for text in ["10.1.0.1", "10.2.0.1", "2001:db8::1", "2001:db8:1::1"] {
        assert!(is_private(&places, text), "{text}");
    }
    assert!(!is_private(&places, "1.2.3.1"));
}

#[test]
fn a_network_of_ipv6_that_holds_the_place_of_ipv4_counts_for_it() {
    let database = Database::new("x")
        .network("::/8", &json!({"country_code": "FR"}))
        .bytes();
    let places = load(&[database]).unwrap();
    assert_eq!(said(&places, "8.8.8.8").0, "FR\t\t\t\t");
    assert_eq!(said(&places, "::2").0, "FR\t\t\t\t");
    assert_eq!(said(&places, "100::").0, "");
}

/// The error for one database of these bytes.
fn refusal(bytes: &[u8]) -> String {
    load(&[bytes.to_vec()]).unwrap_err().to_string()
}

#[test]
fn what_is_no_database_or_not_whole_is_refused_with_a_remedy() {
    let whole = nested();
    for bytes in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 20],
        b"",
        b"\x1f\x8b\x08zipped",
    ] {
        let text = refusal(bytes);
        assert!(
            text.contains("0.mmdb: no MMDB database, or a truncated one ("),
            "{text}"
        );
        assert!(text.ends_with("; fetch it anew, unpacked, whole"), "{text}");
    }
    let said = Database::new("GeoIP2-Domain").network("1.0.0.0/8", &json!({"domain": "a.example"}));
    let text = refusal(&said.bytes());
    let expected = "says neither places nor autonomous systems (its type is \"GeoIP2-Domain\"); \
                    name a City, Country or ASN database";
    assert!(text.ends_with(expected), "{text}");
    let config = config::Geo {
        databases: vec![PathBuf::from("/nonexistent/city.mmdb")],
        ..config::Geo::default()
    };
    let text = Places::load(&config).unwrap_err().to_string();
    assert!(
        text.starts_with("/nonexistent/city.mmdb: No such file"),
        "{text}"
    );
    let config = config::Geo {
        databases: vec![Path::new("/dev/zero").to_path_buf()],
        ..config::Geo::default()
    };
    let text = Places::load(&config).unwrap_err().to_string();
    assert!(text.starts_with("/dev/zero: it is no file"), "{text}");
}

#[test]
fn a_table_beyond_memory_max_is_refused_with_both_sizes() {
    let error = load_with(&[nested()], |config| config.memory_max = ByteSize::kib(100));
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("enrich.geo.databases: their table needs 25"),
        "{text}"
    );
    assert!(
        text.contains("enrich.geo.memory_max is 100.0 KiB; raise that, or"),
        "{text}"
    );
    let error = load_with(&[mmdb::database("City", 0, 9000)], |config| {
        config.memory_max = ByteSize::kib(2);
    });
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("0.mmdb: larger than 8.0 KiB, four times"),
        "{text}"
    );
    let places = load(&[nested(), systems()]).unwrap();
    assert!(
        places.memory_bytes() < 300 << 10,
        "{}",
        places.memory_bytes()
    );
}

/// Leads the tree from one node to the next 120 times by both bits: 2^120 ways.
#[test]
fn a_tree_that_leads_in_detours_ends() {
    let mut bytes = Database::new("x")
        .network("8000::/120", &json!({"country_code": "FR"}))
        .bytes();
    let nodes = 120;
    for node in 1..nodes - 1 {
        let next = (node as u32 + 1).to_be_bytes();
        bytes[6 * node..6 * node + 3].copy_from_slice(&next[1..]);
        bytes[6 * node + 3..6 * node + 6].copy_from_slice(&next[1..]);
    }
    let text = refusal(&bytes);
    assert!(
        text.contains("damaged (its tree leads in circles)"),
        "{text}"
    );
}

/// Every cut, and at every byte some other values: an error or a table, no panic, no hang.
#[test]
fn damaged_databases_are_refused_or_read_but_never_panic() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("damaged.mmdb");
    let config = config::Geo {
        databases: vec![file.clone()],
        ..config::Geo::default()
    };
    let (mut taken, mut refused) = (0, 0);
    let mut try_to_load = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        match Places::load(&config) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    };
    let small = Database::new_v4("x")
        .network(
            "1.2.0.0/16",
            &mmdb::city("JP", "Tokyo", "Chiyoda", 35.6762, 139.6503),
        )
        .network("1.2.3.0/24", &mmdb::system(64_500, "Example One"))
        .bytes();
    for length in 0..small.len() {
        try_to_load(&small[..length]);
    }
    for at in 0..small.len() {
        for flip in [0x21, 0xff] {
            let mut bytes = small.clone();
            bytes[at] ^= flip;
            try_to_load(&bytes);
        }
    }
    assert!(
        taken > 100 && refused > 100,
        "{taken} taken, {refused} refused"
    );
}
