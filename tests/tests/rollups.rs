//! The rollups hold what the flows hold: sums of every table and view against those of the rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use flowsluice_tests::collector::assert_all_stored;
use flowsluice_tests::generator::generate;
use flowsluice_tests::outage::sums::Sums;
use flowsluice_tests::{ClickHouse, Collector, Settings};

/// Everything that adds up flows, as `Sums::rollups` has to find it.
const ROLLUPS: [&str; 9] = [
    "conversations_by_hour",
    "flows_by_minute",
    "hosts_by_hour, source",
    "hosts_by_hour, destination",
    "rollup_hour_as",
    "rollup_hour_services",
    "rollup_minute_as",
    "rollup_minute_exporters",
    "rollup_minute_services",
];

/// What is folded, and into what.
const FOLDED: [(&str, &str, &str); 2] = [
    (
        "rollup_open_hosts",
        "rollup_hour_hosts",
        "exporter_addr, side, addr",
    ),
    (
        "rollup_open_conversations",
        "rollup_hour_conversations",
        "exporter_addr, client_addr, server_addr, service",
    ),
];

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

#[test]
fn sums_of_every_rollup_are_those_of_generated_flows() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    host.generate()?;
    let flows = host.sums()?;
    assert_ne!(flows.bytes, flows.raw_bytes, "some flows are sampled");
    host.assert_rollups_are(flows)?;
    let minutes = |table: &str| {
        let sql = format!(
            "SELECT minute, sum(flows), sum(bytes), sum(packets) FROM {table} \
             GROUP BY minute ORDER BY minute"
        );
        host.writer.rows(&sql)
    };
    let raw = minutes("flows_by_minute")?;
    assert!(raw.len() > 1, "long flows reach into the minute before");
    assert_eq!(minutes("rollup_minute_services")?, raw);
    assert_eq!(minutes("rollup_minute_as")?, raw);
    assert_eq!(minutes("rollup_minute_exporters")?, raw);
    Ok(())
}

#[test]
fn a_flow_is_shared_out_over_its_minutes_and_hours_without_rest() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    let midnight = yesterday_ms();
    let noon = midnight + 12 * HOUR_MS;
    // End, duration, octets: what is at an edge, over an edge, longer than an hour, and huge.
    let made = [
        (noon, 0, 1_000),
        (noon, 60_000, 1_001),
        (noon + 1, 1, 7),
        (noon + 1, 2, 7),
        (noon + 59_999, 60_000, 1_000_003),
        (noon + 30_000, 125_000, 10),
        (midnight, 90_000, 12_345),
        (midnight + 20_000, 59_000, 2),
        (noon + 3 * MINUTE_MS, 3_600_000, 999_999_999_989),
        (noon + 29 * 60_001, 3_599_999, 1 << 40),
        (noon + 31 * 60_001, 3 * HOUR_MS, 5_000_000_000),
        (noon + 90_000, u64::from(u32::MAX), 60 * 61 * 1_000),
        (noon + 2 * HOUR_MS, 45_000, (1 << 52) - 1),
    ];
    for (number, (end_ms, duration_ms, octets)) in made.into_iter().enumerate() {
        let flow = Made {
            // Each has an interface of its own, so its minutes can be told apart.
            in_if: number as u64 + 1,
            end_ms,
            duration_ms,
            octets,
            packets: octets / 90 + 1,
            scale: [1, 1000][number % 2],
        };
        host.insert(&format!("flow-{number}"), &[flow])?;
        for table in ["flows_by_minute", "rollup_minute_services"] {
            assert_eq!(host.minutes(table, &flow)?, flow.minutes(), "{flow:?}");
        }
    }
    host.assert_rollups_are(host.sums()?)?;
    let by_hour = |table: &str| {
        let sql = format!(
            "SELECT toStartOfHour({time}) AS hour, sum(flows), sum(bytes), sum(packets) \
             FROM {table} WHERE {once} GROUP BY hour ORDER BY hour",
            time = if table.contains("hour") {
                "hour"
            } else {
                "minute"
            },
            once = if table == "hosts_by_hour" {
                "side = 'source'"
            } else {
                "1"
            },
        );
        host.writer.rows(&sql)
    };
    let hours = by_hour("flows_by_minute")?;
    assert!(
        hours.len() >= 5,
        "flows lie around midnight and noon: {hours:?}"
    );
    assert_eq!(by_hour("rollup_hour_services")?, hours);
    assert_eq!(by_hour("rollup_hour_as")?, hours);
    assert_eq!(by_hour("hosts_by_hour")?, hours);
    assert_eq!(by_hour("conversations_by_hour")?, hours);
    Ok(())
}

