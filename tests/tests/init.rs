//! `flowsluice init`: what is written is a configuration that `check` accepts, and nothing is lost.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::Result;
use flowsluice_tests::place;
use flowsluice_tests::program::{run_in, said};

#[test]
fn what_is_written_is_accepted_by_check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let arguments = ["init", "--config", "new/flowsluice.toml"];
    let told = run_in(folder.path(), &arguments)?;
    assert!(told.status.success(), "{}", said(&told));
    let next = "flowsluice check --config new/flowsluice.toml\n";
    assert!(said(&told).contains(next), "{}", said(&told));
    let made = folder.path().join("new");
    assert_eq!(
        std::fs::read_dir(&made)?.count(),
        1,
        "nothing is left beside it"
    );
    let mode = made
        .join("flowsluice.toml")
        .metadata()?
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777 & !0o644, 0, "{mode:o}");
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
    let check = run_in(folder.path(), &["check", "--config", "new/flowsluice.toml"])?;
    assert!(check.status.success(), "{}", said(&check));
    Ok(())
}

#[test]
fn a_library_that_the_environment_names_is_written_down() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let library = folder.path().canonicalize()?.join("libchdb.so");
    std::fs::write(&library, "")?;
    let mut command = Command::new(place::binary()?);
    command.args(["init", "--config", "-"]);
    command.env("FLOWSLUICE_LIBCHDB", &library);
    let output = command.output()?;
    let expected = format!("\nlibrary = \"{}\"\n", library.display());
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains(&expected), "{text}");
    Ok(())
}

#[test]
fn a_file_that_is_there_stays_unless_it_is_forced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flowsluice.toml");
    std::fs::write(&file, "mine")?;
    let arguments = ["init", "--config", "flowsluice.toml"];
    let output = run_in(folder.path(), &arguments)?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected = "--config: flowsluice.toml exists; name another file, or add --force";
    assert!(said(&output).contains(expected), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(&file)?, "mine");
    let output = run_in(folder.path(), &[&arguments[..], &["--force"]].concat())?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(std::fs::read_to_string(&file)?.starts_with("# Flowsluice"));
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

#[test]
fn the_schema_that_is_printed_is_the_one_in_deploy() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = run_in(folder.path(), &["init", "--json-schema"])?;
    let committed = std::fs::read(place::root().join("deploy/flowsluice.schema.json"))?;
    assert!(output.stdout == committed);
    let output = run_in(folder.path(), &["init", "--json-schema", "--force"])?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(
        std::fs::read_dir(folder.path())?.count(),
        0,
        "nothing is written"
    );
    Ok(())
}
