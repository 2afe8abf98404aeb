//! The network interfaces: what each is, what carries it, and where it is plugged in.
//!
//! Spec: `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h` of Linux 6.12.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ethtool::Ethtool;
use super::netlink::{self, Attributes, Netlink};

/// One interface of the calling thread's network namespace, at the moment it was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name, even where it was asked for by an alternative one.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Bytes of the longest packet, without the link's header.
    pub mtu: u32,
    /// Its driver, where it says.
    pub driver: Option<String>,
    /// The bus and the address on it (`pci`, `0000:00:03.0`); none for what has no hardware.
    pub device: Option<Device>,
    /// Receive queues in use; their numbers begin at 0.
    pub rx_queues: u32,
    /// The NUMA node that it is plugged into; none where there is but one, or no hardware.
    pub numa_node: Option<u32>,
    /// It was set up (`ip link set up`); whether anything is plugged in is `has_carrier`.
    pub is_up: bool,
    /// The other side is there.
    pub has_carrier: bool,
    /// What it is.
    pub kind: Kind,
    /// Its addresses, IPv4 and IPv6, link-local ones included.
    pub addresses: Vec<IpAddr>,
    /// The XDP program that is attached now.
    pub xdp: Option<AttachedXdp>,
}

/// What an interface is, as far as AF_XDP cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A card, or what a hypervisor shows as one.
    Physical,
    /// Frames with one VLAN tag of another interface, whose queues they come in by.
    Vlan {
        /// That interface.
        parent: String,
    },
    /// Several interfaces, whose queues the frames come in by.
    Bond {
        /// Those interfaces, by name; empty while there are none.
        members: Vec<String>,
    },
    /// One end of a pair.
    Veth,
    /// `lo`
    Loopback,
    /// Bridges, tunnels, VLANs whose parent is in another namespace, and so on.
    Other,
}

/// Where hardware is plugged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// `pci`, `virtio`, ...
    pub bus: String,
    /// The address on it.
    pub address: String,
}

/// An XDP program and where it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AttachedXdp {
    /// How it is attached.
    pub mode: XdpMode,
    /// The kernel's number of the program; none where several are attached.
    pub program: Option<u32>,
}

/// `IFLA_XDP_ATTACHED`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// Generic, after the socket buffer is made.
    Skb,
    /// On the card itself.
    Hardware,
    /// In more than one of these places.
    Several,
}

impl Interface {
    /// The interface of this name or alternative name.
    ///
    /// # Errors
    /// `ENODEV` when there is none; else when the kernel cannot be asked.
    pub fn of(name: &str) -> io::Result<Self> {
        let host = Links::read()?;
        let link = host.links.iter().find(|link| link.is_called(name));
        let link = link.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        Ok(host.interface(link))
    }

    /// All of them, by their numbers.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn all() -> io::Result<Vec<Self>> {
        let host = Links::read()?;
        Ok(host.links.iter().map(|link| host.interface(link)).collect())
    }

    /// The interfaces whose queues its frames come in by, which AF_XDP sockets have to be bound to:
    /// a VLAN's parent, a bond's members, each resolved the same way; itself for everything else.
    ///
    /// # Errors
    /// `ENODEV` when one of them is gone by now; else when the kernel cannot be asked.
    pub fn carriers(&self) -> io::Result<Vec<Self>> {
        let below = match &self.kind {
            Kind::Vlan { parent } => std::slice::from_ref(parent),
            Kind::Bond { members } => members.as_slice(),
            _ => return Ok(vec![self.clone()]),
        };
        let mut carriers = Vec::new();
        for name in below {
            carriers.extend(Self::of(name)?.carriers()?);
        }
        Ok(carriers)
    }
}

/// Everything that one look at the namespace tells.
struct Links {
    links: Vec<Link>,
    addresses: Vec<(u32, IpAddr)>,
}

/// An `RTM_NEWLINK` message, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Link {
    name: String,
    alternative_names: Vec<String>,
    index: u32,
    flags: u32,
    mtu: u32,
    hardware_address: Vec<u8>,
    /// The index of the interface below, in this namespace.
    below: Option<u32>,
    /// That interface is in another namespace.
    below_is_elsewhere: bool,
    /// The index of the bond or bridge that it belongs to.
    master: Option<u32>,
    /// `vlan`, `bond`, `veth`, ...; empty for cards.
    kind: String,
    bus: Option<String>,
    bus_address: Option<String>,
    xdp: Option<AttachedXdp>,
}

