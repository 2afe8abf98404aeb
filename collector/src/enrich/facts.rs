//! What the parts of enrichment say of themselves, for `/metrics` and `/status`.

use std::sync::Arc;

use super::dns::DnsCounts;
use super::parts::PartsCounts;
use super::snmp::SnmpCounts;

/// What is known beside flows, at one moment.
#[derive(Clone, Debug)]
pub struct EnrichFacts {
    /// What became of files.
    pub parts: Arc<PartsCounts>,
    /// What name servers were asked.
    pub dns: DnsCounts,
    /// What agents were asked.
    pub snmp: SnmpCounts,
    /// Interfaces for which the table has no room.
    pub interfaces_left_out: u64,
}

/// One figure with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// As metrics call it.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// True for one of now, false for one that only grows.
    pub falls: bool,
    /// Its value.
    pub value: u64,
}

/// `grows name "help"` or `falls name "help"`, of a struct with the figure of that name.
macro_rules! figures {
    ($counts:ty { $($how:ident $name:ident $help:literal,)+ }) => {
        impl $counts {
            /// All figures, named.
            #[must_use]
            pub fn figures(&self) -> Vec<Figure> {
                // Named one by one, so that none can be forgotten.
                let Self { $($name),+ } = *self;
                vec![$(Figure {
                    name: stringify!($name),
                    help: $help,
                    falls: stringify!($how) == "falls",
                    value: $name,
                }),+]
            }
        }
    };
}

figures! { DnsCounts {
    grows queries "Questions sent to name servers",
    grows hits "Answers with a name",
    grows misses "Answers that there is no name",
    grows failures "Answers that said nothing, and questions that could not be sent",
    grows timeouts "Questions without an answer in time",
    grows not_asked "Addresses that were not asked for, because too many waited",
    grows evicted "Names, and addresses known to have none, forgotten early to make room",
    falls waiting "Questions that wait",
    falls under_way "Questions under way",
    falls names "Addresses with a name",
    falls nameless "Addresses known to have none",
    falls servers "Name servers",
    falls servers_dead "Name servers that do not answer",
}}

figures! { SnmpCounts {
    grows polls "Polls of agents that ended",
    grows failures "Polls that failed",
    grows timeouts "Polls that failed because there was no answer in time",
    falls exporters "Exporters that are asked",
    falls exporters_failing "Exporters whose last poll failed; what they said before is kept",
    falls exporters_left_out "Exporters with a target for which there is no room",
    falls interfaces "Interfaces that are known by SNMP",
    grows rows_cut "Times that an exporter had more interfaces than there is room for",
    grows rows_put_off "Rows of interfaces that come with a later poll",
}}
