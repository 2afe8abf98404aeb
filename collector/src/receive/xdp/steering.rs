//! The interfaces whose frames are steered to workers, and what keeps that right.
//!
//! At start: attaches the program to each interface and opens a socket for each of its queues, or
//! says why not. Afterwards one thread follows the interfaces' addresses and state and publishes
//! the program's counters. Owner: that thread; it alone keeps the capabilities for it. When it
//! ends, or the process dies, the program is detached and the kernel's sockets carry on.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use collector_ebpf::Verdict;
use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tracing::{error, info, warn};

use super::program::{Attached, Program};
use super::socket::XskSocket;
use super::{Step, XdpRefused};
use crate::config;
use crate::host::Interface;
use crate::ledger::FrameCounts;
use crate::receive::allow::AllowList;
use crate::receive::live::Watch;

/// How an interface is received from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceMode {
    /// The interface's name.
    pub interface: String,
    /// How its frames come.
    pub mode: SteeredBy,
}

/// What came of the attempt to have AF_XDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SteeredBy {
    /// AF_XDP.
    AfXdp {
        /// The program runs in the driver, not after the socket buffer is made.
        native: bool,
        /// The card writes to the workers' memory.
        zero_copy: bool,
        /// Queues, each with a socket.
        queues: u32,
    },
    /// The kernel's UDP sockets, for this reason.
    Sockets(XdpRefused),
}

impl SteeredBy {
    /// As metrics and the status page write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::AfXdp {
                native, zero_copy, ..
            } => match (native, zero_copy) {
                (_, true) => "af_xdp_zero_copy",
                (true, false) => "af_xdp_native",
                (false, false) => "af_xdp_skb",
            },
            Self::Sockets(_) => "sockets",
        }
    }
}

/// Steered interfaces before their sockets are handed to workers.
pub struct Steering {
    interfaces: Vec<Steered>,
    modes: Vec<InterfaceMode>,
    sockets: Vec<XskSocket>,
}

/// One interface with the program attached.
struct Steered {
    name: String,
    index: u32,
    queues: u32,
    program: Program,
    wanted: Destinations,
    /// What was said about it last, so that it is said once.
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Down,
    Gone,
}

/// Which addresses datagrams are taken for.
#[derive(Clone, Debug)]
struct Destinations {
    /// As configured; empty follows `names`.
    fixed: Vec<IpAddr>,
    /// The device, and the VLAN or bond above it that was named.
    names: BTreeSet<String>,
    listeners: Vec<IpAddr>,
}

impl Steering {
    /// Attaches and opens what `config` asks for. An interface that cannot have AF_XDP is told in
    /// the log and received from by the kernel's sockets.
    ///
    /// # Errors
    /// The first refusal when `receive.mode` insists on AF_XDP.
    pub fn open(config: &config::Receive, ports: &[u16]) -> Result<Self, XdpRefused> {
        let mut steering = Self {
            interfaces: Vec::new(),
            modes: Vec::new(),
            sockets: Vec::new(),
        };
        let (devices, refusals) = devices(&config.xdp.interfaces);
        let opened = devices
            .into_iter()
            .map(|(device, names)| Steered::open(&device, names, config, ports));
        for outcome in refusals.into_iter().map(Err).chain(opened) {
            steering.add(outcome, config.mode)?;
        }
        Ok(steering)
    }

    fn add(
        &mut self,
        outcome: Result<(Steered, Vec<XskSocket>, SteeredBy), XdpRefused>,
        wanted: config::ReceiveMode,
    ) -> Result<(), XdpRefused> {
        let (interface, mode) = match outcome {
            Ok((steered, sockets, mode)) => {
                let interface = steered.name.clone();
                info!(interface, mode = mode.name(), "steering");
                self.interfaces.push(steered);
                self.sockets.extend(sockets);
                (interface, mode)
            }
            Err(refused) if wanted == config::ReceiveMode::AfXdp => return Err(refused),
            Err(refused) => {
                warn!(requested = "af_xdp", actual = "sockets", "{refused}");
                (refused.interface.clone(), SteeredBy::Sockets(refused))
            }
        };
        self.modes.push(InterfaceMode { interface, mode });
        Ok(())
    }

    /// How each interface is received from.
    #[must_use]
    pub fn modes(&self) -> &[InterfaceMode] {
        &self.modes
    }

