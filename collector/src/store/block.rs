//! Batches as the bytes that an insert sends: Native, LZ4-compressed once, kept until stored.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use tokio::sync::OwnedSemaphorePermit;

use super::lz4::{self, Alike};
use crate::batch::schema::stored;
use crate::batch::{Batch, ColumnBytes, LabelEncoder, native};
use crate::config::Compression;

/// What one insert sends. A retry sends the same bytes with the same token.
#[derive(Debug)]
pub struct Block {
    /// ClickHouse stores a block with a token that it has stored before only once.
    pub token: String,
    /// Its place among all blocks of this spool, in the order of sealing.
    pub number: u64,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the Native blocks, one a batch.
    pub native_bytes: u64,
    /// The Native blocks in ClickHouse's compressed frames.
    pub compressed: Bytes,
    /// The columns that the insert names: those that this program fills, or of a block from the
    /// disk those that its writer did.
    pub columns: Cow<'static, str>,
    /// Its share of `store.queue_max`.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// The columns of every block that is made here.
fn columns() -> &'static str {
    static COLUMNS: LazyLock<String> = LazyLock::new(|| {
        let columns: Vec<_> = stored().map(|column| column.name).collect();
        columns.join(", ")
    });
    &COLUMNS
}

/// Native bytes of one compressed frame: they and the result stay in the second cache.
const FRAME_BYTES: usize = 256 * 1024;

/// Checksum (16), method (1), sizes compressed and not (4 each): what stands before the data.
const FRAME_HEAD: usize = CHECKSUM + 9;
const CHECKSUM: usize = 16;

/// ClickHouse's numbers of LZ4, and of data as they are.
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;

/// A shorter column is not worth a frame of its own.
const OWN_FRAME_MIN: usize = 2048;

/// Turns batches into compressed Native blocks, as many as make one insert; keeps its buffers.
pub struct Encoder {
    /// Native bytes that are not compressed yet.
    frame: Vec<u8>,
    table: CompressTable,
    frames: Frames,
    labels: LabelEncoder,
    rows: u64,
    compression: Compression,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Compression::Lz4)
    }
}

impl Encoder {
    /// One that compresses like that.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            frame: Vec::with_capacity(FRAME_BYTES),
            table: CompressTable::large(),
            frames: Frames::default(),
            labels: LabelEncoder::default(),
            rows: 0,
            compression,
        }
    }

    /// Rows of the batches since the last block.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a Native block with the rows of `batch`.
    pub fn add(&mut self, batch: &mut Batch) {
        let rows = batch.rows();
        let mut labels = std::mem::take(&mut self.labels);
        batch.encode_labels(&mut labels);
        let columns: Vec<_> = batch.columns().collect();
        let count = columns.len() + labels.columns().len();
        native::block_head(count, rows, &mut self.frame);
        // Columns may stand in any order: each says its name.
        let general = columns.iter().filter(|column| alike(column).is_none());
        for column in general {
            self.native(column.bytes);
            column.lists.iter().for_each(|list| self.native(list));
        }
        labels.columns().for_each(|column| self.native(column));
        self.labels = labels;
        self.end_frame();
        for column in &columns {
            if let Some(alike) = alike(column) {
                self.column_frame(column, alike);
            }
        }
        self.rows += rows as u64;
    }

    /// The block of all batches that were added, with `token` to tell it from all others.
    #[must_use]
    pub fn finish(&mut self, token: String) -> Block {
        let Frames {
            mut compressed,
            native_bytes,
            scratch,
        } = std::mem::take(&mut self.frames);
        self.frames.scratch = scratch;
        compressed.shrink_to_fit();
        Block {
            token,
            number: 0,
            rows: std::mem::take(&mut self.rows),
            native_bytes,
            compressed: compressed.into(),
            columns: Cow::Borrowed(columns()),
            room: None,
        }
    }

    fn native(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = FRAME_BYTES.saturating_sub(self.frame.len());
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.frame.len() >= FRAME_BYTES {
                self.end_frame();
            }
        }
    }

    /// Compresses `frame`.
    fn end_frame(&mut self) {
        let Self {
            frame,
            table,
            frames,
            compression,
            ..
        } = self;
        if frame.is_empty() {
            return;
        }
        match compression {
            Compression::None => frames.push_as_is(frame),
            Compression::Lz4 => {
                let room = get_maximum_output_size(frame.len());
                frames.push(METHOD_LZ4, frame.len(), room, |out| {
                    compress_into_with_table(frame, out, table)
                        .expect("the room is the most that LZ4 can need")
                });
            }
        }
        frame.clear();
    }

    fn column_frame(&mut self, column: &ColumnBytes<'_>, alike: Alike) {
        let ColumnBytes {
            bytes, head, width, ..
        } = *column;
        if self.compression == Compression::None {
            return self.frames.push_as_is(bytes);
        }
        let room = lz4::compressed_len_max(bytes.len());
        self.frames
            .push(METHOD_LZ4, bytes.len(), room, |out| match width {
                8 => lz4::compress::<8>(bytes, head, alike, out),
                _ => lz4::compress::<16>(bytes, head, alike, out),
            });
    }
}

/// How the values of `column` resemble each other, where that is known beforehand.
fn alike(column: &ColumnBytes<'_>) -> Option<Alike> {
    match column.width {
        _ if column.bytes.len() < OWN_FRAME_MIN || column.lists != [&[] as &[u8]; 2] => None,
        8 => Some(Alike::Ends),
        16 => Some(Alike::Beginnings),
        _ => None,
    }
}

