//! Loads the XDP program, attaches it to an interface and fills its maps.
//!
//! The program is the committed object of `collector-ebpf`. It is attached by a bpf_link, which the
//! kernel detaches when its descriptor is closed, by whatever end of the process; the netlink way,
//! which neither does that nor is sure to spare a program that is there already, is not taken.

#![allow(
    unsafe_code,
    reason = "making a bpf_link is a system call that takes a structure by address"
)]

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use collector_ebpf::{Verdict, maps};
use ipnet::IpNet;
use tracing::warn;

use super::{Step, XdpRefused};
use crate::config;
use crate::flow::Address;

/// The program and its maps, on one interface at most.
pub struct Program {
    interface: String,
    /// Which of the object's two programs it is.
    name: &'static str,
    ebpf: Ebpf,
    link: Option<OwnedFd>,
    // What the maps have, so that only differences are written.
    ports: BTreeSet<u16>,
    destinations: BTreeSet<[u8; 16]>,
    allowed: BTreeSet<Prefix>,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// After it is made.
    Skb,
}

impl Program {
    /// Makes the maps and has the program verified: the one that reads through pointers when the
    /// process has CAP_PERFMON (`perfmon`), else the one that lets the kernel copy headers.
    ///
    /// # Errors
    /// When the kernel refuses either; the last lines of the verifier are in the detail.
    pub fn load(interface: &str, perfmon: bool) -> Result<Self, XdpRefused> {
        let name = if perfmon {
            maps::STEER
        } else {
            maps::STEER_COPYING
        };
        // No relocation against the kernel's types is in the object: reading them takes 20 ms.
        let mut ebpf = (EbpfLoader::new().btf(None))
            .load(OBJECT)
            .map_err(|error| refused(interface, Step::Maps, &error))?;
        xdp(&mut ebpf, name)
            .load()
            .map_err(|error| refused_load(interface, &error))?;
        Ok(Self {
            interface: interface.to_owned(),
            name,
            ebpf,
            link: None,
            ports: BTreeSet::new(),
            destinations: BTreeSet::new(),
            allowed: BTreeSet::new(),
        })
    }

    /// Attaches the program to the interface of this index; `Auto` takes the driver where it can.
    ///
    /// # Errors
    /// `EBUSY` or `EEXIST` when another program is there, which is left alone; the driver's error
    /// when it has no place for one.
    pub fn attach(
        &mut self,
        if_index: u32,
        attach: config::XdpAttach,
    ) -> Result<Attached, XdpRefused> {
        match attach {
            config::XdpAttach::Native => self.link(if_index, Attached::Native),
            config::XdpAttach::Skb => self.link(if_index, Attached::Skb),
            config::XdpAttach::Auto => match self.link(if_index, Attached::Native) {
                Err(refused) if !matches!(refused.errno, libc::EBUSY | libc::EEXIST) => {
                    let attached = self.link(if_index, Attached::Skb)?;
                    warn!(
                        interface = self.interface,
                        requested = "native",
                        actual = "skb",
                        "{}",
                        io::Error::from_raw_os_error(refused.errno)
                    );
                    Ok(attached)
                }
                outcome => outcome,
            },
        }
    }

    /// Detaches the program; the kernel gets every frame again. The maps stay.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The UDP ports that are listened on.
    ///
    /// # Errors
    /// When the map has no room.
    pub fn set_ports(&mut self, ports: &[u16]) -> Result<(), XdpRefused> {
        let mut map: HashMap<_, u16, u8> = typed(&mut self.ebpf, maps::PORTS);
        let wanted = ports.iter().copied().collect();
        replace(&mut self.ports, &wanted, |change| match change {
            Change::In(port) => map.insert(port, PRESENT, 0),
            Change::Out(port) => map.remove(&port),
        })
        .map_err(|error| refused(&self.interface, Step::Maps, &error))
    }

