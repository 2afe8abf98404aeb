//! The memory that frames arrive in, and who may touch which frame.
//!
//! In: descriptors from the kernel, which may be wrong. Out: the bytes of a frame, by a [`Frame`]
//! that is gone once the kernel has the frame again. Owner: one worker; no allocation after set-up.
//! Spec: <https://www.kernel.org/doc/html/latest/networking/af_xdp.html>, sections UMEM and rings.

#![allow(unsafe_code, reason = "frames lie in memory that the kernel writes to")]

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::ring::{Consumer, Producer, SharedMemory};

/// A received frame that is ours until it is given back; made by [`Frames::take`] only.
///
/// It is neither `Clone` nor `Copy`, so a frame cannot be read after it was given back:
///
/// ```
/// # use flowsluice::receive::xdp::{ring::SharedMemory, umem::{Frame, Frames}};
/// fn once<M: SharedMemory>(frames: &mut Frames<M>, frame: Frame) -> usize {
///     let length = frames.bytes(&frame).len();
///     frames.give_back(frame);
///     length
/// }
/// ```
///
/// ```compile_fail,E0382
/// # use flowsluice::receive::xdp::{ring::SharedMemory, umem::{Frame, Frames}};
/// fn once<M: SharedMemory>(frames: &mut Frames<M>, frame: Frame) -> usize {
///     frames.give_back(frame);
///     let length = frames.bytes(&frame).len();
///     length
/// }
/// ```
///
/// Nor can it be given back while it is being read, or twice:
///
/// ```compile_fail,E0502
/// # use flowsluice::receive::xdp::{ring::SharedMemory, umem::{Frame, Frames}};
/// fn once<M: SharedMemory>(frames: &mut Frames<M>, frame: Frame) -> usize {
///     let bytes = frames.bytes(&frame);
///     frames.publish();
///     bytes.len()
/// }
/// ```
///
/// ```compile_fail,E0382
/// # use flowsluice::receive::xdp::{ring::SharedMemory, umem::{Frame, Frames}};
/// fn twice<M: SharedMemory>(frames: &mut Frames<M>, frame: Frame) {
///     frames.give_back(frame);
///     frames.give_back(frame);
/// }
/// ```
#[derive(Debug)]
#[must_use = "a frame that is not given back is lost to the kernel"]
pub struct Frame {
    /// Where the received bytes begin, counted from the memory's start.
    address: u64,
    length: u32,
    /// The memory that it lies in.
    memory: u32,
}

/// The kernel named memory that is no frame: a defect of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDescriptor {
    /// Where the bytes are said to begin, counted from the memory's start.
    pub address: u64,
    /// How many there are said to be.
    pub length: u32,
}

impl fmt::Display for BadDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, length } = self;
        write!(
            f,
            "receive: AF_XDP: the driver named {length} bytes at {address}, which are no frame; \
             set receive.xdp.copy = \"copy\" or receive.mode = \"io_uring\" and report it"
        )
    }
}

impl std::error::Error for BadDescriptor {}

/// All frames of a queue, with the rings by which they come and go.
pub struct Frames<M> {
    memory: M,
    /// Tells this memory's frames from others'.
    id: u32,
    frame_bytes: u32,
    /// Addresses of free frames, counted from the memory's start.
    fill: Producer<u64, M>,
    received: Consumer<libc::xdp_desc, M>,
}

impl<M: SharedMemory> Frames<M> {
    /// Frames of `frame_bytes`, a power of two, as many as `memory` has room for, all of which the
    /// kernel gets at once.
    ///
    /// # Panics
    /// When the fill ring cannot hold all of them.
    pub(super) fn new(
        memory: M,
        frame_bytes: u32,
        count: u32,
        fill: Producer<u64, M>,
        received: Consumer<libc::xdp_desc, M>,
    ) -> Self {
        static IDS: AtomicU32 = AtomicU32::new(0);
        assert!(frame_bytes.is_power_of_two());
        let bytes = u64::from(count) * u64::from(frame_bytes);
        assert!(bytes <= memory.bytes() as u64);
        let mut frames = Self {
            memory,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            frame_bytes,
            fill,
            received,
        };
        for frame in 0..count {
            frames.fill_with(u64::from(frame) * u64::from(frame_bytes));
        }
        frames.publish();
        frames
    }