impl Links {
    fn read() -> io::Result<Self> {
        let mut route = Netlink::route()?;
        let skip = u32::try_from(libc::RTEXT_FILTER_SKIP_STATS).unwrap_or_default();
        let mut request = vec![0; LINK_HEADER_BYTES];
        request.extend(netlink::attribute(libc::IFLA_EXT_MASK, &skip.to_ne_bytes()));
        let links = route.dump(libc::RTM_GETLINK, &request)?;
        let mut links: Vec<_> = links.iter().filter_map(|body| Link::parse(body)).collect();
        links.sort_by_key(|link| link.index);
        let addresses = route.dump(libc::RTM_GETADDR, &[0; ADDRESS_HEADER_BYTES])?;
        Ok(Self {
            links,
            addresses: addresses.iter().filter_map(|body| address(body)).collect(),
        })
    }

    fn interface(&self, link: &Link) -> Interface {
        let ethtool = Ethtool::of(&link.name).ok();
        let driver = ethtool.as_ref().and_then(|it| it.driver().ok());
        let folder = link.folder();
        let device = link.device(folder.as_deref());
        let addresses = self.addresses.iter();
        Interface {
            name: link.name.clone(),
            index: link.index,
            mtu: link.mtu,
            driver: driver.map(|driver| driver.name),
            rx_queues: rx_queues(folder.as_deref(), ethtool.as_ref()),
            numa_node: device.as_ref().and_then(Device::numa_node),
            is_up: link.has(libc::IFF_UP),
            has_carrier: link.has(libc::IFF_LOWER_UP),
            kind: self.kind(link, device.is_some()),
            addresses: addresses
                .filter(|(index, _)| *index == link.index)
                .map(|(_, address)| *address)
                .collect(),
            xdp: link.xdp,
            device,
        }
    }

    fn kind(&self, link: &Link, has_device: bool) -> Kind {
        let parent = (link.below.filter(|_| !link.below_is_elsewhere))
            .and_then(|index| self.links.iter().find(|link| link.index == index));
        match (link.kind.as_str(), parent) {
            ("vlan", Some(parent)) => Kind::Vlan {
                parent: parent.name.clone(),
            },
            ("bond", _) => Kind::Bond {
                members: (self.links.iter())
                    .filter(|member| member.master == Some(link.index))
                    .map(|member| member.name.clone())
                    .collect(),
            },
            ("veth", _) => Kind::Veth,
            _ if link.has(libc::IFF_LOOPBACK) => Kind::Loopback,
            ("", _) if has_device => Kind::Physical,
            _ => Kind::Other,
        }
    }
}

