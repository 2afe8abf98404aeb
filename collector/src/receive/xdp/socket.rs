//! An AF_XDP socket: the frames of one queue of one interface.
//!
//! In: an interface and a queue. Out: an open socket with its memory and rings, for the XDP program
//! to redirect to, or the reason why there is none. Owner: one worker.
//! Spec: <https://www.kernel.org/doc/html/latest/networking/af_xdp.html>, `linux/if_xdp.h`.

#![allow(
    unsafe_code,
    reason = "making, binding and waking AF_XDP sockets are system calls"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::ring::{Consumer, Producer};
use super::umem::{Frames, fill_places};
use super::{Step, XdpRefused};
use crate::config;
use crate::receive::kernel::{self, HUGE_PAGE_BYTES, Mapping, Plain};

/// A socket bound to a queue, with the memory that its frames arrive in.
pub struct XskSocket {
    socket: OwnedFd,
    frames: Frames<Mapping>,
    is_zero_copy: bool,
}

/// What the kernel counted for a socket since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames dropped because none was free, or longer than one. Kernels before 5.9 count here what
    /// `ring_full` counts.
    pub dropped: u64,
    /// Frames dropped because the receive ring was full.
    pub ring_full: u64,
    /// How often the kernel found no free frame in the fill ring.
    pub fill_ring_empty: u64,
    /// Entries of the fill ring that named no frame.
    pub invalid_descriptors: u64,
}

impl Statistics {
    /// Frames that arrived for the socket and were dropped.
    #[must_use]
    pub fn frames_lost(&self) -> u64 {
        self.dropped + self.ring_full
    }
}

impl XskSocket {
    /// Opens a socket on `queue` of an interface with this MTU in bytes. With `copy = "auto"`
    /// zero-copy is tried first, unless the program runs where there is none.
    ///
    /// # Errors
    /// What was being done when the kernel refused; the MTU when no frame is long enough for it.
    pub fn open(
        interface: &str,
        if_index: u32,
        queue: u32,
        mtu: u32,
        config: &config::Xdp,
    ) -> Result<Self, XdpRefused> {
        let opening = Opening {
            interface,
            queue,
            config,
        };
        let frame_bytes = frame_bytes(mtu).ok_or_else(|| opening.mtu_too_large(mtu))?;
        let socket = opening.socket()?;
        let memory = opening.memory(socket.as_fd(), frame_bytes)?;
        let (fill, received) = opening.rings(socket.as_fd())?;
        // A driver takes its first frames when the socket is bound.
        let frames = Frames::new(memory, frame_bytes, config.frames, fill, received);
        if config.busy_poll_us > 0 {
            opening.prefer_busy_poll(socket.as_fd())?;
        }
        opening.bind(socket.as_fd(), if_index)?;
        let mut options = libc::xdp_options { flags: 0 };
        kernel::option(
            socket.as_fd(),
            libc::SOL_XDP,
            libc::XDP_OPTIONS,
            &mut options,
        )
        .map_err(|error| opening.refused(Step::Bind, &error))?;
        Ok(Self {
            socket,
            frames,
            is_zero_copy: options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
        })
    }

    /// The card writes to the socket's memory itself.
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// For the program's map of sockets, and for poll.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What the kernel counted; one system call.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut counted = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        let name = libc::XDP_STATISTICS;
        // Kernels before 5.9 write three fields; the others stay zero.
        kernel::option(self.fd(), libc::SOL_XDP, name, &mut counted)?;
        Ok(Statistics {
            dropped: counted.rx_dropped,
            ring_full: counted.rx_ring_full,
            fill_ring_empty: counted.rx_fill_ring_empty_descs,
            invalid_descriptors: counted.rx_invalid_descs,
        })
    }

    /// Its frames.
    #[inline]
    pub(super) fn frames(&mut self) -> &mut Frames<Mapping> {
        &mut self.frames
    }

    /// Has the driver take free frames or, with busy polling, look for received ones; one system
    /// call, which does not wait.
    pub fn wake(&self) {
        // SAFETY: a read of nothing to nowhere.
        let outcome = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        // That it had no time, or that the interface is down, shows by frames that do not come.
        let _ = outcome;
    }
}

/// What one queue takes at most, in bytes: its frames and its rings.
#[must_use]
pub fn memory_bytes(config: &config::Xdp) -> usize {
    let places = fill_places(1) as usize * size_of::<u64>() + size_of::<libc::xdp_desc>();
    frames_bytes(config).saturating_add((config.frames as usize).saturating_mul(places))
}

/// What the frames of one queue take at most, in bytes: the part that is locked.
#[must_use]
pub fn frames_bytes(config: &config::Xdp) -> usize {
    (config.frames as usize).saturating_mul(FRAME_BYTES_LONG as usize)
}

/// The shorter of the two lengths of frames that a packet of `mtu` bytes fits into. `None` when it
/// fits neither: frames are not longer than a page.
fn frame_bytes(mtu: u32) -> Option<u32> {
    let frame = mtu.checked_add(ETHERNET_BYTES)?;
    [FRAME_BYTES_SHORT, FRAME_BYTES_LONG]
        .into_iter()
        .find(|bytes| frame <= bytes - HEADROOM_BYTES)
}

