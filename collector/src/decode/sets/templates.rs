//! What the sets of a message teach, and the sets that wait for it.

use super::tally::Tally;
use super::{Message, Set, Workspace};
use crate::decode::FlowSink;
use crate::decode::exporters::NoRoom;
use crate::decode::pending::Arrival;
use crate::decode::shared::{Change, Holding};
use crate::decode::template::{Definition, Entries, Entry, Kind};
use crate::ledger::DropReason;

impl<S: FlowSink> Workspace<'_, '_, S> {
    /// Concludes a datagram: the others hear of its templates, and what waited for them is
    /// decoded.
    #[inline]
    pub fn conclude(&mut self) {
        if !self.domain.new_ids().is_empty() {
            for id in self.domain.publish_templates(self.shared) {
                self.replay(id);
            }
        }
    }

    /// Takes in a set of templates of one kind.
    pub(super) fn templates(&mut self, message: &Message<'_>, set: &Set, kind: Kind) {
        let body = message.bytes.get(set.body.clone()).unwrap_or_default();
        for entry in Entries::new(body, kind, message.dialect) {
            match entry {
                Entry::Definition(definition) => self.definition(&definition),
                Entry::Withdraw(id) => {
                    if self.forget(id) {
                        self.counts.templates_withdrawn += 1;
                    }
                }
                Entry::WithdrawAll => {
                    let withdrawn = self.domain.learned().templates_of(kind);
                    if withdrawn > 0 {
                        for id in self.domain.new_ids().to_vec() {
                            self.replay(id);
                        }
                        self.domain.change(Change::WithdrawAll(kind));
                        self.counts.templates_withdrawn += withdrawn as u64;
                    }
                }
                Entry::Malformed { id, .. } => self.malformed(id),
            }
        }
    }

    fn definition(&mut self, definition: &Definition<'_>) {
        let known = self.domain.learned().template(definition.id);
        if let Some(template) = known
            && definition.is(template)
        {
            template.life.sent(self.domain.base().time_received_s);
            return;
        }
        let weight_before = known.map(|template| template.weight());
        if weight_before.is_none() && !self.makes_room() {
            self.counts.drop_one(DropReason::TemplateLimit);
            return;
        }
        let Some(template) = definition.compile(self.wanted) else {
            self.malformed(definition.id);
            return;
        };
        let grows = weight_before.is_some_and(|before| template.weight() > before);
        if grows && !self.has_room_among_all() {
            self.counts.drop_one(DropReason::TemplateLimit);
            self.forget(definition.id);
            return;
        }
        self.replay_new(definition.id);
        self.domain.learn_template(template);
        self.counts.templates_learned += 1;
    }

    /// The exporter has redefined `id` as something that cannot be used: data that follow must
    /// not be read with the old meaning.
    fn malformed(&mut self, id: u16) {
        self.counts.drop_one(DropReason::TemplateMalformed);
        self.forget(id);
    }

    /// False when there was no such template.
    fn forget(&mut self, id: u16) -> bool {
        let is_known = self.domain.learned().template(id).is_some();
        if is_known {
            self.replay_new(id);
            self.domain.change(Change::Withdraw(id));
        }
        is_known
    }

    /// Before `id` gets another meaning, or none: if it is one that this very datagram gave it,
    /// what waited for it is still to be decoded.
    fn replay_new(&mut self, id: u16) {
        if self.domain.new_ids().contains(&id) {
            self.replay(id);
        }
    }

    /// Finds room for one more template. One that is missed least gives way, of this exporter when
    /// it has its share, else of one that deserves it less.
    fn makes_room(&mut self) -> bool {
        match self.domain.who_gives_way(self.limits) {
            Ok(None) => {}
            Ok(Some(id)) => {
                self.forget(id);
                self.counts.templates_evicted += 1;
            }
            Err(NoRoom) => return false,
        }
        self.has_room_among_all()
    }

    fn has_room_among_all(&mut self) -> bool {
        let (has_room, evicted) = self.domain.room_among_all(self.limits.all, self.shared);
        self.counts.templates_evicted += evicted;
        has_room
    }

    /// Holds a set whose template is not known here.
    #[cold]
    pub(super) fn wait(&mut self, message: &Message<'_>, set: &Set, tally: &mut Tally) {
        let (key, arrival) = (self.domain.key(), self.domain.arrival());
        let received = arrival.received;
        let holding = match self.domain.refused().has(set.id, received) {
            true => Holding::Full,
            false => {
                let bytes_max = self.limits.pending_bytes;
                self.shared.hold(key, message, set, arrival, bytes_max)
            }
        };
        match holding {
            Holding::Held => self.counts.sets_held += 1,
            Holding::Known => {
                self.domain.catch_up(self.shared);
                if self.tallied(message, set, tally) {
                    return;
                }
                self.counts.drop_one(DropReason::TemplateMissing);
            }
            Holding::Full => {
                self.domain.refused().note(set.id, received);
                self.counts.drop_one(DropReason::TemplateMissing);
            }
        }
        tally.is_partial = true;
    }

    /// Decodes what waited for the template `id`, as of when it arrived.
    fn replay(&mut self, id: u16) {
        if !self.shared.has_pending() {
            return;
        }
        let now = self.domain.arrival();
        for held in self.shared.take_pending(self.domain.key(), id) {
            let mut message = held.message();
            self.arrived(held.arrival);
            self.set_clock(&mut message);
            if self.records(&message, &held.set()) {
                self.counts.sets_replayed += 1;
            } else {
                self.counts.give_up_sets(1);
            }
        }
        self.arrived(now);
    }

    /// What is decoded from here on came so.
    fn arrived(&mut self, arrival: Arrival) {
        let Arrival {
            received,
            observation_domain,
        } = arrival;
        self.domain.begin(received, observation_domain);
        self.burst.end_at(self.domain.flows_end_ms());
    }
}
