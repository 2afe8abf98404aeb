//! Two readings as lines of a terminal.

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::equations::{WAITING, equation};
use super::reading::Reading;
use super::text::{columns, cut, fitted, harmless, short};

/// Reasons of drops that are shown at most.
const DROPS_MAX: usize = 8;
/// Least columns of a name behind numbers; below that it is left out.
const NAME_MIN: usize = 16;

/// What exporters are ordered by, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Flows a second.
    #[default]
    Rate,
    /// Flows since the start.
    Flows,
    /// Records that were sent and not received.
    Lost,
    /// Address.
    Address,
}

impl Sort {
    /// The next one round.
    pub fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|one| *one == self).unwrap_or(0);
        all[(at + 1) % all.len()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "flows/s",
            Self::Flows => "flows",
            Self::Lost => "lost",
            Self::Address => "address",
        }
    }
}

/// How a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Title,
    /// Something is lost, or does not work.
    Bad,
}

/// A line of a frame, no wider than it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub style: Style,
    pub text: String,
}

/// What a frame is made for.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: usize,
    /// `None` shows everything that there is room for in no terminal.
    pub height: Option<usize>,
    pub sort: Sort,
    /// Exporters that are passed over.
    pub skip: usize,
}

/// The lines of a frame: `now`, and rates since `before`.
pub fn lines(before: &Reading, now: &Reading, view: &View) -> Vec<Line> {
    let mut frame = Frame {
        width: view.width,
        lines: Vec::new(),
    };
    let change = Change {
        before: &before.status,
        now: &now.status,
        seconds: now.at.duration_since(before.at).as_secs_f64(),
    };
    frame.head(&change);
    frame.drops(&change);
    let left = view
        .height
        .map(|height| height.saturating_sub(frame.lines.len()));
    let known = now.status["exporters"].as_array().map_or(0, Vec::len);
    // A title each, and at least some rows of both.
    let talkers = now
        .talkers
        .as_ref()
        .map_or(1, |told| rows(told, "talkers").len());
    let rows_of_exporters = match left {
        None => 20,
        Some(left) => known.min(
            left.saturating_sub(talkers + 2)
                .max(left / 2)
                .saturating_sub(1),
        ),
    };
    frame.exporters(&now.status, view, rows_of_exporters);
    frame.talkers(now);
    if let Some(height) = view.height {
        frame.lines.truncate(height);
    }
    frame.lines
}

/// Two answers of `/status` and the time between.
struct Change<'a> {
    before: &'a Value,
    now: &'a Value,
    seconds: f64,
}

impl Change<'_> {
    fn total(&self, pointer: &str) -> u64 {
        number(self.now, pointer)
    }

    /// Zero where the collector was started anew in between.
    fn per_s(&self, pointer: &str) -> f64 {
        let new = self
            .total(pointer)
            .saturating_sub(number(self.before, pointer));
        new as f64 / self.seconds.max(0.001)
    }
}

struct Frame {
    width: usize,
    lines: Vec<Line>,
}

impl Frame {
    fn push(&mut self, style: Style, text: &str) {
        let text = cut(text.trim_end(), self.width);
        self.lines.push(Line { style, text });
    }