/// What a socket is opened for.
struct Opening<'a> {
    interface: &'a str,
    queue: u32,
    config: &'a config::Xdp,
}

type Rings = (Producer<u64, Mapping>, Consumer<libc::xdp_desc, Mapping>);

impl Opening<'_> {
    #[cold]
    fn refused(&self, step: Step, error: &io::Error) -> XdpRefused {
        XdpRefused::new(self.interface, Some(self.queue), step, error)
    }

    /// Something that the kernel has no number for, or not a telling one.
    #[cold]
    fn refused_because(&self, step: Step, detail: String) -> XdpRefused {
        XdpRefused {
            queue: Some(self.queue),
            ..XdpRefused::because(self.interface, step, detail)
        }
    }

    #[cold]
    fn mtu_too_large(&self, mtu: u32) -> XdpRefused {
        let max = FRAME_BYTES_LONG - HEADROOM_BYTES - ETHERNET_BYTES;
        let detail = format!(
            "its MTU of {mtu} does not fit one frame; run 'ip link set {} mtu {max}' or less, or \
             receive by the kernel's sockets (receive.mode = \"io_uring\")",
            self.interface
        );
        self.refused_because(Step::Umem, detail)
    }

    fn socket(&self) -> Result<OwnedFd, XdpRefused> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointer is involved.
        let socket = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
        if socket < 0 {
            return Err(self.refused(Step::Socket, &io::Error::last_os_error()));
        }
        // SAFETY: the kernel just opened it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(socket) })
    }

    /// Maps the memory for frames and registers it.
    fn memory(&self, socket: BorrowedFd<'_>, frame_bytes: u32) -> Result<Mapping, XdpRefused> {
        let Self { config, .. } = self;
        let bytes = config.frames as usize * frame_bytes as usize;
        let memory = if config.huge_pages {
            Mapping::huge(bytes).map_err(|error| {
                let pages = bytes.div_ceil(HUGE_PAGE_BYTES);
                let detail = format!(
                    "huge pages of 2 MiB are not to be had, of which a queue takes {pages} \
                     ({error}); raise vm.nr_hugepages by as many for each queue, or set \
                     receive.xdp.huge_pages = false"
                );
                self.refused_because(Step::Umem, detail)
            })?
        } else {
            Mapping::new(bytes).map_err(|error| self.refused(Step::Umem, &error))?
        };
        let registration = libc::xdp_umem_reg {
            addr: memory.start().as_ptr().addr() as u64,
            len: bytes as u64,
            chunk_size: frame_bytes,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        // The kernel holds the pages until the socket is closed, whatever becomes of the mapping.
        kernel::set_option(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
            .map_err(|error| self.refused(Step::Umem, &error))?;
        Ok(memory)
    }

    /// Makes the rings. Each has a place for every frame, so that only frames can run out.
    fn rings(&self, socket: BorrowedFd<'_>) -> Result<Rings, XdpRefused> {
        let count = self.config.frames;
        let places = fill_places(count);
        let refused = |error: io::Error| self.refused(Step::Rings, &error);
        for (name, entries) in [
            (libc::XDP_UMEM_FILL_RING, places),
            // Only what is sent is completed, but without this ring no socket is bound.
            (libc::XDP_UMEM_COMPLETION_RING, 1),
            (libc::XDP_RX_RING, count),
        ] {
            kernel::set_option(socket, libc::SOL_XDP, name, &[entries]).map_err(refused)?;
        }
        let offsets = ring_offsets(socket).map_err(refused)?.ok_or_else(|| {
            let detail = "this kernel's rings have no flags; use one of 5.4 or later".to_owned();
            self.refused_because(Step::Rings, detail)
        })?;
        let libc::xdp_mmap_offsets { rx, fr: fill, .. } = offsets;
        let map = |ring: &libc::xdp_ring_offset, bytes, offset| {
            let bytes = ring.desc as usize + bytes;
            Mapping::shared(socket, bytes, offset).map_err(refused)
        };
        let fill_bytes = places as usize * size_of::<u64>();
        let fill_memory = map(&fill, fill_bytes, FILL_RING_OFFSET)?;
        let received_bytes = count as usize * size_of::<libc::xdp_desc>();
        let received_memory = map(&rx, received_bytes, libc::XDP_PGOFF_RX_RING)?;
        Ok((
            Producer::new(fill_memory, &fill, places).map_err(refused)?,
            Consumer::new(received_memory, &rx, count).map_err(refused)?,
        ))
    }

    /// Has the kernel leave the card's interrupts off while the socket polls.
    fn prefer_busy_poll(&self, socket: BorrowedFd<'_>) -> Result<(), XdpRefused> {
        let microseconds = self.config.busy_poll_us.min(i32::MAX as u32) as libc::c_int;
        for (option, name, value) in [
            (SO_PREFER_BUSY_POLL, "SO_PREFER_BUSY_POLL", 1),
            (SO_BUSY_POLL, "SO_BUSY_POLL", microseconds),
            (SO_BUSY_POLL_BUDGET, "SO_BUSY_POLL_BUDGET", BUSY_POLL_BUDGET),
        ] {
            kernel::set_option(socket, libc::SOL_SOCKET, option, &value).map_err(|error| {
                let detail = format!(
                    "the kernel refuses {name} ({error}); it needs CAP_NET_ADMIN and a kernel of \
                     5.11 or later; or set receive.xdp.busy_poll_us = 0"
                );
                self.refused_because(Step::Socket, detail)
            })?;
        }
        Ok(())
    }

    fn bind(&self, socket: BorrowedFd<'_>, if_index: u32) -> Result<(), XdpRefused> {
        let bind = |copy| bind_patiently(socket, if_index, self.queue, copy);
        // Generic XDP has no zero-copy, but a driver that has would bind the socket all the same.
        let is_generic = self.config.attach == config::XdpAttach::Skb;
        match self.config.copy {
            config::XdpCopy::ZeroCopy => bind(libc::XDP_ZEROCOPY),
            config::XdpCopy::Auto if !is_generic => {
                bind(libc::XDP_ZEROCOPY).or_else(|_| bind(libc::XDP_COPY))
            }
            config::XdpCopy::Auto | config::XdpCopy::Copy => bind(libc::XDP_COPY),
        }
        .map_err(|error| self.refused(Step::Bind, &error))
    }
}

/// Binds the socket. A queue whose last socket was just closed is busy for a moment longer.
fn bind_patiently(socket: BorrowedFd<'_>, if_index: u32, queue: u32, copy: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: copy | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: if_index,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let begun = Instant::now();
    loop {
        // SAFETY: the address is readable for the length given, which is its size.
        let outcome = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if outcome == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let is_busy = error.raw_os_error() == Some(libc::EBUSY);
        if !is_busy || begun.elapsed() >= BIND_PATIENCE {
            return Err(error);
        }
        thread::sleep(BIND_PAUSE);
    }
}

/// Where the parts of the rings are. `None` from a kernel that has fewer of them.
fn ring_offsets(socket: BorrowedFd<'_>) -> io::Result<Option<libc::xdp_mmap_offsets>> {
    const NOWHERE: libc::xdp_ring_offset = libc::xdp_ring_offset {
        producer: 0,
        consumer: 0,
        desc: 0,
        flags: 0,
    };
    let mut offsets = libc::xdp_mmap_offsets {
        rx: NOWHERE,
        tx: NOWHERE,
        fr: NOWHERE,
        cr: NOWHERE,
    };
    let name = libc::XDP_MMAP_OFFSETS;
    let written = kernel::option(socket, libc::SOL_XDP, name, &mut offsets)?;
    Ok((written == size_of_val(&offsets)).then_some(offsets))
}

// SAFETY: four times 8 bytes and 4 times 4, without padding between or after them.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: sixteen integers of 8 bytes.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six integers of 8 bytes.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: an integer.
unsafe impl Plain for libc::xdp_options {}

/// Frames for MTUs of up to 1770 and up to 3818 bytes. The kernel takes powers of two from 2 KiB up
/// to a page (`xdp_umem_reg` in `net/xdp/xdp_umem.c`).
const FRAME_BYTES_SHORT: u32 = 2048;
const FRAME_BYTES_LONG: u32 = 4096;
/// `XDP_PACKET_HEADROOM` of `linux/bpf.h`: what the kernel leaves before a frame's first byte.
const HEADROOM_BYTES: u32 = 256;
/// The Ethernet header and two VLAN tags.
const ETHERNET_BYTES: u32 = 14 + 8;

const FILL_RING_OFFSET: libc::off_t = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;

/// `asm-generic/socket.h`; libc has them for no Linux but Android.
const SO_BUSY_POLL: libc::c_int = 46;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
/// Frames of one look at the card: what the kernel itself takes at once (`NAPI_POLL_WEIGHT`).
const BUSY_POLL_BUDGET: libc::c_int = 64;

/// How long a queue may be busy after its socket was closed, elsewhere or by an earlier process.
const BIND_PATIENCE: Duration = Duration::from_millis(200);
const BIND_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_frame_that_a_tagged_packet_fits_into_is_taken() {
        assert_eq!(frame_bytes(1500), Some(2048));
        assert_eq!(frame_bytes(1770), Some(2048));
        assert_eq!(frame_bytes(1771), Some(4096));
        assert_eq!(frame_bytes(3818), Some(4096));
        assert_eq!(frame_bytes(3819), None);
        assert_eq!(frame_bytes(u32::MAX), None);
    }

    #[test]
    fn jumbo_frames_are_refused_with_the_longest_mtu() {
        let config = config::Xdp::default();
        let refused = XskSocket::open("eth0", 1, 3, 9000, &config).err().unwrap();
        assert_eq!(refused.step, Step::Umem);
        let text = refused.to_string();
        assert!(text.contains("eth0, queue 3"), "{text}");
        assert!(text.contains("'ip link set eth0 mtu 3818'"), "{text}");
    }

    #[test]
    fn the_default_queue_takes_little_memory() {
        assert!(memory_bytes(&config::Xdp::default()) < 17 << 20);
    }
}
