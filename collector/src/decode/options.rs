//! Options records: facts about the exporter, no flows.

use super::FlowSink;
use super::plan::Layout;
use super::record::NO_EXTRAS;
use super::sets::{Message, Set, Workspace, count_fixed, each_variable, windows};
use super::template::Template;
use super::window::WINDOW_LEAD;
use crate::flow::Flow;

impl<S: FlowSink> Workspace<'_, '_, S> {
    /// Takes note of what the records of `set` tell.
    pub(super) fn options(&mut self, message: &Message<'_>, set: &Set, template: &Template) {
        let Self {
            domain,
            counts,
            spans,
            shared,
            ..
        } = self;
        let Template { plan, naming, .. } = template;
        match plan.layout() {
            Layout::Fixed { len } => {
                count_fixed(message.bytes, set, *len, counts);
                for number in 0..set.body.len() / len {
                    let window = windows(message.bytes, set).get(number * len..);
                    let window = window.unwrap_or_default();
                    let (mut facts, mut extras) = ([Flow::EMPTY], [NO_EXTRAS]);
                    plan.fill_fixed(window, *len, &message.clock, &mut facts, &mut extras);
                    let ([facts], [extras]) = (facts, extras);
                    domain.learn_options(&facts, &extras);
                    if let Some(naming) = naming {
                        domain.tell_name(naming.told(window, None), shared, counts);
                    }
                    counts.records_decoded += 1;
                    counts.options_records += 1;
                }
            }
            Layout::Variable { len_min, .. } => {
                let body = message.bytes;
                each_variable(body, set, *len_min, counts, |rest, lead, counts| {
                    let len = plan.measure(rest, spans)?;
                    let window = body.get(lead..lead + WINDOW_LEAD + len)?;
                    let (mut facts, mut extras) = (Flow::EMPTY, NO_EXTRAS);
                    plan.fill_variable(window, spans, &message.clock, &mut facts, &mut extras);
                    domain.learn_options(&facts, &extras);
                    if let Some(naming) = naming {
                        domain.tell_name(naming.told(window, Some(&**spans)), shared, counts);
                    }
                    counts.options_records += 1;
                    Some(len)
                });
            }
        }
    }
}
