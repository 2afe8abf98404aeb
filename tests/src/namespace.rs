//! Two network namespaces with a cable between them: an exporter's host and a collector's.
//!
//! The cable is a veth pair with two queues, IPv4 and IPv6 on it. Needs root and `ip`. Everything
//! goes away with the value. For whatever needs a network of its own: no test makes another.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::place;

/// A cable between an exporter's host and a collector's.
#[derive(Debug)]
pub struct Veth {
    /// Where exporters are; its end of the cable is [`Self::EXPORTER`].
    pub exporter: Namespace,
    /// Where the collector is; its end of the cable is [`Self::COLLECTOR`].
    pub collector: Namespace,
}

/// The collector's host on the cable, for [`ipv4`] and [`ipv6`].
pub const COLLECTOR: u8 = 1;
/// The exporter's host.
pub const EXPORTER: u8 = 2;
/// A second address of the exporter's host.
pub const STRANGER: u8 = 66;

/// The IPv4 address of a host on the cable, 1 to 254.
#[must_use]
pub fn ipv4(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}

/// Its IPv6 address.
#[must_use]
pub fn ipv6(host: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into()
}

impl Veth {
    /// The collector's end.
    pub const COLLECTOR: &str = "in0";
    /// The exporter's end.
    pub const EXPORTER: &str = "out0";
    /// The hardware address of the collector's end.
    pub const COLLECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// Lays the cable; `None`, with the reason printed, where that cannot be done.
    ///
    /// # Errors
    /// When namespaces can be made but the cable cannot.
    ///
    /// # Panics
    /// Under CI, where it cannot be done.
    pub fn new_or_skip() -> Result<Option<Self>> {
        let Some(exporter) = Namespace::new_or_skip("exporter") else {
            return Ok(None);
        };
        let Some(collector) = Namespace::new_or_skip("collector") else {
            return Ok(None);
        };
        Self::between(exporter, collector).map(Some)
    }

    /// Lays the cable for a program that may be killed: nothing of it has a name, so the kernel
    /// takes all of it away when the last process in it has ended.
    ///
    /// # Errors
    /// When this user may not, or `ip` is missing.
    pub fn new_without_names() -> Result<Self> {
        let (exporter, collector) = (Namespace::new("exporter")?, Namespace::new("collector")?);
        let mut veth = Self::between(exporter, collector)?;
        veth.exporter.unname();
        veth.collector.unname();
        Ok(veth)
    }

    fn between(exporter: Namespace, collector: Namespace) -> Result<Self> {
        let veth = Self {
            exporter,
            collector,
        };
        veth.lay()?;
        Ok(veth)
    }

    fn lay(&self) -> Result<()> {
        let (exporter, collector) = (&self.exporter, &self.collector);
        let (out, into) = (Self::EXPORTER, Self::COLLECTOR);
        let mac = Self::COLLECTOR_MAC
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        let queues = "numtxqueues 2 numrxqueues 2";
        exporter.ip(&format!(
            "link add {out} {queues} type veth peer name {into} netns {} address {mac} {queues}",
            collector.name
        ))?;
        collector.set_up(into, &[COLLECTOR])?;
        exporter.set_up(out, &[EXPORTER, STRANGER])?;
        // What is sent to nobody's address goes to the collector's host, as to a router.
        exporter.ip(&format!("route add default via {}", ipv4(COLLECTOR)))
    }

    /// How an XDP program is attached to the collector's end, as `ip` tells; `None` without one.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn xdp(&self) -> Result<Option<Value>> {
        let mut show = Command::new("ip");
        show.args(["-j", "link", "show", "dev", Self::COLLECTOR]);
        let text = self.collector.run(|| output(&mut show))??;
        let links: Value = serde_json::from_str(&text).context("parse the answer of ip")?;
        let link = links.get(0).with_context(|| format!("no link: {text}"))?;
        Ok(link.get("xdp").cloned())
    }
}

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    is_named: bool,
}

impl Namespace {
    /// Makes one; `None`, with the reason printed, where that cannot be done. Its name ends with
    /// `role`.
    ///
    /// # Panics
    /// Under CI, where it cannot be done.
    #[must_use]
    pub fn new_or_skip(role: &str) -> Option<Self> {
        if !geteuid().is_root() {
            place::skip("network namespaces need root");
            return None;
        }
        place::program_or_skip("ip", "iproute2")?;
        Self::new(role)
            .map_err(|error| place::skip(&format!("no network namespaces here: {error:#}")))
            .ok()
    }

    /// A host of its own with nothing but loopback; `None`, with the reason printed, where that
    /// cannot be done.
    ///
    /// # Errors
    /// When a namespace can be made but loopback not be set up.
    ///
    /// # Panics
    /// Under CI, where it cannot be done.
    pub fn loopback_or_skip() -> Result<Option<Self>> {
        let Some(alone) = Self::new_or_skip("alone") else {
            return Ok(None);
        };
        alone.ip("link set lo up\n")?;
        Ok(Some(alone))
    }

    /// The same for a program that may be killed: it has no name, so the kernel takes it away when
    /// the last process in it has ended.
    ///
    /// # Errors
    /// When this user may not, or `ip` is missing.
    pub fn loopback_without_name() -> Result<Self> {
        let mut alone = Self::new("alone")?;
        alone.ip("link set lo up\n")?;
        alone.unname();
        Ok(alone)
    }

