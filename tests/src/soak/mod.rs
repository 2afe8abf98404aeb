//! Runs a collector for long while everything around it changes, and judges whether it stays flat.
//!
//! In: a plan. Out: a look at the collector a second, what was done to it and what it says of that,
//! and what does not hold. One generator sends all the time, another one comes and goes; files of
//! `[enrich]` and the configuration are replaced; ClickHouse is killed and started again.
//!
//! Half of the exporters that come are the same few again, the other half are new: a collector
//! keeps what each exporter told until `decode.exporters_max` are there. So their number is bounded
//! here (some two hundred in half an hour, observation domains counted), and what they take has to
//! vanish in what counts as flat.

pub mod files;
pub mod judge;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod run;

pub use judge::Verdict;
pub use outcome::{Outcome, Sample};
pub use plan::{Action, Plan, Step};
pub use run::run;
