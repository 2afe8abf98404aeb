//! What a driver says of its card: `SIOCETHTOOL`.
//!
//! Ioctls rather than the newer netlink family `ethtool`: the fields of the RSS hash are told there
//! only since Linux 6.17, and an ioctl answers a question with one call. The crate `ethtool` speaks
//! that family asynchronously and lacks them as well.
//!
//! Spec: <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/ethtool.h>.

#![allow(
    unsafe_code,
    reason = "an ioctl takes a pointer to a structure of pointers, which only libc has"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;

use serde::Serialize;
use socket2::{Domain, Socket, Type};

/// One interface's driver, to be asked.
#[derive(Debug)]
pub struct Ethtool {
    socket: Socket,
    name: [libc::c_char; libc::IFNAMSIZ],
}

/// Who drives the card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// The driver's name.
    pub name: String,
    /// The firmware's version; empty where there is none.
    pub firmware: String,
    /// The address on its bus; empty for a device without hardware.
    pub bus_address: String,
}

/// How many queues there are, and how many there could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Channels {
    /// Channels that only receive.
    pub rx: u32,
    /// The most of them.
    pub rx_max: u32,
    /// Channels that receive and send.
    pub combined: u32,
    /// The most of them.
    pub combined_max: u32,
}

/// Descriptors of each receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rings {
    /// Now.
    pub rx: u32,
    /// The most.
    pub rx_max: u32,
}

/// What the card's receive hash of UDP is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HashFields {
    /// The source address.
    pub source: bool,
    /// The destination address.
    pub destination: bool,
    /// The source port.
    pub source_port: bool,
    /// The destination port.
    pub destination_port: bool,
}

/// An offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// It is on.
    pub is_on: bool,
    /// It can be switched.
    pub is_changeable: bool,
}

impl Ethtool {
    /// For the interface of this name in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `EINVAL` for a name that no interface can have, and when no socket can be made.
    pub fn of(interface: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        // The last byte stays zero.
        if interface.is_empty() || interface.len() >= name.len() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from.cast_signed();
        }
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        Ok(Self { socket, name })
    }

    /// `ETHTOOL_GDRVINFO`
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the driver does not say, here and below.
    pub fn driver(&self) -> io::Result<Driver> {
        // cmd; driver, version, fw_version, bus_info, erom_version: 32 bytes each; 12 reserved;
        // five counts.
        let mut words = [0; 1 + 5 * 8 + 3 + 5];
        self.call(GET_DRIVER, &mut words)?;
        let text = |index: usize| string(&words[1 + 8 * index..][..8]);
        Ok(Driver {
            name: text(0),
            firmware: text(2),
            bus_address: text(3),
        })
    }

    /// `ETHTOOL_GCHANNELS`
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the driver does not say.
    pub fn channels(&self) -> io::Result<Channels> {
        // cmd; max_rx, max_tx, max_other, max_combined; the same, now.
        let mut words = [0; 9];
        self.call(GET_CHANNELS, &mut words)?;
        Ok(Channels {
            rx: words[5],
            rx_max: words[1],
            combined: words[8],
            combined_max: words[4],
        })
    }

    /// `ETHTOOL_GRINGPARAM`
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the driver does not say.
    pub fn rings(&self) -> io::Result<Rings> {
        // cmd; rx, rx_mini, rx_jumbo, tx at most; the same, now.
        let mut words = [0; 9];
        self.call(GET_RINGS, &mut words)?;
        Ok(Rings {
            rx: words[5],
            rx_max: words[1],
        })
    }

    /// `ETHTOOL_GRXFH` of UDP over IPv6, else over IPv4.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the driver does not say.
    pub fn udp_hash_fields(&self, is_ipv6: bool) -> io::Result<HashFields> {
        // struct ethtool_rxnfc: cmd, flow_type, data (64 bits), a rule of 168 bytes, a count.
        let mut words = [0; 48];
        words[1] = if is_ipv6 { UDP_V6_FLOW } else { UDP_V4_FLOW };
        self.call(GET_HASH_FIELDS, &mut words)?;
        let [low, high] = [words[2], words[3]].map(u32::to_ne_bytes);
        let mut data = [0; 8];
        data[..4].copy_from_slice(&low);
        data[4..].copy_from_slice(&high);
        Ok(HashFields::from_bits(u64::from_ne_bytes(data)))
    }

    /// `ETHTOOL_GRXFHINDIR`: the queue of each value of the hash.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the driver has no such table.
    pub fn indirection(&self) -> io::Result<Vec<u32>> {
        // cmd, size, the table; a size of zero asks for the size.
        let mut words = [0; 2];
        self.call(GET_INDIRECTION, &mut words)?;
        let size = words[1];
        if size == 0 {
            return Ok(Vec::new());
        }
        // Were the table's size another by now, the kernel would refuse instead of writing it.
        let mut words = vec![0; 2 + size as usize];
        words[1] = size;
        self.call(GET_INDIRECTION, &mut words)?;
        Ok(words.split_off(2))
    }

    /// The offloads by the kernel's names (`rx-lro`, `rx-gro-hw`): `ETHTOOL_GSTRINGS`,
    /// `ETHTOOL_GFEATURES`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn features(&self) -> io::Result<BTreeMap<String, Feature>> {
        // cmd, reserved, sset_mask (64 bits), the length of each set in it.
        let mut words = [0; 5];
        words[2..4].copy_from_slice(&FEATURE_STRINGS_MASK);
        self.call(GET_STRING_COUNTS, &mut words)?;
        let count = words[4] as usize;
        // cmd, string_set, len, 32 bytes each. The kernel built in how many there are.
        let mut strings = vec![0; 3 + 8 * count];
        strings[1] = FEATURE_STRINGS;
        strings[2] = words[4];
        self.call(GET_STRINGS, &mut strings)?;
        // cmd, size, then available, requested, active, never_changed for 32 features each.
        let blocks = count.div_ceil(32);
        let mut words = vec![0; 2 + 4 * blocks];
        words[1] = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.call(GET_FEATURES, &mut words)?;
        let features = (0..count).map(|index| {
            let block = &words[2 + 4 * (index / 32)..][..4];
            let bit = 1 << (index % 32);
            let feature = Feature {
                is_on: block[2] & bit != 0,
                is_changeable: block[0] & bit != 0 && block[3] & bit == 0,
            };
            (string(&strings[3 + 8 * index..][..8]), feature)
        });
        Ok(features.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// Asks `command`; the answer is written over `words`, whose caller in this file makes it as
    /// long as the command's structure with the table that it ends in.
    fn call(&self, command: u32, words: &mut [u32]) -> io::Result<()> {
        words[0] = command;
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: words.as_mut_ptr().cast(),
            },
        };
        // SAFETY: `request` is a whole `ifreq` whose name ends in a zero. Its pointer is that of
        // `words`, which nothing else refers to during the call and to which the kernel writes the
        // structure of `command`: of a fixed size, or with the number of entries that stands in it.
        // The functions above, the only callers, make `words` that long.
        let outcome = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL as libc::Ioctl,
                &raw mut request,
            )
        };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl HashFields {
    fn from_bits(bits: u64) -> Self {
        let has = |bit: u32| bits & (1 << bit) != 0;
        Self {
            source: has(4),
            destination: has(5),
            source_port: has(6),
            destination_port: has(7),
        }
    }

    /// As `ethtool -N ... rx-flow-hash` writes them: of `s`, `d`, `f` and `n`.
    #[must_use]
    pub fn letters(self) -> String {
        let letters = [
            (self.source, 's'),
            (self.destination, 'd'),
            (self.source_port, 'f'),
            (self.destination_port, 'n'),
        ];
        letters
            .iter()
            .filter_map(|(has, letter)| has.then_some(*letter))
            .collect()
    }
}

