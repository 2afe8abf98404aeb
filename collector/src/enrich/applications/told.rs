//! What operators tell of applications, in files.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::map::{AddressMap, ENTRIES_MAX, Rule, TooMany};
use crate::config::{ApplicationType, Enrich};
use crate::enrich::files::{
    Column, Fault, FileErrors, Others, optional, prefix, quoted, read_csv, required,
};
use crate::enrich::services::{has_ports, protocol_number};
use crate::names::ApplicationId;

/// Lines of all files together.
const LINES_MAX: usize = 1 << 18;

/// Columns of `enrich.applications`.
const RULE_COLUMNS: [Column; 4] = [
    required("address"),
    optional("ports"),
    optional("protocol"),
    required("application"),
];

/// Columns of `enrich.application_ids`.
const ID_COLUMNS: [Column; 3] = [required("type"), required("id"), required("application")];

/// How the configuration calls each type, and the enterprise whose own ids it sends (RFC 6759,
/// engine 20).
const TYPES: [(&str, ApplicationType, Option<u64>); 3] = [
    ("cisco_nbar2", ApplicationType::CiscoNbar2, None),
    ("fortinet", ApplicationType::Fortinet, Some(12_356)),
    ("velocloud", ApplicationType::Velocloud, Some(45_346)),
];

/// Texts and their ids, which begin at 1.
#[derive(Debug, Default)]
pub(super) struct Labels {
    texts: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
}

impl Labels {
    /// The id of `text`, a new one if need be.
    pub(super) fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let text = Arc::<str>::from(text);
        self.texts.push(Arc::clone(&text));
        let id = self.texts.len() as u32;
        self.ids.insert(text, id);
        id
    }

    /// The texts in the order of their ids.
    pub(super) fn into_texts(self) -> Box<[Arc<str>]> {
        self.texts.into()
    }
}

impl From<&[Arc<str>]> for Labels {
    /// The same ids again.
    fn from(texts: &[Arc<str>]) -> Self {
        let ids = texts.iter().cloned().zip(1..).collect();
        Self {
            texts: texts.to_vec(),
            ids,
        }
    }
}

/// What the operator's files tell.
#[derive(Debug, Default)]
pub struct Told {
    /// Applications by address and port.
    pub(super) map: AddressMap,
    /// Applications by type and key, see [`keys`].
    pub(super) ids: HashMap<ApplicationType, HashMap<u64, u32>>,
    /// Texts of the ids from 1 on.
    pub(super) labels: Box<[Arc<str>]>,
}

impl Told {
    /// Reads the files of `enrich.applications` and of `enrich.application_ids`. What is told twice
    /// is as the last line says.
    ///
    /// # Errors
    /// When a file cannot be read or has a fault; all of them are told, by file and line.
    pub fn load(config: &Enrich) -> Result<Self, FileErrors> {
        let mut labels = Labels::default();
        let mut errors = FileErrors::default();
        let mut lines = 0;
        let mut rules = Vec::new();
        for file in &config.applications {
            let found = read_csv(file, &RULE_COLUMNS, Others::Refused, |_, row| {
                one_more(&mut lines)?;
                rules.push(rule(row, &mut labels)?);
                Ok(())
            });
            found
                .err()
                .into_iter()
                .for_each(|found| errors.append(found));
        }
        let mut ids = HashMap::<_, HashMap<_, _>>::new();
        for file in &config.application_ids {
            let found = read_csv(file, &ID_COLUMNS, Others::Refused, |_, [kind, id, name]| {
                one_more(&mut lines)?;
                let (kind, keys) = keys(kind, id)?;
                let id = labels.id(name);
                let known = ids.entry(kind).or_default();
                known.extend(keys.into_iter().map(|key| (key, id)));
                Ok(())
            });
            found
                .err()
                .into_iter()
                .for_each(|found| errors.append(found));
        }
        errors.or(())?;
        let map = AddressMap::new(rules).map_err(|TooMany| {
            let what = format!("the applications take more than {ENTRIES_MAX} entries");
            let remedy = "each prefix has those of the prefixes around it too: give wide prefixes \
                          fewer ports";
            let file = config
                .applications
                .last()
                .map_or(Path::new(""), |file| file.as_path());
            FileErrors::from(Fault::new(what, remedy).at(file, None))
        })?;
        Ok(Self {
            map,
            ids,
            labels: labels.into_texts(),
        })
    }
}

