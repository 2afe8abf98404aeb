//! AF_XDP against a real kernel: two queues of a veth, and what the program passes on.
#![allow(
    unsafe_code,
    reason = "network namespaces are entered, and frames sent, by system calls"
)]

mod counting;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use collector_ebpf::Verdict;
use counting::allocations;
use etherparse::{PacketBuilder, VlanId};
use flowsluice::config::{self, XdpAttach, XdpCopy};
use flowsluice::receive::sockets::Plan;
use flowsluice::receive::udp::UdpReceiver;
use flowsluice::receive::xdp::program::{Attached, Program};
use flowsluice::receive::xdp::receiver::XdpReceiver;
use flowsluice::receive::xdp::socket::XskSocket;
use flowsluice::receive::xdp::{Step, XdpRefused};
use flowsluice::receive::{Datagram, Receive};

const OURS: &str = "fsx0";
const THEIRS: &str = "fsx1";
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OUR_V4: [u8; 4] = [192, 0, 2, 1];
const THEIR_V4: [u8; 4] = [192, 0, 2, 2];
const OUR_V6: [u8; 16] = v6(1);
const THEIR_V6: [u8; 16] = v6(2);
/// The program steers what is sent to this port.
const PORT: u16 = 2055;
/// A listener that the program does not know of.
const OTHER_PORT: u16 = 9995;

const fn v6(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// Two namespaces that a veth of two queues joins; gone when dropped.
struct Network {
    ours: String,
    theirs: String,
}

impl Network {
    fn new() -> io::Result<Self> {
        let random = rand::random::<u32>();
        let network = Self {
            ours: format!("fsx-{random:08x}-a"),
            theirs: format!("fsx-{random:08x}-b"),
        };
        let Self { ours, theirs } = &network;
        ip(&format!("netns add {ours}"))?;
        ip(&format!("netns add {theirs}"))?;
        let queues = "numrxqueues 2 numtxqueues 2";
        ip(&format!(
            "link add {OURS} netns {ours} {queues} type veth peer name {THEIRS} netns {theirs} {queues}"
        ))?;
        for (namespace, link, mac, last) in
            [(ours, OURS, OUR_MAC, 1), (theirs, THEIRS, THEIR_MAC, 2)]
        {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            let ip_there = |command: String| ip(&format!("-n {namespace} {command}"));
            ip_there(format!("link set {link} address {mac}"))?;
            ip_there(format!("address add 192.0.2.{last}/24 dev {link}"))?;
            ip_there(format!("address add 2001:db8::{last}/64 dev {link} nodad"))?;
            ip_there(format!("link set {link} up"))?;
        }
        Ok(network)
    }

    /// Runs `body` in a thread in the namespace that receives.
    fn receiving<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        within(&self.ours, body)
    }

    /// A socket that puts frames on the other end of the wire.
    fn sender(&self) -> Sender {
        within(&self.theirs, || Sender::new().unwrap())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.ours, &self.theirs] {
            let _ = ip(&format!("netns delete {namespace}"));
        }
    }
}

fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("ip {arguments}: {said}")))
}

fn within<T: Send>(namespace: &str, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let there = File::open(format!("/run/netns/{namespace}")).unwrap();
            // SAFETY: it changes the namespace of this thread only, which does not outlive it.
            let outcome = unsafe { libc::setns(there.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
            body()
        });
        inside.join().unwrap()
    })
}

