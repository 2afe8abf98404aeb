//! Flowsluice: a flow collector appliance.
//!
//! The modules stand in the order of the data path. [`worker`] holds the only hot loop; it calls
//! **receive -> decode -> batch -> store** in turn and owns all their state. `ARCHITECTURE.md`
//! beside this crate tells why it is built so.

pub mod worker;

pub mod receive;

pub mod decode;

pub mod flow;

pub mod enrich;

pub mod batch;

pub mod store;

pub mod knowledge;

pub mod stats;

pub mod ledger;

pub mod config;

pub mod http;

pub mod log;

pub mod service;

pub mod names;

pub mod generate;

pub mod geoip;

pub mod import;

pub mod host;

pub mod sizing;

mod certificate;

mod folder;

pub mod units;
