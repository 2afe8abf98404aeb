//! Replays captures: files in, datagrams out.
//!
//! In: pcap and pcapng of the link types that flow captures come in, and files of one raw UDP
//! payload each. Out: each UDP payload, by callback, fragments reassembled. Owner: one thread; it
//! may allocate, within [`FRAGMENT_BYTES_MAX`](fragments::FRAGMENT_BYTES_MAX) and
//! [`PACKET_BYTES_MAX`](packets::PACKET_BYTES_MAX). What is no datagram is counted in
//! [`CaptureCounts`], with a reason.
//! Specs: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng,
//! <https://www.tcpdump.org/linktypes.html>.

pub mod fragments;
pub mod link;
pub mod packets;

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use collector_ebpf::{Ip, Udp, protocol};

use super::Datagram;
use crate::units::UnixNanos;
use fragments::{Fragments, Piece};
use packets::{Packet, PacketReader, ReadError};

/// Longest UDP payload: 65,535 less the UDP header. Only a raw payload file can be longer.
const PAYLOAD_BYTES_MAX: u64 = 65_527;

/// What became of the packets of the captures. Nothing is dropped without a count:
/// `packets + reassembled = datagrams + not_udp + unreadable + link_unknown + fragments`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// Files read.
    pub files: u64,
    /// Packets of captures, and raw payload files.
    pub packets: u64,
    /// UDP payloads handed on.
    pub datagrams: u64,
    /// Of these, cut by the capture's snapshot length: handed on marked as cut.
    pub truncated: u64,
    /// Packets of another protocol than UDP over IP.
    pub not_udp: u64,
    /// Packets whose headers are cut or contradict themselves.
    pub unreadable: u64,
    /// Packets of a link type that is not read.
    pub link_unknown: u64,
    /// Packets that are fragments of a datagram.
    pub fragments: u64,
    /// Of these, those whose datagram never became whole.
    pub fragments_unfinished: u64,
    /// Datagrams put together from fragments.
    pub reassembled: u64,
    /// Files that end in the middle of a packet, which is lost.
    pub files_cut: u64,
}

impl CaptureCounts {
    /// The sum of these and those of other captures.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            files: self.files + other.files,
            packets: self.packets + other.packets,
            datagrams: self.datagrams + other.datagrams,
            truncated: self.truncated + other.truncated,
            not_udp: self.not_udp + other.not_udp,
            unreadable: self.unreadable + other.unreadable,
            link_unknown: self.link_unknown + other.link_unknown,
            fragments: self.fragments + other.fragments,
            fragments_unfinished: self.fragments_unfinished + other.fragments_unfinished,
            reassembled: self.reassembled + other.reassembled,
            files_cut: self.files_cut + other.files_cut,
        }
    }
}

/// Why a capture cannot be read. What came before it was handed on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened or read.
    #[error("{}: {error}; check the path and its permissions", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Neither magic number nor file name say what it is.
    #[error(
        "{}: is neither pcap nor pcapng; convert it with 'editcap', or name a file that holds one \
         raw UDP payload .dat or .bin",
        file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
    },
    /// The file's own structure is broken.
    #[error(
        "{}: byte {offset}: {problem}; repair it with 'pcapfix', or cut it there with 'editcap'",
        file.display()
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where the broken block begins.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A `.dat` or `.bin` file too long for a UDP payload.
    #[error(
        "{}: holds {bytes} bytes, more than the {PAYLOAD_BYTES_MAX} of a UDP payload; split it \
         into one file a datagram",
        file.display()
    )]
    PayloadTooLong {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
}

/// Capture files, read in the order given.
#[derive(Debug)]
pub struct Capture {
    files: Vec<PathBuf>,
}

impl Capture {
    /// The captures to read; nothing is opened yet.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files }
    }

    /// Hands over each datagram of each file. `received` is the capture's time, or now for a raw
    /// payload, which comes from 127.0.0.1 and has no ports: both are 0.
    ///
    /// # Errors
    /// When a file cannot be opened, is no capture, or is broken in its middle. A file that ends
    /// within a packet is only counted.
    pub fn for_each(
        &mut self,
        on_datagram: &mut impl FnMut(&Datagram<'_>),
    ) -> Result<CaptureCounts, CaptureError> {
        let mut counts = CaptureCounts::default();
        for file in &self.files {
            replay_file(file, &mut counts, on_datagram)?;
            counts.files += 1;
        }
        Ok(counts)
    }
}

