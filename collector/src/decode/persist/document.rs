//! The document that outlasts a restart: JSON, one object a domain.
//!
//! Whoever reads a document passes over fields that he does not know, and takes fields that are not
//! there for unknown, so later versions may add some. [`VERSION`] changes when that is not enough.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decode::Wanted;
use crate::decode::sequence::SequenceState;
use crate::decode::shared::{Change, DomainKey, Known, Learned, Shared};
use crate::decode::template::{Dialect, Entries, Entry, Kind, Template};
use crate::flow::FlowType;
use crate::names::SavedName;
use crate::units::UnixNanos;

/// Of documents that are written, and the only one that is read.
pub const VERSION: u32 = 1;

/// What all documents have in common.
#[derive(Debug, Deserialize)]
pub struct Versioned {
    /// To be compared with [`VERSION`].
    pub version: u32,
}

/// The whole document, with its domains read or about to be written.
#[derive(Debug, Deserialize, Serialize)]
pub struct Document<D> {
    version: u32,
    /// When it was written, for people.
    saved_unix_s: u32,
    /// Nothing was received after it was written: what sequence numbers are missing then was lost.
    #[serde(default)]
    pub is_final: bool,
    /// The domains.
    pub domains: D,
    /// What exporters call their interfaces, VRFs and applications.
    #[serde(default)]
    pub names: Vec<SavedName>,
}

/// Domains that are put into words only as they are written.
#[derive(Debug)]
pub struct Domains(Vec<Known>);

impl Document<Domains> {
    /// All that `shared` knows.
    pub fn of(shared: &Shared, now: UnixNanos, is_final: bool) -> Self {
        let mut known = shared.known();
        // What came by TCP ends with its connection (RFC 7011 section 8.4).
        let is_of_use = |known: &Known| !known.learned.is_empty() || known.sequence.is_some();
        known.retain(|known| known.key.session == 0 && is_of_use(known));
        // So that a reader finds his exporter, and two documents can be compared.
        known.sort_unstable_by_key(|known| known.key);
        let mut names = shared.names.export();
        names.sort_by_key(|name| name.exporter);
        Self {
            version: VERSION,
            saved_unix_s: now.seconds(),
            is_final,
            domains: Domains(known),
            names,
        }
    }
}

impl Serialize for Domains {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(SavedDomain::of))
    }
}

/// One exporter and observation domain.
#[derive(Debug, Deserialize, Serialize)]
pub struct SavedDomain {
    /// UDP source address.
    source: IpAddr,
    protocol: FlowType,
    observation_domain: u32,
    last_seen_unix_s: u32,
    #[serde(default)]
    has_flows: bool,
    /// The exporter's own address, as its options told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exporter_addr: Option<IpAddr>,
    /// When it was started, by its options; 0 is unknown.
    #[serde(default)]
    boot_unix_ms: u64,
    /// Packets for each that was sampled, by sampler; without one they are for all others.
    #[serde(default)]
    rates: Vec<(Option<u64>, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<SequenceState>,
    #[serde(default)]
    templates: Vec<SavedTemplate>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedTemplate {
    kind: Kind,
    sent_unix_s: u32,
    /// 0 is never.
    #[serde(default)]
    used_unix_s: u32,
    /// As the exporter wrote it, from its id on.
    definition: Hex,
}

/// Bounds of what is taken in.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// `decode.exporters_max`
    pub exporters: usize,
    /// `decode.templates_max`
    pub templates: usize,
    /// `decode.templates_per_exporter_max`
    pub templates_of_one: usize,
    /// `decode.template_lifetime` in seconds; 0 is for ever.
    pub lifetime_s: u32,
    /// `decode.extra`
    pub wanted: Wanted,
    /// [`Document::is_final`]
    pub is_exact: bool,
}

impl Bounds {
    fn is_old(&self, at_s: u32, now_s: u32) -> bool {
        self.lifetime_s > 0 && now_s.saturating_sub(at_s) > self.lifetime_s
    }
}

/// What became of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Exporters and domains that are known again.
    pub domains: usize,
    /// Their templates.
    pub templates: usize,
    /// Templates that are too old, too many or no templates.
    pub left_out: usize,
}