/// ClickHouse's compressed frames, one after the other.
///
/// <https://clickhouse.com/docs/reference/interfaces/specs/NativeFormat#frame-format>
#[derive(Default)]
struct Frames {
    compressed: Vec<u8>,
    native_bytes: u64,
    /// Room for one frame.
    scratch: Vec<u8>,
}

impl Frames {
    /// Appends a frame of `bytes` as they are.
    fn push_as_is(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        self.push(METHOD_NONE, len, len, |out| {
            out[..len].copy_from_slice(bytes);
            len
        });
    }

    /// Appends a frame of `native_len` bytes that `compress` turns into `len_max` at most.
    fn push(
        &mut self,
        method: u8,
        native_len: usize,
        len_max: usize,
        compress: impl FnOnce(&mut [u8]) -> usize,
    ) {
        if self.scratch.len() < FRAME_HEAD + len_max {
            self.scratch.resize(FRAME_HEAD + len_max, 0);
        }
        let len = compress(&mut self.scratch[FRAME_HEAD..]);
        let frame = &mut self.scratch[..FRAME_HEAD + len];
        let (checksum, rest) = frame.split_at_mut(CHECKSUM);
        let size = |n: usize| u32::try_from(n).expect("a frame is small").to_le_bytes();
        rest[0] = method;
        rest[1..5].copy_from_slice(&size(FRAME_HEAD - CHECKSUM + len));
        rest[5..9].copy_from_slice(&size(native_len));
        // ClickHouse writes the two halves of CityHash128 (version 1.0.2) low half first.
        let hash = cityhash_rs::cityhash_102_128(rest).rotate_right(64);
        checksum.copy_from_slice(&hash.to_le_bytes());
        self.compressed.extend_from_slice(frame);
        self.native_bytes += native_len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Address, Flow};

    fn decompress(mut frames: &[u8]) -> Vec<u8> {
        let mut native = Vec::new();
        while !frames.is_empty() {
            let size =
                |at: usize| u32::from_le_bytes(frames[at..at + 4].try_into().unwrap()) as usize;
            let (frame, rest) = frames.split_at(CHECKSUM + size(17));
            let data = &frame[FRAME_HEAD..];
            match frame[16] {
                METHOD_LZ4 => {
                    native.extend(lz4_flex::block::decompress(data, size(21)).unwrap());
                }
                METHOD_NONE => {
                    assert_eq!(data.len(), size(21));
                    native.extend(data);
                }
                other => panic!("method {other}"),
            }
            frames = rest;
        }
        native
    }

    fn batch_of(rows: u32) -> Batch {
        let mut batch = Batch::new(rows as usize);
        for n in 0..rows {
            let mixed = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            batch.append(&[Flow {
                src_addr: Address::from_v4(n.to_be_bytes()),
                in_if: n,
                sampling_rate: mixed as u32,
                raw_bytes: mixed,
                ..Flow::EMPTY
            }]);
        }
        batch
    }

    /// The Native block of `batch`, the columns with frames of their own last.
    fn native_of(batch: &mut Batch) -> Vec<u8> {
        let rows = batch.rows();
        let columns: Vec<_> = batch.columns().collect();
        let mut native = Vec::new();
        native::block_head(columns.len(), rows, &mut native);
        for own_frame in [false, true] {
            for column in columns.iter().filter(|c| alike(c).is_some() == own_frame) {
                native.extend_from_slice(column.bytes);
                column
                    .lists
                    .iter()
                    .for_each(|list| native.extend_from_slice(list));
            }
        }
        native
    }

    #[test]
    fn a_block_is_the_frames_of_its_batches() {
        // The first is all in one frame, the last has general columns for several.
        let mut batches = [batch_of(3), batch_of(5000), batch_of(100_000)];
        let expected = batches.each_mut().map(native_of).concat();
        let mut encoder = Encoder::default();
        for _ in 0..2 {
            batches.iter_mut().for_each(|batch| encoder.add(batch));
            assert_eq!(encoder.rows(), 105_003);
            let block = encoder.finish("token".into());
            assert_eq!((block.rows, encoder.rows()), (105_003, 0));
            assert_eq!(block.native_bytes, expected.len() as u64);
            assert!(decompress(&block.compressed) == expected);
        }
    }

    #[test]
    fn a_block_without_compression_is_larger_and_says_the_same() {
        let mut batch = batch_of(5000);
        let expected = native_of(&mut batch);
        let mut encoder = Encoder::new(Compression::None);
        encoder.add(&mut batch);
        let block = encoder.finish("token".into());
        assert!(block.compressed.len() > expected.len());
        assert!(decompress(&block.compressed) == expected);
    }

    #[test]
    fn a_frame_has_the_checksum_that_clickhouse_computes() {
        // The example that the tests of the `clickhouse` crate have.
        let source = [
            1, 0, 2, 255, 255, 255, 255, 0, 1, 1, 1, 115, 6, 83, 116, 114, 105, 110, 103, 3, 97,
            98, 99,
        ];
        let expected = [
            245_u8, 5, 222, 235, 225, 158, 59, 108, 225, 31, 65, 215, 66, 66, 36, 92, 0x82, 34, 0,
            0, 0, 23, 0, 0, 0, 240, 8, 1, 0, 2, 255, 255, 255, 255, 0, 1, 1, 1, 115, 6, 83, 116,
            114, 105, 110, 103, 3, 97, 98, 99,
        ];
        let mut encoder = Encoder::default();
        encoder.frame.extend_from_slice(&source);
        encoder.end_frame();
        assert_eq!(encoder.frames.compressed, expected);
    }
}
