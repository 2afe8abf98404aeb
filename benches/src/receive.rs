//! `receive`: not built yet.

use anyhow::{Result, bail};

use crate::options::Options;

/// Measures nothing.
///
/// # Errors
/// Always.
pub fn main(_: &Options) -> Result<()> {
    bail!("not built yet")
}
