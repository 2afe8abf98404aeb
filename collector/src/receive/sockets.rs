//! The UDP sockets: one a listener and worker, all workers' sockets of a listener on one port.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::kernel;
use crate::config;

/// What the workers' sockets are bound to. Made once at start; every worker then takes its own
/// sockets from it.
#[derive(Debug)]
pub struct Plan {
    addresses: Vec<SocketAddr>,
    buffer_bytes: usize,
    buffer_capped: Option<BufferCapped>,
    /// The sockets that claimed the ports, for the worker that asks first.
    first: Option<Vec<BoundSocket>>,
}

impl Plan {
    /// Claims every listener's port. A port 0 is settled here, for all workers alike; where the
    /// machine has no IPv6, `::` becomes `0.0.0.0`, with a warning.
    ///
    /// # Errors
    /// When a listener cannot be bound, among other reasons because another program has its port.
    pub fn new(config: &config::Receive) -> Result<Self, BindError> {
        let has_ipv6 = has_ipv6();
        let mut plan = Self {
            addresses: config
                .listeners
                .iter()
                .map(|l| address_to_bind(l.address, l.port, has_ipv6))
                .collect(),
            buffer_bytes: socket_buffer_bytes(config),
            buffer_capped: None,
            first: None,
        };
        if !has_ipv6 && config.listeners.iter().any(|l| l.address.is_ipv6()) {
            warn!(
                requested = "::",
                actual = "0.0.0.0",
                "this machine has no IPv6"
            );
        }
        for address in plan.addresses.iter().filter(|a| a.port() != 0) {
            claim_alone(*address)?;
        }
        let first = plan.bind_all()?;
        plan.addresses = first.iter().map(|socket| socket.local).collect();
        plan.buffer_capped = first
            .iter()
            .map(|socket| socket.buffer_granted)
            .min()
            .and_then(|granted| BufferCapped::of(plan.buffer_bytes, granted));
        if let Some(capped) = plan.buffer_capped {
            warn!(
                requested_bytes = capped.requested_bytes,
                granted_bytes = capped.granted_bytes,
                "{capped}"
            );
        }
        plan.first = Some(first);
        Ok(plan)
    }

    /// The listeners' addresses as bound, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The receive buffer is smaller than configured.
    #[must_use]
    pub fn buffer_capped(&self) -> Option<BufferCapped> {
        self.buffer_capped
    }

    /// The sockets of one more worker, in the order of the listeners. The kernel spreads exporters
    /// over all workers' sockets by a hash of addresses and ports.
    ///
    /// # Errors
    /// When a socket cannot be made or bound.
    pub fn sockets(&mut self) -> Result<Vec<BoundSocket>, BindError> {
        match self.first.take() {
            Some(sockets) => Ok(sockets),
            None => self.bind_all(),
        }
    }

    fn bind_all(&self) -> Result<Vec<BoundSocket>, BindError> {
        self.addresses
            .iter()
            .map(|address| BoundSocket::bind(*address, self.buffer_bytes))
            .collect()
    }
}

/// One worker's socket of one listener.
#[derive(Debug)]
pub struct BoundSocket {
    socket: Socket,
    local: SocketAddr,
    buffer_granted: usize,
    drops: DropCounter,
}

impl BoundSocket {
    fn bind(address: SocketAddr, buffer_bytes: usize) -> Result<Self, BindError> {
        let open = || -> io::Result<Self> {
            let socket = open(address)?;
            let buffer_granted = set_buffer(&socket, buffer_bytes)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            let local = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok(Self {
                socket,
                local,
                buffer_granted,
                drops: DropCounter::default(),
            })
        };
        open().map_err(|error| BindError::new(Transport::Udp, address, &error))
    }

    /// The address as bound.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// SO_RCVBUF in the unit it is asked for in, bytes: half of what the kernel then uses.
    #[must_use]
    pub fn buffer_granted(&self) -> usize {
        self.buffer_granted
    }

    /// Datagrams that the kernel dropped for this socket since it was opened; one system call.
    pub fn kernel_drops(&mut self) -> u64 {
        // Kernels before 4.12 cannot say; they have no io_uring to speak of either.
        if let Ok(now) = kernel::drops(self.socket.as_fd()) {
            self.drops.advance(now);
        }
        self.drops.total
    }

