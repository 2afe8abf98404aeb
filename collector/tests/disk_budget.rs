//! The disk's budget on a real ClickHouse, with rows of the last ten days.

mod engine;

use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytesize::ByteSize;
use engine::{config, library, run, started};
use flowsluice::config::{Group, Store};
use flowsluice::ledger::{Ledger, StoreCounts};
use flowsluice::store::budget::{Keeper, Look};
use flowsluice::store::clickhouse;
use flowsluice::store::embedded::Engine;
use flowsluice::store::schema::{self, Wanted};
use tokio::runtime::Runtime;

/// Rows of each day.
const ROWS: u64 = 8_000;
const DAYS: u64 = 10;

struct Place {
    engine: Engine,
    config: Store,
    counts: Arc<StoreCounts>,
    _folder: tempfile::TempDir,
}

impl Place {
    /// Ten days of flows, each in two parts, and of counters.
    fn new() -> Option<Self> {
        let library = library()?;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(library, folder.path());
        config.budget.free_min = Some(ByteSize::b(0));
        let engine = started(&config);
        let place = Self {
            engine,
            config,
            counts: Arc::clone(&Ledger::new(1).store),
            _folder: folder,
        };
        place.fill();
        Some(place)
    }

    fn fill(&self) {
        self.run("DROP DATABASE IF EXISTS flowsluice SYNC");
        let client = clickhouse::client(&self.engine.endpoint());
        let wanted = Wanted::new(&self.config);
        let applied = schema::apply(&client, "flowsluice", &wanted);
        runtime().block_on(applied).unwrap();
        // What the sums hold is not the matter here, and they are most of an insert's work.
        let views = "SELECT name FROM system.tables WHERE database = 'flowsluice' \
                     AND engine = 'MaterializedView'";
        for view in self.run(views).lines() {
            self.run(&format!("DROP VIEW flowsluice.{view} SYNC"));
        }
        for table in ["flows", "flows", "interface_counters"] {
            let noise = match table {
                "flows" => "src_addr, dst_addr, raw_bytes",
                _ => "exporter_addr, exporter_source, in_octets",
            };
            self.run(&format!(
                "INSERT INTO flowsluice.{table} (time_received, {noise}) \
                 SELECT now() - intDiv(number, {each}) * 86400, \
                 IPv4ToIPv6(toIPv4(rand32(1))), IPv4ToIPv6(toIPv4(rand32(2))), rand64(3) \
                 FROM numbers({each} * {DAYS}) SETTINGS max_partitions_per_insert_block = 0",
                each = ROWS / 2
            ));
        }
    }

    fn run(&self, sql: &str) -> String {
        run(&self.engine.endpoint(), sql)
    }

    fn keeper(&self, max_bytes: Option<u64>, free_min: u64) -> Keeper {
        let mut config = self.config.clone();
        config.budget.max_bytes = max_bytes.map(ByteSize::b);
        config.budget.free_min = Some(ByteSize::b(free_min));
        Keeper::new(&self.engine.endpoint(), &config, Arc::clone(&self.counts))
    }

    fn look(&self, max_bytes: Option<u64>, free_min: u64) -> Look {
        let mut keeper = self.keeper(max_bytes, free_min);
        runtime().block_on(keeper.look()).unwrap()
    }

    /// All that counts now.
    fn used(&self) -> u64 {
        let look = self.look(Some(u64::MAX), 0);
        assert_eq!(look, Look::default());
        self.counts.budget.read().bytes_used
    }

    /// Rows by the number of days ago, the newest first.
    fn days(&self, table: &str) -> Vec<u64> {
        let sql = format!(
            "SELECT (SELECT max(toDate(time_received)) FROM flowsluice.{table}) \
             - toDate(time_received) AS ago, count() FROM flowsluice.{table} \
             GROUP BY ago ORDER BY ago FORMAT TSV"
        );
        let mut rows = Vec::new();
        for (expected, line) in self.run(&sql).lines().enumerate() {
            let (ago, count) = line.split_once('\t').unwrap();
            assert_eq!(ago, expected.to_string(), "the newest days, without a gap");
            rows.push(count.parse().unwrap());
        }
        rows
    }

    fn expired(&self, group: Group) -> u64 {
        self.counts.budget.read().expired[group as usize].rows
    }

