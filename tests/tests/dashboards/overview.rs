//! Every figure of Overview, computed from the flows in another way: one by one, in integers.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::grafana::{Dashboard, Panel, Range, Selected, expand};
use serde_json::Value;

use crate::host::{Answer, HOSTILE, Host};
use crate::queries::values;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// From here on services and countries are asked by the hour, and conversations from one hour on.
const BY_HOUR_FROM: u64 = 6 * HOUR;

/// What a flow is counted by.
struct Flow {
    end_ms: u64,
    length_ms: u64,
    octets: u64,
    packets: u64,
    scale: u64,
    keys: [String; KEYS.len()],
}

impl Flow {
    fn key(&self, name: &str) -> &String {
        let at = KEYS.iter().position(|(key, _)| *key == name);
        &self.keys[at.expect("a key of KEYS")]
    }
}

/// Octets and packets, scaled, and flows.
type Sums = [u128; 3];

/// Columns that are compared, as text.
const KEYS: [(&str, &str); 6] = [
    (
        "exporter",
        "replaceOne(toString(exporter_addr), '::ffff:', '')",
    ),
    ("named", "exporter_name"),
    ("service", "service"),
    (
        "country",
        "if(dst_country = '', '?', toString(dst_country))",
    ),
    ("client", "replaceOne(toString(client_addr), '::ffff:', '')"),
    ("server", "replaceOne(toString(server_addr), '::ffff:', '')"),
];

pub fn is_what_the_flows_say(host: &Host) -> Result<()> {
    // Nothing is added to these any more: the day ends ten minutes before the start.
    let end_s = host.started_s / MINUTE * MINUTE - 600;
    let hours_end_s = host.started_s / HOUR * HOUR - 2 * HOUR;
    let short = Range {
        from_s: end_s - 2400 + 17,
        to_s: end_s - 13,
    };
    let long = Range {
        from_s: hours_end_s - 19 * HOUR,
        to_s: hours_end_s,
    };
    let overview = overview()?;
    for range in [short, long] {
        let flows = load(host, "1", range)?;
        ensure!(
            flows.len() > 2_000,
            "only {} flows in {range:?}",
            flows.len()
        );
        for panel in overview.panels()? {
            let all = overview.everything();
            let mut sql = expand(&panel.sql, &all, range)?;
            if panel.is_series() {
                sql = format!("SELECT toUnixTimestamp(time), * EXCEPT (time) FROM ({sql})");
            }
            let answer = host.ask(&sql).with_context(|| panel.title.clone())?;
            compare(&panel, &answer, &flows, range)
                .with_context(|| format!("{}, {range:?}", panel.title))?;
        }
    }
    Ok(())
}

fn compare(panel: &Panel, answer: &Answer, flows: &[Flow], range: Range) -> Result<()> {
    let is_long = range.to_s - range.from_s >= BY_HOUR_FROM;
    let coarse = if is_long { HOUR } else { MINUTE };
    let fine = Window::total(range, MINUTE);
    let all = sums(flows, fine);
    let one = |expected: f64| same(&answer.rows[0][0], expected);
    match panel.title.as_str() {
        "Traffic" => one(all[0] as f64 * 8.0 / fine.seconds()),
        "Packets" => one(all[1] as f64 / fine.seconds()),
        "Flows" => one(all[2] as f64 / fine.seconds()),
        "Volume" => one(all[0] as f64),
        "Flow records" => one(all[2] as f64),
        "Exporters seen" => one(by(flows, fine, "exporter").len() as f64),
        "Traffic over time" => over_time(answer, flows, range, |s, step| {
            vec![s[0] as f64 * 8.0 / step]
        }),
        "Packets and flows over time" => over_time(answer, flows, range, |s, step| {
            vec![s[1] as f64 / step, s[2] as f64 / step]
        }),
        "Traffic by service" => {
            let top = largest(by(flows, Window::total(range, coarse), "service"), 10);
            let top: Vec<String> = top.into_iter().map(|(name, _)| name).collect();
            series(answer, flows, range, coarse, |flow| {
                let name = flow.key("service");
                if top.contains(name) {
                    name.clone()
                } else {
                    "…".into()
                }
            })
        }
        "Traffic by exporter" => {
            let names = exporter_labels(flows);
            series(answer, flows, range, MINUTE, |flow| {
                names[flow.key("exporter")].clone()
            })
        }
        "Services" => volumes(answer, &by(flows, Window::total(range, coarse), "service")),
        "Countries" => volumes(answer, &by(flows, Window::total(range, coarse), "country")),
        "Top clients" => hosts(answer, flows, range, "client"),
        "Top servers" => hosts(answer, flows, range, "server"),
        // Not of the flows: see losses_are_those_of_the_ledger.
        "Gaps" | "Dropped by the collector" => Ok(()),
        other => bail!("nothing is computed beside the panel '{other}'"),
    }
}

