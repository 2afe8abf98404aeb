//! Datagrams made by hand: good ones that are counted exactly, and bad ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

/// A socket that counts what it has sent.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    /// Datagrams sent.
    pub sent: u64,
}

impl Sender {
    /// A socket towards `target`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(target: SocketAddr) -> Result<Self> {
        Self::between(Ipv4Addr::LOCALHOST.into(), target)
    }

    /// A socket on any port of the address `source`, towards `target`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn between(source: IpAddr, target: SocketAddr) -> Result<Self> {
        let bound = UdpSocket::bind((source, 0));
        let socket = bound.with_context(|| format!("bind a socket to {source}"))?;
        socket.connect(target)?;
        Ok(Self { socket, sent: 0 })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.socket.send(payload).context("send a datagram")?;
        self.sent += 1;
        Ok(())
    }
}

/// A NetFlow v5 datagram of `records` records, each of 3 packets and 300 bytes.
#[must_use]
pub fn netflow5(sequence: u32, records: u16) -> Vec<u8> {
    let mut bytes = netflow5_header(sequence, records);
    for record in 0..records {
        bytes.extend([10, 0, 0, record as u8 + 1, 192, 0, 2, 1, 0, 0, 0, 0]);
        bytes.extend([0, 1, 0, 2]);
        bytes.extend(3u32.to_be_bytes());
        bytes.extend(300u32.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        bytes.extend([0x80, 0, 0, 53, 0, 0x1b, 17, 0]);
        bytes.extend([0; 8]);
    }
    bytes
}

/// The header of a NetFlow v5 datagram that announces `records` records.
#[must_use]
pub fn netflow5_header(sequence: u32, records: u16) -> Vec<u8> {
    let mut bytes = vec![0, 5];
    bytes.extend(records.to_be_bytes());
    bytes.extend(100_000u32.to_be_bytes());
    bytes.extend(unix_now().to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// A NetFlow v9 datagram with these sets, each an id and its body, and `count` in its header.
#[must_use]
pub fn netflow9(count: u16, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0, 9];
    bytes.extend(count.to_be_bytes());
    bytes.extend(100_000u32.to_be_bytes());
    bytes.extend(unix_now().to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 77]);
    append_sets(&mut bytes, sets);
    bytes
}

/// An IPFIX message with these sets; `length` replaces its true length.
#[must_use]
pub fn ipfix(length: Option<u16>, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0, 10, 0, 0];
    bytes.extend(unix_now().to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 77]);
    append_sets(&mut bytes, sets);
    let length = length.unwrap_or(bytes.len() as u16);
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// An sFlow v5 datagram from an IPv4 agent that announces `samples` samples, followed by `body`.
#[must_use]
pub fn sflow5(samples: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [5, 1, 0x0a00_0001, 0, 1, 1000, samples] {
        bytes.extend(u32::to_be_bytes(word));
    }
    bytes.extend(body);
    bytes
}

fn append_sets(bytes: &mut Vec<u8>, sets: &[(u16, Vec<u8>)]) {
    for (id, body) in sets {
        bytes.extend(id.to_be_bytes());
        bytes.extend((4 + body.len() as u16).to_be_bytes());
        bytes.extend(body);
    }
}

fn unix_now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() as u32)
}

/// The generic record of an sFlow counter sample, of interface 9: each field is its own number.
pub const INTERFACE_COUNTERS: [u32; 22] = [
    9,
    6,
    0,
    1_000_000_000,
    1,
    3,
    1,
    2,
    11,
    12,
    13,
    14,
    15,
    16,
    0,
    21,
    22,
    23,
    24,
    25,
    26,
    2,
];