impl Link {
    fn parse(body: &[u8]) -> Option<Self> {
        // struct ifinfomsg: family, padding, type; index, flags, change.
        let mut link = Self {
            index: netlink::number(body.get(4..)?)?,
            flags: netlink::number(body.get(8..)?)?,
            ..Self::default()
        };
        for (kind, value) in Attributes::after(body, LINK_HEADER_BYTES) {
            match kind {
                libc::IFLA_IFNAME => link.name = netlink::text(value),
                libc::IFLA_PROP_LIST => {
                    link.alternative_names = Attributes::of(value)
                        .filter(|(kind, _)| *kind == libc::IFLA_ALT_IFNAME)
                        .map(|(_, name)| netlink::text(name))
                        .collect();
                }
                libc::IFLA_MTU => link.mtu = netlink::number(value)?,
                libc::IFLA_ADDRESS => link.hardware_address = value.to_vec(),
                libc::IFLA_LINK => link.below = netlink::number(value),
                libc::IFLA_LINK_NETNSID => link.below_is_elsewhere = true,
                libc::IFLA_MASTER => link.master = netlink::number(value),
                libc::IFLA_LINKINFO => {
                    link.kind = Attributes::of(value)
                        .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                        .map(|(_, kind)| netlink::text(kind))
                        .unwrap_or_default();
                }
                libc::IFLA_PARENT_DEV_BUS_NAME => link.bus = Some(netlink::text(value)),
                libc::IFLA_PARENT_DEV_NAME => link.bus_address = Some(netlink::text(value)),
                libc::IFLA_XDP => link.xdp = attached_xdp(value),
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }

    fn has(&self, flag: libc::c_int) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }

    /// Its folder in sysfs, if that shows this interface and not one of the same name in the
    /// namespace that sysfs was mounted in.
    fn folder(&self) -> Option<PathBuf> {
        let folder = Path::new("/sys/class/net").join(&self.name);
        let read = |file| std::fs::read_to_string(folder.join(file)).ok();
        let is_same_index = read("ifindex")?.trim().parse() == Ok(self.index);
        let shown = read("address")?;
        let bytes: Result<Vec<_>, _> = (shown.trim().split(':'))
            .filter(|byte| !byte.is_empty())
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect();
        let is_same = is_same_index && bytes.as_ref() == Ok(&self.hardware_address);
        is_same.then_some(folder)
    }

    /// The device below, by netlink since Linux 5.14, else by sysfs.
    fn device(&self, folder: Option<&Path>) -> Option<Device> {
        if let (Some(bus), Some(address)) = (&self.bus, &self.bus_address) {
            return Some(Device {
                bus: bus.clone(),
                address: address.clone(),
            });
        }
        let device = folder?.join("device").canonicalize().ok()?;
        let bus = device.join("subsystem").canonicalize().ok()?;
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        Some(Device {
            bus: name(&bus)?,
            address: name(&device)?,
        })
    }
}

impl Device {
    /// Its folder in sysfs and those of the devices that it hangs on, nearest first. They are the
    /// same in every network namespace.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let buses = Path::new("/sys/bus");
        let link = buses.join(&self.bus).join("devices").join(&self.address);
        let Ok(folder) = link.canonicalize() else {
            return Vec::new();
        };
        let ancestors = folder.ancestors();
        let devices = ancestors.take_while(|path| path.starts_with("/sys/devices"));
        devices.map(Path::to_path_buf).collect()
    }

    fn numa_node(&self) -> Option<u32> {
        let folders = self.folders();
        let read = |folder: &PathBuf| std::fs::read_to_string(folder.join("numa_node")).ok();
        // The kernel writes -1 where it does not know.
        folders.iter().find_map(read)?.trim().parse().ok()
    }
}

/// The kernel's own count where sysfs shows this interface, else the driver's.
fn rx_queues(folder: Option<&Path>, ethtool: Option<&Ethtool>) -> u32 {
    let shown = folder.and_then(|folder| std::fs::read_dir(folder.join("queues")).ok());
    if let Some(entries) = shown {
        let names = entries.flatten().map(|entry| entry.file_name());
        let count = names.filter(|name| name.to_string_lossy().starts_with("rx-"));
        return u32::try_from(count.count()).unwrap_or(u32::MAX);
    }
    let channels = ethtool.and_then(|ethtool| ethtool.channels().ok());
    channels.map_or(1, |channels| channels.rx + channels.combined)
}

fn attached_xdp(value: &[u8]) -> Option<AttachedXdp> {
    let find = |kind| Attributes::of(value).find(|(found, _)| *found == kind);
    let (_, attached) = find(XDP_ATTACHED)?;
    let mode = match attached.first()? {
        1 => XdpMode::Native,
        2 => XdpMode::Skb,
        3 => XdpMode::Hardware,
        4 => XdpMode::Several,
        _ => return None,
    };
    Some(AttachedXdp {
        mode,
        program: find(XDP_PROGRAM).and_then(|(_, id)| netlink::number(id)),
    })
}

/// The interface and the address of an `RTM_NEWADDR` message.
fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    // struct ifaddrmsg: family, prefix length, flags, scope; index.
    let index = netlink::number(body.get(4..)?)?;
    let find = |kind| Attributes::after(body, ADDRESS_HEADER_BYTES).find(|(it, _)| *it == kind);
    // On a point-to-point link IFA_ADDRESS is the other side's.
    let (_, value) = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?;
    let address = match i32::from(*body.first()?) {
        libc::AF_INET => IpAddr::from(*value.first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*value.first_chunk::<16>()?),
        _ => return None,
    };
    Some((index, address))
}

