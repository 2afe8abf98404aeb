//! Every query of every panel and variable, with much, little and hostile things selected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::grafana::{Dashboard, Panel, Range, Selected, Selection, expand};
use flowsluice_tests::place;

use crate::host::{Answer, HOSTILE, Host};

/// Hosts out of raw rows and services by minute; both by hour.
const RANGES_S: [u64; 2] = [40 * 60, 24 * 3600];

/// Queries under way at one time.
const ASKED_AT_ONCE: usize = 4;

/// No error, columns that the panel can show under names in the edition's language, and rows.
pub fn panels_answer(host: &Host) -> Result<()> {
    let questions = questions(host)?;
    ensure!(questions.len() > 300, "only {} queries", questions.len());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..ASKED_AT_ONCE {
            scope.spawn(|| {
                while let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = question.ask(host) {
                        let what = format!("{}: {error:#}", question.what);
                        wrong.lock().expect("nobody panics").push(what);
                    }
                }
            });
        }
    });
    eprintln!("{} queries of panels asked", questions.len());
    let wrong = wrong.into_inner().expect("nobody panics");
    ensure!(
        wrong.is_empty(),
        "{} queries:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// A panel with what is selected above it.
struct Question {
    what: String,
    panel: Arc<Panel>,
    selection: Arc<Selection>,
    range: Range,
    needs_rows: bool,
}

impl Question {
    fn ask(&self, host: &Host) -> Result<()> {
        let answer = answer_of(host, &self.panel, &self.selection, self.range)?;
        ensure!(!answer.rows.is_empty() || !self.needs_rows, "no rows");
        Ok(())
    }
}

/// Each panel over each range, and with each selection.
fn questions(host: &Host) -> Result<Vec<Question>> {
    let mut all = Vec::new();
    for dashboard in Dashboard::all("en")? {
        let variables = dashboard.variables();
        let everything = Arc::new(dashboard.everything());
        let may_be_empty = may_be_empty(&dashboard.name)?;
        let selections = selections(host, &variables)?;
        for panel in dashboard
            .panels()?
            .into_iter()
            .filter(|panel| !panel.sql.is_empty())
        {
            let panel = Arc::new(panel);
            let mut add = |how: &str, selection: &Arc<Selection>, range_s, needs_rows| {
                all.push(Question {
                    what: format!("{}: {}: {how}, {range_s} s", dashboard.name, panel.title),
                    panel: Arc::clone(&panel),
                    selection: Arc::clone(selection),
                    range: host.last(range_s),
                    needs_rows,
                });
            };
            let needs_rows = !may_be_empty.contains(&panel.title);
            for range_s in RANGES_S {
                add("everything", &everything, range_s, needs_rows);
            }
            for (how, selection) in &selections {
                add(how, selection, RANGES_S[0], false);
            }
        }
    }
    Ok(all)
}

/// Text and value of each; the values select something.
pub fn variables_list_values(host: &Host) -> Result<()> {
    for dashboard in Dashboard::all("en")? {
        let variables = dashboard.variables();
        let all = dashboard.everything();
        for (name, sql) in &variables {
            let Some(sql) = sql else { continue };
            let what = format!("{}: variable {name}", dashboard.name);
            let sql = expand(sql, &all, host.last(3600)).with_context(|| what.clone())?;
            let answer = host.ask(&sql).with_context(|| what.clone())?;
            let names: Vec<_> = answer
                .columns
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            ensure!(names == ["value", "text"], "{what}: {names:?}");
            let is_text = |(_, kind): &(String, String)| is_text(kind);
            ensure!(
                answer.columns.iter().all(is_text),
                "{what}: {:?}",
                answer.columns
            );
            ensure!(!answer.rows.is_empty(), "{what}: no values");
        }
    }
    Ok(())
}

/// What ClickHouse answers to a panel, if the panel can show it.
fn answer_of(host: &Host, panel: &Panel, selection: &Selection, range: Range) -> Result<Answer> {
    let answer = host.ask(&expand(&panel.sql, selection, range)?)?;
    check_columns(panel, &answer)?;
    Ok(answer)
}

/// One of each, several of each, and what should break out of a string.
fn selections(
    host: &Host,
    variables: &[(String, Option<String>)],
) -> Result<Vec<(&'static str, Arc<Selection>)>> {
    if variables.is_empty() {
        return Ok(Vec::new());
    }
    let mut one = Selection::new();
    let mut several = Selection::new();
    let mut hostile = Selection::new();
    for (name, sql) in variables {
        if sql.is_some() {
            let values = values(host, name)?;
            let first = |n: usize| Selected::Values(values.iter().take(n).cloned().collect());
            one.insert(name.clone(), first(1));
            several.insert(name.clone(), first(3));
            let names = HOSTILE.map(str::to_owned).into();
            hostile.insert(name.clone(), Selected::Values(names));
        } else {
            let (simple, more, bad) = match name.as_str() {
                "filter" => (
                    "bytes > 0",
                    "src_port != 1 OR service IN ('a)', 'b,')",
                    "1 = 1",
                ),
                _ => (
                    "10.0.0.0/8",
                    "10.0.0.0/8, 2001:db8::/32,exa%mple, ::1",
                    HOSTILE[0],
                ),
            };
            one.insert(name.clone(), Selected::Written(simple.into()));
            several.insert(name.clone(), Selected::Written(more.into()));
            hostile.insert(name.clone(), Selected::Written(bad.into()));
        }
    }
    Ok(vec![
        ("one", one.into()),
        ("several", several.into()),
        ("hostile", hostile.into()),
    ])
}

/// Values that a variable of the day has.
pub fn values(host: &Host, variable: &str) -> Result<Vec<String>> {
    let column = match variable {
        "exporter" => "replaceOne(toString(exporter_addr), '::ffff:', '')",
        "interface" => {
            "concat(replaceOne(toString(exporter_addr), '::ffff:', ''), '|', toString(in_if))"
        }
        "vlan" => "toString(src_vlan)",
        "as" => "toString(src_as)",
        "country" => "toString(src_country)",
        "protocol" => "toString(protocol)",
        "service" => "toString(service)",
        "application" => "toString(application)",
        other => anyhow::bail!("nobody knows values of the variable {other}"),
    };
    let sql = format!(
        "SELECT {column} AS value FROM flows WHERE src_vlan != 0 AND value != '' GROUP BY value \
         ORDER BY count() DESC, value LIMIT 3"
    );
    let answer = host.ask(&sql)?;
    let text = |row: &Vec<serde_json::Value>| row[0].as_str().map(str::to_owned);
    answer
        .rows
        .iter()
        .map(text)
        .collect::<Option<_>>()
        .context(sql)
}

/// What the panel can show, each under a name of the edition.
fn check_columns(panel: &Panel, answer: &Answer) -> Result<()> {
    let kinds: Vec<_> = answer
        .columns
        .iter()
        .map(|(_, kind)| kind.as_str())
        .collect();
    for (name, kind) in &answer.columns {
        ensure!(
            is_text(kind) || is_number(kind) || is_time(kind),
            "column {name} is {kind}, which a panel does not show"
        );
    }
    let by_time = ["timeseries", "state-timeline", "status-history", "heatmap"];
    if panel.is_series() || by_time.contains(&panel.kind.as_str()) {
        ensure!(
            is_time(kinds[0]) && answer.columns[0].0 == "time",
            "no time first: {kinds:?}"
        );
        let times: Vec<_> = answer.rows.iter().map(|row| row[0].to_string()).collect();
        ensure!(times.is_sorted(), "not in the order of time");
        ensure!(
            kinds[1..].iter().all(|kind| !is_time(kind)),
            "two times: {kinds:?}"
        );
    }
    ensure!(
        kinds.iter().any(|kind| is_number(kind)) || panel.kind == "table",
        "no number"
    );
    let defaults = &panel.json["fieldConfig"]["defaults"];
    let series = defaults["displayName"].as_str();
    if let Some(series) = series {
        let label = format!("${{__field.labels.{}}}", answer.columns[1].0);
        ensure!(series == label, "{series} is not the label {label}");
        let numbers = kinds.iter().filter(|kind| is_number(kind)).count();
        ensure!(numbers == 1, "several numbers would have the same name");
        return Ok(());
    }
    for (name, _) in &answer.columns {
        let is_hidden = panel.set_for(name, "custom.hideFrom").is_some();
        let is_named = panel.set_for(name, "displayName").is_some();
        // The one value of a stat is named by the panel's title; time is an axis.
        let is_axis = panel.is_series() && name == "time";
        ensure!(
            is_hidden || is_named || is_axis,
            "column {name} has no name for people"
        );
    }
    Ok(())
}

fn bare(kind: &str) -> &str {
    let mut kind = kind;
    for wrapper in ["LowCardinality(", "Nullable("] {
        if let Some(inner) = kind.strip_prefix(wrapper) {
            kind = inner.trim_end_matches(')');
        }
    }
    kind
}

fn is_text(kind: &str) -> bool {
    bare(kind) == "String"
}

fn is_number(kind: &str) -> bool {
    let number = ["UInt", "Int", "Float"]
        .iter()
        .any(|name| bare(kind).starts_with(name));
    number && !bare(kind).contains("128") && !bare(kind).contains("256")
}

fn is_time(kind: &str) -> bool {
    bare(kind).starts_with("DateTime")
}

/// English titles of panels that generated traffic may leave empty, as the source says.
fn may_be_empty(dashboard: &str) -> Result<Vec<String>> {
    let path = place::root().join(format!("grafana/source/{dashboard}.toml"));
    let source: toml::Table = std::fs::read_to_string(&path)?.parse()?;
    let panels = source
        .get("panel")
        .and_then(toml::Value::as_array)
        .context("panel")?;
    let empty = panels
        .iter()
        .filter(|panel| panel.get("no_rows_ok").is_some());
    let title = |panel: &toml::Value| panel.get("title")?.get("en")?.as_str().map(str::to_owned);
    empty.map(title).collect::<Option<_>>().context("a title")
}

/// Half of what an exporter tells on ingress and egress, once it is switched, in rollups and rows.
pub fn the_switch_counts_once(host: &Host) -> Result<()> {
    let insert = |exporter: &str| {
        host.writer.query(&format!(
            "INSERT INTO flows (time_received, flow_end, flow_duration_ms, exporter_addr, in_if, \
             out_if, raw_bytes, raw_packets, sampling_rate, direction, service, client_is_src) \
             SELECT now() - 300, now64(3) - 300, 1000, toIPv6('{exporter}'), 1, 2, 1000, 10, 10, \
             arrayJoin(['ingress', 'egress']), 'https', true FROM numbers(50)"
        ))
    };
    host.writer
        .query("INSERT INTO ingress_only (exporter_addr) VALUES ('192.0.2.1')")?;
    insert("192.0.2.1")?;
    insert("192.0.2.2")?;
    let once: u64 = 50 * 1000 * 10;
    let dashboards = Dashboard::all("en")?;
    let overview = dashboards
        .iter()
        .find(|one| one.name == "overview")
        .context("overview")?;
    let panels = overview.panels()?;
    let volume = panels
        .iter()
        .find(|panel| panel.title == "Volume")
        .context("Volume")?;
    let mut found = BTreeMap::new();
    let of_exporter = |addr: &str| ("exporter", Selected::Values(vec![addr.into()]));
    let raw = |condition: &str| ("filter", Selected::Written(condition.into()));
    for (name, set) in [
        ("rollup, switched", of_exporter("192.0.2.1")),
        ("rollup, not switched", of_exporter("192.0.2.2")),
        ("rows, switched", raw("exporter_addr = toIPv6('192.0.2.1')")),
        (
            "rows, not switched",
            raw("exporter_addr = toIPv6('192.0.2.2')"),
        ),
    ] {
        let mut selection = overview.everything();
        selection.insert(set.0.into(), set.1);
        let answer = answer_of(host, volume, &selection, host.last(3000))?;
        found.insert(name, answer.rows[0][0].as_u64().context("a sum")?);
    }
    let expected = BTreeMap::from([
        ("rollup, switched", once),
        ("rollup, not switched", 2 * once),
        ("rows, switched", once),
        ("rows, not switched", 2 * once),
    ]);
    assert_eq!(found, expected);
    assert_eq!(
        host.reader.flows()?,
        200,
        "the rows themselves are all there"
    );
    Ok(())
}
