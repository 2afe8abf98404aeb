//! One interface: what it is, and whether XDP and AF_XDP get on with it.

use std::collections::BTreeMap;
use std::io;

use flowsluice::config::{XdpAttach, XdpCopy};
use flowsluice::host::bpf::{self, Loaded};
use flowsluice::host::ethtool::{Ethtool, Feature};
use flowsluice::host::interface::{AttachedXdp, XdpMode};
use flowsluice::host::netdev::{self, XdpFeatures};
use flowsluice::host::{Interface, Kind};

use super::report::{Check, Section, State};
use super::{Wanted, counted, queues};

/// An interface whose queues frames come in by; those of `carried`, a VLAN or a bond, if any.
pub fn section(wanted: &Wanted, interface: &Interface, carried: Option<&str>) -> Section {
    let name = &interface.name;
    let ethtool = Ethtool::of(name);
    let ask = |it: &io::Result<Ethtool>| match it {
        Ok(ethtool) => ethtool.features(),
        Err(error) => Err(io::Error::from(error.kind())),
    };
    let features = netdev::xdp_features(interface.index);
    let mut checks = vec![link(wanted, interface)];
    checks.extend(kind(wanted, interface));
    checks.extend([
        attached(wanted, interface, bpf::loaded),
        xdp(wanted, &features),
        zero_copy(wanted, &features),
        mtu(wanted, interface, &features),
        offloads(interface, &ask(&ethtool)),
    ]);
    checks.extend(queues::checks(wanted, interface, ethtool.ok().as_ref()));
    Section {
        name: name.clone(),
        what: title(interface, carried),
        interface: Some(interface.clone()),
        checks,
    }
}

/// An interface whose frames come in by the queues of `carriers`.
pub fn carried(interface: &Interface, carriers: &[Interface]) -> Section {
    let names: Vec<_> = carriers
        .iter()
        .map(|carrier| carrier.name.as_str())
        .collect();
    let names = names.join(", ");
    let (what, check) = match &interface.kind {
        Kind::Bond { members } if members.is_empty() => {
            let check = Check::new(State::Problem, "queues", "the bond has no members");
            let command = format!("ip link set dev ETH master {}", interface.name);
            ("bond".to_owned(), check.run(command))
        }
        Kind::Bond { members } => (
            format!("bond of {}", members.join(", ")),
            Check::ok(
                "queues",
                format!("AF_XDP is bound to those of {names}; see there"),
            ),
        ),
        Kind::Vlan { parent } => (
            format!("VLAN of {parent}"),
            Check::ok(
                "queues",
                format!("AF_XDP is bound to those of {names}; see there"),
            ),
        ),
        _ => (
            "has queues of its own".to_owned(),
            Check::ok("queues", names),
        ),
    };
    Section {
        name: interface.name.clone(),
        what,
        interface: Some(interface.clone()),
        checks: vec![check],
    }
}

/// An interface that was named and does not exist.
pub fn missing(name: &str) -> Section {
    let check = Check::new(State::Problem, "link", "there is no such interface")
        .run("ip -brief link")
        .set("interfaces in [receive.xdp] to one of those");
    Section {
        name: name.to_owned(),
        what: "missing".into(),
        interface: None,
        checks: vec![check],
    }
}

fn title(interface: &Interface, carried: Option<&str>) -> String {
    let driver = interface
        .driver
        .clone()
        .unwrap_or_else(|| "no driver".into());
    let mut parts = vec![driver];
    if let Some(device) = &interface.device {
        parts.push(format!("{} {}", device.bus, device.address));
    }
    parts.push(counted(interface.rx_queues, "RX queue"));
    parts.extend(carried.map(|name| format!("carries {name}")));
    parts.join(", ")
}

fn link(wanted: &Wanted, interface: &Interface) -> Check {
    let subject = "link";
    let name = &interface.name;
    match (interface.is_up, interface.has_carrier) {
        (false, _) => {
            Check::new(wanted.lacking(), subject, "down").run(format!("ip link set dev {name} up"))
        }
        (true, false) => Check::new(
            wanted.lacking(),
            subject,
            "up, but without carrier: nothing is at the other end",
        ),
        (true, true) => {
            let addresses: Vec<_> = interface
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect();
            let addresses = match addresses.is_empty() {
                true => "no address".into(),
                false => addresses.join(", "),
            };
            Check::ok(subject, format!("up; {addresses}"))
        }
    }
}