    /// True when a queue has a socket.
    #[must_use]
    pub fn has_queues(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// The sockets of all queues, shared out to `workers` in turn. Called once.
    #[must_use]
    pub fn sockets_by_worker(&mut self, workers: usize) -> Vec<Vec<XskSocket>> {
        let mut shares: Vec<Vec<XskSocket>> = (0..workers).map(|_| Vec::new()).collect();
        for (turn, socket) in self.sockets.drain(..).enumerate() {
            shares[turn % workers].push(socket);
        }
        shares
    }

    /// Starts the thread that follows the interfaces, when there is one to follow.
    ///
    /// # Errors
    /// When the thread or its netlink socket cannot be had.
    pub fn follow(self, frames: Arc<FrameCounts>, allow: &Arc<AllowList>) -> io::Result<Following> {
        let stop = Arc::new(AtomicBool::new(false));
        if self.interfaces.is_empty() {
            return Ok(Following { stop, thread: None });
        }
        let bell = bell()?;
        let mut follower = Follower {
            interfaces: self.interfaces,
            frames,
            allow: Watch::new(allow),
        };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("steering".into())
            .spawn(move || {
                let mut looked = None;
                while !stopped.load(Ordering::Relaxed) {
                    let is_due = |at: Instant| at.elapsed() >= LOOK_EVERY;
                    if looked.is_none_or(is_due) {
                        follower.look();
                        looked = Some(Instant::now());
                    }
                    follower.take_allowed();
                    follower.publish();
                    if wait(&bell) {
                        looked = None;
                    }
                }
                follower.end();
            })?;
        Ok(Following {
            stop,
            thread: Some(thread),
        })
    }
}

/// The thread that follows the interfaces; ends when told to.
pub struct Following {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Following {
    /// Detaches the programs: from here on everything goes to the kernel's sockets. What is in the
    /// workers' rings stays there for them. Returns when it is done, within [`COUNT_EVERY`].
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended the process (panic = "abort").
            let _ = thread.join();
        }
    }
}

/// How often the counters are read, and how late a stop is noticed.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// How often interfaces are looked at when nobody rings: not every change does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct Follower {
    interfaces: Vec<Steered>,
    frames: Arc<FrameCounts>,
    allow: Watch<Vec<IpNet>>,
}

impl Follower {
    /// Has the programs let in whom a reload allows.
    fn take_allowed(&mut self) {
        let Some(prefixes) = self.allow.news() else {
            return;
        };
        for steered in &mut self.interfaces {
            if let Err(refused) = steered.program.set_allowed(&prefixes) {
                error!("{refused}");
            }
        }
    }

    fn look(&mut self) {
        for steered in &mut self.interfaces {
            steered.look();
        }
    }

    fn publish(&self) {
        let mut sum = [0; Verdict::COUNT];
        for steered in &self.interfaces {
            // Reading a map of our own fails only when the kernel is out of memory; the figures of
            // before then stay.
            let Ok(counts) = steered.program.counters() else {
                return;
            };
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        self.frames.publish(&sum);
    }

    fn end(mut self) {
        for steered in &mut self.interfaces {
            steered.program.detach();
        }
        self.publish();
    }
}

impl Steered {
    fn open(
        name: &str,
        names: BTreeSet<String>,
        config: &config::Receive,
        ports: &[u16],
    ) -> Result<(Self, Vec<XskSocket>, SteeredBy), XdpRefused> {
        let device = lookup(name)?;
        let xdp = &config.xdp;
        let mut steered = Self {
            name: name.to_owned(),
            index: device.index,
            queues: device.rx_queues,
            program: Program::load(name, xdp.perfmon)?,
            wanted: Destinations {
                fixed: xdp.destinations.clone(),
                names,
                listeners: config.listeners.iter().map(|l| l.address).collect(),
            },
            state: State::Up,
        };
        let program = &mut steered.program;
        program.set_ports(ports)?;
        program.set_allowed(&config.allow)?;
        program.set_destinations(&steered.wanted.addresses())?;
        let attached = program.attach(device.index, xdp.attach)?;
        let mut sockets = Vec::new();
        for queue in 0..device.rx_queues {
            let socket = XskSocket::open(name, device.index, queue, device.mtu, xdp)?;
            program.steer_to(queue, socket.fd())?;
            sockets.push(socket);
        }
        let mode = SteeredBy::AfXdp {
            native: attached == Attached::Native,
            zero_copy: sockets.iter().all(XskSocket::is_zero_copy),
            queues: device.rx_queues,
        };
        Ok((steered, sockets, mode))
    }

