//! A sender that costs little: datagrams made beforehand, sent in a loop at a steady rate.
//!
//! Each exporter sends from a socket and an address of its own, as in the exporter simulator. When
//! the loop begins again, sequence numbers go on where they ended and export times are those of
//! the clock, so a collector sees neither gaps nor restarts; uptimes stay, and with them the
//! distance of a flow's times from the export. Absolute times in records of IPFIX stay as made.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use flowsluice::generate::pace::Limits;
use flowsluice::generate::send::Sender;
use flowsluice::units::UnixNanos;

use crate::cpu;
use crate::streams::{self, Stream};

/// What was sent, in all or in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// UDP payloads.
    pub datagrams: u64,
    /// Flows in them.
    pub flows: u64,
    /// How long it took, seconds.
    pub elapsed_s: f64,
    /// CPU time of the sending thread, seconds. On loopback that holds most of what the kernel does
    /// to deliver.
    pub cpu_s: f64,
}

impl Sent {
    /// Flows a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.flows as f64 / self.elapsed_s
    }
}

/// Datagrams on their way to a collector, again and again.
#[derive(Debug)]
pub struct Loop {
    sender: Sender,
    payloads: Vec<u8>,
    packets: Vec<Packet>,
    /// How many of `packets` come before the loop.
    announcements: usize,
    next: usize,
    total: Sent,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    exporter: usize,
    begin: usize,
    end: usize,
    flows: u32,
    header: Header,
    /// What the sequence number grows by when the loop begins again.
    stride: u32,
}

/// Where the fields of a header stand that change from one time to the next.
#[derive(Clone, Copy, Debug)]
struct Header {
    unix_s_at: usize,
    /// The residual nanoseconds, which NetFlow v5 alone has.
    unix_ns_at: Option<usize>,
    sequence_at: usize,
}

impl Header {
    /// Of NetFlow v5 (Cisco, table B-3), v9 (RFC 3954 §5.1) or IPFIX (RFC 7011 §3.1).
    fn of(payload: &[u8]) -> Result<Self> {
        let header = |unix_s_at, unix_ns_at, sequence_at| Self {
            unix_s_at,
            unix_ns_at,
            sequence_at,
        };
        ensure!(payload.len() >= 20, "a datagram is shorter than its header");
        Ok(match payload {
            [0, 5, ..] => header(8, Some(12), 16),
            [0, 9, ..] => header(8, None, 12),
            [0, 10, ..] => header(4, None, 8),
            _ => bail!("only NetFlow v5, v9 and IPFIX can be sent in a loop"),
        })
    }

    fn sequence(&self, payload: &[u8]) -> u32 {
        let at = self.sequence_at;
        u32::from_be_bytes([at, at + 1, at + 2, at + 3].map(|index| payload[index]))
    }

    fn set_time(&self, payload: &mut [u8], now: UnixNanos) {
        let mut set = |at: usize, value: u64| {
            payload[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
        };
        set(self.unix_s_at, now.0 / 1_000_000_000);
        if let Some(at) = self.unix_ns_at {
            set(at, now.0 % 1_000_000_000);
        }
    }
}

impl Loop {
    /// Copies `stream` and opens the exporters' sockets.
    ///
    /// # Errors
    /// When the stream is of a protocol without a known header, or a socket cannot be had.
    pub fn open(stream: &Stream, target: SocketAddr) -> Result<Self> {
        let (announcements, exported) = stream.exported();
        let (mut payloads, mut packets) = (Vec::new(), Vec::new());
        for datagram in exported {
            let begin = payloads.len();
            payloads.extend_from_slice(datagram.payload);
            packets.push(Packet {
                exporter: datagram.exporter,
                begin,
                end: payloads.len(),
                flows: datagram.flows,
                header: Header::of(datagram.payload)?,
                stride: 0,
            });
        }
        close_the_loop(&mut packets, announcements, &payloads);
        ensure!(
            packets.len() > announcements,
            "every domain of the stream has one datagram at most; make a longer stream"
        );
        let exporters = packets.iter().map(|packet| packet.exporter + 1).max();
        Ok(Self {
            sender: Sender::open(target, exporters.unwrap_or(0))?,
            payloads,
            packets,
            announcements,
            next: 0,
            total: Sent::default(),
        })
    }

    /// Flows a datagram, the mean over the loop.
    #[must_use]
    pub fn flows_a_datagram(&self) -> f64 {
        let looped = &self.packets[self.announcements..];
        let flows: u64 = looped.iter().map(|packet| u64::from(packet.flows)).sum();
        flows as f64 / looped.len() as f64
    }

    /// Everything that was sent so far.
    #[must_use]
    pub fn total(&self) -> Sent {
        self.total
    }

