//! The collector dies in the middle of a steady rate: the network lives on, and exactly what could
//! not be received or was in memory is missing.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::namespace::{COLLECTOR, EXPORTER, ipv4};
use flowsluice_tests::process::is_alive;
use flowsluice_tests::sent_log::SentLog;
use flowsluice_tests::{
    ClickHouse, Collector, Generator, Ledger, Settings, Store, Totals, Veth, place,
};
use serde_json::Value;

const FLOWS_A_SECOND: u64 = 3_000;
/// How long nobody receives at least.
const DEAD: Duration = Duration::from_secs(1);
/// The longest time that the collector's host may stay silent.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How long ago the oldest flow in memory was sent: it waits twice for `batch.age_max`, 200 ms, and
/// for a busy encoder and disk.
const AGE_MAX: Duration = Duration::from_secs(3);
/// The serial number of a record, by `flowsluice generate --number`: the low 32 bits of its source.
const NUMBER: &str = "reinterpretAsUInt32(reverse(unhex(substring(hex(src_addr), 25))))";

/// How long is sent: 15 s, or a minute where FLOWSLUICE_SOAK is set.
fn seconds() -> u64 {
    place::variable("FLOWSLUICE_SOAK").map_or(15, |_| 60)
}

/// Nanoseconds since 1970, as the generator's log has them.
fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

/// Somebody at the exporter's who asks the collector's host for an echo all the time.
struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Instant>>>,
}

impl Echo {
    /// Called in the collector's namespace.
    fn start(veth: &Veth) -> Result<Self> {
        let answering = UdpSocket::bind((ipv4(COLLECTOR), 0))?;
        answering.set_read_timeout(Some(Duration::from_millis(100)))?;
        let from = ipv4(EXPORTER);
        let asking = veth.exporter.run(|| UdpSocket::bind((from, 0)))??;
        asking.set_read_timeout(Some(Duration::from_millis(100)))?;
        asking.connect(answering.local_addr()?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, also_stopped) = (Arc::clone(&stop), Arc::clone(&stop));
        let answer = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = answering.recv_from(&mut [0; 8]) {
                    let _ = answering.send_to(&[0; 8][..length], from);
                }
            }
            Vec::new()
        };
        let ask = move || {
            let mut answered = vec![Instant::now()];
            while !also_stopped.load(Ordering::Relaxed) {
                if asking.send(&[0; 8]).is_ok() && asking.recv(&mut [0; 8]).is_ok() {
                    answered.push(Instant::now());
                }
                thread::sleep(Duration::from_millis(20));
            }
            answered.push(Instant::now());
            answered
        };
        Ok(Self {
            stop,
            threads: vec![thread::spawn(answer), thread::spawn(ask)],
        })
    }

    /// When there were answers, in order.
    fn stop(self) -> Vec<Instant> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        threads
            .flat_map(|thread| thread.join().expect("it does not panic"))
            .collect()
    }
}

/// The collector before it was killed, as it was seen last.
struct Before {
    ledger: Ledger,
    /// Each number up to this one was a row.
    stored_to: u64,
    /// Just before and just behind the kill.
    killed: [u128; 2],
}