fn replay_file(
    path: &Path,
    counts: &mut CaptureCounts,
    on_datagram: &mut impl FnMut(&Datagram<'_>),
) -> Result<(), CaptureError> {
    let io_error = |error| CaptureError::Io {
        file: path.into(),
        error,
    };
    let mut file = File::open(path).map_err(io_error)?;
    let mut magic = Vec::new();
    (&mut file)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(io_error)?;
    if packets::is_capture(&magic) {
        let source = io::Cursor::new(magic).chain(file);
        return read(path, source, counts, on_datagram);
    }
    if !is_payload_name(path) {
        return Err(CaptureError::Format { file: path.into() });
    }
    let bytes = file.metadata().map_err(io_error)?.len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(CaptureError::PayloadTooLong {
            file: path.into(),
            bytes,
        });
    }
    let mut payload = magic;
    file.read_to_end(&mut payload).map_err(io_error)?;
    counts.packets += 1;
    counts.datagrams += 1;
    on_datagram(&Datagram {
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        source_port: 0,
        local_port: 0,
        received: UnixNanos::now(),
        payload: &payload,
        cut: false,
    });
    Ok(())
}

/// True for the names of files that hold one UDP payload.
fn is_payload_name(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("dat") || e.eq_ignore_ascii_case("bin"))
}

/// Hands over each datagram of the pcap or pcapng that `source` yields, whose first bytes satisfy
/// [`packets::is_capture`]; errors call it `path`.
///
/// # Errors
/// Those of [`Capture::for_each`].
pub fn read(
    path: &Path,
    source: impl Read,
    counts: &mut CaptureCounts,
    on_datagram: &mut impl FnMut(&Datagram<'_>),
) -> Result<(), CaptureError> {
    let in_file = |error| match error {
        ReadError::Io(error) => CaptureError::Io {
            file: path.into(),
            error,
        },
        ReadError::Malformed { offset, problem } => CaptureError::Malformed {
            file: path.into(),
            offset,
            problem,
        },
    };
    let mut fragments = Fragments::default();
    let outcome = PacketReader::new(source).for_each(&mut |packet| {
        counts.packets += 1;
        replay_packet(packet, &mut fragments, counts, on_datagram);
    });
    counts.fragments_unfinished += fragments.finish();
    let end = outcome.map_err(in_file)?;
    counts.files_cut += u64::from(end.cut);
    Ok(())
}

fn replay_packet(
    packet: &Packet<'_>,
    fragments: &mut Fragments,
    counts: &mut CaptureCounts,
    on_datagram: &mut impl FnMut(&Datagram<'_>),
) {
    let bytes = match link::network_layer(packet.link_type, packet.data) {
        Ok(bytes) => bytes,
        Err(link::NotIp::OtherProtocol) => {
            counts.not_udp += 1;
            return;
        }
        Err(link::NotIp::Unreadable) => {
            counts.unreadable += 1;
            return;
        }
        Err(link::NotIp::LinkUnknown) => {
            counts.link_unknown += 1;
            return;
        }
    };
    let Some(ip) = Ip::parse(bytes) else {
        counts.unreadable += 1;
        return;
    };
    // What stands behind the packet is padding of the link; a header that says 0 means "all".
    let said = match ip.total_length {
        0 => bytes.len(),
        octets => octets as usize,
    };
    let is_whole = said <= bytes.len();
    let bytes = bytes.get(..said).unwrap_or(bytes);
    if !ip.fragment.is_piece() {
        let upper = bytes.get(ip.header_length..).unwrap_or_default();
        return hand_on(
            &ip,
            ip.protocol,
            upper,
            packet.received,
            counts,
            on_datagram,
        );
    }
    let data = bytes.get(ip.fragment.data_offset..).unwrap_or_default();
    counts.fragments += 1;
    if !is_whole {
        counts.fragments_unfinished += 1;
        return;
    }
    let piece = Piece {
        ip: &ip,
        data,
        received: packet.received,
    };
    let (whole, abandoned) = fragments.add(&piece);
    counts.fragments_unfinished += abandoned;
    if let Some(whole) = whole {
        counts.reassembled += 1;
        hand_on(
            &ip,
            ip.fragment.protocol,
            &whole,
            packet.received,
            counts,
            on_datagram,
        );
        fragments.give_back(whole);
    }
}

fn hand_on(
    ip: &Ip,
    ip_protocol: u8,
    upper: &[u8],
    received: UnixNanos,
    counts: &mut CaptureCounts,
    on_datagram: &mut impl FnMut(&Datagram<'_>),
) {
    if ip_protocol != protocol::UDP {
        counts.not_udp += 1;
        return;
    }
    let (Some(udp), Some(rest)) = (Udp::parse(upper), upper.get(Udp::HEADER_BYTES..)) else {
        counts.unreadable += 1;
        return;
    };
    let said = usize::from(udp.length) - Udp::HEADER_BYTES;
    let cut = rest.len() < said;
    counts.datagrams += 1;
    counts.truncated += u64::from(cut);
    let source = Ipv6Addr::from(ip.src);
    on_datagram(&Datagram {
        source: match ip.version {
            4 => source
                .to_ipv4_mapped()
                .map_or(IpAddr::V6(source), IpAddr::V4),
            _ => IpAddr::V6(source),
        },
        source_port: udp.src_port,
        local_port: udp.dst_port,
        received,
        payload: rest.get(..said).unwrap_or(rest),
        cut,
    });
}

#[cfg(test)]
mod tests;