    /// Bytes of the oldest partition of a table.
    fn oldest_bytes(&self, table: &str) -> u64 {
        let sql = format!(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE table = '{table}' AND active \
             GROUP BY partition_id ORDER BY partition_id LIMIT 1"
        );
        self.run(&sql).trim().parse().unwrap()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn the_oldest_partitions_of_all_tables_go_and_every_row_is_counted() {
    let Some(place) = Place::new() else { return };
    let used = place.used();
    let (flows, counters) = (
        place.oldest_bytes("flows"),
        place.oldest_bytes("interface_counters"),
    );
    // Two days of each, and a little of the third.
    let excess = 2 * (flows + counters) + counters / 4;
    let look = place.look(Some(used - excess), 0);
    assert!(
        look.excess_bytes >= excess && look.bytes >= look.excess_bytes,
        "{look:?}"
    );
    let (of_flows, of_counters) = (place.days("flows"), place.days("interface_counters"));
    for (days, rows) in [(&of_flows, ROWS), (&of_counters, ROWS / 2)] {
        assert!(
            (7..=8).contains(&days.len()),
            "{of_flows:?} {of_counters:?}"
        );
        assert!(days.iter().all(|count| *count == rows), "{days:?}");
    }
    let gone = |days: &[u64], rows| (DAYS - days.len() as u64) * rows;
    assert_eq!(place.expired(Group::Flows), gone(&of_flows, ROWS));
    assert_eq!(place.expired(Group::Counters), gone(&of_counters, ROWS / 2));
    assert_eq!(
        look.rows,
        gone(&of_flows, ROWS) + gone(&of_counters, ROWS / 2)
    );

    let again = place.look(Some(used - excess), 0);
    assert_eq!(again, Look::default(), "it is kept now");
    // ClickHouse's log may have grown meanwhile.
    assert!(place.used() <= used - excess + (64 << 10));
}

#[test]
fn the_newest_partition_stays_and_what_is_too_much_is_told() {
    let Some(place) = Place::new() else { return };
    let look = place.look(Some(1), 0);
    assert!(look.bytes < look.excess_bytes, "{look:?}");
    assert_eq!(place.days("flows"), [ROWS]);
    assert_eq!(place.days("interface_counters"), [ROWS / 2]);
    assert!(place.counts.budget.read().bytes_over > 0);

    // The disk's free space is a limit of its own, whoever fills the disk.
    place.fill();
    place.used();
    let free = place.counts.budget.read().disk_free_bytes;
    assert_eq!(place.look(None, free / 2), Look::default());
    place.look(None, u64::MAX / 2);
    assert_eq!(place.days("flows"), [ROWS]);
}

#[test]
fn a_partition_of_a_wrong_clock_is_not_taken_for_the_newest() {
    let Some(place) = Place::new() else { return };
    place.run("INSERT INTO flowsluice.flows (time_received) SELECT now() + 7 * 86400");
    place.look(Some(1), 0);
    let sql = "SELECT countIf(time_received <= now()), countIf(time_received > now()) \
               FROM flowsluice.flows FORMAT TSV";
    assert_eq!(place.run(sql), format!("{ROWS}\t1\n"));
}

#[test]
fn two_collectors_drop_no_more_than_one_and_count_each_row_once() {
    let Some(place) = Place::new() else { return };
    for _ in 0..3 {
        place.fill();
        let before: u64 = Group::ALL.iter().map(|group| place.expired(*group)).sum();
        let limit = place.used() - 4 * place.oldest_bytes("flows");
        let begin = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut keeper = place.keeper(Some(limit), 0);
                    begin.wait();
                    runtime().block_on(keeper.look()).unwrap();
                });
            }
        });
        let left: u64 = ["flows", "interface_counters"]
            .iter()
            .flat_map(|table| place.days(table))
            .sum();
        let all = DAYS * (ROWS + ROWS / 2);
        let expired: u64 = Group::ALL.iter().map(|group| place.expired(*group)).sum();
        assert_eq!(expired - before, all - left);
        assert!(left >= all / 2, "{left} of {all} are left");
    }
}

#[test]
fn what_others_store_counts_and_is_not_dropped() {
    let Some(place) = Place::new() else { return };
    place.run(
        "CREATE TABLE flowsluice.theirs (t DateTime, x UInt64) ENGINE = MergeTree \
         PARTITION BY toDate(t) ORDER BY t AS \
         SELECT now() - number * 8640 AS t, rand64() AS x FROM numbers(100)",
    );
    let before = place.used();
    place.run("ALTER TABLE flowsluice.interface_counters DETACH PARTITION ID '20200101'");
    let id = place.run(
        "SELECT min(partition_id) FROM system.parts WHERE table = 'interface_counters' AND active",
    );
    let detach = format!(
        "ALTER TABLE flowsluice.interface_counters DETACH PARTITION ID '{}'",
        id.trim()
    );
    place.run(&detach);
    let counted = engine::within(Duration::from_secs(60), || {
        place.used() >= before * 99 / 100
    });
    assert!(
        counted,
        "detached parts count: {} of {before}",
        place.used()
    );
    place.look(Some(1), 0);
    assert_eq!(place.run("SELECT count() FROM flowsluice.theirs"), "100\n");
    let detached = "SELECT count() > 0 FROM system.detached_parts WHERE database = 'flowsluice'";
    assert_eq!(place.run(detached), "1\n");
}

#[test]
fn a_running_collector_keeps_it_by_itself_once_the_tables_are_there() {
    let Some(place) = Place::new() else { return };
    let mut config = place.config.clone();
    config.budget.max_bytes = Some(ByteSize::b(place.used() - place.oldest_bytes("flows")));
    config.budget.every = Duration::from_millis(100);
    let keeper = Keeper::new(&place.engine.endpoint(), &config, Arc::clone(&place.counts));
    let (set_ready, ready) = tokio::sync::watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(keeper.keep(ready));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        place.expired(Group::Flows),
        0,
        "the tables may not be there yet"
    );
    set_ready.send_replace(true);
    let kept = engine::within(Duration::from_secs(60), || {
        place.expired(Group::Flows) >= ROWS
    });
    assert!(kept, "{:?}", place.counts.budget.read());
    // What comes later goes as well, the oldest first.
    let sum = |place: &Place| place.days("flows").iter().sum::<u64>();
    let (before, expired) = (sum(&place), place.expired(Group::Flows));
    place.run(
        "INSERT INTO flowsluice.flows (time_received, src_addr, dst_addr, raw_bytes) \
         SELECT now(), IPv4ToIPv6(toIPv4(rand32(1))), IPv4ToIPv6(toIPv4(rand32(2))), rand64(3) \
         FROM numbers(16000)",
    );
    let kept = engine::within(Duration::from_secs(60), || {
        place.expired(Group::Flows) > expired
    });
    assert!(kept, "{:?}", place.counts.budget.read());
    let settled = || sum(&place) + place.expired(Group::Flows) == before + expired + 16_000;
    assert!(
        engine::within(Duration::from_secs(60), settled),
        "every row is there or counted"
    );
}
