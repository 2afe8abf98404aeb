//! The columns of a batch that enrichment reads: into [`Keys`], and the autonomous systems back.

use std::ops::Range;
use std::sync::LazyLock;

use super::Buffer;
use super::schema::{self, Part};
use crate::enrich::Keys;
use crate::flow::Address;

/// Where they stand among the columns of their part.
pub(super) struct KeyColumns {
    time_received: usize,
    exporter_addr: usize,
    protocol: usize,
    tcp_flags: usize,
    addresses: [usize; 2],
    systems: [usize; 2],
    ports: [usize; 2],
    interfaces: [usize; 2],
    /// Among those of the detail.
    macs: [usize; 2],
}

/// The same for all batches.
pub(super) static KEY_COLUMNS: LazyLock<KeyColumns> = LazyLock::new(KeyColumns::new);

impl KeyColumns {
    fn new() -> Self {
        let place = |part: Part, name: &str| {
            let mut columns = schema::stored_of(part);
            let place = columns.position(|column| column.name == name);
            place.unwrap_or_else(|| panic!("{name} is a column of {part:?}"))
        };
        let of_flow = |name| place(Part::Flow, name);
        let of_detail = |name| place(Part::Detail, name);
        Self {
            time_received: of_flow("time_received"),
            exporter_addr: of_flow("exporter_addr"),
            protocol: of_flow("protocol"),
            tcp_flags: of_flow("tcp_flags"),
            addresses: ["src_addr", "dst_addr"].map(of_flow),
            systems: ["src_as", "dst_as"].map(of_flow),
            ports: ["src_port", "dst_port"].map(of_flow),
            interfaces: ["in_if", "out_if"].map(of_flow),
            macs: ["src_mac", "dst_mac"].map(of_detail),
        }
    }

    /// Takes the fields of `rows` out of the columns; `detail` holds none where no row has any.
    pub(super) fn read(
        &self,
        columns: &[Buffer],
        detail: &[Buffer],
        rows: &Range<usize>,
        keys: &mut Keys,
    ) {
        keys.count = rows.len();
        let mut received = [0; 1];
        read(
            &columns[self.time_received],
            &(rows.start..rows.start + 1),
            &mut received,
            u32::from_le_bytes,
        );
        [keys.received_s] = received;
        let exporters = &columns[self.exporter_addr];
        read(exporters, rows, &mut keys.exporters, Address);
        let protocols = &columns[self.protocol];
        read(protocols, rows, &mut keys.protocols, u8::from_le_bytes);
        let flags = &columns[self.tcp_flags];
        read(flags, rows, &mut keys.tcp_flags, u16::from_le_bytes);
        for side in 0..2 {
            let addresses = &columns[self.addresses[side]];
            read(addresses, rows, &mut keys.addresses[side], Address);
            let systems = &columns[self.systems[side]];
            read(systems, rows, &mut keys.systems[side], u32::from_le_bytes);
            let ports = &columns[self.ports[side]];
            read(ports, rows, &mut keys.ports[side], u16::from_le_bytes);
            let interfaces = &columns[self.interfaces[side]];
            let to = &mut keys.interfaces[side];
            read(interfaces, rows, to, u32::from_le_bytes);
            match detail.get(self.macs[side]) {
                Some(macs) => read(macs, rows, &mut keys.macs[side], u64::from_le_bytes),
                None => keys.macs[side].fill(0),
            }
        }
    }

    /// Puts the autonomous systems of `rows` back.
    pub(super) fn write(&self, columns: &mut [Buffer], rows: &Range<usize>, keys: &Keys) {
        for (column, systems) in self.systems.iter().zip(&keys.systems) {
            let bytes = columns[*column].values_mut(rows);
            let (places, rest) = bytes.as_chunks_mut();
            debug_assert_eq!(
                (places.len(), rest.len()),
                (rows.len(), 0),
                "column {column}"
            );
            for (place, system) in places.iter_mut().zip(systems) {
                *place = system.to_le_bytes();
            }
        }
    }
}

fn read<T, const WIDTH: usize>(
    column: &Buffer,
    rows: &Range<usize>,
    to: &mut [T],
    value: impl Fn([u8; WIDTH]) -> T,
) {
    let (values, rest) = column.values(rows).as_chunks();
    debug_assert_eq!((values.len(), rest.len()), (rows.len(), 0));
    for (to, bytes) in to.iter_mut().zip(values) {
        *to = value(*bytes);
    }
}
