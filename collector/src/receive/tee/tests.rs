use std::net::UdpSocket;
use std::time::Instant;

use super::*;
use crate::units::UnixNanos;

const WAIT_MAX: Duration = Duration::from_secs(60);

fn datagram<'a>(source: &str, payload: &'a [u8]) -> Datagram<'a> {
    Datagram {
        source: source.parse().unwrap(),
        source_port: 5000,
        local_port: 2055,
        received: UnixNanos(1),
        payload,
        cut: false,
    }
}

fn forwarding(tees: Vec<config::Tee>) -> Forwarding {
    let receive = config::Receive {
        tee: tees,
        ..config::Receive::default()
    };
    Forwarding::start(&receive, || {}).unwrap().unwrap()
}

fn to(socket: &UdpSocket, exporters: &[&str]) -> config::Tee {
    config::Tee {
        to: socket.local_addr().unwrap().to_string(),
        exporters: exporters.iter().map(|one| one.parse().unwrap()).collect(),
        keep_source: false,
    }
}

fn listener() -> UdpSocket {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(WAIT_MAX)).unwrap();
    listener
}

fn received(listener: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 10_000];
    let (length, _) = listener.recv_from(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[test]
fn each_target_gets_the_bytes_of_its_exporters_in_order() {
    let (all, some) = (listener(), listener());
    let forwarding = forwarding(vec![to(&all, &[]), to(&some, &["192.0.2.0/25"])]);
    let tee = forwarding.tee();
    let long = vec![7; 9000];
    tee.offer(&datagram("192.0.2.1", b"first"));
    tee.offer(&datagram("192.0.2.200", &long));
    tee.offer(&datagram("192.0.2.2", b"last"));
    let cut = Datagram {
        cut: true,
        ..datagram("192.0.2.1", b"half of")
    };
    tee.offer(&cut);
    let expected: [&[u8]; 3] = [b"first", &long, b"last"];
    for payload in expected {
        assert_eq!(received(&all), payload);
    }
    assert_eq!(received(&some), b"first");
    assert_eq!(received(&some), b"last");
    forwarding.stop();
    let sent: Vec<u64> = tee.facts().iter().map(|fact| fact.sent).collect();
    assert_eq!(sent, [3, 2]);
}

#[test]
fn what_cannot_be_sent_is_counted_and_the_other_target_gets_everything() {
    let (alive, dead) = (listener(), listener());
    let mut tees = vec![to(&alive, &[]), to(&dead, &[])];
    drop(dead);
    tees.push(config::Tee {
        to: "name.invalid:2055".into(),
        exporters: Vec::new(),
        keep_source: false,
    });
    let forwarding = forwarding(tees);
    let tee = forwarding.tee();
    for number in 0..200_u8 {
        tee.offer(&datagram("192.0.2.1", &[number]));
        assert_eq!(received(&alive), [number]);
    }
    forwarding.stop();
    let facts = tee.facts();
    for fact in &facts {
        let all = fact.sent + fact.dropped_backlog + fact.dropped_refused;
        assert_eq!(all, 200, "{fact:?}");
    }
    assert_eq!(facts[0].sent, 200);
    assert!(facts[1].dropped_refused > 0, "{facts:?}");
    assert_eq!(facts[2].dropped_refused, 200);
}

#[test]
fn a_full_queue_costs_a_worker_nothing_but_the_count() {
    let target = listener();
    let forwarding = forwarding(vec![to(&target, &[])]);
    let tee = forwarding.tee();
    // As if the thread stood still: nothing is empty.
    let mut taken = Vec::new();
    let deadline = Instant::now() + WAIT_MAX;
    while taken.len() < PARCELS && Instant::now() < deadline {
        taken.extend(tee.0.empty.pop());
    }
    for _ in 0..10 {
        tee.offer(&datagram("192.0.2.1", b"lost"));
    }
    assert_eq!(tee.facts()[0].dropped_backlog, 10);
    for parcel in taken {
        tee.0.empty.push(parcel).unwrap();
    }
    tee.offer(&datagram("192.0.2.1", b"sent"));
    assert_eq!(received(&target), b"sent");
    forwarding.stop();
}
