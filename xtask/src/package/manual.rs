//! Man pages and shell completions, made of what `flowsluice command-line` tells.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command as Described};
use clap_complete::Shell;
use serde::Deserialize;

use super::output;
use super::tree::Tree;

/// A command as the binary tells it.
#[derive(Deserialize)]
struct Told {
    name: String,
    about: Option<String>,
    long_about: Option<String>,
    arguments: Vec<Argument>,
    commands: Vec<Told>,
}

#[derive(Deserialize)]
struct Argument {
    id: String,
    short: Option<char>,
    long: Option<String>,
    takes_values: bool,
    is_required: bool,
    is_repeated: bool,
    is_last: bool,
    value_names: Vec<String>,
    values: Vec<String>,
    defaults: Vec<String>,
    help: Option<String>,
    long_help: Option<String>,
}

/// Arguments that clap adds by itself, here as there.
const ADDED: [&str; 2] = ["help", "version"];

/// Where each shell looks for completions.
const SHELLS: [(Shell, &str); 3] = [
    (
        Shell::Bash,
        "/usr/share/bash-completion/completions/flowsluice",
    ),
    (Shell::Zsh, "/usr/share/zsh/vendor-completions/_flowsluice"),
    (
        Shell::Fish,
        "/usr/share/fish/vendor_completions.d/flowsluice.fish",
    ),
];

/// Puts both into `tree`.
pub fn add(binary: &Path, version: &str, tree: &Tree) -> Result<()> {
    let told = output(Command::new(binary).arg("command-line"))?;
    let told: Told = serde_json::from_str(&told).context("what flowsluice command-line tells")?;
    let command = described(told).version(version.to_owned());
    for (shell, path) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "flowsluice", &mut text);
        tree.write(path, text)?;
    }
    let first = tree.place("/usr/share/man/man1/flowsluice.1")?;
    let pages = first.parent().context("it is in a folder")?;
    clap_mangen::generate_to(command, pages).context("write the man pages")?;
    for page in tree.files()? {
        if page.starts_with("/usr/share/man/") {
            tree.compress(&page)?;
        }
    }
    Ok(())
}

fn described(told: Told) -> Described {
    let is_own = |one: &Argument| !ADDED.contains(&one.id.as_str());
    let arguments = told.arguments.into_iter().filter(is_own);
    let mut command = Described::new(told.name)
        .args(arguments.map(argument))
        .subcommands(told.commands.into_iter().map(described))
        .disable_help_subcommand(true);
    if let Some(about) = told.about {
        command = command.about(about);
    }
    if let Some(about) = told.long_about {
        command = command.long_about(about);
    }
    command
}

fn argument(told: Argument) -> Arg {
    let action = match (told.takes_values, told.is_repeated) {
        (false, _) => ArgAction::SetTrue,
        (true, false) => ArgAction::Set,
        (true, true) => ArgAction::Append,
    };
    let mut argument = Arg::new(told.id)
        .action(action)
        .short(told.short)
        .last(told.is_last)
        .required(told.is_required);
    if let Some(long) = told.long {
        argument = argument.long(long);
    }
    if told.takes_values {
        argument = argument.default_values(told.defaults);
        if !told.value_names.is_empty() {
            argument = argument.value_names(told.value_names);
        }
        if !told.values.is_empty() {
            argument = argument.value_parser(told.values);
        }
    }
    if let Some(help) = told.help {
        argument = argument.help(help);
    }
    if let Some(help) = told.long_help {
        argument = argument.long_help(help);
    }
    argument
}
