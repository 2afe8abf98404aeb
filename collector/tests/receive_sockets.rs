//! Both receive loops against real sockets on loopback.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use flowsluice::config::{self, ReceiveMode};
use flowsluice::receive::sockets::Plan;
use flowsluice::receive::{self, Datagram, Receive, Receiver};

#[derive(Debug, PartialEq, Eq)]
struct Taken {
    source: SocketAddr,
    local_port: u16,
    payload: Vec<u8>,
    cut: bool,
}

impl From<&Datagram<'_>> for Taken {
    fn from(datagram: &Datagram<'_>) -> Self {
        Self {
            source: SocketAddr::new(datagram.source, datagram.source_port),
            local_port: datagram.local_port,
            payload: datagram.payload.into(),
            cut: datagram.cut,
        }
    }
}

fn modes() -> Vec<ReceiveMode> {
    match receive::choose(&config::Receive::default()) {
        Ok(ReceiveMode::IoUring) => vec![ReceiveMode::IoUring, ReceiveMode::Recvmmsg],
        _ => {
            assert!(
                std::env::var_os("CI").is_none(),
                "io_uring is refused here, so its receive loop cannot be tested"
            );
            eprintln!("skipped for io_uring: it is refused here");
            vec![ReceiveMode::Recvmmsg]
        }
    }
}

fn config(listeners: &[&str]) -> config::Receive {
    config::Receive {
        listeners: listeners
            .iter()
            .map(|address| {
                let address: SocketAddr = address.parse().unwrap();
                config::Listener {
                    address: address.ip(),
                    port: address.port(),
                    protocols: Vec::new(),
                }
            })
            .collect(),
        socket_buffer: ByteSize::mib(2),
        ..config::Receive::default()
    }
}

fn open(config: &config::Receive, mode: ReceiveMode) -> (Receiver, Vec<SocketAddr>) {
    let mut plan = Plan::new(config).unwrap();
    let receiver = receive::open(config, &mut plan, mode, Vec::new()).unwrap();
    assert_eq!(receiver.mode(), mode);
    (receiver, plan.addresses().to_vec())
}

/// One call of `receive`.
fn turn(receiver: &mut Receiver, timeout: Duration) -> Vec<Taken> {
    let mut taken = Vec::new();
    let mut push = |datagram: &Datagram<'_>| taken.push(datagram.into());
    match receiver {
        Receiver::IoUring(receiver) => receiver.receive(timeout, &mut push),
        Receiver::Recvmmsg(receiver) => receiver.receive(timeout, &mut push),
        Receiver::AfXdp(receiver) => receiver.receive(timeout, &mut push),
    }
    .unwrap();
    taken
}

/// Turns until `expected` datagrams are there, then one more, so that too many show as well.
fn take(receiver: &mut Receiver, expected: usize) -> Vec<Taken> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut taken = Vec::new();
    while taken.len() < expected && Instant::now() < deadline {
        taken.extend(turn(receiver, Duration::from_millis(100)));
    }
    taken.extend(turn(receiver, Duration::from_millis(10)));
    taken
}

fn shut(receiver: &mut Receiver) {
    match receiver {
        Receiver::IoUring(receiver) => receiver.shut(),
        Receiver::Recvmmsg(receiver) => receiver.shut(),
        Receiver::AfXdp(receiver) => receiver.shut(),
    }
}

fn kernel_drops(receiver: &mut Receiver) -> u64 {
    match receiver {
        Receiver::IoUring(receiver) => receiver.kernel_drops(),
        Receiver::Recvmmsg(receiver) => receiver.kernel_drops(),
        Receiver::AfXdp(receiver) => receiver.kernel_drops(),
    }
}

fn sender(address: &str) -> UdpSocket {
    UdpSocket::bind(address).unwrap()
}

