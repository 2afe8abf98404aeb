//! io_uring: one multishot recvmsg a socket, all of them filling one ring of provided buffers.
//!
//! The kernel puts a datagram into the next free buffer and posts a completion; in the steady state
//! a burst costs one system call however many sockets it came from, and none when completions are
//! already there. A buffer is lent to the callback and goes back to the ring right after it.

#![allow(
    unsafe_code,
    reason = "the kernel writes to provided buffers and reads a message header by address"
)]

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::kernel::Mapping;
use super::sockets::{BoundSocket, NAME_BYTES, Plan, peer};
use super::{Datagram, Receive, datagram_max_bytes, is_transient};
use crate::config;
use crate::units::UnixNanos;

/// Receives by io_uring. Belongs to the thread that first calls [`Receive::receive`].
pub struct UringReceiver {
    ring: IoUring,
    /// Dropped by hand: it must stay mapped when the kernel may still write to it.
    buffers: ManuallyDrop<BufferRing>,
    header: MessageHeader,
    sockets: Box<[UringSocket]>,
    /// The socket that is armed first; it moves on, so that when buffers are short a busy socket
    /// does not take all of them every time.
    first: usize,
    burst: usize,
    /// The ring was made disabled, so that it can be made on another thread than uses it.
    enabled: bool,
    buffer_shortages: u64,
}

struct UringSocket {
    socket: BoundSocket,
    /// Its recvmsg is with the kernel, or on its way there.
    armed: bool,
}

impl UringReceiver {
    /// Makes the ring and its buffers; nothing is allocated later.
    ///
    /// # Errors
    /// The kernel's, when it has no io_uring, forbids it or is too old; see [`UringRefused`].
    pub fn new(sockets: Vec<BoundSocket>, config: &config::Receive) -> io::Result<Self> {
        let buffers = buffer_count(config);
        let requests = u32::try_from(sockets.len().max(1)).map_err(|_| too_many())?;
        // Every buffer can be in a completion, and every request can end, at the same time.
        let completions = u32::from(buffers) + requests;
        let ring = build_ring(requests, completions)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let buffers = BufferRing::new(buffers, buffer_bytes(config))?;
        buffers.register(&ring)?;
        Ok(Self {
            ring,
            buffers: ManuallyDrop::new(buffers),
            header: MessageHeader::default(),
            sockets: sockets
                .into_iter()
                .map(|socket| UringSocket {
                    socket,
                    armed: false,
                })
                .collect(),
            first: 0,
            burst: config.burst.max(1),
            enabled: false,
            buffer_shortages: 0,
        })
    }

    /// How often the kernel found no free buffer. It loses nothing: what it could not place waits
    /// in the socket.
    #[must_use]
    pub fn buffer_shortages(&self) -> u64 {
        self.buffer_shortages
    }

    /// The memory that one receiver takes at most, in bytes.
    #[must_use]
    pub fn memory_bytes(config: &config::Receive) -> usize {
        let buffers = usize::from(buffer_count(config));
        let rings = buffers * (size_of::<BufRingEntry>() + 2 * size_of::<cqueue::Entry>());
        buffers * stride(buffer_bytes(config)) + rings
    }

    /// Queues a recvmsg for each socket that has none, for the next submission. True when there is
    /// something to submit.
    fn arm(&mut self) -> bool {
        let mut queue = self.ring.submission();
        let count = self.sockets.len();
        for index in (self.first..count).chain(0..self.first) {
            let socket = &mut self.sockets[index];
            if socket.armed {
                continue;
            }
            let request =
                opcode::RecvMsgMulti::new(Fd(socket.socket.fd()), self.header.pointer(), GROUP)
                    .build()
                    .user_data(index as u64);
            // SAFETY: the header lives on the heap until after the requests are cancelled in
            // `drop`, and so do the buffers of the group; the socket is open as long.
            unsafe { queue.push(&request) }.expect("the queue has a place for every socket");
            socket.armed = true;
        }
        if queue.is_empty() {
            return false;
        }
        self.first = (self.first + 1) % count;
        true
    }

