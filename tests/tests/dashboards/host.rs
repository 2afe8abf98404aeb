//! A collector whose ClickHouse holds generated flows, those of captures, and a day of both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::generator::generate;
use flowsluice_tests::grafana::Range;
use flowsluice_tests::{ClickHouse, Collector, Settings, place};
use serde_json::Value;

/// Names that would leave a string, a list or a page, were they not kept as text.
pub const HOSTILE: [&str; 6] = [
    r"o'brien\",
    r#"<b onclick="x">"q"</b>"#,
    "a,b",
    "{x}",
    "日本語 %27 $__fromTime",
    r"\",
];
/// Rows of the generator that the day repeats, and how often it does, each ten minutes.
const BASE_ROWS: u32 = 1_000;
const TIMES: u32 = 150;
const EVERY_S: u32 = 600;
/// Until the first whole minute is over and its rows are stored.
const MINUTE_STORED_MAX: Duration = Duration::from_secs(90);

pub struct Host {
    pub settings: Settings,
    pub collector: Collector,
    /// Who asks as Grafana does.
    pub reader: ClickHouse,
    pub writer: ClickHouse,
    /// When it started, in seconds since 1970.
    pub started_s: u64,
}

/// An answer with the types of its columns.
pub struct Answer {
    pub columns: Vec<(String, String)>,
    pub rows: Vec<Vec<Value>>,
}

impl Host {
    /// `None` where the library is missing.
    pub fn start() -> Result<Option<Self>> {
        let Some(settings) = Settings::embedded() else {
            return Ok(None);
        };
        let collector = Collector::start(&settings)?;
        Ok(Some(Self {
            settings,
            reader: collector.clickhouse()?,
            writer: collector.clickhouse_as("writer")?,
            collector,
            started_s: now_s(),
        }))
    }

    /// Generated flows, a datagram that nobody understands, captures, and a day of all that.
    pub fn fill(&self) -> Result<()> {
        let arguments = ["--rate", "6000", "--flows", "12000", "--seed", "7"];
        let (binary, target) = (&self.settings.binary, self.collector.target());
        let sent = generate(binary, target, &arguments, self.collector.folder())?;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(&[0xff; 40], target)?;
        self.collector.settle(sent.datagrams + 1)?;
        self.replay()?;
        self.writer.query(&day())?;
        for sql in [
            "INSERT INTO interfaces SELECT exporter_addr, 0, in_if, concat('ge-0/0/', toString(\
             in_if)), 'it''s \\\\ \"up\"', 1000000, 'snmp', now() FROM flows GROUP BY \
             exporter_addr, in_if",
            "INSERT INTO hosts SELECT DISTINCT src_addr, 'x''s <b>host</b>', now() FROM flows \
             LIMIT 1000",
            "SYSTEM RELOAD DICTIONARY host_names",
        ] {
            self.writer.query(sql)?;
        }
        Ok(())
    }

    /// What other projects published, where it stands beside the clone.
    fn replay(&self) -> Result<()> {
        let folder = place::root().join("../shared/captures");
        let mut captures = Vec::new();
        if folder.is_dir() {
            find_captures(&folder, &mut captures)?;
        }
        if captures.is_empty() {
            eprintln!("{}: no captures, so none are replayed", folder.display());
            return Ok(());
        }
        captures.sort();
        let mut command = Command::new(&self.settings.binary);
        command.arg("replay").arg("--config");
        let output = command
            .arg(self.collector.config())
            .args(&captures)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "replay: {said}");
        Ok(())
    }

    /// Waits until the collector has told of itself and of its exporters.
    pub fn wait_for_stats(&self) -> Result<()> {
        let start = Instant::now();
        for table in ["collector_stats", "exporters", "exporter_gaps"] {
            while self
                .reader
                .value::<u64>(&format!("SELECT count() FROM {table}"))?
                == 0
            {
                if start.elapsed() > MINUTE_STORED_MAX {
                    bail!("{table} is empty\n{}", self.collector.tail());
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }

    /// Asks as Grafana does.
    pub fn ask(&self, sql: &str) -> Result<Answer> {
        let text = self.reader.query(&format!("{sql}\nFORMAT JSONCompact"))?;
        let json: Value = serde_json::from_str(&text)?;
        let column = |meta: &Value| {
            let text = |key: &str| meta[key].as_str().map(str::to_owned);
            text("name").zip(text("type"))
        };
        let meta = json["meta"].as_array().context("meta")?;
        let rows = json["data"].as_array().context("data")?;
        Ok(Answer {
            columns: meta
                .iter()
                .map(column)
                .collect::<Option<_>>()
                .context("a column")?,
            rows: rows
                .iter()
                .map(|row| row.as_array().cloned().unwrap_or_default())
                .collect(),
        })
    }

    /// Of the last so many seconds.
    pub fn last(&self, seconds: u64) -> Range {
        let to_s = now_s();
        Range {
            from_s: to_s - seconds,
            to_s,
        }
    }
}

pub fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("this is after 1970").as_secs()
}

fn find_captures(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_captures(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "pcap") {
            found.push(path);
        }
    }
    Ok(())
}