/// Each filter alone, on rollups and on rows, against the flows that a condition of SQL selects.
pub fn follows_each_filter(host: &Host) -> Result<()> {
    let end_s = host.started_s / MINUTE * MINUTE - 600;
    let range = Range {
        from_s: end_s - 2400,
        to_s: end_s - 60,
    };
    let window = Window::total(range, MINUTE);
    let overview = overview()?;
    let panels = overview.panels()?;
    let volume = panels
        .iter()
        .find(|panel| panel.title == "Volume")
        .context("Volume")?;
    for (name, selected, condition) in filters(host)? {
        let mut selection = overview.everything();
        ensure!(
            selection.insert(name.into(), selected.clone()).is_some(),
            "no filter {name}"
        );
        let what = format!("{name}: {selected:?}");
        let answer = host.ask(&expand(&volume.sql, &selection, range)?);
        let answer = answer.with_context(|| what.clone())?;
        let expected = sums(&load(host, &condition, range)?, window);
        ensure!(expected[2] > 0, "{what} selects nothing in the test");
        same(&answer.rows[0][0], expected[0] as f64).with_context(|| what)?;
    }
    Ok(())
}

/// Flow records are those that a filter selects, although columns have names for people there.
pub fn records_follow_each_filter(host: &Host) -> Result<()> {
    let end_s = host.started_s - 600;
    let range = Range {
        from_s: end_s - 2400,
        to_s: end_s,
    };
    let all = Dashboard::all("en")?;
    let records = all.iter().find(|one| one.name == "records");
    let records = records.context("records")?;
    let panels = records.panels()?;
    let table = panels.iter().find(|panel| panel.kind == "table");
    let table = table.context("a table")?;
    for (name, selected, condition) in filters(host)? {
        let mut selection = records.everything();
        selection.insert(name.into(), selected.clone());
        let answer = host.ask(&expand(&table.sql, &selection, range)?)?;
        let expected: usize = host.reader.value(&format!(
            "SELECT least(count(), 1000) FROM flows WHERE time_received BETWEEN {} AND {} AND \
             ({condition})",
            range.from_s, range.to_s
        ))?;
        ensure!(
            answer.rows.len() == expected,
            "{name}, {selected:?}: {} records, not {expected}",
            answer.rows.len()
        );
    }
    Ok(())
}

/// What is selected, and the same as a condition that was written by hand.
fn filters(host: &Host) -> Result<Vec<(&'static str, Selected, String)>> {
    let mut filters = Vec::new();
    type Condition = fn(&str) -> String;
    let conditions: [(&str, Condition); 8] = [
        ("exporter", |v| format!("{} = {}", KEYS[0].1, quoted(v))),
        ("interface", |v| {
            let (addr, index) = v.split_once('|').expect("an address and an index");
            format!(
                "({} = '{addr}' AND (in_if = {index} OR out_if = {index}))",
                KEYS[0].1
            )
        }),
        ("vlan", |v| format!("(src_vlan = {v} OR dst_vlan = {v})")),
        ("as", |v| format!("(src_as = {v} OR dst_as = {v})")),
        ("country", |v| {
            format!("(src_country = '{v}' OR dst_country = '{v}')")
        }),
        ("protocol", |v| format!("protocol = {v}")),
        ("service", |v| format!("service = {}", quoted(v))),
        ("application", |v| format!("application = {}", quoted(v))),
    ];
    for (name, condition) in conditions {
        let some = values(host, name)?;
        for count in 1..=some.len().min(2) {
            let chosen = &some[..count];
            let any: Vec<_> = chosen.iter().map(|value| condition(value)).collect();
            filters.push((name, Selected::Values(chosen.to_vec()), any.join(" OR ")));
        }
        if ["service", "application"].contains(&name) {
            for value in HOSTILE {
                filters.push((name, Selected::Values(vec![value.into()]), condition(value)));
            }
        }
    }
    filters.extend(written(host)?);
    Ok(filters)
}

