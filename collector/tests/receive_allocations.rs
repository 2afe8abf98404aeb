//! After set-up, receiving allocates nothing: counted by the allocator itself.

mod counting;

use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use counting::allocations;
use flowsluice::config::{self, ReceiveMode};
use flowsluice::receive::sockets::Plan;
use flowsluice::receive::{self, Receive, Receiver};

/// Bursts, shortages of buffers, empty and cut datagrams, timeouts and the drop counter.
fn exercise(receiver: &mut impl Receive, port: u16, sender: &UdpSocket) -> usize {
    let mut datagrams = 0;
    for payload in [&[7; 1400][..], &[], &[7; 3000]] {
        for _ in 0..100 {
            sender
                .send_to(payload, (Ipv6Addr::LOCALHOST, port))
                .unwrap();
        }
        loop {
            let before = datagrams;
            receiver
                .receive(Duration::from_millis(2), &mut |_| datagrams += 1)
                .unwrap();
            if datagrams == before {
                break;
            }
        }
        assert_eq!(receiver.kernel_drops(), 0);
    }
    datagrams
}

fn allocations_while_receiving(mode: ReceiveMode, gro: bool) -> u64 {
    let config = config::Receive {
        listeners: vec![config::Listener {
            address: Ipv6Addr::UNSPECIFIED.into(),
            port: 0,
            protocols: Vec::new(),
        }],
        datagram_max: bytesize::ByteSize::b(2000),
        burst: 16,
        gro,
        ..config::Receive::default()
    };
    let mut plan = Plan::new(&config).unwrap();
    let port = plan.addresses()[0].port();
    let receiver = receive::open(&config, &mut plan, mode, Vec::new()).unwrap();
    let sender = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let before = allocations();
    let (datagrams, after) = match receiver {
        Receiver::IoUring(mut r) => (exercise(&mut r, port, &sender), allocations()),
        Receiver::Recvmmsg(mut r) => (exercise(&mut r, port, &sender), allocations()),
        Receiver::AfXdp(_) => unreachable!("no queue was given"),
    };
    assert_eq!(datagrams, 300);
    after - before
}

#[test]
fn receiving_allocates_nothing_after_set_up() {
    let counted = allocations();
    drop(std::hint::black_box(Box::new(1_u8)));
    assert!(allocations() > counted, "the allocator does not count");

    assert_eq!(allocations_while_receiving(ReceiveMode::Recvmmsg, false), 0);
    assert_eq!(allocations_while_receiving(ReceiveMode::Recvmmsg, true), 0);
    match receive::choose(&config::Receive::default()) {
        Ok(ReceiveMode::IoUring) => {
            assert_eq!(allocations_while_receiving(ReceiveMode::IoUring, false), 0);
        }
        _ => assert!(
            std::env::var_os("CI").is_none(),
            "io_uring is refused here, so its receive loop cannot be tested"
        ),
    }
}
