//! Grafana's part of a query: what the browser and the data source's plugin make of what stands in
//! a dashboard, before ClickHouse sees it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What is selected of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Everything.
    All,
    /// These of a list.
    Values(Vec<String>),
    /// This, in a field to write in.
    Written(String),
}

/// What is selected of each variable, by its name.
pub type Selection = BTreeMap<String, Selected>;

/// The range of a dashboard, in seconds since 1970, and the interval that suits a panel's width.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Its beginning.
    pub from_s: u64,
    /// Its end.
    pub to_s: u64,
}

impl Range {
    /// Seconds between two points of a panel of a thousand points.
    #[must_use]
    pub fn interval_s(self) -> u64 {
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600];
        let wanted = (self.to_s - self.from_s) / 1000;
        steps
            .into_iter()
            .find(|step| *step >= wanted)
            .unwrap_or(3600)
    }
}

/// The query that ClickHouse gets.
///
/// # Errors
/// When something is left that nobody expands, or a variable is used that is not there.
pub fn expand(sql: &str, selection: &Selection, range: Range) -> Result<String> {
    let sql = conditional_all(sql, selection)?;
    let sql = interpolate(&sql, selection)?;
    let sql = macros(&sql, range);
    // What people select is encoded, so a macro's beginning cannot come from there.
    ensure!(
        !sql.contains("$__"),
        "nobody expands a macro that is left: {sql}"
    );
    Ok(sql)
}

/// `$__conditionalAll(condition, $variable)`: the condition, or `1=1` where everything is selected.
/// The last one first, so that one inside another would come before it.
fn conditional_all(sql: &str, selection: &Selection) -> Result<String> {
    const MACRO: &str = "$__conditionalAll(";
    let mut sql = sql.to_owned();
    while let Some(at) = sql.rfind(MACRO) {
        let arguments = &sql[at + MACRO.len()..];
        let (condition, variable, length) = two_arguments(arguments)?;
        let name = variable.trim().trim_start_matches('$');
        let selected = selection.get(name);
        let selected = selected.with_context(|| format!("no variable {name}"))?;
        let is_all = match selected {
            Selected::All => true,
            Selected::Values(values) => values.join(",").is_empty(),
            Selected::Written(text) => text.is_empty(),
        };
        let put = if is_all { "1=1" } else { condition };
        sql = format!("{}{put}{}", &sql[..at], &arguments[length..]);
    }
    Ok(sql)
}

/// The two arguments before the closing parenthesis, and how long it all is. The plugin counts
/// parentheses and knows no quotes.
fn two_arguments(text: &str) -> Result<(&str, &str, usize)> {
    let mut depth = 1;
    let mut comma = None;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 1 => {
                ensure!(comma.is_none(), "three arguments: {text}");
                comma = Some(at);
            }
            _ => {}
        }
        if depth == 0 {
            let comma = comma.with_context(|| format!("one argument: {text}"))?;
            return Ok((&text[..comma], &text[comma + 1..at], at + 1));
        }
    }
    bail!("a parenthesis is not closed: {text}")
}

/// `${name:format}` with the formats that the dashboards use; a bare `$name` is refused.
fn interpolate(sql: &str, selection: &Selection) -> Result<String> {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("$__") {
            out.push_str("$__");
            rest = &rest[3..];
            continue;
        }
        let inner = rest
            .strip_prefix("${")
            .context("a variable without a format")?;
        let (inner, behind) = inner.split_once('}').context("'${' without '}'")?;
        let (name, format) = inner
            .split_once(':')
            .context("a variable without a format")?;
        let selected = selection.get(name);
        let selected = selected.with_context(|| format!("no variable {name}"))?;
        out.push_str(&formatted(selected, format)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn formatted(selected: &Selected, format: &str) -> Result<String> {
    Ok(match (format, selected) {
        ("percentencode", Selected::Values(values)) => {
            percent_encoded(&format!("{{{}}}", values.join(",")))
        }
        ("percentencode", Selected::Written(text)) => percent_encoded(text),
        ("raw", Selected::Written(text)) => text.clone(),
        _ => bail!("{selected:?} is not meant to be written as {format}"),
    })
}

/// As JavaScript's `encodeURIComponent`, and `!'()*` as well.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The macros of the plugin's part in Grafana's server that the dashboards use.
fn macros(sql: &str, range: Range) -> String {
    let Range { from_s, to_s } = range;
    sql.replace("$__fromTime", &format!("toDateTime({from_s})"))
        .replace("$__toTime", &format!("toDateTime({to_s})"))
        .replace("$__interval_s", &range.interval_s().to_string())
}

/// A panel's query, and what shows its answer.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its title.
    pub title: String,
    /// Grafana's type of it.
    pub kind: String,
    /// What it asks.
    pub sql: String,
    /// The whole panel.
    pub json: Value,
}

impl Panel {
    /// Whether it is shown over time.
    #[must_use]
    pub fn is_series(&self) -> bool {
        self.json["targets"][0]["format"] == 0
    }

    /// The property that an override sets for a column.
    #[must_use]
    pub fn set_for(&self, column: &str, property: &str) -> Option<&Value> {
        let overrides = self.json["fieldConfig"]["overrides"].as_array()?;
        let of_column = overrides
            .iter()
            .find(|one| one["matcher"]["options"] == column)?;
        let properties = of_column["properties"].as_array()?;
        let found = properties.iter().find(|one| one["id"] == property)?;
        Some(&found["value"])
    }
}

/// A dashboard as Grafana loads it.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Its file without the ending.
    pub name: String,
    /// All of it.
    pub json: Value,
}

