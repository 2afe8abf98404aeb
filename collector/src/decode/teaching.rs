//! What a datagram may teach: whether it matters who decodes it, and when.
//!
//! In: a datagram, and what is known of its exporter. Out: [`Teaching`]. Owner: one worker. It is
//! asked only while a worker hands datagrams to others.

use super::sets::{Content, Message, Set};
use super::shared::Learned;
use super::template::{Entries, Entry, Kind};

/// What decoding a datagram may change for others of its exporter and domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teaching {
    /// Nothing, and every template that it needs is known to all workers: any of them can decode
    /// it, before or after its neighbours.
    Nothing,
    /// Perhaps something: those behind it must be decoded later, those before it do not care.
    Something,
    /// Another meaning of a template that is in use: those before it must be decoded earlier.
    OtherMeaning,
}

/// What the sets of `message` may teach who knows `learned`.
pub(super) fn of_sets(message: &Message<'_>, learned: &Learned) -> Teaching {
    let mut most = Teaching::Nothing;
    let mut at = message.sets_at;
    while let Some(set) = Set::at(message, at) {
        at = set.body.end;
        let teaching = match set.content(message.dialect) {
            Content::Templates(kind) => of_templates(message, &set, kind, learned),
            Content::Records => match learned.template(set.id) {
                Some(template) if template.kind == Kind::Data => Teaching::Nothing,
                _ => Teaching::Something,
            },
            Content::Reserved => Teaching::Nothing,
        };
        most = most.max(teaching);
    }
    most
}

fn of_templates(message: &Message<'_>, set: &Set, kind: Kind, learned: &Learned) -> Teaching {
    let body = message.bytes.get(set.body.clone()).unwrap_or_default();
    let other_meaning = |is_known| match is_known {
        true => Teaching::OtherMeaning,
        false => Teaching::Nothing,
    };
    let teachings = Entries::new(body, kind, message.dialect).map(|entry| match entry {
        Entry::Definition(definition) => match learned.template(definition.id) {
            // Exporters repeat their templates; most of those teach nothing.
            Some(template) => other_meaning(!definition.is(template)),
            None => Teaching::Something,
        },
        Entry::Withdraw(id) | Entry::Malformed { id, .. } => {
            other_meaning(learned.template(id).is_some())
        }
        Entry::WithdrawAll => other_meaning(learned.templates_of(kind) > 0),
    });
    teachings.max().unwrap_or(Teaching::Nothing)
}