/// The same of filters that are written.
fn written(host: &Host) -> Result<Vec<(&'static str, Selected, String)>> {
    let sides = host.ask(
        "SELECT toString(client_addr), toString(server_addr) FROM flows WHERE src_vlan != 0 AND \
         client_addr < toIPv6('::ffff:255.255.255.255') AND client_addr > toIPv6('::ffff:0.0.0.0') \
         GROUP BY ALL ORDER BY count() DESC, 1, 2 LIMIT 1",
    )?;
    let text = |at: usize| {
        sides.rows[0][at]
            .as_str()
            .unwrap_or_default()
            .replace("::ffff:", "")
    };
    let (client, server) = (text(0), text(1));
    let (first, _) = client.split_once('.').context("an IPv4 address")?;
    let within = format!("startsWith(toString(client_addr), '::ffff:{first}.')");
    let text_of = |text: &str| Selected::Written(text.into());
    Ok(vec![
        (
            "client",
            text_of(&client),
            format!("client_addr = toIPv6('{client}')"),
        ),
        ("client", text_of(&format!("{first}.0.0.0/8")), within),
        (
            "client",
            text_of("O'BRIEN\\"),
            r"client_host = 'o\'brien\\'".into(),
        ),
        (
            "server",
            text_of(&server),
            format!("server_addr = toIPv6('{server}')"),
        ),
        (
            "server",
            text_of(&format!("{server}, {client}")),
            format!("server_addr IN (toIPv6('{server}'), toIPv6('{client}'))"),
        ),
        (
            "filter",
            text_of("tos >= 96 OR dst_port = 53"),
            "tos >= 96 OR dst_port = 53".into(),
        ),
    ])
}

/// What was lost is what the collector and its exporters' sequence numbers say.
pub fn losses_are_those_of_the_ledger(host: &Host) -> Result<()> {
    let overview = overview()?;
    let all = overview.everything();
    let ledger = host.collector.status()?.ledger();
    let lost: u64 = ledger.losses().iter().map(|(_, count)| *count).sum();
    ensure!(
        lost == 1,
        "one datagram was not to be understood: {:?}",
        ledger.losses()
    );
    let gaps: [u64; 3] = host.reader.three(
        "SELECT count(), sum(lost), sum(received) FROM exporter_gaps WHERE unit != 'samples'",
    )?;
    for (title, expected) in [
        ("Dropped by the collector", lost as f64),
        ("Gaps", gaps[1] as f64 / (gaps[1] + gaps[2]) as f64),
    ] {
        let panels = overview.panels()?;
        let panel = panels
            .iter()
            .find(|panel| panel.title == title)
            .context(title)?;
        let answer = host.ask(&expand(&panel.sql, &all, host.last(6 * HOUR))?)?;
        same(&answer.rows[0][0], expected).context(title)?;
    }
    Ok(())
}

fn overview() -> Result<Dashboard> {
    let all = Dashboard::all("en")?;
    all.into_iter()
        .find(|one| one.name == "overview")
        .context("overview")
}

/// Whole minutes or hours, in seconds since 1970; the end is not in it.
#[derive(Clone, Copy)]
struct Window {
    from_s: u64,
    to_s: u64,
}

impl Window {
    fn total(Range { from_s, to_s }: Range, step: u64) -> Self {
        Self {
            from_s: from_s / step * step,
            to_s: to_s / step * step + step,
        }
    }

    fn seconds(self) -> f64 {
        (self.to_s - self.from_s) as f64
    }
}

/// The flows that reach into the range and its hours.
fn load(host: &Host, condition: &str, range: Range) -> Result<Vec<Flow>> {
    let Window { from_s, to_s } = Window::total(range, HOUR);
    let keys: Vec<_> = KEYS
        .iter()
        .map(|(_, sql)| format!("hex(toString({sql}))"))
        .collect();
    let sql = format!(
        "SELECT toUnixTimestamp64Milli(flow_end), least(flow_duration_ms, 3600000), raw_bytes, \
         raw_packets, greatest(sampling_rate, 1), {} FROM flows WHERE ({condition}) AND \
         flow_end >= toDateTime({from_s}) AND flow_end < toDateTime({to_s} + 3600)",
        keys.join(", ")
    );
    let flow = |row: &Vec<String>| {
        let number = |at: usize| row[at].parse::<u64>();
        let text = |hex: &String| -> Result<String> {
            let digits = hex.as_bytes().chunks(2).map(std::str::from_utf8);
            let bytes = digits.map(|two| Ok(u8::from_str_radix(two?, 16)?));
            Ok(String::from_utf8(bytes.collect::<Result<_>>()?)?)
        };
        let keys: Vec<_> = row[5..].iter().map(text).collect::<Result<_>>()?;
        Ok(Flow {
            end_ms: number(0)?,
            length_ms: number(1)?,
            octets: number(2)?,
            packets: number(3)?,
            scale: number(4)?,
            keys: keys.try_into().ok().context("as many columns as keys")?,
        })
    };
    host.reader.rows(&sql)?.iter().map(flow).collect()
}

