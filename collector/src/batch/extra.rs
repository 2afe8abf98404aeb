//! The column `extra`: names and values of what fills no other column, a map a row.
//!
//! In a Native block a map is an array of pairs: cumulative end offsets, then all names, then all
//! values, each string behind its length. That is how [`ExtraRows`] has them already.

use super::{ColumnBytes, OFFSET_WIDTH, native};
use crate::decode::{BURST_FLOWS, EXTRA_BYTES_MAX, ExtraRows};

/// The name of the column.
pub const NAME: &str = "extra";

/// The type that a block has. The table's has a dictionary of names, which ClickHouse makes as it
/// inserts; a Native block of it would be bound to the server's version of that dictionary's form.
const BLOCK_TYPE: &str = "Map(String, String)";

/// Bytes of the names of one batch, and of the values. A batch that has no room for those of a
/// burst is sealed before it is full of rows.
const STRINGS_MAX: usize = 1 << 20;

const _: () = assert!(
    BURST_FLOWS * EXTRA_BYTES_MAX <= STRINGS_MAX,
    "an empty batch takes every burst"
);

/// The column of one batch.
pub(super) struct ExtraColumn {
    head: usize,
    /// Name, type and end offsets.
    offsets: Box<[u8]>,
    names: Strings,
    values: Strings,
    /// Entries of all rows.
    entries: u64,
    /// Rows that have an offset; those after them have no entries.
    rows: usize,
}

/// Strings one after the other.
struct Strings {
    bytes: Box<[u8]>,
    used: usize,
}

impl Strings {
    fn new() -> Self {
        Self {
            bytes: vec![0; STRINGS_MAX].into_boxed_slice(),
            used: 0,
        }
    }

    fn fits(&self, more: &[u8]) -> bool {
        more.len() <= self.bytes.len() - self.used
    }

    fn append(&mut self, more: &[u8]) {
        let end = self.used + more.len();
        self.bytes[self.used..end].copy_from_slice(more);
        self.used = end;
    }
}

impl ExtraColumn {
    /// For `rows_max` rows.
    pub(super) fn new(rows_max: usize) -> Self {
        let name_and_type = native::column_head(NAME, BLOCK_TYPE);
        let head = name_and_type.len();
        let mut offsets = vec![0; head + OFFSET_WIDTH * rows_max].into_boxed_slice();
        offsets[..head].copy_from_slice(&name_and_type);
        Self {
            head,
            offsets,
            names: Strings::new(),
            values: Strings::new(),
            entries: 0,
            rows: 0,
        }
    }

    /// Bytes of memory of one for `rows_max` rows.
    pub(super) fn memory_bytes_for(rows_max: usize) -> usize {
        let head = native::column_head(NAME, BLOCK_TYPE).len();
        head + OFFSET_WIDTH * rows_max + 2 * STRINGS_MAX
    }

    /// True when the names and values of `extra` have room.
    pub(super) fn fits(&self, extra: ExtraRows<'_>) -> bool {
        let (names, values) = extra.strings();
        self.names.fits(names) && self.values.fits(values)
    }

    /// Appends what the rows behind the first `rows` say.
    ///
    /// # Panics
    /// When it does not fit.
    pub(super) fn append(&mut self, rows: usize, extra: ExtraRows<'_>) {
        self.complete(rows);
        let (names, values) = extra.strings();
        self.names.append(names);
        self.values.append(values);
        let before = self.entries;
        for entries in extra.entries() {
            self.entries = before + entries as u64;
            self.complete(self.rows + 1);
        }
    }

    /// Rows up to `rows` that have no offset yet have no entries.
    fn complete(&mut self, rows: usize) {
        let offsets = &mut self.offsets[self.head..][..OFFSET_WIDTH * rows];
        let lacking = offsets.chunks_exact_mut(OFFSET_WIDTH).skip(self.rows);
        lacking.for_each(|offset| offset.copy_from_slice(&self.entries.to_le_bytes()));
        self.rows = rows;
    }

