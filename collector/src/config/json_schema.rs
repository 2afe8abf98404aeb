//! The configuration as a JSON schema, for editors: `deploy/flowsluice.schema.json`.
//!
//! Types come from [`super::keys`], defaults from [`Config::default`], descriptions from the
//! comments of the documented file. What values mean together is the matter of `flowsluice check`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind};
use super::{Config, documented};

/// The schema (draft 7, which editors know), as text.
#[must_use]
pub fn json_schema() -> String {
    let schema = Schema {
        comments: documented::comments(),
        defaults: serde_json::to_value(Config::default()).expect("a configuration is an object"),
    };
    let mut root = object(json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of Flowsluice",
    }));
    root.extend(schema.table(""));
    format!("{:#}\n", Value::Object(root))
}

struct Schema {
    comments: HashMap<String, String>,
    defaults: Value,
}

impl Schema {
    /// What the table at `path` takes.
    fn table(&self, path: &str) -> Map<String, Value> {
        let mut table = object(json!({ "type": "object", "additionalProperties": false }));
        let required = keys::REQUIRED.iter().filter_map(|key| key.rsplit_once('.'));
        let required = required.filter(|(table, _)| *table == path);
        let required: Vec<_> = required.map(|(_, name)| name).collect();
        if !required.is_empty() {
            table.insert("required".into(), json!(required));
        }
        let properties = keys::within(path).map(|(name, key)| (name.to_owned(), self.key(key)));
        table.insert("properties".into(), Value::Object(properties.collect()));
        table
    }

    fn key(&self, key: &Key) -> Value {
        let mut schema = Map::new();
        if let Some(comment) = self.comments.get(key.path) {
            schema.insert("description".into(), json!(comment));
        }
        schema.extend(self.value(key.kind, key.path));
        // That of a table stands at its keys; what is absent by default is null, or not there.
        let place = format!("/{}", key.path.replace('.', "/"));
        let default = self
            .defaults
            .pointer(&place)
            .filter(|default| !default.is_null());
        if let Some(default) = default.filter(|_| key.kind != Kind::Table) {
            schema.insert("default".into(), default.clone());
        }
        Value::Object(schema)
    }

    /// What a value of this kind is; `path` is where tables stand.
    fn value(&self, kind: Kind, path: &str) -> Map<String, Value> {
        let list = |items| object(json!({ "type": "array", "items": items }));
        let list_of = |kind| list(self.value(kind, path));
        let text_like = |pattern| object(json!({ "type": "string", "pattern": pattern }));
        let whole = |max| object(json!({ "type": "integer", "minimum": 0, "maximum": max }));
        match kind {
            Kind::Table => self.table(path),
            Kind::Tables => list(self.table(&format!("{path}[]"))),
            Kind::Count => object(json!({ "type": "integer", "minimum": 0 })),
            Kind::Count32 => whole(u32::MAX),
            Kind::Port => whole(u16::MAX.into()),
            Kind::Flag => object(json!({ "type": "boolean" })),
            Kind::Bytes => text_like(BYTES),
            Kind::Duration => text_like(DURATION),
            Kind::Text | Kind::Secret | Kind::Path => object(json!({ "type": "string" })),
            Kind::Address => text_like(ADDRESS),
            Kind::Socket => text_like(SOCKET),
            Kind::Prefix => text_like(PREFIX),
            Kind::Word(words) => object(json!({ "type": "string", "enum": words })),
            Kind::Words(words) => list_of(Kind::Word(words)),
            Kind::Counts => list_of(Kind::Count),
            Kind::Texts | Kind::Elements => list_of(Kind::Text),
            Kind::Addresses => list_of(Kind::Address),
            Kind::Prefixes => list_of(Kind::Prefix),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

// Patterns that hold in JavaScript as in Rust. They let everything pass that the collector takes;
// of addresses they know the letters alone.
const BYTES: &str = concat!(
    r"^([0-9]+|([0-9]+\.?[0-9]*|\.[0-9]+)\s*",
    "([bB]|[kKmMgGtTpPeE]([iI]?[bB]|[iI])?))$"
);
const DURATION: &str = concat!(
    r"^(0|(\s*[0-9][0-9\s]*(\.[0-9\s]+)?",
    "(ns|nsec|nanos|us|usec|µs|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?",
    r"|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?))+\s*)$"
);
const ADDRESS: &str = "^[0-9A-Fa-f:.]+$";
const SOCKET: &str = r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";
const PREFIX: &str = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";

#[cfg(test)]
mod tests;
