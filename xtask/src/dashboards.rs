//! `cargo xtask dashboards`: Grafana's dashboards and alert rules, from `grafana/source`.
//!
//! Each dashboard is made in English and in Japanese, of the same panels. `--check` fails when what
//! is committed is not what would be written.

mod alerts;
mod filters;
mod panel;
mod query;
mod source;
mod traffic;
pub mod types;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;
use serde_json::{Value, json};

use crate::generated;

use panel::{Maker, PLUGIN};
use source::{Dashboard, Language, Source, Variable};

/// Makes the files, or checks them.
pub fn main(args: &generated::Args) -> Result<()> {
    if args.check {
        return check();
    }
    let made = made()?;
    for file in committed()?
        .into_keys()
        .filter(|file| !made.contains_key(file))
    {
        fs::remove_file(folder().join(&file)).with_context(|| format!("remove {file}"))?;
        eprintln!("xtask: removed grafana/{file}");
    }
    for (file, text) in made {
        let path = folder().join(&file);
        let parent = path.parent().context("a file is in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        eprintln!("xtask: wrote grafana/{file}");
    }
    Ok(())
}

/// Fails when a committed file is not what would be written.
pub fn check() -> Result<()> {
    let made = made()?;
    let committed = committed()?;
    for (file, text) in &made {
        ensure!(
            committed.get(file) == Some(text),
            "grafana/{file} is not what grafana/source makes; run 'cargo xtask dashboards' and \
             commit the result"
        );
    }
    if let Some(file) = committed.keys().find(|file| !made.contains_key(*file)) {
        bail!("grafana/{file} comes from nothing in grafana/source; remove it");
    }
    Ok(())
}

fn folder() -> PathBuf {
    place::root().join("grafana")
}

/// The folders that hold nothing but what is made here.
const FOLDERS: [&str; 3] = ["dashboards/en", "dashboards/ja", "provisioning/alerting"];

/// What is there, by its path in `grafana`.
fn committed() -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for inside in FOLDERS {
        let Ok(entries) = fs::read_dir(folder().join(inside)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            files.insert(format!("{inside}/{name}"), text);
        }
    }
    Ok(files)
}

/// What is to be there.
fn made() -> Result<BTreeMap<String, String>> {
    let source = Source::read()?;
    for (name, column) in &source.shared.column {
        let is_named = column.title.is_some() && column.name.is_empty();
        ensure!(
            is_named,
            "shared.toml: column.{name} needs a title and nothing called name"
        );
    }
    let mut files = BTreeMap::new();
    for language in Language::ALL {
        for dashboard in &source.dashboards {
            let name = &dashboard.name;
            let value = made_of(&source, dashboard, language);
            let value = value.with_context(|| format!("grafana/source/{name}.toml"))?;
            let text = serde_json::to_string_pretty(&value)? + "\n";
            files.insert(format!("dashboards/{}/{name}.json", language.code()), text);
        }
    }
    let rules = alerts::file(&source.alerts).context("grafana/source/alerts.toml")?;
    files.insert("provisioning/alerting/flowsluice.yaml".into(), rules);
    Ok(files)
}

/// One dashboard in one language.
fn made_of(source: &Source, dashboard: &Dashboard, language: Language) -> Result<Value> {
    let variables = filters::variables(&source.shared, dashboard.filters);
    let maker = Maker {
        source,
        dashboard,
        variables: variables.clone(),
        language,
    };
    let mut tags = vec!["flowsluice", language.code()];
    tags.extend(dashboard.tags.iter().map(String::as_str));
    let mut list = vec![json!({
        "type": "datasource",
        "name": "datasource",
        "label": maker.text("data_source")?,
        "query": PLUGIN,
        "refresh": 1,
        "hide": 0,
    })];
    for variable in &variables {
        list.push(filter(variable, &variables, language)?);
    }
    Ok(json!({
        "uid": language.uid(&dashboard.name),
        "title": format!("Flowsluice: {}", dashboard.title.of(language)),
        "description": dashboard.description.of(language),
        "tags": tags,
        "editable": true,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": dashboard.refresh,
        "time": { "from": dashboard.time, "to": "now" },
        "timezone": "browser",
        "templating": { "list": list },
        "annotations": { "list": [] },
        "links": [{
            "type": "dashboards",
            "title": maker.text("all_dashboards")?,
            "tags": ["flowsluice", language.code()],
            "asDropdown": true,
            "includeVars": true,
            "keepTime": true,
            "targetBlank": false,
            "icon": "external link",
            "tooltip": "",
        }],
        "panels": maker.panels()?,
    }))
}

/// A variable as Grafana reads it.
fn filter(variable: &Variable, all: &[&Variable], language: Language) -> Result<Value> {
    let name = &variable.name;
    let mut made = json!({
        "name": name,
        "label": variable.title.of(language),
        "hide": 0,
        "skipUrlSync": false,
    });
    if let Some(description) = &variable.description {
        made["description"] = json!(description.of(language));
    }
    let Some(sql) = &variable.sql else {
        made["type"] = json!("textbox");
        made["query"] = json!("");
        made["current"] = json!({ "text": "", "value": "" });
        return Ok(made);
    };
    let sql = query::expand(sql, all, language)
        .with_context(|| format!("shared.toml: variable {name}"))?;
    made["type"] = json!("query");
    made["datasource"] = json!({ "type": PLUGIN, "uid": "${datasource}" });
    made["query"] = json!(sql);
    made["multi"] = json!(true);
    made["includeAll"] = json!(true);
    made["allowCustomValue"] = json!(true);
    made["current"] = json!({ "text": ["All"], "value": ["$__all"] });
    made["options"] = json!([]);
    // Its values follow the time range; their order is that of the query.
    made["refresh"] = json!(2);
    made["sort"] = json!(0);
    Ok(made)
}

/// Of dashboards that Grafana 11.6 and later read; newer ones migrate it as they load.
const SCHEMA_VERSION: u32 = 41;
