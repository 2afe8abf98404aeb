//! The rings that a process shares with the kernel: one side writes entries, the other takes them.
//!
//! In: memory with two indices, flags and entries. Out: [`Producer`] for rings that we fill, and
//! [`Consumer`] for rings that the kernel fills. An index counts entries since the beginning and
//! wraps at 2^32; what a side wrote or is done with becomes visible by one store a burst.
//! Owner: one worker. Spec: `linux/if_xdp.h`, and `net/xdp/xsk_queue.h` for the order of accesses.

#![allow(
    unsafe_code,
    reason = "indices and entries lie in memory that the kernel accesses as well"
)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::receive::kernel::{Mapping, Plain};

/// Memory that is shared with the kernel, or with a thread that plays it.
///
/// # Safety
/// `len` bytes from `start` can be read and written as long as the value lives, wherever it is
/// moved to. `start` is always the same and aligned for a `u64`. Nobody accesses the bytes but by
/// the protocol of the rings.
pub unsafe trait SharedMemory: Send {
    /// The first byte.
    fn start(&self) -> NonNull<u8>;
    /// How many bytes there are.
    fn bytes(&self) -> usize;
}

// SAFETY: a mapping is page-aligned and stays where it is until it is dropped; what is mapped for
// AF_XDP is accessed by the rings' protocol alone.
unsafe impl SharedMemory for Mapping {
    fn start(&self) -> NonNull<u8> {
        self.start()
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

// SAFETY: integers without padding: 8, 4 and 4 bytes.
unsafe impl Plain for libc::xdp_desc {}

/// Where the parts of a ring are in its memory.
struct Ring<T, M> {
    producer: NonNull<u32>,
    consumer: NonNull<u32>,
    flags: NonNull<u32>,
    entries: NonNull<T>,
    /// Entries, a power of two.
    count: u32,
    _memory: M,
}

// SAFETY: the pointers lead into the memory, which moves along and is `Send` itself; entries are
// plain integers.
unsafe impl<T: Plain, M: SharedMemory> Send for Ring<T, M> {}

impl<T: Plain, M: SharedMemory> Ring<T, M> {
    /// The ring of `count` entries whose parts lie where `offsets` says, in bytes.
    ///
    /// # Errors
    /// `InvalidInput` when the count is no power of two or a part does not fit into the memory.
    fn new(memory: M, offsets: &libc::xdp_ring_offset, count: u32) -> io::Result<Self> {
        if !count.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            producer: part(&memory, offsets.producer, 1)?,
            consumer: part(&memory, offsets.consumer, 1)?,
            flags: part(&memory, offsets.flags, 1)?,
            entries: part(&memory, offsets.desc, count as usize)?,
            count,
            _memory: memory,
        })
    }

    /// Entries written since the beginning.
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: `part` found it aligned and within the memory, which lives as long as `self`;
        // both sides access it atomically only.
        unsafe { AtomicU32::from_ptr(self.producer.as_ptr()) }
    }

    /// Entries taken since the beginning.
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { AtomicU32::from_ptr(self.consumer.as_ptr()) }
    }

    /// `XDP_RING_*`.
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { AtomicU32::from_ptr(self.flags.as_ptr()) }
    }

    /// The entry with this index.
    #[inline]
    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the masked index is less than `count`, and `part` found room for so many.
        unsafe { self.entries.add((index & (self.count - 1)) as usize) }
    }
}

/// The `count` values of `T` at `offset`.
fn part<T, M: SharedMemory>(memory: &M, offset: u64, count: usize) -> io::Result<NonNull<T>> {
    let refused = || io::Error::from(io::ErrorKind::InvalidInput);
    let offset = usize::try_from(offset).map_err(|_| refused())?;
    let end = (size_of::<T>().checked_mul(count)).and_then(|length| length.checked_add(offset));
    if end.is_none_or(|end| end > memory.bytes()) {
        return Err(refused());
    }
    // SAFETY: `offset` is at most the memory's length.
    let first = unsafe { memory.start().add(offset) }.cast::<T>();
    if !first.is_aligned() {
        return Err(refused());
    }
    Ok(first)
}

