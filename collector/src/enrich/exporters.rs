//! What exporters are called, by their addresses.
//!
//! In: `[[enrich.exporters]]`, of which the longest prefix counts, the exporters that are known,
//! and names that SNMP or DNS told. Out: a number by address. An exporter that this table was made
//! without gets what its prefix says; only the name that others tell is missing until the next one.

use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::files::cleaned;
use super::labels::{Labels, LabelsBuilder};
use crate::config::{self, ApplicationType};
use crate::flow::Address;

/// Labels of exporters.
#[derive(Debug, Default)]
pub struct ExporterLabels {
    exporters: HashMap<Address, Known>,
    prefixes: Prefixes,
    labels: Labels,
}

/// What is known of an exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    label: u32,
    applications: ApplicationType,
}

impl ExporterLabels {
    /// Of the configuration, the `exporters` that are known, and what others call an exporter for
    /// which the configuration has no name.
    #[must_use]
    pub fn build(
        config: &[config::ExporterLabels],
        exporters: &[Address],
        name: impl Fn(Address) -> Option<Arc<str>>,
    ) -> Self {
        let mut labels = LabelsBuilder::default();
        let mut prefixes = Prefixes::default();
        for (index, one) in config.iter().enumerate() {
            let known = known(&mut labels, one.applications, &label(Some(one), ""));
            prefixes.insert(one.source, (index, known));
        }
        let of_exporter = |exporter: &Address| {
            let found = prefixes.find(*exporter);
            let one = found.and_then(|(index, _)| config.get(index));
            let is_named = one.is_some_and(|one| !one.name.is_empty());
            let name = name(*exporter).filter(|_| !is_named)?;
            let applications = one.map(|one| one.applications).unwrap_or_default();
            let known = known(&mut labels, applications, &label(one, &name));
            Some((*exporter, known))
        };
        let exporters = exporters.iter().filter_map(of_exporter).collect();
        Self {
            exporters,
            prefixes,
            labels: labels.finish(),
        }
    }

    /// The number of what `exporter` is called; 0 is nothing.
    #[must_use]
    #[inline]
    pub fn find(&self, exporter: Address) -> u32 {
        self.known(exporter).label
    }

    /// `name\tgroup\tsite\tregion\trole\ttenant` of a number; '' for 0.
    #[must_use]
    pub fn label(&self, id: u32) -> &str {
        self.labels.get(id)
    }

    /// What the application ids of `exporter` mean.
    #[must_use]
    #[inline]
    pub fn applications(&self, exporter: Address) -> ApplicationType {
        self.known(exporter).applications
    }

    fn known(&self, exporter: Address) -> Known {
        let Self {
            exporters,
            prefixes,
            ..
        } = self;
        let of_prefix = || prefixes.find(exporter).map(|(_, known)| known);
        let found = exporters.get(&exporter).copied().or_else(of_prefix);
        found.unwrap_or_default()
    }
}

/// What prefixes say, by their length, longest first: as many steps as there are lengths.
#[derive(Debug, Default)]
struct Prefixes {
    lengths: Vec<(u8, HashMap<u128, Said>)>,
}

/// Which of the configuration's tables it is, and what it says.
type Said = (usize, Known);

impl Prefixes {
    fn insert(&mut self, prefix: IpNet, said: Said) {
        // IPv4 in IPv6: 96 bits more.
        let length = match prefix {
            IpNet::V4(v4) => v4.prefix_len() + 96,
            IpNet::V6(v6) => v6.prefix_len(),
        };
        let lengths = &mut self.lengths;
        let place = lengths.partition_point(|(longer, _)| *longer > length);
        if lengths.get(place).is_none_or(|(other, _)| *other != length) {
            lengths.insert(place, (length, HashMap::new()));
        }
        if let Some((_, prefixes)) = lengths.get_mut(place) {
            prefixes.insert(upper(prefix.network().into(), length), said);
        }
    }

    fn find(&self, address: Address) -> Option<Said> {
        let mut lengths = self.lengths.iter();
        lengths.find_map(|(length, prefixes)| prefixes.get(&upper(address, *length)).copied())
    }
}