/// Length of `struct ifinfomsg`.
const LINK_HEADER_BYTES: usize = 16;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER_BYTES: usize = 8;
/// `IFLA_XDP_ATTACHED`
const XDP_ATTACHED: u16 = 2;
/// `IFLA_XDP_PROG_ID`
const XDP_PROGRAM: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link {
            name: name.into(),
            index,
            kind: kind.into(),
            ..Link::default()
        }
    }

    fn kind_of(links: &[Link], name: &str) -> Kind {
        let host = Links {
            links: links.into(),
            addresses: Vec::new(),
        };
        let link = links.iter().find(|link| link.is_called(name)).unwrap();
        host.kind(link, link.bus.is_some())
    }

    #[test]
    fn a_message_of_the_kernel_is_read() {
        let attribute = netlink::attribute;
        let mut body = vec![0; LINK_HEADER_BYTES];
        body[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        body[8..12].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
        body.extend(attribute(libc::IFLA_IFNAME, b"eth0.100\0"));
        body.extend(attribute(libc::IFLA_MTU, &1500_u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINK, &2_u32.to_ne_bytes()));
        let info = attribute(libc::IFLA_INFO_KIND, b"vlan\0");
        body.extend(attribute(libc::IFLA_LINKINFO, &info));
        let other = attribute(libc::IFLA_ALT_IFNAME, b"exports\0");
        body.extend(attribute(libc::IFLA_PROP_LIST, &other));
        let xdp = [
            attribute(XDP_ATTACHED, &[2]),
            attribute(XDP_PROGRAM, &42_u32.to_ne_bytes()),
        ];
        body.extend(attribute(libc::IFLA_XDP, &xdp.concat()));
        let read = Link::parse(&body).unwrap();
        assert_eq!((read.index, read.mtu, read.below), (7, 1500, Some(2)));
        assert!(read.has(libc::IFF_UP) && !read.has(libc::IFF_LOWER_UP));
        assert!(read.is_called("exports") && read.is_called("eth0.100"));
        assert_eq!(read.kind, "vlan");
        let attached = AttachedXdp {
            mode: XdpMode::Skb,
            program: Some(42),
        };
        assert_eq!(read.xdp, Some(attached));
        assert_eq!(Link::parse(&body[..12]), None);
    }

    #[test]
    fn a_vlan_names_its_parent_unless_that_is_in_another_namespace() {
        let vlan = Link {
            below: Some(2),
            ..link(3, "eth0.7", "vlan")
        };
        let elsewhere = Link {
            below_is_elsewhere: true,
            ..vlan.clone()
        };
        let parent = Kind::Vlan {
            parent: "eth0".into(),
        };
        assert_eq!(kind_of(&[link(2, "eth0", ""), vlan], "eth0.7"), parent);
        let links = [link(2, "eth0", ""), elsewhere];
        assert_eq!(kind_of(&links, "eth0.7"), Kind::Other);
    }

    #[test]
    fn a_bond_names_its_members_and_a_card_has_hardware() {
        let card = |index, name| Link {
            bus: Some("pci".into()),
            master: Some(9),
            ..link(index, name, "")
        };
        let links = [card(2, "eth0"), card(3, "eth1"), link(9, "bond0", "bond")];
        let members = Kind::Bond {
            members: vec!["eth0".into(), "eth1".into()],
        };
        assert_eq!(kind_of(&links, "bond0"), members);
        assert_eq!(kind_of(&links, "eth0"), Kind::Physical);
        let links = [link(4, "ifb0", "ifb"), link(5, "odd", "")];
        assert_eq!(kind_of(&links, "ifb0"), Kind::Other);
        assert_eq!(kind_of(&links, "odd"), Kind::Other);
    }

    #[test]
    fn the_local_address_of_a_point_to_point_link_is_taken() {
        let mut body = vec![libc::AF_INET as u8, 32, 0, 0];
        body.extend(5_u32.to_ne_bytes());
        body.extend(netlink::attribute(libc::IFA_ADDRESS, &[192, 0, 2, 2]));
        body.extend(netlink::attribute(libc::IFA_LOCAL, &[192, 0, 2, 1]));
        let local = "192.0.2.1".parse().unwrap();
        assert_eq!(address(&body), Some((5, local)));
    }

    #[test]
    fn the_loopback_is_one_with_its_address_and_carries_itself() {
        let lo = Interface::of("lo").unwrap();
        assert_eq!(lo.kind, Kind::Loopback);
        assert!(lo.index > 0 && lo.rx_queues > 0);
        assert_eq!(lo.device, None);
        assert_eq!(lo.carriers().unwrap(), [lo]);
        let error = Interface::of("flowsluice-none").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
