//! Samples that an sFlow agent took and dropped, for want of resources.
//!
//! Each flow sample has a counter of its data source, from the agent's start on and modulo 2^32
//! (sFlow v5, `drops`). What it grows by is what was lost. Where it stood before its first sample
//! here, or before the agent began anew, is not known, so that counts as nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Data sources of a domain: the interfaces of a large chassis. Of more nothing is known.
const SOURCES_OF_DOMAIN_MAX: usize = 1024;
/// Data sources of all domains. Of more nothing is known.
const SOURCES_MAX: usize = 65_536;
/// Bytes that all of them take: places in maps that are half empty.
pub const SOURCES_BYTES: usize = 2 * SOURCES_MAX * size_of::<(u64, Last, u8)>();
/// A smaller number came late when so little time has passed since the larger one, seconds.
const LATE_S: u32 = 5;
/// An agent whose start has moved by more seconds than this began anew. Clocks drift as well, but
/// workers show all sources again when it is a third of this.
const BOOT_JITTER_S: u32 = 30;

/// What a flow sample tells of its data source.
#[derive(Clone, Copy, Debug)]
pub struct AgentSample {
    /// Class of the data source in the upper 32 bits, its index in the lower.
    pub source: u64,
    /// Samples dropped since the agent's start.
    pub drops: u32,
    /// When the agent started, seconds since the epoch; 0 is unknown.
    pub boot_s: u32,
    /// When it arrived, seconds since the epoch.
    pub received_s: u32,
}

/// All data sources of a domain.
#[derive(Debug, Default)]
pub(super) struct AgentDrops {
    sources: HashMap<u64, Last>,
    /// Sources of all domains.
    places: Arc<AtomicUsize>,
    /// Since the start.
    pub(super) total: u64,
    told: u64,
}

/// Where a source stood.
#[derive(Clone, Copy, Debug)]
struct Last {
    drops: u32,
    boot_s: u32,
    received_s: u32,
}

impl AgentDrops {
    /// None yet; `places` counts the sources of all domains.
    pub(super) fn new(places: Arc<AtomicUsize>) -> Self {
        Self {
            sources: HashMap::new(),
            places,
            total: 0,
            told: 0,
        }
    }

    /// Takes note of a number; false when it came late, or there is no place for its source.
    pub(super) fn observe(&mut self, sample: &AgentSample) -> bool {
        let AgentSample {
            source,
            drops,
            boot_s,
            received_s,
        } = *sample;
        let now = Last {
            drops,
            boot_s,
            received_s,
        };
        let is_full = self.sources.len() >= SOURCES_OF_DOMAIN_MAX;
        match self.sources.entry(source) {
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(place) => {
                if self.places.fetch_add(1, Ordering::Relaxed) >= SOURCES_MAX {
                    self.places.fetch_sub(1, Ordering::Relaxed);
                    return false;
                }
                place.insert(now);
            }
            Entry::Occupied(mut place) => {
                let last = place.get();
                let is_same_run = last.boot_s.abs_diff(boot_s) <= BOOT_JITTER_S;
                let more = drops.wrapping_sub(last.drops);
                let has_grown = more <= u32::MAX / 2;
                if is_same_run && has_grown {
                    self.total += u64::from(more);
                } else if is_same_run && received_s.saturating_sub(last.received_s) < LATE_S {
                    return false;
                }
                place.insert(now);
            }
        }
        true
    }

    /// What came since the last call.
    pub(super) fn drain(&mut self) -> u64 {
        let new = self.total - self.told;
        self.told = self.total;
        new
    }
}

impl Drop for AgentDrops {
    fn drop(&mut self) {
        let places = self.sources.len();
        self.places.fetch_sub(places, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other by source 3 of an agent that started at `boot_s`, a minute apart.
    fn total(samples: &[(u32, u32)]) -> u64 {
        let mut agent = AgentDrops::default();
        for (minute, (drops, boot_s)) in (0..).zip(samples) {
            agent.observe(&AgentSample {
                source: 3,
                drops: *drops,
                boot_s: *boot_s,
                received_s: 1_000_000 + 60 * minute,
            });
        }
        agent.total
    }

    #[test]
    fn what_a_counter_grows_by_is_dropped_and_where_it_began_is_not() {
        assert_eq!(total(&[(500, 9), (500, 9), (503, 9), (510, 10)]), 10);
        assert_eq!(total(&[(u32::MAX - 1, 9), (2, 9)]), 4, "it wraps");
    }

    #[test]
    fn an_agent_that_began_anew_counts_from_where_it_is_then() {
        assert_eq!(total(&[(500, 9), (7, 2000), (9, 2000)]), 2);
        assert_eq!(total(&[(500, 9), (700, 2000), (701, 2000)]), 1);
        // It does not tell when it started.
        assert_eq!(total(&[(500, 0), (7, 0), (9, 0)]), 2);
        // Two agents behind one address.
        assert_eq!(total(&[(500, 9), (7, 2000), (500, 9), (7, 2000)]), 0);
    }

    #[test]
    fn a_number_that_comes_late_changes_nothing() {
        let mut agent = AgentDrops::default();
        let mut observe = |drops, received_s| {
            let sample = AgentSample {
                source: 3,
                drops,
                boot_s: 9,
                received_s,
            };
            (agent.observe(&sample), agent.total)
        };
        assert_eq!(observe(10, 100), (true, 0));
        assert_eq!(observe(20, 101), (true, 10));
        assert_eq!(observe(15, 101), (false, 10));
        assert_eq!(observe(25, 102), (true, 15));
        // This one is no late one: the counter was cleared.
        assert_eq!(observe(1, 200), (true, 15));
        assert_eq!(observe(2, 201), (true, 16));
    }

    #[test]
    fn sources_are_bounded_and_give_their_places_back() {
        let places = Arc::<AtomicUsize>::default();
        let domains = SOURCES_MAX / SOURCES_OF_DOMAIN_MAX + 1;
        let mut agents: Vec<_> = (0..domains)
            .map(|_| AgentDrops::new(Arc::clone(&places)))
            .collect();
        for agent in &mut agents {
            for source in 0..2 * SOURCES_OF_DOMAIN_MAX as u64 {
                agent.observe(&AgentSample {
                    source,
                    drops: 0,
                    boot_s: 9,
                    received_s: 100,
                });
            }
            assert!(agent.sources.len() <= SOURCES_OF_DOMAIN_MAX);
        }
        assert_eq!(places.load(Ordering::Relaxed), SOURCES_MAX);
        assert!(agents.iter().any(|agent| agent.sources.is_empty()));
        drop(agents);
        assert_eq!(places.load(Ordering::Relaxed), 0);
    }
}
