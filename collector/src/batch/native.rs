//! ClickHouse's Native format, one block.
//!
//! `varuint columns, varuint rows`, then for each column its name, its type (strings with varuint
//! length) and its values; an array is its cumulative end offsets (u64), then the values.
//! Spec: <https://clickhouse.com/docs/interfaces/formats/Native>.

use super::{Batch, LabelEncoder};

/// Appends the whole block of `batch` to `out`.
pub fn encode(batch: &mut Batch, out: &mut Vec<u8>) {
    let rows = batch.rows();
    let mut labels = LabelEncoder::default();
    batch.encode_labels(&mut labels);
    let columns: Vec<_> = batch.columns().collect();
    block_head(columns.len() + labels.columns().len(), rows, out);
    for column in columns {
        out.extend_from_slice(column.bytes);
        column
            .lists
            .iter()
            .for_each(|list| out.extend_from_slice(list));
    }
    labels
        .columns()
        .for_each(|column| out.extend_from_slice(column));
}

/// Appends what stands before the columns of a block.
pub fn block_head(columns: usize, rows: usize, out: &mut Vec<u8>) {
    push_varuint(out, columns as u64);
    push_varuint(out, rows as u64);
}

/// What stands before the values of a column.
pub(super) fn column_head(name: &str, sql_type: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(name.len() + sql_type.len() + 2 * VARUINT_MAX);
    push_string(&mut head, name);
    push_string(&mut head, sql_type);
    head
}

/// Bytes of the longest varuint.
const VARUINT_MAX: usize = 10;

pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    push_varuint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// LEB128.
fn push_varuint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Address, Detail, DetailFields, Flow, FlowType, Frame};

    /// The values of one column, found behind its name and type.
    fn values<'a>(block: &'a [u8], name: &str, sql_type: &str, len: usize) -> &'a [u8] {
        let head = column_head(name, sql_type);
        let mut starts = block
            .windows(head.len())
            .enumerate()
            .filter(|(_, window)| *window == head);
        let (at, _) = starts.next().expect("the column is in the block");
        assert!(starts.next().is_none(), "{name} is there once");
        &block[at + head.len()..][..len]
    }

    #[test]
    fn a_varuint_carries_seven_bits_a_byte() {
        let mut out = Vec::new();
        push_varuint(&mut out, 127);
        push_varuint(&mut out, 128);
        push_varuint(&mut out, 65_536);
        assert_eq!(out, [0x7f, 0x80, 0x01, 0x80, 0x80, 0x04]);
    }

    fn encoded(batch: &mut Batch) -> Vec<u8> {
        let mut block = Vec::new();
        encode(batch, &mut block);
        block
    }

    fn with_labels(flow: Flow, labels: &[u32]) -> Flow {
        let mut fields = *Detail::EMPTY;
        fields.mpls_labels[..labels.len()].copy_from_slice(labels);
        fields.mpls_count = u8::try_from(labels.len()).unwrap();
        let detail = Detail::from(fields);
        Flow { detail, ..flow }
    }

    #[test]
    fn a_block_is_its_counts_and_then_column_by_column() {
        let first = Flow {
            time_received_s: 0x0102_0304,
            flow_end_ms: 0x0102_0304_0506,
            src_addr: Address::from_v4([192, 0, 2, 1]),
            dst_port: 443,
            flow_type: FlowType::Ipfix,
            ..Flow::EMPTY
        };
        let second = Flow {
            raw_bytes: 0x1122,
            ..Flow::EMPTY
        };
        let mut batch = Batch::new(4);
        batch.append(&[with_labels(first, &[5, 6])]);
        batch.append(&[with_labels(second, &[7])]);
        let block = encoded(&mut batch);

        let begins = b"\x07\x02\x0dtime_received\x0fDateTime('UTC')\x04\x03\x02\x01\0\0\0\0\
                       \x08flow_end\x14DateTime64(3, 'UTC')\x06\x05\x04\x03\x02\x01\0\0\0\0";
        assert_eq!(&block[..begins.len()], begins);
        assert_eq!(
            values(&block, "src_addr", "IPv6", 32),
            b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(values(&block, "dst_port", "UInt16", 4), [0xbb, 1, 0, 0]);
        assert_eq!(
            values(&block, "raw_bytes", "UInt64", 16),
            b"\0\0\0\0\0\0\0\0\x22\x11\0\0\0\0\0\0"
        );
        assert_eq!(
            values(&block, "mpls_labels", "Array(UInt32)", 28),
            b"\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0"
        );
    }

    #[test]
    fn a_column_of_zeros_is_left_out_but_never_the_first() {
        let mut batch = Batch::new(4);
        batch.append(&[Flow::EMPTY, Flow::EMPTY]);
        let block = encoded(&mut batch);
        assert_eq!(
            block,
            b"\x01\x02\x0dtime_received\x0fDateTime('UTC')\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn rows_before_and_after_the_first_detail_have_none() {
        let mac = |n: u64| Flow {
            detail: Detail::from(DetailFields {
                frame: Frame {
                    src_mac: n,
                    ..Frame::EMPTY
                },
                ..*Detail::EMPTY
            }),
            ..Flow::EMPTY
        };
        let labelled = with_labels(Flow::EMPTY, &[9]);
        let mut batch = Batch::new(10);
        for round in 0..2 {
            batch.append(&[Flow::EMPTY; 2]);
            batch.append(&[mac(0x51), labelled]);
            batch.append(&[Flow::EMPTY; 3]);
            batch.append(&[mac(0x52)]);
            batch.append(&[Flow::EMPTY]);
            let block = encoded(&mut batch);
            let macs = [0, 0, 0x51, 0, 0, 0, 0, 0x52, 0].map(u64::to_le_bytes);
            let ends = [0, 0, 0, 1, 1, 1, 1, 1, 1].map(u64::to_le_bytes);
            let labels = [ends.as_flattened(), &[9, 0, 0, 0]].concat();
            assert_eq!(
                values(&block, "src_mac", "UInt64", 72),
                macs.as_flattened(),
                "round {round}"
            );
            assert_eq!(values(&block, "mpls_labels", "Array(UInt32)", 76), labels);
            batch.clear();
        }
    }

    #[test]
    fn a_batch_used_again_holds_nothing_of_its_former_rows() {
        let mut batch = Batch::new(2);
        batch.append(&[Flow::EMPTY]);
        let fresh = encoded(&mut batch);
        batch.clear();
        let full = with_labels(
            Flow {
                raw_bytes: u64::MAX,
                ..Flow::EMPTY
            },
            &[1; 10],
        );
        batch.append(&[full, full]);
        batch.clear();
        batch.append(&[Flow::EMPTY]);
        assert_eq!(encoded(&mut batch), fresh);
    }
}
