//! recvmmsg: for kernels and containers that refuse io_uring.
//!
//! With `receive.gro` the kernel hands over merged datagrams (UDP_GRO of udp(7)); here they are
//! taken apart again.

#![allow(
    unsafe_code,
    reason = "recvmmsg and poll take raw pointers to buffers and headers that live here"
)]

mod merged;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::kernel::Mapping;
use super::sockets::{BoundSocket, NAME_BYTES, peer};
use super::{DATAGRAM_MAX_BYTES, Datagram, Receive, datagram_max_bytes, is_transient};
use crate::config;
use crate::units::UnixNanos;

use merged::Control;

/// Receives by poll and recvmmsg: two system calls a burst.
pub struct UdpReceiver {
    sockets: Vec<BoundSocket>,
    /// The sockets in their order, then what is watched besides.
    polls: Vec<libc::pollfd>,
    /// The socket that is read first; it moves on, so that none starves behind a busy one.
    next: usize,
    /// They point into `slots`, one to one.
    headers: Box<[libc::mmsghdr]>,
    slots: Mapping,
    /// Distance between two slots in bytes.
    stride: usize,
    /// A longer datagram is cut, bytes.
    datagram_max: usize,
    /// What the kernel may write beside a payload, bytes: nothing, or how long datagrams are.
    control_bytes: usize,
}

/// The begin of a slot; the datagram follows at [`PAYLOAD_OFFSET`].
#[repr(C)]
struct SlotHeader {
    slice: libc::iovec,
    name: [u8; NAME_BYTES],
    control: Control,
}

// SAFETY: every pointer in `headers` and in the slots leads into the mapping that this struct owns
// and nothing else refers to; moving the struct to another thread does not move the mapping.
unsafe impl Send for UdpReceiver {}

impl UdpReceiver {
    /// Sets up buffers for one burst; nothing is allocated later.
    ///
    /// # Errors
    /// When the buffers cannot be mapped.
    pub fn new(sockets: Vec<BoundSocket>, config: &config::Receive) -> io::Result<Self> {
        let burst = burst(config);
        let payload_max = payload_max_bytes(config);
        let control_bytes = if config.gro { size_of::<Control>() } else { 0 };
        let stride = stride(config);
        let slots = Mapping::new(burst * stride)?;
        let headers = (0..burst)
            .map(|index| {
                // SAFETY: an mmsghdr is plain integers and pointers, for which zero is valid.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                // SAFETY: `index < burst` and the mapping is `burst` strides long, so slot and
                // payload lie in it; it is zero, which is a valid `SlotHeader`, and aligned, as
                // it begins on a page and a stride is a multiple of `CACHE_LINE`.
                unsafe {
                    let slot = slots.start().add(index * stride).as_ptr();
                    let begin = slot.cast::<SlotHeader>();
                    (*begin).slice.iov_base = slot.add(PAYLOAD_OFFSET).cast();
                    (*begin).slice.iov_len = payload_max;
                    header.msg_hdr.msg_iov = &raw mut (*begin).slice;
                    header.msg_hdr.msg_name = (&raw mut (*begin).name).cast();
                    header.msg_hdr.msg_control = (&raw mut (*begin).control).cast();
                }
                header.msg_hdr.msg_controllen = control_bytes as _;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
                header
            })
            .collect();
        let polls = sockets.iter().map(|s| readable(s.fd())).collect();
        Ok(Self {
            sockets,
            polls,
            next: 0,
            headers,
            slots,
            stride,
            datagram_max: datagram_max_bytes(config),
            control_bytes,
        })
    }

    /// The memory that one receiver takes at most, in bytes.
    #[must_use]
    pub fn memory_bytes(config: &config::Receive) -> usize {
        burst(config) * (stride(config) + size_of::<libc::mmsghdr>())
    }

