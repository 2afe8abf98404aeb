//! Decodes datagrams into flows.
//!
//! In: one UDP payload. Out: flows, in bursts, by callback. Owner: one worker; no locks, no
//! allocation except when something is learned, or has to wait for a template.
//! Drops: `datagram_truncated`, `version_unknown`, `protocol_disabled`, `exporter_limit`,
//! `header_malformed`, and those of sets and records.
//! Specs: Cisco's "NetFlow Export Datagram Formats", RFC 3954, RFC 7011, sFlow v5.

#![forbid(unsafe_code)]

mod burst;
mod cursor;
mod decoder;
mod elements;
mod ended;
mod exporters;
mod extra;
mod fields;
mod ipfix;
mod lists;
mod naming;
mod netflow1;
mod netflow5;
mod netflow7;
mod netflow9;
pub mod nsel;
mod options;
mod outbox;
mod overrides;
pub mod packet;
mod pending;
pub mod persist;
mod plan;
mod protocol;
mod record;
mod registry;
mod sampling;
pub mod sequence;
mod sets;
pub mod sflow;
mod shared;
mod teaching;
mod template;
mod templates_told;
pub mod undecodable;
pub mod watch;
mod window;

use crate::flow::Flow;

pub use burst::{BURST_FLOWS, Burst, BurstBuffer};
pub use cursor::Cursor;
pub use decoder::Decoder;
pub use extra::{
    EXTRA_BYTES_MAX, EXTRA_ENTRIES_MAX, EXTRA_VALUE_MAX, ElementPattern, ExtraBuffer, ExtraRow,
    ExtraRows, PatternError, Wanted,
};
pub use plan::TEMPLATE_FIELDS_MAX;
pub use sampling::SAMPLERS_MAX;
pub use shared::{DomainKey, ExporterStatus, Shared};
pub use teaching::Teaching;
pub use templates_told::templates;

/// Takes decoded flows, a burst at a time.
pub trait FlowSink {
    /// `flows` may be changed in place (enrichment) and is not read again by the decoder.
    fn flows(&mut self, flows: &mut [Flow]);

    /// The same where some of them say more than has a field, which happens only with
    /// `decode.extra`. Left out by a sink that looks at fields alone.
    fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
        let _ = extra;
        self.flows(flows);
    }
}
