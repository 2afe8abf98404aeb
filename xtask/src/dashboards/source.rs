//! What people write: `grafana/source/*.toml`. The format is described in the README.md there.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An edition of the dashboards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::Japanese];

    /// The name of its folder, and its tag.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// The uid of a dashboard in this edition.
    pub fn uid(self, name: &str) -> String {
        match self {
            Self::English => format!("flowsluice-{name}"),
            Self::Japanese => format!("flowsluice-{name}-ja"),
        }
    }
}

/// The same in both languages; serde refuses one alone.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Text {
    en: String,
    ja: String,
}

impl Text {
    pub fn of(&self, language: Language) -> &str {
        match language {
            Language::English => &self.en,
            Language::Japanese => &self.ja,
        }
    }
}

/// `shared.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// What is said beside what panels say.
    pub text: BTreeMap<String, Text>,
    /// In their order on the dashboard.
    pub variable: Vec<Variable>,
    /// By the name in SQL.
    pub column: BTreeMap<String, Column>,
}

/// A filter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    pub title: Text,
    pub description: Option<Text>,
    /// What lists its values; without it, it is written by hand.
    pub sql: Option<String>,
    /// What rows it selects.
    #[serde(rename = "where")]
    pub condition: String,
}

/// How a column is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Of a panel's column, which says only what is different there.
    #[serde(default)]
    pub name: String,
    pub title: Option<Text>,
    pub unit: Option<String>,
    pub decimals: Option<u32>,
    pub link: Option<Link>,
    pub hide: Option<bool>,
    pub width: Option<u32>,
    /// Grafana's type of a cell: `gauge`, `color-background`...
    pub cell: Option<String>,
}

/// Where a click leads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The name of a dashboard.
    pub to: String,
    /// Filters, and the columns that say what they are set to.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// One dashboard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    #[serde(skip)]
    pub name: String,
    pub title: Text,
    pub description: Text,
    pub order: u32,
    #[serde(default = "last_hour")]
    pub time: String,
    #[serde(default = "every_minute")]
    pub refresh: String,
    #[serde(default)]
    pub filters: Filters,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(rename = "panel")]
    pub panels: Vec<Panel>,
}

fn last_hour() -> String {
    "now-1h".into()
}

fn every_minute() -> String {
    "1m".into()
}

/// Which variables a dashboard has.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Filters {
    #[default]
    All,
    Exporter,
    None,
}

/// What shows one query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: Text,
    pub description: Option<Text>,
    pub kind: Kind,
    pub size: Option<[u32; 2]>,
    pub sql: Option<String>,
    pub text: Option<Text>,
    pub unit: Option<String>,
    pub series: Option<String>,
    #[serde(default)]
    pub stack: bool,
    pub min: Option<f64>,
    pub max: Option<f64>,
    #[serde(default)]
    pub thresholds: Vec<(f64, String)>,
    pub link: Option<Link>,
    /// For the test alone.
    #[serde(default)]
    #[expect(dead_code, reason = "the test reads it; here it is only allowed")]
    no_rows_ok: bool,
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub custom: serde_json::Map<String, serde_json::Value>,
    #[serde(default, rename = "column")]
    pub columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Timeseries,
    Stat,
    Table,
    Barchart,
    Bargauge,
    Gauge,
    Piechart,
    Geomap,
    Heatmap,
    StateTimeline,
    StatusHistory,
    Text,
    Row,
    Sankey,
}

impl Kind {
    /// Grafana's name of the panel's type.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::Timeseries => "timeseries",
            Self::Stat => "stat",
            Self::Table => "table",
            Self::Barchart => "barchart",
            Self::Bargauge => "bargauge",
            Self::Gauge => "gauge",
            Self::Piechart => "piechart",
            Self::Geomap => "geomap",
            Self::Heatmap => "heatmap",
            Self::StateTimeline => "state-timeline",
            Self::StatusHistory => "status-history",
            Self::Text => "text",
            Self::Row => "row",
            Self::Sankey => "netsage-sankey-panel",
        }
    }

    /// Width and height on the grid, unless the panel says.
    pub fn size(self) -> [u32; 2] {
        match self {
            Self::Stat | Self::Gauge => [6, 4],
            Self::Table | Self::Sankey => [24, 10],
            Self::Row => [24, 1],
            _ => [12, 8],
        }
    }
}

/// `alerts.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    pub rule: Vec<Rule>,
}

/// One alert rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The uid is `flowsluice-` and this.
    pub name: String,
    pub title: Text,
    /// What happened, with `{{ .Labels.column }}` for text columns of the row.
    pub summary: Text,
    /// What to do.
    pub description: Text,
    pub severity: String,
    /// Text columns and one number; a row whose number is above `above` is an alert.
    pub sql: String,
    pub above: f64,
    /// How long it must be so.
    #[serde(rename = "for")]
    pub lasts: String,
}

/// All that is written.
pub struct Source {
    pub shared: Shared,
    pub dashboards: Vec<Dashboard>,
    pub alerts: Alerts,
}

impl Source {
    /// Reads `grafana/source`.
    pub fn read() -> Result<Self> {
        let folder = place::root().join("grafana/source");
        let mut dashboards = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            let name = file.strip_suffix(".toml");
            let Some(name) = name.filter(|name| !["shared", "alerts"].contains(name)) else {
                continue;
            };
            let mut dashboard: Dashboard = read(name)?;
            name.clone_into(&mut dashboard.name);
            dashboards.push(dashboard);
        }
        ensure!(!dashboards.is_empty(), "{}: no dashboard", folder.display());
        dashboards.sort_by_key(|dashboard| (dashboard.order, dashboard.name.clone()));
        Ok(Self {
            shared: read("shared")?,
            dashboards,
            alerts: read("alerts")?,
        })
    }
}

fn read<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = place::root().join(format!("grafana/source/{name}.toml"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("grafana/source/{name}.toml"))
}
