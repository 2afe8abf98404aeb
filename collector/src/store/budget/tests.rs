use super::*;

const DAY: u32 = 86_400;
const NOW: u32 = 1000 * DAY;

/// A partition of a day, so many days ago.
fn partition(table: &str, days: u32, bytes: u64) -> Partition {
    Partition {
        table: table.into(),
        id: format!("{:04}", 1000 - days),
        row_count: 1,
        bytes,
        oldest: NOW - (days + 1) * DAY,
        newest: NOW - days * DAY,
        ..Partition::default()
    }
}

fn kept(table: &str) -> u64 {
    u64::from(DAY) * if table == "flows" { 30 } else { 90 }
}

fn chosen(partitions: Vec<Partition>, excess: u64) -> Vec<String> {
    let usage = Usage {
        now: NOW,
        partitions,
        ..Usage::default()
    };
    let tables = ["flows", "rollup_minute_x", "exporters"].map(str::to_owned);
    let chosen = choose(&usage, &tables, excess, kept);
    let name = |one: &&Partition| format!("{} {}", one.table, (NOW - one.newest) / DAY);
    chosen.iter().map(name).collect()
}

#[test]
fn the_oldest_partitions_go_and_no_more_than_are_needed() {
    let days = || (0..5).map(|days| partition("flows", days, 100)).collect();
    assert!(chosen(days(), 0).is_empty());
    assert_eq!(chosen(days(), 1), ["flows 4"]);
    assert_eq!(chosen(days(), 100), ["flows 4"]);
    assert_eq!(chosen(days(), 101), ["flows 4", "flows 3"]);
}

#[test]
fn the_newest_partition_of_a_table_stays_whatever_is_too_much() {
    let days = vec![
        partition("flows", 1, 100),
        partition("flows", 0, 100),
        partition("rollup_minute_x", 80, 100),
    ];
    assert_eq!(chosen(days, u64::MAX), ["flows 1"]);
}

#[test]
fn what_a_wrong_clock_puts_ahead_is_not_the_newest_and_stays() {
    let ahead = Partition {
        id: "later".into(),
        newest: NOW + 7 * DAY,
        oldest: NOW + 6 * DAY,
        ..partition("rollup_minute_x", 0, 100)
    };
    let mut all = vec![ahead.clone()];
    assert!(chosen(all.clone(), u64::MAX).is_empty());
    all.extend((0..3).map(|days| partition("rollup_minute_x", days, 100)));
    let expected = ["rollup_minute_x 2", "rollup_minute_x 1"];
    assert_eq!(chosen(all, u64::MAX), expected, "today's stays as well");
    // Old rows of a table may be dropped, whatever is ahead of them in others.
    let all = vec![
        ahead,
        partition("flows", 1, 100),
        partition("flows", 0, 100),
    ];
    assert_eq!(chosen(all, u64::MAX), ["flows 1"]);
}

#[test]
fn a_clock_that_is_hours_ahead_keeps_no_second_partition() {
    let today = Partition {
        newest: NOW + DAY / 2,
        ..partition("rollup_minute_x", 0, 100)
    };
    let mut all = vec![today];
    all.extend((1..3).map(|days| partition("rollup_minute_x", days, 100)));
    let expected = ["rollup_minute_x 2", "rollup_minute_x 1"];
    assert_eq!(chosen(all, u64::MAX), expected);
}

#[test]
fn a_failure_gets_its_own_remedy_and_a_part_of_somebody_elses_is_none() {
    let error = |code| InsertError::exception(&format!("Code: {code}. DB::Exception: x"));
    assert!(remedy(&error(497)).contains("SELECT system.parts"));
    assert!(remedy(&error(516)).contains("password"));
    assert!(remedy(&InsertError::outage("refused")).contains("store.url"));
    assert!([232, 384].map(error).iter().all(is_left_to_others));
    assert!(!is_left_to_others(&error(497)));
}

#[test]
fn tables_are_shortened_by_the_same_share_of_their_retention() {
    let mut all: Vec<_> = (0..10).map(|days| partition("flows", days, 100)).collect();
    all.extend((0..30).map(|days| partition("rollup_minute_x", days, 10)));
    // 9 of 30 days are 27 of 90.
    let expected = [
        "rollup_minute_x 29",
        "rollup_minute_x 28",
        "flows 9",
        "rollup_minute_x 27",
        "rollup_minute_x 26",
        "rollup_minute_x 25",
        "flows 8",
    ];
    assert_eq!(chosen(all, 201), expected);
}

#[test]
fn tables_of_others_and_what_is_going_already_are_not_dropped() {
    let gone = Partition {
        row_count: 0,
        ..partition("flows", 20, 100)
    };
    let all = vec![
        partition("somebody_elses", 29, 100),
        partition("somebody_elses", 0, 100),
        gone,
        partition("flows", 1, 100),
        partition("flows", 0, 100),
        // Without a time in its key, all of it is one partition.
        partition("exporters", 0, 100),
    ];
    assert_eq!(chosen(all, u64::MAX), ["flows 1"]);
}

#[test]
fn bytes_and_free_space_are_both_limits() {
    let usage = Usage {
        now: NOW,
        partitions: vec![partition("flows", 0, 1000)],
        others_bytes: 500,
        disk_free_bytes: 300,
    };
    let excess = |bytes_max, free_min| {
        Limits {
            bytes_max,
            free_min,
        }
        .excess(&usage)
    };
    assert_eq!(excess(None, 0), 0);
    assert_eq!(excess(Some(1500), 300), 0);
    assert_eq!(excess(Some(1400), 0), 100);
    assert_eq!(excess(Some(1400), 450), 150);
    assert_eq!(excess(None, 310), 10);
}
