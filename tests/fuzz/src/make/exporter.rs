//! An exporter of NetFlow v9 or IPFIX whose messages are right, and known set by set.

use rand::RngExt;

use super::{Rng, bytes, pick};

/// How templates are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 3954.
    Netflow9,
    /// RFC 7011.
    Ipfix,
}

/// A length that the record tells.
pub const VARIABLE: u16 = 65_535;
const ENTERPRISE_BIT: u16 = 0x8000;

/// A field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// 0 is IANA.
    pub enterprise: u32,
    /// Element number.
    pub id: u16,
    /// Bytes, or [`VARIABLE`].
    pub len: u16,
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its number.
    pub id: u16,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Fields at the start that are scopes; `None` for data.
    pub scopes: Option<usize>,
}

impl Layout {
    /// The template as it stands in a template set.
    #[must_use]
    pub fn definition(&self, dialect: Dialect) -> Vec<u8> {
        let count = self.fields.len();
        let counts = match (self.scopes, dialect) {
            (None, _) => vec![count],
            (Some(scopes), Dialect::Netflow9) => vec![4 * scopes, 4 * (count - scopes)],
            (Some(scopes), Dialect::Ipfix) => vec![count, scopes],
        };
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend(counts.iter().flat_map(|n| (*n as u16).to_be_bytes()));
        for field in &self.fields {
            let bit = if field.enterprise > 0 {
                ENTERPRISE_BIT
            } else {
                0
            };
            bytes.extend([field.id | bit, field.len].map(u16::to_be_bytes).concat());
            if field.enterprise > 0 {
                bytes.extend(field.enterprise.to_be_bytes());
            }
        }
        bytes
    }

    /// A record of it, without a byte that is 0 where that could be taken for padding.
    #[must_use]
    pub fn record(&self, rng: &mut Rng) -> Vec<u8> {
        let mut record = Vec::new();
        for field in &self.fields {
            let value = match (field.len, field.enterprise, field.id) {
                (VARIABLE, 0, LISTS_FIRST..=LISTS_LAST) => list(field.id, 0, rng),
                (VARIABLE, ..) => bytes(rng.random_range(1..24), rng),
                (len, ..) => bytes(len.into(), rng),
            };
            if field.len == VARIABLE {
                record.extend(length_prefix(value.len(), rng));
            }
            record.extend(value);
        }
        record
    }

    /// Does every record have the same length?
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.fields.iter().all(|field| field.len != VARIABLE)
    }
}

/// RFC 7011 section 7: in one byte, or three where one would do as well.
fn length_prefix(len: usize, rng: &mut Rng) -> Vec<u8> {
    match u8::try_from(len) {
        Ok(len @ 0..=254) if rng.random_bool(0.9) => vec![len],
        _ => [&[255], &(len as u16).to_be_bytes()[..]].concat(),
    }
}

/// The content of a basicList, subTemplateList or subTemplateMultiList (RFC 6313 section 4.5),
/// `depth` lists within each other.
fn list(id: u16, depth: usize, rng: &mut Rng) -> Vec<u8> {
    const NESTED_MAX: usize = 2;
    let values = |depth: usize, rng: &mut Rng| match rng.random_range(0..4) {
        0 if depth < NESTED_MAX => {
            let inner = list(rng.random_range(LISTS_FIRST..=LISTS_LAST), depth + 1, rng);
            [length_prefix(inner.len(), rng), inner].concat()
        }
        _ => bytes(rng.random_range(0..16), rng),
    };
    let mut content = vec![pick(&[0, 1, 2, 3, 4, 255], rng)];
    match id {
        LISTS_FIRST => {
            let (element, len) = pick(&[(70, 3), (58, 2), (8, 4), (291, VARIABLE), (1, 0)], rng);
            content.extend([element, len].map(u16::to_be_bytes).concat());
            content.extend(values(depth, rng));
        }
        LISTS_LAST => {
            for _ in 0..rng.random_range(0..3) {
                let records = values(depth, rng);
                let head = [FIRST_ID + rng.random_range(0..6), 4 + records.len() as u16];
                content.extend(head.map(u16::to_be_bytes).concat());
                content.extend(records);
            }
        }
        _ => {
            content.extend((FIRST_ID + rng.random_range(0..6)).to_be_bytes());
            content.extend(values(depth, rng));
        }
    }
    content
}