/// What is to be said of interfaces that are no cards.
fn kind(wanted: &Wanted, interface: &Interface) -> Option<Check> {
    let subject = "kind";
    match interface.kind {
        Kind::Veth if wanted.config.receive.xdp.verify_checksum => Some(
            Check::new(
                State::Advice,
                subject,
                "veth: the other end leaves UDP checksums unfinished, which are verified",
            )
            .set("verify_checksum = false in [receive.xdp]"),
        ),
        Kind::Loopback => Some(Check::new(
            State::Advice,
            subject,
            "loopback: exporters on other hosts do not come in here",
        )),
        Kind::Other => Some(Check::new(
            State::Advice,
            subject,
            "virtual: frames come in by the interfaces below it; name those",
        )),
        _ => None,
    }
}

fn attached(wanted: &Wanted, interface: &Interface, loaded: impl Fn(u32) -> Loaded) -> Check {
    let subject = "XDP program";
    let Some(AttachedXdp { mode, program }) = interface.xdp else {
        return Check::ok(subject, "none is attached");
    };
    let (mode, flag) = match mode {
        XdpMode::Native => ("native", "xdpdrv"),
        XdpMode::Skb => ("generic", "xdpgeneric"),
        XdpMode::Hardware => ("on the card", "xdpoffload"),
        XdpMode::Several => ("in several places", "xdp"),
    };
    let Loaded { name, link } = program.map(loaded).unwrap_or_default();
    let what = match (&name, program) {
        (Some(name), _) => format!("'{name}'"),
        (None, Some(id)) => format!("number {id}"),
        (None, None) => "several".into(),
    };
    if name.is_some_and(|name| name.starts_with(OUR_PROGRAM)) {
        return Check::ok(
            subject,
            format!("{what} is attached, {mode}: a running collector's"),
        );
    }
    let found = format!("{what} is attached, {mode}; ours is refused beside it");
    let check = Check::new(wanted.lacking(), subject, found);
    match link {
        // The kernel refuses to take away by netlink what a link holds.
        Some(link) => check.run(format!("bpftool link detach id {link}")),
        None => check.run(format!("ip link set dev {} {flag} off", interface.name)),
    }
}

fn xdp(wanted: &Wanted, features: &io::Result<XdpFeatures>) -> Check {
    let subject = "native XDP";
    let features = match features {
        Ok(features) => features,
        Err(error) => return not_told(subject, error),
    };
    let attach = wanted.config.receive.xdp.attach;
    if features.native && features.redirect {
        let note = if attach == XdpAttach::Skb {
            ", but receive.xdp.attach = \"skb\" does not use it"
        } else {
            ""
        };
        return Check::ok(subject, format!("the driver has it, with redirect{note}"));
    }
    let lacks = if features.native {
        "has it without redirect"
    } else {
        "does not have it"
    };
    match attach {
        XdpAttach::Native => Check::new(wanted.lacking(), subject, format!("the driver {lacks}"))
            .set("attach = \"auto\" in [receive.xdp]"),
        XdpAttach::Auto | XdpAttach::Skb => Check::new(
            State::Advice,
            subject,
            format!("the driver {lacks}: the kernel makes a socket buffer of each frame first"),
        ),
    }
}

fn zero_copy(wanted: &Wanted, features: &io::Result<XdpFeatures>) -> Check {
    let subject = "zero-copy";
    let features = match features {
        Ok(features) => features,
        Err(error) => return not_told(subject, error),
    };
    match (features.zero_copy, wanted.config.receive.xdp.copy) {
        (true, XdpCopy::Copy) => Check::ok(
            subject,
            "the driver has it, but receive.xdp.copy = \"copy\" does not use it",
        ),
        (true, _) => Check::ok(subject, "the driver has it"),
        (false, XdpCopy::ZeroCopy) => {
            Check::new(wanted.lacking(), subject, "the driver does not have it")
                .set("copy = \"auto\" in [receive.xdp]")
        }
        (false, _) => Check::ok(subject, "the driver does not have it: frames are copied"),
    }
}

