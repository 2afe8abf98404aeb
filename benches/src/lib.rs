//! Benchmarks: each stage alone, then together, beside programs and crates that do the same.
//!
//! One module a subject; the others are what subjects share: [`streams`] makes the traffic,
//! [`sender`] sends it, [`rounds`] alternates candidates, [`bisect`] finds a highest rate, [`cpu`]
//! and [`machine`] tell what was used and on what, [`instructions`] counts under callgrind,
//! [`report`] writes it down.

pub mod decode;
pub mod end_to_end;
pub mod enrich;
pub mod queries;
pub mod receive;
pub mod store;
pub mod veth;

pub mod sender;
pub mod streams;

pub mod bisect;
pub mod rounds;

pub mod cpu;

pub mod machine;

pub mod report;

pub mod options;

pub mod instructions;