    /// Sends the announcements, slowly enough for any collector.
    ///
    /// # Errors
    /// When the kernel does not take a datagram.
    pub fn announce(&mut self) -> Result<()> {
        while self.next < self.announcements {
            let burst = self.next + ANNOUNCEMENTS_A_BURST;
            while self.next < burst.min(self.announcements) {
                self.send_next(UnixNanos::now())?;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends `rate` flows a second for so long, in steps of a millisecond; a rate of 0 sends as
    /// fast as it can.
    ///
    /// # Errors
    /// When the kernel does not take a datagram.
    pub fn send(&mut self, rate: u64, duration: Duration) -> Result<Sent> {
        let limits = Limits {
            rate,
            duration: Some(duration),
            flows: None,
        };
        let (before, cpu) = (self.total, cpu::of_this_thread());
        let started = Instant::now();
        let sent = loop {
            let sent = self.total.flows - before.flows;
            let elapsed = started.elapsed();
            if limits.is_over(sent, elapsed) {
                break Sent {
                    datagrams: self.total.datagrams - before.datagrams,
                    flows: sent,
                    elapsed_s: elapsed.as_secs_f64(),
                    cpu_s: (cpu::of_this_thread() - cpu).as_secs_f64(),
                };
            }
            let (now, until) = (UnixNanos::now(), sent + limits.due(sent, elapsed));
            while self.total.flows - before.flows < until {
                self.send_next(now)?;
            }
            let sent = self.total.flows - before.flows;
            let pause = limits.pause(sent, started.elapsed());
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        };
        self.total.elapsed_s += sent.elapsed_s;
        self.total.cpu_s += sent.cpu_s;
        Ok(sent)
    }

    fn send_next(&mut self, now: UnixNanos) -> Result<()> {
        let packet = self.packets[self.next];
        let payload = &mut self.payloads[packet.begin..packet.end];
        packet.header.set_time(payload, now);
        self.sender.send(packet.exporter, payload)?;
        let next = packet.header.sequence(payload).wrapping_add(packet.stride);
        let at = packet.header.sequence_at;
        payload[at..at + 4].copy_from_slice(&next.to_be_bytes());
        self.total.datagrams += 1;
        self.total.flows += u64::from(packet.flows);
        self.next += 1;
        if self.next == self.packets.len() {
            self.next = self.announcements;
        }
        Ok(())
    }
}

/// Finds what each domain's sequence grows by in one loop. The last datagram of a domain is taken
/// out: its number is the one that the loop goes on with, whatever the protocol counts.
fn close_the_loop(packets: &mut Vec<Packet>, announcements: usize, payloads: &[u8]) {
    struct Domain {
        key: (usize, [u8; 4]),
        first: u32,
        last: u32,
        last_at: usize,
    }
    let key = |packet: &Packet| {
        let payload = &payloads[packet.begin..packet.end];
        let sequence = packet.header.sequence(payload);
        ((packet.exporter, streams::domain(payload)), sequence)
    };
    let mut domains: Vec<Domain> = Vec::new();
    for (index, packet) in packets.iter().enumerate().skip(announcements) {
        let (key, sequence) = key(packet);
        match domains.iter_mut().find(|domain| domain.key == key) {
            Some(domain) => (domain.last, domain.last_at) = (sequence, index),
            None => domains.push(Domain {
                key,
                first: sequence,
                last: sequence,
                last_at: index,
            }),
        }
    }
    for packet in packets.iter_mut().skip(announcements) {
        let (key, _) = key(packet);
        let domain = domains.iter().find(|domain| domain.key == key);
        packet.stride = domain.map_or(0, |domain| domain.last.wrapping_sub(domain.first));
    }
    let mut index = 0;
    packets.retain(|_| {
        index += 1;
        domains.iter().all(|domain| domain.last_at != index - 1)
    });
}

/// A millisecond each: 16,000 datagrams a second.
const ANNOUNCEMENTS_A_BURST: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::UdpSocket;

    use flowsluice::generate::Protocols;

    use super::*;
    use crate::streams::Recipe;

    fn stream(protocols: Protocols) -> Stream {
        let recipe = Recipe {
            protocols,
            exporters: 3,
            bytes: 60 << 10,
            ..Recipe::default()
        };
        Stream::new(&recipe, UnixNanos::now()).unwrap()
    }

    /// How many flows a protocol's sequence counts for a datagram; `None` counts datagrams.
    fn grows_by(payload: &[u8], flows: u32) -> u32 {
        match payload[1] {
            5 => flows,
            9 => 1,
            // A message that announces has one options record.
            _ => flows + u32::from(payload[16..18] == [0, 2]),
        }
    }

    #[test]
    fn sequences_go_on_where_the_loop_begins_again() {
        for protocols in [Protocols::Netflow5, Protocols::Netflow9, Protocols::Ipfix] {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let target = socket.local_addr().unwrap();
            let mut sender = Loop::open(&stream(protocols), target).unwrap();
            let mut expected: BTreeMap<(usize, [u8; 4]), u32> = BTreeMap::new();
            for turn in 0..3 * sender.packets.len() {
                let packet = sender.packets[sender.next];
                sender.send_next(UnixNanos::now()).unwrap();
                let mut payload = [0; 1500];
                let (length, _) = socket.recv_from(&mut payload).unwrap();
                assert_eq!(length, packet.end - packet.begin);
                let key = (packet.exporter, streams::domain(&payload));
                let found = packet.header.sequence(&payload);
                let next = found.wrapping_add(grows_by(&payload, packet.flows));
                if let Some(expected) = expected.insert(key, next) {
                    assert_eq!(found, expected, "{protocols:?}, datagram {turn}");
                }
            }
        }
    }

    #[test]
    fn the_rate_is_kept_and_what_was_sent_is_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        let mut sender = Loop::open(&stream(Protocols::Netflow9), target).unwrap();
        sender.announce().unwrap();
        let announced = sender.total();
        let sent = sender.send(50_000, Duration::from_millis(500)).unwrap();
        assert!((24_000..=25_024).contains(&sent.flows), "{sent:?}");
        assert_eq!(sender.total().flows, announced.flows + sent.flows);
        assert!(sent.cpu_s > 0.0 && sent.elapsed_s >= 0.5, "{sent:?}");
    }

    #[test]
    fn a_stream_without_a_known_header_is_refused() {
        let target = "127.0.0.1:9".parse().unwrap();
        assert!(Loop::open(&stream(Protocols::Sflow5), target).is_err());
    }
}