/// A ring that this side writes.
pub(super) struct Producer<T, M> {
    ring: Ring<T, M>,
    /// Entries written, the unpublished ones included.
    written: u32,
    /// Entries taken by the other side when it was looked at last.
    taken: u32,
}

impl<T: Plain, M: SharedMemory> Producer<T, M> {
    /// The writing side of the ring in `memory`, going on from the indices that are there.
    ///
    /// # Errors
    /// `InvalidInput` when the count is no power of two or a part does not fit into the memory.
    pub(super) fn new(memory: M, offsets: &libc::xdp_ring_offset, count: u32) -> io::Result<Self> {
        let ring = Ring::new(memory, offsets, count)?;
        let written = ring.producer().load(Ordering::Relaxed);
        let taken = ring.consumer().load(Ordering::Acquire);
        Ok(Self {
            ring,
            written,
            taken,
        })
    }

    /// Writes an entry, which the other side sees after [`Producer::publish`]. False when the ring
    /// is full.
    #[inline]
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.written.wrapping_sub(self.taken) == self.ring.count {
            // Acquire: the other side has read what is overwritten now.
            self.taken = self.ring.consumer().load(Ordering::Acquire);
            if self.written.wrapping_sub(self.taken) == self.ring.count {
                return false;
            }
        }
        // SAFETY: the entry lies in the ring and is less than `count` ahead of what the other side
        // took, which therefore does not access it before it is published.
        unsafe { self.ring.entry(self.written).write(entry) };
        self.written = self.written.wrapping_add(1);
        true
    }

    /// Lets the other side see what was written.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: the entries, and all that was read from the frames that they name, come before.
        self.ring.producer().store(self.written, Ordering::Release);
    }

    /// The other side sleeps until it is woken by a system call. Asked after `publish`; a flag that
    /// is raised right afterwards is seen by the poll that waits for frames.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring that the other side writes.
pub(super) struct Consumer<T, M> {
    ring: Ring<T, M>,
    /// Entries taken, the unreleased ones included.
    taken: u32,
    /// Entries written by the other side when it was looked at last.
    written: u32,
}

impl<T: Plain, M: SharedMemory> Consumer<T, M> {
    /// The taking side of the ring in `memory`, going on from the indices that are there.
    ///
    /// # Errors
    /// `InvalidInput` when the count is no power of two or a part does not fit into the memory.
    pub(super) fn new(memory: M, offsets: &libc::xdp_ring_offset, count: u32) -> io::Result<Self> {
        let ring = Ring::new(memory, offsets, count)?;
        let taken = ring.consumer().load(Ordering::Relaxed);
        let written = ring.producer().load(Ordering::Acquire);
        Ok(Self {
            ring,
            taken,
            written,
        })
    }

    /// Looks how many entries can be popped; no system call.
    #[inline]
    pub(super) fn look(&mut self) -> u32 {
        // Acquire: what the entries say, and the frames that they name, were written before.
        self.written = self.ring.producer().load(Ordering::Acquire);
        let there = self.written.wrapping_sub(self.taken);
        assert!(there <= self.ring.count, "no ring has more than its size");
        there
    }