    /// Submits what is queued and waits until there is a completion.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        let timeout = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timeout);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            // The timeout; or completions that have to be taken before there is place for more.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EBUSY)) => Ok(()),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands over what is complete, at most a burst.
    fn complete(&mut self, on_datagram: &mut impl FnMut(&Datagram<'_>)) -> io::Result<()> {
        let Self {
            ring,
            buffers,
            header,
            sockets,
            burst,
            buffer_shortages,
            ..
        } = self;
        let received = UnixNanos::now();
        let mut outcome = Ok(());
        for completion in ring.completion().take(*burst) {
            let index = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            let Some(UringSocket { socket, armed }) = sockets.get_mut(index) else {
                // Only a cancellation in `drop` has another number.
                continue;
            };
            *armed = cqueue::more(completion.flags());
            let filled = usize::try_from(completion.result());
            let buffer = Buffer::of(&completion);
            if let (Ok(filled), Some(buffer)) = (filled, buffer) {
                buffers.lend(buffer, filled, |bytes| {
                    hand_over(bytes, header, socket, received, on_datagram);
                });
                continue;
            }
            let error = io::Error::from_raw_os_error(-completion.result());
            if error.raw_os_error() == Some(libc::ENOBUFS) {
                *buffer_shortages += 1;
            } else if !is_transient(&error) {
                outcome = Err(error);
                break;
            }
        }
        buffers.publish();
        outcome
    }

    /// Takes all requests back from the kernel. False when it may still hold one.
    fn cancel(&mut self) -> bool {
        for _ in 0..CANCEL_ROUNDS {
            if self.sockets.iter().all(|socket| !socket.armed) {
                return true;
            }
            let patience = Some(Timespec::from(CANCEL_PATIENCE));
            let submitter = self.ring.submitter();
            match submitter.register_sync_cancel(patience, CancelBuilder::any()) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return false,
                // None is found when all have ended by themselves or are not submitted yet.
                _ => {}
            }
            // Each request still posts its last completion; only then is the kernel done with it.
            if self.wait(CANCEL_PATIENCE).is_err() {
                return false;
            }
            while !self.ring.completion().is_empty() {
                // An error is the cancellation that was asked for.
                let _ = self.complete(&mut |_| {});
            }
        }
        false
    }
}

impl Receive for UringReceiver {
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        let submit = self.arm();
        if submit || self.ring.completion().is_empty() {
            self.wait(timeout)?;
        }
        self.complete(on_datagram)
    }

    fn kernel_drops(&mut self) -> u64 {
        self.sockets
            .iter_mut()
            .map(|socket| socket.socket.kernel_drops())
            .sum()
    }
}