impl Flow {
    /// What of it lies in a window of whole minutes.
    fn within(&self, Window { from_s, to_s }: Window) -> Sums {
        let start_ms = self.end_ms - self.length_ms;
        // The minute of its end has all that is left.
        let up_to = |all: u64, at_ms: u64| -> u128 {
            if at_ms > self.end_ms {
                return u128::from(all);
            }
            let gone_ms = at_ms.saturating_sub(start_ms);
            u128::from(all) * u128::from(gone_ms) / u128::from(self.length_ms.max(1))
        };
        let (from_ms, to_ms) = (from_s * 1000, to_s * 1000);
        let share = |all| (up_to(all, to_ms) - up_to(all, from_ms)) * u128::from(self.scale);
        let ends = (from_ms..to_ms).contains(&self.end_ms);
        [share(self.octets), share(self.packets), u128::from(ends)]
    }

    fn touches(&self, Window { from_s, to_s }: Window) -> bool {
        let start_ms = self.end_ms - self.length_ms;
        start_ms < to_s * 1000 && self.end_ms >= from_s * 1000
    }
}

fn sums(flows: &[Flow], window: Window) -> Sums {
    flows
        .iter()
        .fold([0; 3], |sums, flow| add(sums, flow.within(window)))
}

fn add(a: Sums, b: Sums) -> Sums {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

fn by(flows: &[Flow], window: Window, key: &str) -> BTreeMap<String, Sums> {
    let mut found: BTreeMap<String, Sums> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow.touches(window)) {
        let sums = found.entry(flow.key(key).clone()).or_default();
        *sums = add(*sums, flow.within(window));
    }
    found
}

fn largest(of: BTreeMap<String, Sums>, count: usize) -> Vec<(String, Sums)> {
    let mut sorted: Vec<_> = of.into_iter().collect();
    sorted.sort_by_key(|(_, sums)| std::cmp::Reverse(sums[0]));
    sorted.truncate(count);
    sorted
}

/// Names of exporters; where several have one name, with the address.
fn exporter_labels(flows: &[Flow]) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for flow in flows {
        let name = names.entry(flow.key("exporter").clone()).or_default();
        if !flow.key("named").is_empty() {
            name.clone_from(flow.key("named"));
        }
    }
    let label = |(addr, name): (&String, &String)| {
        let sharing = names.values().filter(|other| *other == name).count();
        let label = match (name.as_str(), sharing) {
            ("", _) => addr.clone(),
            (name, 1) => name.to_owned(),
            (name, _) => format!("{name} ({addr})"),
        };
        (addr.clone(), label)
    };
    names.iter().map(label).collect()
}

fn step(range: Range, least: u64) -> u64 {
    range.interval_s().max(least).div_ceil(least) * least
}

/// One row a bucket, without another label.
fn over_time(
    answer: &Answer,
    flows: &[Flow],
    range: Range,
    rates: impl Fn(Sums, f64) -> Vec<f64>,
) -> Result<()> {
    let step = step(range, MINUTE);
    let expected = buckets(flows, Window::total(range, step), step, |_| String::new());
    ensure!(
        answer.rows.len() == expected.len(),
        "{} rows",
        answer.rows.len()
    );
    for (row, ((from_s, _), sums)) in answer.rows.iter().zip(expected) {
        ensure!(row[0] == from_s, "{} in place of {from_s}", row[0]);
        for (value, expected) in row[1..].iter().zip(rates(sums, step as f64)) {
            same(value, expected).with_context(|| format!("at {from_s}"))?;
        }
    }
    Ok(())
}

