//! What agents said, as others see it.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::enrich::interfaces::Interface;
use crate::flow::Address;

/// What one agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// sysName; may be empty.
    pub system_name: Arc<str>,
    /// By rising ifIndex, never 0.
    pub interfaces: Box<[(u32, Interface)]>,
}

/// What all agents said. Nobody changes it any more.
#[derive(Clone, Debug, Default)]
pub struct Polled(HashMap<Address, Arc<Told>>);

impl Polled {
    /// All interfaces: exporter, ifIndex, and what is said of it.
    pub fn iter(&self) -> impl Iterator<Item = (Address, u32, &Interface)> {
        self.0.iter().flat_map(|(exporter, told)| {
            let interfaces = told.interfaces.iter();
            interfaces.map(|(if_index, interface)| (*exporter, *if_index, interface))
        })
    }

    /// What the agent of `exporter` said.
    #[must_use]
    pub fn get(&self, exporter: Address) -> Option<&Arc<Told>> {
        self.0.get(&exporter)
    }

    /// Exporters whose agents said something.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.0.len()
    }

    /// Interfaces of all exporters.
    #[must_use]
    pub fn interfaces(&self) -> usize {
        self.0.values().map(|told| told.interfaces.len()).sum()
    }

    pub(in crate::enrich) fn set(&mut self, exporter: Address, told: Arc<Told>) {
        self.0.insert(exporter, told);
    }

    pub(super) fn forget(&mut self, exporter: Address) {
        self.0.remove(&exporter);
    }
}