/// Text in words, up to its first zero.
fn string(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

const GET_DRIVER: u32 = 0x03;
const GET_RINGS: u32 = 0x10;
const GET_STRINGS: u32 = 0x1b;
const GET_HASH_FIELDS: u32 = 0x29;
const GET_STRING_COUNTS: u32 = 0x37;
const GET_INDIRECTION: u32 = 0x38;
const GET_FEATURES: u32 = 0x3a;
const GET_CHANNELS: u32 = 0x3c;
const UDP_V4_FLOW: u32 = 0x02;
const UDP_V6_FLOW: u32 = 0x06;
/// `ETH_SS_FEATURES`
const FEATURE_STRINGS: u32 = 4;
/// Its bit in 64 as two words, in the order of this machine.
const FEATURE_STRINGS_MASK: [u32; 2] = if cfg!(target_endian = "little") {
    [1 << FEATURE_STRINGS, 0]
} else {
    [0, 1 << FEATURE_STRINGS]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_fields_are_written_as_ethtool_takes_them() {
        let sdfn = HashFields::from_bits(0b1111_0000);
        assert_eq!(sdfn.letters(), "sdfn");
        assert_eq!(HashFields::from_bits(0b0011_0000).letters(), "sd");
        assert_eq!(HashFields::from_bits(0).letters(), "");
    }

    #[test]
    fn text_ends_at_its_first_zero() {
        let words = [*b"virt", *b"io_n", *b"et\0x", *b"yzzz"].map(u32::from_ne_bytes);
        assert_eq!(string(&words), "virtio_net");
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_refused() {
        for name in ["", "an-interface-name"] {
            let error = Ethtool::of(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{name}");
        }
    }

    #[test]
    fn the_loopback_has_features_and_no_rings() {
        let lo = Ethtool::of("lo").unwrap();
        let features = lo.features().unwrap();
        let gro = features.get("rx-gro").expect("every kernel has rx-gro");
        assert!(gro.is_changeable);
        let error = lo.rings().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn what_does_not_exist_is_enodev() {
        let error = Ethtool::of("flowsluice-none").unwrap().features();
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
