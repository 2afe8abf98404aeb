//! `store`: from datagrams in memory to compressed blocks, and blocks beside rows into ClickHouse.

mod inserts;
mod memory;
mod replay;
mod row;

use anyhow::Result;

use crate::options::Options;
use crate::report::{self, Section};

/// Measures and reports.
///
/// # Errors
/// When flows are lost on the way, or ClickHouse does not take them.
pub fn main(options: &Options) -> Result<()> {
    let mut section = Section::new("store", "From datagrams to blocks");
    memory::measure(options, &mut section)?;
    inserts::measure(options, &mut section)?;
    report::publish(options, &section)
}
