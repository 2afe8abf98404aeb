//! What the collector says of itself: a line of fields to standard error when a state changes.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// The environment variable that wins over `log.level`.
pub const LEVEL_VARIABLE: &str = "FLOWSLUICE_LOG";

/// Starts logging. Lines go to standard error: coloured on a terminal only, without a time where
/// the journal adds its own.
///
/// # Errors
/// When the filter is none, or logging was started before.
pub fn init(config: &Log) -> anyhow::Result<()> {
    let variable = std::env::var(LEVEL_VARIABLE).ok();
    let (name, level) = match variable.as_deref().filter(|level| !level.is_empty()) {
        Some(level) => (LEVEL_VARIABLE, level),
        None => ("log.level", config.level.as_str()),
    };
    let filter = filter(level).map_err(|text| anyhow::anyhow!("{name}: {text}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours());
    match (config.format, to_journal()) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).finish().try_init()?,
        (LogFormat::Text, true) => builder.without_time().finish().try_init()?,
        (LogFormat::Text, false) => builder.finish().try_init()?,
    }
    Ok(())
}

/// Reads `log.level`. A word that names no level would silently become a target there.
///
/// # Errors
/// What was found and what is allowed.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let wrong = |found: &str| {
        format!(
            "found {found:?}; allowed: error, warn, info, debug, trace, off, or a filter such as \
             \"info,flowsluice::store=debug\""
        )
    };
    for directive in level.split(',').map(str::trim) {
        let named = directive
            .rsplit_once('=')
            .map_or(directive, |(_, level)| level);
        if !LEVELS.contains(&named.to_ascii_lowercase().as_str()) {
            return Err(wrong(directive));
        }
    }
    // It warns of each answer that is forged or strange, as many as somebody sends.
    let quiet = match level.contains("hickory") {
        true => "",
        false => "hickory_net=off,hickory_proto=off,hickory_resolver=off,",
    };
    EnvFilter::try_new(format!("{quiet}{level}")).map_err(|_| wrong(level))
}

/// Several faults, a line each, as one line: a further line would stand in the log without its time
/// and level.
#[must_use]
pub fn one_line(faults: &impl std::fmt::Display) -> String {
    faults.to_string().replace('\n', "; ")
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// Whether standard error is the journal's stream: systemd names its device and inode in
/// `JOURNAL_STREAM`, because the variable alone is inherited by children whose output is elsewhere.
fn to_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_a_list_of_targets_with_levels_is_a_filter() {
        for level in ["info", "WARN", "info,flowsluice::store=debug", "off"] {
            assert!(filter(level).is_ok(), "{level}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_instead_of_becoming_a_target() {
        for level in ["inof", "", "info,flowsluice::store", "flowsluice=verbose"] {
            let text = filter(level).unwrap_err();
            assert!(text.contains("allowed: error, warn"), "{text}");
        }
    }
}
