//! Where datagrams come from: frames that the kernel makes, or a socket.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice::generate::pace::Limits;
use flowsluice::receive::affinity;
use flowsluice_tests::namespace::Veth;
use flowsluice_tests::packet::{self, Between};

use super::kernel::Redirect;
use super::pair::{Pair, receiver_address, sender_address};
use crate::cpu;
use crate::sender::{Loop, Sent};
use crate::streams::Stream;

/// How datagrams are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the kernel, as frames without socket buffers.
    Frames,
    /// By a program, one system call each.
    Socket,
}

/// An exporter in the sender's namespace, on the processor that no worker is pinned to.
#[derive(Debug)]
pub struct Source<'a> {
    pair: &'a Pair,
    /// Sends the announcements, and all datagrams of a [`Kind::Socket`].
    socket: Loop,
    frames: Option<Frames>,
}

#[derive(Debug)]
struct Frames {
    program: Redirect,
    frames: Vec<Vec<u8>>,
    next: usize,
    flows_each: u64,
    total: Sent,
}

impl<'a> Source<'a> {
    /// Opens it and sends the announcements of `stream` to `port`.
    ///
    /// # Errors
    /// When sockets or the program that makes frames cannot be had, or a datagram is not taken.
    pub fn open(pair: &'a Pair, kind: Kind, stream: &Stream, port: u16) -> Result<Self> {
        let target = SocketAddr::new(receiver_address(), port);
        let (socket, frames) = pair.at_sender(|| {
            let mut socket = Loop::open(stream, target)?;
            socket.announce()?;
            let frames = match kind {
                Kind::Frames => Some(Frames::new(pair.sender_index, stream, port)?),
                Kind::Socket => None,
            };
            Ok((socket, frames))
        })?;
        Ok(Self {
            pair,
            socket,
            frames,
        })
    }

    /// Everything that was sent so far, the announcements included.
    #[must_use]
    pub fn total(&self) -> Sent {
        let (mut total, frames) = (self.socket.total(), self.frames.as_ref());
        if let Some(Frames { total: more, .. }) = frames {
            total.datagrams += more.datagrams;
            total.flows += more.flows;
        }
        total
    }

    /// Sends so many datagrams a second for so long.
    ///
    /// # Errors
    /// When the kernel does not take them.
    pub fn send(&mut self, rate: u64, duration: Duration) -> Result<Sent> {
        let Self {
            pair,
            socket,
            frames,
        } = self;
        pair.at_sender(|| {
            // Beside the worker: by default that has the last processor.
            let first = affinity::available().first().map_or(0, |cpu| cpu.id);
            ensure!(affinity::pin(first), "cannot pin the sender to cpu {first}");
            match frames {
                Some(frames) => frames.send(rate, duration),
                None => {
                    // The loop counts in flows.
                    let flows = rate as f64 * socket.flows_a_datagram();
                    socket.send(flows as u64, duration)
                }
            }
        })
    }
}

impl Frames {
    /// Some full data datagrams of `stream` as frames.
    fn new(interface: u32, stream: &Stream, port: u16) -> Result<Self> {
        let (announcements, exported) = stream.exported();
        let data: Vec<_> = exported.skip(announcements).collect();
        let flows = data.iter().map(|datagram| datagram.flows).max();
        let flows = flows.context("the stream has no data")?;
        let full = data.iter().filter(|datagram| datagram.flows == flows);
        let frames = full
            .take(FRAMES)
            .map(|datagram| frame(datagram.payload, port));
        Ok(Self {
            program: Redirect::load(interface).context("load the program that sends frames")?,
            frames: frames.collect::<Result<_>>()?,
            next: 0,
            flows_each: flows.into(),
            total: Sent::default(),
        })
    }

    fn send(&mut self, rate: u64, duration: Duration) -> Result<Sent> {
        // In frames, where others count flows.
        let limits = Limits {
            rate,
            duration: Some(duration),
            flows: None,
        };
        let (cpu, started) = (cpu::of_this_thread(), Instant::now());
        let mut sent = 0;
        loop {
            let elapsed = started.elapsed();
            if limits.is_over(sent, elapsed) {
                break;
            }
            let mut due = limits.due(sent, elapsed);
            while due > 0 {
                let times = due.min(FRAMES_A_CALL);
                let frame = &self.frames[self.next];
                self.next = (self.next + 1) % self.frames.len();
                let run = self.program.run(frame, times as u32);
                run.context("run the program that sends frames")?;
                sent += times;
                due -= times;
            }
            let pause = limits.pause(sent, started.elapsed());
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
        let sent = Sent {
            datagrams: sent,
            flows: sent * self.flows_each,
            elapsed_s: started.elapsed().as_secs_f64(),
            cpu_s: (cpu::of_this_thread() - cpu).as_secs_f64(),
        };
        self.total.datagrams += sent.datagrams;
        self.total.flows += sent.flows;
        Ok(sent)
    }
}

/// With headers and checksums as an exporter's network card would send them.
fn frame(payload: &[u8], port: u16) -> Result<Vec<u8>> {
    let from = SocketAddr::new(sender_address(), EXPORTER_PORT);
    let to = SocketAddr::new(receiver_address(), port);
    let packet = packet::udp(from, to, Between::Nothing, payload)?;
    Ok(packet::frame(Veth::COLLECTOR_MAC, &[], &packet))
}

/// Frames that are sent in turn.
const FRAMES: usize = 16;
/// Before the next one's turn comes.
const FRAMES_A_CALL: u64 = 256;
const EXPORTER_PORT: u16 = 50_000;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use flowsluice::generate::Protocols;
    use flowsluice::units::UnixNanos;
    use flowsluice_tests::place;

    use super::*;
    use crate::streams::Recipe;

    #[test]
    fn frames_and_datagrams_of_a_socket_arrive_whole_and_as_often_as_counted() {
        if !rustix::process::geteuid().is_root() || place::program("ethtool").is_none() {
            place::skip("network namespaces need root, 'ip' and 'ethtool'");
            return;
        }
        let recipe = Recipe {
            protocols: Protocols::Netflow9,
            exporters: 1,
            ipv6: 0.0,
            bytes: 100 << 10,
            ..Recipe::default()
        };
        let stream = Stream::new(&recipe, UnixNanos::now()).unwrap();
        let (_, exported) = stream.exported();
        let payloads: Vec<_> = exported.map(|datagram| datagram.payload).collect();
        let pair = Pair::new().unwrap();
        let bind = || Ok(UdpSocket::bind((receiver_address(), 0))?);
        for kind in [Kind::Frames, Kind::Socket] {
            let socket = pair.at_receiver(bind).unwrap();
            // The last frames may still be on their way through the receiving side's softirq.
            let patience = Some(Duration::from_millis(500));
            socket.set_read_timeout(patience).unwrap();
            let port = socket.local_addr().unwrap().port();
            let mut source = Source::open(&pair, kind, &stream, port).unwrap();
            // A frame takes a page of the default receive buffer, which holds 50 of them.
            let sent = source.send(500, Duration::from_millis(50)).unwrap();
            assert!((20..=30).contains(&sent.datagrams), "{kind:?}: {sent:?}");
            let (mut taken, mut buffer) = (0, [0; 2000]);
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                assert_eq!(from.ip(), sender_address());
                // Behind the header, in which a socket's loop sets time and sequence.
                let records = &buffer[20..length];
                assert!(payloads.iter().any(|payload| &payload[20..] == records));
                taken += 1;
            }
            assert_eq!(taken, source.total().datagrams, "{kind:?}");
        }
    }
}
