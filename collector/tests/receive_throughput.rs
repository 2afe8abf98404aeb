//! How many datagrams a second each receive loop takes on loopback, and what one costs.
//!
//! Not a test of correctness, so it runs only when asked for:
//! `cargo test --release -p flowsluice --test receive_throughput -- --ignored --nocapture`

#![allow(unsafe_code, reason = "sendmmsg, and the clock of a thread")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flowsluice::config::{self, ReceiveMode};
use flowsluice::receive::sockets::Plan;
use flowsluice::receive::{self, Receive, Receiver, affinity};

const PAYLOAD: usize = 1400;
const SECONDS: f64 = 2.0;
const BATCH: usize = 32;

struct Outcome {
    received: u64,
    drops: u64,
    cpu: Duration,
    turns: u64,
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the timespec is writable and outlives the call.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Sends at `rate` datagrams a second (as fast as it goes when zero) and returns how many.
fn send(target: SocketAddr, rate: f64) -> u64 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(target).unwrap();
    let mut payload = [7_u8; PAYLOAD];
    let mut slice = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: PAYLOAD,
    };
    // SAFETY: an mmsghdr is plain integers and pointers, for which zero is valid.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for header in &mut headers {
        header.msg_hdr.msg_iov = &raw mut slice;
        header.msg_hdr.msg_iovlen = 1;
    }
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed().as_secs_f64() < SECONDS {
        // SAFETY: the headers, the slice and the payload live on this stack frame.
        let batch =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, 0) };
        sent += u64::try_from(batch).expect("loopback takes everything");
        if rate > 0.0 {
            let due = Duration::from_secs_f64(sent as f64 / rate);
            if let Some(wait) = due.checked_sub(begin.elapsed()) {
                std::thread::sleep(wait);
            }
        }
    }
    sent
}

fn take(mut receiver: impl Receive, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome {
        received: 0,
        drops: 0,
        cpu: thread_cpu(),
        turns: 0,
    };
    let mut sum = 0_u64;
    loop {
        let before = outcome.received;
        receiver
            .receive(Duration::from_millis(100), &mut |datagram| {
                outcome.received += 1;
                // Touches what a decoder would touch.
                sum += datagram.payload.iter().map(|b| u64::from(*b)).sum::<u64>();
            })
            .unwrap();
        outcome.turns += 1;
        if outcome.received == before && stop.load(Ordering::Relaxed) {
            break;
        }
    }
    assert_eq!(sum, outcome.received * 7 * PAYLOAD as u64);
    outcome.cpu = thread_cpu() - outcome.cpu;
    outcome.drops = receiver.kernel_drops();
    outcome
}

fn run(mode: ReceiveMode, rate: f64) {
    let config = config::Receive {
        listeners: vec![config::Listener {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            protocols: Vec::new(),
        }],
        ..config::Receive::default()
    };
    let cpus = affinity::available();
    let mut plan = Plan::new(&config).unwrap();
    let target = plan.addresses()[0];
    let receiver = receive::open(&config, &mut plan, mode, Vec::new()).unwrap();
    let stop = AtomicBool::new(false);
    let (sent, outcome) = std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let _ = affinity::pin(cpus[cpus.len() - 1].id);
            match receiver {
                Receiver::IoUring(receiver) => take(receiver, &stop),
                Receiver::Recvmmsg(receiver) => take(receiver, &stop),
                Receiver::AfXdp(_) => unreachable!("no queue was given"),
            }
        });
        let sending = scope.spawn(|| {
            let _ = affinity::pin(cpus[0].id);
            send(target, rate)
        });
        let sent = sending.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        (sent, taking.join().unwrap())
    });
    assert_eq!(sent, outcome.received + outcome.drops);
    println!(
        "{mode:?}: sent {:.0}/s, lost {:.3} %, {:.2} us CPU a datagram, {:.1} datagrams a turn",
        sent as f64 / SECONDS,
        100.0 * outcome.drops as f64 / sent as f64,
        outcome.cpu.as_secs_f64() * 1e6 / outcome.received as f64,
        outcome.received as f64 / outcome.turns as f64,
    );
}

#[test]
#[ignore = "a measurement; wants an idle machine and --release"]
fn datagrams_a_second_of_both_receive_loops() {
    for rate in [4_200.0, 50_000.0, 200_000.0, 0.0] {
        for _ in 0..2 {
            for mode in [ReceiveMode::IoUring, ReceiveMode::Recvmmsg] {
                run(mode, rate);
            }
        }
    }
}
