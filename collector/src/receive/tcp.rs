//! IPFIX over TCP (RFC 7011 section 10.4): a connection is a transport session.
//!
//! In: byte streams of connections. Out: each whole message as one datagram, by callback, borrowed
//! from the connection's buffer; when a session has ended, that too. Owner: one thread beside the
//! workers, with a [`Worker`](crate::worker::Worker) of its own. All sockets are non-blocking and
//! each ready connection is read once a turn, so a peer that is slow, or silent, or never stops,
//! holds up nobody. It allocates only when a connection is accepted.
//! Drops: `stream_malformed`, `exporter_not_allowed`.

mod framing;

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use thiserror::Error;

use super::allow::{AllowList, Followed};
use super::sockets::{BindError, Transport, address_to_bind, has_ipv6, set_only_v6};
use super::{Connections, Datagram, Receive, Session, is_transient};
use crate::config;
use crate::units::UnixNanos;

pub use framing::{BUFFER_BYTES, Framing, StreamState};

/// Receives from all connections to all listeners of `receive.tcp`.
pub struct TcpReceiver {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    /// By the token that epoll returns.
    slots: Vec<Option<Connection>>,
    /// Of what was ready at the last wait.
    tokens: Vec<u64>,
    allowed: Followed,
    idle_max: Duration,
    idle_searched: Instant,
    ended: Vec<Session>,
    counts: Connections,
}

/// Why there is no receiver.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The kernel gives no way to wait for several connections.
    #[error("receive.tcp: the kernel refuses epoll: {0}; remove receive.tcp.listeners")]
    Epoll(#[source] io::Error),
}

/// One transport session.
struct Connection {
    stream: TcpStream,
    session: Session,
    /// TCP port that it came to.
    local_port: u16,
    /// When its last whole message arrived, or it was accepted.
    progress: Instant,
    framing: Framing,
}

impl TcpReceiver {
    /// Binds every listener of `config.tcp`, for peers that `allow` has when they connect; `None`
    /// when there is none.
    ///
    /// # Errors
    /// When a listener cannot be bound, or the kernel has no epoll.
    pub fn open(
        config: &config::Receive,
        allow: &Arc<AllowList>,
    ) -> Result<Option<Self>, OpenError> {
        let config::Tcp {
            listeners,
            connections_max,
            idle_max,
        } = &config.tcp;
        if listeners.is_empty() {
            return Ok(None);
        }
        let has_ipv6 = has_ipv6();
        let listeners = listeners
            .iter()
            .map(|config::TcpListener { address, port }| {
                let address = address_to_bind(*address, *port, has_ipv6);
                bind(address).map_err(|error| BindError::new(Transport::Tcp, address, &error))
            });
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let epoll = watch(&listeners).map_err(OpenError::Epoll)?;
        Ok(Some(Self {
            epoll,
            listeners,
            slots: (0..*connections_max).map(|_| None).collect(),
            tokens: Vec::with_capacity(EVENTS_MAX),
            allowed: Followed::new(allow),
            idle_max: *idle_max,
            idle_searched: Instant::now(),
            ended: Vec::new(),
            counts: Connections::default(),
        }))
    }

