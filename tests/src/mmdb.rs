//! Databases in MMDB form, made of JSON, for tests of what fetches and reads them.
//!
//! Written by the format's description alone (MaxMind DB 2.0), so it can be held against readers.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// A database that is being made.
#[derive(Clone, Debug)]
pub struct Database {
    kind: String,
    epoch_s: u64,
    is_v6: bool,
    record_bits: usize,
    is_aliased: bool,
    tree: Vec<[Record; 2]>,
    data: Vec<u8>,
    /// Where a value stands in `data`: each is written once.
    known: HashMap<Vec<u8>, usize>,
}

/// What a bit of an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

impl Database {
    /// One of IPv6 and IPv4 without networks. `kind` is its type, such as `GeoLite2-City`.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            epoch_s: 1_700_000_000,
            is_v6: true,
            record_bits: 24,
            is_aliased: false,
            tree: vec![[Record::Nothing; 2]],
            data: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// One of IPv4 alone.
    #[must_use]
    pub fn new_v4(kind: &str) -> Self {
        Self {
            is_v6: false,
            ..Self::new(kind)
        }
    }

    /// Built at this time (Unix, seconds).
    #[must_use]
    pub fn built_at(self, epoch_s: u64) -> Self {
        Self { epoch_s, ..self }
    }

    /// With records of 24, 28 or 32 bits.
    #[must_use]
    pub fn with_record_bits(self, record_bits: usize) -> Self {
        Self {
            record_bits,
            ..self
        }
    }

    /// Leads `::ffff:0:0/96` and `2002::/16` to the networks of IPv4, as MaxMind does.
    #[must_use]
    pub fn aliased(self) -> Self {
        Self {
            is_aliased: true,
            ..self
        }
    }

    /// Adds a network (`192.0.2.0/24`, `2001:db8::/32`); a shorter one comes before those in it.
    ///
    /// # Panics
    /// When it is none, or the database has no IPv6.
    #[must_use]
    pub fn network(mut self, prefix: &str, value: &Value) -> Self {
        let (address, length) = prefix.split_once('/').expect("a prefix has a length");
        let (address, length) = (
            address.parse().expect(prefix),
            length.parse().expect(prefix),
        );
        self.add(address, length, value);
        self
    }

    /// Adds a network; a shorter one comes before those in it.
    ///
    /// # Panics
    /// When the database has no IPv6 and the network is one.
    pub fn add(&mut self, address: IpAddr, length: u32, value: &Value) {
        let (bits, length) = match address {
            IpAddr::V4(v4) if self.is_v6 => (u128::from(v4.to_bits()), length + 96),
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, length),
            IpAddr::V6(v6) => {
                assert!(self.is_v6, "{v6}: the database is of IPv4 alone");
                (v6.to_bits(), length)
            }
        };
        let mut encoded = Vec::new();
        encode(&mut encoded, value);
        let data = &mut self.data;
        let at = *self.known.entry(encoded).or_insert_with_key(|encoded| {
            let at = data.len();
            data.extend(encoded);
            at
        });
        self.put(bits, length, Record::Data(at));
    }

    fn put(&mut self, bits: u128, length: u32, record: Record) {
        assert!(length > 0, "the whole tree is no record");
        let mut node = 0;
        for depth in 0..length {
            let bit = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                self.tree[node][bit] = record;
                return;
            }
            node = match self.tree[node][bit] {
                Record::Node(below) => below,
                // A longer network within a shorter one: what is around it keeps saying the same.
                around => {
                    let below = self.tree.len();
                    self.tree.push([around; 2]);
                    self.tree[node][bit] = Record::Node(below);
                    below
                }
            };
        }
    }

    /// The bytes of the file.
    ///
    /// # Panics
    /// When the records are too small for it.
    #[must_use]
    pub fn bytes(mut self) -> Vec<u8> {
        if self.is_aliased {
            let v4 = (0..96).try_fold(0, |node, _| match self.tree[node][0] {
                Record::Node(below) => Some(below),
                _ => None,
            });
            let v4 = Record::Node(v4.expect("aliases need networks of IPv4"));
            self.put(0xffff << 32, 96, v4);
            self.put(0x2002 << 112, 16, v4);
        }
        let mut bytes = Vec::with_capacity(self.tree.len() * self.record_bits / 4);
        for node in &self.tree {
            let [left, right] = node.map(|record| self.number(record));
            match self.record_bits {
                24 => bytes.extend([&left.to_be_bytes()[1..], &right.to_be_bytes()[1..]].concat()),
                28 => {
                    bytes.extend(&left.to_be_bytes()[1..]);
                    bytes.push((left >> 24 << 4 | right >> 24) as u8);
                    bytes.extend(&right.to_be_bytes()[1..]);
                }
                _ => bytes.extend([left.to_be_bytes(), right.to_be_bytes()].concat()),
            }
        }
        bytes.extend([0; 16]);
        bytes.extend(&self.data);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        self.metadata(&mut bytes);
        bytes
    }

    /// A record as the tree has it: the number of a node; the number of nodes is nothing; beyond
    /// it and the 16 bytes between tree and data is what stands in the data.
    fn number(&self, record: Record) -> u32 {
        let number = match record {
            Record::Node(node) => node,
            Record::Nothing => self.tree.len(),
            Record::Data(at) => self.tree.len() + 16 + at,
        };
        assert!(
            number < 1 << self.record_bits,
            "{} bits are too few for this database",
            self.record_bits
        );
        number as u32
    }

    /// Readers insist on the size of each number here.
    fn metadata(&self, bytes: &mut Vec<u8>) {
        control(bytes, MAP, 9);
        for (key, kind, number) in [
            ("binary_format_major_version", UINT16, 2),
            ("binary_format_minor_version", UINT16, 0),
            ("build_epoch", UINT64, self.epoch_s),
            ("ip_version", UINT16, if self.is_v6 { 6 } else { 4 }),
            ("node_count", UINT32, self.tree.len() as u64),
            ("record_size", UINT16, self.record_bits as u64),
        ] {
            encode_text(bytes, key);
            encode_number(bytes, kind, number);
        }
        for (key, value) in [
            ("database_type", json!(self.kind)),
            ("description", json!({"en": "Made for a test"})),
            ("languages", json!(["en"])),
        ] {
            encode_text(bytes, key);
            encode(bytes, &value);
        }
    }
}

