//! What the kernel says of UDP datagrams in a network namespace: its counters, and its answers to
//! those that no socket was there for.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::net::{AddressFamily, SocketType, ipproto, socket, sockopt};

/// UDP datagrams of the calling thread's namespace, as /proc/net/snmp counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Read by a program.
    pub read: u64,
    /// No socket had the port.
    pub no_port: u64,
    /// A socket's receive buffer was full.
    pub buffer_full: u64,
}

impl UdpCounters {
    /// Reads them.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read() -> Result<Self> {
        // Not /proc/net: that is the namespace of the process's first thread.
        let file = "/proc/thread-self/net/snmp";
        let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        Self::parse(&text).with_context(|| format!("{file} has no counters of UDP"))
    }

    /// A line `Udp:` of names, then one of numbers.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, numbers) = (lines.next()?, lines.next()?);
        let of = |wanted: &str| {
            let mut both = names.split(' ').zip(numbers.split(' '));
            both.find(|(name, _)| *name == wanted)?.1.parse().ok()
        };
        Some(Self {
            read: of("InDatagrams")?,
            no_port: of("NoPorts")?,
            buffer_full: of("RcvbufErrors")?,
        })
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            read: self.read - earlier.read,
            no_port: self.no_port - earlier.no_port,
            buffer_full: self.buffer_full - earlier.buffer_full,
        }
    }
}

/// A datagram of NetFlow v5 with numbered next hops that no socket was there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The serial number of its first record.
    pub first: u64,
    /// Records in it.
    pub flows: u64,
}

/// Reads the kernel's answers "port unreachable" (RFC 792), which quote the datagram's beginning.
/// On loopback the kernel answers each one: no rate limit holds there.
#[derive(Debug)]
pub struct Answers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Refused>>>,
}

impl Answers {
    /// Reads those to datagrams for `port`, in the calling thread's namespace. Needs root.
    ///
    /// # Errors
    /// When the kernel gives no raw socket.
    pub fn start(port: u16) -> Result<Self> {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))
            .context("open a raw socket for ICMP; run it as root")?;
        sockopt::set_socket_recv_buffer_size_force(&raw, BUFFER_BYTES)
            .context("give the raw socket a large buffer; run it as root")?;
        // The calls are the same for every kind of datagram socket.
        let raw = UdpSocket::from(raw);
        raw.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || read_answers(&raw, port, &stopped));
        Ok(Self { stop, thread })
    }

    /// Those that were refused, in the order of the answers.
    ///
    /// # Errors
    /// When the answers could not be read.
    pub fn stop(self) -> Result<Vec<Refused>> {
        self.stop.store(true, Ordering::Relaxed);
        let read = self.thread.join();
        read.map_err(|_| anyhow!("reading the kernel's answers panicked"))?
    }
}

fn read_answers(raw: &UdpSocket, port: u16, stop: &AtomicBool) -> Result<Vec<Refused>> {
    let mut refused = Vec::new();
    let mut packet = [0; 2048];
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        match raw.recv(&mut packet) {
            Ok(length) => refused.extend(refused_by(&packet[..length], port)),
            // Nothing was left when the stop was asked for before.
            Err(error) if error.kind() == ErrorKind::WouldBlock && stopping => return Ok(refused),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("read the kernel's answers"),
        }
    }
}

/// The datagram that an IPv4 packet of ICMP refuses, if it is one for `port`.
fn refused_by(packet: &[u8], port: u16) -> Option<Refused> {
    let (protocol, icmp) = ipv4(packet)?;
    let is_port_unreachable = protocol == 1 && icmp.get(..2)? == [3, 3];
    let (protocol, udp) = ipv4(icmp.get(8..)?)?;
    let is_for_port = protocol == 17 && udp.get(2..4)? == port.to_be_bytes();
    let netflow = udp.get(8..)?;
    let is_netflow5 = netflow.get(..2)? == [0, 5];
    // Behind the header of 24 bytes, the first record: source, destination, next hop.
    let next_hop = netflow.get(32..36)?.try_into().ok()?;
    let count = netflow.get(2..4)?.try_into().ok()?;
    (is_port_unreachable && is_for_port && is_netflow5).then(|| Refused {
        first: u64::from(u32::from_be_bytes(next_hop)),
        flows: u64::from(u16::from_be_bytes(count)),
    })
}

/// Protocol and payload.
fn ipv4(packet: &[u8]) -> Option<(u8, &[u8])> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    (first >> 4 == 4).then_some((*packet.get(9)?, packet.get(header..)?))
}

/// Some seconds of answers, each with what it quotes.
const BUFFER_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::namespace::Namespace;

    #[test]
    fn counters_are_found_by_their_names() {
        let text = "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\n\
                    Udp: 7 5 0 12 2\nUdpLite: InDatagrams\nUdpLite: 0\n";
        let counters = UdpCounters::parse(text).expect("they are there");
        let expected = UdpCounters {
            read: 7,
            no_port: 5,
            buffer_full: 2,
        };
        assert_eq!(counters, expected);
        assert_eq!(UdpCounters::parse("Udp: InDatagrams\n"), None);
    }

    #[test]
    fn each_datagram_without_a_socket_is_answered_and_counted() -> Result<()> {
        let Some(namespace) = Namespace::loopback_or_skip()? else {
            return Ok(());
        };
        let _inside = namespace.enter()?;
        let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Not connected: it is not told of errors. Bound first, so that it has another port.
        let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let answers = Answers::start(nobody.port())?;
        let before = UdpCounters::read()?;
        // As many as come in a second: the limit that holds on other interfaces would show.
        for number in 0..2_000_u32 {
            let mut datagram = [0; 1464];
            datagram[..4].copy_from_slice(&[0, 5, 0, 30]);
            datagram[32..36].copy_from_slice(&(number * 30 + 1).to_be_bytes());
            let to = if number < 1_999 {
                nobody
            } else {
                there.local_addr()?
            };
            from.send_to(&datagram, to)?;
        }
        there.recv(&mut [0; 1500])?;
        let refused = answers.stop()?;
        let counted = UdpCounters::read()?.since(&before);
        let firsts: Vec<u64> = refused.iter().map(|refused| refused.first).collect();
        let expected: Vec<u64> = (0..1_999).map(|number| number * 30 + 1).collect();
        assert_eq!(firsts, expected);
        assert!(refused.iter().all(|refused| refused.flows == 30));
        assert_eq!((counted.no_port, counted.read), (1_999, 1));
        assert_eq!(counted.buffer_full, 0);
        Ok(())
    }
}