    /// Follows the addresses, and tells what changed about the interface.
    fn look(&mut self) {
        let name = &self.name;
        let found = Interface::of(name)
            .ok()
            .filter(|now| now.index == self.index);
        let state = match &found {
            Some(now) if now.is_up => State::Up,
            Some(_) => State::Down,
            None => State::Gone,
        };
        if state != self.state {
            match state {
                State::Up => info!(interface = name, "up again"),
                State::Down => warn!(interface = name, "down: nothing arrives by it"),
                State::Gone => error!(
                    interface = name,
                    "gone: when it is back, its datagrams come by the kernel's sockets; restart \
                     the collector to steer them again"
                ),
            }
            self.state = state;
        }
        let Some(now) = found else {
            return;
        };
        if now.rx_queues != self.queues {
            warn!(
                interface = name,
                before = self.queues,
                now = now.rx_queues,
                "the number of queues changed: datagrams of a new queue come by the kernel's \
                 sockets; restart the collector to steer them too"
            );
            self.queues = now.rx_queues;
        }
        if let Err(refused) = self.program.set_destinations(&self.wanted.addresses()) {
            error!("{refused}");
        }
    }
}

impl Destinations {
    /// The addresses at this moment that a listener would take datagrams for.
    fn addresses(&self) -> Vec<IpAddr> {
        let own = || {
            let interfaces = self
                .names
                .iter()
                .filter_map(|name| Interface::of(name).ok());
            interfaces
                .flat_map(|interface| interface.addresses)
                .collect()
        };
        let mut all: Vec<IpAddr> = match self.fixed.is_empty() {
            true => own(),
            false => self.fixed.clone(),
        };
        all.retain(|address| self.listeners.iter().any(|l| takes(*l, *address)));
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// True when a socket that is bound to `listener` gets what is sent to `address`.
fn takes(listener: IpAddr, address: IpAddr) -> bool {
    match listener {
        IpAddr::V6(any) if any.is_unspecified() => true,
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4(),
        one => one == address,
    }
}

/// The devices behind the configured names, each once, with the names whose addresses are theirs;
/// and the names that have none.
fn devices(names: &[String]) -> (Vec<(String, BTreeSet<String>)>, Vec<XdpRefused>) {
    let mut devices: Vec<(String, BTreeSet<String>)> = Vec::new();
    let mut refusals = Vec::new();
    for name in names {
        let carriers = match carriers(name) {
            Ok(carriers) => carriers,
            Err(refused) => {
                refusals.push(refused);
                continue;
            }
        };
        for device in carriers {
            let device = device.name;
            if device != *name {
                info!(interface = name, device, "AF_XDP is for the device below");
            }
            let both = [device.clone(), name.clone()];
            match devices.iter_mut().find(|(known, _)| *known == device) {
                Some((_, names)) => names.extend(both),
                None => devices.push((device, both.into())),
            }
        }
    }
    (devices, refusals)
}

fn carriers(name: &str) -> Result<Vec<Interface>, XdpRefused> {
    let carriers = lookup(name)?.carriers();
    let carriers =
        carriers.map_err(|error| XdpRefused::new(name, None, Step::Interface, &error))?;
    if carriers.is_empty() {
        let remedy =
            format!("it is a bond without members; 'ip link set eth0 master {name}' adds one");
        return Err(XdpRefused::because(name, Step::Interface, remedy));
    }
    Ok(carriers)
}

fn lookup(name: &str) -> Result<Interface, XdpRefused> {
    Interface::of(name).map_err(|error| XdpRefused::new(name, None, Step::Interface, &error))
}

/// A netlink socket that becomes readable when links or addresses change (rtnetlink(7)).
fn bell() -> io::Result<OwnedFd> {
    const RTMGRP_LINK: u32 = 0x1;
    const RTMGRP_IPV4_IFADDR: u32 = 0x10;
    const RTMGRP_IPV6_IFADDR: u32 = 0x100;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is NETLINK_ROUTE.
    let bell = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    bind(&bell, &SocketAddrNetlink::new(0, groups))?;
    Ok(bell)
}

/// Waits for a change or until the counters are due. True when something changed: what, is read
/// from the interfaces.
fn wait(bell: &OwnedFd) -> bool {
    let timeout = Timespec::try_from(COUNT_EVERY).expect("a quarter of a second");
    let mut polled = [PollFd::new(bell, PollFlags::IN)];
    // Interrupted or not: the counters are at most early.
    let rang = poll(&mut polled, Some(&timeout)).is_ok_and(|ready| ready > 0);
    let mut message = [0_u8; 4096];
    while recv(bell.as_fd(), &mut message, RecvFlags::DONTWAIT).is_ok() {}
    rang
}
