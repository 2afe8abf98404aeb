//! What became of forwarded datagrams.

use std::fmt;

use super::{Labels, Out};
use crate::receive::tee::TeeFacts;

impl Out<'_> {
    pub(super) fn tees(&mut self, tees: &[TeeFacts]) -> fmt::Result {
        let to = |facts: &TeeFacts| -> Labels { vec![("to", facts.to.clone())] };
        self.counters(
            "flowsluice_tee_datagrams_sent",
            "Copies of datagrams handed to the kernel for another collector of receive.tee",
            tees.iter().map(|facts| (to(facts), facts.sent)),
        )?;
        let dropped = tees.iter().flat_map(|facts| {
            let reasons = [
                ("backlog", facts.dropped_backlog),
                ("refused", facts.dropped_refused),
            ];
            reasons.map(|(reason, count)| {
                let mut labels = to(facts);
                labels.push(("reason", reason.to_owned()));
                (labels, count)
            })
        });
        self.counters(
            "flowsluice_tee_datagrams_dropped",
            "Copies that were not forwarded. backlog: too many waited; refused: no address, no \
             route, nobody listens, or too long for the way",
            dropped,
        )
    }
}