    /// Parts beside each other, on as many lines as they need.
    fn wrap(&mut self, style: Style, parts: &[String]) {
        let mut line = String::new();
        for part in parts {
            if !line.is_empty() && columns(&line) + 2 + columns(part) > self.width {
                self.push(style, &std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(part);
        }
        self.push(style, &line);
    }

    fn head(&mut self, change: &Change<'_>) {
        let status = change.now;
        let is_ready = status["ready"].as_bool().unwrap_or(false);
        let (style, ready) = match is_ready {
            true => (Style::Title, "ready"),
            false => (Style::Bad, "NOT READY"),
        };
        let uptime = status["uptime_s"].as_f64().unwrap_or(0.0);
        let facts = [
            format!("flowsluice {}", text(status, "/version")),
            ready.into(),
            format!("up {}", lasted(uptime as u64)),
            format!("receive {}", text(status, "/receive/mode")),
            format!("store {}", text(status, "/store/kind")),
        ];
        self.wrap(style, &facts);
        let rate = |name: &str, pointer: &str| format!("{name} {}/s", short(change.per_s(pointer)));
        let bits = change.per_s("/ledger/counters/bytes_received") * 8.0;
        let rates = [
            rate("datagrams", "/ledger/counters/datagrams_received"),
            format!("{}bit/s", short(bits)),
            rate("flows", "/ledger/counters/flows_decoded"),
            rate("stored", "/ledger/store/flows_stored"),
            rate(
                "kernel drops",
                "/ledger/counters/datagrams_dropped_by_kernel",
            ),
        ];
        self.wrap(Style::Plain, &rates);
        let waiting = WAITING
            .map(|(name, pointer)| format!("{name} {}", short(change.total(pointer) as f64)));
        self.wrap(Style::Plain, &waiting);
        let unaccounted = change.total("/ledger/unaccounted");
        let style = if unaccounted == 0 {
            Style::Title
        } else {
            Style::Bad
        };
        self.push(style, &format!("LEDGER  unaccounted {unaccounted}"));
        let mut sums = Vec::new();
        for one in rows(status, "ledger/equations") {
            match equation(status, one) {
                Ok(words) => sums.push(words),
                Err(words) => self.push(Style::Bad, &words),
            }
        }
        self.wrap(Style::Plain, &sums);
    }

    fn drops(&mut self, change: &Change<'_>) {
        let kernel = "/ledger/counters/datagrams_dropped_by_kernel";
        let reasons = change
            .now
            .pointer("/ledger/dropped")
            .and_then(Value::as_object);
        let reasons = reasons.into_iter().flat_map(Map::keys);
        let mut drops: Vec<(String, u64, f64)> = reasons
            .map(|reason| (reason.clone(), format!("/ledger/dropped/{reason}")))
            .chain([("dropped by the kernel".to_owned(), kernel.to_owned())])
            .map(|(name, at)| (name, change.total(&at), change.per_s(&at)))
            .filter(|(_, total, _)| *total > 0)
            .collect();
        drops.sort_by(|a, b| b.2.total_cmp(&a.2).then(b.1.cmp(&a.1)));
        let style = match drops.iter().any(|(_, _, rate)| *rate > 0.0) {
            true => Style::Bad,
            false => Style::Title,
        };
        if drops.is_empty() {
            return self.push(style, "DROPS  none");
        }
        self.push(style, "DROPS");
        for (name, total, rate) in drops.iter().take(DROPS_MAX) {
            let rate = format!("{}/s", short(*rate));
            let line = format!(
                "{} {} {}",
                fitted(&rate, 8, true),
                right(*total, 8),
                harmless(name)
            );
            self.push(Style::Plain, &line);
        }
        if let Some(more) = drops.len().checked_sub(DROPS_MAX + 1) {
            self.push(Style::Plain, &format!("  and {} reasons more", more + 1));
        }
    }

    fn exporters(&mut self, status: &Value, view: &View, rows_max: usize) {
        let mut known: Vec<&Value> = rows(status, "exporters").collect();
        match view.sort {
            Sort::Rate => known.sort_by(|a, b| rate(b).total_cmp(&rate(a))),
            Sort::Flows => known.sort_by_key(|one| std::cmp::Reverse(number(one, "/flows"))),
            Sort::Lost => known.sort_by_key(|one| std::cmp::Reverse(number(one, LOST))),
            Sort::Address => known.sort_by_key(|one| text(one, "/source")),
        }
        let skip = view.skip.min(known.len().saturating_sub(rows_max));
        let title = format!("EXPORTERS {}  by {}", known.len(), view.sort.name());
        let columns = [
            Column {
                title: "flows/s",
                width: 8,
                of: |one| short(rate(one)),
            },
            Column {
                title: "flows",
                width: 7,
                of: |one| short(number(one, "/flows") as f64),
            },
            Column {
                title: "lost",
                width: 6,
                of: |one| short(number(one, LOST) as f64),
            },
            Column {
                title: "protocol",
                width: 9,
                of: |one| text(one, "/flow_type"),
            },
            Column {
                title: "domain",
                width: 10,
                of: |one| number(one, "/observation_domain").to_string(),
            },
            Column {
                title: "templates",
                width: 9,
                of: |one| number(one, "/templates").to_string(),
            },
            Column {
                title: "sampling",
                width: 8,
                of: |one| short(number(one, "/sampling_rate") as f64),
            },
        ];
        let shown = known.into_iter().skip(skip).take(rows_max);
        self.table(
            &title,
            ("address", |one| text(one, "/source")),
            &columns,
            shown,
        );
    }

    fn talkers(&mut self, now: &Reading) {
        let talkers = match &now.talkers {
            Ok(talkers) => talkers,
            Err(why) => {
                self.push(Style::Title, "TALKERS");
                return self.push(Style::Plain, &format!("  {}", harmless(why)));
            }
        };
        let columns = [
            Column {
                title: "sent",
                width: 8,
                of: |one| bytes(one, "/bytes_sent"),
            },
            Column {
                title: "received",
                width: 8,
                of: |one| bytes(one, "/bytes_received"),
            },
            Column {
                title: "flows",
                width: 7,
                of: |one| short(number(one, "/flows") as f64),
            },
            Column {
                title: "address",
                width: 24,
                of: |one| text(one, "/address"),
            },
        ];
        let title = "TALKERS of five minutes";
        let shown = rows(talkers, "talkers");
        // What others call themselves stands last: nothing follows that it could push aside.
        let name = |one: &Value| match text(one, "/name") {
            name if name.is_empty() => text(one, "/address"),
            name => name,
        };
        self.table(title, ("name", name), &columns, shown);
    }

    /// Rows of columns, as many as there is room for, and a name behind them.
    fn table<'a>(
        &mut self,
        title: &str,
        (name_title, name): (&str, fn(&Value) -> String),
        columns: &[Column],
        rows: impl Iterator<Item = &'a Value>,
    ) {
        self.push(Style::Title, title);
        let mut left = self.width.saturating_sub(NAME_MIN);
        let fits = |column: &&Column| {
            let fits = column.width < left;
            left = left.saturating_sub(column.width + 1);
            fits
        };
        let columns: Vec<&Column> = columns.iter().take_while(fits).collect();
        let cells = |cell: &dyn Fn(&Column) -> String| -> String {
            let cells = columns.iter();
            cells
                .map(|column| fitted(&cell(column), column.width, true) + " ")
                .collect()
        };
        self.push(
            Style::Plain,
            &(cells(&|column| column.title.into()) + name_title),
        );
        for row in rows {
            let line = cells(&|column| (column.of)(row)) + &name(row);
            self.push(Style::Plain, &line);
        }
    }
}

/// One column of a table.
struct Column {
    title: &'static str,
    width: usize,
    of: fn(&Value) -> String,
}

const LOST: &str = "/sequence/lost";

fn rate(exporter: &Value) -> f64 {
    exporter["flows_per_s"].as_f64().unwrap_or(0.0)
}

fn bytes(row: &Value, pointer: &str) -> String {
    short(number(row, pointer) as f64) + "B"
}

fn right(value: u64, room: usize) -> String {
    fitted(&short(value as f64), room, true)
}

pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    let text = value.pointer(pointer).and_then(Value::as_str);
    harmless(text.unwrap_or_default())
}