#[test]
fn what_came_before_the_end_is_received_and_what_comes_after_is_refused() {
    for mode in modes() {
        for (listener, target) in [
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "::1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("127.0.0.1:0", "127.0.0.1"),
        ] {
            let (mut receiver, addresses) = open(&config(&[listener]), mode);
            let target = SocketAddr::new(target.parse().unwrap(), addresses[0].port());
            let any = if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let sender = sender(any);
            sender.connect(target).unwrap();
            // One for a request that is with the kernel, some that wait.
            assert_eq!(turn(&mut receiver, Duration::ZERO), []);
            for number in 0..20 {
                sender.send(&[number]).unwrap();
            }
            shut(&mut receiver);
            // The error of the first is told to the second.
            let late: Vec<_> = (20..24).map(|number| sender.send(&[number])).collect();
            assert!(
                late.iter().any(Result::is_err),
                "{mode:?} {listener} {late:?}"
            );
            let taken = take(&mut receiver, 20);
            let payloads: Vec<_> = taken.iter().map(|taken| taken.payload.clone()).collect();
            let sent: Vec<_> = (0..20).map(|number| vec![number]).collect();
            assert_eq!(payloads, sent, "{mode:?} {listener}");
        }
    }
}

#[test]
fn datagrams_of_both_families_arrive_with_their_source_port_and_payload() {
    for mode in modes() {
        let (mut receiver, addresses) = open(&config(&["[::]:0", "127.0.0.1:0"]), mode);
        let (any, one) = (addresses[0].port(), addresses[1].port());
        let (v4, v6) = (sender("127.0.0.2:0"), sender("[::1]:0"));
        v4.send_to(b"v4 to any", ("127.0.0.1", any)).unwrap();
        v4.send_to(b"v4 to one", ("127.0.0.1", one)).unwrap();
        v6.send_to(b"v6 to any", ("::1", any)).unwrap();
        let mut taken = take(&mut receiver, 3);
        taken.sort_by(|a, b| a.payload.cmp(&b.payload));
        let expect = |socket: &UdpSocket, local_port, payload: &[u8]| Taken {
            source: socket.local_addr().unwrap(),
            local_port,
            payload: payload.into(),
            cut: false,
        };
        assert_eq!(
            taken,
            [
                expect(&v4, any, b"v4 to any"),
                expect(&v4, one, b"v4 to one"),
                expect(&v6, any, b"v6 to any"),
            ],
            "{mode:?}"
        );
        assert!(taken[0].source.is_ipv4(), "never v4-mapped");
    }
}

#[test]
fn an_empty_datagram_arrives_and_the_next_one_too() {
    for mode in modes() {
        let (mut receiver, addresses) = open(&config(&["127.0.0.1:0"]), mode);
        let socket = sender("127.0.0.1:0");
        for payload in [&b"before"[..], b"", b"", b"after"] {
            socket.send_to(payload, addresses[0]).unwrap();
        }
        let taken = take(&mut receiver, 4);
        let payloads: Vec<&[u8]> = taken.iter().map(|t| &t.payload[..]).collect();
        assert_eq!(payloads, [&b"before"[..], b"", b"", b"after"], "{mode:?}");
        assert!(taken.iter().all(|t| !t.cut));
    }
}

#[test]
fn only_a_datagram_longer_than_the_maximum_is_cut() {
    for mode in modes() {
        let config = config::Receive {
            datagram_max: ByteSize::b(100),
            ..config(&["127.0.0.1:0"])
        };
        let (mut receiver, addresses) = open(&config, mode);
        let socket = sender("127.0.0.1:0");
        for len in [100, 101, 1400, 99] {
            socket.send_to(&vec![len as u8; len], addresses[0]).unwrap();
        }
        let taken = take(&mut receiver, 4);
        let seen: Vec<(usize, bool)> = taken.iter().map(|t| (t.payload.len(), t.cut)).collect();
        assert_eq!(
            seen,
            [(100, false), (100, true), (100, true), (99, false)],
            "{mode:?}"
        );
    }
}