    /// How many frames have arrived and were not taken yet; no system call.
    #[inline]
    pub fn arrived(&mut self) -> u32 {
        self.received.look()
    }

    /// Takes the next of the frames that [`Frames::arrived`] saw.
    ///
    /// # Errors
    /// When the kernel named memory that is no frame.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Frame>, BadDescriptor> {
        let Some(descriptor) = self.received.pop() else {
            return Ok(None);
        };
        let libc::xdp_desc {
            addr: address,
            len: length,
            ..
        } = descriptor;
        let offset = address & u64::from(self.frame_bytes - 1);
        let ends_within = offset + u64::from(length) <= u64::from(self.frame_bytes);
        if address >= self.memory.bytes() as u64 || !ends_within {
            return Err(BadDescriptor { address, length });
        }
        Ok(Some(Frame {
            address,
            length,
            memory: self.id,
        }))
    }

    /// What arrived in `frame`.
    ///
    /// # Panics
    /// When the frame belongs to another queue.
    #[inline]
    #[must_use]
    pub fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        assert!(frame.memory == self.id, "a frame stays with its queue");
        // SAFETY: `take` found the bytes within this memory, of which they are by the assertion.
        // The kernel handed the frame over in a descriptor and writes to it again only after
        // `give_back`, which takes `frame` and so ends this borrow, and nobody else writes to it.
        // They are initialised: the memory was zero at first.
        unsafe {
            let start = self.memory.start().add(frame.address as usize);
            std::slice::from_raw_parts(start.as_ptr(), frame.length as usize)
        }
    }

    /// Gives `frame` back; the kernel has it after [`Frames::publish`].
    ///
    /// # Panics
    /// When the frame belongs to another queue.
    #[inline]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was given back must not be named again"
    )]
    pub fn give_back(&mut self, frame: Frame) {
        assert!(frame.memory == self.id, "a frame stays with its queue");
        self.fill_with(frame.address & !u64::from(self.frame_bytes - 1));
    }

    /// Lets the kernel have the frames that were given back and the places of those taken.
    #[inline]
    pub fn publish(&mut self) {
        self.received.release();
        self.fill.publish();
    }

    /// The kernel waits for frames and has to be told that there are some.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    #[inline]
    fn fill_with(&mut self, address: u64) {
        let has_room = self.fill.push(address);
        assert!(has_room, "the fill ring has two places for every frame");
    }
}

