//! English and Japanese: the same dashboards, every text in its language, links that lead
//! somewhere.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::grafana::Dashboard;
use serde_json::Value;

/// Words that are the same in both languages.
const TECHNICAL: [&str; 10] = [
    "AS",
    "VLAN",
    "ToS",
    "DSCP",
    "ECN",
    "bit/s",
    "ifIndex",
    "Observation domain",
    "VRF",
    "MAC",
];

#[test]
fn both_editions_have_the_same_panels_and_no_text_is_left_untranslated() -> Result<()> {
    let (english, japanese) = (Dashboard::all("en")?, Dashboard::all("ja")?);
    ensure!(english.len() >= 15, "only {} dashboards", english.len());
    let names = |of: &[Dashboard]| of.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&english), names(&japanese));
    for (english, japanese) in english.iter().zip(&japanese) {
        let mut texts = Vec::new();
        same(&english.json, &japanese.json, "", &mut texts)
            .with_context(|| english.name.clone())?;
        ensure!(
            texts.len() > 5,
            "{}: only {} texts",
            english.name,
            texts.len()
        );
        let wrong = texts
            .iter()
            .filter_map(|(path, en, ja)| translated(path, en, ja).err());
        let wrong: Vec<_> = wrong
            .map(|error| format!("{}{error}", english.name))
            .collect();
        ensure!(wrong.is_empty(), "{wrong:#?}");
    }
    for rule in crate::alerts::rules()? {
        let text = |name: &str| {
            let found = rule.annotations.iter().find(|(other, _)| other == name);
            found
                .map(|(_, text)| text)
                .with_context(|| format!("{}: no {name}", rule.uid))
        };
        for name in ["summary", "description"] {
            let path = format!("{}: {name}", rule.uid);
            translated(&path, text(name)?, text(&format!("{name}_ja"))?)?;
        }
    }
    Ok(())
}

#[test]
fn links_lead_to_dashboards_of_the_same_language_with_filters_that_these_have() -> Result<()> {
    let mut count = 0;
    for language in ["en", "ja"] {
        let all = Dashboard::all(language)?;
        for dashboard in &all {
            let mut urls = Vec::new();
            urls_of(&dashboard.json, &mut urls);
            for url in urls {
                let what = format!("{language}/{}: {url}", dashboard.name);
                let rest = url.strip_prefix("/d/").with_context(|| what.clone())?;
                let (uid, query) = rest.split_once('?').with_context(|| what.clone())?;
                let target = all.iter().find(|one| one.json["uid"] == uid);
                let target = target.with_context(|| format!("{what}: no such dashboard"))?;
                ensure!(
                    query.contains("${__url_time_range}"),
                    "{what}: forgets the range"
                );
                for set in query.split('&').filter_map(|one| one.strip_prefix("var-")) {
                    let name = set.split('=').next().unwrap_or_default();
                    let is_there = target.variables().iter().any(|(other, _)| other == name);
                    ensure!(is_there, "{what}: {} has no filter {name}", target.name);
                }
                for (filter, _) in dashboard.variables() {
                    let is_kept = query.contains(&format!("${{{filter}:queryparam}}"))
                        || query.contains(&format!("var-{filter}="));
                    ensure!(is_kept, "{what}: forgets the filter {filter}");
                }
                count += 1;
            }
        }
    }
    ensure!(count > 20, "only {count} links");
    Ok(())
}

/// The talker leads to its conversations, these to their flow records.
#[test]
fn one_comes_from_a_talker_by_its_conversations_to_its_flow_records() -> Result<()> {
    let all = Dashboard::all("en")?;
    for (from, to, filter) in [
        ("talkers", "flowsluice-conversations?", "var-client="),
        ("conversations", "flowsluice-records?", "var-server="),
    ] {
        let dashboard = all.iter().find(|one| one.name == from).context(from)?;
        let mut urls = Vec::new();
        urls_of(&dashboard.json, &mut urls);
        let leads = urls
            .iter()
            .any(|url| url.contains(to) && url.contains(filter));
        ensure!(
            leads,
            "{from} does not lead to {to} with {filter}: {urls:?}"
        );
    }
    Ok(())
}

/// Where two editions differ: in texts alone, which are collected.
fn same(
    english: &Value,
    japanese: &Value,
    path: &str,
    texts: &mut Vec<(String, String, String)>,
) -> Result<()> {
    match (english, japanese) {
        (Value::Object(a), Value::Object(b)) => {
            let keys =
                |of: &serde_json::Map<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
            ensure!(keys(a) == keys(b), "{path}: other keys");
            let is_name = a.get("id").is_some_and(|id| id == "displayName");
            for (key, value) in a {
                let path = format!("{path}/{key}");
                let is_text = ["title", "description", "label", "content"].contains(&key.as_str())
                    || (is_name && key == "value");
                match (value, &b[key]) {
                    (Value::String(a), Value::String(b)) if is_text => {
                        texts.push((path, a.clone(), b.clone()));
                    }
                    (Value::String(a), Value::String(b))
                        if ["rawSql", "query"].contains(&key.as_str()) =>
                    {
                        ensure!(without_strings(a) == without_strings(b), "{path}: {a}\n{b}");
                    }
                    (Value::String(a), Value::String(b))
                        if ["uid", "url"].contains(&key.as_str()) =>
                    {
                        ensure!(*a == b.replacen("-ja", "", 1), "{path}: {a}, {b}");
                    }
                    (Value::Array(_), Value::Array(b)) if key == "tags" => {
                        ensure!(b.contains(&Value::from("ja")), "{path}: {b:?}");
                    }
                    (a, b) => same(a, b, &path, texts)?,
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            ensure!(a.len() == b.len(), "{path}: {} and {}", a.len(), b.len());
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                same(a, b, &format!("{path}/{at}"), texts)?;
            }
        }
        (a, b) => ensure!(a == b, "{path}: {a} and {b}"),
    }
    Ok(())
}

fn without_strings(sql: &str) -> String {
    sql.split('\'').step_by(2).collect()
}

fn translated(path: &str, english: &str, japanese: &str) -> Result<()> {
    let is_japanese = |text: &str| text.chars().any(|c| ('\u{3040}'..='\u{9fff}').contains(&c));
    ensure!(
        english.is_empty() == japanese.is_empty(),
        "{path}: only in one language"
    );
    ensure!(!is_japanese(english), "{path}: not English: {english}");
    let is_technical = english == japanese && (TECHNICAL.contains(&english) || english.is_empty());
    ensure!(
        is_japanese(japanese) || is_technical,
        "{path}: not translated: {english} | {japanese}"
    );
    Ok(())
}

fn urls_of(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(url) if key == "url" => found.push(url.clone()),
                    value => urls_of(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| urls_of(item, found)),
        _ => {}
    }
}
