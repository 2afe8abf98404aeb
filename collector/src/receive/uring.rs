//! io_uring: one multishot recvmsg a socket, all of them filling one ring of provided buffers.
//!
//! The kernel puts a datagram into the next free buffer and posts a completion; in the steady state
//! a burst costs one system call however many sockets it came from, and none when completions are
//! already there. A buffer is lent to the callback and goes back to the ring right after it.

#![allow(
    unsafe_code,
    reason = "the kernel writes to provided buffers and reads a message header by address"
)]

mod buffers;

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use super::sockets::{BoundSocket, NAME_BYTES, Plan, peer};
use super::{Datagram, Receive, is_transient};
use crate::config;
use crate::units::UnixNanos;

use buffers::{Buffer, BufferRing, GROUP};

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

/// What one look at the completions brought.
#[derive(Clone, Copy, Debug, Default)]
struct Completed {
    all: usize,
    datagrams: usize,
}

impl UringReceiver {
    /// Makes the ring and its buffers; nothing is allocated later.
    ///
    /// # Errors
    /// The kernel's, when it has no io_uring, forbids it or is too old; see [`UringRefused`].
    pub fn new(sockets: Vec<BoundSocket>, config: &config::Receive) -> io::Result<Self> {
        let buffers = BufferRing::new(config)?;
        let requests = u32::try_from(sockets.len().max(1)).map_err(|_| too_many())?;
        // Every buffer can be in a completion, and every request can end, at the same time.
        let completions = u32::from(buffers.count()) + requests;
        let ring = build_ring(requests, completions)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
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
        BufferRing::memory_bytes(config)
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
        // Without the flag (6.15) an idle worker looks like a processor that waits for a disk.
        let flags = if self.ring.params().is_feature_no_iowait() {
            EnterFlags::NO_IOWAIT
        } else {
            EnterFlags::empty()
        };
        let submitter = self.ring.submitter();
        match submitter.submit_with_args_and_flags(1, &args, flags) {
            Ok(_) => Ok(()),
            // The timeout; or completions that have to be taken before there is place for more.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EBUSY)) => Ok(()),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands over what is complete, at most a burst.
    fn complete(&mut self, on_datagram: &mut impl FnMut(&Datagram<'_>)) -> io::Result<Completed> {
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
        let mut completed = Completed::default();
        let mut outcome = Ok(());
        for completion in ring.completion().take(*burst) {
            let index = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            let Some(UringSocket { socket, armed }) = sockets.get_mut(index) else {
                // Only a cancellation in `drop` has another number.
                continue;
            };
            *armed = cqueue::more(completion.flags());
            completed.all += 1;
            let filled = usize::try_from(completion.result());
            let buffer = Buffer::of(&completion);
            if let (Ok(filled), Some(buffer)) = (filled, buffer) {
                buffers.lend(buffer, filled, |bytes| {
                    hand_over(bytes, header, socket, received, on_datagram);
                });
                completed.datagrams += 1;
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
        outcome.map(|()| completed)
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
        for _ in 0..ROUNDS_MAX {
            let submit = self.arm();
            if submit || self.ring.completion().is_empty() {
                self.wait(timeout)?;
            }
            let completed = self.complete(on_datagram)?;
            // A request that ended for want of buffers, which are back by now, is no datagram and
            // no timeout either: the datagram is in the socket.
            if completed.datagrams > 0 || completed.all == 0 {
                break;
            }
        }
        Ok(())
    }

    fn shut(&mut self) {
        self.sockets.iter().for_each(|socket| socket.socket.shut());
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

/// Looks at the completions in one call that may bring no datagram before it gives up.
const ROUNDS_MAX: usize = 3;

/// For the kernel to take back a request.
const CANCEL_PATIENCE: Duration = Duration::from_millis(10);
const CANCEL_ROUNDS: usize = 20;

const PROBE: &[u8] = b"flowsluice";
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
const PROBE_ROUNDS: u32 = 10;
