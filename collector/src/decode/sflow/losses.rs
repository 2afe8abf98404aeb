//! What data sources of sFlow agents say that was dropped, on its way to [`Sequence`].
//!
//! In: the counter in each flow sample. Out: those that are not what they were. Owner: a worker;
//! numbers that it cannot hand in come again with the next sample. It allocates nothing.

use super::Header;
use crate::decode::sequence::{AgentSample, Sequence};
use crate::units::UnixNanos;

/// Data sources whose number a worker remembers, 16 bytes each; two that have the same place take
/// it from each other, which costs time only: a lock for every sample. With 2048 places 34 of 50
/// switches with 48 ports met another one.
const PLACES: usize = 16_384;
/// Bytes that a worker has for them.
pub const SAID_BYTES: usize = PLACES * size_of::<Place>();
/// Between the places of one agent and the next; more interfaces than this may meet others.
const AGENT_PLACES: usize = 61;
/// An agent whose start has moved by more seconds than this began anew, or its clock drifts.
const BOOT_JITTER_S: u32 = 10;

/// What data sources said last, so that the lock of a domain is entered for news only.
#[derive(Debug)]
pub struct Said {
    places: Box<[Place]>,
    runs: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    source: u64,
    /// 0 is nobody's.
    run: u32,
    drops: u32,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            places: vec![Place::default(); PLACES].into(),
            runs: 0,
        }
    }
}

impl Said {
    /// Interfaces are numbered one after the other, and so are runs.
    #[inline]
    const fn place_of(source: u64, run: u32) -> usize {
        (source as usize).wrapping_add((run as usize).wrapping_mul(AGENT_PLACES)) % PLACES
    }
}

/// The agent of a domain from one start of it to the next, as a worker sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    number: u32,
    boot_s: u32,
}

/// The agent that sent a datagram.
#[derive(Debug)]
pub struct Agent<'a> {
    said: &'a mut Said,
    sequence: &'a Sequence,
    run: Run,
    received_s: u32,
}

impl<'a> Agent<'a> {
    /// The one that sent `header`; `run` is what the worker keeps of its domain.
    pub fn new(
        header: &Header,
        received: UnixNanos,
        run: &mut Run,
        sequence: &'a Sequence,
        said: &'a mut Said,
    ) -> Self {
        let boot_s = match header.uptime_ms {
            0 => 0,
            uptime_ms => (received.millis().saturating_sub(uptime_ms.into()) / 1000) as u32,
        };
        if run.number == 0 || run.boot_s.abs_diff(boot_s) > BOOT_JITTER_S {
            said.runs = said.runs.wrapping_add(1).max(1);
            *run = Run {
                number: said.runs,
                boot_s,
            };
        }
        Self {
            said,
            sequence,
            run: Run {
                number: run.number,
                boot_s,
            },
            received_s: received.seconds(),
        }
    }

