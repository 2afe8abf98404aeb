//! Reads the packets of pcap and pcapng files.

use std::io::{self, Read};

use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{
    OptionCode, PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};

use crate::units::UnixNanos;

/// Longest packet or block read; the largest snapshot length that tcpdump writes is 256 KiB.
pub const PACKET_BYTES_MAX: usize = 16 << 20;

/// Interfaces of a pcapng section; packets of further ones are of an unknown link type.
pub const INTERFACES_MAX: usize = 4096;

const READ_BYTES: usize = 256 << 10;
const NANOS: u64 = 1_000_000_000;
const LINK_TYPE_UNKNOWN: u16 = u16::MAX;

/// The block type of the packets that pcapng had before 2009; nothing has written it since.
const OBSOLETE_PACKET_BLOCK: u32 = 2;

/// One captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What `data` begins with.
    pub link_type: u16,
    /// When it was captured.
    pub received: UnixNanos,
    /// What was kept of it; shorter than the packet when the capture had a snapshot length.
    pub data: &'a [u8],
}

/// How the file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// In the middle of a packet.
    pub cut: bool,
}

/// Why reading stopped before the end.
#[derive(Debug)]
pub enum ReadError {
    /// The system refused.
    Io(io::Error),
    /// The block at `offset` is broken.
    Malformed {
        /// Bytes from the start of the file.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// True when a file that begins with these four bytes is pcap or pcapng.
#[must_use]
pub fn is_capture(magic: &[u8]) -> bool {
    let Some(&magic) = magic.first_chunk() else {
        return false;
    };
    magic == PCAPNG_MAGIC || PCAP_MAGICS.contains(&u32::from_le_bytes(magic))
}

/// The same bytes in both byte orders, on purpose.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Microseconds, nanoseconds and Kuznetzov's format; then the first two in big-endian.
const PCAP_MAGICS: [u32; 5] = [
    0xa1b2_c3d4,
    0xa1b2_3c4d,
    0xa1b2_cd34,
    0xd4c3_b2a1,
    0x4d3c_b2a1,
];

/// What a section of a capture says about the packets in it.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u16,
    /// Units of a timestamp in a second.
    resolution: Resolution,
    /// Seconds to add to timestamps.
    offset_s: i64,
    /// Longest packet kept; 0 has no bound.
    snapshot_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Resolution(u128);

impl Resolution {
    /// From the option `if_tsresol`: a negative power of 10, or of 2 when the top bit is set.
    fn from_option(value: u8) -> Self {
        let exponent = u32::from(value & 0x7f);
        let units = match value & 0x80 {
            0 => 10_u128.checked_pow(exponent),
            _ => 1_u128.checked_shl(exponent),
        };
        Self(units.unwrap_or(u128::MAX))
    }

    fn nanos(self, timestamp: u64) -> u64 {
        // `timestamp` is below 2^64, so the product stays below 2^94.
        let nanos = u128::from(timestamp) * u128::from(NANOS) / self.0;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Reads one file.
#[derive(Debug)]
pub struct PacketReader<R> {
    window: Window<R>,
}

impl<R: Read> PacketReader<R> {
    /// Reads from `source`, whose first bytes satisfy [`is_capture`].
    #[must_use]
    pub fn new(source: R) -> Self {
        Self {
            window: Window {
                source,
                bytes: Vec::new(),
                start: 0,
                offset: 0,
            },
        }
    }

    /// Hands over each packet in the order of the file.
    ///
    /// # Errors
    /// When the system refuses to read, or a block is broken.
    pub fn for_each(mut self, on_packet: &mut impl FnMut(&Packet<'_>)) -> Result<End, ReadError> {
        let magic = self.window.peek(4)?;
        if magic.starts_with(&PCAPNG_MAGIC) {
            read_pcapng(&mut self.window, on_packet)
        } else {
            read_pcap(&mut self.window, on_packet)
        }
    }
}

fn read_pcap<R: Read>(
    window: &mut Window<R>,
    on_packet: &mut impl FnMut(&Packet<'_>),
) -> Result<End, ReadError> {
    let Ok((_, header)) = parse_pcap_header(window.peek(PcapHeader::new().size())?) else {
        return Err(window.malformed("the file header is cut"));
    };
    window.skip(header.size());
    let frame_header_bytes = match header.is_modified_format() {
        true => 24,
        false => 16,
    };
    // The upper bits say whether frames end with a check sequence; IP knows its own length.
    let link_type = header.network.0 as u16;
    let fraction_nanos = match header.is_nanosecond_precision() {
        true => 1,
        false => 1000,
    };
    loop {
        let frame_header = window.peek(frame_header_bytes)?;
        let Some(&length) = frame_header.get(8..).and_then(<[u8]>::first_chunk) else {
            let cut = !frame_header.is_empty();
            return Ok(End { cut });
        };
        let length = match header.is_bigendian() {
            true => u32::from_be_bytes(length),
            false => u32::from_le_bytes(length),
        };
        let bytes = frame_header_bytes.saturating_add(length as usize);
        if bytes > PACKET_BYTES_MAX {
            return Err(window.malformed("a packet claims to be longer than 16 MiB"));
        }
        let frame = window.peek(bytes)?;
        let parsed = if header.is_modified_format() {
            parse_pcap_frame_modified(frame)
        } else if header.is_bigendian() {
            parse_pcap_frame_be(frame)
        } else {
            parse_pcap_frame(frame)
        };
        let Ok((_, frame)) = parsed else {
            return Ok(End { cut: true });
        };
        let nanos = u64::from(frame.ts_sec) * NANOS + u64::from(frame.ts_usec) * fraction_nanos;
        on_packet(&Packet {
            link_type,
            received: UnixNanos(nanos),
            data: frame.data,
        });
        window.skip(bytes);
    }
}

fn read_pcapng<R: Read>(
    window: &mut Window<R>,
    on_packet: &mut impl FnMut(&Packet<'_>),
) -> Result<End, ReadError> {
    let mut section = Section::default();
    loop {
        let block_header = window.peek(12)?;
        let Some(&[t0, t1, t2, t3, l0, l1, l2, l3, m0, m1, m2, m3]) = block_header.first_chunk()
        else {
            let cut = !block_header.is_empty();
            return Ok(End { cut });
        };
        if [t0, t1, t2, t3] == PCAPNG_MAGIC {
            section = Section {
                big_endian: [m0, m1, m2, m3] == [0x1a, 0x2b, 0x3c, 0x4d],
                newest: section.newest,
                ..Section::default()
            };
        }
        let length = match section.big_endian {
            true => u32::from_be_bytes([l0, l1, l2, l3]),
            false => u32::from_le_bytes([l0, l1, l2, l3]),
        } as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return Err(window.malformed("a block has an impossible length"));
        }
        if length > PACKET_BYTES_MAX {
            return Err(window.malformed("a block claims to be longer than 16 MiB"));
        }
        let block = window.peek(length)?;
        if block.len() < length {
            return Ok(End { cut: true });
        }
        let parsed = match section.big_endian {
            true => parse_block_be(block),
            false => parse_block_le(block),
        };
        match parsed {
            Ok((_, block)) => section.take(&block, on_packet),
            Err(_) => return Err(window.malformed("a block contradicts its length")),
        }
        window.skip(length);
    }
}

/// The interfaces of the section that is being read.
#[derive(Debug, Default)]
struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// The newest time seen: what a packet without one is given.
    newest: UnixNanos,
}

impl Section {
    fn take(&mut self, block: &Block<'_>, on_packet: &mut impl FnMut(&Packet<'_>)) {
        match block {
            Block::InterfaceDescription(description) if self.interfaces.len() < INTERFACES_MAX => {
                let interface = Interface::new(description, self.big_endian);
                self.interfaces.push(interface);
            }
            Block::EnhancedPacket(packet) => {
                let timestamp = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let interface = usize::try_from(packet.if_id)
                    .ok()
                    .and_then(|index| self.interfaces.get(index));
                if let Some(interface) = interface {
                    self.newest = interface.time(timestamp);
                }
                on_packet(&Packet {
                    link_type: interface.map_or(LINK_TYPE_UNKNOWN, |i| i.link_type),
                    received: self.newest,
                    data: packet.packet_data(),
                });
            }
            Block::SimplePacket(packet) => {
                let interface = self.interfaces.first();
                let kept = match interface.map_or(0, |i| i.snapshot_bytes) {
                    0 => usize::MAX,
                    bytes => bytes as usize,
                };
                let data = packet.packet_data();
                on_packet(&Packet {
                    link_type: interface.map_or(LINK_TYPE_UNKNOWN, |i| i.link_type),
                    received: self.newest,
                    data: data.get(..kept).unwrap_or(data),
                });
            }
            Block::Unknown(unknown) if unknown.block_type == OBSOLETE_PACKET_BLOCK => {
                on_packet(&Packet {
                    link_type: LINK_TYPE_UNKNOWN,
                    received: self.newest,
                    data: &[],
                });
            }
            // Names, statistics, secrets, comments: nothing that was on the wire.
            _ => {}
        }
    }
}

impl Interface {
    fn new(description: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        // The parser reads this option as little-endian in every section.
        let offset_s = description
            .options
            .iter()
            .find(|option| option.code == OptionCode::IfTsoffset)
            .and_then(|option| option.value.first_chunk())
            .map_or(0, |&bytes| match big_endian {
                true => i64::from_be_bytes(bytes),
                false => i64::from_le_bytes(bytes),
            });
        Self {
            link_type: description.linktype.0 as u16,
            resolution: Resolution::from_option(description.if_tsresol),
            offset_s,
            snapshot_bytes: description.snaplen,
        }
    }

    fn time(&self, timestamp: u64) -> UnixNanos {
        let nanos = i128::from(self.resolution.nanos(timestamp))
            + i128::from(self.offset_s) * i128::from(NANOS);
        UnixNanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// The part of the file that is in memory.
#[derive(Debug)]
struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    /// Where the next block begins in `bytes`.
    start: usize,
    /// Where it begins in the file.
    offset: u64,
}

impl<R: Read> Window<R> {
    /// The next `n` bytes, or as many as the file still has. `n` is at most [`PACKET_BYTES_MAX`].
    fn peek(&mut self, n: usize) -> Result<&[u8], ReadError> {
        if self.bytes.len() - self.start < n {
            self.bytes.drain(..self.start);
            self.start = 0;
            let missing = n.max(READ_BYTES) - self.bytes.len();
            // Reads on when interrupted, and stops only at the end of the file.
            (&mut self.source)
                .take(missing as u64)
                .read_to_end(&mut self.bytes)
                .map_err(ReadError::Io)?;
        }
        let bytes = &self.bytes[self.start..];
        Ok(bytes.get(..n).unwrap_or(bytes))
    }

    /// Moves behind the next `n` bytes, which were seen.
    fn skip(&mut self, n: usize) {
        assert!(
            self.bytes.len() - self.start >= n,
            "only seen bytes are skipped"
        );
        self.start += n;
        self.offset += n as u64;
    }

    #[cold]
    fn malformed(&self, problem: &'static str) -> ReadError {
        ReadError::Malformed {
            offset: self.offset,
            problem,
        }
    }
}