/// Looks a last time, kills the collector, and sees to it that the host has its interface back.
fn kill(collector: Collector, veth: &Veth) -> Result<Before> {
    let engine = collector
        .status()?
        .engine_pid()
        .context("it has a ClickHouse")?;
    ensure!(veth.xdp()?.is_some(), "the program is attached");
    let stored_to = stored_to(&collector.clickhouse()?)?;
    let ledger = collector.status()?.ledger();
    let before = now()?;
    collector.kill()?;
    let killed = [before, now()?];
    let deadline = Instant::now() + Duration::from_secs(30);
    while veth.xdp()?.is_some() || is_alive(engine) {
        ensure!(
            Instant::now() < deadline,
            "program or ClickHouse outlive the collector"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Before {
        ledger,
        stored_to,
        killed,
    })
}

/// The number up to which each one is a row: behind a gap numbers are ahead of their places.
fn stored_to(clickhouse: &ClickHouse) -> Result<u64> {
    clickhouse.value(&format!(
        "SELECT countIf(number = place) FROM (SELECT {NUMBER} AS number, \
         row_number() OVER (ORDER BY number) AS place FROM flows)"
    ))
}

/// Every number that is a row; none is there twice.
fn stored(clickhouse: &ClickHouse) -> Result<BTreeSet<u64>> {
    let rows = clickhouse.query(&format!("SELECT {NUMBER} FROM flows"))?;
    let numbers: Vec<u64> = rows.lines().map(str::parse).collect::<Result<_, _>>()?;
    let set: BTreeSet<u64> = numbers.iter().copied().collect();
    ensure!(set.len() == numbers.len(), "a flow is stored twice");
    Ok(set)
}

/// What came of it.
struct Outcome {
    before: Before,
    /// When another collector was started, and when it was ready.
    restarted: u128,
    ready: u128,
    sent: Totals,
    sent_log: SentLog,
    /// When the host answered.
    answers: Vec<Instant>,
    /// The second collector at its end.
    ledger: Ledger,
    /// Flows that sequence numbers said were missing, as the second one tells.
    gaps: u64,
    stored: BTreeSet<u64>,
}

/// A collector with AF_XDP on the cable and an embedded ClickHouse, which another can continue.
fn settings(veth: &Veth, library: PathBuf, folder: &Path) -> Result<Settings> {
    Ok(Settings {
        receive_mode: "af_xdp",
        workers: 2,
        data_dir: Some(folder.join("data")),
        state_dir: Some(folder.join("state")),
        port: Some(place::free_udp_port()?),
        namespace: Some(veth.collector.name().to_owned()),
        more: format!(
            "\n[receive.xdp]\ninterfaces = [\"{}\"]\nverify_checksum = false\n",
            Veth::COLLECTOR
        ),
        ..Settings::new(Store::Embedded(library))
    })
}

/// Sends at a steady rate, kills the collector in the middle, and starts another.
fn run(veth: &Veth, library: PathBuf) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let settings = settings(veth, library, folder.path())?;
    let collector = Collector::start(&settings)?;
    let sent_log = folder.path().join("sent");
    let arguments = [
        // Without templates: every datagram can be decoded as soon as somebody is there again.
        "--protocol=netflow5".to_owned(),
        "--exporters=8".to_owned(),
        format!("--rate={FLOWS_A_SECOND}"),
        "--number".to_owned(),
        format!("--sent-log={}", sent_log.display()),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let target = SocketAddr::new(ipv4(COLLECTOR), collector.port());
    let log = folder.path().join("generate.log");
    let echo = Echo::start(veth)?;
    let start = || Generator::start(&settings.binary, target, &arguments, &log);
    let started = Instant::now();
    let generator = veth.exporter.run(start)??;
    thread::sleep(Duration::from_secs(seconds()) / 2);

    let before = kill(collector, veth)?;
    thread::sleep(DEAD);
    let restarted = now()?;
    let collector = Collector::start(&settings)?;
    let ready = now()?;
    // A slow host needs its time until the second one is ready, which has to be seen to receive.
    let rest = Duration::from_secs(seconds()).saturating_sub(started.elapsed());
    thread::sleep(rest.max(Duration::from_secs(3)));
    let sent = generator.stop()?;
    let answers = echo.stop();
    let ledger = wait_until_idle(&collector)?;
    let gaps = gaps(&collector)?;
    let stored = stored(&collector.clickhouse()?)?;
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(Outcome {
        before,
        restarted,
        ready,
        sent,
        sent_log: SentLog::read(&sent_log)?,
        answers,
        ledger,
        gaps,
        stored,
    })
}

/// The numbers that are no rows; those up to `stored_to` were rows before the kill.
fn missing(stored: &BTreeSet<u64>, stored_to: u64, sent: u64) -> BTreeSet<u64> {
    let kept = stored.range(..=stored_to).count() as u64;
    assert_eq!(kept, stored_to, "rows outlive the kill");
    let missing: BTreeSet<u64> = (1..=sent).filter(|n| !stored.contains(n)).collect();
    let all = (stored.len() + missing.len()) as u64;
    assert_eq!(all, sent, "no number was invented");
    missing
}

#[test]
fn a_killed_collector_loses_what_was_in_memory_and_what_came_while_it_was_dead() -> Result<()> {
    let Some(library) = place::engine_or_skip() else {
        return Ok(());
    };
    let Some(veth) = Veth::new_or_skip()? else {
        return Ok(());
    };
    let _inside = veth.collector.enter()?;
    let Outcome {
        before:
            Before {
                ledger: first,
                stored_to,
                killed,
            },
        restarted,
        ready,
        sent,
        sent_log,
        answers,
        ledger: second,
        gaps,
        stored,
    } = run(&veth, library)?;
    let silent = answers.windows(2).map(|pair| pair[1] - pair[0]).max();
    let silent = silent.context("there were answers")?;
    assert!(silent < SILENT_MAX, "silent for {silent:?}");

    assert!(stored_to > 0, "no rows before the kill\n{}", first.table());
    let missing = missing(&stored, stored_to, sent.flows);

    // What was sent while surely nobody was there is missing: the numbers can tell.
    let sent_at_kill = sent_log.at_most_by(killed[1]);
    let dead = sent_at_kill + 1..=sent_log.at_least_by(restarted);
    let while_dead = missing.range(dead.clone()).count();
    assert!(!dead.is_empty());
    assert_eq!(while_dead, dead.clone().count(), "dead for {dead:?}");
    // Besides, only what was sent until another was ready, and what was not a row at the kill.
    let back = sent_log.at_most_by(ready);
    assert_eq!(missing.range(back + 1..).next(), None, "ready at {back}");
    let in_memory_max = sent_at_kill - first.store("flows_stored");
    let in_memory = missing.range(..=sent_at_kill).count() as u64;
    assert!(
        in_memory <= in_memory_max,
        "{in_memory} of at most {in_memory_max}"
    );
    // That again are the rings, the open batches, and what was on its way to ClickHouse.
    let undecoded_max = sent_at_kill - first.counter("flows_decoded");
    assert_eq!(
        in_memory_max,
        undecoded_max + first.flows_under_way(),
        "\n{}",
        first.table()
    );
    [first, second].iter().for_each(assert_nothing_lost);
    // What is sealed is on the disk, and outlasts it.
    let age = age(missing.first(), &sent_log, killed[0])?;
    assert!(
        age < AGE_MAX,
        "the oldest in memory was sent {age:?} before"
    );
    // Whoever was dead cannot know what it had received; it must not call that lost.
    assert!(gaps <= missing.len() as u64, "{gaps} called missing");
    println!(
        "of {} flows {} are missing: {in_memory} in memory at the kill, of at most \
         {in_memory_max}, {undecoded_max} of them not yet decoded, the oldest sent {age:?} before; \
         {while_dead} while it was dead for {} ms; the rest until it was ready {} ms later; the \
         host was silent for {silent:?} at most",
        sent.flows,
        missing.len(),
        (restarted - killed[1]) / 1_000_000,
        (ready - restarted) / 1_000_000,
    );
    Ok(())
}

/// How long before `then` a flow was sent.
fn age(number: Option<&u64>, sent_log: &SentLog, then: u128) -> Result<Duration> {
    let sent = number.and_then(|number| sent_log.when(*number));
    let sent = sent.context("there is one, and it was sent")?;
    Ok(Duration::from_nanos_u128(then.saturating_sub(sent)))
}

/// Neither the collector nor the kernel dropped anything.
fn assert_nothing_lost(ledger: &Ledger) {
    assert_eq!(ledger.losses(), []);
    assert_eq!(ledger.counter("datagrams_dropped_by_kernel"), 0);
}

/// What sequence numbers say is missing, all exporters together.
fn gaps(collector: &Collector) -> Result<u64> {
    let status = collector.status()?;
    let exporters = status.at("/exporters").and_then(Value::as_array);
    let exporters = exporters.context("/status tells the exporters")?;
    let lost = exporters.iter().map(|exporter| {
        let lost = exporter.pointer("/sequence/lost").and_then(Value::as_u64);
        lost.context("/status tells what is lost of each")
    });
    lost.sum()
}

/// Waits until nothing arrives any more and everything is stored.
fn wait_until_idle(collector: &Collector) -> Result<Ledger> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = 0;
    loop {
        let ledger = collector.status()?.ledger();
        let arrived = ledger.datagrams_arrived();
        if arrived == before && ledger.flows_under_way() == 0 {
            assert_eq!(ledger.unaccounted(), 0, "\n{}", ledger.table());
            return Ok(ledger);
        }
        ensure!(
            Instant::now() < deadline,
            "flows are still under way\n{}",
            ledger.table()
        );
        before = arrived;
        thread::sleep(Duration::from_secs(1));
    }
}