impl SavedDomain {
    fn of(known: &Known) -> Self {
        let learned = &known.learned;
        let addr = learned.exporter_addr;
        let mut templates: Vec<_> = learned.each_template().collect();
        templates.sort_unstable_by_key(|template| template.id);
        Self {
            source: known.key.source,
            protocol: known.key.flow_type,
            observation_domain: known.key.observation_domain,
            last_seen_unix_s: known.last_seen.seconds(),
            has_flows: known.has_flows,
            exporter_addr: (!addr.is_unknown()).then(|| addr.to_ip()),
            boot_unix_ms: learned.boot_ms,
            rates: learned.sampling.rates().collect(),
            sequence: known.sequence,
            templates: templates.into_iter().map(SavedTemplate::of).collect(),
        }
    }

    /// Tells `shared`, which may know more already.
    pub fn restore(self, shared: &Shared, bounds: &Bounds, now_s: u32, taken: &mut Taken) {
        let is_old = bounds.is_old(self.last_seen_unix_s, now_s);
        let offered = self.templates.len();
        let learned = match self.protocol {
            FlowType::Netflow9 => self.learned(Dialect::Netflow9, shared, bounds, now_s),
            FlowType::Ipfix => self.learned(Dialect::Ipfix, shared, bounds, now_s),
            _ => Learned::default(),
        };
        let templates = learned.templates();
        let known = Known {
            key: DomainKey {
                source: self.source.to_canonical(),
                flow_type: self.protocol,
                observation_domain: self.observation_domain,
                session: 0,
            },
            last_seen: UnixNanos(u64::from(self.last_seen_unix_s.min(now_s)) * 1_000_000_000),
            has_flows: self.has_flows,
            sequence: self.sequence.filter(|_| !is_old),
            learned: Arc::new(learned),
        };
        let is_any = !known.learned.is_empty() || known.sequence.is_some();
        if is_any && shared.restore(known, bounds.is_exact, bounds.exporters) {
            taken.domains += 1;
            taken.templates += templates;
            taken.left_out += offered - templates;
        } else {
            taken.left_out += offered;
        }
    }

    fn learned(&self, dialect: Dialect, shared: &Shared, bounds: &Bounds, now_s: u32) -> Learned {
        let mut learned = Learned::default();
        for saved in &self.templates {
            let has_room = learned.templates() < bounds.templates_of_one
                && shared.templates() + learned.weight() < bounds.templates;
            let last_s = saved.sent_unix_s.max(saved.used_unix_s);
            if !has_room || bounds.is_old(last_s, now_s) {
                continue;
            }
            if let Some(template) = saved.compile(dialect, &bounds.wanted, now_s) {
                learned.apply(&Change::Template(Arc::new(template)));
            }
        }
        if learned.templates() == 0 && bounds.is_old(self.last_seen_unix_s, now_s) {
            return learned;
        }
        let rates = self.rates.iter().filter(|(_, rate)| *rate > 0);
        rates.for_each(|(sampler, rate)| learned.apply(&Change::Rate(*sampler, *rate)));
        if let Some(addr) = self.exporter_addr {
            learned.apply(&Change::ExporterAddr(addr.into()));
        }
        learned.apply(&Change::Boot(self.boot_unix_ms));
        learned
    }
}

impl SavedTemplate {
    fn of(template: &Arc<Template>) -> Self {
        Self {
            kind: template.kind,
            sent_unix_s: template.life.sent_s(),
            used_unix_s: template.life.used_s(),
            definition: Hex(template.definition().into()),
        }
    }

    /// The way that a template of a datagram goes; `None` when there is not just one in it.
    fn compile(&self, dialect: Dialect, wanted: &Wanted, now_s: u32) -> Option<Template> {
        let bytes = &*self.definition.0;
        let Entry::Definition(definition) = Entries::new(bytes, self.kind, dialect).next()? else {
            return None;
        };
        let template = definition.compile(wanted)?;
        template.life.sent(self.sent_unix_s.min(now_s));
        template.life.used(self.used_unix_s.min(now_s));
        (template.definition() == bytes).then_some(template)
    }
}

/// Bytes, written as hexadecimal digits.
#[derive(Debug)]
struct Hex(Box<[u8]>);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Hex;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hexadecimal digits, two a byte")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex, E> {
                let (pairs, rest) = text.as_bytes().as_chunks::<2>();
                let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
                let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
                let bytes: Option<_> = pairs.iter().map(byte).collect();
                let bytes = bytes.filter(|_| rest.is_empty());
                bytes
                    .map(Hex)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}
