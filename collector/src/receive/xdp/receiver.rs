//! Receives from AF_XDP sockets, and from the UDP sockets that get what the program passes on.
//!
//! A turn looks into the rings first, which costs no system call, and waits only when all of them
//! are empty. Rings and sockets take turns in who is served first; while the rings keep a worker
//! busy, a turn makes one system call for the sockets at most.

use std::io;
use std::time::{Duration, Instant};

use super::socket::XskSocket;
use super::umem::BadDescriptor;
use super::verify::{self, Malformed, Verified};
use crate::config;
use crate::receive::udp::UdpReceiver;
use crate::receive::{Datagram, Receive, datagram_max_bytes};
use crate::units::UnixNanos;

/// One worker's queues and sockets. Dropping it closes the sockets and unmaps their memory.
pub struct XdpReceiver {
    queues: Box<[Queue]>,
    /// The queue that is served first; it moves on, so that none starves behind a busy one.
    next: usize,
    sockets: UdpReceiver,
    /// The sockets are served before the queues; the other way round in the next turn.
    sockets_first: bool,
    /// Turns since the sockets were asked whether they have something.
    turns_unasked: u32,
    burst: usize,
    busy_poll: Duration,
    verify_checksum: bool,
    datagram_max: usize,
    frames_malformed: u64,
}

struct Queue {
    socket: XskSocket,
    /// Frames that the kernel dropped, when it was asked last.
    drops: u64,
}

impl XdpReceiver {
    /// Receives from these queues and sockets; nothing is allocated later.
    ///
    /// # Errors
    /// When the kernel does not tell what it dropped for a queue.
    pub fn new(
        queues: Vec<XskSocket>,
        mut sockets: UdpReceiver,
        config: &config::Receive,
    ) -> io::Result<Self> {
        sockets.watch(queues.iter().map(XskSocket::fd));
        let queues = queues.into_iter().map(Queue::new);
        Ok(Self {
            queues: queues.collect::<io::Result<_>>()?,
            next: 0,
            sockets,
            sockets_first: false,
            turns_unasked: 0,
            burst: config.burst.max(1),
            busy_poll: Duration::from_micros(config.xdp.busy_poll_us.into()),
            verify_checksum: config.xdp.verify_checksum,
            datagram_max: datagram_max_bytes(config),
            frames_malformed: 0,
        })
    }

    fn has_frames(&mut self) -> bool {
        (self.queues.iter_mut()).any(|queue| queue.socket.frames().arrived() > 0)
    }

    /// Waits until a queue or a socket has something. True when the sockets were asked.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        if !self.busy_poll.is_zero() && self.poll_cards(timeout.min(self.busy_poll)) {
            return Ok(false);
        }
        self.sockets.wait(timeout)?;
        Ok(true)
    }

    /// Has the cards looked at until they have frames. False when they have none for `patience`.
    fn poll_cards(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            for queue in &self.queues {
                queue.socket.wake();
            }
            if self.has_frames() {
                return true;
            }
            if begun.elapsed() >= patience {
                return false;
            }
        }
    }

    /// Hands over what the queues have, at most `limit` frames. Returns how many there were.
    fn take_frames(
        &mut self,
        limit: usize,
        received: UnixNanos,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<usize> {
        let &mut Self {
            ref mut queues,
            ref mut next,
            ref mut frames_malformed,
            verify_checksum,
            datagram_max,
            ..
        } = self;
        let mut on_frame = |outcome: Result<Verified<'_>, Malformed>| {
            let Ok(Verified {
                source,
                source_port,
                local_port,
                payload,
            }) = outcome
            else {
                *frames_malformed += 1;
                return;
            };
            on_datagram(&Datagram {
                source,
                source_port,
                local_port,
                received,
                payload,
                // So that a datagram fares alike whichever way it came.
                cut: payload.len() > datagram_max,
            });
        };
        let count = queues.len();
        let first = *next;
        let mut left = limit;
        for turn in 0..count {
            if left == 0 {
                break;
            }
            let index = (first + turn) % count;
            let taken = queues[index].take(left, verify_checksum, &mut on_frame);
            let taken = taken.map_err(io::Error::other)?;
            if taken > 0 {
                *next = (index + 1) % count;
            }
            left -= taken;
        }
        Ok(limit - left)
    }
}

impl Receive for XdpReceiver {
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        let waited = !self.has_frames() && self.wait(timeout)?;
        let asks = !waited && self.turns_unasked >= TURNS_UNASKED_MAX;
        if asks {
            self.sockets.wait(Duration::ZERO)?;
        }
        let asked = waited || asks;
        self.turns_unasked = if asked { 0 } else { self.turns_unasked + 1 };
        // A worker that waited may look into every socket; a busy one makes one call a turn.
        let calls = if waited {
            usize::MAX
        } else {
            usize::from(!asks)
        };
        let received = UnixNanos::now();
        let mut left = self.burst;
        if self.sockets_first {
            left -= self
                .sockets
                .take_ready(left, calls, received, on_datagram)?;
            self.take_frames(left, received, on_datagram)?;
        } else {
            left -= self.take_frames(left, received, on_datagram)?;
            self.sockets
                .take_ready(left, calls, received, on_datagram)?;
        }
        self.sockets_first = !self.sockets_first;
        Ok(())
    }

    /// What the program redirects still comes until its links are gone.
    fn shut(&mut self) {
        self.sockets.shut();
    }

    fn kernel_drops(&mut self) -> u64 {
        let queues = self.queues.iter_mut().map(Queue::kernel_drops);
        queues.sum::<u64>() + self.sockets.kernel_drops()
    }

    fn frames_malformed(&self) -> u64 {
        self.frames_malformed
    }
}

impl Queue {
    fn new(socket: XskSocket) -> io::Result<Self> {
        let drops = socket.statistics()?.frames_lost();
        Ok(Self { socket, drops })
    }

    /// Hands over what has arrived, at most `limit` frames, and gives the frames back. Returns how
    /// many there were.
    #[inline]
    fn take(
        &mut self,
        limit: usize,
        verify_checksum: bool,
        on_frame: &mut impl FnMut(Result<Verified<'_>, Malformed>),
    ) -> Result<usize, BadDescriptor> {
        let frames = self.socket.frames();
        let arrived = limit.min(frames.arrived() as usize);
        if arrived == 0 {
            return Ok(0);
        }
        for _ in 0..arrived {
            let Some(frame) = frames.take()? else { break };
            on_frame(verify::datagram(frames.bytes(&frame), verify_checksum));
            frames.give_back(frame);
        }
        frames.publish();
        if frames.needs_wakeup() {
            self.socket.wake();
        }
        Ok(arrived)
    }

    fn kernel_drops(&mut self) -> u64 {
        // The kernel's count only grows; where it cannot be read, what was read before stays.
        if let Ok(statistics) = self.socket.statistics() {
            self.drops = self.drops.max(statistics.frames_lost());
        }
        self.drops
    }
}

/// Turns of a worker kept busy by frames after which it asks the sockets, which hold some
/// thousand datagrams meanwhile.
const TURNS_UNASKED_MAX: u32 = 8;
