//! Sends the simulated datagrams, each exporter from a socket of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::pace::Limits;
use super::{Simulator, Totals};
use crate::units::UnixNanos;

/// Why sending ended early.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No socket for an exporter.
    #[error(
        "no socket from {from} to {target} for exporter {exporter}: {error}; \
         with many exporters raise 'ulimit -n' or take fewer"
    )]
    Socket {
        /// Index of the exporter.
        exporter: usize,
        /// Its source address.
        from: IpAddr,
        /// Where it would send.
        target: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel refused a datagram for good.
    #[error("{target} cannot be sent to: {error}; check the route and the firewall")]
    Send {
        /// Where it would have gone.
        target: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
}

/// The exporters' sockets.
///
/// To the loopback address of IPv4 the exporters send from 127.1.0.1, 127.1.0.2 and so on, which
/// need no set-up; else they differ by their source port.
#[derive(Debug)]
pub struct Sender {
    target: SocketAddr,
    sockets: Vec<UdpSocket>,
    refused: u64,
}

impl Sender {
    /// Opens and connects a socket for each exporter.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub fn open(target: SocketAddr, exporters: usize) -> Result<Self, SendError> {
        let mut sender = Self::new(target);
        for exporter in 0..exporters {
            sender.add(exporter)?;
        }
        Ok(sender)
    }

    /// Without a socket yet.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            sockets: Vec::new(),
            refused: 0,
        }
    }

    /// Opens and connects one more socket, on the address of `exporter`, which may have others;
    /// returns the number to send with.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub fn add(&mut self, exporter: usize) -> Result<usize, SendError> {
        let target = self.target;
        let from = source_address(target.ip(), exporter);
        let socket = connect(from, target).map_err(|error| SendError::Socket {
            exporter,
            from,
            target,
            error,
        })?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }

    /// Datagrams that the target's host refused: nobody listened on the port.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Counts refusals that no later datagram of their socket has told of.
    pub fn count_refusals(&mut self) {
        for socket in &self.sockets {
            let waiting = socket.take_error().ok().flatten();
            self.refused += u64::from(waiting.is_some_and(|error| is_refusal(&error)));
        }
    }

    /// Sends one datagram by a socket.
    ///
    /// # Errors
    /// When the kernel does not take it, after waiting for room in its queues.
    pub fn send(&mut self, number: usize, payload: &[u8]) -> Result<(), SendError> {
        let socket = &self.sockets[number];
        let mut patience = SEND_ATTEMPTS;
        loop {
            let Err(error) = socket.send(payload) else {
                return Ok(());
            };
            patience -= 1;
            let is_queue_full = error.raw_os_error() == Some(libc::ENOBUFS);
            match error.kind() {
                _ if patience == 0 => {
                    let target = self.target;
                    return Err(SendError::Send { target, error });
                }
                // Tells of an earlier datagram of this socket; this one was not sent.
                _ if is_refusal(&error) => self.refused += 1,
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => thread::sleep(QUEUE_PAUSE),
                _ if is_queue_full => thread::sleep(QUEUE_PAUSE),
                _ => {
                    let target = self.target;
                    return Err(SendError::Send { target, error });
                }
            }
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// The address that an exporter sends from to `target`.
#[must_use]
pub fn source_address(target: IpAddr, exporter: usize) -> IpAddr {
    let number = exporter as u32 + 1;
    match target {
        IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::from_bits(LOOPBACK_FIRST + number).into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(v6) if v6.is_loopback() => v6.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn connect(from: IpAddr, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(target)?;
    Ok(socket)
}

/// Sends until a limit is reached or `stop` is set; calls `on_burst` behind each burst that was
/// sent. Yields how long it took.
///
/// # Errors
/// When a datagram cannot be sent.
pub fn run(
    simulator: &mut Simulator,
    sender: &mut Sender,
    limits: &Limits,
    stop: &AtomicBool,
    on_burst: &mut impl FnMut(Duration, &Totals),
) -> Result<Duration, SendError> {
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        let sent = simulator.totals().all.flows;
        if stop.load(Ordering::Relaxed) || limits.is_over(sent, elapsed) {
            return Ok(elapsed);
        }
        let due = limits.due(sent, elapsed);
        send_due(simulator, sender, limits, due)?;
        if due > 0 {
            on_burst(started.elapsed(), simulator.totals());
        }
        let pause = limits.pause(simulator.totals().all.flows, started.elapsed());
        // Short enough to notice `stop`.
        thread::sleep(pause.min(PAUSE_MAX));
    }
}

fn send_due(
    simulator: &mut Simulator,
    sender: &mut Sender,
    limits: &Limits,
    mut due: u64,
) -> Result<(), SendError> {
    let now = UnixNanos::now();
    while due > 0 {
        let left = limits.left(simulator.totals().all.flows);
        if left == 0 {
            break;
        }
        let flows_max = u32::try_from(left).unwrap_or(u32::MAX);
        let datagram = simulator.next_at_most(now, flows_max);
        sender.send(datagram.exporter, datagram.payload)?;
        due = due.saturating_sub(u64::from(datagram.flows));
    }
    Ok(())
}

/// 127.1.0.0
const LOOPBACK_FIRST: u32 = 0x7f01_0000;
const SEND_ATTEMPTS: u32 = 2_000;
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Settings;

    fn simulator(exporters: usize) -> Simulator {
        let settings = Settings {
            exporters,
            ..Settings::default()
        };
        Simulator::new(&settings, UnixNanos::now()).unwrap()
    }

    fn listener() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn ten_thousand_flows_a_second_are_kept_within_two_percent() {
        let (_socket, target) = listener();
        let mut simulator = simulator(4);
        let mut sender = Sender::open(target, 4).unwrap();
        let limits = Limits {
            rate: 10_000,
            duration: Some(Duration::from_secs(2)),
            flows: None,
        };
        let stop = AtomicBool::new(false);
        let mut told = 0;
        let elapsed = run(
            &mut simulator,
            &mut sender,
            &limits,
            &stop,
            &mut |_, totals| {
                assert!(totals.all.flows > told, "only bursts are told");
                told = totals.all.flows;
            },
        );
        let flows = simulator.totals().all.flows as f64;
        let rate = flows / elapsed.unwrap().as_secs_f64();
        assert!((9_800.0..10_200.0).contains(&rate), "{rate}");
        assert_eq!(told, simulator.totals().all.flows, "each burst is told");
    }

    #[test]
    fn each_exporter_sends_from_a_loopback_address_of_its_own() {
        let (socket, target) = listener();
        let mut sender = Sender::open(target, 300).unwrap();
        for (exporter, from) in [(0, "127.1.0.1"), (4, "127.1.0.5"), (299, "127.1.1.44")] {
            sender.send(exporter, &[1]).unwrap();
            let (_, source) = socket.recv_from(&mut [0; 10]).unwrap();
            assert_eq!(source.ip().to_string(), from);
        }
    }

    #[test]
    fn the_number_of_flows_is_met_exactly() {
        let (_socket, target) = listener();
        let mut simulator = simulator(4);
        let mut sender = Sender::open(target, 4).unwrap();
        let limits = Limits {
            flows: Some(1_001),
            ..Limits::default()
        };
        let stop = AtomicBool::new(false);
        run(&mut simulator, &mut sender, &limits, &stop, &mut |_, _| {}).unwrap();
        assert_eq!(simulator.totals().all.flows, 1_001);
    }

    #[test]
    fn a_port_without_listener_is_noticed() {
        let (socket, target) = listener();
        drop(socket);
        let mut sender = Sender::open(target, 1).unwrap();
        for _ in 0..10 {
            sender.send(0, &[1]).unwrap();
        }
        assert!(sender.refused() >= 5, "{}", sender.refused());
    }

    #[test]
    fn the_refusal_of_the_last_datagram_is_noticed() {
        let (socket, target) = listener();
        drop(socket);
        let mut sender = Sender::open(target, 1).unwrap();
        sender.send(0, &[1]).unwrap();
        assert_eq!(sender.refused(), 0);
        sender.count_refusals();
        assert_eq!(sender.refused(), 1);
    }
}
