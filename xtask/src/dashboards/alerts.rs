//! Alert rules as Grafana is provisioned with them.
//!
//! Grafana fills in environment variables in such files, so nothing in them has a dollar sign.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::panel::{PLUGIN, PLUGIN_VERSION};
use super::query;
use super::source::{Alerts, Language, Rule};

/// The uid of the data source that `provisioning/datasources` makes.
const DATASOURCE: &str = "flowsluice";

/// The file of all rules.
pub fn file(alerts: &Alerts) -> Result<String> {
    let mut rules = Vec::new();
    for one in &alerts.rule {
        rules.push(rule(one).with_context(|| format!("alert '{}'", one.name))?);
    }
    let file = json!({
        "apiVersion": 1,
        "groups": [{
            "orgId": 1,
            "name": "flowsluice",
            "folder": "Flowsluice",
            "interval": "1m",
            "rules": rules,
        }],
    });
    let mut text =
        "# Made from ../../source/alerts.toml by 'cargo xtask dashboards': edit that.\n".to_owned();
    yaml(&file, 0, &mut text);
    ensure!(
        !text.contains('$'),
        "Grafana would take what is behind '$' for its environment"
    );
    Ok(text)
}

fn rule(rule: &Rule) -> Result<Value> {
    let Rule {
        name,
        title,
        summary,
        description,
        severity,
        sql,
        above,
        lasts,
    } = rule;
    let [english, japanese] = Language::ALL;
    Ok(json!({
        "uid": format!("flowsluice-{name}"),
        "title": title.of(english),
        "condition": "above",
        "data": [
            {
                "refId": "rows",
                "relativeTimeRange": { "from": 3600, "to": 0 },
                "datasourceUid": DATASOURCE,
                "model": {
                    "refId": "rows",
                    "datasource": { "type": PLUGIN, "uid": DATASOURCE },
                    "editorType": "sql",
                    "queryType": "table",
                    "format": 1,
                    "pluginVersion": PLUGIN_VERSION,
                    "rawSql": query::expand(sql, &[], english)?,
                },
            },
            {
                "refId": "above",
                "relativeTimeRange": { "from": 3600, "to": 0 },
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "above",
                    "type": "threshold",
                    "datasource": { "type": "__expr__", "uid": "__expr__" },
                    "expression": "rows",
                    "conditions": [{ "evaluator": { "type": "gt", "params": [above] } }],
                },
            },
        ],
        // No row: nothing is wrong.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": lasts,
        "annotations": {
            "summary": summary.of(english),
            "description": description.of(english),
            "title_ja": title.of(japanese),
            "summary_ja": summary.of(japanese),
            "description_ja": description.of(japanese),
        },
        "labels": { "severity": severity, "product": "flowsluice" },
    }))
}

/// Writes a value in YAML's block style; texts are quoted as in JSON, which YAML reads.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let _ = write!(out, "{indent}{key}:");
                below(value, depth, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                yaml(item, depth + 1, &mut inner);
                let _ = writeln!(out, "{indent}- {}", inner.trim());
            }
        }
        scalar => {
            let _ = writeln!(out, "{indent}{scalar}");
        }
    }
}

fn below(value: &Value, depth: usize, out: &mut String) {
    if matches!(value, Value::Object(_) | Value::Array(_)) {
        out.push('\n');
        yaml(value, depth + 1, out);
    } else {
        let _ = writeln!(out, " {value}");
    }
}
