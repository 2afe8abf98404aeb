//! `receive.gro`: what the kernel merged comes out datagram by datagram.

#![allow(
    unsafe_code,
    reason = "UDP_SEGMENT, with which one call sends many datagrams"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use bytesize::ByteSize;
use flowsluice::config::{self, ReceiveMode};
use flowsluice::receive::sockets::Plan;
use flowsluice::receive::{self, Receive, Receiver};

/// A receiver with one buffer a turn, and where to send to.
fn open(gro: bool, datagram_max: u64) -> (Receiver, SocketAddr) {
    let config = config::Receive {
        mode: ReceiveMode::Recvmmsg,
        listeners: vec![config::Listener {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            protocols: Vec::new(),
        }],
        socket_buffer: ByteSize::kib(256),
        datagram_max: ByteSize::b(datagram_max),
        burst: 1,
        gro,
        ..config::Receive::default()
    };
    let mut plan = Plan::new(&config).unwrap();
    let receiver = receive::open(&config, &mut plan, ReceiveMode::Recvmmsg, Vec::new()).unwrap();
    (receiver, plan.addresses()[0])
}

/// A socket of which each call sends as many datagrams of `bytes` as the payload fills.
fn segmenting(bytes: libc::c_int) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // SAFETY: the option's value is read from `bytes`, an int of the length given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    socket
}

/// Length, first byte and whether it was cut, of every datagram of one turn.
fn turn(receiver: &mut Receiver) -> Vec<(usize, Option<u8>, bool)> {
    let Receiver::Recvmmsg(receiver) = receiver else {
        panic!("recvmmsg was asked for");
    };
    let mut taken = Vec::new();
    let one_second = Duration::from_secs(1);
    let turn = receiver.receive(one_second, &mut |d| {
        taken.push((d.payload.len(), d.payload.first().copied(), d.cut));
    });
    turn.unwrap();
    taken
}

/// Datagrams of `bytes`, each filled with its number from 1 on, `all` bytes together.
fn numbered(bytes: usize, all: usize) -> Vec<u8> {
    (0..all).map(|at| (at / bytes) as u8 + 1).collect()
}

#[test]
fn merged_datagrams_come_out_one_by_one_from_one_buffer() {
    let (mut receiver, target) = open(true, 9216);
    let sender = segmenting(1000);
    let alone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sender.send_to(&numbered(1000, 40_300), target).unwrap();
    alone.send_to(&[9; 700], target).unwrap();
    alone.send_to(&[], target).unwrap();
    sender.send_to(&numbered(1000, 2000), target).unwrap();
    let full = |number: u8| (1000, Some(number), false);
    let mut expected: Vec<_> = (1..=40).map(full).collect();
    expected.push((300, Some(41), false));
    // More than one datagram in a turn of one buffer: they were merged, the test tests something.
    assert_eq!(turn(&mut receiver), expected);
    assert_eq!(turn(&mut receiver), [(700, Some(9), false)]);
    assert_eq!(turn(&mut receiver), [(0, None, false)]);
    assert_eq!(turn(&mut receiver), [full(1), full(2)]);
}

#[test]
fn without_gro_the_kernel_takes_them_apart() {
    let (mut receiver, target) = open(false, 9216);
    let sender = segmenting(1000);
    sender.send_to(&numbered(1000, 2500), target).unwrap();
    for expected in [
        (1000, Some(1), false),
        (1000, Some(2), false),
        (500, Some(3), false),
    ] {
        assert_eq!(turn(&mut receiver), [expected]);
    }
}

#[test]
fn a_merged_datagram_longer_than_the_maximum_is_cut_and_its_neighbours_are_not() {
    let (mut receiver, target) = open(true, 800);
    let sender = segmenting(1000);
    sender.send_to(&numbered(1000, 2600), target).unwrap();
    let cut = |number: u8| (800, Some(number), true);
    assert_eq!(turn(&mut receiver), [cut(1), cut(2), (600, Some(3), false)]);
}

#[test]
fn a_full_socket_counts_no_more_drops_than_datagrams_were_lost() {
    const PIECES: u64 = 3000;
    const EACH: u64 = 10;
    let (mut receiver, target) = open(true, 9216);
    let sender = segmenting(1000);
    for _ in 0..PIECES {
        sender.send_to(&[0; 1000 * EACH as usize], target).unwrap();
    }
    let mut received = 0;
    loop {
        match turn(&mut receiver).len() as u64 {
            0 => break,
            taken => received += taken,
        }
    }
    let lost = PIECES * EACH - received;
    let Receiver::Recvmmsg(receiver) = &mut receiver else {
        panic!("recvmmsg was asked for");
    };
    let drops = receiver.kernel_drops();
    eprintln!("{received} received, {lost} lost, {drops} drops counted by the kernel");
    // Kernels count a piece as one drop or as its datagrams; nothing is lost without a drop.
    assert!(drops <= lost && (drops > 0) == (lost > 0), "{drops} {lost}");
}
