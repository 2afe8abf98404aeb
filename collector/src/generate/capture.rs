//! Writes the simulated datagrams to a pcap file instead of the network.
//!
//! Format: pcap with microseconds (draft-ietf-opsawg-pcap), Ethernet frames. The exporters have
//! their management addresses and send to the registered port of their protocol. Who has IP packets
//! writes those.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use super::Protocol;
use super::pace::Limits;
use super::{SimDatagram, Simulator, frame};
use crate::units::UnixNanos;

/// A capture being written.
#[derive(Debug)]
pub struct Capture<W> {
    output: W,
}

impl<W: Write> Capture<W> {
    /// Writes the header of the file.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn begin(output: W) -> io::Result<Self> {
        Self::of_link(output, LINK_ETHERNET)
    }

    /// The same for a file of IP packets without frames.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn of_packets(output: W) -> io::Result<Self> {
        Self::of_link(output, LINK_RAW)
    }

    fn of_link(mut output: W, link: u32) -> io::Result<Self> {
        output.write_all(&MAGIC_MICROSECONDS.to_le_bytes())?;
        output.write_all(&2_u16.to_le_bytes())?;
        output.write_all(&4_u16.to_le_bytes())?;
        output.write_all(&[0; 8])?;
        output.write_all(&SNAP_LENGTH.to_le_bytes())?;
        output.write_all(&link.to_le_bytes())?;
        Ok(Self { output })
    }

    /// Writes one datagram that was sent at `at` from `source`.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn write(
        &mut self,
        at: UnixNanos,
        source: Ipv4Addr,
        datagram: &SimDatagram<'_>,
    ) -> io::Result<()> {
        self.record(at, HEADERS + datagram.payload.len())?;
        self.output.write_all(&headers(source, datagram))?;
        self.output.write_all(datagram.payload)
    }

    /// Writes one packet, or frame, that arrived at `at`.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn packet(&mut self, at: UnixNanos, packet: &[u8]) -> io::Result<()> {
        self.record(at, packet.len())?;
        self.output.write_all(packet)
    }

    fn record(&mut self, at: UnixNanos, length: usize) -> io::Result<()> {
        let microseconds = (at.0 / 1_000 % 1_000_000) as u32;
        for word in [at.seconds(), microseconds, length as u32, length as u32] {
            self.output.write_all(&word.to_le_bytes())?;
        }
        Ok(())
    }

    /// Writes out what is buffered and yields the output.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}

/// Writes until a limit is reached, as if sent from `start` on with the rate of `limits`, which
/// must not be 0. Yields the moment that the last datagram was sent at.
///
/// # Errors
/// When the output cannot be written.
pub fn run<W: Write>(
    simulator: &mut Simulator,
    capture: &mut Capture<W>,
    limits: &Limits,
    start: UnixNanos,
) -> io::Result<UnixNanos> {
    assert!(
        limits.rate > 0,
        "the times in a capture follow from the rate"
    );
    let end = limits.duration.map_or(u64::MAX, |duration| {
        start
            .0
            .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    });
    let exporters = simulator.exporters().iter();
    let sources: Vec<Ipv4Addr> = exporters.map(|exporter| exporter.management).collect();
    loop {
        let sent = simulator.totals().all.flows;
        let elapsed = u128::from(sent) * 1_000_000_000 / u128::from(limits.rate);
        let now = UnixNanos(
            start
                .0
                .saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)),
        );
        let left = limits.left(sent);
        if left == 0 || now.0 >= end {
            return Ok(now);
        }
        let flows_max = u32::try_from(left).unwrap_or(u32::MAX);
        let datagram = simulator.next_at_most(now, flows_max);
        capture.write(now, sources[datagram.exporter], &datagram)?;
    }
}

/// Ethernet, IPv4 and UDP; the checksum of UDP is left out, which IPv4 allows.
fn headers(source: Ipv4Addr, datagram: &SimDatagram<'_>) -> [u8; HEADERS] {
    let udp_length = (UDP_HEADER + datagram.payload.len()) as u16;
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(20 + udp_length).to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&COLLECTOR.octets());
    let checksum = frame::checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    let mut headers = [0; HEADERS];
    headers[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
    headers[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 2]);
    headers[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
    headers[14..34].copy_from_slice(&ip);
    let source_port = SOURCE_PORT_FIRST + datagram.exporter as u16;
    headers[34..36].copy_from_slice(&source_port.to_be_bytes());
    headers[36..38].copy_from_slice(&port(datagram.protocol).to_be_bytes());
    headers[38..40].copy_from_slice(&udp_length.to_be_bytes());
    headers
}

const fn port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Netflow5 | Protocol::Netflow9 => 2055,
        Protocol::Ipfix => 4739,
        Protocol::Sflow5 => 6343,
    }
}

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const SNAP_LENGTH: u32 = 65_535;
const LINK_ETHERNET: u32 = 1;
/// LINKTYPE_RAW: IPv4 or IPv6, as its first bits say.
const LINK_RAW: u32 = 101;
const UDP_HEADER: usize = 8;
const HEADERS: usize = 14 + 20 + UDP_HEADER;
const SOURCE_PORT_FIRST: u16 = 49_152;
const COLLECTOR: Ipv4Addr = Ipv4Addr::new(10, 23, 239, 250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Settings;

    const START: UnixNanos = UnixNanos(1_750_000_000_000_000_000);

    #[test]
    fn a_capture_holds_every_datagram_in_a_frame_with_right_lengths_and_times() {
        let mut simulator = Simulator::new(&Settings::default(), START).unwrap();
        let mut capture = Capture::begin(Vec::new()).unwrap();
        let limits = Limits {
            rate: 1_000,
            flows: Some(5_000),
            duration: None,
        };
        let end = run(&mut simulator, &mut capture, &limits, START).unwrap();
        assert_eq!(end.0 - START.0, 5_000_000_000);
        let file = capture.finish().unwrap();
        let (mut rest, mut frames) = (&file[24..], 0);
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            assert!((1_750_000_000..=1_750_000_005).contains(&word(0)));
            let length = word(8) as usize;
            assert_eq!(word(12) as usize, length);
            let ip = &rest[16 + 14..16 + length];
            assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
            assert_eq!(
                usize::from(u16::from_be_bytes([ip[24], ip[25]])),
                ip.len() - 20
            );
            rest = &rest[16 + length..];
            frames += 1;
        }
        assert_eq!(frames, simulator.totals().all.datagrams);
    }
}
