//! Which exporters there are: protocol, role, clock, and their share of the flows.

use std::net::Ipv4Addr;

use super::Protocol;
use super::hosts::scramble;

/// Where in the network an exporter stands; decides its sampling, load and interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An access switch: 48 ports, sees every packet of its own hosts.
    Access,
    /// A distribution router: sees all hosts, one packet in 100.
    Distribution,
    /// A border router: sees all hosts, one packet in 1000, and knows autonomous systems.
    Border,
}

impl Role {
    /// Packets on the wire for one that is looked at.
    #[must_use]
    pub const fn sampling_rate(self) -> u32 {
        match self {
            Self::Access => 1,
            Self::Distribution => 100,
            Self::Border => 1000,
        }
    }

    /// Flows of such an exporter for one of an access switch with the same protocol.
    const fn load(self) -> u32 {
        match self {
            Self::Access => 1,
            Self::Distribution => 4,
            Self::Border => 8,
        }
    }

    /// The observation domains: two line cards on the big ones.
    #[must_use]
    pub const fn domains(self) -> &'static [u32] {
        match self {
            Self::Access => &[0],
            Self::Distribution | Self::Border => &[1, 2],
        }
    }
}

/// One simulated exporter.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it stands.
    pub role: Role,
    /// Which of the access switches it is; `None` unless its role is [`Role::Access`].
    pub access: Option<u32>,
    /// Its own address, announced as the sFlow agent.
    pub management: Ipv4Addr,
    /// Its part of all flows; the parts of all exporters add up to 1.
    pub share: f64,
    /// When it booted, milliseconds since the epoch by its own clock.
    boot_ms: u64,
    /// When it boots again.
    reboot_ms: u64,
    /// How far its clock is ahead.
    clock_ahead_ms: u64,
}

impl Exporter {
    /// What its clock shows at `wall_ms`, milliseconds since the epoch.
    #[must_use]
    pub fn clock_ms(&self, wall_ms: u64) -> u64 {
        wall_ms + self.clock_ahead_ms
    }

    /// When it booted last, seen at `clock_ms` of its own clock.
    #[must_use]
    pub fn booted_ms(&self, clock_ms: u64) -> u64 {
        if clock_ms >= self.reboot_ms {
            self.reboot_ms
        } else {
            self.boot_ms
        }
    }

    /// Packets on the wire for one that it looks at, the same on all of its interfaces.
    #[must_use]
    pub fn sampling_rate(&self) -> u32 {
        self.role.sampling_rate()
    }
}

/// The exporters of a run. A few keep the mix: of four there is one for each protocol.
pub fn plan(only: Option<Protocol>, count: usize, seed: u64, start_ms: u64) -> Vec<Exporter> {
    let protocols = match only {
        Some(protocol) => vec![protocol; count],
        None => mixed(count),
    };
    let roles = roles(count);
    let mut access = 0;
    let mut exporters: Vec<Exporter> = protocols
        .into_iter()
        .zip(roles)
        .enumerate()
        .map(|(index, (protocol, role))| {
            let random = scramble(seed ^ ((index as u64 + 1) << 32));
            let exporter = Exporter {
                protocol,
                role,
                access: (role == Role::Access).then_some(access),
                management: Ipv4Addr::from_bits(MANAGEMENT + 1 + index as u32),
                share: 0.0,
                boot_ms: start_ms.saturating_sub(UPTIME_MIN_MS + random % UPTIME_SPREAD_MS),
                reboot_ms: u64::MAX,
                clock_ahead_ms: 0,
            };
            access += u32::from(role == Role::Access);
            exporter
        })
        .collect();
    share_out(&mut exporters);
    misbehave(&mut exporters, start_ms);
    exporters
}

/// Shares of the protocols in all flows, in the order in which few exporters take them.
const MIX: [(Protocol, usize); 4] = [
    (Protocol::Netflow9, 55),
    (Protocol::Ipfix, 30),
    (Protocol::Sflow5, 10),
    (Protocol::Netflow5, 5),
];

fn mixed(count: usize) -> Vec<Protocol> {
    let mut left: Vec<(Protocol, usize)> = MIX
        .iter()
        .take(count)
        .map(|&(protocol, percent)| (protocol, (count * percent / 100).max(1)))
        .collect();
    // NetFlow v9 takes what rounding left over.
    let others: usize = left.iter().skip(1).map(|(_, n)| n).sum();
    if let Some(first) = left.first_mut() {
        first.1 = count - others;
    }
    let mut protocols = Vec::with_capacity(count);
    while protocols.len() < count {
        for (protocol, n) in left.iter_mut().filter(|(_, n)| *n > 0) {
            protocols.push(*protocol);
            *n -= 1;
        }
    }
    protocols
}