fn one_more(lines: &mut usize) -> Result<(), Fault> {
    *lines += 1;
    match *lines {
        0..=LINES_MAX => Ok(()),
        _ => {
            let what = format!("there are more than {LINES_MAX} lines about applications");
            Err(Fault::new(what, "leave out what is not needed"))
        }
    }
}

/// A line of `enrich.applications`.
fn rule(row: [&str; 4], labels: &mut Labels) -> Result<(IpNet, Rule), Fault> {
    let [address, ports, protocol, name] = row;
    let prefix = prefix("address", address)?;
    let number = parse_unless_empty(protocol, parse_protocol)?;
    let range = parse_unless_empty(ports, parse_ports)?;
    if range.is_some() && number.is_some_and(|number| !has_ports(number)) {
        let what = format!("ports: protocol {} has none", quoted(protocol));
        return Err(Fault::new(what, "leave ports empty"));
    }
    let rule = Rule {
        ports: range,
        protocol: number,
        id: labels.id(name),
    };
    Ok((prefix, rule))
}

fn parse_unless_empty<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    match text {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

fn parse_protocol(text: &str) -> Result<u8, Fault> {
    let number = text.parse().ok().or_else(|| protocol_number(text));
    number.ok_or_else(|| {
        let what = format!("protocol: found {}", quoted(text));
        Fault::new(
            what,
            "allowed: tcp, udp, another name of IANA's, a number up to 255, or nothing",
        )
    })
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let parsed = from.trim().parse().ok().zip(to.trim().parse().ok());
    let ports = parsed.map(|(from, to)| from..=to);
    ports.filter(|ports| !ports.is_empty()).ok_or_else(|| {
        let what = format!("ports: found {}", quoted(text));
        Fault::new(
            what,
            "allowed: a port such as 443, a range such as 8000-8099, or nothing",
        )
    })
}

/// RFC 6759 section 4.1: engine 20 is followed by an enterprise and its selector.
const ENGINE_ENTERPRISE: u64 = 20;

/// A line of `enrich.application_ids`: its type, and what ids of flows may look like that it means.
///
/// `engine:selector` is just that; `20:enterprise:selector` and a plain number are an enterprise's
/// own, whose selectors take one to four bytes behind the enterprise. A plain number means the
/// selector of any engine, too, and has 0 for it in the key.
fn keys(kind: &str, id: &str) -> Result<(ApplicationType, Vec<u64>), Fault> {
    let known = TYPES.iter().find(|(name, ..)| *name == kind);
    let Some((_, kind, enterprise)) = known else {
        let what = format!("type: found {}", quoted(kind));
        return Err(Fault::new(
            what,
            "allowed: cisco_nbar2, fortinet or velocloud",
        ));
    };
    let parts: Option<Vec<u64>> = id.split(':').map(|part| part.trim().parse().ok()).collect();
    let keys = match parts.as_deref() {
        Some([number]) => {
            let mut keys: Vec<u64> = packed(0, *number).into_iter().collect();
            keys.extend(
                enterprise
                    .iter()
                    .flat_map(|enterprise| of_enterprise(*enterprise, *number)),
            );
            keys
        }
        Some([engine, selector]) => packed(*engine, *selector).into_iter().collect(),
        Some([ENGINE_ENTERPRISE, enterprise, selector]) => {
            of_enterprise(*enterprise, *selector).collect()
        }
        _ => Vec::new(),
    };
    if keys.is_empty() {
        let what = format!("id: found {}", quoted(id));
        let remedy = "allowed: a number such as 16001, engine:selector such as 13:496, or \
                      20:enterprise:selector such as 20:12356:16001";
        return Err(Fault::new(what, remedy));
    }
    Ok((*kind, keys))
}

fn packed(engine: u64, selector: u64) -> Option<u64> {
    let engine = u8::try_from(engine).ok()?;
    ApplicationId { engine, selector }.packed()
}

/// The ids that mean `selector` of `enterprise`, by the bytes that the selector may take.
fn of_enterprise(enterprise: u64, selector: u64) -> impl Iterator<Item = u64> {
    let is_number = u32::try_from(enterprise).is_ok();
    let widths = (1..=4_u32).filter(move |bytes| is_number && selector >> (8 * bytes) == 0);
    widths.filter_map(move |bytes| packed(ENGINE_ENTERPRISE, enterprise << (8 * bytes) | selector))
}

#[cfg(test)]
mod tests;
