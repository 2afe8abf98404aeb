//! AF_XDP against a real kernel: two queues of a veth, and what the program passes on.

mod counting;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use collector_ebpf::Verdict;
use counting::allocations;
use flowsluice::config::{self, XdpAttach, XdpCopy};
use flowsluice::host::Interface;
use flowsluice::receive::sockets::Plan;
use flowsluice::receive::udp::UdpReceiver;
use flowsluice::receive::xdp::program::{Attached, Program};
use flowsluice::receive::xdp::receiver::XdpReceiver;
use flowsluice::receive::xdp::socket::XskSocket;
use flowsluice::receive::xdp::{Step, XdpRefused};
use flowsluice::receive::{Datagram, Receive};
use flowsluice_tests::namespace::{COLLECTOR, EXPORTER, Veth, ipv4, ipv6};
use flowsluice_tests::packet::{self, Between, FrameSender, VLAN};
use flowsluice_tests::place;

const OURS: &str = Veth::COLLECTOR;
/// The program steers what is sent to this port.
const PORT: u16 = 2055;
/// Of both ends; native XDP on a veth takes no more than some 3500.
const MTU: u32 = 3000;
/// A listener that the program does not know of.
const OTHER_PORT: u16 = 9995;

/// The cable, with an MTU that needs the longer frames, unless this is no place for it.
fn cable_or_skip() -> Option<Veth> {
    let veth = Veth::new_or_skip().unwrap()?;
    for (side, link) in [(&veth.collector, OURS), (&veth.exporter, Veth::EXPORTER)] {
        side.ip(&format!("link set {link} mtu {MTU}\n")).unwrap();
    }
    Some(veth)
}

fn index() -> u32 {
    Interface::of(OURS).unwrap().index
}

fn frame_v4(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let from = SocketAddr::new(ipv4(EXPORTER), source_port);
    let to = SocketAddr::new(ipv4(COLLECTOR), port);
    let packet = packet::udp(from, to, Between::Nothing, payload).unwrap();
    packet::frame(Veth::COLLECTOR_MAC, &[], &packet)
}

fn frame_v6(source_port: u16, tagged: bool, payload: &[u8]) -> Vec<u8> {
    let from = SocketAddr::new(ipv6(EXPORTER), source_port);
    let to = SocketAddr::new(ipv6(COLLECTOR), PORT);
    let packet = packet::udp(from, to, Between::Nothing, payload).unwrap();
    let tags: &[_] = if tagged { &[(VLAN, 7)] } else { &[] };
    packet::frame(Veth::COLLECTOR_MAC, tags, &packet)
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
    open_for(config, queues, 1500)
}