/// A database of `kind`, built at `epoch_s`, of the addresses from 0.0.0.0 to 127.255.255.255, with
/// `padding` bytes of text in what it says of them.
#[must_use]
pub fn database(kind: &str, epoch_s: u64, padding: usize) -> Vec<u8> {
    let value = json!({"country": {"iso_code": "JP"}, "padding": "x".repeat(padding)});
    Database::new_v4(kind)
        .built_at(epoch_s)
        .network("0.0.0.0/1", &value)
        .bytes()
}

/// What a City database of MaxMind's says, with names in English and Japanese.
#[must_use]
pub fn city(country: &str, region: &str, city: &str, latitude: f64, longitude: f64) -> Value {
    json!({
        "city": {"geoname_id": 1, "names": {"en": city, "ja": format!("{city} (ja)")}},
        "continent": {"code": "AS", "geoname_id": 2, "names": {"en": "Asia"}},
        "country": {"geoname_id": 3, "iso_code": country, "names": {"en": "its name"}},
        "location": {"accuracy_radius": 20, "latitude": latitude, "longitude": longitude},
        "registered_country": {"iso_code": "ZZ"},
        "subdivisions": [
            {"iso_code": "13", "names": {"en": region, "ja": format!("{region} (ja)")}},
            {"iso_code": "99", "names": {"en": "smaller"}},
        ],
    })
}

/// What an ASN database of MaxMind's says.
#[must_use]
pub fn system(number: u32, organization: &str) -> Value {
    json!({
        "autonomous_system_number": number,
        "autonomous_system_organization": organization,
    })
}

/// Types of the format; those above 7 have theirs, less 7, in a second byte.
const TEXT: u8 = 2;
const DOUBLE: u8 = 3;
const UINT16: u8 = 5;
const UINT32: u8 = 6;
const MAP: u8 = 7;
const UINT64: u8 = 9;
const LIST: u8 = 11;
const BOOLEAN: u8 = 14;

fn encode(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => encode_map(bytes, &Map::new()),
        Value::Bool(is_true) => control(bytes, BOOLEAN, usize::from(*is_true)),
        Value::String(text) => encode_text(bytes, text),
        Value::Array(values) => {
            control(bytes, LIST, values.len());
            values.iter().for_each(|value| encode(bytes, value));
        }
        Value::Object(values) => encode_map(bytes, values),
        Value::Number(number) => match number.as_u64() {
            Some(number) if number <= u64::from(u32::MAX) => encode_number(bytes, UINT32, number),
            Some(number) => encode_number(bytes, UINT64, number),
            None => {
                control(bytes, DOUBLE, 8);
                bytes.extend(number.as_f64().unwrap_or(0.0).to_be_bytes());
            }
        },
    }
}

/// In as many bytes as the type has.
fn encode_number(bytes: &mut Vec<u8>, kind: u8, number: u64) {
    let length = match kind {
        UINT16 => 2,
        UINT32 => 4,
        _ => 8,
    };
    control(bytes, kind, length);
    bytes.extend(&number.to_be_bytes()[8 - length..]);
}

fn encode_map(bytes: &mut Vec<u8>, values: &Map<String, Value>) {
    control(bytes, MAP, values.len());
    for (key, value) in values {
        encode_text(bytes, key);
        encode(bytes, value);
    }
}

fn encode_text(bytes: &mut Vec<u8>, text: &str) {
    control(bytes, TEXT, text.len());
    bytes.extend(text.as_bytes());
}

/// Type and length. Lengths below 29 stand in the control byte, those below 285 in one more, those
/// below 65,821 in two more.
fn control(bytes: &mut Vec<u8>, kind: u8, length: usize) {
    let short = length.min(29 + usize::from(length >= 285));
    let (kind, extended) = if kind > 7 { (0, kind - 7) } else { (kind, 0) };
    bytes.push(kind << 5 | short as u8);
    if extended > 0 {
        bytes.push(extended);
    }
    match short {
        29 => bytes.push((length - 29) as u8),
        30 => {
            let rest = u16::try_from(length - 285).expect("no test has longer ones");
            bytes.extend(rest.to_be_bytes());
        }
        _ => {}
    }
}
