//! What is known of addresses, exporters, interfaces and ports, put beside their flows.
//!
//! In: the flows of a datagram. Out: small numbers a flow, which name entries of immutable tables;
//! the encoder turns them into text. Owner: control tasks build the tables, workers read snapshots
//! of them. Nothing here waits, and nothing drops a flow: what is not known is 0, which is ''.

#![forbid(unsafe_code)]

pub mod geo;
pub mod lpm;
