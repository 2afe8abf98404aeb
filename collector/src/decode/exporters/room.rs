//! Room for the templates of a domain, who hears of them, and what waits for them.

use std::sync::atomic::Ordering;

use super::Domain;
use crate::decode::pending::{Arrival, Refused};
use crate::decode::sets::TemplateLimits;
use crate::decode::shared::Shared;

/// An exporter, or its address, has as many templates as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Domain {
    /// When the datagram arrived that is being decoded, and of which domain it is.
    #[must_use]
    pub const fn arrival(&self) -> Arrival {
        Arrival {
            received: self.last_seen,
            observation_domain: self.base.observation_domain,
        }
    }

    /// Finds room for another template among those of all exporters, of which `max` may be known.
    /// Returns whether there is any, and how many templates another one gave up for it.
    #[must_use]
    pub fn room_among_all(&self, max: usize, shared: &Shared) -> (bool, u64) {
        let (weight, published) = (self.learned().weight(), self.weight_published());
        let has_room = || shared.templates() + weight < max + published;
        let evicted = match has_room() {
            true => 0,
            false => shared.free_templates(&self.key, self.last_seen),
        };
        (has_room(), evicted as u64)
    }

    /// How many of all templates this domain's count for, as far as the others know.
    fn weight_published(&self) -> usize {
        let before = self.before.as_deref();
        before.unwrap_or_else(|| self.learned()).weight()
    }

    /// The template to forget before a new one can be taken in, if `limits` ask for one: `Ok(None)`
    /// when there is room, [`NoRoom`] when there is none and none can be made, or that was done too
    /// often in this second.
    pub fn who_gives_way(&mut self, limits: TemplateLimits) -> Result<Option<u16>, NoRoom> {
        let source_weight = self.knowledge.presence.source_weight();
        let of_source = source_weight.load(Ordering::Relaxed) + self.learned().weight();
        let has_own_room = self.learned().templates() < limits.per_domain;
        let source_has_room = of_source < limits.of_source() + self.weight_published();
        if has_own_room && source_has_room {
            return Ok(None);
        }
        let now_s = self.base.time_received_s;
        let least = match self.evictions.may_be(now_s) {
            true => self.learned().least_used(now_s),
            false => None,
        };
        // What its neighbours at the same address take does not cost a domain what it uses.
        let least = least.filter(|(_, in_use)| !has_own_room || !in_use);
        least.map(|(id, _)| Some(id)).ok_or(NoRoom)
    }

    /// Ids that got a template by this datagram and had none before.
    #[must_use]
    #[inline]
    pub fn new_ids(&self) -> &[u16] {
        &self.new_ids
    }

    /// Tells the others what this datagram taught so far, and returns the new ids.
    #[cold]
    pub fn publish_templates(&mut self, shared: &Shared) -> Vec<u16> {
        self.publish(shared);
        std::mem::take(&mut self.new_ids)
    }

    /// Takes over what others have published meanwhile.
    #[cold]
    pub fn catch_up(&mut self, shared: &Shared) {
        if !self.changes.is_empty() {
            self.publish(shared);
        } else if let Some(knowledge) = shared.knowledge(&self.key) {
            self.knowledge = knowledge;
            self.refresh();
        }
    }

    /// Sets that found no room to wait for their template.
    pub const fn refused(&mut self) -> &mut Refused {
        &mut self.refused
    }
}
