//! Agents that say odd things, and clocks that jump.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use snmp2::v3::KeyExtension;
use snmp2::{MessageType, Oid, Pdu};
use tokio::runtime::Handle;

use super::Snmp;
use super::discovery::{Engine, discover};
use super::error::PollError;
use super::login::Login;
use super::session::{Patience, Session};
use super::walk::{Said, poll};
use crate::config::{self, SnmpTarget};
use crate::enrich::interfaces::Interface;
use crate::flow::Address;
use crate::store::Store;

const PATIENCE: Patience = Patience {
    timeout: Duration::from_millis(200),
    retries: 1,
};

/// A message's element: its kind, the length and what is in it.
fn element(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [[kind, 0x84].as_slice(), &length, content].concat()
}

fn integer(number: i64) -> Vec<u8> {
    element(2, &number.to_be_bytes())
}

fn text(text: &[u8]) -> Vec<u8> {
    element(4, text)
}

/// ifHighSpeed and ifSpeed are Gauge32.
fn gauge(number: u32) -> Vec<u8> {
    element(0x42, &[&[0], number.to_be_bytes().as_slice()].concat())
}

fn name(name: &str) -> Vec<u8> {
    let arcs: Vec<u64> = name.split('.').map(|arc| arc.parse().unwrap()).collect();
    Oid::from(&arcs).unwrap().as_bytes().to_vec()
}

const END_OF_VIEW: [u8; 2] = [0x82, 0];

/// An agent of version 2c with these objects: what it answers to a question.
#[derive(Clone, Default)]
struct Agent {
    /// By name, as in a message: of the objects here that is their order.
    objects: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Rows of an answer at most; when more are asked for it is "too big".
    rows_max: u32,
    /// It says the same again and again.
    is_circular: bool,
}

impl Agent {
    fn with(objects: &[(&str, Vec<u8>)]) -> Self {
        let objects = objects.iter();
        Self {
            objects: objects.map(|(n, value)| (name(n), value.clone())).collect(),
            rows_max: u32::MAX,
            is_circular: false,
        }
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let question = Pdu::from_bytes(question).unwrap();
        let asked = question.varbinds.clone().next().unwrap().0;
        let asked = asked.as_bytes();
        let repetitions = question.error_index;
        let pair =
            |name: &[u8], value: &[u8]| element(0x30, &[element(6, name), value.to_vec()].concat());
        let mut status = 0;
        let variables = match question.message_type {
            MessageType::GetRequest => {
                let value = self.objects.get(asked);
                pair(asked, value.map_or(&END_OF_VIEW, Vec::as_slice))
            }
            MessageType::GetBulkRequest if repetitions > self.rows_max => {
                status = 1;
                Vec::new()
            }
            MessageType::GetBulkRequest => {
                let behind = |(name, _): &(&Vec<u8>, _)| self.is_circular || name[..] > *asked;
                let mut objects = self.objects.iter().filter(behind);
                let next = |_| match objects.next() {
                    Some((name, value)) => pair(name, value),
                    None => pair(asked, &END_OF_VIEW),
                };
                (0..repetitions).flat_map(next).collect()
            }
            other => panic!("{other:?}"),
        };
        let pdu = [
            integer(question.req_id.into()),
            integer(status),
            integer(0),
            element(0x30, &variables),
        ]
        .concat();
        let message = [integer(1), text(b"public"), element(0xa2, &pdu)].concat();
        element(0x30, &message)
    }
}

