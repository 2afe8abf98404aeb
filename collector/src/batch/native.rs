//! ClickHouse's Native format, one block.
//!
//! `varuint columns, varuint rows`, then for each column its name, its type (strings with varuint
//! length) and its values; an array is its cumulative end offsets (u64), then the values.
//! Spec: <https://clickhouse.com/docs/interfaces/formats/Native>.

use super::Batch;
use super::schema;

/// Hands out the bytes of the block piece by piece: the columns lie ready in the batch.
pub fn pieces(batch: &Batch, mut take: impl FnMut(&[u8])) {
    let mut head = Vec::with_capacity(2 * VARUINT_MAX);
    push_varuint(&mut head, schema::stored().count() as u64);
    push_varuint(&mut head, batch.rows() as u64);
    take(&head);
    batch.columns().for_each(take);
}

/// Appends the whole block to `out`.
pub fn encode(batch: &Batch, out: &mut Vec<u8>) {
    pieces(batch, |piece| out.extend_from_slice(piece));
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

fn push_string(out: &mut Vec<u8>, text: &str) {
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
    use crate::flow::{Address, Flow, FlowType};

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

    #[test]
    fn a_block_is_its_counts_and_then_column_by_column() {
        let mut first = Flow {
            time_received_s: 0x0102_0304,
            flow_end_ms: 0x0102_0304_0506,
            src_addr: Address::from_v4([192, 0, 2, 1]),
            dst_port: 443,
            flow_type: FlowType::Ipfix,
            mpls_count: 2,
            ..Flow::EMPTY
        };
        first.mpls_labels[..2].copy_from_slice(&[5, 6]);
        let mut second = Flow {
            raw_bytes: 0x1122,
            mpls_count: 1,
            ..Flow::EMPTY
        };
        second.mpls_labels[0] = 7;
        let mut batch = Batch::new(4);
        batch.append(&[first]);
        batch.append(&[second]);
        let mut block = Vec::new();
        encode(&batch, &mut block);

        let begins = b"\x32\x02\x0dtime_received\x0fDateTime('UTC')\x04\x03\x02\x01\0\0\0\0\
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
        assert!(block.ends_with(b"\x09nat_event\x05UInt8\0\0"));
    }

    #[test]
    fn a_batch_used_again_holds_nothing_of_its_former_rows() {
        let mut batch = Batch::new(2);
        let mut fresh = Vec::new();
        batch.append(&[Flow::EMPTY]);
        encode(&batch, &mut fresh);
        batch.clear();
        let full = Flow {
            mpls_count: 10,
            raw_bytes: u64::MAX,
            ..Flow::EMPTY
        };
        batch.append(&[full, full]);
        batch.clear();
        batch.append(&[Flow::EMPTY]);
        let mut again = Vec::new();
        encode(&batch, &mut again);
        assert_eq!(again, fresh);
    }
}