#[test]
fn a_block_that_is_sent_twice_counts_once_everywhere() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    let flows = Made::some();
    host.insert("one", &flows)?;
    let once = host.sums()?;
    assert_eq!(once.flows, flows.len() as u128);
    host.insert("one", &flows)?;
    assert_eq!(host.sums()?, once);
    host.assert_rollups_are(once)?;
    host.insert("two", &flows)?;
    let twice = Sums {
        bytes: 2 * once.bytes,
        packets: 2 * once.packets,
        raw_bytes: 2 * once.raw_bytes,
        raw_packets: 2 * once.raw_packets,
        flows: 2 * once.flows,
    };
    assert_eq!(host.sums()?, twice, "another token is another block");
    host.assert_rollups_are(twice)
}

#[test]
fn a_block_that_is_sent_again_ten_minutes_later_counts_once_everywhere() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    // A clock that can be put back. A view that is altered after an insert knows none from before.
    host.writer
        .query("CREATE TABLE clock (behind_s Int64) ENGINE = Memory")?;
    for (open, ..) in FOLDED {
        let view = format!("{open}_mv");
        let query: String = host.writer.value(&format!(
            "SELECT as_select FROM system.tables WHERE name = '{view}' AND \
             database = currentDatabase() FORMAT TSVRaw"
        ))?;
        let clock = "(now('UTC') - (SELECT max(behind_s) FROM clock))";
        let movable = query.replace("now('UTC')", clock);
        assert_ne!(movable, query);
        host.writer
            .query(&format!("ALTER TABLE {view} MODIFY QUERY {movable}"))?;
    }
    let flows = Made::some();
    host.insert("one", &flows)?;
    let once = host.sums()?;
    // Another slot of ten minutes, and not the one before, since a slot may end here.
    host.writer.query("INSERT INTO clock VALUES (6000)")?;
    host.insert("one", &flows)?;
    assert_eq!(host.sums()?, once);
    host.assert_rollups_are(once)?;
    host.insert("two", &flows)?;
    for (open, ..) in FOLDED {
        let slots = format!("(SELECT DISTINCT stored FROM {open})");
        assert_eq!(host.count(&slots)?, 2, "the slot of {open} has moved");
    }
    Ok(())
}

#[test]
fn a_view_that_fails_once_heals_when_the_block_is_sent_again() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    for sql in [
        "CREATE TABLE fault (x UInt8) ENGINE = Memory",
        "CREATE TABLE sink (x UInt8) ENGINE = Null",
        "CREATE MATERIALIZED VIEW a_fault TO sink AS \
         SELECT throwIf((SELECT count() FROM fault) > 0) AS x FROM flows_spread",
        "CREATE MATERIALIZED VIEW z_fault TO sink AS \
         SELECT throwIf((SELECT count() FROM fault) > 0) AS x FROM flows",
        "INSERT INTO fault VALUES (1)",
    ] {
        host.writer.query(sql)?;
    }
    let flows = Made::some();
    let refused = host.insert("one", &flows);
    assert!(refused.is_err(), "a view that fails fails the insert");
    let half = host.sums()?;
    assert_eq!(half.flows, flows.len() as u128, "the rows are there");
    let rollups = Sums::rollups(&host.writer)?;
    assert!(
        rollups.iter().any(|(_, sums)| *sums != half),
        "nothing is left to heal: {rollups:?}"
    );
    host.writer.query("TRUNCATE TABLE fault")?;
    let mut before = None;
    for _ in 0..2 {
        host.insert("one", &flows)?;
        let sums = host.sums()?;
        assert_eq!(sums.flows, flows.len() as u128);
        host.assert_rollups_are(sums)?;
        assert!(before.is_none_or(|before| before == sums));
        before = Some(sums);
    }
    Ok(())
}

