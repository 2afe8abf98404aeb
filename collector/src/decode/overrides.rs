//! What the operator knows better than the exporters.
//!
//! Asked once for each exporter and domain; only the scope is asked for each datagram, and only
//! where some exporter has another one than RFC 7011 wants.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{ExporterOverride, TemplateScope, TimeSource};

/// All of `decode.exporters`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Longest prefixes first.
    list: Vec<(IpNet, Known)>,
    /// Some exporter's templates hold in all its domains.
    has_scopes: bool,
}

/// What the operator knows of one exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Sampling rate; 0 is unknown.
    pub rate: u32,
    /// The rate counts whatever the exporter says.
    pub is_forced: bool,
    /// Flows end when their datagram arrives.
    pub at_receipt: bool,
    /// Templates and rates hold in all domains.
    pub is_one_scope: bool,
}

impl Overrides {
    /// Of the configuration.
    #[must_use]
    pub fn new(config: &[ExporterOverride]) -> Self {
        let known = |one: &ExporterOverride| Known {
            rate: one.sampling_rate,
            is_forced: one.sampling_force,
            at_receipt: one.time == TimeSource::Received,
            is_one_scope: one.scope == TemplateScope::Exporter,
        };
        let mut list: Vec<_> = config.iter().map(|one| (one.source, known(one))).collect();
        list.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Self {
            has_scopes: list.iter().any(|(_, known)| known.is_one_scope),
            list,
        }
    }

    /// What is known of the exporter that sends from `source`.
    #[must_use]
    pub fn of(&self, source: IpAddr) -> Known {
        let found = self
            .list
            .iter()
            .find(|(prefix, _)| prefix.contains(&source));
        found.map(|(_, known)| *known).unwrap_or_default()
    }

    /// The domain that state of `source` is kept under, of the one that a datagram names.
    #[must_use]
    #[inline]
    pub fn scope(&self, source: IpAddr, observation_domain: u32) -> u32 {
        match self.has_scopes && self.of(source).is_one_scope {
            true => 0,
            false => observation_domain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts_and_strangers_have_none() {
        let one = |source: &str, sampling_rate, scope| ExporterOverride {
            source: source.parse().unwrap(),
            sampling_rate,
            sampling_force: false,
            scope,
            time: TimeSource::Exporter,
        };
        let overrides = Overrides::new(&[
            one("192.0.2.0/24", 100, TemplateScope::Domain),
            one("192.0.2.7/32", 7, TemplateScope::Exporter),
            one("2001:db8::/32", 6, TemplateScope::Domain),
        ]);
        let rate = |source: &str| overrides.of(source.parse().unwrap()).rate;
        assert_eq!((rate("192.0.2.7"), rate("192.0.2.8")), (7, 100));
        assert_eq!((rate("2001:db8::1"), rate("198.51.100.1")), (6, 0));
        let scope = |source: &str| overrides.scope(source.parse().unwrap(), 5);
        assert_eq!((scope("192.0.2.7"), scope("192.0.2.8")), (0, 5));
    }
}
