//! The sFlow agent of a domain, and what it says that it dropped.

use super::Domain;
use crate::decode::sflow::{Agent, Header, Said};

impl Domain {
    /// The agent that sent a datagram with `header`. Where all domains of an exporter are one, each
    /// still has data sources of its own, and nothing can be told from them.
    #[inline]
    pub fn agent<'a>(&'a mut self, header: &Header, said: &'a mut Said) -> Option<Agent<'a>> {
        let Self {
            known,
            knowledge,
            run,
            last_seen,
            ..
        } = self;
        let is_followed = !known.is_one_scope;
        is_followed.then(|| Agent::new(header, *last_seen, run, &knowledge.sequence, said))
    }
}
