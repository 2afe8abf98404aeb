//! Capture files of known packets, to feed to real exporters.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// LINKTYPE_ETHERNET.
const LINK_ETHERNET: u32 = 1;
const ETHERNET_MIN: usize = 60;

/// A packet's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A UDP datagram.
    Udp,
    /// A TCP segment with these flags.
    Tcp(u8),
}

/// Bytes of IP and packets: what an exporter is fed, and what must come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// IP lengths, headers included.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// Packets, with their sums by IP version.
#[derive(Debug, Default)]
pub struct Capture {
    frames: Vec<Vec<u8>>,
    /// What IPv4 is in it.
    pub ipv4: Fed,
    /// What IPv6 is in it.
    pub ipv6: Fed,
}

impl Capture {
    /// Adds one packet with `payload` bytes above the transport header.
    ///
    /// # Panics
    /// When the addresses are of two versions.
    pub fn add(
        &mut self,
        transport: Transport,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        payload: u16,
    ) {
        self.add_with(
            transport,
            source,
            destination,
            &vec![b'x'; usize::from(payload)],
        );
    }

    /// Adds one packet with these bytes above the transport header.
    ///
    /// # Panics
    /// When the addresses are of two versions.
    pub fn add_with(
        &mut self,
        transport: Transport,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        payload: &[u8],
    ) {
        let (protocol, segment) = segment(transport, source.1, destination.1, payload);
        let (ethertype, packet) = match (source.0, destination.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (0x0800u16, {
                let length = 20 + segment.len() as u16;
                let mut header = vec![0x45, 0];
                header.extend(length.to_be_bytes());
                header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
                header.extend(from.octets());
                header.extend(to.octets());
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header.extend(&segment);
                header
            }),
            (IpAddr::V6(from), IpAddr::V6(to)) => (0x86ddu16, {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend((segment.len() as u16).to_be_bytes());
                header.extend([protocol, 64]);
                header.extend(from.octets());
                header.extend(to.octets());
                header.extend(&segment);
                header
            }),
            _ => panic!("a packet has addresses of one version"),
        };
        let fed = if ethertype == 0x0800 {
            &mut self.ipv4
        } else {
            &mut self.ipv6
        };
        fed.bytes += packet.len() as u64;
        fed.packets += 1;
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        // Short frames are padded on the wire; the padding is no part of what IP carries.
        frame.resize(frame.len().max(ETHERNET_MIN), 0);
        self.frames.push(frame);
    }

    /// Packets of both versions.
    #[must_use]
    pub fn fed(&self) -> Fed {
        Fed {
            bytes: self.ipv4.bytes + self.ipv6.bytes,
            packets: self.ipv4.packets + self.ipv6.packets,
        }
    }

    /// Writes a pcap file whose packets come one a millisecond and end now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let first = now.saturating_sub(Duration::from_millis(self.frames.len() as u64));
        self.write_at(path, |index| first + Duration::from_millis(index))
    }

    /// Writes a pcap file whose packets come at these times since 1970, by their place in it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_at(&self, path: &Path, time: impl Fn(u64) -> Duration) -> Result<()> {
        let mut file = Vec::new();
        file.extend(0xa1b2_c3d4u32.to_le_bytes());
        file.extend([2, 0, 4, 0]);
        file.extend([0; 8]);
        file.extend(65_535u32.to_le_bytes());
        file.extend(LINK_ETHERNET.to_le_bytes());
        for (index, frame) in (0..).zip(&self.frames) {
            let time = time(index);
            file.extend((time.as_secs() as u32).to_le_bytes());
            file.extend(time.subsec_micros().to_le_bytes());
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend(frame);
        }
        std::fs::write(path, file).with_context(|| format!("write {}", path.display()))
    }
}

fn segment(transport: Transport, source: u16, destination: u16, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    let protocol = match transport {
        Transport::Udp => {
            bytes.extend((8 + payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            17
        }
        Transport::Tcp(flags) => {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
            6
        }
    };
    bytes.extend(payload);
    (protocol, bytes)
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_on_the_wire_are_the_lengths_counted() {
        let address = |text: &str| text.parse().expect("an address");
        let mut capture = Capture::default();
        let (a, b) = ((address("10.0.0.1"), 1000), (address("10.0.0.2"), 53));
        capture.add(Transport::Udp, a, b, 100);
        capture.add(Transport::Tcp(2), a, b, 0);
        let (a, b) = ((address("2001:db8::1"), 1000), (address("2001:db8::2"), 53));
        capture.add(Transport::Udp, a, b, 10);
        let fed = |bytes, packets| Fed { bytes, packets };
        assert_eq!(capture.ipv4, fed(128 + 40, 2));
        assert_eq!(capture.ipv6, fed(58, 1));
        assert_eq!(capture.frames[0].len(), 14 + 128);
        assert_eq!(capture.frames[1].len(), ETHERNET_MIN);
    }

    #[test]
    fn the_header_checksum_adds_up() {
        // The example of the article "IPv4 header checksum": 4500 0073 ... b861 ...
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }
}