#[test]
fn one_turn_hands_over_one_burst_at_most() {
    for mode in modes() {
        let config = config::Receive {
            burst: 4,
            ..config(&["127.0.0.1:0", "127.0.0.1:0"])
        };
        let (mut receiver, addresses) = open(&config, mode);
        let socket = sender("127.0.0.1:0");
        for n in 0..10 {
            socket.send_to(&[n], addresses[usize::from(n) % 2]).unwrap();
        }
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 10 && sizes.len() < 20 {
            sizes.push(turn(&mut receiver, Duration::from_millis(100)).len());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 10, "{mode:?} {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 4), "{mode:?} {sizes:?}");
    }
}

#[test]
fn more_datagrams_than_buffers_wait_in_the_socket() {
    for mode in modes() {
        let config = config::Receive {
            burst: 4,
            ..config(&["127.0.0.1:0", "127.0.0.1:0"])
        };
        let (mut receiver, addresses) = open(&config, mode);
        // The first turn arms the sockets, so that what follows goes to buffers at once.
        assert!(turn(&mut receiver, Duration::ZERO).is_empty());
        let socket = sender("127.0.0.1:0");
        for n in 0..300_u16 {
            let target = addresses[usize::from(n) % 2];
            socket.send_to(&n.to_be_bytes(), target).unwrap();
        }
        let mut taken = Vec::new();
        loop {
            // A shortage is not a turn without datagrams: whoever drains would stop too early.
            match turn(&mut receiver, Duration::from_millis(10)) {
                more if more.is_empty() => break,
                more => taken.extend(more),
            }
        }
        let mut numbers: Vec<u16> = taken
            .iter()
            .map(|t| u16::from_be_bytes(t.payload[..].try_into().unwrap()))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<u16>>(), "{mode:?}");
        assert_eq!(kernel_drops(&mut receiver), 0);
        if let Receiver::IoUring(receiver) = &receiver {
            assert!(
                receiver.buffer_shortages() > 0,
                "the shortage did not occur"
            );
        }
    }
}

#[test]
fn a_busy_socket_does_not_starve_another() {
    for mode in modes() {
        let config = config::Receive {
            burst: 8,
            ..config(&["127.0.0.1:0", "127.0.0.1:0"])
        };
        let (mut receiver, addresses) = open(&config, mode);
        let socket = sender("127.0.0.1:0");
        let mut turns = 0;
        socket.send_to(b"rare", addresses[1]).unwrap();
        loop {
            for _ in 0..16 {
                socket.send_to(b"busy", addresses[0]).unwrap();
            }
            let taken = turn(&mut receiver, Duration::from_millis(100));
            turns += 1;
            if taken.iter().any(|t| t.payload == b"rare") {
                break;
            }
            assert!(turns < 20, "{mode:?}");
        }
    }
}

#[test]
fn what_was_sent_was_received_or_is_counted_as_dropped_by_the_kernel() {
    const SENT: usize = 5000;
    for mode in modes() {
        let config = config::Receive {
            socket_buffer: ByteSize::b(4096),
            ..config(&["127.0.0.1:0", "[::1]:0"])
        };
        let (mut receiver, addresses) = open(&config, mode);
        let (v4, v6) = (sender("127.0.0.1:0"), sender("[::1]:0"));
        for n in 0..SENT {
            let (socket, target) = if n % 2 == 0 {
                (&v4, addresses[0])
            } else {
                (&v6, addresses[1])
            };
            socket.send_to(&[0; 1000], target).unwrap();
        }
        // Nothing comes after the drops that could tell of them.
        let mut received = 0;
        loop {
            match turn(&mut receiver, Duration::from_millis(50)).len() {
                0 => break,
                taken => received += taken,
            }
        }
        let drops = usize::try_from(kernel_drops(&mut receiver)).unwrap();
        assert!(drops > 0, "{mode:?}: the buffer was meant to overflow");
        assert_eq!(received + drops, SENT, "{mode:?}");
        v4.send_to(b"still there", addresses[0]).unwrap();
        assert_eq!(take(&mut receiver, 1).len(), 1, "{mode:?}");
    }
}

#[test]
fn timeouts_are_honoured_when_nothing_comes() {
    for mode in modes() {
        let (mut receiver, _) = open(&config(&["127.0.0.1:0", "[::1]:0"]), mode);
        for timeout in [0, 1, 50, 200].map(Duration::from_millis) {
            let begin = Instant::now();
            assert!(turn(&mut receiver, timeout).is_empty());
            let waited = begin.elapsed();
            assert!(waited >= timeout, "{mode:?} {timeout:?} {waited:?}");
            let late = Duration::from_millis(150);
            assert!(waited < timeout + late, "{mode:?} {timeout:?} {waited:?}");
        }
    }
}