#[test]
fn folding_a_slot_keeps_the_sums_and_the_largest_and_happens_once() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    host.generate()?;
    let flows = host.sums()?;
    let largest = |view: &str, addr: &str, keys: &str| {
        let sql = format!(
            "SELECT hour, {keys}, sum(flows), sum(bytes) FROM {view} WHERE {addr} != '::' GROUP \
             BY hour, {keys} ORDER BY sum(bytes) DESC, {keys} LIMIT 5"
        );
        host.writer.rows(&sql)
    };
    for (open, folded, keys) in FOLDED {
        let view = format!("{}_by_hour", folded.trim_start_matches("rollup_hour_"));
        let addr = if folded.ends_with("hosts") {
            "addr"
        } else {
            "client_addr"
        };
        let before = largest(&view, addr, keys)?;
        assert_eq!(host.count(folded)?, 0);
        host.age_slots(open, 1)?;
        host.assert_rollups_are(flows)?;
        let rows_open: u64 = host.count(&format!("{open} FINAL"))?;
        let mut rows = 0;
        for time in 0..2 {
            host.fold(folded)?;
            let now = host.count(folded)?;
            assert!(
                0 < now && now < rows_open,
                "{now} of {rows_open} in {folded}"
            );
            assert!(time == 0 || now == rows, "a slot is folded once");
            rows = now;
            host.assert_rollups_are(flows)?;
        }
        let parts = format!(
            "SELECT count() FROM system.parts WHERE table = '{folded}' AND active AND \
             database = currentDatabase()"
        );
        assert_eq!(
            host.writer.value::<u64>(&parts)?,
            1,
            "all of a slot or nothing"
        );
        let rest = host.count(&format!("{folded} WHERE {addr} = '::'"))?;
        assert!(rest > 0, "{folded} has the rest");
        assert_eq!(largest(&view, addr, keys)?, before);
    }
    Ok(())
}

#[test]
fn a_folded_slot_that_is_dropped_does_not_hold_up_those_that_follow() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    for (open, folded, _) in FOLDED {
        let newest = || {
            let slot = format!("SELECT max(stored) FROM {folded}");
            host.writer.value::<String>(&slot)
        };
        let mut slots = Vec::new();
        // Of two days, whatever the time of day.
        for hours in [26, 2] {
            host.insert(&format!("{open}_{hours}"), &Made::some())?;
            host.age_slots(open, hours)?;
            host.fold(folded)?;
            slots.push(newest()?);
        }
        assert!(slots[0] < slots[1], "each is folded in its turn: {slots:?}");
        let day = slots[0].split(' ').next().context("a day")?;
        host.writer
            .query(&format!("ALTER TABLE {folded} DROP PARTITION '{day}'"))?;
        let dropped = format!("{folded} WHERE stored = '{}'", slots[0]);
        assert_eq!(host.count(&dropped)?, 0);
        host.insert(&format!("{open}_last"), &Made::some())?;
        host.age_slots(open, 1)?;
        host.fold(folded)?;
        assert!(newest()? > slots[1], "the slot that followed is folded");
        assert_eq!(host.count(&dropped)?, 0, "what was dropped is not folded");
        let view = format!("{}_by_hour", folded.trim_start_matches("rollup_hour_"));
        let held: u64 = host
            .writer
            .value(&format!("SELECT sum(flows) FROM {view}"))?;
        let kept: u64 = host.writer.value(&format!(
            "SELECT sum(flows) FROM {open} WHERE stored != '{}'",
            slots[0]
        ))?;
        assert_eq!(held, kept, "what was not dropped is there once");
    }
    Ok(())
}

#[test]
fn a_slot_of_a_clock_that_was_ahead_holds_up_nothing() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    host.insert("one", &Made::some())?;
    for (open, folded, _) in FOLDED {
        host.age_slots(open, -48)?;
        // It was folded while the clock was still ahead.
        host.writer
            .query(&format!("INSERT INTO {folded} SELECT * FROM {open}"))?;
    }
    host.assert_rollups_are(host.sums()?)?;
    host.insert("two", &Made::some())?;
    host.assert_rollups_are(host.sums()?)?;
    for (open, folded, _) in FOLDED {
        host.age_slots(open, 1)?;
        host.fold(folded)?;
        let slots = format!("(SELECT DISTINCT stored FROM {folded})");
        assert_eq!(host.count(&slots)?, 2, "{open} is folded");
    }
    host.assert_rollups_are(host.sums()?)
}