    /// The addresses that datagrams are sent to; none steers nothing.
    ///
    /// # Errors
    /// When the map has no room.
    pub fn set_destinations(&mut self, addresses: &[IpAddr]) -> Result<(), XdpRefused> {
        let mut map: HashMap<_, [u8; 16], u8> = typed(&mut self.ebpf, maps::DESTINATIONS);
        let addresses = addresses.iter().copied();
        let wanted = addresses.map(|address| Address::from(address).0).collect();
        replace(&mut self.destinations, &wanted, |change| match change {
            Change::In(address) => map.insert(address, PRESENT, 0),
            Change::Out(address) => map.remove(&address),
        })
        .map_err(|error| refused(&self.interface, Step::Maps, &error))
    }

    /// The prefixes that datagrams may come from; none allows all. While the list changes, what
    /// both the old and the new one allow stays allowed.
    ///
    /// # Errors
    /// When the map has no room.
    pub fn set_allowed(&mut self, prefixes: &[IpNet]) -> Result<(), XdpRefused> {
        let wanted: BTreeSet<_> = prefixes.iter().map(Prefix::from).collect();
        let is_active = !wanted.is_empty();
        if !is_active {
            self.activate_allow_list(false)?;
        }
        let mut map: LpmTrie<_, [u8; 16], u8> = typed(&mut self.ebpf, maps::ALLOWED);
        replace(&mut self.allowed, &wanted, |change| match change {
            Change::In(prefix) => map.insert(&prefix.key(), PRESENT, 0),
            Change::Out(prefix) => map.remove(&prefix.key()),
        })
        .map_err(|error| refused(&self.interface, Step::Maps, &error))?;
        if is_active {
            self.activate_allow_list(true)?;
        }
        Ok(())
    }

    /// Steers the datagrams of `queue` to `socket`, which must be bound to that queue. The kernel
    /// forgets the socket when it is closed.
    ///
    /// # Errors
    /// When the descriptor is no AF_XDP socket, or the queue is beyond [`maps::QUEUES_MAX`].
    pub fn steer_to(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpRefused> {
        let mut map: XskMap<_> = typed(&mut self.ebpf, maps::XSKS);
        let outcome = map.set(queue, socket.as_raw_fd(), 0);
        outcome.map_err(|error| XdpRefused {
            queue: Some(queue),
            ..refused(&self.interface, Step::Steer, &error)
        })
    }

    /// Frames since the program was loaded, in the order of [`Verdict::ALL`].
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn counters(&self) -> Result<[u64; Verdict::COUNT], XdpRefused> {
        let map = self.ebpf.map(maps::COUNTERS).expect(HAS_MAPS);
        let map: PerCpuArray<&MapData, u64> = map.try_into().expect(HAS_MAPS);
        let mut counters = [0; Verdict::COUNT];
        for (verdict, counter) in Verdict::ALL.into_iter().zip(&mut counters) {
            let frames = map.get(&verdict.index(), 0);
            let frames = frames.map_err(|error| refused(&self.interface, Step::Maps, &error))?;
            *counter = frames
                .iter()
                .fold(0_u64, |sum, frames| sum.wrapping_add(*frames));
        }
        Ok(counters)
    }

    fn activate_allow_list(&mut self, is_active: bool) -> Result<(), XdpRefused> {
        let mut map: Array<_, u32> = typed(&mut self.ebpf, maps::SETTINGS);
        map.set(maps::IS_ALLOW_LIST_ACTIVE, u32::from(is_active), 0)
            .map_err(|error| refused(&self.interface, Step::Maps, &error))
    }

    fn link(&mut self, if_index: u32, attached: Attached) -> Result<Attached, XdpRefused> {
        let program = xdp(&mut self.ebpf, self.name).fd().expect(IS_LOADED);
        let link = link_create(program.as_fd(), if_index, attached);
        let link =
            link.map_err(|error| XdpRefused::new(&self.interface, None, Step::Attach, &error))?;
        self.link = Some(link);
        Ok(attached)
    }
}

/// A prefix as the program looks it up; IPv4 is 96 bits longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    bits: u8,
    address: [u8; 16],
}