fn not_told(subject: &'static str, error: &io::Error) -> Check {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Check::unknown(subject, "the kernel tells since Linux 6.3"),
        Some(libc::EPERM | libc::EACCES) => Check::unknown(subject, "run as root"),
        _ => Check::unknown(subject, format!("the kernel does not tell: {error}")),
    }
}

fn mtu(wanted: &Wanted, interface: &Interface, features: &io::Result<XdpFeatures>) -> Check {
    let subject = "MTU";
    let mtu = interface.mtu;
    let has_native = features.as_ref().is_ok_and(|features| features.native);
    let max = match wanted.config.receive.xdp.attach {
        XdpAttach::Skb => FRAME_MTU_MAX,
        XdpAttach::Auto if !has_native => FRAME_MTU_MAX,
        _ => mtu_max(u32::try_from(rustix::param::page_size()).unwrap_or(u32::MAX)),
    };
    if mtu <= max {
        return Check::ok(subject, format!("{mtu}; a frame fits one buffer"));
    }
    let found = format!("{mtu}: a frame of it does not fit one buffer, which takes {max} at most");
    Check::new(wanted.lacking(), subject, found)
        .run(format!("ip link set dev {} mtu {max}", interface.name))
}

/// The largest MTU whose frames native XDP takes in one buffer of a page, and we in one of ours.
fn mtu_max(page_bytes: u32) -> u32 {
    let native = page_bytes.saturating_sub(HEADROOM_BYTES + TAIL_BYTES + ETHERNET_BYTES);
    native.min(FRAME_MTU_MAX)
}

fn offloads(interface: &Interface, features: &io::Result<BTreeMap<String, Feature>>) -> Check {
    let subject = "offloads";
    let features = match features {
        Ok(features) => features,
        Err(error) => return not_told(subject, error),
    };
    let on = |name: &str| features.get(name).filter(|feature| feature.is_on);
    let joining = ["rx-lro", "rx-gro-hw"].map(|name| (name, on(name)));
    let found: Vec<_> = joining
        .iter()
        .filter_map(|(name, it)| Some((*name, (*it)?)))
        .collect();
    if found.is_empty() {
        return Check::ok(subject, "none that joins packets on the card (LRO, GRO-HW)");
    }
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    let is_fixed = found.iter().any(|(_, feature)| !feature.is_changeable);
    let fixed = if is_fixed {
        "; this one does not let it be switched off"
    } else {
        ""
    };
    let text = format!(
        "{} on: packets are joined, and some drivers refuse native XDP then{fixed}",
        names.join(" and ")
    );
    let check = Check::new(State::Advice, subject, text);
    let switch = |name: &str| format!("ethtool -K {} {name} off", interface.name);
    (found.iter().filter(|(_, feature)| feature.is_changeable))
        .fold(check, |check, (name, _)| check.run(switch(name)))
}

/// How the names of our XDP programs begin.
const OUR_PROGRAM: &str = "steer";
/// `XDP_PACKET_HEADROOM`, before each frame.
const HEADROOM_BYTES: u32 = 256;
/// `struct skb_shared_info`, aligned, behind each frame of native XDP on 64-bit machines.
const TAIL_BYTES: u32 = 320;
/// `ETH_HLEN`
const ETHERNET_BYTES: u32 = 14;
/// The largest MTU that one of our frames of 4 KiB takes, with two VLAN tags.
const FRAME_MTU_MAX: u32 = 4096 - HEADROOM_BYTES - ETHERNET_BYTES - 2 * 4;

#[cfg(test)]
mod tests {
    use super::super::report::Mend;
    use super::super::tests::{card, wanted};
    use super::*;

    fn run(command: &str) -> Vec<Mend> {
        vec![Mend::Run(command.into())]
    }

    const NONE: XdpFeatures = XdpFeatures {
        native: false,
        redirect: false,
        zero_copy: false,
        fragments: false,
    };