    /// Takes the next of the entries that [`Consumer::look`] saw.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.taken == self.written {
            return None;
        }
        // SAFETY: the entry lies in the ring and was written before the index that `look` read;
        // the other side leaves it alone until `release`. Any bytes are a `T`.
        let entry = unsafe { self.ring.entry(self.taken).read() };
        self.taken = self.taken.wrapping_add(1);
        Some(entry)
    }

    /// Lets the other side overwrite what was popped.
    #[inline]
    pub(super) fn release(&mut self) {
        // Release: the entries were read before.
        self.ring.consumer().store(self.taken, Ordering::Release);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Plain memory that both sides hold; no system call, so that an interpreter can run the tests.
    #[derive(Clone)]
    pub(in crate::receive::xdp) struct Plainly {
        words: Arc<Words>,
    }

    struct Words {
        start: NonNull<u64>,
        count: usize,
    }

    // SAFETY: what is behind the pointer is accessed by the rings' protocol alone.
    unsafe impl Send for Words {}
    // SAFETY: likewise.
    unsafe impl Sync for Words {}

    impl Drop for Words {
        fn drop(&mut self) {
            let words = std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.count);
            // SAFETY: it was made from a box of this length, and this is its only owner.
            drop(unsafe { Box::from_raw(words) });
        }
    }

    // SAFETY: the box is never moved or freed while a clone lives; a `u64` is aligned as one.
    unsafe impl SharedMemory for Plainly {
        fn start(&self) -> NonNull<u8> {
            self.words.start.cast()
        }

        fn bytes(&self) -> usize {
            self.words.count * size_of::<u64>()
        }
    }

    impl Plainly {
        pub(in crate::receive::xdp) fn new(bytes: usize) -> Self {
            let count = bytes.div_ceil(size_of::<u64>());
            let words = Box::into_raw(vec![0_u64; count].into_boxed_slice());
            let start = NonNull::new(words.cast()).expect("a box is never null");
            let words = Arc::new(Words { start, count });
            Self { words }
        }

        fn word(&self, index: usize) -> &AtomicU32 {
            assert!(index < self.words.count * 2);
            // SAFETY: within the memory, aligned, and accessed atomically only.
            unsafe { AtomicU32::from_ptr(self.words.start.cast::<u32>().add(index).as_ptr()) }
        }
    }

    /// Indices on cache lines of their own, as the kernel lays them out.
    pub(in crate::receive::xdp) const OFFSETS: libc::xdp_ring_offset = libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        flags: 68,
        desc: 128,
    };
    const PRODUCER: usize = 0;
    const CONSUMER: usize = 16;
    const FLAGS: usize = 17;
    /// The half of the first entry that holds small numbers.
    const ENTRIES: usize = if cfg!(target_endian = "little") {
        32
    } else {
        33
    };

    pub(in crate::receive::xdp) fn ring_memory<T>(count: u32) -> Plainly {
        Plainly::new(128 + count as usize * size_of::<T>())
    }

    /// Memory of a ring of `count` addresses that has been in use up to `index`.
    fn used_up_to(index: u32, count: u32) -> Plainly {
        let memory = ring_memory::<u64>(count);
        memory.word(PRODUCER).store(index, Ordering::Relaxed);
        memory.word(CONSUMER).store(index, Ordering::Relaxed);
        memory
    }

    fn producer(memory: &Plainly, count: u32) -> Producer<u64, Plainly> {
        Producer::new(memory.clone(), &OFFSETS, count).unwrap()
    }

    fn consumer(memory: &Plainly, count: u32) -> Consumer<u64, Plainly> {
        Consumer::new(memory.clone(), &OFFSETS, count).unwrap()
    }

    #[test]
    fn entries_and_the_index_stand_where_the_kernel_looks() {
        let memory = used_up_to(u32::MAX, 4);
        let mut producer = producer(&memory, 4);
        assert!(producer.push(7));
        assert!(producer.push(8));
        assert_eq!(memory.word(PRODUCER).load(Ordering::Relaxed), u32::MAX);
        producer.publish();
        assert_eq!(memory.word(PRODUCER).load(Ordering::Relaxed), 1);
        // The entry of index 2^32 - 1 is the fourth, that of index 0 the first.
        let entry = |n: usize| memory.word(ENTRIES + 2 * n).load(Ordering::Relaxed);
        assert_eq!([0, 1, 2, 3].map(entry), [8, 0, 0, 7]);
    }

    #[test]
    fn what_the_kernel_wrote_is_taken_and_released() {
        let memory = used_up_to(u32::MAX - 1, 4);
        let mut consumer = consumer(&memory, 4);
        assert_eq!((consumer.look(), consumer.pop()), (0, None));
        for (n, value) in [(2, 70), (3, 71), (0, 72)] {
            memory.word(ENTRIES + 2 * n).store(value, Ordering::Relaxed);
        }
        memory.word(PRODUCER).store(1, Ordering::Release);
        assert_eq!(consumer.pop(), None, "only what was looked at");
        assert_eq!(consumer.look(), 3);
        assert_eq!((consumer.pop(), consumer.pop()), (Some(70), Some(71)));
        let index = memory.word(CONSUMER);
        assert_eq!(index.load(Ordering::Relaxed), u32::MAX - 1);
        consumer.release();
        assert_eq!(index.load(Ordering::Relaxed), 0);
        assert_eq!((consumer.pop(), consumer.pop()), (Some(72), None));
    }

    #[test]
    fn a_full_ring_takes_nothing_until_the_other_side_has_released() {
        for index in [0, u32::MAX - 2] {
            let memory = used_up_to(index, 4);
            let (mut ours, mut theirs) = (producer(&memory, 4), consumer(&memory, 4));
            for address in 0..4 {
                assert!(ours.push(address));
            }
            assert!(!ours.push(4));
            ours.publish();
            assert_eq!((theirs.look(), theirs.pop()), (4, Some(0)));
            assert!(!ours.push(4), "popped is not released");
            theirs.release();
            assert!(ours.push(4));
            assert!(!ours.push(5));
        }
    }

    #[test]
    fn the_wakeup_flag_is_read_among_others() {
        let memory = used_up_to(0, 4);
        let producer = producer(&memory, 4);
        assert!(!producer.needs_wakeup());
        memory.word(FLAGS).store(0x8000_0001, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
        memory.word(FLAGS).store(0x8000_0002, Ordering::Relaxed);
        assert!(!producer.needs_wakeup());
    }

    #[test]
    #[should_panic(expected = "no ring has more than its size")]
    fn an_index_beyond_the_ring_is_not_believed() {
        let memory = used_up_to(0, 4);
        memory.word(PRODUCER).store(5, Ordering::Relaxed);
        consumer(&memory, 4).look();
    }

    #[test]
    fn a_ring_that_does_not_fit_its_memory_is_refused() {
        let memory = ring_memory::<u64>(4);
        let refused = |offsets: &libc::xdp_ring_offset, count| {
            Producer::<u64, _>::new(memory.clone(), offsets, count).is_err()
        };
        assert!(!refused(&OFFSETS, 4));
        assert!(refused(&OFFSETS, 8));
        assert!(refused(&OFFSETS, 3));
        assert!(refused(&OFFSETS, 0));
        for desc in [136, 132, u64::MAX] {
            assert!(refused(&libc::xdp_ring_offset { desc, ..OFFSETS }, 4));
        }
        let producer = 160;
        assert!(refused(
            &libc::xdp_ring_offset {
                producer,
                ..OFFSETS
            },
            4
        ));
    }

    #[test]
    fn two_threads_pass_every_entry_on_once_and_in_order() {
        const ENTRIES: u64 = if cfg!(miri) { 300 } else { 200_000 };
        let memory = used_up_to(u32::MAX - 100, 8);
        let (mut ours, mut theirs) = (producer(&memory, 8), consumer(&memory, 8));
        let kernel = thread::spawn(move || {
            let mut next = 0;
            while next < ENTRIES {
                let burst_end = (next + 3).min(ENTRIES);
                while next < burst_end && ours.push(next) {
                    next += 1;
                }
                ours.publish();
                thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < ENTRIES {
            theirs.look();
            while let Some(entry) = theirs.pop() {
                assert_eq!(entry, expected);
                expected += 1;
            }
            theirs.release();
            thread::yield_now();
        }
        kernel.join().unwrap();
        assert_eq!(theirs.look(), 0);
    }
}