impl Drop for UringReceiver {
    fn drop(&mut self) {
        if self.cancel() {
            // SAFETY: the kernel holds no request that could take a buffer, `buffers` is not used
            // again, and this is the only place that drops it.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
        // Else the memory stays mapped until the process ends: the kernel may write to it.
    }
}

#[inline]
fn hand_over(
    bytes: &[u8],
    header: &MessageHeader,
    socket: &BoundSocket,
    received: UnixNanos,
    on_datagram: &mut impl FnMut(&Datagram<'_>),
) {
    let message = RecvMsgOut::parse(bytes, &header.0)
        .expect("the kernel fills no buffer shorter than the header it writes");
    let (source, source_port) =
        peer(message.name_data()).expect("an inet socket reports inet addresses");
    on_datagram(&Datagram {
        source,
        source_port,
        local_port: socket.local().port(),
        received,
        payload: message.payload_data(),
        cut: message.is_payload_truncated(),
    });
}

/// What recvmsg is to report besides the payload: the source address. The kernel reads it when a
/// request is submitted.
struct MessageHeader(Box<libc::msghdr>);

// SAFETY: all of its pointers are null.
unsafe impl Send for MessageHeader {}

impl Default for MessageHeader {
    fn default() -> Self {
        // SAFETY: an msghdr is plain integers and pointers, for which zero is valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = NAME_BYTES as libc::socklen_t;
        Self(Box::new(header))
    }
}

impl MessageHeader {
    fn pointer(&self) -> *const libc::msghdr {
        &raw const *self.0
    }
}

/// A buffer that the kernel filled and that is ours until it is lent to the callback, which gives
/// it back. Made from a completion only, and neither `Clone` nor `Copy`.
struct Buffer(u16);

impl Buffer {
    fn of(completion: &cqueue::Entry) -> Option<Self> {
        cqueue::buffer_select(completion.flags()).map(Self)
    }
}

/// A ring of provided buffers (`io_uring_buf_ring`) and the buffers themselves.
struct BufferRing {
    entries: Mapping,
    buffers: Mapping,
    count: u16,
    buffer_bytes: u32,
    stride: usize,
    /// Entries written so far, wrapping; the kernel sees them once `publish` has stored it.
    tail: u16,
}

impl BufferRing {
    fn new(count: u16, buffer_bytes: u32) -> io::Result<Self> {
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

    fn register(&self, ring: &IoUring) -> io::Result<()> {
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
    fn lend(&mut self, buffer: Buffer, filled: usize, show: impl FnOnce(&[u8])) {
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
    fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry of the ring, aligned for a u16; this thread is
        // the only one that writes it, and it is only accessed atomically.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.entries.start().as_ptr().cast());
            AtomicU16::from_ptr(tail.cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Why io_uring cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringRefused {
    /// The system's error number; 0 where it gave none.
    pub errno: i32,
}

impl UringRefused {
    #[cold]
    pub(super) fn new(error: &io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
        }
    }
}

impl fmt::Display for UringRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("receive: io_uring cannot be used: ")?;
        f.write_str(match self.errno {
            libc::EPERM | libc::EACCES => {
                "the system forbids it (EPERM); run 'sysctl -w kernel.io_uring_disabled=0' and, in \
                 a container, allow io_uring_setup in its seccomp profile"
            }
            libc::ENOSYS => "this kernel is built without it (ENOSYS); use one of 6.0 or later",
            libc::EINVAL | libc::EOPNOTSUPP => {
                "this kernel has no multishot recvmsg or no buffer rings (EINVAL); use 6.0 or later"
            }
            libc::ENOMEM => {
                "no memory may be locked for it (ENOMEM); raise the limit ('ulimit -l', \
                 LimitMEMLOCK)"
            }
            libc::EMFILE | libc::ENFILE => {
                "no file descriptor is left; raise the limit ('ulimit -n', LimitNOFILE)"
            }
            libc::ETIMEDOUT => "a datagram sent to ourselves for a trial did not arrive",
            errno => return write!(f, "{}", io::Error::from_raw_os_error(errno)),
        })
    }
}

impl std::error::Error for UringRefused {}

/// Tries io_uring out, from the set-up to a datagram that arrives, as a receiver uses it.
///
/// # Errors
/// The kernel's; `ETIMEDOUT` when everything is accepted and nothing arrives.
pub fn probe() -> io::Result<()> {
    let config = config::Receive {
        listeners: vec![config::Listener {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
            protocols: Vec::new(),
        }],
        socket_buffer: bytesize::ByteSize::kib(64),
        burst: 1,
        ..config::Receive::default()
    };
    let to_io = |error: super::BindError| io::Error::from_raw_os_error(error.errno);
    let mut plan = Plan::new(&config).map_err(to_io)?;
    let target = plan.addresses()[0];
    let mut receiver = UringReceiver::new(plan.sockets().map_err(to_io)?, &config)?;
    UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.send_to(PROBE, target)?;
    for _ in 0..PROBE_ROUNDS {
        let mut arrived = false;
        receiver.receive(PROBE_PATIENCE / PROBE_ROUNDS, &mut |datagram| {
            arrived = arrived || datagram.payload == PROBE;
        })?;
        if arrived {
            return Ok(());
        }
    }
    Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
}

/// Completions are run by the waiting thread itself where the kernel can (6.1); that saves an
/// interruption for each datagram.
fn build_ring(requests: u32, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_r_disabled()
        .setup_clamp()
        .setup_cqsize(completions)
        .setup_coop_taskrun();
    let mut deferring = builder.clone();
    deferring.setup_single_issuer().setup_defer_taskrun();
    match deferring.build(requests) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(requests),
        outcome => outcome,
    }
}

#[cold]
fn too_many() -> io::Error {
    io::Error::from_raw_os_error(libc::E2BIG)
}

/// One burst being worked on and one being filled.
fn buffer_count(config: &config::Receive) -> u16 {
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
const GROUP: u16 = 0;

/// `struct io_uring_recvmsg_out` of
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/io_uring.h>.
const OUT_HEADER_BYTES: usize = 16;

/// The kernel takes 2^15 at most; each costs the longest datagram's length of address space.
const BUFFERS_MAX: usize = 4096;
const _: () = assert!(BUFFERS_MAX.is_power_of_two());
const _: () = assert!(BUFFERS_MAX <= 1 << 15);

/// Two buffers never share one.
const CACHE_LINE: usize = 64;

/// For the kernel to take back a request.
const CANCEL_PATIENCE: Duration = Duration::from_millis(10);
const CANCEL_ROUNDS: usize = 20;

const PROBE: &[u8] = b"flowsluice";
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
const PROBE_ROUNDS: u32 = 10;
