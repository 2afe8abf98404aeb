use std::path::Path;

use super::constants::{HARDWARE, Origin, ROLLUPS, Words};
use super::*;

fn plan(flows_per_second: u64, days: u64) -> Plan {
    Plan::new(Demand::new(flows_per_second, days).unwrap())
}

/// A document of the repository, line breaks and other white space as one space each.
fn document(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join(file)).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_of_the_readme_is_what_the_command_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, behind) = readme.split_once("<!-- begin sizing -->\n").unwrap();
    let (found, _) = behind.split_once("<!-- end sizing -->").unwrap();
    assert_eq!(
        found,
        table(),
        "README.md differs between its marks 'begin sizing' and 'end sizing'; put there what \
         'flowsluice size --table' prints"
    );
}

#[test]
fn each_figure_stands_in_the_document_it_is_from() {
    let rollups = ROLLUPS.iter().map(|rollup| Words {
        file: HARDWARE.file,
        words: rollup.words,
    });
    let figures = FIGURES.iter().filter_map(|figure| match figure.origin {
        Origin::Measured(words) | Origin::Planned(words) => Some(words),
        Origin::Assumed(_) => None,
    });
    for Words { file, words } in rollups.chain(figures).chain([HARDWARE]) {
        assert!(
            document(file).contains(words),
            "{file} no longer says '{words}'; bring collector/src/sizing/constants.rs in line \
             with it, then README.md by 'flowsluice size --table'"
        );
    }
}

#[test]
fn a_plan_is_the_product_of_its_figures() {
    let plan = plan(1_500, 30);
    assert_eq!(plan.rows, 1_500 * 86_400 * 30);
    assert_eq!(plan.disk.rows_bytes, 101_088_000_000);
    // 695.4 MiB for each of 30 days and 1,413.3 for each of five.
    assert_eq!(plan.disk.rollups_bytes, 29_285_154_816);
    assert_eq!(plan.disk.bytes, 162_966_443_520);
    assert!((plan.cores_busy() - 0.135_535_5).abs() < 1e-9);
    assert_eq!(plan.peak_flows_per_second, 2_310);
    // 4 GiB of 75.2 bytes a row.
    assert_eq!(plan.spool_holds_s, 38_075);
}

#[test]
fn by_default_rollups_are_kept_for_90_and_400_days_and_never_shorter_than_flows() {
    let disk = plan(1_000, 30).disk;
    assert_eq!(
        (disk.default_minute_days, disk.default_hour_days),
        (90, 400)
    );
    // 64.7 MB a flow/s more, and room for them.
    let more = disk.bytes_with_default_rollups - disk.bytes;
    assert_eq!(more / 1_000_000_000, 80);
    let disk = plan(1_000, 500).disk;
    assert_eq!(
        (disk.default_minute_days, disk.default_hour_days),
        (500, 500)
    );
    assert_eq!(disk.bytes_with_default_rollups, disk.bytes);
}

#[test]
fn one_host_does_up_to_the_rate_that_one_was_measured_at() {
    let most = one_host_max() as u64;
    let one = plan(most, 30);
    assert_eq!(
        (one.collectors.count, one.clickhouse, one.shards),
        (1, None, 1)
    );
    assert_eq!(one.collectors.memory_bytes, Some(4 << 30));
    let two = plan(most + 1, 30);
    assert_eq!((two.collectors.count, two.shards), (1, 1));
    assert_eq!(two.clickhouse.map(|server| server.count), Some(1));
}

/// As `deploy/scale-out.md` has it under "Two sizes", which plans for the peak itself.
#[test]
fn ten_million_flows_a_second_take_the_hosts_that_the_plan_for_them_names() {
    let plan = plan(6_490_000, 7);
    assert_eq!(plan.peak_flows_per_second, 9_994_600);
    assert_eq!((plan.collectors.count, plan.collectors.cores), (6, 8));
    assert_eq!(plan.shards, 10);
    let servers = plan.clickhouse.unwrap();
    assert_eq!((servers.count, servers.cores), (20, 29));
}

#[test]
fn absurd_demands_are_refused_with_what_is_allowed() {
    for rate in [0, FLOWS_PER_SECOND_MAX + 1, u64::MAX] {
        assert_eq!(Demand::new(rate, 30), Err(Absurd::FlowsPerSecond(rate)));
    }
    for days in [0, DAYS_MAX + 1, u64::MAX] {
        assert_eq!(Demand::new(250, days), Err(Absurd::Days(days)));
    }
    let said = Absurd::Days(0).to_string();
    let expected = "--days: 0 is no time to keep flows for; allowed: 1 to 3650; give whole days";
    assert_eq!(said, expected);
}

#[test]
fn the_smallest_and_the_largest_demand_have_a_plan() {
    let least = plan(1, 1);
    assert_eq!(least.rows, 86_400);
    assert_eq!(least.collectors.cores, 2);
    let most = plan(FLOWS_PER_SECOND_MAX, DAYS_MAX);
    assert_eq!(most.rows, 31_536_000_000_000_000);
    assert!(most.disk.bytes > most.disk.rows_bytes + most.disk.rollups_bytes);
    assert!(most.disk.bytes < u64::MAX / 2, "it is not cut off");
    assert_eq!(most.shards, 154);
    assert!(text(&most).contains(" EB "), "{}", text(&most));
}

#[test]
fn people_read_what_is_derived_and_from_what() {
    let said = text(&plan(1_500, 30));
    for line in [
        "1,500 flows/s on average, kept for 30 days: 3,888,000,000 rows\n",
        "cores       2             2,310 flows/s at the peak; 14 % of a core busy",
        "disk        160 GB        rows 101 GB, rollups kept as long or open 29 GB, and room",
        "spool       4 GiB         beside it, on each collector; full after 10 hours",
        "above 97,000 flows/s on average",
        "Derived, not measured at this size",
        "AMD EPYC, 2 processors, 24 GiB (benches/RESULTS.md)",
        "measured  26 bytes          a row of flows",
        "assumed   1.54 times        the mean rate",
    ] {
        assert!(said.contains(line), "'{line}' is missing in:\n{said}");
    }
}
