//! Sampling rates: what one record says, and what an exporter's options have said.

/// Samplers remembered of one observation domain; real exporters have a handful.
pub const SAMPLERS_MAX: usize = 256;

/// The elements of one record that amount to a rate; 0 is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateFields {
    /// IE 34: one packet out of so many.
    pub interval: u64,
    /// IE 50: the same, of a random sampler.
    pub random_interval: u64,
    /// IE 305: packets taken in a row.
    pub packet_interval: u64,
    /// IE 306: packets then left out.
    pub packet_space: Option<u64>,
    /// IE 309: packets taken out of a population.
    pub size: u64,
    /// IE 310: the population.
    pub population: u64,
}

impl RateFields {
    /// Packets on the wire for each that was seen, to the nearest; 0 is unknown.
    #[must_use]
    pub fn rate(&self) -> u32 {
        let rate = if let (interval @ 1.., Some(space)) = (self.packet_interval, self.packet_space)
        {
            nearest(interval.saturating_add(space), interval)
        } else if self.size > 0 && self.population > 0 {
            nearest(self.population, self.size)
        } else if self.random_interval > 0 {
            self.random_interval
        } else if self.interval > 0 {
            self.interval
        } else {
            // Without a space some exporters mean "one out of".
            self.packet_interval
        };
        u32::try_from(rate).unwrap_or(u32::MAX)
    }
}

fn nearest(population: u64, size: u64) -> u64 {
    (population.saturating_add(size / 2) / size).max(1)
}

/// Sampler ids have 32 bits at most in practice; above them are rates of an interface.
const OF_INTERFACE: u64 = 1 << 63;

/// What a rate is remembered under that options announced for one interface, by its ifIndex.
#[must_use]
#[inline]
pub const fn of_interface(if_index: u32) -> u64 {
    OF_INTERFACE | if_index as u64
}

/// The rates that options records of one domain, or of one exporter, have announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// The rate that names no sampler; 0 is unknown.
    plain: u32,
    /// Rates by sampler, ascending.
    samplers: Vec<(u64, u32)>,
}

impl Sampling {
    /// Takes note of a rate. One sampler too many is left out, and its flows fall back to the
    /// rate that names none.
    pub fn set(&mut self, sampler: Option<u64>, rate: u32) {
        let Some(sampler) = sampler else {
            self.plain = rate;
            return;
        };
        match self.samplers.binary_search_by_key(&sampler, |(id, _)| *id) {
            Ok(at) => self.samplers[at].1 = rate,
            Err(at) if self.samplers.len() < SAMPLERS_MAX => {
                self.samplers.insert(at, (sampler, rate));
            }
            Err(_) => {}
        }
    }

    /// True when [`Sampling::set`] would change nothing.
    #[must_use]
    pub fn knows(&self, sampler: Option<u64>, rate: u32) -> bool {
        match sampler {
            None => self.plain == rate,
            Some(sampler) => match self.of(sampler) {
                Some(known) => known == rate,
                None => self.samplers.len() == SAMPLERS_MAX,
            },
        }
    }

    /// The rate of one sampler.
    #[must_use]
    #[inline]
    pub fn of(&self, sampler: u64) -> Option<u32> {
        let at = self
            .samplers
            .binary_search_by_key(&sampler, |(id, _)| *id)
            .ok()?;
        self.samplers.get(at).map(|(_, rate)| *rate)
    }

    /// The rate for records that name no sampler: the one that names none, or the only one.
    #[must_use]
    pub fn plain(&self) -> Option<u32> {
        match (self.plain, self.samplers.as_slice()) {
            (0, [(id, rate)]) if *id < OF_INTERFACE => Some(*rate),
            (0, _) => None,
            (rate, _) => Some(rate),
        }
    }

    /// Every rate with its sampler, as [`Sampling::set`] takes them.
    pub fn rates(&self) -> impl Iterator<Item = (Option<u64>, u32)> {
        let plain = (self.plain != 0).then_some((None, self.plain));
        let samplers = self.samplers.iter().map(|(id, rate)| (Some(*id), *rate));
        plain.into_iter().chain(samplers)
    }

    /// True when some rate holds for one interface only.
    #[must_use]
    pub fn is_by_interface(&self) -> bool {
        // They are in ascending order.
        self.samplers
            .last()
            .is_some_and(|(id, _)| *id >= OF_INTERFACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_interval_plus_space_over_interval() {
        let fields = RateFields {
            packet_interval: 1,
            packet_space: Some(999),
            ..Default::default()
        };
        assert_eq!(fields.rate(), 1000);
        let fields = RateFields {
            packet_interval: 1,
            size: 1,
            population: 256,
            ..Default::default()
        };
        assert_eq!(fields.rate(), 256);
        assert_eq!(RateFields::default().rate(), 0);
    }

    #[test]
    fn the_only_sampler_speaks_for_records_that_name_none() {
        let mut sampling = Sampling::default();
        assert_eq!(sampling.plain(), None);
        sampling.set(Some(7), 100);
        assert_eq!(sampling.plain(), Some(100));
        sampling.set(Some(8), 200);
        assert_eq!(sampling.plain(), None);
        sampling.set(None, 300);
        assert_eq!(sampling.plain(), Some(300));
        assert_eq!(sampling.of(8), Some(200));
    }

    #[test]
    fn samplers_are_bounded() {
        let mut sampling = Sampling::default();
        for id in 0..2 * SAMPLERS_MAX as u64 {
            sampling.set(Some(id), 10);
        }
        assert_eq!(sampling.samplers.len(), SAMPLERS_MAX);
        assert!(sampling.knows(Some(u64::MAX), 5));
    }
}