impl Prefix {
    fn key(&self) -> Key<[u8; 16]> {
        Key::new(u32::from(self.bits), self.address)
    }
}

impl From<&IpNet> for Prefix {
    fn from(net: &IpNet) -> Self {
        let above = match net {
            IpNet::V4(_) => 128 - 32,
            IpNet::V6(_) => 0,
        };
        Self {
            bits: above + net.prefix_len(),
            address: Address::from(net.network()).0,
        }
    }
}

/// The attribute of BPF_LINK_CREATE, `link_create` of
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>; the kernel takes what
/// follows in `union bpf_attr` for zero.
#[repr(C)]
struct LinkCreate {
    program: u32,
    if_index: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches `program`; unlike netlink, this never replaces another one.
fn link_create(program: BorrowedFd<'_>, if_index: u32, attached: Attached) -> io::Result<OwnedFd> {
    let attribute = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        if_index,
        attach_type: BPF_XDP,
        flags: match attached {
            Attached::Native => XDP_FLAGS_DRV_MODE,
            Attached::Skb => XDP_FLAGS_SKB_MODE,
        },
    };
    // SAFETY: the kernel reads `attribute`, which is as long as is said and outlives the call.
    let link = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_CREATE,
            &raw const attribute,
            size_of::<LinkCreate>(),
        )
    };
    if link < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(link as i32) })
}

/// An entry that comes into a map or leaves it.
enum Change<K> {
    In(K),
    Out(K),
}

/// Makes `current` what is `wanted`: new entries come in before old ones go out, so that what is
/// in both never misses.
fn replace<K: Ord + Copy>(
    current: &mut BTreeSet<K>,
    wanted: &BTreeSet<K>,
    mut apply: impl FnMut(Change<K>) -> Result<(), MapError>,
) -> Result<(), MapError> {
    for key in wanted.difference(&current.clone()) {
        apply(Change::In(*key))?;
        current.insert(*key);
    }
    for key in current.clone().difference(wanted) {
        apply(Change::Out(*key))?;
        current.remove(key);
    }
    Ok(())
}

fn typed<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> M
where
    M: TryFrom<&'a mut Map, Error = MapError>,
{
    let map = ebpf.map_mut(name).expect(HAS_MAPS);
    map.try_into().expect(HAS_MAPS)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = ebpf.program_mut(name).expect(HAS_MAPS);
    program.try_into().expect(HAS_MAPS)
}

/// The kernel's error number somewhere below `error`, or what it says.
#[cold]
fn refused(interface: &str, step: Step, error: &(dyn Error + 'static)) -> XdpRefused {
    let mut text = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return XdpRefused::new(interface, None, step, error);
        }
        cause = error.source();
        if let Some(error) = cause {
            text = format!("{text}: {error}");
        }
    }
    XdpRefused::because(interface, step, text)
}

#[cold]
fn refused_load(interface: &str, error: &ProgramError) -> XdpRefused {
    let mut refused = refused(interface, Step::Load, error);
    if let ProgramError::LoadError { verifier_log, .. } = error {
        refused.detail = last_lines(&verifier_log.to_string());
    }
    refused
}

/// What the verifier said last, without its statistics.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = (log.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_statistic(line))
        .collect();
    lines[lines.len().saturating_sub(VERIFIER_LINES)..].join(" | ")
}

fn is_statistic(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth ", "insns "]
        .iter()
        .any(|begin| line.starts_with(begin))
}

/// Both programs; built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../collector-ebpf/flowsluice.bpf.o"
));
const HAS_MAPS: &str = "the object has this by the names of collector_ebpf::maps";
const IS_LOADED: &str = "a Program is made only when it is loaded";
/// Value of an entry whose key is all that is asked for.
const PRESENT: u8 = 1;
const VERIFIER_LINES: usize = 3;

/// `enum bpf_cmd`, `enum bpf_attach_type` of
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>.
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_XDP: u32 = 37;
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/if_link.h>
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

#[cfg(test)]
mod tests;