/// The network, unless this is no place for it.
fn network_or_skip() -> Option<Network> {
    match Network::new() {
        Ok(network) => Some(network),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "AF_XDP cannot be tested here, and under CI it must: {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// Puts frames on the wire as they are.
struct Sender {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Sender {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointer is involved.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: integers, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index_of(THEIRS)? as i32;
        Ok(Self { socket, address })
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: frame and address are readable for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const self.address).cast(),
                size_of_val(&self.address) as libc::socklen_t,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}

fn index_of(interface: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name ends with a zero and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn frame_v4(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(THEIR_MAC, OUR_MAC)
        .ipv4(THEIR_V4, OUR_V4, 64)
        .udp(source_port, port)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn frame_v6(source_port: u16, tagged: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(THEIR_MAC, OUR_MAC);
    let ip = if tagged {
        let tagged = ethernet.single_vlan(VlanId::try_new(7).unwrap());
        tagged.ipv6(THEIR_V6, OUR_V6, 64)
    } else {
        ethernet.ipv6(THEIR_V6, OUR_V6, 64)
    };
    ip.udp(source_port, PORT)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

/// A plain IPv4 frame in two pieces; the first carries `first` bytes of the packet, headers aside.
fn fragments(frame: &[u8], first: usize) -> [Vec<u8>; 2] {
    let (headers, body) = frame.split_at(14 + 20);
    let piece = |offset: usize, body: &[u8], more: bool| {
        let mut piece = [headers, body].concat();
        let length = (20 + body.len()) as u16;
        let flags = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        piece[16..18].copy_from_slice(&length.to_be_bytes());
        piece[20..22].copy_from_slice(&flags.to_be_bytes());
        piece[24..26].fill(0);
        let words = piece[14..34].chunks_exact(2);
        let sum: u32 = words
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        piece[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        piece
    };
    [
        piece(0, &body[..first], true),
        piece(first, &body[first..], false),
    ]
}

fn config(attach: XdpAttach) -> config::Receive {
    config::Receive {
        listeners: [PORT, OTHER_PORT]
            .map(|port| config::Listener {
                address: IpAddr::from([0; 16]),
                port,
                protocols: Vec::new(),
            })
            .into(),
        socket_buffer: ByteSize::mib(2),
        xdp: config::Xdp {
            interfaces: vec![OURS.to_owned()],
            attach,
            frames: 512,
            ..config::Xdp::default()
        },
        ..config::Receive::default()
    }
}

/// The program on our end, with a receiver of these queues.
fn open(config: &config::Receive, queues: &[u32]) -> Result<(Program, XdpReceiver), XdpRefused> {
    let if_index = index_of(OURS).unwrap();
    let mut program = Program::load(OURS, config.xdp.perfmon)?;
    program.set_ports(&[PORT])?;
    program.set_destinations(&[IpAddr::from(OUR_V4), IpAddr::from(OUR_V6)])?;
    let mut sockets = Vec::new();
    for queue in queues {
        let socket = XskSocket::open(OURS, if_index, *queue, 1500, &config.xdp)?;
        program.steer_to(*queue, socket.fd())?;
        sockets.push(socket);
    }
    let attached = program.attach(if_index, config.xdp.attach)?;
    let wanted = match config.xdp.attach {
        XdpAttach::Skb => Attached::Skb,
        XdpAttach::Native | XdpAttach::Auto => Attached::Native,
    };
    assert_eq!(attached, wanted);
    let mut plan = Plan::new(config).unwrap();
    let udp = UdpReceiver::new(plan.sockets().unwrap(), config).unwrap();
    Ok((program, XdpReceiver::new(sockets, udp, config).unwrap()))
}

fn redirected(program: &Program) -> u64 {
    program.counters().unwrap()[Verdict::Redirected.index() as usize]
}

type Taken = (IpAddr, u16, u16, Vec<u8>);

fn taken(datagram: &Datagram<'_>) -> Taken {
    assert!(!datagram.cut);
    let (source, port) = (datagram.source, datagram.source_port);
    (source, port, datagram.local_port, datagram.payload.into())
}

/// Turns until `expected` datagrams are there, then some more, so that too many show as well.
fn take(receiver: &mut XdpReceiver, expected: usize) -> Vec<Taken> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut all = Vec::new();
    let mut turn = |all: &mut Vec<Taken>, patience| {
        let patience = Duration::from_millis(patience);
        let on_datagram = &mut |datagram: &Datagram<'_>| all.push(taken(datagram));
        receiver.receive(patience, on_datagram).unwrap();
    };
    while all.len() < expected && Instant::now() < deadline {
        turn(&mut all, 100);
    }
    for _ in 0..3 {
        turn(&mut all, 20);
    }
    all.sort();
    all
}

/// For `body`, the receiver in its namespace, and the sender; in both modes of attaching.
fn in_both_modes(body: impl Fn(XdpAttach, &Sender) -> Result<(), XdpRefused> + Send + Sync) {
    for attach in [XdpAttach::Native, XdpAttach::Skb] {
        let Some(network) = network_or_skip() else {
            return;
        };
        let sender = network.sender();
        let outcome = network.receiving(|| body(attach, &sender));
        if let Err(refused) = outcome {
            skip(&refused.to_string());
        }
    }
}

#[test]
fn every_datagram_arrives_once_whichever_way_it_takes() {
    in_both_modes(|attach, sender| {
        let (program, mut receiver) = open(&config(attach), &[0, 1])?;
        let mut expected: Vec<Taken> = Vec::new();
        let (v4, v6) = (IpAddr::from(THEIR_V4), IpAddr::from(THEIR_V6));
        for port in 5000..5064_u16 {
            let payload = port.to_be_bytes().repeat(usize::from(port - 4990));
            sender.send(&frame_v4(port, PORT, &payload));
            expected.push((v4, port, PORT, payload.clone()));
            let tagged = port % 2 == 0;
            sender.send(&frame_v6(port, tagged, &payload));
            expected.push((v6, port, PORT, payload));
        }
        sender.send(&frame_v4(6000, PORT, b""));
        expected.push((v4, 6000, PORT, Vec::new()));
        let steered = expected.len() as u64;
        sender.send(&frame_v4(6001, OTHER_PORT, b"another port"));
        expected.push((v4, 6001, OTHER_PORT, b"another port".into()));
        let long = vec![7; 2000];
        for piece in fragments(&frame_v4(6002, PORT, &long), 1480) {
            sender.send(&piece);
        }
        expected.push((v4, 6002, PORT, long));
        expected.sort();
        let taken = take(&mut receiver, expected.len());
        assert_eq!(taken, expected, "{attach:?}");
        assert_eq!(redirected(&program), steered, "{attach:?}");
        assert_eq!(receiver.frames_malformed(), 0);
        assert_eq!(receiver.kernel_drops(), 0);
        Ok(())
    });
}

#[test]
fn both_queues_bring_frames_and_what_has_no_socket_comes_by_the_kernel() {
    in_both_modes(|attach, sender| {
        const SENT: u16 = 200;
        let mut steered = Vec::new();
        for queue in [0, 1] {
            let (program, mut receiver) = open(&config(attach), &[queue])?;
            for n in 0..SENT {
                sender.send(&frame_v4(5000 + n, PORT, &n.to_be_bytes()));
            }
            let taken = take(&mut receiver, usize::from(SENT));
            let numbers: Vec<_> = taken.iter().map(|(_, port, ..)| port - 5000).collect();
            assert_eq!(numbers, (0..SENT).collect::<Vec<_>>(), "{attach:?}");
            steered.push(redirected(&program));
        }
        assert_eq!(steered.iter().sum::<u64>(), u64::from(SENT), "{attach:?}");
        // Before generic XDP a veth does not say which queue a frame is of; it counts as the first.
        let spreads = attach == XdpAttach::Native;
        let brought = steered.iter().filter(|frames| **frames > 0).count();
        let expected = if spreads { 2 } else { 1 };
        assert_eq!(brought, expected, "{attach:?} {steered:?}");
        Ok(())
    });
}

#[test]
fn a_frame_with_a_wrong_checksum_is_counted_and_the_next_ones_arrive() {
    in_both_modes(|attach, sender| {
        let (_program, mut receiver) = open(&config(attach), &[0, 1])?;
        // More than there are frames, so that those of malformed ones have to be used again.
        for n in 0..1500 {
            let mut frame = frame_v4(5000, PORT, b"datagram");
            if n % 3 < 2 {
                frame[40] ^= 1;
            }
            sender.send(&frame);
            if n % 100 == 99 {
                take_all(&mut receiver);
            }
        }
        assert_eq!(receiver.frames_malformed(), 1000, "{attach:?}");
        assert_eq!(receiver.kernel_drops(), 0);
        let mut frame = frame_v4(5000, PORT, b"datagram");
        frame[40] ^= 1;
        sender.send(&frame);
        sender.send(&frame_v4(5001, PORT, b"good"));
        assert_eq!(take(&mut receiver, 1).len(), 1);
        Ok(())
    });
}

/// Turns until nothing comes for 20 ms. Returns how many datagrams there were.
fn take_all(receiver: &mut XdpReceiver) -> u64 {
    let mut datagrams = 0;
    loop {
        let before = datagrams + receiver.frames_malformed();
        let patience = Duration::from_millis(20);
        receiver.receive(patience, &mut |_| datagrams += 1).unwrap();
        if datagrams + receiver.frames_malformed() == before {
            return datagrams;
        }
    }
}

#[test]
fn frames_that_find_no_room_are_counted_as_the_kernels_drops() {
    in_both_modes(|attach, sender| {
        let mut config = config(attach);
        config.xdp.frames = 64;
        let (program, mut receiver) = open(&config, &[0, 1])?;
        let mut datagrams = 0;
        for _ in 0..3 {
            for port in 5000..5300 {
                sender.send(&frame_v4(port, PORT, b"datagram"));
            }
            datagrams += take_all(&mut receiver);
        }
        let drops = receiver.kernel_drops();
        assert!(drops > 0, "{attach:?}");
        assert_eq!(datagrams + drops, 900, "{attach:?}");
        assert!(redirected(&program) >= datagrams);
        Ok(())
    });
}

#[test]
fn after_set_up_receiving_allocates_nothing() {
    in_both_modes(|attach, sender| {
        let (_program, mut receiver) = open(&config(attach), &[0, 1])?;
        let mut broken = frame_v4(5000, PORT, b"datagram");
        broken[40] ^= 1;
        for port in 5000..5100 {
            sender.send(&frame_v4(port, PORT, b"datagram"));
            sender.send(&frame_v6(port, true, b"datagram"));
            sender.send(&frame_v4(port, OTHER_PORT, b"datagram"));
            sender.send(&broken);
        }
        let before = allocations();
        let datagrams = take_all(&mut receiver);
        let drops = receiver.kernel_drops();
        let after = allocations();
        assert_eq!((datagrams, drops), (300, 0), "{attach:?}");
        assert_eq!(receiver.frames_malformed(), 100);
        assert_eq!(after - before, 0, "{attach:?}");
        Ok(())
    });
}

#[test]
fn sockets_are_served_while_frames_keep_coming_and_the_other_way_round() {
    in_both_modes(|attach, sender| {
        let mut config = config(attach);
        config.burst = 4;
        let (_program, mut receiver) = open(&config, &[0, 1])?;
        for n in 0..200 {
            sender.send(&frame_v4(5000 + n, PORT, b"frame"));
            sender.send(&frame_v4(5000 + n, OTHER_PORT, b"socket"));
        }
        let mut order = Vec::new();
        while order.len() < 400 {
            let before = order.len();
            let on_datagram = &mut |datagram: &Datagram<'_>| order.push(datagram.local_port);
            receiver
                .receive(Duration::from_millis(100), on_datagram)
                .unwrap();
            assert!(order.len() <= before + 4, "one burst at most");
            assert!(order.len() > before, "{attach:?}: {} came", order.len());
        }
        for port in [PORT, OTHER_PORT] {
            let in_first_half = order[..200].iter().filter(|taken| **taken == port).count();
            assert!(
                in_first_half >= 50,
                "{attach:?}: {port}: {in_first_half} of 200"
            );
        }
        Ok(())
    });
}

#[test]
fn a_turn_ends_at_its_timeout_also_when_the_card_is_polled() {
    in_both_modes(|attach, sender| {
        let mut config = config(attach);
        config.xdp.busy_poll_us = 1000;
        let (_program, mut receiver) = open(&config, &[0, 1])?;
        let begun = Instant::now();
        let timeout = Duration::from_millis(50);
        receiver
            .receive(timeout, &mut |_| panic!("nothing was sent"))
            .unwrap();
        let waited = begun.elapsed();
        assert!(waited >= timeout && waited < 4 * timeout, "{waited:?}");
        sender.send(&frame_v4(5000, PORT, b"datagram"));
        assert_eq!(take(&mut receiver, 1).len(), 1);
        Ok(())
    });
}

#[test]
fn a_queue_belongs_to_one_socket_and_is_free_again_when_that_is_dropped() {
    in_both_modes(|attach, _| {
        let config = config(attach).xdp;
        let if_index = index_of(OURS).unwrap();
        let socket = |queue| XskSocket::open(OURS, if_index, queue, 1500, &config);
        let held = socket(0)?;
        assert!(!held.is_zero_copy(), "a veth has none");
        let busy = socket(0).err().unwrap();
        assert_eq!((busy.step, busy.errno), (Step::Bind, libc::EBUSY));
        drop(held);
        socket(0)?;
        let beyond = socket(7).err().unwrap();
        assert_eq!((beyond.step, beyond.errno), (Step::Bind, libc::EINVAL));
        Ok(())
    });
}

#[test]
fn zero_copy_by_configuration_is_refused_where_the_driver_has_none() {
    in_both_modes(|_, _| {
        let mut config = config(XdpAttach::Native).xdp;
        config.copy = XdpCopy::ZeroCopy;
        let if_index = index_of(OURS).unwrap();
        let refused = XskSocket::open(OURS, if_index, 0, 1500, &config)
            .err()
            .unwrap();
        assert_eq!(
            (refused.step, refused.errno),
            (Step::Bind, libc::EOPNOTSUPP)
        );
        Ok(())
    });
}
