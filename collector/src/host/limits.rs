//! What this process may do: capabilities, locked memory, huge pages.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// A capability that AF_XDP needs or that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Interfaces, and receive buffers beyond the limit.
    NetAdmin,
    /// AF_XDP sockets.
    NetRaw,
    /// Locked memory beyond the limit.
    IpcLock,
    /// Programs that compute with packet pointers.
    Perfmon,
    /// Programs and maps.
    Bpf,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Bpf,
        Self::NetAdmin,
        Self::NetRaw,
        Self::Perfmon,
        Self::IpcLock,
    ];

    /// As capabilities(7) writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// Its number in `linux/capability.h`.
    fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::IpcLock => 14,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// Those of [`Capability::ALL`] that are in effect for this process; `None` when /proc does not
/// tell.
#[must_use]
pub fn capabilities() -> Option<Vec<Capability>> {
    parse_capabilities(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Bytes that this process may lock (RLIMIT_MEMLOCK); `None` when there is no limit.
#[must_use]
pub fn locked_memory_max() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// The pool of huge pages of the default size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// Pages in the pool (vm.nr_hugepages).
    pub total: u64,
    /// Pages that nobody has.
    pub free: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
}

/// Reads /proc/meminfo; `None` where the kernel has no huge pages.
#[must_use]
pub fn huge_pages() -> Option<HugePages> {
    parse_huge_pages(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_capabilities(status: &str) -> Option<Vec<Capability>> {
    let effective = u64::from_str_radix(value(status, "CapEff:")?, 16).ok()?;
    let has = |capability: &Capability| effective & (1 << capability.bit()) != 0;
    Some(Capability::ALL.into_iter().filter(has).collect())
}

fn parse_huge_pages(meminfo: &str) -> Option<HugePages> {
    let number = |key| value(meminfo, key)?.parse::<u64>().ok();
    Some(HugePages {
        total: number("HugePages_Total:")?,
        free: number("HugePages_Free:")?,
        page_bytes: number("Hugepagesize:")? * 1024,
    })
}

/// The first word behind `key` at the beginning of a line.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_in_effect() {
        let status = "Name:\tsh\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000003000\n";
        let three = vec![
            Capability::Bpf,
            Capability::NetAdmin,
            Capability::NetRaw,
            Capability::Perfmon,
        ];
        assert_eq!(parse_capabilities(status), Some(three));
        assert_eq!(
            parse_capabilities("CapEff:\t0000000000000000\n"),
            Some(vec![])
        );
        assert_eq!(parse_capabilities("Name:\tsh\n"), None);
    }

    #[test]
    fn huge_pages_are_counted_in_their_size() {
        let text = "MemFree:  1 kB\nHugePages_Total:      64\nHugePages_Free:       60\n\
                    HugePages_Rsvd:        0\nHugepagesize:       2048 kB\n";
        let pages = HugePages {
            total: 64,
            free: 60,
            page_bytes: 2 << 20,
        };
        assert_eq!(parse_huge_pages(text), Some(pages));
        assert_eq!(parse_huge_pages("MemFree:  1 kB\n"), None);
    }
}