/// The elements of the list at `path`.
fn rows<'a>(value: &'a Value, path: &str) -> std::slice::Iter<'a, Value> {
    let list = value.pointer(&format!("/{path}")).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default().iter()
}

/// Days, hours and minutes.
fn lasted(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn exporter(source: &str, flows: u64, rate: f64, lost: u64) -> Value {
        json!({"source": source, "flow_type": "ipfix", "observation_domain": 7, "flows": flows,
            "flows_per_s": rate, "templates": 3, "sampling_rate": 100,
            "sequence": {"lost": lost}})
    }

    fn reading(at: Instant, datagrams: u64, malformed: u64) -> Reading {
        let status = json!({
            "version": "1.2.3", "uptime_s": 93_784.5, "ready": true,
            "receive": {"mode": "io_uring"}, "store": {"kind": "embedded"},
            "exporters": [
                exporter("192.0.2.1", 10, 5.0, 0),
                exporter("192.0.2.2", 9000, 250.0, 0),
                exporter("192.0.2.3", 20, 0.0, 4),
            ],
            "ledger": {
                "counters": {"datagrams_received": datagrams, "bytes_received": datagrams * 1000,
                    "datagrams_decoded": datagrams - malformed, "flows_open": 4},
                "dropped": {"header_malformed": malformed, "template_missing": 0},
                "equations": [
                    {"name": "datagrams", "left": datagrams, "right": datagrams},
                    {"name": "rows", "left": 90, "right": 90},
                    {"name": "side_rows", "left": 9, "right": 8},
                ],
                "store": {"flows_stored": 80, "flows_in_flight": 5, "flows_spooled": 0},
                "side": {"hosts": {"rows_stored": 3}, "vrfs": {"rows_stored": 4}},
                "unaccounted": 1,
            },
        });
        let talkers = json!({"talkers": [
            {"address": "198.51.100.1", "name": "evil\u{1b}[2J\u{202e}.example",
                "bytes_sent": 5_000_000, "bytes_received": 1000, "flows": 12},
            {"address": "198.51.100.2", "name": null,
                "bytes_sent": 10, "bytes_received": 20, "flows": 1},
        ]});
        Reading {
            at,
            status,
            talkers: Ok(talkers),
        }
    }

    fn frame(view: View) -> Vec<Line> {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        lines(&reading(start, 100, 1), &reading(later, 300, 5), &view)
    }

    fn view(width: usize, height: Option<usize>, sort: Sort) -> View {
        View {
            width,
            height,
            sort,
            skip: 0,
        }
    }

    fn shown(lines: &[Line]) -> String {
        lines.iter().map(|line| line.text.clone() + "\n").collect()
    }

    #[test]
    fn a_frame_tells_rates_drops_the_ledger_exporters_and_talkers() {
        let lines = frame(view(120, None, Sort::Rate));
        let text = shown(&lines);
        for part in [
            "flowsluice 1.2.3  ready  up 1 d 2 h  receive io_uring  store embedded",
            "datagrams 100/s  800kbit/s",
            "LEDGER  unaccounted 1\n",
            "\ndatagrams: received 300 = decoded 295 + dropped 5  \
             rows: kept 90 = stored 80 + open 4 + in flight 5 + lost 1\n",
            "DROPS\n     2/s        5 header_malformed\n",
            "EXPORTERS 3  by flows/s",
            "   5.0MB    1.0kB      12             198.51.100.1 evil\\u{1b}[2J\\u{202e}.example",
            "     10B      20B       1             198.51.100.2 198.51.100.2\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let wrong = "rows beside flows: offered 9 ≠ stored 7 + dropped 1";
        let wrong = lines.iter().find(|line| line.text == wrong);
        assert_eq!(wrong.map(|line| line.style), Some(Style::Bad), "{text}");
        let drops = lines.iter().find(|line| line.text == "DROPS");
        assert_eq!(drops.map(|line| line.style), Some(Style::Bad), "they go on");
    }

    #[test]
    fn exporters_stand_in_the_order_that_is_asked_for() {
        let first = |sort| {
            let lines = frame(view(100, None, sort));
            let at = lines
                .iter()
                .position(|line| line.text.starts_with("EXPORTERS"));
            let first = &lines[at.unwrap() + 2].text;
            first.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(first(Sort::Rate), "192.0.2.2");
        assert_eq!(first(Sort::Flows), "192.0.2.2");
        assert_eq!(first(Sort::Lost), "192.0.2.3");
        assert_eq!(first(Sort::Address), "192.0.2.1");
        assert_eq!(Sort::Address.next(), Sort::Rate);
    }

    #[test]
    fn no_line_is_wider_and_no_frame_higher_than_the_terminal() {
        for width in [0, 1, 20, 40, 79, 200] {
            for height in [0, 1, 5, 12, 24, 60] {
                let lines = frame(view(width, Some(height), Sort::Rate));
                assert!(lines.len() <= height, "{width} x {height}");
                let widest = lines.iter().map(|line| columns(&line.text)).max();
                assert!(widest.unwrap_or(0) <= width, "{width}: {}", shown(&lines));
            }
        }
        let narrow = shown(&frame(view(40, Some(24), Sort::Rate)));
        assert!(narrow.contains(" 192.0.2.2\n"), "{narrow}");
        assert!(!narrow.contains("protocol"), "{narrow}");
    }

    #[test]
    fn why_there_are_no_talkers_is_told() {
        let now = Reading {
            talkers: Err("the store is not ready".into()),
            ..reading(Instant::now(), 1, 0)
        };
        let text = shown(&lines(&now, &now, &view(80, None, Sort::Rate)));
        assert!(
            text.contains("TALKERS\n  the store is not ready\n"),
            "{text}"
        );
    }
}
