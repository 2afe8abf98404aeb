//! One file a command: its arguments, and what it does with the library.

pub mod check;
pub mod doctor;
pub mod engine;
pub mod export;
pub mod generate;
pub mod geoip;
pub mod import;
pub mod query;
pub mod replay;
pub mod run;
pub mod schema;
pub mod spool;
mod storage;