    /// As it stands in a block of `rows` rows.
    pub(super) fn bytes(&mut self, rows: usize) -> ColumnBytes<'_> {
        self.complete(rows);
        let Self {
            head,
            offsets,
            names,
            values,
            ..
        } = self;
        ColumnBytes {
            head: *head,
            width: OFFSET_WIDTH,
            bytes: &offsets[..*head + OFFSET_WIDTH * rows],
            lists: [&names.bytes[..names.used], &values.bytes[..values.used]],
        }
    }

    /// Forgets the rows, keeps the memory.
    pub(super) fn clear(&mut self) {
        (self.names.used, self.values.used) = (0, 0);
        (self.entries, self.rows) = (0, 0);
    }

    /// Bytes of memory, used or not.
    pub(super) fn memory_bytes(&self) -> usize {
        self.offsets.len() + self.names.bytes.len() + self.values.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use flowsluice_tests::records::{Field, Length, Value, Version, message};

    use super::super::{Batch, Beside, json, native};
    use crate::config;
    use crate::decode::{Decoder, ElementPattern, ExtraRows, FlowSink};
    use crate::flow::Flow;
    use crate::ledger::WorkerCounts;
    use crate::receive::Datagram;
    use crate::units::UnixNanos;

    /// A batch, and each row printed.
    struct Sink {
        batch: Batch,
        printed: Vec<u8>,
    }

    impl FlowSink for Sink {
        fn flows(&mut self, flows: &mut [Flow]) {
            self.batch.append(flows);
        }

        fn flows_with_extra(&mut self, flows: &mut [Flow], extra: ExtraRows<'_>) {
            let beside = Beside {
                extra: Some(extra),
                marked: None,
            };
            assert!(self.batch.fits(extra));
            self.batch.append_with(flows, extra);
            for (number, flow) in flows.iter().enumerate() {
                json::write_row_with(flow, beside, number, &mut self.printed).unwrap();
            }
        }
    }

    impl Sink {
        fn new() -> Self {
            Self {
                batch: Batch::new(100).with_extra(),
                printed: Vec::new(),
            }
        }

        /// Takes the row of an exporter that says `texts` in elements 82, 83 and 84, and 4.
        fn take(&mut self, texts: &[&str]) {
            let text = |(id, text): (u16, &&str)| Field {
                enterprise: 0,
                id,
                length: Length::Short(u16::try_from(text.len()).unwrap()),
                value: Value::Text((*text).to_owned()),
            };
            let mut fields: Vec<_> = (82..).zip(texts).map(text).collect();
            fields.push(Field {
                enterprise: 0,
                id: 4,
                length: Length::Fixed(1),
                value: Value::Unsigned(6),
            });
            let payload = message(Version::Ipfix, &fields);
            let config = config::Decode {
                extra: vec![ElementPattern::All],
                ..Default::default()
            };
            let mut decoder = Decoder::new(&config, &[], Arc::default());
            let datagram = Datagram {
                source: IpAddr::V4(Ipv4Addr::LOCALHOST),
                source_port: 1,
                local_port: 2055,
                received: UnixNanos(1_700_000_000_000_000_000),
                payload: &payload,
                cut: false,
            };
            decoder.decode(&datagram, &mut WorkerCounts::default(), self);
        }

        fn block(&mut self) -> Vec<u8> {
            let mut block = Vec::new();
            native::encode(&mut self.batch, &mut block);
            block
        }
    }

    fn find(block: &[u8], part: &[u8]) -> Option<usize> {
        block.windows(part.len()).position(|window| window == part)
    }

    #[test]
    fn a_block_has_a_map_a_row_with_all_names_before_all_values() {
        let mut sink = Sink::new();
        for _ in 0..2 {
            sink.take(&[]);
            sink.take(&["a", "bc"]);
            sink.take(&[]);
            sink.take(&["d"]);
            sink.take(&[]);
            let head = b"\x05extra\x13Map(String, String)";
            let ends = [0, 2, 2, 3, 3].map(u64::to_le_bytes);
            let strings = b"\x0f0.interfaceName\x160.interfaceDescription\x0f0.interfaceName\
                            \x01a\x02bc\x01d";
            let column = [head, ends.as_flattened(), strings].concat();
            let block = sink.block();
            let at = find(&block, &column).expect("the column is in the block");
            assert_eq!(at + column.len(), block.len(), "it is the last");
            sink.batch.clear();
        }
    }

    #[test]
    fn a_column_in_which_nobody_says_anything_is_left_out() {
        let mut sink = Sink::new();
        sink.take(&[]);
        assert_eq!(find(&sink.block(), b"extra"), None);
        sink.take(&["a"]);
        assert!(find(&sink.block(), b"extra").is_some());
        sink.batch.clear();
        sink.take(&[]);
        assert_eq!(
            find(&sink.block(), b"extra"),
            None,
            "the former rows are forgotten"
        );
    }

    #[test]
    fn rows_for_which_there_is_no_column_are_stored_without() {
        let mut sink = Sink::new();
        sink.batch = Batch::new(100);
        sink.take(&["a"]);
        assert_eq!(sink.batch.rows(), 1);
        assert_eq!(find(&sink.block(), b"extra"), None);
    }

    #[test]
    fn a_printed_row_has_its_names_and_values() {
        let mut sink = Sink::new();
        sink.take(&["say \"\u{e4}\"\\", "b"]);
        let row: serde_json::Value = serde_json::from_slice(&sink.printed).unwrap();
        let extra = serde_json::json!({
            "0.interfaceName": "say \"\u{e4}\"\\",
            "0.interfaceDescription": "b",
        });
        assert_eq!(row["extra"], extra);
    }

    #[test]
    fn the_memory_of_the_column_is_known_without_making_it() {
        let more = Batch::new(100).with_extra().memory_bytes() - Batch::new(100).memory_bytes();
        assert_eq!(more, Batch::extra_memory_bytes_for(100));
    }
}
