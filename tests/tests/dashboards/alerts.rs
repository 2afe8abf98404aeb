//! Alert rules: what Grafana reads of them, and that each fires when it must and not before.

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;
use serde_json::Value;

use crate::host::Host;

/// One rule as it is provisioned.
pub struct Rule {
    pub uid: String,
    pub sql: String,
    pub above: f64,
    pub annotations: Vec<(String, String)>,
}

/// All of `grafana/provisioning/alerting`.
pub fn rules() -> Result<Vec<Rule>> {
    let path = place::root().join("grafana/provisioning/alerting/flowsluice.yaml");
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    let rules = file["groups"][0]["rules"].as_array().context("rules")?;
    let rule = |rule: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let annotations = rule["annotations"].as_object().context("annotations")?;
        ensure!(
            rule["data"][1]["refId"] == rule["condition"],
            "the condition is another query"
        );
        Ok(Rule {
            uid: text(&rule["uid"])?,
            sql: text(&rule["data"][0]["model"]["rawSql"])?,
            above: rule["data"][1]["model"]["conditions"][0]["evaluator"]["params"][0]
                .as_f64()
                .context("a threshold")?,
            annotations: (annotations.iter())
                .map(|(name, value)| Ok((name.clone(), text(value)?)))
                .collect::<Result<_>>()?,
        })
    };
    rules.iter().map(rule).collect()
}

/// What each shall say, by a label of a row: something is wrong there, or all is well.
const EXPECTED: [(&str, &str, bool); 12] = [
    ("exporter-silent", "203.0.113.1", true),
    ("exporter-silent", "203.0.113.2", false),
    ("exporter-gaps", "203.0.113.1", true),
    ("exporter-gaps", "203.0.113.2", false),
    ("drops", "version_unknown", true),
    ("spool-growing", "bad", true),
    ("spool-growing", "good", false),
    ("disk-budget", "disk full", true),
    ("disk-budget", "disk empty", false),
    ("disk-budget", "store.budget", true),
    ("interface-full", "71", true),
    ("interface-full", "72", false),
];

pub fn answer_and_fire(host: &Host) -> Result<()> {
    for sql in trouble() {
        host.writer.query(&sql)?;
    }
    let rules = rules()?;
    ensure!(rules.len() >= 6, "only {} rules", rules.len());
    for rule in &rules {
        let answer = host.ask(&rule.sql).with_context(|| rule.uid.clone())?;
        let is_text = |kind: &str| kind.contains("String");
        let labels: Vec<_> = answer
            .columns
            .iter()
            .filter(|(_, kind)| is_text(kind))
            .collect();
        // Grafana takes text columns as labels and the only number as the value.
        ensure!(
            labels.len() + 1 == answer.columns.len()
                && !is_text(&answer.columns.last().context("a column")?.1),
            "{}: not labels and one number at the end: {:?}",
            rule.uid,
            answer.columns
        );
        for (name, text) in &rule.annotations {
            for used in text.split("{{ .Labels.").skip(1) {
                let used = used.split(" }}").next().unwrap_or_default();
                let is_there = labels.iter().any(|(label, _)| label == used);
                ensure!(is_there, "{}: {name} names the label {used}", rule.uid);
            }
        }
        let mut seen = 0;
        for (_, label, is_wrong) in EXPECTED
            .iter()
            .filter(|(name, ..)| rule.uid.ends_with(name))
        {
            let has = |row: &&Vec<Value>| row.iter().any(|value| value == label);
            let row = answer.rows.iter().find(has);
            let row = row.with_context(|| format!("{}: no row of {label}", rule.uid))?;
            let value = row.last().and_then(Value::as_f64).context("a number")?;
            ensure!(
                (value > rule.above) == *is_wrong,
                "{}: {label} is {value}",
                rule.uid
            );
            seen += 1;
        }
        ensure!(seen > 0, "{} is not tried", rule.uid);
    }
    Ok(())
}

/// Something wrong for each rule, and beside it something that is well.
fn trouble() -> Vec<String> {
    let stats = |collector: &str, name: &str, labels: &str, minutes_ago: u32, value: f64| {
        format!(
            "INSERT INTO collector_stats (minute, collector, started, interval_s, name, kind, \
             labels, value) VALUES (now() - {}, '{collector}', now(), 60, 'flowsluice_{name}', \
             'gauge', {labels}, {value})",
            60 * minutes_ago
        )
    };
    let none = "map()";
    let mut all = vec![
        "INSERT INTO exporters (exporter_addr, exporter_source, last_seen) VALUES \
         ('203.0.113.1', '203.0.113.1', now() - 900), ('203.0.113.2', '203.0.113.2', now() - 60)"
            .into(),
        "INSERT INTO exporter_gaps (minute, exporter_addr, unit, received, lost) VALUES \
         (now() - 120, '203.0.113.1', 'flows', 95, 5), (now() - 120, '203.0.113.2', 'flows', \
         99999, 1)"
            .into(),
        "INSERT INTO interfaces (exporter_addr, if_index, source, speed, last_seen) VALUES \
         ('203.0.113.1', 71, 'snmp', 1000000, now()), ('203.0.113.1', 72, 'snmp', 1000000, now())"
            .into(),
        stats("bad", "store_spool_bytes", none, 8, 1e6),
        stats("bad", "store_spool_bytes", none, 1, 9e7),
        stats("good", "store_spool_bytes", none, 8, 9e7),
        stats("good", "store_spool_bytes", none, 1, 1e6),
        stats("bad", "store_budget_bytes_over", none, 1, 1.0),
    ];
    for (disk, free) in [("full", 5.0), ("empty", 90.0)] {
        let labels = format!("map('disk', '{disk}')");
        all.push(stats("bad", "clickhouse_disk_free_bytes", &labels, 1, free));
        all.push(stats(
            "bad",
            "clickhouse_disk_total_bytes",
            &labels,
            1,
            100.0,
        ));
    }
    // Of the 37.5 MB that the interface carries in five minutes.
    for (interface, octets) in [(71, 36_000_000), (72, 20_000_000)] {
        all.push(format!(
            "INSERT INTO flows (time_received, flow_end, flow_duration_ms, exporter_addr, in_if, \
             raw_bytes, raw_packets, client_is_src) VALUES (now() - 420, now64(3) - 420, 0, \
             '203.0.113.1', {interface}, {octets}, 1000, true)"
        ));
    }
    all
}
