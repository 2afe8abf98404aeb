//! Kills ClickHouse and the collector under a steady rate, and accounts for every flow.
//!
//! In: a plan. Out: what happened when, which numbered records are rows, and what became of the
//! others. Every record has a serial number in its next hop; the kernel of a network namespace of
//! their own answers each datagram that no socket was there for, quoting its first record. So it
//! is known one by one which flows were sent, which came while no collector ran, and which are
//! rows; what is left has to be what a collector held in memory when it was killed.

pub mod account;
pub mod plan;
pub mod report;
pub mod run;
pub mod sums;

pub use account::Account;
pub use plan::{Action, Kind, Plan, Step};
pub use run::{Outcome, run};