    /// The listeners' addresses as bound, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.listeners.iter();
        bound.filter_map(|l| l.local_addr().ok()).collect()
    }

    /// Waits for connections, and for bytes of those that there are.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.allowed.refresh();
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        self.tokens.clear();
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        match epoll::wait(&self.epoll, &mut buffer, Some(&timeout)) {
            Ok((events, _)) => {
                let tokens = events.iter().map(|event| event.data.u64());
                self.tokens.extend(tokens);
                Ok(())
            }
            Err(error) if is_transient(&error.into()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the connection in `slot` once and hands its whole messages over.
    fn read(
        &mut self,
        slot: usize,
        received: UnixNanos,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) {
        // One event may follow another that closed the connection.
        let Some(Some(connection)) = self.slots.get_mut(slot) else {
            return;
        };
        let state = connection.read(received, on_datagram);
        if state != StreamState::Open {
            self.close(slot, state);
        }
    }

    fn close(&mut self, slot: usize, state: StreamState) {
        // Dropped, it leaves epoll as well: nobody else holds its descriptor.
        if let Some(connection) = self.slots.get_mut(slot).and_then(Option::take) {
            self.ended.push(connection.session);
            self.counts.closed += 1;
            self.counts.malformed += u64::from(state == StreamState::Malformed);
        }
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_MAX {
            let Some(socket) = self.listeners.get(listener) else {
                return;
            };
            match socket.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if is_transient(&error) => return,
                Err(_) => {
                    // No descriptor is left, say: the listener stays ready, so without a pause
                    // this would be tried without end.
                    std::thread::sleep(ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// Gives a new connection a place; one that gets none is closed by being dropped.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let session = Session {
            source: peer.ip().to_canonical(),
            source_port: peer.port(),
        };
        if !self.allowed.contains(session.source) {
            self.counts.not_allowed += 1;
            return;
        }
        let free = self.place_for(&session);
        let opened = free.and_then(|slot| Some((slot, Connection::new(stream, session).ok()?)));
        let Some((slot, connection)) = opened else {
            self.counts.refused += 1;
            return;
        };
        let data = EventData::new_u64(slot as u64);
        if epoll::add(&self.epoll, &connection.stream, data, EventFlags::IN).is_err() {
            self.counts.refused += 1;
            return;
        }
        self.counts.accepted += 1;
        self.slots[slot] = Some(connection);
    }

    /// A free slot, if `session` may have it: not when its source has its share, nor when the same
    /// address and port are connected to another listener, since they name the session.
    fn place_for(&self, session: &Session) -> Option<usize> {
        let taken = self.slots.iter().flatten().map(|c| &c.session);
        let of_source = taken.filter(|other| other.source == session.source);
        let (mut count, mut is_known) = (0, false);
        for other in of_source {
            count += 1;
            is_known |= other.source_port == session.source_port;
        }
        let share = (self.slots.len() / SOURCE_SHARE).max(SOURCE_AT_LEAST);
        if is_known || count >= share {
            return None;
        }
        self.slots.iter().position(Option::is_none)
    }

    /// Closes what has made no progress for too long; looks once a second.
    fn close_idle(&mut self, now: Instant) {
        if now.duration_since(self.idle_searched) < Duration::from_secs(1) {
            return;
        }
        self.idle_searched = now;
        for slot in 0..self.slots.len() {
            let state = match &self.slots[slot] {
                Some(c) if now.duration_since(c.progress) >= self.idle_max => c.framing.end(),
                _ => continue,
            };
            self.close(slot, state);
        }
    }
}

impl Receive for TcpReceiver {
    fn receive(
        &mut self,
        timeout: Duration,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> io::Result<()> {
        self.wait(timeout)?;
        let received = UnixNanos::now();
        // New connections come last, so that a slot has one connection for a whole turn.
        for index in 0..self.tokens.len() {
            let token = self.tokens[index];
            if token & LISTENER == 0 {
                self.read(token as usize, received, on_datagram);
            }
        }
        for index in 0..self.tokens.len() {
            let token = self.tokens[index];
            if token & LISTENER != 0 {
                self.accept((token & !LISTENER) as usize);
            }
        }
        self.close_idle(Instant::now());
        Ok(())
    }

    fn kernel_drops(&mut self) -> u64 {
        0
    }

    fn session_ended(&mut self) -> Option<Session> {
        self.ended.pop()
    }

    fn connections(&self) -> Connections {
        self.counts
    }
}

impl Connection {
    fn new(stream: TcpStream, session: Session) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // An exporter that lost power says no farewell.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self {
            local_port: stream.local_addr()?.port(),
            stream,
            session,
            progress: Instant::now(),
            framing: Framing::default(),
        })
    }

    fn read(
        &mut self,
        received: UnixNanos,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> StreamState {
        let Self {
            stream,
            session,
            local_port,
            progress,
            framing,
        } = self;
        match stream.read(framing.room()) {
            Ok(0) => framing.end(),
            Ok(bytes) => {
                let (messages, state) = framing.take(bytes, |payload| {
                    on_datagram(&Datagram {
                        source: session.source,
                        source_port: session.source_port,
                        local_port: *local_port,
                        received,
                        payload,
                        cut: false,
                    });
                });
                if messages > 0 {
                    *progress = Instant::now();
                }
                state
            }
            Err(error) if is_transient(&error) => StreamState::Open,
            Err(_) => framing.end(),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    set_only_v6(&socket, address)?;
    // Else the port could not be had for a minute after a restart.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn watch(listeners: &[TcpListener]) -> io::Result<OwnedFd> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, listener) in listeners.iter().enumerate() {
        let data = EventData::new_u64(LISTENER | index as u64);
        epoll::add(&epoll, listener, data, EventFlags::IN)?;
    }
    Ok(epoll)
}

/// In the token of a listener, whose lower bits are its index.
const LISTENER: u64 = 1 << 32;

/// Ready descriptors taken in one turn; the kernel offers the others in the next.
const EVENTS_MAX: usize = 64;

/// Connections accepted of a listener in one turn.
const ACCEPTS_MAX: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// One source address may have such a part of the connections.
const SOURCE_SHARE: usize = 16;
const SOURCE_AT_LEAST: usize = 8;