    /// Lets nothing more in: what comes from now on finds no socket and is answered so, as when
    /// nobody listens. What came before stays to be read.
    ///
    /// The socket is connected to itself, so that the kernel takes it for nobody else's. Where it
    /// cannot be (no loopback in this namespace), it stays open.
    pub(super) fn shut(&self) {
        let mut own = self.local;
        if own.ip().is_unspecified() {
            own.set_ip(match own {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let _ = self.socket.connect(&own.into());
    }

    /// Lets datagrams come merged; whoever reads the socket has to take them apart.
    pub(super) fn merge_datagrams(&self) -> io::Result<()> {
        kernel::merge_datagrams(self.socket.as_fd())
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Makes a 64-bit count of one that wraps at 2^32.
#[derive(Clone, Copy, Debug, Default)]
struct DropCounter {
    last: u32,
    total: u64,
}

impl DropCounter {
    fn advance(&mut self, now: u32) {
        self.total += u64::from(now.wrapping_sub(self.last));
        self.last = now;
    }
}

/// The kernel caps socket buffers below what is configured; bursts will be lost sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferCapped {
    /// `receive.socket_buffer` in bytes.
    pub requested_bytes: usize,
    /// What each socket got, in the same unit.
    pub granted_bytes: usize,
}

impl BufferCapped {
    fn of(requested_bytes: usize, granted_bytes: usize) -> Option<Self> {
        (granted_bytes < requested_bytes).then_some(Self {
            requested_bytes,
            granted_bytes,
        })
    }

    /// What a socket of this process would get now, without binding one.
    ///
    /// # Errors
    /// When not even an unbound socket can be made.
    pub fn probe(config: &config::Receive) -> io::Result<Option<Self>> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let requested_bytes = socket_buffer_bytes(config);
        let granted_bytes = set_buffer(&socket, requested_bytes)?;
        Ok(Self::of(requested_bytes, granted_bytes))
    }
}

impl fmt::Display for BufferCapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requested_bytes,
            granted_bytes,
        } = self;
        write!(
            f,
            "receive.socket_buffer: the kernel caps {requested_bytes} bytes at {granted_bytes}; \
             run 'sysctl -w net.core.rmem_max={requested_bytes}' or lower receive.socket_buffer"
        )
    }
}

/// What a listener listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// Why a listener could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindError {
    /// By UDP or TCP.
    pub transport: Transport,
    /// The address that was to be bound.
    pub address: SocketAddr,
    /// The system's error number; 0 where it gave none.
    pub errno: i32,
}

impl BindError {
    #[cold]
    pub(super) fn new(transport: Transport, address: SocketAddr, error: &io::Error) -> Self {
        Self {
            transport,
            address,
            errno: error.raw_os_error().unwrap_or(0),
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transport,
            address,
            errno,
        } = *self;
        let port = address.port();
        let (name, flag, key) = match transport {
            Transport::Udp => ("UDP", 'u', "receive.listeners"),
            Transport::Tcp => ("TCP", 't', "receive.tcp.listeners"),
        };
        write!(f, "receive: cannot listen on {name} {address}: ")?;
        match errno {
            libc::EADDRINUSE => write!(
                f,
                "another program has the port (EADDRINUSE); see which by \
                 'ss -l{flag}np 'sport = :{port}'', stop it or change {key}"
            ),
            libc::EACCES | libc::EPERM => write!(
                f,
                "the system forbids port {port} to this user (EACCES); take a port of 1024 or \
                 more, or give the program CAP_NET_BIND_SERVICE"
            ),
            libc::EADDRNOTAVAIL => write!(
                f,
                "no interface has this address (EADDRNOTAVAIL); see 'ip address' and change {key}"
            ),
            libc::EAFNOSUPPORT => write!(
                f,
                "IPv6 is switched off on this machine (EAFNOSUPPORT); listen on an IPv4 address \
                 or on ::"
            ),
            libc::EMFILE | libc::ENFILE => write!(
                f,
                "no file descriptor is left; raise the limit ('ulimit -n', LimitNOFILE)"
            ),
            _ => write!(f, "{}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for BindError {}

/// The address and port in a socket address as the kernel writes it, at most as long as `name`.
/// IPv4 comes out plain even from an IPv6 socket. `None` when it is neither IPv4 nor IPv6.
#[inline]
pub(super) fn peer(name: &[u8]) -> Option<(IpAddr, u16)> {
    // struct sockaddr_in: family, port, address; sockaddr_in6: family, port, flow label, address.
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let address = match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
        libc::AF_INET6 => {
            let (_flow_label, rest) = rest.split_first_chunk::<4>()?;
            IpAddr::V6(Ipv6Addr::from(*rest.first_chunk::<16>()?)).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_be_bytes(*port)))
}

/// Length of a `sockaddr_in6`, the longest address that a socket of ours reports.
pub(super) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

pub(super) fn address_to_bind(address: IpAddr, port: u16, has_ipv6: bool) -> SocketAddr {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let address = if address == any && !has_ipv6 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        address
    };
    SocketAddr::new(address, port)
}

pub(super) fn has_ipv6() -> bool {
    let made = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP));
    !matches!(made, Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT))
}

/// Binds `address` without SO_REUSEPORT and lets go again. With it, the kernel would let a second
/// collector of the same user join the port, and each would silently get a part of the datagrams.
fn claim_alone(address: SocketAddr) -> Result<(), BindError> {
    open(address)
        .and_then(|socket| socket.bind(&address.into()))
        .map_err(|error| BindError::new(Transport::Udp, address, &error))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    set_only_v6(&socket, address)?;
    Ok(socket)
}