fn open_for(
    config: &config::Receive,
    queues: &[u32],
    mtu: u32,
) -> Result<(Program, XdpReceiver), XdpRefused> {
    let if_index = index();
    let mut program = Program::load(OURS, config.xdp.perfmon)?;
    program.set_ports(&[PORT])?;
    program.set_destinations(&[ipv4(COLLECTOR), ipv6(COLLECTOR)])?;
    let mut sockets = Vec::new();
    for queue in queues {
        let socket = XskSocket::open(OURS, if_index, *queue, mtu, &config.xdp)?;
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
    let deadline = Instant::now() + Duration::from_secs(30);
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
fn in_both_modes(body: impl Fn(XdpAttach, &FrameSender) -> Result<(), XdpRefused> + Send + Sync) {
    for attach in [XdpAttach::Native, XdpAttach::Skb] {
        let Some(veth) = cable_or_skip() else {
            return;
        };
        let sender = veth.exporter.run(|| FrameSender::open(Veth::EXPORTER));
        let sender = sender.unwrap().unwrap();
        let outcome = veth.collector.run(|| body(attach, &sender)).unwrap();
        if let Err(refused) = outcome {
            place::skip(&refused.to_string());
        }
    }
}

#[test]
fn every_datagram_arrives_once_whichever_way_it_takes() {
    in_both_modes(|attach, sender| {
        let (program, mut receiver) = open(&config(attach), &[0, 1])?;
        let mut expected: Vec<Taken> = Vec::new();
        let (v4, v6) = (ipv4(EXPORTER), ipv6(EXPORTER));
        for port in 5000..5064_u16 {
            let payload = port.to_be_bytes().repeat(usize::from(port - 4990));
            sender.send(&frame_v4(port, PORT, &payload)).unwrap();
            expected.push((v4, port, PORT, payload.clone()));
            let tagged = port % 2 == 0;
            sender.send(&frame_v6(port, tagged, &payload)).unwrap();
            expected.push((v6, port, PORT, payload));
        }
        sender.send(&frame_v4(6000, PORT, b"")).unwrap();
        expected.push((v4, 6000, PORT, Vec::new()));
        let steered = expected.len() as u64;
        sender
            .send(&frame_v4(6001, OTHER_PORT, b"another port"))
            .unwrap();
        expected.push((v4, 6001, OTHER_PORT, b"another port".into()));
        let long = vec![7; 2000];
        for piece in fragments(&frame_v4(6002, PORT, &long), 1480) {
            sender.send(&piece).unwrap();
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
                sender
                    .send(&frame_v4(5000 + n, PORT, &n.to_be_bytes()))
                    .unwrap();
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
            sender.send(&frame).unwrap();
            if n % 100 == 99 {
                take_all(&mut receiver);
            }
        }
        assert_eq!(receiver.frames_malformed(), 1000, "{attach:?}");
        assert_eq!(receiver.kernel_drops(), 0);
        let mut frame = frame_v4(5000, PORT, b"datagram");
        frame[40] ^= 1;
        sender.send(&frame).unwrap();
        sender.send(&frame_v4(5001, PORT, b"good")).unwrap();
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
                sender.send(&frame_v4(port, PORT, b"datagram")).unwrap();
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
fn unfinished_checksums_are_believed_only_when_the_configuration_says_so() {
    for attach in [XdpAttach::Native, XdpAttach::Skb] {
        let Some(veth) = cable_or_skip() else {
            return;
        };
        // Unlike frames from a packet socket, the kernel's own have no full checksum on a veth.
        let socket = veth
            .exporter
            .run(|| UdpSocket::bind("0.0.0.0:0"))
            .unwrap()
            .unwrap();
        let outcome = veth.collector.run(|| {
            for verify_checksum in [true, false] {
                let mut config = config(attach);
                config.xdp.verify_checksum = verify_checksum;
                let (_program, mut receiver) = open(&config, &[0, 1])?;
                let to = (ipv4(COLLECTOR), PORT);
                for _ in 0..20 {
                    socket.send_to(b"datagram", to).unwrap();
                }
                let datagrams = take_all(&mut receiver);
                let expected = if verify_checksum { (0, 20) } else { (20, 0) };
                let found = (datagrams, receiver.frames_malformed());
                assert_eq!(found, expected, "{attach:?}");
            }
            Ok::<_, XdpRefused>(())
        });
        if let Err(refused) = outcome.unwrap() {
            place::skip(&refused.to_string());
        }
    }
}

#[test]
fn larger_packets_arrive_whole_in_larger_frames() {
    in_both_modes(|attach, sender| {
        let (_program, mut receiver) = open_for(&config(attach), &[0, 1], 3000)?;
        let payload: Vec<u8> = (0..2900_u16).map(|n| n as u8).collect();
        for port in 5000..5100 {
            sender.send(&frame_v4(port, PORT, &payload)).unwrap();
        }
        let taken = take(&mut receiver, 100);
        assert_eq!(taken.len(), 100, "{attach:?}");
        assert!(taken.iter().all(|(.., bytes)| *bytes == payload));
        Ok(())
    });
}

#[test]
fn huge_pages_are_taken_or_their_want_is_told() {
    in_both_modes(|attach, _| {
        let mut config = config(attach).xdp;
        config.huge_pages = true;
        let if_index = index();
        match XskSocket::open(OURS, if_index, 0, 1500, &config) {
            Ok(_) => assert!(huge_pages() > 0),
            Err(refused) => {
                assert_eq!((refused.step, refused.errno), (Step::Umem, 0));
                let text = refused.to_string();
                assert!(text.contains("a queue takes 1 "), "{text}");
                assert!(text.contains("vm.nr_hugepages"), "{text}");
            }
        }
        Ok(())
    });
}

/// How many the system has, in use or not.
fn huge_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn after_set_up_receiving_allocates_nothing() {
    in_both_modes(|attach, sender| {
        let (_program, mut receiver) = open(&config(attach), &[0, 1])?;
        let mut broken = frame_v4(5000, PORT, b"datagram");
        broken[40] ^= 1;
        for port in 5000..5100 {
            sender.send(&frame_v4(port, PORT, b"datagram")).unwrap();
            sender.send(&frame_v6(port, true, b"datagram")).unwrap();
            sender
                .send(&frame_v4(port, OTHER_PORT, b"datagram"))
                .unwrap();
            sender.send(&broken).unwrap();
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
            sender.send(&frame_v4(5000 + n, PORT, b"frame")).unwrap();
            sender
                .send(&frame_v4(5000 + n, OTHER_PORT, b"socket"))
                .unwrap();
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
        sender.send(&frame_v4(5000, PORT, b"datagram")).unwrap();
        assert_eq!(take(&mut receiver, 1).len(), 1);
        Ok(())
    });
}

#[test]
fn a_queue_belongs_to_one_socket_and_is_free_again_when_that_is_dropped() {
    in_both_modes(|attach, _| {
        let config = config(attach).xdp;
        let if_index = index();
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
        let if_index = index();
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