#[test]
fn a_datagram_ends_the_wait() {
    for mode in modes() {
        let (mut receiver, addresses) = open(&config(&["127.0.0.1:0"]), mode);
        let target = addresses[0];
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                sender("127.0.0.1:0").send_to(b"x", target).unwrap();
            });
            let begin = Instant::now();
            assert_eq!(turn(&mut receiver, Duration::from_secs(5)).len(), 1);
            assert!(begin.elapsed() < Duration::from_secs(2), "{mode:?}");
        });
    }
}

#[test]
fn two_workers_share_a_port_and_together_get_everything() {
    const EXPORTERS: usize = 64;
    const EACH: usize = 20;
    for mode in modes() {
        let config = config(&["[::]:0"]);
        let mut plan = Plan::new(&config).unwrap();
        let port = plan.addresses()[0].port();
        let receivers: Vec<Receiver> = (0..2)
            .map(|_| receive::open(&config, &mut plan, mode, Vec::new()).unwrap())
            .collect();
        // All at once, so that no port is used twice.
        let sockets: Vec<UdpSocket> = (0..EXPORTERS).map(|_| sender("127.0.0.1:0")).collect();
        for socket in &sockets {
            for n in 0..EACH {
                socket.send_to(&[n as u8], ("127.0.0.1", port)).unwrap();
            }
        }
        // Each on a thread of its own, as workers are, though made here.
        let by_worker: Vec<Vec<Taken>> = std::thread::scope(|scope| {
            let workers: Vec<_> = receivers
                .into_iter()
                .map(|mut receiver| {
                    scope.spawn(move || {
                        let mut taken = Vec::new();
                        loop {
                            match turn(&mut receiver, Duration::from_millis(100)) {
                                more if more.is_empty() => break taken,
                                more => taken.extend(more),
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        let mut exporters: BTreeMap<SocketAddr, (usize, Vec<u8>)> = BTreeMap::new();
        for (worker, taken) in by_worker.iter().enumerate() {
            assert!(!taken.is_empty(), "{mode:?}: worker {worker} got nothing");
            for datagram in taken {
                let (home, numbers) = exporters
                    .entry(datagram.source)
                    .or_insert((worker, Vec::new()));
                assert_eq!(*home, worker, "an exporter stays with its worker");
                numbers.push(datagram.payload[0]);
            }
        }
        assert_eq!(exporters.len(), EXPORTERS, "{mode:?}");
        let all: Vec<u8> = (0..EACH as u8).collect();
        assert!(exporters.values().all(|(_, numbers)| *numbers == all));
    }
}

#[test]
fn a_dropped_receiver_frees_its_port() {
    for mode in modes() {
        let (mut receiver, addresses) = open(&config(&["127.0.0.1:0"]), mode);
        sender("127.0.0.1:0").send_to(b"x", addresses[0]).unwrap();
        assert_eq!(take(&mut receiver, 1).len(), 1);
        drop(receiver);
        let again = config(&[&addresses[0].to_string()]);
        assert_eq!(
            Plan::new(&again).unwrap().addresses(),
            addresses,
            "{mode:?}"
        );
    }
}

#[test]
fn a_receiver_that_was_never_used_frees_its_port_too() {
    for mode in modes() {
        let (receiver, addresses) = open(&config(&["127.0.0.1:0"]), mode);
        drop(receiver);
        let again = config(&[&addresses[0].to_string()]);
        assert!(Plan::new(&again).is_ok(), "{mode:?}");
    }
}

#[test]
fn an_exporter_without_a_listener_does_not_disturb_the_others() {
    // A closed port answers with ICMP; a receiver whose socket sees such an echo reads on.
    for mode in modes() {
        let (mut receiver, addresses) = open(&config(&["127.0.0.1:0"]), mode);
        let socket = sender("127.0.0.1:0");
        socket.send_to(b"nowhere", "127.0.0.1:9").unwrap();
        let _ = socket.send_to(b"first", addresses[0]);
        socket.send_to(b"second", addresses[0]).unwrap();
        let taken = take(&mut receiver, 1);
        assert!(taken.iter().any(|t| t.payload == b"second"), "{mode:?}");
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(taken.iter().all(|t| t.source.ip() == loopback));
    }
}