/// `::` takes IPv4, too, whatever the default is (net.ipv6.bindv6only); an IPv6 address does not.
pub(super) fn set_only_v6(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    Ok(())
}

/// Returns what the kernel granted.
fn set_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    if kernel::force_receive_buffer(socket.as_fd(), bytes).is_err() {
        socket.set_recv_buffer_size(bytes)?;
    }
    // The kernel keeps twice the value, for its own bookkeeping, and reports that (socket(7)).
    Ok(socket.recv_buffer_size()? / 2)
}

fn socket_buffer_bytes(config: &config::Receive) -> usize {
    // The kernel holds twice the value in an int.
    usize::try_from(config.socket_buffer.as_u64())
        .unwrap_or(usize::MAX)
        .min(i32::MAX as usize / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listeners: Vec<config::Listener>) -> config::Receive {
        config::Receive {
            listeners,
            ..config::Receive::default()
        }
    }

    fn listener(address: &str, port: u16) -> config::Listener {
        config::Listener {
            address: address.parse().unwrap(),
            port,
            protocols: Vec::new(),
        }
    }

    #[test]
    fn without_ipv6_any_address_becomes_the_ipv4_one_and_others_stay() {
        let to_bind = |address: &str, has_ipv6| {
            address_to_bind(address.parse().unwrap(), 2055, has_ipv6).to_string()
        };
        assert_eq!(to_bind("::", true), "[::]:2055");
        assert_eq!(to_bind("::", false), "0.0.0.0:2055");
        assert_eq!(to_bind("::1", false), "[::1]:2055");
    }

    #[test]
    fn a_wrapped_drop_counter_goes_on() {
        let mut drops = DropCounter::default();
        drops.advance(u32::MAX - 1);
        drops.advance(3);
        assert_eq!(drops.total, u64::from(u32::MAX) + 4);
        drops.advance(3);
        assert_eq!(drops.total, u64::from(u32::MAX) + 4);
    }

    #[test]
    fn a_mapped_ipv4_source_is_plain_and_an_unknown_family_is_none() {
        let mut name = [0_u8; NAME_BYTES];
        name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        name[2..4].copy_from_slice(&2055_u16.to_be_bytes());
        name[18..24].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(
            peer(&name),
            Some((IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 2055))
        );
        assert_eq!(peer(&name[..20]), None);
        assert_eq!(peer(&[0; NAME_BYTES]), None);
        assert_eq!(peer(&[]), None);
    }

    #[test]
    fn port_zero_is_settled_once_for_all_workers() {
        let mut plan = Plan::new(&config(vec![listener("127.0.0.1", 0)])).unwrap();
        let chosen = plan.addresses()[0];
        assert_ne!(chosen.port(), 0);
        let workers = [plan.sockets().unwrap(), plan.sockets().unwrap()];
        assert!(workers.iter().all(|sockets| sockets[0].local() == chosen));
    }

    #[test]
    fn a_port_of_another_program_is_refused_even_when_it_shares_ports() {
        let mut theirs = Plan::new(&config(vec![listener("127.0.0.1", 0)])).unwrap();
        let _held = theirs.sockets().unwrap();
        let port = theirs.addresses()[0].port();
        let error = Plan::new(&config(vec![listener("127.0.0.1", port)])).unwrap_err();
        assert_eq!(error.errno, libc::EADDRINUSE);
        let text = error.to_string();
        assert!(
            text.contains(&format!("'ss -lunp 'sport = :{port}''")),
            "{text}"
        );
    }

    #[test]
    fn errors_name_the_address_and_the_remedy() {
        let error = Plan::new(&config(vec![listener("192.0.2.77", 2055)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "receive: cannot listen on UDP 192.0.2.77:2055: no interface has this address \
             (EADDRNOTAVAIL); see 'ip address' and change receive.listeners"
        );
        let denied = BindError {
            transport: Transport::Udp,
            address: "[::]:514".parse().unwrap(),
            errno: libc::EACCES,
        };
        assert!(denied.to_string().contains("CAP_NET_BIND_SERVICE"));
    }

    #[test]
    fn one_port_may_have_an_ipv4_listener_beside_any_address() {
        let free = Plan::new(&config(vec![listener("::", 0)])).unwrap();
        let port = free.addresses()[0].port();
        drop(free);
        let both = config(vec![listener("::", port), listener("127.0.0.1", port)]);
        assert_eq!(Plan::new(&both).unwrap().addresses().len(), 2);
    }

    #[test]
    fn a_capped_buffer_says_which_sysctl_to_set() {
        assert_eq!(BufferCapped::of(1000, 1000), None);
        assert_eq!(BufferCapped::of(1000, 2000), None);
        let capped = BufferCapped::of(33_554_432, 212_992).unwrap();
        assert_eq!(
            capped.to_string(),
            "receive.socket_buffer: the kernel caps 33554432 bytes at 212992; run 'sysctl -w \
             net.core.rmem_max=33554432' or lower receive.socket_buffer"
        );
    }
}