/// One row a bucket and name: bit/s.
fn series(
    answer: &Answer,
    flows: &[Flow],
    range: Range,
    least: u64,
    name: impl Fn(&Flow) -> String,
) -> Result<()> {
    let step = step(range, least);
    let expected = buckets(flows, Window::total(range, step), step, name);
    let mut found = 0;
    for row in &answer.rows {
        let (time, label) = (row[0].as_u64().zip(row[1].as_str())).context("time and name")?;
        let sums = expected.get(&(time, label.to_owned()));
        found += usize::from(sums.is_some());
        let octets = sums.map_or(0, |sums| sums[0]);
        same(&row[2], octets as f64 * 8.0 / step as f64)
            .with_context(|| format!("{label} at {time}"))?;
    }
    ensure!(
        found == expected.len(),
        "{found} of {} rows",
        expected.len()
    );
    Ok(())
}

/// What lies in each bucket, by its beginning and a name.
fn buckets(
    flows: &[Flow],
    all: Window,
    step: u64,
    name: impl Fn(&Flow) -> String,
) -> BTreeMap<(u64, String), Sums> {
    let mut found: BTreeMap<(u64, String), Sums> = BTreeMap::new();
    for flow in flows {
        let starts_s = (flow.end_ms - flow.length_ms) / 1000;
        let mut from_s = (starts_s / step * step).max(all.from_s);
        while from_s < all.to_s && from_s * 1000 <= flow.end_ms {
            let to_s = from_s + step;
            let sums = found.entry((from_s, name(flow))).or_default();
            *sums = add(*sums, flow.within(Window { from_s, to_s }));
            from_s = to_s;
        }
    }
    // A rollup may leave out what is nothing: the part of a flow that ends as the minute begins.
    found.retain(|_, sums| *sums != [0; 3]);
    found
}

/// A name and its octets, the largest first.
fn volumes(answer: &Answer, expected: &BTreeMap<String, Sums>) -> Result<()> {
    for (row, (name, sums)) in answer.rows.iter().zip(largest(expected.clone(), 12)) {
        let found = row[0].as_str().context("a name")?;
        let of_found = expected
            .get(found)
            .with_context(|| format!("{found} is not in the flows"))?;
        same(&row[1], of_found[0] as f64).with_context(|| found.to_owned())?;
        // In this order; equals may stand either way.
        same(&row[1], sums[0] as f64).with_context(|| name)?;
    }
    ensure!(
        answer.rows.len() == expected.len().min(12),
        "{} rows",
        answer.rows.len()
    );
    Ok(())
}

/// Address, name, bit/s, octets, packets, flows. The rollup by hour keeps the large ones only and
/// not each part of them, so no more than the flows have; rows are exact.
fn hosts(answer: &Answer, flows: &[Flow], range: Range, side: &str) -> Result<()> {
    let is_cut = range.to_s - range.from_s >= HOUR;
    let window = Window::total(range, if is_cut { HOUR } else { MINUTE });
    let expected = by(flows, window, side);
    let is_full = answer.rows.len() == 20 || (is_cut && !answer.rows.is_empty());
    ensure!(is_full, "{} rows", answer.rows.len());
    let top = largest(expected.clone(), 20);
    for (row, (_, sums)) in answer.rows.iter().zip(&top) {
        let addr = row[0].as_str().context("an address")?;
        let of_host = expected
            .get(addr)
            .with_context(|| format!("{addr} is not in the flows"))?;
        for (at, sum) in of_host.iter().enumerate() {
            let found = row[3 + at].as_u64().context("a sum")?;
            ensure!(u128::from(found) <= *sum, "{addr}: {found} of {sum}");
            ensure!(
                is_cut || u128::from(found) == *sum,
                "{addr}: {found}, not {sum}"
            );
        }
        let bits = row[3].as_u64().context("octets")? as f64 * 8.0 / window.seconds();
        same(&row[2], bits).with_context(|| addr.to_owned())?;
        ensure!(
            is_cut || row[3].as_u64().map(u128::from) == Some(sums[0]),
            "order at {addr}"
        );
    }
    Ok(())
}

fn same(found: &Value, expected: f64) -> Result<()> {
    let found = found
        .as_f64()
        .with_context(|| format!("{found} is no number"))?;
    let is_same = (found - expected).abs() <= expected.abs() * 1e-9;
    ensure!(is_same, "it says {found}, the flows say {expected}");
    Ok(())
}

/// A text as a string of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
