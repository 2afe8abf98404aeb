//! One file a command: its arguments, and what it does with the library.

use std::io::{ErrorKind, Write};

use flowsluice::config::ConfigError;

pub mod check;
pub mod command_line;
pub mod doctor;
pub mod engine;
pub mod export;
pub mod generate;
pub mod geoip;
pub mod import;
pub mod init;
mod preflight;
pub mod query;
pub mod replay;
pub mod run;
pub mod schema;
mod sending;
pub mod size;
pub mod spool;
mod storage;
mod target;
pub mod top;

/// Exit status where the command line or the configuration is refused, clap's too: it stays wrong
/// however often it is tried, which is what a service manager asks.
pub const REFUSED: u8 = 2;

/// True when it is the configuration that is wrong.
pub fn is_refused_configuration(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>() || error.is::<check::Refused>()
}

/// Whoever reads may have seen enough: `flowsluice schema print | head`.
fn print(lines: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        match out.write_all(line.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}
