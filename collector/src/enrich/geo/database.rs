//! One database in MMDB form: read whole, gone through once in the order of its tree, let go.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};

use super::GeoError;
use super::record::Said;
use crate::flow::Address;

/// The bytes of a database, checked as far as that is possible without going through it.
pub(super) struct Database<'a> {
    file: &'a Path,
    reader: Reader<Vec<u8>>,
}

/// A network: its first and last address, and where what is said of it stands.
pub(super) struct Network {
    pub(super) start: Address,
    pub(super) end: Address,
    /// The same number means that the same is said.
    pub(super) offset: u32,
}

type Outcome<T> = Result<T, GeoError>;

impl<'a> Database<'a> {
    /// Reads a file of `bytes_max` at most.
    pub(super) fn read(file: &'a Path, bytes_max: u64) -> Result<Self, GeoError> {
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
        let reader = Reader::from_source(bytes).map_err(|error| GeoError::Form {
            file: file.to_path_buf(),
            reason: reason(&error),
        })?;
        Ok(Self { file, reader })
    }

    /// What it calls itself.
    pub(super) fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Hands each network to `take`, in the order of addresses, with a way to read what is said
    /// of it. Aliases of IPv4 within IPv6 (6to4, Teredo) are left out.
    pub(super) fn networks<'s>(
        &'s self,
        mut take: impl FnMut(Network, &dyn Fn() -> Outcome<Said<'s>>) -> Outcome<()>,
    ) -> Result<(), GeoError> {
        let damaged = |error: &MaxMindDbError| self.damaged(reason(error));
        // Empty networks are asked for as well, so that each step of the way through the tree is
        // counted: a damaged one may lead in ever longer detours.
        let options = WithinOptions::default().include_networks_without_data();
        let nodes = self.reader.metadata().node_count as usize;
        let mut left = nodes.saturating_mul(2).saturating_add(2);
        for network in self.reader.networks(options).map_err(|e| damaged(&e))? {
            let network = network.map_err(|e| damaged(&e))?;
            left = left
                .checked_sub(1)
                .ok_or_else(|| self.damaged("its tree leads in circles".to_owned()))?;
            // Records of 32 bits at most lead there.
            let Some(offset) = network
                .offset()
                .and_then(|offset| u32::try_from(offset).ok())
            else {
                continue;
            };
            let said = || match network.decode::<Said<'_>>() {
                Ok(said) => Ok(said.unwrap_or_default()),
                Err(error) => Err(damaged(&error)),
            };
            for (start, end) in self
                .ends(&network)
                .map_err(|e| damaged(&e))?
                .into_iter()
                .flatten()
            {
                take(Network { start, end, offset }, &said)?;
            }
        }
        Ok(())
    }

    /// First and last address; those of IPv4 too where a network of IPv6 holds `::/96`, at which
    /// the format has IPv4.
    fn ends(
        &self,
        network: &LookupResult<'_, Vec<u8>>,
    ) -> Result<[Option<(Address, Address)>; 2], MaxMindDbError> {
        let prefix = network.network()?;
        let ends = (
            Address::from(prefix.network()),
            Address::from(prefix.broadcast()),
        );
        let holds_v4 = match prefix.network() {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6 == Ipv6Addr::UNSPECIFIED && prefix.prefix() <= 96,
        };
        let v4 = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
        Ok([holds_v4.then_some(v4), Some(ends)])
    }

    fn damaged(&self, reason: String) -> GeoError {
        GeoError::Damaged {
            file: self.file.to_path_buf(),
            reason,
        }
    }
}

/// What the reader says, on one line.
fn reason(error: &MaxMindDbError) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