fn upper(address: Address, bits: u8) -> u128 {
    let address = u128::from_be_bytes(address.0);
    address.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

fn known(labels: &mut LabelsBuilder, applications: ApplicationType, label: &str) -> Known {
    let label = labels.id(label).unwrap_or(0);
    Known {
        label,
        applications,
    }
}

/// All that is said of an exporter; `name` when the configuration has none.
fn label(one: Option<&config::ExporterLabels>, name: &str) -> String {
    let parts = match one {
        Some(one) => {
            let name = if one.name.is_empty() { name } else { &one.name };
            [
                name,
                &one.group,
                &one.site,
                &one.region,
                &one.role,
                &one.tenant,
            ]
        }
        None => [name, "", "", "", "", ""],
    };
    let parts = parts.map(cleaned);
    match parts.iter().all(String::is_empty) {
        true => String::new(),
        false => parts.join("\t"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn one(source: &str, name: &str, group: &str) -> config::ExporterLabels {
        config::ExporterLabels {
            source: source.parse().unwrap(),
            name: name.into(),
            group: group.into(),
            site: String::new(),
            region: String::new(),
            role: String::new(),
            tenant: String::new(),
            applications: ApplicationType::default(),
        }
    }

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn says(labels: &ExporterLabels, exporter: &str) -> String {
        labels.label(labels.find(address(exporter))).to_owned()
    }

    const NOBODY: fn(Address) -> Option<Arc<str>> = |_| None;

    #[test]
    fn the_longest_prefix_counts_in_both_families() {
        let config = [
            one("0.0.0.0/0", "", "four"),
            one("192.0.2.7/24", "net", "edge"),
            one("192.0.2.7/32", "edge1", "edge"),
            one("2001:db8::/32", "six", ""),
        ];
        let known = [address("192.0.2.7"), address("2001:db8::1")];
        for exporters in [&known[..], &[]] {
            let labels = ExporterLabels::build(&config, exporters, NOBODY);
            assert_eq!(says(&labels, "192.0.2.7"), "edge1\tedge\t\t\t\t");
            assert_eq!(says(&labels, "192.0.2.8"), "net\tedge\t\t\t\t");
            assert_eq!(says(&labels, "198.51.100.1"), "\tfour\t\t\t\t");
            assert_eq!(says(&labels, "2001:db8::1"), "six\t\t\t\t\t");
            assert_eq!(labels.find(address("2001:db9::1")), 0);
        }
        let all = ExporterLabels::build(&[one("::/0", "any", "")], &[], NOBODY);
        assert_eq!(says(&all, "2001:db9::1"), "any\t\t\t\t\t");
    }

    #[test]
    fn names_of_others_count_where_the_configuration_has_none() {
        let config = [
            one("192.0.2.0/24", "", "edge"),
            one("192.0.2.7/32", "edge1", ""),
        ];
        let known = ["192.0.2.7", "192.0.2.8", "192.0.2.9", "198.51.100.1"].map(address);
        let told = |exporter| match exporter == known[2] {
            true => None,
            false => Some(Arc::from("router\t\x1b[2J.example")),
        };
        let labels = ExporterLabels::build(&config, &known, told);
        assert_eq!(says(&labels, "192.0.2.7"), "edge1\t\t\t\t\t");
        assert_eq!(
            says(&labels, "192.0.2.8"),
            "router[2J.example\tedge\t\t\t\t"
        );
        assert_eq!(says(&labels, "192.0.2.9"), "\tedge\t\t\t\t");
        assert_eq!(says(&labels, "198.51.100.1"), "router[2J.example\t\t\t\t\t");
        assert_eq!(says(&labels, "198.51.100.2"), "");
    }

    #[test]
    fn all_parts_stand_in_their_order() {
        let one = config::ExporterLabels {
            site: "s".into(),
            region: "re".into(),
            role: "ro".into(),
            tenant: "t".into(),
            ..one("192.0.2.7/32", "n", "g")
        };
        let labels = ExporterLabels::build(&[one], &[], NOBODY);
        assert_eq!(says(&labels, "192.0.2.7"), "n\tg\ts\tre\tro\tt");
    }

    #[test]
    fn the_type_of_application_ids_is_the_prefixs_also_where_nothing_is_named() {
        let fortinet = config::ExporterLabels {
            applications: ApplicationType::Fortinet,
            ..one("192.0.2.0/24", "", "")
        };
        let known = [address("192.0.2.7")];
        let named = |_| Some(Arc::from("fw1"));
        let labels = ExporterLabels::build(&[fortinet], &known, named);
        for exporter in ["192.0.2.7", "192.0.2.8"] {
            assert_eq!(
                labels.applications(address(exporter)),
                ApplicationType::Fortinet
            );
        }
        assert_eq!(says(&labels, "192.0.2.7"), "fw1\t\t\t\t\t");
        assert_eq!(labels.find(address("192.0.2.8")), 0);
        let other = labels.applications(address("198.51.100.1"));
        assert_eq!(other, ApplicationType::CiscoNbar2);
    }
}
