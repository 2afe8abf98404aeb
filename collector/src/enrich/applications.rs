//! Applications: what operators tell of addresses and ports, and what exporters tell of flows.
//!
//! In: the operator's files, the names in exporters' options, and IANA's registries for the engines
//! that RFC 6759 gives to them. Out: an id a flow, which [`Applications::label`] turns into the
//! name; 0 is unknown. Owner: made by a control task, then shared; nobody changes it any more.
//! What the operator says of an address and port counts before what the exporter says.

mod map;
mod told;

use std::sync::Arc;

use hashbrown::HashMap;

use super::keys::{KEYS, Keys};
use super::lpm::{Lpm, Ranges};
use super::services::{Services, TCP, UDP};
use crate::config::{ApplicationType, ExporterLabels};
use crate::flow::Address;
use crate::names::Names;

use told::Labels;

pub use map::Mapped;
pub use told::Told;

/// All that is known of applications at one moment.
#[derive(Debug)]
pub struct Applications {
    services: Arc<Services>,
    told: Arc<Told>,
    /// What each exporter's options tell, by the ids of flows.
    named: HashMap<Address, HashMap<u64, u32>>,
    /// Types of exporters, from 1 on in the order of [`TYPES`]; `None` when all have the default.
    types: Option<Lpm>,
    /// Texts of the ids from 1 on; behind them come those of [`Services`].
    labels: Box<[Arc<str>]>,
}

const TYPES: [ApplicationType; 3] = [
    ApplicationType::CiscoNbar2,
    ApplicationType::Fortinet,
    ApplicationType::Velocloud,
];

impl Default for Applications {
    /// Knows IANA's names of ports and protocols only.
    fn default() -> Self {
        let services = Arc::new(Services::new());
        Self::new(services, Arc::default(), &[], &Names::default())
    }
}

impl Applications {
    /// Of what operators and exporters tell. `exporters` say what the ids of each mean.
    #[must_use]
    pub fn new(
        services: Arc<Services>,
        told: Arc<Told>,
        exporters: &[ExporterLabels],
        names: &Names,
    ) -> Self {
        let mut labels = Labels::from(&*told.labels);
        let mut named = HashMap::<_, HashMap<_, _>>::new();
        for (exporter, id, name) in names.applications() {
            if let Some(id) = id.packed().filter(|_| !name.name.is_empty()) {
                let of_exporter = named.entry(exporter).or_default();
                of_exporter
                    .entry(id)
                    .or_insert_with(|| labels.id(&name.name));
            }
        }
        Self {
            services,
            told,
            named,
            types: types(exporters),
            labels: labels.into_texts(),
        }
    }

    /// The names of ports and protocols.
    #[must_use]
    #[inline]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// What operators tell of the ports of sources and destinations.
    #[inline]
    pub fn at_ports(&self, keys: &Keys, mapped: &mut [(Mapped, Mapped); KEYS]) {
        self.told.map.find(keys, mapped);
    }

    /// What the ids of an exporter (column `exporter_addr`) mean.
    #[must_use]
    pub fn exporter(&self, exporter: Address) -> OfExporter<'_> {
        let kind = self.types.as_ref().map_or(0, |types| types.get(exporter));
        let kind = (kind as usize).checked_sub(1);
        let kind = kind.and_then(|kind| TYPES.get(kind)).copied();
        let kind = kind.unwrap_or_default();
        OfExporter {
            named: self.named.get(&exporter),
            told: self.told.ids.get(&kind),
            // The operator who says what an exporter is knows better than it.
            is_told_first: kind != ApplicationType::CiscoNbar2,
            services: &self.services,
            services_from: self.labels.len() as u32,
        }
    }

    /// The text of an id; '' for 0.
    #[must_use]
    pub fn label(&self, id: u32) -> &str {
        let Some(place) = (id as usize).checked_sub(1) else {
            return "";
        };
        match self.labels.get(place) {
            Some(label) => label,
            None => self.services.label(id - self.labels.len() as u32),
        }
    }

    /// The highest id.
    #[must_use]
    pub fn id_max(&self) -> u32 {
        self.labels.len() as u32 + self.services.id_max()
    }

    /// Bytes of the tables, those of [`Services`] left out.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let entry = size_of::<(u64, u32)>() + 1;
        let maps = self.named.values().chain(self.told.ids.values());
        let ids: usize = maps.map(|ids| ids.capacity() * entry).sum();
        let texts: usize = self.labels.iter().map(|text| 16 + text.len()).sum();
        let types = self.types.as_ref().map_or(0, Lpm::memory_bytes);
        self.told.map.memory_bytes() + ids + texts + size_of_val(&*self.labels) + types
    }
}

/// The types of exporters, unless all have the default.
fn types(exporters: &[ExporterLabels]) -> Option<Lpm> {
    let default = ApplicationType::default();
    exporters
        .iter()
        .find(|exporter| exporter.applications != default)?;
    let types = exporters.iter().filter_map(|exporter| {
        let place = TYPES
            .iter()
            .position(|kind| *kind == exporter.applications)?;
        Some((exporter.source, place as u32 + 1))
    });
    Some(Lpm::new(&Ranges::of_prefixes(types)))
}

/// What the application ids of one exporter mean.
#[derive(Clone, Copy, Debug)]
pub struct OfExporter<'a> {
    named: Option<&'a HashMap<u64, u32>>,
    told: Option<&'a HashMap<u64, u32>>,
    is_told_first: bool,
    services: &'a Services,
    /// What comes before the ids of `services`.
    services_from: u32,
}

/// RFC 6759 section 4.1.
const ENGINE_SHIFT: u32 = 56;
const ENGINE_IANA_PROTOCOLS: u64 = 1;
const ENGINE_IANA_PORTS: u64 = 3;

impl OfExporter<'_> {
    /// The application of a flow of `protocol` with this [`Flow::application_id`]; 0 when nobody
    /// says what it means.
    #[must_use]
    #[inline]
    pub fn get(&self, protocol: u8, id: u64) -> u32 {
        let engine = id >> ENGINE_SHIFT;
        let selector = id & !(u64::MAX << ENGINE_SHIFT);
        let is_iana = matches!(engine, ENGINE_IANA_PROTOCOLS | ENGINE_IANA_PORTS);
        let named = || self.named?.get(&id);
        let told = || {
            let told = self.told?;
            // Numbers that operators tell without an engine are of any but IANA's.
            let of_any = || told.get(&selector).filter(|_| !is_iana);
            told.get(&id).or_else(of_any)
        };
        let found = match self.is_told_first {
            true => told().or_else(named),
            false => named().or_else(told),
        };
        if let Some(found) = found {
            return *found;
        }
        match self.registered(protocol, engine, selector) {
            0 => 0,
            service => self.services_from + service,
        }
    }

    /// What IANA's registries say; 0 for other engines.
    fn registered(&self, protocol: u8, engine: u64, selector: u64) -> u32 {
        let services = self.services;
        match engine {
            ENGINE_IANA_PROTOCOLS => {
                u8::try_from(selector).map_or(0, |protocol| services.of_protocol(protocol))
            }
            ENGINE_IANA_PORTS => {
                let port = u16::try_from(selector).unwrap_or(0);
                // Some ports are registered for one protocol and used with another.
                let protocols = [protocol, TCP, UDP].into_iter();
                let mut found = protocols.map(|protocol| services.of_port(protocol, port));
                found.find(|service| *service != 0).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
