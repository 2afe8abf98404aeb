//! What enrichment asks of flows, field by field: those of [`KEYS`] flows together.

use crate::decode::BURST_FLOWS;
use crate::flow::{Address, Flow};

/// Flows that are marked together.
pub const KEYS: usize = BURST_FLOWS;

/// Fields of up to [`KEYS`] flows. Where there are two, they are of the sources and of the
/// destinations.
#[derive(Clone, Debug)]
pub struct Keys {
    /// How many flows; what the fields hold behind is of no meaning.
    pub count: usize,
    /// When the first of them was received, seconds since the epoch.
    pub received_s: u32,
    /// `src_addr`, `dst_addr`.
    pub addresses: [[Address; KEYS]; 2],
    /// `src_as`, `dst_as`; marking fills in those that are known and not told.
    pub systems: [[u32; KEYS]; 2],
    /// `src_mac`, `dst_mac`; 0 where nothing is told.
    pub macs: [[u64; KEYS]; 2],
    /// `src_port`, `dst_port`.
    pub ports: [[u16; KEYS]; 2],
    /// `in_if`, `out_if`.
    pub interfaces: [[u32; KEYS]; 2],
    /// `exporter_addr`.
    pub exporters: [Address; KEYS],
    /// [`Flow::application_id`].
    pub applications: [u64; KEYS],
    /// `tcp_flags`.
    pub tcp_flags: [u16; KEYS],
    /// `protocol`.
    pub protocols: [u8; KEYS],
    /// [`Flow::biflow_direction`].
    pub biflow_directions: [u8; KEYS],
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            count: 0,
            received_s: 0,
            addresses: [[Address::UNKNOWN; KEYS]; 2],
            systems: [[0; KEYS]; 2],
            macs: [[0; KEYS]; 2],
            ports: [[0; KEYS]; 2],
            interfaces: [[0; KEYS]; 2],
            exporters: [Address::UNKNOWN; KEYS],
            applications: [0; KEYS],
            tcp_flags: [0; KEYS],
            protocols: [0; KEYS],
            biflow_directions: [0; KEYS],
        }
    }
}

impl Keys {
    /// Takes them from `flows`.
    ///
    /// # Panics
    /// When these are more than [`KEYS`].
    pub fn read(&mut self, flows: &[Flow]) {
        assert!(flows.len() <= KEYS, "the decoder's burst");
        self.count = flows.len();
        self.received_s = flows.first().map_or(0, |first| first.time_received_s);
        for (number, flow) in flows.iter().enumerate() {
            let (src_mac, dst_mac) = match flow.detail.is_written() {
                true => (flow.detail.frame.src_mac, flow.detail.frame.dst_mac),
                false => (0, 0),
            };
            let both = |sides: &mut [[u32; KEYS]; 2], of: [u32; 2]| {
                sides.iter_mut().zip(of).for_each(|(s, of)| s[number] = of);
            };
            both(&mut self.systems, [flow.src_as, flow.dst_as]);
            both(&mut self.interfaces, [flow.in_if, flow.out_if]);
            let [src, dst] = &mut self.addresses;
            (src[number], dst[number]) = (flow.src_addr, flow.dst_addr);
            let [src, dst] = &mut self.macs;
            (src[number], dst[number]) = (src_mac, dst_mac);
            let [src, dst] = &mut self.ports;
            (src[number], dst[number]) = (flow.src_port, flow.dst_port);
            self.exporters[number] = flow.exporter_addr;
            self.applications[number] = flow.application_id;
            self.tcp_flags[number] = flow.tcp_flags;
            self.protocols[number] = flow.protocol;
            self.biflow_directions[number] = flow.biflow_direction;
        }
    }

    /// Gives `flows`, which they were read from, the autonomous systems.
    pub fn write_systems(&self, flows: &mut [Flow]) {
        let [sources, destinations] = &self.systems;
        for ((flow, source), destination) in flows.iter_mut().zip(sources).zip(destinations) {
            (flow.src_as, flow.dst_as) = (*source, *destination);
        }
    }
}