    #[test]
    fn a_link_that_is_down_is_set_up() {
        let down = Interface {
            is_up: false,
            ..card()
        };
        let check = link(&wanted(true, &[1]), &down);
        assert_eq!(check.state, State::Problem);
        assert_eq!(check.mend, run("ip link set dev eth0 up"));
        assert_eq!(link(&wanted(true, &[1]), &card()).found, "up; no address");
        let alone = Interface {
            has_carrier: false,
            ..card()
        };
        assert_eq!(link(&wanted(false, &[1]), &alone).state, State::Advice);
    }

    #[test]
    fn another_program_is_in_the_way_and_ours_is_not() {
        let with = Interface {
            xdp: Some(AttachedXdp {
                mode: XdpMode::Skb,
                program: Some(42),
            }),
            ..card()
        };
        let check = |name: Option<&str>, link| {
            let name = name.map(str::to_owned);
            let loaded = Loaded { name, link };
            attached(&wanted(true, &[1]), &with, |_| loaded.clone())
        };
        assert_eq!(check(Some("steer"), Some(7)).state, State::Ok);
        assert_eq!(check(Some("xdp_pass"), None).state, State::Problem);
        let held = check(Some("xdp_pass"), Some(7));
        assert_eq!(held.mend, run("bpftool link detach id 7"));
        let without_link = run("ip link set dev eth0 xdpgeneric off");
        assert_eq!(check(None, None).mend, without_link);
        let none = attached(&wanted(true, &[1]), &card(), |_| Loaded::default());
        assert_eq!(none.state, State::Ok);
    }

    #[test]
    fn what_the_driver_lacks_is_a_problem_where_the_configuration_insists() {
        let none = Ok(NONE);
        let mut insisting = wanted(true, &[1]);
        assert_eq!(xdp(&insisting, &none).state, State::Advice);
        assert_eq!(zero_copy(&insisting, &none).state, State::Ok);
        insisting.config.receive.xdp.attach = XdpAttach::Native;
        insisting.config.receive.xdp.copy = XdpCopy::ZeroCopy;
        assert_eq!(xdp(&insisting, &none).state, State::Problem);
        assert_eq!(zero_copy(&insisting, &none).state, State::Problem);
        let old = Err(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(
            xdp(&insisting, &old).found,
            "the kernel tells since Linux 6.3"
        );
    }

    #[test]
    fn an_mtu_that_needs_two_buffers_is_lowered() {
        let jumbo = Interface {
            mtu: 9000,
            ..card()
        };
        assert_eq!(mtu_max(4096), 3506);
        assert_eq!(mtu_max(65_536), 3818);
        let check = |interface: &Interface| mtu(&wanted(true, &[1]), interface, &Ok(NONE));
        assert_eq!(check(&card()).state, State::Ok);
        assert_eq!(check(&jumbo).state, State::Problem);
        assert_eq!(check(&jumbo).mend, run("ip link set dev eth0 mtu 3818"));
    }

    #[test]
    fn offloads_that_join_packets_are_switched_off_where_they_can_be() {
        let feature = |is_changeable| Feature {
            is_on: true,
            is_changeable,
        };
        let features = BTreeMap::from([
            ("rx-lro".to_owned(), feature(true)),
            ("rx-gro".to_owned(), feature(true)),
            ("rx-gro-hw".to_owned(), feature(false)),
        ]);
        let check = offloads(&card(), &Ok(features));
        assert_eq!(check.state, State::Advice);
        assert_eq!(check.mend, run("ethtool -K eth0 rx-lro off"));
        let found = check.found;
        assert!(found.starts_with("rx-lro and rx-gro-hw on: "), "{found}");
        assert!(
            found.ends_with("does not let it be switched off"),
            "{found}"
        );
        assert_eq!(offloads(&card(), &Ok(BTreeMap::new())).state, State::Ok);
    }

    #[test]
    fn a_bond_without_members_has_no_queues() {
        let bond = |members| Interface {
            kind: Kind::Bond { members },
            ..card()
        };
        let check = |bond: &Interface| carried(bond, &[]).checks[0].state;
        assert_eq!(check(&bond(vec![])), State::Problem);
        assert_eq!(check(&bond(vec!["eth1".into()])), State::Ok);
    }
}
