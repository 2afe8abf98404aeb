//! `flowsluice command-line`: the command line itself, told as JSON.
//!
//! In: clap's description of all commands. Out: one document, of which `cargo xtask package` makes
//! man pages and shell completions, so that they say what the command says.

use clap::{Arg, Command};
use serde_json::{Value, json};

use super::print;

/// # Errors
/// When it cannot be printed.
pub fn main(mut command: Command) -> anyhow::Result<()> {
    // Adds the global arguments, help among them, where they are heard.
    command.build();
    print([format!("{:#}\n", self::command(&command))])
}

fn command(command: &Command) -> Value {
    let visible = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    let arguments = command.get_arguments().filter(|one| !one.is_hide_set());
    json!({
        "name": command.get_name(),
        "about": command.get_about().map(ToString::to_string),
        "long_about": command.get_long_about().map(ToString::to_string),
        "arguments": arguments.map(argument).collect::<Vec<_>>(),
        "commands": command
            .get_subcommands()
            .filter(visible)
            .map(self::command)
            .collect::<Vec<_>>(),
    })
}

fn argument(argument: &Arg) -> Value {
    let takes_values = argument.get_action().takes_values();
    let values = argument.get_possible_values();
    let names = argument.get_value_names().unwrap_or_default();
    let defaults = argument.get_default_values();
    json!({
        "id": argument.get_id().as_str(),
        "short": argument.get_short(),
        "long": argument.get_long(),
        "takes_values": takes_values,
        "is_required": argument.is_required_set(),
        "is_repeated": matches!(argument.get_action(), clap::ArgAction::Append),
        "is_last": argument.is_last_set(),
        "value_names": names.iter().map(ToString::to_string).collect::<Vec<_>>(),

        "values": values.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>(),
        "defaults": defaults.iter().map(|one| one.to_string_lossy()).collect::<Vec<_>>(),
        "help": argument.get_help().map(ToString::to_string),
        "long_help": argument.get_long_help().map(ToString::to_string),
    })
}
