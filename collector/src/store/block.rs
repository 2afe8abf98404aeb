//! A batch as the bytes that an insert sends: Native, LZ4-compressed once, kept until stored.

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use tokio::sync::OwnedSemaphorePermit;

use crate::batch::{Batch, native};

/// What one insert sends. A retry sends the same bytes with the same token.
#[derive(Debug)]
pub struct Block {
    /// ClickHouse stores a block with a token that it has stored before only once.
    pub token: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the Native block.
    pub native_bytes: u64,
    /// The Native block in ClickHouse's compressed frames.
    pub compressed: Bytes,
    /// Its share of `store.queue_max`.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Native bytes of one compressed frame: they and the result stay in the second cache.
const FRAME_BYTES: usize = 256 * 1024;

/// Checksum (16), method (1), sizes compressed and not (4 each): what stands before the data.
const FRAME_HEAD: usize = CHECKSUM + 9;
const CHECKSUM: usize = 16;

/// ClickHouse's number of LZ4.
const METHOD_LZ4: u8 = 0x82;

/// Turns batches into compressed Native blocks; keeps its buffers.
pub struct Encoder {
    frame: Vec<u8>,
    compressed: Vec<u8>,
    table: CompressTable,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            frame: Vec::with_capacity(FRAME_BYTES),
            compressed: Vec::new(),
            table: CompressTable::large(),
        }
    }
}

impl Encoder {
    /// The block of `batch`, with `token` to tell it from all others.
    #[must_use]
    pub fn encode(&mut self, batch: &Batch, token: String) -> Block {
        self.compressed.clear();
        let mut native_bytes = 0;
        native::pieces(batch, |mut piece| {
            native_bytes += piece.len() as u64;
            while !piece.is_empty() {
                let room = FRAME_BYTES - self.frame.len();
                let (now, later) = piece.split_at(piece.len().min(room));
                self.frame.extend_from_slice(now);
                piece = later;
                if self.frame.len() == FRAME_BYTES {
                    self.end_frame();
                }
            }
        });
        self.end_frame();
        Block {
            token,
            rows: batch.rows() as u64,
            native_bytes,
            compressed: Bytes::copy_from_slice(&self.compressed),
            room: None,
        }
    }

    /// Compresses `frame` to the end of `compressed`.
    ///
    /// <https://clickhouse.com/docs/reference/interfaces/specs/NativeFormat#frame-format>
    fn end_frame(&mut self) {
        let Self {
            frame,
            compressed,
            table,
        } = self;
        if frame.is_empty() {
            return;
        }
        let start = compressed.len();
        compressed.resize(start + FRAME_HEAD + get_maximum_output_size(frame.len()), 0);
        let out = &mut compressed[start..];
        let len = compress_into_with_table(frame, &mut out[FRAME_HEAD..], table)
            .expect("the room is the most that LZ4 can need");
        let (checksum, rest) = out[..FRAME_HEAD + len].split_at_mut(CHECKSUM);
        let size = |n: usize| u32::try_from(n).expect("a frame is small").to_le_bytes();
        rest[0] = METHOD_LZ4;
        rest[1..5].copy_from_slice(&size(FRAME_HEAD - CHECKSUM + len));
        rest[5..9].copy_from_slice(&size(frame.len()));
        // ClickHouse writes the two halves of CityHash128 (version 1.0.2) low half first.
        let hash = cityhash_rs::cityhash_102_128(rest).rotate_right(64);
        checksum.copy_from_slice(&hash.to_le_bytes());
        compressed.truncate(start + FRAME_HEAD + len);
        frame.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;

    fn decompress(mut frames: &[u8]) -> Vec<u8> {
        let mut native = Vec::new();
        while !frames.is_empty() {
            assert_eq!(frames[16], METHOD_LZ4);
            let size =
                |at: usize| u32::from_le_bytes(frames[at..at + 4].try_into().unwrap()) as usize;
            let (frame, rest) = frames.split_at(CHECKSUM + size(17));
            let data = lz4_flex::block::decompress(&frame[FRAME_HEAD..], size(21)).unwrap();
            native.extend(data);
            frames = rest;
        }
        native
    }

    #[test]
    fn the_frames_decompress_to_the_native_block() {
        let mut batch = Batch::new(5000);
        for n in 0..5000_u32 {
            batch.append(&[Flow {
                in_if: n,
                raw_bytes: u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ..Flow::EMPTY
            }]);
        }
        let mut native = Vec::new();
        native::encode(&batch, &mut native);
        assert!(native.len() > 2 * FRAME_BYTES, "several frames are tried");
        let mut encoder = Encoder::default();
        for _ in 0..2 {
            let block = encoder.encode(&batch, "token".into());
            assert_eq!(block.rows, 5000);
            assert_eq!(block.native_bytes, native.len() as u64);
            assert_eq!(decompress(&block.compressed), native);
        }
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
        assert_eq!(encoder.compressed, expected);
    }
}
