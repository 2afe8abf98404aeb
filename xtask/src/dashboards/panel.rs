//! Panels as Grafana reads them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::query;
use super::source::{Column, Dashboard, Kind, Language, Link, Panel, Source, Text, Variable};

/// The data source's plugin, and the version that the queries are written for.
pub const PLUGIN: &str = "grafana-clickhouse-datasource";
pub const PLUGIN_VERSION: &str = "4.20.0";

/// Makes the panels of one dashboard in one language.
pub struct Maker<'a> {
    pub source: &'a Source,
    pub dashboard: &'a Dashboard,
    pub variables: Vec<&'a Variable>,
    pub language: Language,
}

/// A place on the grid.
#[derive(Default)]
struct Place {
    x: u32,
    y: u32,
    /// Height of the highest panel of the line.
    line: u32,
}

impl Place {
    /// The next place of this size.
    fn take(&mut self, [width, height]: [u32; 2]) -> Value {
        if self.x + width > GRID {
            self.y += self.line;
            (self.x, self.line) = (0, 0);
        }
        let place = json!({ "x": self.x, "y": self.y, "w": width, "h": height });
        self.x += width;
        self.line = self.line.max(height);
        place
    }
}

/// Columns of the grid.
const GRID: u32 = 24;

impl Maker<'_> {
    /// All panels, placed and numbered.
    pub fn panels(&self) -> Result<Vec<Value>> {
        let mut place = Place::default();
        let mut made: Vec<Value> = Vec::new();
        for panel in &self.dashboard.panels {
            let title = panel.title.of(Language::English);
            let [width, height] = panel.size.unwrap_or(panel.kind.size());
            ensure!(width <= GRID, "panel '{title}': wider than the grid");
            let is_sankey = panel.kind == Kind::Sankey;
            let left = if is_sankey { width * 7 / 12 } else { width };
            let mut add = |kind, width| -> Result<()> {
                let mut panel = self.panel(panel, kind)?;
                panel["id"] = json!(made.len() + 1);
                panel["gridPos"] = place.take([width, height]);
                made.push(panel);
                Ok(())
            };
            add(panel.kind, left).with_context(|| format!("panel '{title}'"))?;
            if is_sankey {
                add(Kind::Table, width - left).with_context(|| format!("panel '{title}'"))?;
            }
        }
        Ok(made)
    }

    fn panel(&self, panel: &Panel, kind: Kind) -> Result<Value> {
        let title = panel.title.of(self.language);
        if kind == Kind::Row {
            return Ok(json!({ "type": "row", "title": title, "collapsed": false, "panels": [] }));
        }
        let mut description = panel
            .description
            .iter()
            .map(|text| text.of(self.language))
            .collect::<Vec<_>>();
        if kind == Kind::Sankey {
            description.push(self.text("sankey")?);
        }
        let mut options = options(kind);
        if kind == Kind::Text {
            let text = panel.text.as_ref().context("a text panel needs 'text'")?;
            options = json!({ "mode": "markdown", "content": text.of(self.language) });
        }
        let mut made = json!({
            "type": kind.plugin(),
            "title": title,
            "description": description.join(" "),
            "options": options,
        });
        if kind == Kind::Text {
            return Ok(made);
        }
        let written = panel.sql.as_ref().context("'sql' is missing")?;
        let sql = query::expand(written, &self.variables, self.language)?;
        let columns = self.columns(panel, written);
        if kind == Kind::Geomap {
            let layer = layer(written, &columns);
            made["options"]["layers"] = json!([layer]);
        }
        merge(&mut made["options"], &panel.options);
        let (query_type, format) = match kind {
            Kind::Timeseries => ("timeseries", 0),
            _ => ("table", 1),
        };
        let datasource = json!({ "type": PLUGIN, "uid": "${datasource}" });
        made["datasource"] = datasource.clone();
        made["targets"] = json!([{
            "refId": "A",
            "datasource": datasource,
            "editorType": "sql",
            "queryType": query_type,
            "format": format,
            "pluginVersion": PLUGIN_VERSION,
            "rawSql": sql,
        }]);
        made["fieldConfig"] = json!({
            "defaults": self.defaults(panel, kind, &columns)?,
            "overrides": self.overrides(panel, kind, &columns)?,
        });
        Ok(made)
    }

    pub fn text(&self, name: &str) -> Result<&str> {
        let text: Option<&Text> = self.source.shared.text.get(name);
        let text = text.with_context(|| format!("shared.toml has no text.{name}"))?;
        Ok(text.of(self.language))
    }

    /// The columns of a query that have a name in shared.toml, in the order of its first words.
    fn columns(&self, panel: &Panel, sql: &str) -> Vec<(String, Column)> {
        let is_part = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let mut found: Vec<(String, Column)> = Vec::new();
        for word in sql.split(is_part) {
            let shared = self.source.shared.column.get(word);
            let own = panel.columns.iter().find(|column| column.name == word);
            let is_new = found.iter().all(|(name, _)| name != word);
            if is_new && (shared.is_some() || own.is_some()) {
                let mut column = shared.cloned().unwrap_or_default();
                if let Some(own) = own {
                    lay_over(&mut column, own);
                }
                found.push((word.to_owned(), column));
            } else if is_new && word.starts_with("key_") {
                let hide = Some(true);
                found.push((
                    word.to_owned(),
                    Column {
                        hide,
                        ..Column::default()
                    },
                ));
            }
        }
        found
    }

    fn defaults(&self, panel: &Panel, kind: Kind, columns: &[(String, Column)]) -> Result<Value> {
        let units = columns
            .iter()
            .filter_map(|(_, column)| column.unit.as_ref());
        let first = units.clone().find(|unit| *unit != "dateTimeAsIso");
        let steps: Vec<Value> = match &panel.thresholds[..] {
            [] => vec![json!({ "color": "green", "value": null })],
            steps => (steps.iter().enumerate())
                .map(|(at, (value, color))| {
                    json!({ "color": color, "value": (at > 0).then_some(value) })
                })
                .collect(),
        };
        let has_thresholds = !panel.thresholds.is_empty();
        let mode = match kind {
            _ if has_thresholds => "thresholds",
            Kind::Stat | Kind::Gauge | Kind::Table => "thresholds",
            Kind::Bargauge => "continuous-BlPu",
            _ => "palette-classic",
        };
        let mut defaults = json!({
            "color": { "mode": mode },
            "thresholds": { "mode": "absolute", "steps": steps },
            "custom": custom(kind, panel.stack),
        });
        let unit = panel
            .unit
            .as_ref()
            .or(first.filter(|_| kind != Kind::Table));
        for (key, value) in [("unit", unit.map(|unit| json!(unit)))]
            .into_iter()
            .chain([("min", panel.min.map(|min| json!(min)))])
            .chain([("max", panel.max.map(|max| json!(max)))])
        {
            if let Some(value) = value {
                defaults[key] = value;
            }
        }
        merge(&mut defaults["custom"], &panel.custom);
        if let Some(series) = &panel.series {
            ensure!(kind == Kind::Timeseries, "'series' is of time series alone");
            defaults["displayName"] = json!(format!("${{__field.labels.{series}}}"));
        }
        if let Some(link) = &panel.link {
            defaults["links"] = self.links(link, panel.series.as_deref())?;
        }
        Ok(defaults)
    }

    fn overrides(
        &self,
        panel: &Panel,
        kind: Kind,
        columns: &[(String, Column)],
    ) -> Result<Vec<Value>> {
        let mut overrides = Vec::new();
        for (name, column) in columns {
            let mut properties = Vec::new();
            let mut set = |id: &str, value: Value| {
                properties.push(json!({ "id": id, "value": value }));
            };
            if column.hide == Some(true) {
                set("custom.hidden", json!(true));
                set(
                    "custom.hideFrom",
                    json!({ "viz": true, "legend": true, "tooltip": true }),
                );
            } else if panel.series.is_none() {
                let title = column.title.as_ref();
                let title = title.with_context(|| format!("column {name} has no title"))?;
                set("displayName", json!(title.of(self.language)));
            }
            let is_table = kind == Kind::Table;
            if let Some(unit) = &column.unit {
                set("unit", json!(unit));
            }
            if let Some(decimals) = column.decimals {
                set("decimals", json!(decimals));
            }
            if let Some(width) = column.width.filter(|_| is_table) {
                set("custom.width", json!(width));
            }
            if let Some(cell) = column.cell.as_ref().filter(|_| is_table) {
                set("custom.cellOptions", json!({ "type": cell }));
            }
            let asks = |link: &&Link| self.can_set(link, columns);
            if let Some(link) = column.link.as_ref().filter(asks).filter(|_| is_table) {
                set("links", self.links(link, None)?);
            }
            if !properties.is_empty() {
                overrides.push(json!({
                    "matcher": { "id": "byName", "options": name },
                    "properties": properties,
                }));
            }
        }
        Ok(overrides)
    }

    /// Whether the columns that a link needs are there. A link to the same place leads nowhere.
    fn can_set(&self, link: &Link, columns: &[(String, Column)]) -> bool {
        link.set
            .values()
            .all(|needed| columns.iter().any(|(name, _)| name == needed))
    }

    /// A link that carries range and filters; `series`: the column that names a series.
    fn links(&self, link: &Link, series: Option<&str>) -> Result<Value> {
        let Link { to, set } = link;
        let dashboards = &self.source.dashboards;
        let target = dashboards.iter().find(|dashboard| dashboard.name == *to);
        let target = target.with_context(|| format!("there is no dashboard '{to}' to link to"))?;
        let mut url = format!("/d/{}?${{__url_time_range}}", self.language.uid(to));
        url.push_str("&${datasource:queryparam}");
        for variable in &self.variables {
            let name = &variable.name;
            if !set.contains_key(name) {
                url.push_str(&format!("&${{{name}:queryparam}}"));
            }
        }
        for (name, column) in set {
            let is_there = self
                .source
                .shared
                .variable
                .iter()
                .any(|one| one.name == *name);
            if !is_there {
                bail!("there is no filter '{name}' to set");
            }
            let value = match series {
                Some(series) if series == column => format!("__field.labels.{column}"),
                Some(series) => bail!("a series is named by '{series}', not by '{column}'"),
                None => format!("__data.fields.{column}"),
            };
            url.push_str(&format!("&var-{name}=${{{value}:percentencode}}"));
        }
        let title = target.title.of(self.language);
        Ok(json!([{ "title": title, "url": url, "targetBlank": false }]))
    }
}

