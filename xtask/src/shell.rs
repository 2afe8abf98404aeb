//! Other programs, run in the foreground with their output shown.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use flowsluice_tests::place;

/// Prints the command, runs it in the clone's top folder, and fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    run_in(&place::root(), command)
}

/// The same in another folder.
pub fn run_in(folder: &Path, command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("xtask: {line}");
    let status = command
        .current_dir(folder)
        .status()
        .with_context(|| format!("start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// The cargo that runs this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(place::root());
    // Set for this program by `cargo run`; left in place they would rebuild what asks for them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command.env_remove("CARGO_MANIFEST_DIR");
    command.env_remove("CARGO_MANIFEST_PATH");
    command
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
