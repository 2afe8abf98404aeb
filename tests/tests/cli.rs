//! The command line: what it refuses, and how it says so.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::Result;
use flowsluice_tests::place;

fn flowsluice(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(place::binary()?).args(arguments).output()?)
}

/// Writes a configuration with a server that is not there and the folder `spool` in `folder`.
fn configured(folder: &Path) -> Result<String> {
    let file = folder.join("flowsluice.toml");
    let spool = folder.join("spool");
    let text = format!(
        "[store]\nkind = \"server\"\nurl = \"http://127.0.0.1:9\"\nspool.dir = \"{}\"\n",
        spool.display()
    );
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// Runs `spool` with such a configuration; returns what it says, and whether it succeeds.
fn spool(folder: &Path, arguments: &[&str]) -> Result<(String, bool)> {
    let file = configured(folder)?;
    let output = flowsluice(&[&["spool"], arguments, &["--config", &file]].concat())?;
    let said = String::from_utf8(output.stdout)?;
    Ok((said, output.status.success()))
}

#[test]
fn a_spool_without_blocks_says_why_there_is_nothing_to_show() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("spool");
    let shown = path.display();
    let (said, _) = spool(folder.path(), &["list"])?;
    let missing = "there is no such folder: no collector has spooled with this configuration; \
        --config names another";
    assert_eq!(said, format!("{shown}: {missing}\n"));
    std::fs::create_dir(&path)?;
    let (said, _) = spool(folder.path(), &["list"])?;
    let nothing = "nothing waits, nothing is in quarantine";
    assert_eq!(said, format!("{shown}: {nothing}\n"));
    for action in ["retry", "drop"] {
        let (said, is_done) = spool(folder.path(), &[action, "--all"])?;
        assert_eq!(
            (said.as_str(), is_done),
            ("the quarantine is empty\n", true)
        );
    }
    Ok(())
}

#[test]
fn a_spool_that_nobody_may_look_at_is_not_said_to_be_missing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // It leads to itself, so that root cannot look either.
    std::os::unix::fs::symlink("spool", folder.path().join("spool"))?;
    let (said, is_done) = spool(folder.path(), &["list"])?;
    assert_eq!((said.as_str(), is_done), ("", false));
    Ok(())
}

#[test]
fn blocks_are_removed_though_nobody_reads_what_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let quarantine = folder.path().join("spool/quarantine");
    std::fs::create_dir_all(&quarantine)?;
    for number in [7, 8] {
        std::fs::write(quarantine.join(format!("{number:020}.broken")), "of no use")?;
    }
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = Command::new(place::binary()?);
    let config = configured(folder.path())?;
    command.args(["spool", "drop", "--all", "--config", &config]);
    assert!(command.stdout(writer).status()?.success());
    assert_eq!(std::fs::read_dir(&quarantine)?.count(), 0);
    Ok(())
}

#[test]
fn a_damaged_file_in_quarantine_does_not_make_every_retry_fail() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let quarantine = folder.path().join("spool/quarantine");
    std::fs::create_dir_all(&quarantine)?;
    let write = |name: &str, text: &str| std::fs::write(quarantine.join(name), text);
    write("00000000000000000007.broken", "of no use")?;
    let expected = "7: it is no block of the spool; it cannot be stored, remove it with \
        'flowsluice spool drop 7'\n";
    let (said, is_done) = spool(folder.path(), &["retry", "--all"])?;
    assert_eq!((said.as_str(), is_done), (expected, true));
    let (said, is_done) = spool(folder.path(), &["retry", "7"])?;
    assert_eq!((said.as_str(), is_done), (expected, false));
    let zero = "0".repeat(32);
    let newer = format!("flowsluice-block 2 {zero} {zero}\n");
    write("00000000000000000008.block", &newer)?;
    let (said, is_done) = spool(folder.path(), &["retry", "--all"])?;
    assert!(
        said.ends_with("; start a version that knows it\n"),
        "{said}"
    );
    assert!(!is_done, "that one can be stored");
    Ok(())
}

/// Runs `check` on a configuration and returns what it says on standard error.
fn refused(folder: &Path, text: &str) -> Result<String> {
    let file = folder.join("flowsluice.toml");
    std::fs::write(&file, text)?;
    let output = flowsluice(&["check", "--config", &file.display().to_string()])?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(
        output.status.code(),
        Some(2),
        "it is refused: {text}\n{stderr}"
    );
    Ok(stderr)
}

#[test]
fn an_unknown_key_is_refused_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let said = refused(folder.path(), "[receive]\nmode = \"auto\"\nqueues = 16\n")?;
    assert!(
        said.contains("flowsluice.toml:3: receive.queues: "),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_value_without_its_unit_is_refused_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let said = refused(folder.path(), "\n[batch]\nage_max = \"1 parsec\"\n")?;
    assert!(
        said.contains("flowsluice.toml:3: batch.age_max: "),
        "{said}"
    );
    Ok(())
}

#[test]
fn every_mistake_is_told_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "[receive]\nmode = \"fast\"\n[store]\nretention = \"soon\"\n";
    let said = refused(folder.path(), text)?;
    assert!(said.contains(":2: receive.mode: "), "{said}");
    assert!(said.contains(":4: store.retention: "), "{said}");
    Ok(())
}

#[test]
fn broken_toml_is_refused_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let said = refused(folder.path(), "[receive]\nmode = \n")?;
    assert!(said.contains("flowsluice.toml:2"), "{said}");
    Ok(())
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    let output = flowsluice(&["run", "--config", "/does/not/exist.toml"])?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("/does/not/exist.toml"), "{said}");
    Ok(())
}

#[test]
fn the_commented_configuration_is_valid_and_its_memory_is_told() -> Result<()> {
    let file = place::root().join("deploy/flowsluice.toml");
    let output = flowsluice(&["check", "--config", &file.display().to_string()])?;
    let said = String::from_utf8(output.stdout)?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8(output.stderr)?
    );
    assert!(said.to_lowercase().contains("memory"), "{said}");
    assert!(said.contains("2055"), "what would be bound: {said}");
    Ok(())
}

#[test]
fn a_password_is_never_printed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flowsluice.toml");
    let text = "[store]\nurl = \"http://127.0.0.1:1\"\npassword = \"open-sesame\"\n";
    std::fs::write(&file, text)?;
    let output = flowsluice(&["check", "--config", &file.display().to_string()])?;
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8(said)?.contains("open-sesame"));
    Ok(())
}

#[test]
fn what_check_says_may_be_read_in_part() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flowsluice.toml");
    std::fs::write(&file, "[store]\nkind = \"null\"\n")?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = Command::new(place::binary()?);
    command
        .arg("check")
        .arg("--config")
        .arg(&file)
        .stdout(writer);
    let output = command.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    Ok(())
}

#[test]
fn a_generator_that_nobody_hears_fails_and_says_so() -> Result<()> {
    let target = format!("127.0.0.1:{}", place::free_udp_port()?);
    let arguments = [
        "generate", "--target", &target, "--rate", "2000", "--flows", "2000",
    ];
    let output = flowsluice(&arguments)?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&target), "{said}");
    Ok(())
}