    /// A sample of `source` says that `drops` were dropped since the agent's start.
    #[inline]
    pub fn dropped(&mut self, source: u64, drops: u32) {
        let run = self.run.number;
        let said = Place { source, run, drops };
        let at = Said::place_of(source, run);
        if let Some(place) = self.said.places.get_mut(at).filter(|place| **place != said) {
            let sample = AgentSample {
                source,
                drops,
                boot_s: self.run.boot_s,
                received_s: self.received_s,
            };
            if self.sequence.sampled(&sample) {
                *place = said;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::Said;

    use crate::config;
    use crate::decode::{Decoder, FlowSink, Shared};
    use crate::flow::Flow;
    use crate::ledger::WorkerCounts;
    use crate::receive::Datagram;
    use crate::units::UnixNanos;

    #[test]
    fn the_ports_of_two_hundred_switches_have_places_of_their_own() {
        let ports = (1..=200).flat_map(|run| (1..=52).map(move |port| Said::place_of(port, run)));
        let places: Vec<_> = ports.collect();
        let distinct: BTreeSet<_> = places.iter().collect();
        assert_eq!(distinct.len(), places.len());
    }

    struct Nowhere;

    impl FlowSink for Nowhere {
        fn flows(&mut self, _: &mut [Flow]) {}
    }

    /// Two workers that share what they know.
    struct Rig {
        workers: [Decoder; 2],
        shared: Arc<Shared>,
        counts: WorkerCounts,
    }

    impl Rig {
        fn new(config: &config::Decode) -> Self {
            let shared = Arc::<Shared>::default();
            let worker = || Decoder::new(config, &[], Arc::clone(&shared));
            Self {
                workers: [worker(), worker()],
                shared,
                counts: WorkerCounts::default(),
            }
        }

        /// So many seconds behind the agent's start, `worker` gets flow samples that each tell a
        /// source and its drops; an expanded one where the source's class is not 0.
        fn hear(&mut self, worker: usize, uptime_s: u32, sources: &[(u32, u32, u32)]) {
            const BOOT_S: u64 = 1_700_000_000;
            self.hear_at(worker, BOOT_S + u64::from(uptime_s), uptime_s, sources);
        }

        fn hear_at(&mut self, worker: usize, s: u64, uptime_s: u32, sources: &[(u32, u32, u32)]) {
            let count = sources.len() as u32;
            let mut words = vec![5, 1, 0xc000_0209, 3, uptime_s, uptime_s * 1000, count];
            for (class, index, drops) in sources {
                if *class == 0 {
                    words.extend([1, 32, 7, *index, 100, 900, *drops, 3, 4, 0]);
                } else {
                    words.extend([3, 44, 7, *class, *index, 100, 900, *drops, 0, 3, 0, 4, 0]);
                }
            }
            let payload: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
            let before = self.counts.flows_decoded;
            let datagram = Datagram {
                source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
                source_port: 50_000,
                local_port: 6343,
                received: UnixNanos(s * 1_000_000_000),
                payload: &payload,
                cut: false,
            };
            self.workers[worker].decode(&datagram, &mut self.counts, &mut Nowhere);
            assert_eq!(self.counts.flows_decoded - before, u64::from(count));
        }

        fn dropped(&self) -> u64 {
            self.shared.sequence_totals().agent_drops
        }
    }

    #[test]
    fn what_an_agent_dropped_is_the_growth_of_all_its_sources_whoever_hears_of_it() {
        let mut rig = Rig::new(&config::Decode::default());
        rig.hear(0, 100, &[(0, 1, 50), (0, 2, 0), (2, 2, 70)]);
        assert_eq!(rig.dropped(), 0, "that was before");
        rig.hear(0, 101, &[(0, 1, 50), (0, 1, 53), (0, 2, 2)]);
        assert_eq!(rig.dropped(), 5);
        // Each worker hears of the same numbers, which count once.
        rig.hear(1, 102, &[(0, 1, 53), (0, 2, 2), (0, 2, 4)]);
        rig.hear(0, 102, &[(0, 2, 4), (2, 2, 71)]);
        assert_eq!(rig.dropped(), 8);
        // One that was underway for longer.
        rig.hear(1, 101, &[(0, 1, 51)]);
        rig.hear(1, 103, &[(0, 1, 54)]);
        assert_eq!(rig.dropped(), 9);
    }

    #[test]
    fn an_agent_that_starts_again_has_dropped_nothing_by_that() {
        let mut rig = Rig::new(&config::Decode::default());
        rig.hear(0, 1000, &[(0, 1, 50), (0, 2, u32::MAX)]);
        rig.hear(0, 1001, &[(0, 2, 1)]);
        assert_eq!(rig.dropped(), 2, "its counter wraps");
        rig.hear_at(0, 1_700_001_100, 5, &[(0, 1, 0), (0, 2, 3)]);
        assert_eq!(rig.dropped(), 2);
        rig.hear_at(0, 1_700_001_101, 6, &[(0, 1, 4), (0, 2, 3)]);
        assert_eq!(rig.dropped(), 6);
        // An agent that does not know its uptime.
        let mut rig = Rig::new(&config::Decode::default());
        rig.hear_at(0, 1_700_000_000, 0, &[(0, 1, 50)]);
        rig.hear_at(0, 1_700_000_060, 0, &[(0, 1, 2)]);
        rig.hear_at(0, 1_700_000_061, 0, &[(0, 1, 3)]);
        assert_eq!(rig.dropped(), 1);
    }

    #[test]
    fn more_sources_than_a_worker_remembers_count_all_the_same() {
        let mut rig = Rig::new(&config::Decode::default());
        let sources = |drops| (0..900u32).map(move |index| (0, index * 2048, drops));
        for (uptime_s, drops) in [(10, 7), (11, 8), (12, 8), (13, 10)] {
            rig.hear(0, uptime_s, &sources(drops).collect::<Vec<_>>());
        }
        assert_eq!(rig.dropped(), 900 * 3);
    }
}
