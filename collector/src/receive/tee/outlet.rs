//! The way to one other collector.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{info, warn};

use crate::config;
use crate::receive::packet;

/// A name without an address is looked up again, and what goes wrong told again, after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often the kernel is waited for when its queue is full, a millisecond each, for one burst.
const WAITS_MAX: u32 = 50;
/// Bytes that the kernel holds for a slow card.
const SEND_BUFFER: usize = 4 << 20;

/// Where copies go, and by which sockets.
#[derive(Debug)]
pub(super) struct Outlet {
    to: String,
    raw: Vec<Raw>,
    way: Option<Way>,
    /// When the name was looked up last.
    looked_up: Option<Instant>,
    /// When something that went wrong was told last.
    told: Option<Instant>,
}

/// A socket whose packets bring their own IP header, not connected yet.
#[derive(Debug)]
struct Raw {
    domain: Domain,
    socket: Socket,
}

/// Sockets that are connected to the target.
#[derive(Debug)]
struct Way {
    to: SocketAddr,
    own: UdpSocket,
    /// To send from exporters' addresses of the target's family.
    raw: Option<Socket>,
}

impl Outlet {
    /// Opens what needs capabilities; the rest follows with the first copy.
    pub(super) fn open(config: &config::Tee) -> Self {
        let mut raw = Vec::new();
        if config.keep_source {
            for domain in [Domain::IPV4, Domain::IPV6] {
                let protocol = Protocol::from(libc::IPPROTO_RAW);
                match Socket::new(domain, Type::RAW, Some(protocol)) {
                    Ok(socket) => raw.push(Raw { domain, socket }),
                    Err(error) => warn!(
                        to = config.to,
                        %error,
                        "receive.tee: keep_source needs CAP_NET_RAW; datagrams come from this \
                         host's own address; grant it, or remove keep_source"
                    ),
                }
            }
        }
        Self {
            to: config.to.clone(),
            raw,
            way: None,
            looked_up: None,
            told: None,
        }
    }

    /// Sends `copies`, each as it came from its source; yields how many the kernel took.
    pub(super) fn send(&mut self, copies: &[(SocketAddr, &[u8])]) -> usize {
        if copies.is_empty() {
            return 0;
        }
        self.find();
        let Some(way) = &self.way else {
            return 0;
        };
        let mut own = Vec::with_capacity(copies.len());
        let mut packets = Vec::new();
        for (source, payload) in copies {
            let mut built = Vec::with_capacity(payload.len() + 48);
            match way.raw.is_some() && packet::write(*source, way.to, payload, &mut built) {
                true => packets.push(built),
                false => own.push(*payload),
            }
        }
        let (mut sent, mut fault) = send_all(way.own.as_fd(), &own);
        if let Some(raw) = &way.raw {
            let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let (of_raw, more) = send_all(raw.as_fd(), &packets);
            sent += of_raw;
            fault = fault.or(more);
        }
        if let Some(error) = fault {
            self.tell(&error.desc());
        }
        sent
    }

    /// Looks the target up, once it is found never again.
    fn find(&mut self) {
        let is_recent = self.looked_up.is_some_and(|at| at.elapsed() < AGAIN_AFTER);
        if self.way.is_some() || is_recent {
            return;
        }
        self.looked_up = Some(Instant::now());
        let found = self.to.to_socket_addrs().and_then(|mut found| {
            let none = || io::Error::other("the name has no address");
            let to = found.next().ok_or_else(none)?;
            let raw = self
                .raw
                .iter()
                .find(|raw| raw.domain == Domain::for_address(to));
            Way::open(to, raw.map(|raw| &raw.socket))
        });
        match found {
            Ok(way) => {
                info!(to = self.to, address = %way.to, "receive.tee: datagrams are forwarded");
                self.way = Some(way);
            }
            Err(error) => self.tell(&error),
        }
    }

    fn tell(&mut self, error: &dyn std::fmt::Display) {
        if self.told.is_none_or(|told| told.elapsed() >= AGAIN_AFTER) {
            self.told = Some(Instant::now());
            warn!(
                to = self.to,
                %error,
                "receive.tee: datagrams are not forwarded, counted in \
                 flowsluice_tee_datagrams_dropped"
            );
        }
    }
}

impl Way {
    fn open(to: SocketAddr, raw: Option<&Socket>) -> io::Result<Self> {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let own = UdpSocket::bind(any)?;
        own.connect(to)?;
        let raw = raw.map(|raw| {
            let raw = raw.try_clone()?;
            // Such sockets know no ports.
            raw.connect(&SocketAddr::new(to.ip(), 0).into())?;
            Ok::<_, io::Error>(raw)
        });
        let raw = raw.transpose()?;
        // The kernel gives what it may.
        let _ = socket2::SockRef::from(&own).set_send_buffer_size(SEND_BUFFER);
        if let Some(raw) = &raw {
            let _ = raw.set_send_buffer_size(SEND_BUFFER);
        }
        Ok(Self { to, own, raw })
    }
}

/// Sends what the kernel takes; yields how many that are, and a reason why others are not.
fn send_all(socket: BorrowedFd<'_>, payloads: &[&[u8]]) -> (usize, Option<Errno>) {
    let (mut at, mut sent, mut fault, mut waits) = (0, 0, None, 0);
    while at < payloads.len() {
        match send_some(socket, &payloads[at..]) {
            Ok(taken) => {
                at += taken;
                sent += taken;
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) if waits < WAITS_MAX => {
                waits += 1;
                thread::sleep(Duration::from_millis(1));
            }
            // It is of the first of them, or tells that an earlier one met nobody.
            Err(error) => {
                at += 1;
                fault = Some(error);
            }
        }
    }
    (sent, fault)
}

/// One system call.
fn send_some(socket: BorrowedFd<'_>, payloads: &[&[u8]]) -> nix::Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> = payloads
        .iter()
        .map(|payload| [IoSlice::new(payload)])
        .collect();
    // The socket is connected.
    let nowhere: Vec<Option<()>> = vec![None; slices.len()];
    let nothing: [ControlMessage<'_>; 0] = [];
    let mut headers = MultiHeaders::preallocate(slices.len(), None);
    let flags = MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    let results = sendmmsg(fd, &mut headers, &slices, nowhere, nothing, flags)?;
    Ok(results.count())
}
