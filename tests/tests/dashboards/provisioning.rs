//! The files that Grafana provisions itself from: that they parse, name each other, and lead to
//! what is there.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::grafana::Dashboard;
use flowsluice_tests::place;
use serde_json::Value;

fn read(path: &str) -> Result<Value> {
    let path = place::root().join("grafana/provisioning").join(path);
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Type and uid of every data source in what Grafana loads; a variable's is none.
fn sources_of(value: &Value, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(kind), Some(uid)) = (
                fields.get("type").and_then(Value::as_str),
                fields.get("uid").and_then(Value::as_str),
            ) && kind.ends_with("-datasource")
            {
                found.insert((kind.to_owned(), uid.to_owned()));
            }
            fields.values().for_each(|value| sources_of(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| sources_of(value, found)),
        _ => {}
    }
}

#[test]
fn both_ways_to_clickhouse_make_the_source_that_dashboards_and_alerts_ask() -> Result<()> {
    let (http, native) = (
        read("datasources/flowsluice.yaml")?,
        read("datasources-native/flowsluice.yaml")?,
    );
    let mut found = BTreeSet::new();
    sources_of(&read("alerting/flowsluice.yaml")?, &mut found);
    for language in ["en", "ja"] {
        for dashboard in Dashboard::all(language)? {
            sources_of(&dashboard.json, &mut found);
        }
    }
    let choice = "${datasource}".to_owned();
    for (file, protocol, port) in [(&http, "http", 8123), (&native, "native", 9000)] {
        let all = file["datasources"].as_array().context("datasources")?;
        ensure!(all.len() == 1, "{} data sources", all.len());
        let source = &all[0];
        let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
        for (kind, uid) in &found {
            ensure!(*kind == text("type"), "{kind} is asked, {}", text("type"));
            ensure!(*uid == text("uid") || *uid == choice, "{uid} is asked");
        }
        let settings = &source["jsonData"];
        assert_eq!(settings["protocol"], protocol);
        assert_eq!(settings["port"], port);
        // The user that may read only, as the schema makes it.
        assert_eq!(settings["username"], "reader");
        let password = source["secureJsonData"]["password"].as_str();
        let is_file = password.is_some_and(|password| password.starts_with("$__file{/"));
        ensure!(is_file, "the password stands in the file");
    }
    ensure!(!found.is_empty(), "nobody asks a data source");
    assert_eq!(
        http["datasources"][0]["name"],
        native["datasources"][0]["name"]
    );
    Ok(())
}

#[test]
fn each_edition_has_a_folder_of_its_own() -> Result<()> {
    let providers = read("dashboards/flowsluice.yaml")?;
    let providers = providers["providers"].as_array().context("providers")?;
    assert_eq!(providers.len(), 2);
    for (provider, language) in providers.iter().zip(["en", "ja"]) {
        assert_eq!(provider["type"], "file");
        let path = provider["options"]["path"].as_str().unwrap_or_default();
        ensure!(
            path.ends_with(&format!("/{language}")),
            "{language}: {path}"
        );
        ensure!(!Dashboard::all(language)?.is_empty(), "{language}: none");
    }
    for key in ["name", "folder", "folderUid"] {
        ensure!(
            providers[0][key] != providers[1][key],
            "both have one {key}"
        );
    }
    Ok(())
}