/// Places of the fill ring for so many frames. The kernel shows what it received before it frees
/// the places that it took the frames from (`xsk_flush` of
/// <https://github.com/torvalds/linux/blob/v6.12/net/xdp/xsk.c>), so a frame may come back while
/// its old place still looks taken: two for each, and the ring is never full.
pub(super) const fn fill_places(frames: u32) -> u32 {
    2 * frames
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::ring::tests::{OFFSETS, Plainly, ring_memory};
    use super::*;

    const FRAME_BYTES: u32 = 2048;

    /// The kernel's side of a queue's rings.
    struct Kernel {
        memory: Plainly,
        fill: Consumer<u64, Plainly>,
        received: Producer<libc::xdp_desc, Plainly>,
    }

    impl Kernel {
        /// A frame of `bytes` arrives, 256 bytes into the next free frame; false when none is.
        fn arrives(&mut self, bytes: &[u8]) -> bool {
            let arrived = self.arrives_before_its_place_is_free(bytes);
            self.fill.release();
            arrived
        }

        /// The same up to the moment at which the kernel has shown the frame and not yet the place
        /// in the fill ring that it was taken from.
        fn arrives_before_its_place_is_free(&mut self, bytes: &[u8]) -> bool {
            self.fill.look();
            let Some(base) = self.fill.pop() else {
                return false;
            };
            assert_eq!(base % u64::from(FRAME_BYTES), 0);
            let address = base + 256;
            // SAFETY: the frame came out of the fill ring, so the other side does not access it.
            unsafe {
                let to = self.memory.start().add(address as usize);
                to.as_ptr().copy_from(bytes.as_ptr(), bytes.len());
            }
            self.names(address, bytes.len() as u32);
            true
        }

        fn names(&mut self, address: u64, length: u32) {
            assert!(self.received.push(libc::xdp_desc {
                addr: address,
                len: length,
                options: 0
            }));
            self.received.publish();
        }
    }

    fn queue(count: u32) -> (Frames<Plainly>, Kernel) {
        let memory = Plainly::new((count * FRAME_BYTES) as usize);
        let places = fill_places(count);
        let fill = ring_memory::<u64>(places);
        let received = ring_memory::<libc::xdp_desc>(count);
        let frames = Frames::new(
            memory.clone(),
            FRAME_BYTES,
            count,
            Producer::new(fill.clone(), &OFFSETS, places).unwrap(),
            Consumer::new(received.clone(), &OFFSETS, count).unwrap(),
        );
        let kernel = Kernel {
            memory,
            fill: Consumer::new(fill, &OFFSETS, places).unwrap(),
            received: Producer::new(received, &OFFSETS, count).unwrap(),
        };
        (frames, kernel)
    }

    #[test]
    fn the_kernel_gets_every_frame_once_at_the_start_and_again_after_it_was_given_back() {
        let (mut frames, mut kernel) = queue(4);
        for n in 0..4 {
            assert!(kernel.arrives(&[n; 60]));
        }
        assert!(!kernel.arrives(&[4; 60]), "no frame is free");
        assert_eq!(frames.arrived(), 4);
        for n in 0..4 {
            let frame = frames.take().unwrap().unwrap();
            assert_eq!(frames.bytes(&frame), [n; 60]);
            frames.give_back(frame);
        }
        assert!(frames.take().unwrap().is_none());
        assert!(!kernel.arrives(&[4; 60]), "not published");
        frames.publish();
        assert!(kernel.arrives(&[4; 60]));
    }

    #[test]
    fn a_frame_comes_back_before_the_kernel_frees_its_place() {
        let (mut frames, mut kernel) = queue(4);
        for n in 0..4 {
            assert!(kernel.arrives_before_its_place_is_free(&[n; 60]));
            assert_eq!(frames.arrived(), 1);
            let frame = frames.take().unwrap().unwrap();
            frames.give_back(frame);
            frames.publish();
        }
    }

    #[test]
    fn a_descriptor_of_memory_that_is_no_frame_is_an_error() {
        let (mut frames, mut kernel) = queue(2);
        let end = u64::from(2 * FRAME_BYTES);
        for (address, length) in [
            (end, 0),
            (end - 1, 2),
            (u64::MAX, 1),
            (0, FRAME_BYTES + 1),
            // Into the next frame, which may be the kernel's.
            (2000, 49),
            (0, u32::MAX),
        ] {
            kernel.names(address, length);
            assert_eq!(frames.arrived(), 1);
            let refused = frames.take().unwrap_err();
            assert_eq!(refused, BadDescriptor { address, length });
            frames.publish();
        }
        for (address, length) in [(0, FRAME_BYTES), (2000, 48), (end - 1, 1), (end - 1, 0)] {
            kernel.names(address, length);
            frames.arrived();
            let frame = frames.take().unwrap().unwrap();
            assert_eq!(frames.bytes(&frame).len(), length as usize);
            frames.publish();
        }
    }

    #[test]
    #[should_panic(expected = "a frame stays with its queue")]
    fn a_frame_of_another_queue_is_not_read() {
        let (mut frames, mut kernel) = queue(2);
        let (others, _) = queue(2);
        kernel.arrives(&[1; 60]);
        frames.arrived();
        let frame = frames.take().unwrap().unwrap();
        let _ = others.bytes(&frame);
    }

    #[test]
    fn frames_are_whole_and_in_order_while_a_thread_fills_them() {
        const FRAMES: u32 = if cfg!(miri) { 100 } else { 50_000 };
        let (mut frames, mut kernel) = queue(8);
        let filling = thread::spawn(move || {
            let mut number = 0_u32;
            while number < FRAMES {
                let word = number.to_ne_bytes();
                if kernel.arrives(&word.repeat(16)) {
                    number += 1;
                } else {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0_u32;
        while expected < FRAMES {
            if frames.arrived() == 0 {
                thread::yield_now();
            }
            while let Some(frame) = frames.take().unwrap() {
                assert_eq!(frames.bytes(&frame), expected.to_ne_bytes().repeat(16));
                frames.give_back(frame);
                expected += 1;
            }
            frames.publish();
        }
        filling.join().unwrap();
    }
}
