//! IPFIX over TCP: a whole worker on loopback connections.

mod messages;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flowsluice::batch::Batcher;
use flowsluice::config;
use flowsluice::decode::{Decoder, Shared};
use flowsluice::ledger::{DropReason, Ledger, LedgerSnapshot};
use flowsluice::receive::allow::AllowList;
use flowsluice::receive::tcp::TcpReceiver;
use flowsluice::store::{Null, Store};
use flowsluice::worker::Worker;
use messages::{TWENTY_FIELDS, ipfix, netflow9, set, template, twenty_field_records};
use tokio::runtime::Runtime;

/// A worker that listens on a free port of loopback.
struct Collector {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    store: Store,
    runtime: Runtime,
}

fn receive_config() -> config::Receive {
    let mut config = config::Receive::default();
    config.tcp.listeners = vec![config::TcpListener {
        address: "127.0.0.1".parse().unwrap(),
        port: 0,
    }];
    config
}

impl Collector {
    fn start() -> Self {
        Self::with(&receive_config())
    }

    fn with(config: &config::Receive) -> Self {
        let receiver = TcpReceiver::open(config, &AllowList::new(config.allow.clone()))
            .unwrap()
            .unwrap();
        let address = receiver.addresses()[0];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let ledger = Arc::new(Ledger::new(1));
        let batch = config::Batch::default();
        let (store, mut queues) = {
            let _inside = runtime.enter();
            let (config, counts) = (config::Store::default(), Arc::clone(&ledger.store));
            Store::start_with(Box::new(Null), &config, counts, 1, &batch)
        };
        let shared = Arc::<Shared>::default();
        let decoder = Decoder::new(&config::Decode::default(), &[], Arc::clone(&shared));
        let batcher = Batcher::new(&batch, queues.remove(0));
        let worker = Worker::new(receiver, decoder.by_session(), batcher, ledger.worker(0));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || worker.run(&stopped).unwrap());
        Self {
            address,
            ledger,
            shared,
            stop,
            thread,
            store,
            runtime,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The ledger as soon as `is_reached` holds of it.
    fn until(&self, what: &str, is_reached: impl Fn(&LedgerSnapshot) -> bool) -> LedgerSnapshot {
        let begun = Instant::now();
        loop {
            let snapshot = self.ledger.snapshot();
            if is_reached(&snapshot) {
                return snapshot;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", snapshot.total);
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn until_flows(&self, flows: u64) -> LedgerSnapshot {
        let reached = |s: &LedgerSnapshot| s.total.flows_decoded >= flows;
        let snapshot = self.until("flows", reached);
        assert_eq!(snapshot.total.flows_decoded, flows);
        snapshot
    }

    fn until_closed(&self, connections: u64) -> LedgerSnapshot {
        let reached = |s: &LedgerSnapshot| s.total.tcp_connections_closed >= connections;
        self.until("closed connections", reached)
    }

    /// Ends everything; nothing is unaccounted.
    fn stop(self) -> LedgerSnapshot {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.runtime.block_on(self.store.stop());
        let snapshot = self.ledger.snapshot();
        assert_eq!(snapshot.unaccounted(), 0, "{:?}", snapshot.equations());
        snapshot
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

fn templates() -> Vec<u8> {
    ipfix(&[set(2, &template(256, &TWENTY_FIELDS))])
}

fn data(flows: u8) -> Vec<u8> {
    ipfix(&[set(256, &twenty_field_records(flows))])
}

/// True when the other side has closed `stream`.
fn is_closed(stream: &mut TcpStream) -> bool {
    // A reset is a close, too: what was sent last was not read.
    !matches!(stream.read(&mut [0]), Ok(1..))
}

#[test]
fn messages_come_through_however_the_stream_is_cut() {
    let collector = Collector::start();
    let mut exporter = collector.connect();
    let one_by_one = [templates(), data(1)].concat();
    for byte in &one_by_one {
        exporter.write_all(&[*byte]).unwrap();
    }
    collector.until_flows(1);
    // Two and a half in one segment, then the rest.
    let (first, second, third) = (data(2), data(3), data(4));
    let (half, rest) = third.split_at(third.len() / 2);
    exporter
        .write_all(&[&first, &second, half].concat())
        .unwrap();
    collector.until_flows(6);
    exporter.write_all(rest).unwrap();
    let snapshot = collector.until_flows(10);
    assert_eq!(snapshot.total.datagrams_received, 5);
    assert_eq!(snapshot.total.datagrams_ipfix, 5);
    drop(exporter);
    collector.until_closed(1);
    let total = collector.stop().total;
    assert_eq!(total.tcp_connections_accepted, 1);
    assert_eq!(total.dropped(DropReason::StreamMalformed), 0);
}

#[test]
fn the_longest_message_is_taken() {
    let collector = Collector::start();
    let mut exporter = collector.connect();
    exporter.write_all(&templates()).unwrap();
    // Two headers of 16 and 4 bytes, then records and zeros up to 65,535.
    let record = twenty_field_records(1);
    let flows = (65_535 - 20) / record.len();
    let mut records = record.repeat(flows);
    records.resize(65_535 - 20, 0);
    let message = ipfix(&[set(256, &records)]);
    assert_eq!(message.len(), 65_535);
    for _ in 0..3 {
        exporter.write_all(&message).unwrap();
    }
    collector.until_flows(3 * flows as u64);
    collector.stop();
}

#[test]
fn what_is_no_ipfix_closes_the_connection_and_is_counted() {
    let collector = Collector::start();
    let mut short = templates();
    short[2..4].copy_from_slice(&15_u16.to_be_bytes());
    let wrong = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        netflow9(&[]),
        vec![0x16],
        short,
        // Whole messages before it count all the same.
        [&templates()[..], &data(2), &[0, 9]].concat(),
    ];
    for (closed, bytes) in (1..).zip(&wrong) {
        let mut peer = collector.connect();
        peer.write_all(bytes).unwrap();
        assert!(is_closed(&mut peer), "{bytes:?}");
        collector.until_closed(closed);
    }
    let total = collector.stop().total;
    assert_eq!(total.dropped(DropReason::StreamMalformed), 5);
    assert_eq!((total.flows_decoded, total.datagrams_received), (2, 7));
}

#[test]
fn a_stream_that_ends_within_a_message_is_counted() {
    let collector = Collector::start();
    let mut exporter = collector.connect();
    let message = data(2);
    exporter.write_all(&templates()).unwrap();
    exporter.write_all(&message[..message.len() - 1]).unwrap();
    exporter.shutdown(Shutdown::Write).unwrap();
    let total = collector.until_closed(1).total;
    assert_eq!(total.dropped(DropReason::StreamMalformed), 1);
    assert_eq!(total.datagrams_received, 2);
    collector.stop();
}

#[test]
fn peers_that_send_nothing_or_half_a_header_hold_nobody_up() {
    let collector = Collector::start();
    let silent = collector.connect();
    let mut halting = collector.connect();
    halting.write_all(&templates()[..7]).unwrap();
    // It never reads either: a collector says nothing.
    let mut exporter = collector.connect();
    exporter.write_all(&templates()).unwrap();
    for flows in 1..=50 {
        exporter.write_all(&data(1)).unwrap();
        collector.until_flows(flows);
    }
    drop((silent, halting));
    collector.until_closed(2);
    collector.stop();
}

/// RFC 7011 section 8: over TCP, templates live as long as the transport session.
#[test]
fn templates_are_void_when_their_session_ends() {
    let collector = Collector::start();
    let mut exporter = collector.connect();
    exporter
        .write_all(&[templates(), data(2)].concat())
        .unwrap();
    collector.until_flows(2);
    assert_eq!(collector.shared.templates(), 1);
    drop(exporter);
    collector.until_closed(1);
    assert_eq!(collector.shared.templates(), 0);
    let mut again = collector.connect();
    again.write_all(&data(3)).unwrap();
    let waits = |s: &LedgerSnapshot| s.total.sets_held == 1;
    collector.until("a missing template", waits);
    again.write_all(&[templates(), data(3)].concat()).unwrap();
    collector.until_flows(8);
    let shared = Arc::clone(&collector.shared);
    collector.stop();
    // The exporter is one, whatever its connections, and what it sent is not forgotten.
    let exporters = shared.exporters();
    assert_eq!(exporters.len(), 1);
    assert_eq!((exporters[0].datagrams, exporters[0].flows), (5, 8));
}

#[test]
fn two_sessions_of_one_exporter_have_templates_of_their_own() {
    let collector = Collector::start();
    let mut first = collector.connect();
    let mut second = collector.connect();
    first.write_all(&templates()).unwrap();
    // The same id and domain, another meaning: one octet a record.
    let other = ipfix(&[set(2, &template(256, &[(4, 1)]))]);
    second.write_all(&other).unwrap();
    let both = |s: &LedgerSnapshot| s.total.templates_learned == 2;
    collector.until("both templates", both);
    second.write_all(&ipfix(&[set(256, &[6, 17, 1])])).unwrap();
    collector.until_flows(3);
    first.write_all(&data(2)).unwrap();
    collector.until_flows(5);
    collector.stop();
}

#[test]
fn a_withdrawn_template_is_gone_for_its_session() {
    let collector = Collector::start();
    let mut exporter = collector.connect();
    let withdrawal = ipfix(&[set(2, &[1, 0, 0, 0])]);
    let stream = [templates(), data(1), withdrawal, data(1)].concat();
    exporter.write_all(&stream).unwrap();
    let waits = |s: &LedgerSnapshot| s.total.sets_held == 1;
    let total = collector.until("a missing template", waits).total;
    assert_eq!((total.templates_withdrawn, total.flows_decoded), (1, 1));
    let stopped = collector.stop();
    assert_eq!(stopped.dropped(DropReason::TemplateMissing), 1);
}

#[test]
fn a_peer_that_is_not_allowed_is_closed_and_counted() {
    let mut config = receive_config();
    config.allow = vec!["192.0.2.0/24".parse().unwrap()];
    let collector = Collector::with(&config);
    let mut peer = collector.connect();
    assert!(is_closed(&mut peer));
    let counted = |s: &LedgerSnapshot| s.dropped(DropReason::ExporterNotAllowed) == 1;
    collector.until("a refusal", counted);
    let total = collector.stop().total;
    assert_eq!(total.tcp_connections_accepted, 0);
}

#[test]
fn a_source_has_its_share_of_the_connections_and_gets_places_back() {
    let mut config = receive_config();
    config.tcp.connections_max = 16;
    let collector = Collector::with(&config);
    let mut first: Vec<_> = (0..8).map(|_| collector.connect()).collect();
    let accepted = |s: &LedgerSnapshot| s.total.tcp_connections_accepted == 8;
    collector.until("eight connections", accepted);
    let mut ninth = collector.connect();
    assert!(is_closed(&mut ninth));
    first.pop();
    collector.until_closed(1);
    let mut exporter = collector.connect();
    exporter
        .write_all(&[templates(), data(1)].concat())
        .unwrap();
    collector.until_flows(1);
    let total = collector.stop().total;
    assert_eq!(total.tcp_connections_refused, 1);
    assert_eq!(total.tcp_connections_accepted, 9);
}

#[test]
fn a_connection_without_a_whole_message_for_too_long_is_closed() {
    let mut config = receive_config();
    config.tcp.idle_max = Duration::from_secs(1);
    let collector = Collector::with(&config);
    let mut silent = collector.connect();
    let mut slow = collector.connect();
    slow.write_all(&templates()[..10]).unwrap();
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut slow));
    let total = collector.until_closed(2).total;
    assert_eq!(total.dropped(DropReason::StreamMalformed), 1);
    collector.stop();
}

#[test]
fn a_port_of_another_program_is_told_with_the_key_to_change() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = receive_config();
    config.tcp.listeners[0].port = held.local_addr().unwrap().port();
    let error = TcpReceiver::open(&config, &AllowList::new(config.allow.clone()))
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot listen on TCP 127.0.0.1:"), "{error}");
    assert!(error.contains("'ss -ltnp "), "{error}");
    assert!(error.contains("receive.tcp.listeners"), "{error}");
}
