//! `flowsluice replay` into a store that has as few batches as may be.

use std::process::Command;

use anyhow::{Result, ensure};
use flowsluice_tests::{Process, place};

use super::kit::{Files, LONG, Record, flows, options};

const CONFIG: &str = "[store]\nkind = \"null\"\n[batch]\nper_worker = 2\n";

#[test]
fn a_capture_that_tells_names_between_flows_is_stored_with_two_batches() -> Result<()> {
    let files = Files::new()?;
    files.put("flowsluice.toml", CONFIG)?;
    let mut command = Command::new(place::binary()?);
    command.arg("replay").arg("--config");
    command.arg(files.path("flowsluice.toml"));
    let record = Record::new("10.0.0.1:50000", "10.0.0.2:443");
    for number in 0..10_u8 {
        let name = [&[0, 0, 0, number + 1][..], b"eth1"].concat();
        for (kind, datagram) in [
            ("flows", flows(1, &[record; 3])),
            ("names", options(300, (2, 4), &[(82, 4)], &name)),
        ] {
            let file = format!("{number}-{kind}.bin");
            files.put(&file, datagram)?;
            command.arg(files.path(&file));
        }
    }
    let mut replay = Process::spawn("the replay", &mut command, &files.path("log"))?;
    let status = replay.wait(LONG)?;
    ensure!(status.success(), "{status}\n{}", replay.tail(40));
    let said = replay.output();
    let decoded = "40 of 40 records decoded (10 options), 30 flows; unaccounted: 0";
    for text in [decoded, "30 dropped, store_null"] {
        assert!(said.contains(text), "no {text}\n{said}");
    }
    Ok(())
}
