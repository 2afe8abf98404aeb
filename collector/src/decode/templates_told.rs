//! `/debug/templates`: what exporters said that their records mean.

use std::sync::Arc;

use serde_json::{Value, json};

use super::elements;
use super::plan::{FieldSpec, VARIABLE_LENGTH};
use super::shared::{DomainKey, Known, Shared};
use super::template::{Dialect, Entries, Entry, Template};
use crate::flow::FlowType;
use crate::units::UnixNanos;

/// All templates that are known at `now`, by exporter, domain and id.
#[must_use]
pub fn templates(shared: &Shared, now: UnixNanos) -> Value {
    let mut known = shared.known();
    known.sort_unstable_by_key(|known| known.key);
    let all = known.iter().flat_map(|Known { key, learned, .. }| {
        let mut templates: Vec<_> = learned.each_template().collect();
        templates.sort_unstable_by_key(|template| template.id);
        let told = templates.into_iter();
        told.map(|template| one(key, template, now.seconds()))
    });
    json!({ "templates": all.collect::<Vec<_>>() })
}

fn one(key: &DomainKey, template: &Arc<Template>, now_s: u32) -> Value {
    let age = |at_s: u32| (at_s > 0).then(|| now_s.saturating_sub(at_s));
    json!({
        "exporter": key.source.to_string(),
        "protocol": key.flow_type.name(),
        "observation_domain": key.observation_domain,
        "tcp_port": (key.session != 0).then_some(key.session),
        "id": template.id,
        "kind": template.kind,
        "sent_ago_s": age(template.life.sent_s()),
        "used_ago_s": age(template.life.used_s()),
        "fields": fields(key.flow_type, template).iter().map(field).collect::<Vec<_>>(),
    })
}

/// Read from the bytes again: a compiled template has only what is of use.
fn fields(flow_type: FlowType, template: &Template) -> Vec<FieldSpec> {
    let dialect = match flow_type {
        FlowType::Netflow9 => Dialect::Netflow9,
        _ => Dialect::Ipfix,
    };
    let mut entries = Entries::new(template.definition(), template.kind, dialect);
    match entries.next() {
        Some(Entry::Definition(definition)) => definition.fields().unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn field(field: &FieldSpec) -> Value {
    let info = elements::info(field.enterprise, field.id).filter(|_| !field.is_scope);
    json!({
        "enterprise": field.enterprise,
        "id": field.id,
        "name": info.map(|info| info.name),
        // null: each record tells.
        "bytes": (field.len != VARIABLE_LENGTH).then_some(field.len),
        "scope": field.is_scope,
    })
}
