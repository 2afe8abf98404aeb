//! The command line: what it refuses, and how it says so.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::Result;
use flowsluice_tests::place;

fn flowsluice(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(place::binary()?).args(arguments).output()?)
}

/// Runs `check` on a configuration and returns what it says on standard error.
fn refused(folder: &Path, text: &str) -> Result<String> {
    let file = folder.join("flowsluice.toml");
    std::fs::write(&file, text)?;
    let output = flowsluice(&["check", "--config", &file.display().to_string()])?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(
        output.status.code(),
        Some(1),
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
    assert_eq!(output.status.code(), Some(1));
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