/// Answers on a port of its own until it is dropped.
struct Answering {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// `answers` to each datagram.
    fn start(mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tick = Some(Duration::from_millis(20));
        socket.set_read_timeout(tick).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                for answer in answers(&buffer[..length]) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn of(agent: Agent) -> Self {
        Self::start(move |question| vec![agent.answer(question)])
    }

    async fn session(&self) -> Session {
        let login = Login::Community(b"public".into());
        let extension = KeyExtension::Blumenthal;
        let opened = Session::open(self.address, login, extension, PATIENCE).await;
        opened.unwrap()
    }

    async fn poll(&self) -> Result<Said, PollError> {
        self.poll_with(100).await
    }

    async fn poll_with(&self, rows_max: usize) -> Result<Said, PollError> {
        poll(&mut self.session().await, rows_max).await
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn interface(name: &str, alias: &str, speed: u64) -> Interface {
    Interface {
        name: name.into(),
        alias: alias.into(),
        speed,
    }
}

/// So many interfaces of the newer table, from index 1.
fn many(count: u32) -> Agent {
    let table = "1.3.6.1.2.1.31.1.1.1";
    let objects = (1..=count).flat_map(|i| {
        [
            (format!("{table}.1.{i}"), text(format!("if{i}").as_bytes())),
            (format!("{table}.15.{i}"), gauge(1000)),
            (format!("{table}.18.{i}"), text(b"")),
        ]
    });
    let objects: Vec<_> = objects.collect();
    let objects: Vec<_> = objects.iter().map(|(n, v)| (&**n, v.clone())).collect();
    Agent::with(&objects)
}

#[tokio::test]
async fn an_agent_without_the_newer_table_is_asked_for_the_older_one() {
    let agent = Answering::of(Agent::with(&[
        ("1.3.6.1.2.1.2.2.1.2.3", text(b"FastEthernet0/3")),
        ("1.3.6.1.2.1.2.2.1.2.300", text(b"Serial0")),
        ("1.3.6.1.2.1.2.2.1.5.3", gauge(100_000_000)),
        ("1.3.6.1.2.1.2.2.1.5.300", gauge(64_000)),
        ("1.3.6.1.2.1.2.2.1.6.3", text(b"a further column")),
    ]));
    let said = agent.poll().await.unwrap();
    let expected = [
        (3, interface("FastEthernet0/3", "", 100_000_000)),
        (300, interface("Serial0", "", 64_000)),
    ];
    assert_eq!(said.interfaces, expected.into());
    assert_eq!((&*said.system_name, said.columns_cut), ("", 0));
}

#[tokio::test]
async fn texts_of_agents_are_made_harmless_and_odd_values_are_unknown() {
    let table = "1.3.6.1.2.1.31.1.1.1";
    let agent = Answering::of(Agent::with(&[
        ("1.3.6.1.2.1.1.5.0", text(b"a\x1b[2Jrouter\n")),
        (&format!("{table}.1.0"), text(b"nobody")),
        (&format!("{table}.1.1"), text(b"eth0\t\r\x00rest")),
        (&format!("{table}.1.2"), integer(7)),
        (&format!("{table}.1.4294967295"), text(&[b'x'; 300])),
        (&format!("{table}.15.1"), integer(-1)),
        (&format!("{table}.15.2"), gauge(u32::MAX)),
        (&format!("{table}.18.1"), text(b"\xff\xfe")),
        (&format!("{table}.18.9"), text(b"has no name")),
    ]));
    let said = agent.poll().await.unwrap();
    assert_eq!(&*said.system_name, "a[2Jrouter");
    let speed = u64::from(u32::MAX) * 1_000_000;
    let expected = [
        (1, interface("eth0", "\u{fffd}\u{fffd}", 0)),
        (2, interface("", "", speed)),
        (u32::MAX, interface(&"x".repeat(127), "", 0)),
    ];
    assert_eq!(said.interfaces, expected.into());
}

#[tokio::test]
async fn rows_past_the_bound_are_cut_and_counted() {
    let agent = Answering::of(many(50));
    let said = agent.poll_with(49).await.unwrap();
    assert_eq!((said.interfaces.len(), said.columns_cut), (49, 3));
    let said = agent.poll_with(50).await.unwrap();
    assert_eq!((said.interfaces.len(), said.columns_cut), (50, 0));
}

#[tokio::test]
async fn an_answer_that_is_too_big_is_asked_for_in_smaller_pieces() {
    let rows_max = |rows_max| Agent {
        rows_max,
        ..many(20)
    };
    let said = Answering::of(rows_max(3)).poll().await.unwrap();
    assert_eq!(said.interfaces.len(), 20);
    assert_eq!(said.interfaces[&20], interface("if20", "", 1_000_000_000));
    let outcome = Answering::of(rows_max(0)).poll().await;
    assert!(matches!(outcome, Err(PollError::Refused(1))), "{outcome:?}");
}

#[tokio::test]
async fn agents_that_run_in_circles_or_show_nothing_are_told_apart() {
    let circular = Agent {
        is_circular: true,
        ..many(50)
    };
    let outcome = Answering::of(circular).poll().await;
    assert!(
        matches!(outcome, Err(PollError::NotIncreasing)),
        "{outcome:?}"
    );
    let outcome = Answering::of(many(0)).poll().await;
    assert!(
        matches!(outcome, Err(PollError::NoInterfaces)),
        "{outcome:?}"
    );
    let two_numbers = Agent::with(&[("1.3.6.1.2.1.31.1.1.1.1.1.2", text(b"x"))]);
    let outcome = Answering::of(two_numbers).poll().await;
    assert!(matches!(outcome, Err(PollError::Odd(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_that_to_the_next_question() {
    let agent = many(20);
    let mut late = Vec::new();
    let mut number = 0;
    let answering = Answering::start(move |question| {
        number += 1;
        late.push(agent.answer(question));
        match number {
            // Only when the question is asked again are both answered.
            2 => Vec::new(),
            _ => std::mem::take(&mut late),
        }
    });
    let said = answering.poll().await.unwrap();
    assert_eq!(said.interfaces.len(), 20);
}

#[tokio::test]
async fn whatever_comes_back_a_poll_ends_with_an_error() {
    let agent = many(20);
    for cut in [0, 1, 2, 7, 20, 40, 60] {
        let agent = agent.clone();
        let answering = Answering::start(move |question| {
            let mut answer = agent.answer(question);
            answer.truncate(cut);
            vec![answer]
        });
        let outcome = answering.poll().await;
        assert!(
            matches!(outcome, Err(PollError::Odd(_))),
            "{cut}: {outcome:?}"
        );
    }
    // Any byte of an answer may be another.
    let mut place = 0;
    let answering = Answering::start(move |question| {
        let mut answer = agent.answer(question);
        place = (place + 1) % answer.len().min(200);
        answer[place] ^= 0xff;
        vec![answer]
    });
    for _ in 0..200 {
        let _ = answering.poll().await;
    }
}

/// Where log lines of a test go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Lines of this level.
    fn lines(&self, level: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter(|line| line.contains(level));
        lines.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn an_agent_that_falls_silent_makes_one_line_and_one_when_it_is_back() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let agent = many(20);
    let is_silent = Arc::new(AtomicBool::new(true));
    let silent = Arc::clone(&is_silent);
    let answering = Answering::start(move |question| match silent.load(Ordering::Relaxed) {
        true => Vec::new(),
        false => vec![agent.answer(question)],
    });
    let target = "source = \"192.0.2.0/24\"\naddress = \"127.0.0.1\"\ncommunity = \"public\"";
    let mut target: SnmpTarget = toml::from_str(target).unwrap();
    target.port = answering.address.port();
    let config = config::Snmp {
        every: Duration::from_millis(50),
        timeout: Duration::from_millis(50),
        retries: 0,
        targets: vec![target],
        ..config::Snmp::default()
    };
    let (store, batch) = (config::Store::default(), config::Batch::default());
    let (store, _) = Store::start(&store, None, Arc::default(), 1, &batch);
    let snmp = Snmp::start(&config, None, store.side_rows(), &Handle::current());
    snmp.wants(&[Address::from_v4([192, 0, 2, 1])]);
    let failures = async |more: u64| {
        let before = snmp.counts();
        while snmp.counts().failures < before.failures + more {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    failures(3).await;
    let lines = log.lines("WARN");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "exporter=192.0.2.1",
        "agent=\"127.0.0.1:",
        "it does not answer",
        "remedy",
    ] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    is_silent.store(false, Ordering::Relaxed);
    while snmp.counts().polls < snmp.counts().failures + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lines = log.lines("answers SNMP again");
    assert_eq!(lines.len(), 1, "{lines:?}");
    is_silent.store(true, Ordering::Relaxed);
    failures(2).await;
    assert_eq!(log.lines("WARN").len(), 2);
    assert_eq!(snmp.counts().interfaces, 20);
    snmp.stop().await;
}

/// A report of version 3, with the number of the question.
fn report(number: &[u8], engine: &[u8], boots: i64, time: i64) -> Vec<u8> {
    let global = [element(2, number), integer(65_507), text(&[0]), integer(3)].concat();
    let security = [text(engine), integer(boots), integer(time)].concat();
    let security = text(&element(
        0x30,
        &[security, text(b""), text(b""), text(b"")].concat(),
    ));
    let message = [integer(3), element(0x30, &global), security].concat();
    element(0x30, &message)
}

/// What is learned of an agent that answers with `answers` to the number of a question.
async fn learned(
    answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> Result<Engine, PollError> {
    let answering = Answering::start(move |question| answers(&question[9..13]));
    discover(answering.address, PATIENCE.timeout, PATIENCE.retries).await
}

#[tokio::test]
async fn an_engine_is_taken_only_with_a_name_and_a_clock_that_can_be() {
    let engine = Engine {
        id: b"engine".to_vec(),
        boots: 7,
        time: 77,
    };
    let right = learned(|number| {
        vec![
            b"no message".to_vec(),
            report(&[0x40, 0, 0, 0], b"another", 1, 1),
            report(number, b"engine", -1, 77),
            report(number, b"engine", 7, i64::MAX),
            report(number, b"engine", 7, 77),
        ]
    });
    assert_eq!(right.await.unwrap(), engine);
    // Written into a question, this would not fit any more.
    let long = learned(|number| vec![report(number, &[7; 60_000], 1, 1)]).await;
    assert!(matches!(long, Err(PollError::EngineId(60_000))), "{long:?}");
    let empty = learned(|number| vec![report(number, b"", 1, 1)]).await;
    assert!(matches!(empty, Err(PollError::EngineId(0))), "{empty:?}");
    let silent = learned(|_| Vec::new()).await;
    assert!(matches!(silent, Err(PollError::Timeout)), "{silent:?}");
}