/// The first four show every role; after them come the other routers, then access switches.
fn roles(count: usize) -> impl Iterator<Item = Role> {
    let routers = |percent: usize, shown: usize| (count * percent / 100).saturating_sub(shown);
    [
        Role::Access,
        Role::Border,
        Role::Distribution,
        Role::Distribution,
    ]
    .into_iter()
    .chain(std::iter::repeat_n(Role::Border, routers(4, 1)))
    .chain(std::iter::repeat_n(Role::Distribution, routers(16, 2)))
    .chain(std::iter::repeat(Role::Access))
}

fn share_out(exporters: &mut [Exporter]) {
    let present = |protocol| exporters.iter().any(|e| e.protocol == protocol);
    let percent_present: usize = MIX
        .iter()
        .filter(|(p, _)| present(*p))
        .map(|(_, n)| n)
        .sum();
    let shares: Vec<f64> = exporters
        .iter()
        .map(|exporter| {
            let same = exporters.iter().filter(|e| e.protocol == exporter.protocol);
            let load: u32 = same.map(|e| e.role.load()).sum();
            let percent = MIX
                .iter()
                .find(|(p, _)| *p == exporter.protocol)
                .map_or(0, |m| m.1);
            let of_protocol = percent as f64 / percent_present as f64;
            of_protocol * f64::from(exporter.role.load()) / f64::from(load)
        })
        .collect();
    for (exporter, share) in exporters.iter_mut().zip(shares) {
        exporter.share = share;
    }
}

/// In a network of some size one clock is wrong and one switch restarts.
fn misbehave(exporters: &mut [Exporter], start_ms: u64) {
    if exporters.len() < MISBEHAVIOUR_FROM {
        return;
    }
    if let [.., wrong_clock, restarts] = exporters {
        wrong_clock.clock_ahead_ms = CLOCK_AHEAD_MS;
        wrong_clock.boot_ms += CLOCK_AHEAD_MS;
        restarts.reboot_ms = start_ms + REBOOT_AFTER_MS;
    }
}

const MISBEHAVIOUR_FROM: usize = 20;
const CLOCK_AHEAD_MS: u64 = 90_000;
const REBOOT_AFTER_MS: u64 = 300_000;
const DAY_MS: u64 = 86_400_000;
const UPTIME_MIN_MS: u64 = DAY_MS;
/// With the least uptime below 2^32 ms (49.7 days): no run begins with a wrapped uptime.
const UPTIME_SPREAD_MS: u64 = 40 * DAY_MS;
/// 10.23.240.0, above the subnets of the inside hosts.
const MANAGEMENT: u32 = 0x0a17_f000;

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_750_000_000_000;

    #[test]
    fn four_exporters_speak_the_four_protocols_in_all_three_roles() {
        let exporters = plan(None, 4, 1, START_MS);
        for protocol in Protocol::ALL {
            assert_eq!(
                exporters.iter().filter(|e| e.protocol == protocol).count(),
                1
            );
        }
        for role in [Role::Access, Role::Distribution, Role::Border] {
            assert!(exporters.iter().any(|e| e.role == role), "{role:?}");
        }
    }

    #[test]
    fn fifty_exporters_are_forty_switches_eight_routers_and_two_borders() {
        let exporters = plan(None, 50, 1, START_MS);
        let of = |role| exporters.iter().filter(|e| e.role == role).count();
        assert_eq!(
            (of(Role::Access), of(Role::Distribution), of(Role::Border)),
            (40, 8, 2)
        );
        let speak = |protocol| exporters.iter().filter(|e| e.protocol == protocol).count();
        assert_eq!(Protocol::ALL.map(speak), [2, 28, 15, 5]);
    }

    #[test]
    fn the_shares_of_any_number_of_exporters_add_up_to_one() {
        for count in 1..70 {
            let sum: f64 = plan(None, count, 1, START_MS).iter().map(|e| e.share).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{count} exporters: {sum}");
        }
    }

    #[test]
    fn uptime_starts_again_at_the_reboot() {
        let exporters = plan(None, 50, 1, START_MS);
        let last = &exporters[49];
        let before = START_MS + REBOOT_AFTER_MS - 1;
        assert!(before - last.booted_ms(before) > DAY_MS);
        assert_eq!(last.booted_ms(before + 1), before + 1);
    }
}
