//! Networks and threats in one table: an address is looked up once for both. They are read apart,
//! so that what is bad in one does not keep the other from being renewed.

use std::sync::Arc;

use hashbrown::HashMap;

use super::labels::Labels;
use super::lpm::{Lpm, Ranges};
use super::networks::Networks;
use super::threats::Threats;
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

impl Default for Sites {
    /// Knows nothing.
    fn default() -> Self {
        Self::combine(&Networks::default(), &Threats::default())
    }
}

impl Sites {
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

    /// True when it says nothing of any address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len() <= 1
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