fn lay_over(column: &mut Column, own: &Column) {
    let Column {
        name: _,
        title,
        unit,
        decimals,
        link,
        hide,
        width,
        cell,
    } = own.clone();
    column.title = title.or(column.title.take());
    column.unit = unit.or(column.unit.take());
    column.decimals = decimals.or(column.decimals);
    column.link = link.or(column.link.take());
    column.hide = hide.or(column.hide);
    column.width = width.or(column.width);
    column.cell = cell.or(column.cell.take());
}

/// What Grafana's editor would write for a fresh panel, with what suits us better.
fn options(kind: Kind) -> Value {
    let last = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
    let rows = json!({ "calcs": ["lastNotNull"], "fields": "", "values": true, "limit": 50 });
    let legend = json!({ "displayMode": "list", "placement": "bottom", "showLegend": true });
    let all = json!({ "mode": "multi", "sort": "desc" });
    match kind {
        Kind::Timeseries => json!({
            "legend": { "displayMode": "table", "placement": "right", "showLegend": true,
                        "calcs": ["mean", "max"], "sortBy": "Mean", "sortDesc": true },
            "tooltip": all,
        }),
        Kind::Stat => json!({
            "colorMode": "value", "graphMode": "none", "justifyMode": "auto",
            "orientation": "auto", "textMode": "auto", "wideLayout": true,
            "reduceOptions": last,
        }),
        Kind::Gauge => json!({ "reduceOptions": last, "showThresholdMarkers": true }),
        Kind::Bargauge => json!({
            "displayMode": "gradient", "orientation": "horizontal", "valueMode": "color",
            "namePlacement": "left", "showUnfilled": true, "sizing": "auto",
            "reduceOptions": rows,
        }),
        Kind::Piechart => json!({
            "pieType": "donut", "displayLabels": [], "reduceOptions": rows, "tooltip": all,
            "legend": { "displayMode": "table", "placement": "right", "showLegend": true,
                        "values": ["value", "percent"] },
        }),
        Kind::Barchart => json!({
            "orientation": "horizontal", "legend": legend, "tooltip": all, "showValue": "auto",
            "stacking": "none", "barWidth": 0.8, "groupWidth": 0.7,
        }),
        Kind::Table => json!({ "showHeader": true, "cellHeight": "sm" }),
        Kind::StateTimeline | Kind::StatusHistory => {
            json!({ "legend": legend, "tooltip": all, "showValue": "auto", "rowHeight": 0.9 })
        }
        Kind::Heatmap => json!({ "calculate": false, "legend": { "show": true } }),
        Kind::Geomap => json!({
            "view": { "id": "fit", "allLayers": true, "padding": 5 },
            "controls": { "showZoom": true, "mouseWheelZoom": true, "showAttribution": true },
            "tooltip": { "mode": "details" },
            "basemap": { "type": "default", "name": "basemap" },
        }),
        Kind::Text | Kind::Row | Kind::Sankey => json!({}),
    }
}

