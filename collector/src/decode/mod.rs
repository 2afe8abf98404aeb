//! Decodes datagrams into flows.
//!
//! In: one UDP payload. Out: flows, in bursts, by callback. Owner: one worker; no locks, no
//! allocation except when a template or an exporter is seen for the first time.
//! Specs: RFC 3954, RFC 7011, sFlow v5.

#![forbid(unsafe_code)]

mod burst;
mod cursor;
pub mod packet;
pub mod sflow;

use crate::flow::Flow;

pub use burst::{BURST_FLOWS, Burst, BurstBuffer};
pub use cursor::Cursor;

/// Takes decoded flows, a burst at a time.
pub trait FlowSink {
    /// `flows` may be changed in place (enrichment) and is not read again by the decoder.
    fn flows(&mut self, flows: &mut [Flow]);
}
