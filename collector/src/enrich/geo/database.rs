//! One database in MMDB form: read whole, gone through once in the order of its tree, let go.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use maxminddb::{MaxMindDbError, Reader};

use super::GeoError;
use super::record::Said;
use crate::enrich::lpm::Start;

/// A database, checked as far as that is possible without going through it.
pub(super) struct Database<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    reader: Reader<&'a [u8]>,
}

/// A network, or a gap between networks. Each begins where the one before ends.
pub(super) struct Network {
    pub(super) start: Start,
    /// Where it is said what is said of it, in bytes from about where that begins in the file; 0
    /// in a gap.
    pub(super) record: u32,
}

type Outcome<T> = Result<T, GeoError>;

/// The bytes of a file of `bytes_max` at most.
pub(super) fn read(file: &Path, bytes_max: u64) -> Outcome<Vec<u8>> {
    let failed = |source| GeoError::Read {
        file: file.to_path_buf(),
        source,
    };
    let mut opened = File::open(file).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is no file")));
    }
    let large = || GeoError::Large {
        file: file.to_path_buf(),
        max: bytes_max,
    };
    if metadata.len() > bytes_max {
        return Err(large());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    let mut limited = opened.by_ref().take(bytes_max + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    // It grew meanwhile.
    if bytes.len() as u64 > bytes_max {
        return Err(large());
    }
    Ok(bytes)
}

impl<'a> Database<'a> {
    /// Of the bytes of a file.
    pub(super) fn new(file: &'a Path, bytes: &'a [u8]) -> Outcome<Self> {
        let reader = Reader::from_source(bytes).map_err(|error| GeoError::Form {
            file: file.to_path_buf(),
            reason: reason(&error),
        })?;
        Ok(Self {
            file,
            bytes,
            reader,
        })
    }

    /// What it calls itself.
    pub(super) fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Hands each network and each gap to `take`, in the order of addresses. Aliases of IPv4
    /// within IPv6 (`::ffff:0:0/96`, 6to4, Teredo) are gaps.
    ///
    /// Goes through the tree itself: the reader makes a result of each network; numbers are wanted.
    pub(super) fn networks(&self, mut take: impl FnMut(Network) -> Outcome<()>) -> Outcome<()> {
        let tree = Tree::of(&self.reader, self.bytes);
        // A damaged one may lead in ever longer detours.
        let mut left = u64::from(tree.nodes) * 2 + 2;
        // Addresses are at the upper end of these bits, in both families.
        let (mut at, mut depth, mut record) = (0_u128, 0_u32, 0_u32);
        // At each depth where the other bit leads.
        let mut others = [0_u32; 128];
        loop {
            if record < tree.nodes && !tree.is_alias(record, at, depth) {
                let (Some([zero, one]), Some(other), true) = (
                    tree.children(record),
                    others.get_mut(depth as usize),
                    depth < tree.bits,
                ) else {
                    return Err(self.damaged("its tree is deeper than an address is long"));
                };
                left = left
                    .checked_sub(1)
                    .ok_or_else(|| self.damaged("its tree leads in circles"))?;
                *other = one;
                (record, depth) = (zero, depth + 1);
                continue;
            }
            let record_or_gap = record.saturating_sub(tree.nodes);
            tree.at(at, depth, record_or_gap, &mut take)?;
            // The next address has a one where the way turns to the other bit, then zeros.
            let next = 1_u128
                .checked_shl(u128::BITS - depth)
                .and_then(|size| at.checked_add(size));
            let Some(next) = next else {
                return Ok(());
            };
            (at, depth) = (next, u128::BITS - next.trailing_zeros());
            record = others.get(depth as usize - 1).copied().unwrap_or(0);
        }
    }

    /// What is said of a network.
    pub(super) fn said(&self, network: &Network) -> Outcome<Said<'_>> {
        let ip = match network.start {
            Start::V4(bits) => IpAddr::from(Ipv4Addr::from_bits(bits)),
            Start::V6(bits) => IpAddr::from(Ipv6Addr::from_bits(bits)),
        };
        let found = self.reader.lookup(ip);
        match found.and_then(|found| found.decode::<Said<'_>>()) {
            Ok(said) => Ok(said.unwrap_or_default()),
            Err(error) => Err(self.damaged(&reason(&error))),
        }
    }

    fn damaged(&self, reason: &str) -> GeoError {
        GeoError::Damaged {
            file: self.file.to_path_buf(),
            reason: reason.to_owned(),
        }
    }
}

/// The search tree: nodes of two records, by the next bit of an address. A record below `nodes` is
/// the number of a node, `nodes` means that nothing is said, what is above leads to what is said.
struct Tree<'a> {
    bytes: &'a [u8],
    nodes: u32,
    record_bits: u32,
    /// Bits of an address.
    bits: u32,
    /// Where IPv4 begins in a tree of IPv6.
    v4_root: u32,
}

impl<'a> Tree<'a> {
    fn of(reader: &Reader<&[u8]>, bytes: &'a [u8]) -> Self {
        let metadata = reader.metadata();
        let mut tree = Self {
            bytes,
            nodes: metadata.node_count,
            record_bits: metadata.record_size.into(),
            bits: if metadata.ip_version == 6 { 128 } else { 32 },
            v4_root: 0,
        };
        if tree.bits == 128 {
            for _ in 0..V4_DEPTH {
                tree.v4_root = tree
                    .children(tree.v4_root)
                    .map_or(tree.nodes, |[zero, _]| zero);
            }
        }
        tree
    }

    /// Where a zero and a one lead; none at what is no node.
    #[inline]
    fn children(&self, node: u32) -> Option<[u32; 2]> {
        if node >= self.nodes {
            return None;
        }
        let from = node as usize * (self.record_bits as usize / 4);
        // Behind the tree there are 16 bytes that separate it, so that these are always there.
        let bytes = self.bytes.get(from..)?.first_chunk()?;
        let bits = u64::from_be_bytes(*bytes);
        Some(match self.record_bits {
            24 => [(bits >> 40) as u32, (bits >> 16) as u32 & 0x00ff_ffff],
            // The fourth byte has the upper bits of both.
            28 => {
                let upper = (bits >> 36) as u32 & 0xf;
                [
                    upper << 24 | (bits >> 40) as u32,
                    (bits >> 8) as u32 & 0x0fff_ffff,
                ]
            }
            _ => [(bits >> 32) as u32, bits as u32],
        })
    }

    /// Is it the root of IPv4, but elsewhere than at `::/96`?
    #[inline]
    fn is_alias(&self, node: u32, at: u128, depth: u32) -> bool {
        node == self.v4_root && node != 0 && (at, depth) != (0, V4_DEPTH)
    }

    /// Hands on a network. One of IPv6 that holds `::/96`, at which the format has IPv4, is one of
    /// IPv4 too; what is at `::ffff:0:0/96` is of neither.
    #[inline]
    fn at(
        &self,
        at: u128,
        depth: u32,
        record: u32,
        take: &mut impl FnMut(Network) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut take = |start| take(Network { start, record });
        if self.bits == 32 {
            return take(Start::V4((at >> 96) as u32));
        }
        if at >> 32 == 0 && depth > V4_DEPTH {
            return take(Start::V4(at as u32));
        }
        if at == 0 {
            take(Start::V4(0))?;
        }
        match at >> 32 {
            0xffff => Ok(()),
            _ => take(Start::V6(at)),
        }
    }
}

/// Depth of `::/96`.
const V4_DEPTH: u32 = 96;

/// What the reader says, on one line.
fn reason(error: &MaxMindDbError) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