fn custom(kind: Kind, is_stacked: bool) -> Value {
    match kind {
        Kind::Timeseries => json!({
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
            "fillOpacity": if is_stacked { 40 } else { 10 },
            "showPoints": "auto", "spanNulls": false,
            "stacking": { "mode": if is_stacked { "normal" } else { "none" }, "group": "A" },
        }),
        Kind::Table => {
            json!({ "align": "auto", "cellOptions": { "type": "auto" }, "filterable": true })
        }
        Kind::Barchart | Kind::StateTimeline | Kind::StatusHistory => json!({ "fillOpacity": 80 }),
        _ => json!({}),
    }
}

/// Points on the map: where `lat` and `lon` say, else where the country is.
fn layer(sql: &str, columns: &[(String, Column)]) -> Value {
    let is_word = |wanted: &str| {
        sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|word| word == wanted)
    };
    let location = match is_word("lat") && is_word("lon") {
        true => json!({ "mode": "coords", "latitude": "lat", "longitude": "lon" }),
        false => json!({ "mode": "lookup", "lookup": "country",
                         "gazetteer": "public/gazetteer/countries.json" }),
    };
    let is_measure = |(_, column): &&(String, Column)| column.unit.is_some();
    let measure = columns.iter().find(is_measure).map(|(name, _)| name);
    json!({
        "type": "markers",
        "name": "markers",
        "location": location,
        "tooltip": true,
        "config": {
            "showLegend": false,
            "style": {
                "size": { "field": measure, "fixed": 5, "min": 4, "max": 30 },
                "color": { "field": measure, "fixed": "dark-blue" },
                "opacity": 0.5,
                "symbol": { "mode": "fixed", "fixed": "img/icons/marker/circle.svg" },
            },
        },
    })
}

/// Lays a table over another, deep.
fn merge(under: &mut Value, over: &Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(found), Value::Object(inner)) if found.is_object() => merge(found, inner),
            _ => under[key.as_str()] = value.clone(),
        }
    }
}