#[test]
fn a_slot_of_flows_of_long_ago_stays_folded() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    // Longer than sums by hour are kept.
    let long_ago = |flow: Made| Made {
        end_ms: flow.end_ms - 500 * 24 * HOUR_MS,
        ..flow
    };
    let flows: Vec<_> = Made::some().into_iter().map(long_ago).collect();
    host.insert("one", &flows)?;
    for (open, folded, _) in FOLDED {
        host.age_slots(open, 1)?;
        host.fold(folded)?;
        let rows = host.count(folded)?;
        assert!(rows > 0, "{open} is folded");
        host.writer
            .query(&format!("OPTIMIZE TABLE {folded} FINAL"))?;
        assert_eq!(host.count(folded)?, rows, "{folded}");
    }
    Ok(())
}

/// A collector whose ClickHouse is written to past it.
struct Host {
    settings: Settings,
    collector: Collector,
    writer: ClickHouse,
}

impl Host {
    /// `None` where the library is missing.
    fn start() -> Result<Option<Self>> {
        let Some(settings) = Settings::embedded() else {
            return Ok(None);
        };
        let collector = Collector::start(&settings)?;
        let file = collector.data_dir().join("writer.password");
        let password = std::fs::read_to_string(&file)
            .with_context(|| format!("read the writer's password in {}", file.display()))?;
        let writer = ClickHouse {
            user: "writer".into(),
            password: password.trim().into(),
            ..collector.clickhouse()?
        };
        Ok(Some(Self {
            settings,
            collector,
            writer,
        }))
    }

    /// Has the exporter simulator send flows, and waits until they are stored.
    fn generate(&self) -> Result<()> {
        let arguments = ["--rate", "6000", "--flows", "30000", "--seed", "3"];
        let (binary, target) = (&self.settings.binary, self.collector.target());
        let sent = generate(binary, target, &arguments, self.collector.folder())?;
        let ledger = self.collector.settle(sent.datagrams)?;
        assert_all_stored(&ledger, &self.writer, &sent);
        Ok(())
    }

    /// One insert with a token, as the collector sends it.
    fn insert(&self, token: &str, flows: &[Made]) -> Result<()> {
        let url = &self.writer.url;
        let url = format!(
            "{url}/?async_insert=0&wait_end_of_query=1&insert_deduplication_token={token}\
             &max_partitions_per_insert_block=0\
             &deduplicate_blocks_in_dependent_materialized_views=1"
        );
        let to_insert = ClickHouse {
            url,
            ..self.writer.clone()
        };
        let mut sql = String::from("INSERT INTO flows FORMAT JSONEachRow\n");
        for flow in flows {
            flow.write(&mut sql);
        }
        to_insert.query(&sql).map(|_| ())
    }

    fn sums(&self) -> Result<Sums> {
        Sums::raw(&self.writer)
    }

