//! `flowsluice size`: what it prints, and what it refuses.

use std::process::{Command, Output};

use anyhow::Result;
use flowsluice_tests::place;

fn size(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(place::binary()?);
    Ok(command.arg("size").args(arguments).output()?)
}

#[test]
fn thirty_days_are_what_is_planned_for_when_nobody_says_otherwise() -> Result<()> {
    let without = size(&["--flows-per-second", "1500"])?;
    let with = size(&["--flows-per-second", "1500", "--days", "30"])?;
    assert!(without.status.success());
    assert_eq!(without.stdout, with.stdout);
    let said = String::from_utf8(without.stdout)?;
    assert!(said.contains("kept for 30 days"), "{said}");
    Ok(())
}

#[test]
fn programs_get_the_plan_and_the_origin_of_its_figures() -> Result<()> {
    let output = size(&["--flows-per-second", "1000", "--days", "7", "--json"])?;
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(plan["flows_per_second"], 1000);
    assert_eq!(plan["days"], 7);
    assert_eq!(plan["rows"], 604_800_000);
    assert_eq!(plan["collectors"]["cores"], 2);
    assert!(plan["clickhouse"].is_null(), "it is embedded");
    let origin = &plan["figures"][0]["origin"]["measured"];
    assert_eq!(origin["file"], "sql/README.md");
    Ok(())
}

#[test]
fn the_table_is_printed_alone() -> Result<()> {
    let said = String::from_utf8(size(&["--table"])?.stdout)?;
    assert!(
        said.lines()
            .all(|line| line.starts_with("| ") || line.starts_with("|---"))
    );
    // A head, a rule, and six rates.
    assert_eq!(said.lines().count(), 8);
    Ok(())
}

#[test]
fn what_cannot_be_planned_is_a_usage_error_that_says_what_is_allowed() -> Result<()> {
    let refused: [(&[&str], &str); 7] = [
        (&[], "--flows-per-second <N>"),
        (&["--flows-per-second", "0"], "allowed: 1 to 100000000"),
        (
            &["--flows-per-second", "18446744073709551615"],
            "allowed: 1 to 100000000",
        ),
        (
            &["--flows-per-second", "250", "--days", "0"],
            "allowed: 1 to 3650",
        ),
        (
            &["--flows-per-second", "250", "--days", "999999"],
            "allowed: 1 to 3650",
        ),
        (&["--flows-per-second", "many"], "invalid value 'many'"),
        (&["--table", "--days", "7"], "cannot be used with"),
    ];
    for (arguments, expected) in refused {
        let output = size(arguments)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    Ok(())
}