    /// Lets [`UdpReceiver::wait`] end when `others` have something, too. They stay open as long as
    /// it is called.
    pub(super) fn watch<'a>(&mut self, others: impl Iterator<Item = BorrowedFd<'a>>) {
        self.polls.extend(others.map(|fd| readable(fd.as_raw_fd())));
    }

    /// Waits until a socket has something. False at the timeout and when interrupted.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the array of pollfd and the timespec live through the call; no signal mask.
        let ready = unsafe {
            libc::ppoll(
                self.polls.as_mut_ptr(),
                self.polls.len() as libc::nfds_t,
                &raw const timeout,
                std::ptr::null(),
            )
        };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let error = io::Error::last_os_error();
        if is_transient(&error) {
            return Ok(false);
        }
        Err(error)
    }

    /// Hands over what the sockets have that [`UdpReceiver::wait`] found ready, at most `limit`
    /// datagrams and by `calls` system calls at most. Returns how many datagrams there were. A
    /// socket that may have more stays ready.
    pub(super) fn take_ready(
        &mut self,
        limit: usize,
        mut calls: usize,
        received: UnixNanos,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<usize> {
        let count = self.sockets.len();
        let mut left = limit.min(self.headers.len());
        let mut taken_in_all = 0;
        let first = self.next;
        for turn in 0..count {
            let socket = (first + turn) % count;
            let revents = self.polls[socket].revents;
            if revents & libc::POLLNVAL != 0 {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            if revents == 0 {
                continue;
            }
            if left == 0 || calls == 0 {
                break;
            }
            // A poll that found it ready may be outdated; then nothing is taken.
            let taken = self.take(socket, left)?;
            let local_port = self.sockets[socket].local().port();
            self.hand_over(taken, local_port, received, on_datagram);
            if taken < left {
                self.polls[socket].revents = 0;
            }
            taken_in_all += taken;
            left -= taken;
            calls -= 1;
            self.next = (socket + 1) % count;
        }
        Ok(taken_in_all)
    }

    /// Takes what `socket` has, at most `limit` datagrams, into the first buffers.
    fn take(&mut self, socket: usize, limit: usize) -> io::Result<usize> {
        let limit = limit.min(self.headers.len());
        // SAFETY: `limit` headers are initialised; each points to a name and a buffer of the
        // lengths it says, which nothing else refers to while the call runs.
        let taken = unsafe {
            libc::recvmmsg(
                self.sockets[socket].fd(),
                self.headers.as_mut_ptr(),
                limit as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if let Ok(taken) = usize::try_from(taken) {
            return Ok(taken);
        }
        let error = io::Error::last_os_error();
        if is_transient(&error) {
            return Ok(0);
        }
        Err(error)
    }

    /// Hands over the first `taken` buffers and makes their headers ready for the next call.
    fn hand_over(
        &mut self,
        taken: usize,
        local_port: u16,
        received: UnixNanos,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) {
        for (index, header) in self.headers.iter_mut().take(taken).enumerate() {
            // SAFETY: `index` is that of a header and so of a slot. The kernel wrote the name and
            // `msg_len` bytes of payload, at most the maximum, which a slot has room for; control
            // is plain integers. It writes to slots only inside `recvmmsg`, and the borrows end
            // before the next.
            let (SlotHeader { name, control, .. }, payload) = unsafe {
                let slot = self.slots.start().add(index * self.stride).as_ptr();
                (
                    &*slot.cast::<SlotHeader>(),
                    std::slice::from_raw_parts(slot.add(PAYLOAD_OFFSET), header.msg_len as usize),
                )
            };
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let segment_bytes = merged::segment_bytes(control, header.msg_hdr.msg_controllen as _);
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_controllen = self.control_bytes as _;
            let (source, source_port) = peer(name).expect("an inet socket reports inet addresses");
            for payload in merged::datagrams(payload, segment_bytes) {
                let length = payload.len().min(self.datagram_max);
                let (payload, too_much) = payload.split_at(length);
                on_datagram(&Datagram {
                    source,
                    source_port,
                    local_port,
                    received,
                    payload,
                    cut: cut || !too_much.is_empty(),
                });
            }
        }
    }
}

impl Receive for UdpReceiver {
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        if self.wait(timeout)? {
            let (datagrams, calls) = (self.headers.len(), self.sockets.len());
            self.take_ready(datagrams, calls, UnixNanos::now(), on_datagram)?;
        }
        Ok(())
    }

    fn shut(&mut self) {
        self.sockets.iter().for_each(BoundSocket::shut);
    }

    fn kernel_drops(&mut self) -> u64 {
        self.sockets.iter_mut().map(BoundSocket::kernel_drops).sum()
    }
}

fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

fn burst(config: &config::Receive) -> usize {
    config.burst.clamp(1, BURST_MAX)
}

/// What the kernel may hand over at once, bytes: a datagram, or several merged.
fn payload_max_bytes(config: &config::Receive) -> usize {
    if config.gro {
        DATAGRAM_MAX_BYTES
    } else {
        datagram_max_bytes(config)
    }
}

fn stride(config: &config::Receive) -> usize {
    (PAYLOAD_OFFSET + payload_max_bytes(config)).next_multiple_of(CACHE_LINE)
}

/// UIO_MAXIOV: recvmmsg takes no more messages at once.
const BURST_MAX: usize = 1024;

/// Two slots never share one.
const CACHE_LINE: usize = 64;

/// Where the datagram begins in its slot.
const PAYLOAD_OFFSET: usize = 2 * CACHE_LINE;
const _: () = assert!(size_of::<SlotHeader>() <= PAYLOAD_OFFSET);
const _: () = assert!(CACHE_LINE.is_multiple_of(align_of::<SlotHeader>()));