    fn assert_rollups_are(&self, flows: Sums) -> Result<()> {
        let rollups = Sums::rollups(&self.writer)?;
        let names: Vec<_> = rollups.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ROLLUPS);
        for (name, sums) in rollups {
            assert_eq!(sums, flows, "{name}");
        }
        Ok(())
    }

    /// What `table` has of a flow: flows, bytes and packets by minute since 1970.
    fn minutes(&self, table: &str, flow: &Made) -> Result<BTreeMap<u64, [u64; 3]>> {
        let sql = format!(
            "SELECT intDiv(toUnixTimestamp(minute), 60) AS number, sum(flows), sum(bytes), \
             sum(packets) FROM {table} WHERE in_if = {} GROUP BY number",
            flow.in_if
        );
        let mut minutes = BTreeMap::new();
        for row in self.writer.rows(&sql)? {
            let numbers: Vec<u64> = row.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
            minutes.insert(numbers[0], [numbers[1], numbers[2], numbers[3]]);
        }
        Ok(minutes)
    }

    /// Moves what a table of open slots was just given into one slot so many hours ago.
    fn age_slots(&self, table: &str, hours: i32) -> Result<()> {
        let fresh = "stored > now('UTC') - 1800 AND stored <= now('UTC')";
        for sql in [
            format!(
                "INSERT INTO {table} SELECT * REPLACE \
                 (toStartOfTenMinutes(now('UTC')) - {hours} * 3600 AS stored) \
                 FROM (SELECT * FROM {table} WHERE {fresh})"
            ),
            format!("ALTER TABLE {table} DELETE WHERE {fresh} SETTINGS mutations_sync = 1"),
        ] {
            self.writer.query(&sql)?;
        }
        Ok(())
    }

    /// Has the oldest open slot that is over folded into `table`.
    fn fold(&self, table: &str) -> Result<()> {
        for action in ["REFRESH", "WAIT"] {
            self.writer
                .query(&format!("SYSTEM {action} VIEW {table}_fold"))?;
        }
        Ok(())
    }

    fn count(&self, table: &str) -> Result<u64> {
        self.writer.value(&format!("SELECT count() FROM {table}"))
    }
}

/// A flow of a test.
#[derive(Clone, Copy, Debug)]
struct Made {
    in_if: u64,
    end_ms: u64,
    duration_ms: u64,
    octets: u64,
    packets: u64,
    scale: u64,
}

impl Made {
    /// Short and long ones of yesterday.
    fn some() -> Vec<Self> {
        let flow = |number: u64| Self {
            in_if: number % 5,
            end_ms: yesterday_ms() + number * 31_234,
            duration_ms: number * number * 100 % 200_000,
            octets: 100 + number * 977,
            packets: 1 + number,
            scale: [1, 100][number as usize % 2],
        };
        (0..500).map(flow).collect()
    }

    fn write(&self, out: &mut String) {
        let Self {
            in_if,
            end_ms,
            duration_ms,
            octets,
            packets,
            scale,
        } = *self;
        let (end_s, fraction) = (end_ms / 1000, end_ms % 1000);
        let client = octets % 2 == 0;
        let _ = writeln!(
            out,
            "{{\"time_received\":{end_s},\"flow_end\":\"{end_s}.{fraction:03}\",\
             \"flow_duration_ms\":{duration_ms},\"raw_bytes\":{octets},\"raw_packets\":{packets},\
             \"sampling_rate\":{scale},\"in_if\":{in_if},\"exporter_addr\":\"192.0.2.1\",\
             \"src_addr\":\"10.0.0.{in_if}\",\"dst_addr\":\"198.51.100.1\",\"src_as\":64500,\
             \"client_is_src\":{client},\"service\":\"https\"}}"
        );
    }

    /// Flows, bytes and packets by minute, by arithmetic that has room.
    fn minutes(&self) -> BTreeMap<u64, [u64; 3]> {
        let length_ms = self.duration_ms.min(HOUR_MS);
        let start_ms = self.end_ms - length_ms;
        let (first, last) = (start_ms / MINUTE_MS, self.end_ms / MINUTE_MS);
        let up_to = |all: u64, at_ms: u64| -> u64 {
            match at_ms {
                at_ms if at_ms <= start_ms => 0,
                at_ms if at_ms >= self.end_ms => all,
                at_ms => {
                    let part = u128::from(all) * u128::from(at_ms - start_ms);
                    (part / u128::from(length_ms)) as u64
                }
            }
        };
        let minute = |number: u64| {
            let (from_ms, to_ms) = (number * MINUTE_MS, (number + 1) * MINUTE_MS);
            let share = |all| {
                let rest = if number == last {
                    all
                } else {
                    up_to(all, to_ms)
                };
                let before = if number == first {
                    0
                } else {
                    up_to(all, from_ms)
                };
                (rest - before) * self.scale
            };
            let ends = u64::from(number == last);
            (number, [ends, share(self.octets), share(self.packets)])
        };
        (first..=last).map(minute).collect()
    }
}

/// The beginning of yesterday, milliseconds since 1970.
fn yesterday_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = now.expect("it is after 1970").as_secs() / 86_400;
    (days - 1) * 24 * HOUR_MS
}