/// A set of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its id.
    pub id: u16,
    /// What follows its header.
    pub body: Vec<u8>,
    /// Its length, where it is not the right one.
    pub length: Option<u16>,
    /// Flows that come out of it.
    pub rows: u64,
}

impl Set {
    /// A set without rows.
    #[must_use]
    pub fn new(id: u16, body: Vec<u8>) -> Self {
        Self {
            id,
            body,
            ..Self::default()
        }
    }

    /// A set of the templates `layouts`, which are all of data or all of options.
    #[must_use]
    pub fn templates(layouts: &[&Layout], dialect: Dialect) -> Self {
        let is_options = layouts.iter().any(|layout| layout.scopes.is_some());
        let id = match dialect {
            Dialect::Netflow9 => u16::from(is_options),
            Dialect::Ipfix => 2 + u16::from(is_options),
        };
        let definitions = layouts.iter().map(|layout| layout.definition(dialect));
        Self::new(id, definitions.collect::<Vec<_>>().concat())
    }

    /// A set of `count` records of `layout`.
    #[must_use]
    pub fn records(layout: &Layout, count: usize, rng: &mut Rng) -> Self {
        let records: Vec<_> = (0..count).map(|_| layout.record(rng)).collect();
        let rows = match layout.scopes {
            Some(_) => 0,
            // The other direction is a row of its own.
            None if layout.fields.contains(&REVERSE_OCTETS) => 2 * count as u64,
            None => count as u64,
        };
        Self {
            rows,
            ..Self::new(layout.id, records.concat())
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How it is written.
    pub dialect: Dialect,
    /// Which of the exporters sends it.
    pub source: u8,
    /// Observation domain.
    pub domain: u32,
    /// Its number.
    pub sequence: u32,
    /// Uptime in a header of NetFlow v9.
    pub uptime_ms: u32,
    /// When it was exported, seconds since the epoch.
    pub export_s: u32,
    /// NetFlow's count or IPFIX's length, where it is not the right one.
    pub length: Option<u16>,
    /// What it holds.
    pub sets: Vec<Set>,
    /// What stands behind it in the datagram.
    pub tail: Vec<u8>,
}

impl Message {
    /// Flows that come out of it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.sets.iter().map(|set| set.rows).sum()
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut sets = Vec::new();
        for set in &self.sets {
            let len = set.length.unwrap_or(4 + set.body.len() as u16);
            sets.extend([set.id, len].map(u16::to_be_bytes).concat());
            sets.extend(&set.body);
        }
        let (version, length) = match self.dialect {
            Dialect::Netflow9 => (9, self.sets.len()),
            Dialect::Ipfix => (10, 16 + sets.len()),
        };
        let length = self.length.unwrap_or(length as u16);
        let mut bytes = [version, length].map(u16::to_be_bytes).concat();
        if self.dialect == Dialect::Netflow9 {
            bytes.extend(self.uptime_ms.to_be_bytes());
        }
        let words = [self.export_s, self.sequence, self.domain];
        bytes.extend(words.map(u32::to_be_bytes).concat());
        bytes.extend(sets);
        bytes.extend(&self.tail);
        bytes
    }
}

/// What an exporter sends: first its templates, then options and flows.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// Its templates of flows.
    pub layouts: Vec<Layout>,
    /// Its options template.
    pub options: Layout,
    /// In the order of sending; the templates are in the first.
    pub messages: Vec<Message>,
}

