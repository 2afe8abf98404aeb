//! The buffers that the kernel fills, and the ring by which it gets them.

#![allow(
    unsafe_code,
    reason = "the kernel writes to the buffers and reads the ring by address"
)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

use crate::config;
use crate::receive::datagram_max_bytes;
use crate::receive::kernel::Mapping;
use crate::receive::sockets::NAME_BYTES;

/// A buffer that the kernel filled and that is ours until it is lent to the callback, which gives
/// it back. Made from a completion only, and neither `Clone` nor `Copy`.
pub(super) struct Buffer(u16);

impl Buffer {
    pub(super) fn of(completion: &cqueue::Entry) -> Option<Self> {
        cqueue::buffer_select(completion.flags()).map(Self)
    }
}

/// A ring of provided buffers (`io_uring_buf_ring`) and the buffers themselves.
pub(super) struct BufferRing {
    entries: Mapping,
    buffers: Mapping,
    count: u16,
    buffer_bytes: u32,
    stride: usize,
    /// Entries written so far, wrapping; the kernel sees them once `publish` has stored it.
    tail: u16,
}

impl BufferRing {
    pub(super) fn new(config: &config::Receive) -> io::Result<Self> {
        let count = count(config);
        let buffer_bytes = buffer_bytes(config);
        assert!(count.is_power_of_two(), "the kernel wants a power of two");
        let stride = stride(buffer_bytes);
        let mut ring = Self {
            entries: Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?,
            buffers: Mapping::new(usize::from(count) * stride)?,
            count,
            buffer_bytes,
            stride,
            tail: 0,
        };
        for index in 0..count {
            ring.give_back(Buffer(index));
        }
        ring.publish();
        Ok(ring)
    }

    /// The memory of a ring and its buffers at most, in bytes; completions included.
    pub(super) fn memory_bytes(config: &config::Receive) -> usize {
        let a_buffer = stride(buffer_bytes(config))
            + size_of::<BufRingEntry>()
            + 2 * size_of::<cqueue::Entry>();
        usize::from(count(config)) * a_buffer
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Makes it the group [`GROUP`] of `ring`.
    pub(super) fn register(&self, ring: &IoUring) -> io::Result<()> {
        // SAFETY: the mapping is page-aligned, `count` entries long, and unmapped only in `drop`
        // of `UringReceiver`, after its requests are cancelled.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                self.entries.start().as_ptr().addr() as u64,
                self.count,
                GROUP,
                0,
            )
        }
    }

    /// Shows the first `filled` bytes of `buffer`, then gives it back.
    #[inline]
    pub(super) fn lend(&mut self, buffer: Buffer, filled: usize, show: impl FnOnce(&[u8])) {
        assert!(
            filled <= self.buffer_bytes as usize,
            "the kernel fills no more than a buffer"
        );
        // SAFETY: the kernel handed this buffer over in a completion and writes to it again only
        // after `publish` follows `give_back`; `buffer` cannot be named a second time, and the
        // borrow of `self` lasts until `show` returns. The kernel wrote `filled` bytes, and
        // what it did not write is zero or from earlier.
        let bytes = unsafe { std::slice::from_raw_parts(self.start_of(buffer.0).as_ptr(), filled) };
        show(bytes);
        self.give_back(buffer);
    }

    #[inline]
    fn start_of(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count, "the kernel names only our buffers");
        // SAFETY: the mapping is `count` strides long.
        unsafe { self.buffers.start().add(usize::from(id) * self.stride) }
    }

    #[inline]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was given back must not be named again"
    )]
    fn give_back(&mut self, buffer: Buffer) {
        let Buffer(id) = buffer;
        let start = self.start_of(id);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot < count`, the length of the mapping in entries. There are as many entries
        // as buffers, so the kernel has consumed what was in this slot. Setting the three fields
        // leaves the fourth alone, which in the first entry is the tail.
        unsafe {
            let entry = &mut *self
                .entries
                .start()
                .cast::<BufRingEntry>()
                .add(slot)
                .as_ptr();
            entry.set_addr(start.as_ptr().addr() as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel have what was given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry of the ring, aligned for a u16; this thread is
        // the only one that writes it, and it is only accessed atomically.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.entries.start().as_ptr().cast());
            AtomicU16::from_ptr(tail.cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }
}

/// One burst being worked on and one being filled.
fn count(config: &config::Receive) -> u16 {
    let count = config.burst.saturating_mul(2).clamp(2, BUFFERS_MAX);
    u16::try_from(count.next_power_of_two()).expect("at most the kernel's maximum, 2^15")
}

/// Room for what the kernel writes before the payload, and the payload.
fn buffer_bytes(config: &config::Receive) -> u32 {
    let bytes = OUT_HEADER_BYTES + NAME_BYTES + datagram_max_bytes(config);
    u32::try_from(bytes).expect("a datagram is shorter than 64 KiB")
}

fn stride(buffer_bytes: u32) -> usize {
    (buffer_bytes as usize).next_multiple_of(CACHE_LINE)
}

/// The group of our buffers; the ring has no other.
pub(super) const GROUP: u16 = 0;

/// `struct io_uring_recvmsg_out` of
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/io_uring.h>.
const OUT_HEADER_BYTES: usize = 16;

/// The kernel takes 2^15 at most; each costs the longest datagram's length of address space.
const BUFFERS_MAX: usize = 4096;
const _: () = assert!(BUFFERS_MAX.is_power_of_two());
const _: () = assert!(BUFFERS_MAX <= 1 << 15);

/// Two buffers never share one.
const CACHE_LINE: usize = 64;