impl Dashboard {
    /// Every dashboard of `grafana/dashboards/LANGUAGE`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn all(language: &str) -> Result<Vec<Self>> {
        let folder = crate::place::root()
            .join("grafana/dashboards")
            .join(language);
        let mut all = Vec::new();
        let entries = std::fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let json = serde_json::from_str(&std::fs::read_to_string(&path)?);
            let json = json.with_context(|| format!("read {}", path.display()))?;
            all.push(Self { name, json });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// All panels, rows and texts among them.
    ///
    /// # Errors
    /// When one has no title or type.
    pub fn panels(&self) -> Result<Vec<Panel>> {
        let panels = self.json["panels"].as_array().context("panels")?;
        let panel = |json: &Value| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            Ok(Panel {
                title: text(&json["title"]).context("a panel without a title")?,
                kind: text(&json["type"]).context("a panel without a type")?,
                sql: text(&json["targets"][0]["rawSql"]).unwrap_or_default(),
                json: json.clone(),
            })
        };
        panels.iter().map(panel).collect()
    }

    /// Its variables: the name, and the query that lists the values, which one to write in has not.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, Option<String>)> {
        let list = self.json["templating"]["list"].as_array();
        let filters = list
            .into_iter()
            .flatten()
            .filter(|one| one["type"] != "datasource");
        filters
            .map(|one| {
                let name = one["name"].as_str().unwrap_or_default().to_owned();
                let is_list = one["type"] == "query";
                let sql = one["query"].as_str().filter(|_| is_list);
                (name, sql.map(str::to_owned))
            })
            .collect()
    }

    /// Everything of every variable.
    #[must_use]
    pub fn everything(&self) -> Selection {
        let all = |(name, sql): (String, Option<String>)| {
            let selected = match sql {
                Some(_) => Selected::All,
                None => Selected::Written(String::new()),
            };
            (name, selected)
        };
        self.variables().into_iter().map(all).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range {
        from_s: 100,
        to_s: 3_700,
    };

    #[test]
    fn a_condition_falls_away_when_everything_is_selected() {
        let sql = "WHERE $__conditionalAll((f(a, b) IN ('${v:percentencode}')), $v) AND t >= \
                   $__fromTime";
        let expanded = |selected| {
            let selection = Selection::from([("v".into(), selected)]);
            expand(sql, &selection, RANGE).unwrap()
        };
        assert_eq!(
            expanded(Selected::All),
            "WHERE 1=1 AND t >= toDateTime(100)"
        );
        assert_eq!(
            expanded(Selected::Values(vec!["a'b\\".into(), "c".into()])),
            "WHERE (f(a, b) IN ('%7Ba%27b%5C%2Cc%7D')) AND t >= toDateTime(100)"
        );
    }

    #[test]
    fn what_nobody_expands_is_refused() {
        for wrong in ["$v", "${v}", "${w:raw}", "$__unknown(1)", "${v:csv}"] {
            let selection = Selection::from([("v".into(), Selected::Written("x".into()))]);
            assert!(expand(wrong, &selection, RANGE).is_err(), "{wrong}");
        }
    }
}