impl Exporter {
    /// An exporter of two to four templates and as many messages behind them.
    #[must_use]
    pub fn new(dialect: Dialect, rng: &mut Rng) -> Self {
        let layouts: Vec<_> = (0..rng.random_range(2..5))
            .map(|n| layout(FIRST_ID + n, dialect, rng))
            .collect();
        let options = Layout {
            id: OPTIONS_ID,
            fields: match dialect {
                Dialect::Netflow9 => vec![iana(1, 4), iana(48, 1), iana(50, 4)],
                Dialect::Ipfix => vec![iana(149, 4), iana(302, 4), iana(305, 4), iana(306, 4)],
            },
            scopes: Some(1),
        };
        let header = Message {
            dialect,
            source: 0,
            domain: rng.random_range(0..3),
            sequence: rng.random(),
            uptime_ms: rng.random_range(1..u32::MAX),
            export_s: 1_700_000_000,
            length: None,
            sets: Vec::new(),
            tail: Vec::new(),
        };
        let all: Vec<_> = layouts.iter().collect();
        let first = Message {
            sets: vec![
                Set::templates(&all, dialect),
                Set::templates(&[&options], dialect),
            ],
            ..header.clone()
        };
        let mut messages = vec![first];
        for number in 1..rng.random_range(3..5) {
            let mut sets: Vec<_> = (0..rng.random_range(1..4))
                .map(|_| {
                    let of = &layouts[rng.random_range(0..layouts.len())];
                    Set::records(of, rng.random_range(1..5), rng)
                })
                .collect();
            if rng.random_bool(0.3) {
                sets.insert(0, Set::records(&options, 1, rng));
            }
            messages.push(Message {
                sequence: header.sequence.wrapping_add(number),
                sets,
                ..header.clone()
            });
        }
        Self {
            layouts,
            options,
            messages,
        }
    }
}

/// Templates that faults add have ids from here on.
pub const FURTHER_ID: u16 = 400;
const FIRST_ID: u16 = 256;
/// basicList, subTemplateList and subTemplateMultiList.
const LISTS_FIRST: u16 = 291;
const LISTS_LAST: u16 = 293;
const OPTIONS_ID: u16 = 300;

const fn iana(id: u16, len: u16) -> Field {
    Field {
        enterprise: 0,
        id,
        len,
    }
}

/// A template of random fields, at least one of which has bytes.
#[must_use]
pub fn layout(id: u16, dialect: Dialect, rng: &mut Rng) -> Layout {
    let mut fields = vec![iana(8, 4), iana(12, 4)];
    for _ in 0..rng.random_range(0..20) {
        let (id, len) = pick(&FIELDS, rng);
        fields.push(iana(id, len));
    }
    if dialect == Dialect::Ipfix {
        for _ in 0..rng.random_range(0..3) {
            fields.push(pick(&OF_IPFIX, rng));
        }
    }
    Layout {
        id,
        fields,
        scopes: None,
    }
}

/// Elements with lengths that exporters send them in, reduced ones and unknown ones among them.
const FIELDS: [(u16, u16); 52] = [
    (148, 4),
    (160, 8),
    (230, 1),
    (231, 4),
    (233, 1),
    (323, 8),
    (1, 4),
    (1, 8),
    (2, 3),
    (2, 8),
    (4, 1),
    (5, 1),
    (6, 1),
    (6, 2),
    (7, 2),
    (9, 1),
    (10, 2),
    (10, 4),
    (11, 2),
    (13, 1),
    (14, 4),
    (15, 4),
    (16, 4),
    (17, 2),
    (21, 4),
    (22, 4),
    (27, 16),
    (28, 16),
    (29, 1),
    (31, 3),
    (32, 2),
    (48, 1),
    (52, 1),
    (56, 6),
    (58, 2),
    (61, 1),
    (62, 16),
    (70, 3),
    (71, 3),
    (80, 6),
    (88, 2),
    (89, 1),
    (136, 1),
    (150, 4),
    (152, 8),
    (153, 8),
    (161, 4),
    (225, 4),
    (227, 2),
    (234, 4),
    (256, 2),
    (499, 12),
];

/// RFC 5103 section 6.1.
const REVERSE_OCTETS: Field = Field {
    enterprise: 29_305,
    id: 1,
    len: 4,
};

/// What NetFlow v9 cannot say: variable lengths and elements of enterprises.
const OF_IPFIX: [Field; 10] = [
    REVERSE_OCTETS,
    iana(LISTS_FIRST, VARIABLE),
    iana(LISTS_FIRST + 1, VARIABLE),
    iana(LISTS_LAST, VARIABLE),
    iana(82, VARIABLE),
    iana(315, VARIABLE),
    iana(1, VARIABLE),
    Field {
        enterprise: 9,
        id: 1234,
        len: 4,
    },
    Field {
        enterprise: 2636,
        id: 32_767,
        len: VARIABLE,
    },
    Field {
        enterprise: 25_461,
        id: 56_701 & 0x7fff,
        len: 7,
    },
];
