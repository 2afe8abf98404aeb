//! What is known beside flows.

use std::fmt;

use super::{Labels, Out};
use crate::enrich::parts::{Part, PartStatus};
use crate::enrich::{EnrichFacts, Figure};

impl Out<'_> {
    pub(super) fn enrich(&mut self, facts: &EnrichFacts) -> fmt::Result {
        let of = |value: fn(PartStatus) -> u64| {
            Part::ALL.iter().map(move |part| {
                let labels: Labels = vec![("part", part.name().to_owned())];
                (labels, value(facts.parts.of(*part)))
            })
        };
        self.counters(
            "flowsluice_enrich_loaded",
            "Times that the part was loaded from its files",
            of(|part| part.loaded),
        )?;
        self.counters(
            "flowsluice_enrich_refused",
            "Times that its files were refused; what was read before stays in use",
            of(|part| part.refused),
        )?;
        self.gauges(
            "flowsluice_enrich_faulty",
            "1 while the files of the part have a fault",
            of(|part| u64::from(part.is_faulty)),
        )?;
        self.gauges(
            "flowsluice_enrich_memory_bytes",
            "Memory of its table; networks and threats share one",
            of(|part| part.memory_bytes),
        )?;
        self.gauge(
            "flowsluice_enrich_interfaces_left_out",
            "Interfaces for which there is no room",
            facts.interfaces_left_out,
        )?;
        self.figures("flowsluice_dns", &facts.dns.figures())?;
        self.figures("flowsluice_snmp", &facts.snmp.figures())
    }

    fn figures(&mut self, prefix: &str, figures: &[Figure]) -> fmt::Result {
        for figure in figures {
            let name = format!("{prefix}_{}", figure.name);
            match figure.falls {
                true => self.gauge(&name, figure.help, figure.value)?,
                false => self.counter(&name, figure.help, figure.value)?,
            }
        }
        Ok(())
    }
}