/// Repeats what was generated through a day, with everything that enrichment could say.
fn day() -> String {
    let hostile: Vec<String> = (HOSTILE.iter())
        .map(|name| format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")))
        .collect();
    let hostile = hostile.join(", ");
    let pick = |of: &str| format!("arrayElement([{of}], 1 + cityHash64(src_addr, dst_addr) % 6)");
    let place = "arrayElement(['Tokyo\\tChiyoda\\t35.7\\t139.7', 'Bavaria\\tMunich\\t48.1\\t11.6', \
                 ''], 1 + cityHash64(src_addr) % 3)";
    let country =
        |addr: &str| format!("arrayElement(['JP', 'DE', 'US', ''], 1 + cityHash64({addr}) % 4)");
    let speed = "\\tuplink\\t1000000000\\texternal\\tcarrier\\ttransit";
    format!(
        "INSERT INTO flows SELECT * EXCEPT (n) REPLACE (\
         time_received - {EVERY_S} * (n + 1) AS time_received, \
         flow_end - toIntervalSecond({EVERY_S} * (n + 1)) AS flow_end, \
         {src_country} AS src_country, {dst_country} AS dst_country, \
         {place} AS src_place, {place} AS dst_place, \
         64500 + cityHash64(src_addr) % 50 AS src_as, 64500 + cityHash64(dst_addr) % 50 AS dst_as, \
         concat('Net ', toString(src_as)) AS src_as_name, \
         concat('Net ', toString(dst_as)) AS dst_as_name, \
         {names} AS application, if(cityHash64(dst_addr) % 7 = 0, {names}, service) AS service, \
         {names} AS src_host, 'server.example' AS dst_host, \
         if(cityHash64(src_addr) % 20 = 0, 'botnet,scanner', '') AS src_threat_tags, \
         if(cityHash64(dst_addr) % 20 = 0, 'botnet', '') AS dst_threat_tags, \
         'office\\tlan\\tTokyo\\tJP\\tus' AS src_net, 'dc\\tserver\\tOsaka\\tJP\\tus' AS dst_net, \
         concat(arrayElement([{hostile}], 1 + cityHash64(exporter_addr) % 6), \
         '\\tcore\\tTokyo\\tJP\\tedge\\tus') AS exporter_labels, \
         concat('ge-0/0/', toString(in_if), '{speed}') AS in_if_labels, \
         concat('ge-0/0/', toString(out_if), '\\tlan\\t0\\tinternal') AS out_if_labels, \
         10 + cityHash64(src_addr) % 5 AS src_vlan, 20 AS dst_vlan, \
         18 AS tcp_flags, (cityHash64(src_addr) % 8) * 32 AS tos, \
         1 + cityHash64(src_addr) % 2 AS locality) \
         FROM (SELECT *, arrayJoin(range({TIMES})) AS n FROM \
         (SELECT * FROM flows ORDER BY cityHash64(src_addr, dst_addr, src_port) \
         LIMIT {BASE_ROWS}))",
        src_country = country("src_addr"),
        dst_country = country("dst_addr"),
        names = pick(&hostile),
    )
}
