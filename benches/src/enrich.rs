//! `enrich`: the stage that adds what exporters do not know. There is none yet.

use anyhow::Result;

use crate::options::Options;
use crate::report::{self, Section};

/// Says that there is nothing to measure.
///
/// # Errors
/// When the results cannot be written.
pub fn main(options: &Options) -> Result<()> {
    let mut section = Section::new("enrich", "Enrichment");
    section.text("There is no enrichment stage yet, so there is nothing to measure.");
    report::publish(options, &section)
}
