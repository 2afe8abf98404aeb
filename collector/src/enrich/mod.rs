//! What is known of addresses, exporters, interfaces and ports, put beside their flows.
//!
//! In: the rows of a batch. Out: small numbers a row, which name entries of immutable tables;
//! the encoder turns them into text. Owner: control tasks build the tables, a task of the store
//! marks rows by snapshots of them. Nothing here waits, and nothing drops a flow: what is not known
//! is 0, which is ''.

#![forbid(unsafe_code)]

pub mod applications;
pub mod dns;
pub mod exporters;
mod facts;
pub mod files;
pub mod geo;
pub mod interfaces;
pub mod keep;
mod keys;
pub mod labels;
pub mod lpm;
mod marks;
pub mod networks;
pub mod offline;
pub mod parts;
mod ports;
mod recent;
pub mod services;
pub mod sides;
pub mod sites;
pub mod snmp;
mod stage;
mod tables;
pub mod threats;
pub mod vendors;
pub mod watch_files;

pub use facts::{EnrichFacts, Figure};
pub use keys::{KEYS, Keys};
pub use marks::{LANES, Lane, Locality, Marks};
pub use recent::MEMORY_BYTES as RECENT_BYTES;
pub use stage::Enricher;
pub use tables::{Label, Published, Tables, Texts};