    fn new(role: &str) -> Result<Self> {
        let suffix = RandomState::new().hash_one(std::process::id()) as u32;
        let name = format!("flowsluice-{suffix:08x}-{role}");
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let path = format!("/run/netns/{name}");
        let opened = File::open(&path).with_context(|| format!("open {path}"));
        if opened.is_err() {
            delete(&name);
        }
        Ok(Self {
            file: opened?,
            name,
            is_named: true,
        })
    }

    /// Takes its name away: it lasts as long as this value, and processes in it.
    fn unname(&mut self) {
        delete(&self.name);
        self.is_named = false;
    }

    /// Its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it until the value is dropped. What the thread opens and
    /// starts in there stays in there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<Inside> {
        let before = File::open("/proc/thread-self/ns/net").context("open this namespace")?;
        enter(&self.file).with_context(|| format!("enter {}", self.name))?;
        Ok(Inside {
            before,
            _of_this_thread: PhantomData,
        })
    }

    /// Does something in it.
    ///
    /// # Errors
    /// When the kernel refuses to let the calling thread in.
    pub fn run<T>(&self, something: impl FnOnce() -> T) -> Result<T> {
        let _inside = self.enter()?;
        Ok(something())
    }

    /// Runs commands of `ip`, a line each.
    ///
    /// # Errors
    /// When one fails.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = self.run(|| ip.spawn())?.context("start ip")?;
        let mut input = child.stdin.take().context("its input is a pipe")?;
        let written = input.write_all(commands.as_bytes());
        drop(input);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip: {commands}\n{said}");
        written.context("write to ip")
    }

    /// Loopback, the cable's end `device`, and the addresses of `hosts` on it.
    fn set_up(&self, device: &str, hosts: &[u8]) -> Result<()> {
        let addresses = hosts.iter().flat_map(|host| [ipv4(*host), ipv6(*host)]);
        let addresses = addresses.map(|address| address_command("add", address, device));
        let addresses: String = addresses.collect();
        self.ip(&format!(
            "link set lo up\nlink set {device} up\n{addresses}"
        ))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.is_named {
            delete(&self.name);
        }
    }
}

/// The command of `ip` that adds or deletes an address of the cable.
#[must_use]
pub fn address_command(what: &str, address: IpAddr, device: &str) -> String {
    match address {
        IpAddr::V4(_) => format!("address {what} {address}/24 dev {device}\n"),
        // Nobody else is here to have it: without waiting for an answer it can be used at once.
        IpAddr::V6(_) => format!("address {what} {address}/64 dev {device} nodad\n"),
    }
}

/// The calling thread is in another namespace; dropped, it is back where it was.
#[derive(Debug)]
pub struct Inside {
    before: File,
    /// Another thread would move itself.
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.before) {
            // Whatever the thread did next would happen on the wrong network.
            panic!("this thread cannot go back to its namespace: {error}");
        }
    }
}

fn enter(namespace: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

fn delete(namespace: &str) {
    if let Err(error) = output(Command::new("ip").args(["netns", "delete", namespace])) {
        eprintln!("{error:#}");
    }
}

/// Runs a command to its end; its standard output.
fn output(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}");
    let output = command.output().with_context(|| format!("start {line}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::*;
    use crate::packet::{self, Between};

    #[test]
    fn datagrams_cross_the_cable_and_nothing_is_left_behind() -> Result<()> {
        let Some(veth) = Veth::new_or_skip()? else {
            return Ok(());
        };
        let before = std::fs::read_link("/proc/thread-self/ns/net")?;
        let outside = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let inside = veth.collector.enter()?;
        assert_ne!(std::fs::read_link("/proc/thread-self/ns/net")?, before);
        let receiver = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, outside.local_addr()?.port()))?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        let port = receiver.local_addr()?.port();
        for (from, to) in [
            (ipv4(EXPORTER), ipv4(COLLECTOR)),
            (ipv6(STRANGER), ipv6(COLLECTOR)),
        ] {
            let sender = veth.exporter.run(|| UdpSocket::bind((from, 0)))??;
            sender.send_to(from.to_string().as_bytes(), (to, port))?;
            let mut buffer = [0; 100];
            let length = receiver.recv(&mut buffer)?;
            assert_eq!(&buffer[..length], from.to_string().as_bytes());
        }
        let [from, to] = [ipv6(STRANGER), ipv6(COLLECTOR)].map(|one| SocketAddr::new(one, port));
        let packet = packet::udp(from, to, Between::Options, b"by hand")?;
        let frame = packet::frame(Veth::COLLECTOR_MAC, &[], &packet);
        (veth.exporter).run(|| packet::send_frames(&[frame], Veth::EXPORTER))??;
        let mut buffer = [0; 100];
        assert_eq!(receiver.recv_from(&mut buffer)?, (7, from));
        assert_eq!(veth.xdp()?, None);
        drop(inside);
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net")?, before);
        let names = [&veth.exporter, &veth.collector].map(|side| side.name().to_owned());
        drop(veth);
        for name in names {
            assert!(!std::fs::exists(format!("/run/netns/{name}"))?, "{name}");
        }
        Ok(())
    }
}
