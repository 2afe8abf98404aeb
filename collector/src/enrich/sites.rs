//! Networks and threats in one table: an address is looked up once for both.

use std::sync::Arc;

use hashbrown::HashMap;

use super::files::{FileErrors, FileRead};
use super::labels::Labels;
use super::lpm::{Lpm, Ranges};
use super::networks::Networks;
use super::threats::{LeftOut, Loaded, Threats};
use crate::config;
use crate::flow::Address;

/// What is known of the networks that addresses are in, and of their reputation.
#[derive(Debug)]
pub struct Sites {
    table: Lpm,
    /// By the number that the table gives.
    records: Vec<Record>,
    networks: Arc<Labels>,
    threats: Arc<Labels>,
}

/// Labels of a network and of a set of tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Record {
    network: u32,
    threats: u32,
}

/// What was read for a table, in the form in which it is put together.
///
/// Networks and each threat list are kept apart, so that what is bad in one of them does not keep
/// the others from being renewed.
#[derive(Debug, Default)]
pub struct SiteFiles {
    networks: Networks,
    threats: Threats,
}

/// What came of reading files.
#[derive(Debug, Default)]
pub struct SitesRead {
    /// What was read.
    pub read: Vec<FileRead>,
    /// Threat lists of which lines were left out.
    pub left_out: Vec<LeftOut>,
    /// What is wrong with files that are not used. What they told before still holds.
    pub refused: FileErrors,
    /// Combinations of tags for which there was no room.
    pub sets_refused: u64,
}

impl SiteFiles {
    /// Reads all files that `config` names. What is refused stays as it was.
    pub fn reload(&mut self, config: &config::Enrich) -> SitesRead {
        let Loaded {
            threats,
            read,
            left_out,
            refused,
            sets_refused,
        } = Threats::load(config, &self.threats);
        let mut all = SitesRead {
            read,
            left_out,
            refused,
            sets_refused,
        };
        self.threats = threats;
        match Networks::load(&config.networks) {
            Ok(networks) => {
                all.read.extend_from_slice(networks.read());
                self.networks = networks;
            }
            Err(errors) => all.refused.append(errors),
        }
        all
    }

    /// The table of what is known now.
    #[must_use]
    pub fn sites(&self) -> Sites {
        Sites::combine(&self.networks, &self.threats)
    }
}

impl Default for Sites {
    /// Knows nothing.
    fn default() -> Self {
        Self::combine(&Networks::default(), &Threats::default())
    }
}

impl Sites {
    /// Reads all files that `config` names.
    ///
    /// # Errors
    /// When one of them is refused.
    pub fn load(config: &config::Enrich) -> Result<(Self, SitesRead), FileErrors> {
        let mut files = SiteFiles::default();
        let mut read = files.reload(config);
        std::mem::take(&mut read.refused).or((files.sites(), read))
    }

    /// One table of both.
    #[must_use]
    pub fn combine(networks: &Networks, threats: &Threats) -> Self {
        let mut records = vec![Record::default()];
        let mut numbers = HashMap::new();
        numbers.insert(Record::default(), 0);
        let number = |network, threats| {
            let record = Record { network, threats };
            *numbers.entry(record).or_insert_with(|| {
                records.push(record);
                u32::try_from(records.len() - 1).expect("entries of both parts are bounded")
            })
        };
        let ranges: Ranges = networks.ranges().overlay(threats.ranges(), number);
        records.shrink_to_fit();
        Self {
            table: Lpm::new(&ranges),
            records,
            networks: networks.labels().clone(),
            threats: threats.labels().clone(),
        }
    }

    /// Numbers of what is known of `addresses`, in their order; 0 is nothing.
    #[inline]
    pub fn find(&self, addresses: &[Address], ids: &mut [u32]) {
        self.table.get_many(addresses, ids);
    }

    /// `name\trole\tsite\tregion\ttenant` of a number; '' when there is no network.
    #[must_use]
    pub fn network(&self, id: u32) -> &str {
        self.networks.get(self.record(id).network)
    }

    /// `tag1,tag2` of a number, sorted; '' when it is on no list.
    #[must_use]
    pub fn threats(&self, id: u32) -> &str {
        self.threats.get(self.record(id).threats)
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Self {
            table,
            records,
            networks,
            threats,
        } = self;
        table.memory_bytes()
            + records.capacity() * size_of::<Record>()
            + networks.memory_bytes()
            + threats.memory_bytes()
    }

    fn record(&self, id: u32) -> Record {
        self.records.get(id as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
