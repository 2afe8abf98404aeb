//! Names by reverse DNS from a real server (dnsmasq), and by the dictionary in a real ClickHouse.

mod engine;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{config as engine_config, library, run, started, within};
use flowsluice::config::{self, DnsNames};
use flowsluice::enrich::dns::{Asker, Dns, DnsCounts};
use flowsluice::flow::Address;
use flowsluice::ledger::{Ledger, LedgerSnapshot};
use flowsluice::store::{Attempt, Block, ClickHouse, Insert, SideBatch, SideTable, Store, Taken};
use flowsluice_tests::process::{Signal, pause};
use flowsluice_tests::{NameServer, place};
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(60);

/// Names 10.0.0.0/8 and fd00::/8, where nobody else has names, and refuses everything else.
const ZONES: &str = "\
local=/10.in-addr.arpa/
local=/d.f.ip6.arpa/
ptr-record=1.0.0.10.in-addr.arpa,router1.example
ptr-record=1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa,six.example
";

/// A server that answers for `hosts` names 10.1.x.y as well.
fn server_for(hosts: u32) -> Option<NameServer> {
    NameServer::start_or_skip(&zones(hosts, "example")).unwrap()
}

fn zones(hosts: u32, domain: &str) -> String {
    let records = (0..hosts).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        format!("ptr-record={low}.{high}.1.10.in-addr.arpa,host{number}.{domain}\n")
    });
    ZONES.to_owned() + &records.collect::<String>()
}

/// Keeps what is stored of `hosts`, a line a row.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<String>>);

impl Insert for Kept {
    fn prepare(&self) -> Attempt<'_> {
        Box::pin(async { Ok(()) })
    }

    fn insert<'a>(&'a self, _: &'a Block) -> Attempt<'a, Taken> {
        Box::pin(async { Ok(Taken::Stored) })
    }

    fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken> {
        assert_eq!(batch.table, SideTable::Hosts);
        self.0
            .lock()
            .unwrap()
            .push_str(std::str::from_utf8(&batch.lines).unwrap());
        Box::pin(async { Ok(Taken::Stored) })
    }
}

/// Somebody who wants names.
struct Rig {
    dns: Dns,
    asker: Asker,
    store: Option<Store>,
    kept: Kept,
    ledger: Ledger,
    runtime: Runtime,
}

impl Rig {
    fn new(config: &config::Dns) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (kept, ledger) = (Kept::default(), Ledger::new(1));
        let inside = runtime.enter();
        let (store, _) = Store::start_with(
            Box::new(kept.clone()),
            &config::Store::default(),
            Arc::clone(&ledger.store),
            1,
            &config::Batch::default(),
        );
        drop(inside);
        let dns = Dns::start(config, store.side_rows(), runtime.handle());
        Self {
            asker: dns.asker(),
            dns,
            store: Some(store),
            kept,
            ledger,
            runtime,
        }
    }

    fn names(&mut self, addresses: &[Address]) -> Vec<String> {
        let hosts = self.dns.snapshot();
        let mut ids = vec![0; addresses.len()];
        hosts.find_or_ask(addresses, &mut ids, &mut self.asker);
        ids.iter().map(|id| hosts.label(*id).to_owned()).collect()
    }

    fn name(&mut self, address: Address) -> String {
        self.names(&[address]).remove(0)
    }

    #[track_caller]
    fn wait_for(&mut self, address: Address, name: &str) {
        let is_there = within(LONG, || self.name(address) == name);
        assert!(is_there, "{address}: {:?}", self.counts());
    }

    #[track_caller]
    fn wait_until(&self, holds: impl Fn(&DnsCounts) -> bool) {
        assert!(
            within(LONG, || holds(&self.counts())),
            "{:?}",
            self.counts()
        );
    }

    fn counts(&self) -> DnsCounts {
        self.dns.counts()
    }

    /// Everything that was stored, after the end.
    fn stop(mut self) -> (String, LedgerSnapshot) {
        drop(self.dns);
        let store = self.store.take().unwrap();
        self.runtime.block_on(store.stop());
        let rows = self.kept.0.lock().unwrap().clone();
        (rows, self.ledger.snapshot())
    }
}

fn config(server: &NameServer) -> config::Dns {
    config::Dns {
        names: DnsNames::Both,
        servers: vec![server.address()],
        timeout: Duration::from_millis(300),
        ..config::Dns::default()
    }
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// The address of host `number` of [`server_for`].
fn host(number: u32) -> Address {
    let [.., high, low] = number.to_be_bytes();
    Address::from_v4([10, 1, high, low])
}

#[test]
fn names_of_both_kinds_of_addresses_are_found_and_stored() {
    let Some(server) = server_for(300) else {
        return;
    };
    let mut rig = Rig::new(&config(&server));
    let (four, six) = (address("10.0.0.1"), address("fd00::1"));
    let nameless = address("10.0.0.2");
    assert_eq!(rig.names(&[four, six, nameless]), ["", "", ""]);
    rig.wait_for(four, "router1.example");
    rig.wait_for(six, "six.example");
    rig.wait_until(|counts| counts.misses == 1);
    for number in 0..300 {
        rig.asker.ask(host(number));
    }
    rig.wait_until(|counts| counts.names == 302);
    rig.wait_for(host(299), "host299.example");
    assert_eq!(rig.name(nameless), "");
    let counts = rig.counts();
    assert_eq!((counts.queries, counts.hits, counts.misses), (303, 302, 1));
    assert_eq!((counts.nameless, counts.waiting, counts.servers), (1, 0, 1));
    assert_eq!(
        (counts.failures, counts.timeouts, counts.not_asked),
        (0, 0, 0)
    );
    let (rows, ledger) = rig.stop();
    assert_eq!(rows.lines().count(), 302);
    let row = rows.lines().find(|row| row.contains("fd00::1")).unwrap();
    assert!(
        row.contains("\"name\":\"six.example\",\"last_seen\":"),
        "{row}"
    );
    assert!(rows.contains("\"addr\":\"::ffff:10.0.0.1\",\"name\":\"router1.example\""));
    let side = &ledger.store.side[SideTable::Hosts as usize];
    assert_eq!((side.rows_offered, side.rows_stored), (302, 302));
}

#[test]
fn what_is_known_is_not_asked_again_and_what_is_refused_only_later() {
    let Some(server) = server_for(0) else {
        return;
    };
    let mut rig = Rig::new(&config(&server));
    let all = ["10.0.0.1", "10.0.0.2", "11.0.0.1"].map(address);
    rig.names(&all);
    rig.wait_until(|counts| counts.hits == 1 && counts.misses == 1 && counts.failures == 1);
    rig.wait_for(all[0], "router1.example");
    // Another worker, who has not asked yet.
    let mut other = rig.dns.asker();
    for _ in 0..10 {
        for address in all {
            other.ask(address);
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(rig.counts().queries, 3);
    assert_eq!(rig.counts().nameless, 2);
}

#[test]
fn a_name_in_use_stays_while_the_server_is_silent_and_changes_when_it_is_back() {
    let Some(mut server) = server_for(20) else {
        return;
    };
    let config = config::Dns {
        hit_lifetime: Duration::from_secs(2),
        ..config(&server)
    };
    let mut rig = Rig::new(&config);
    rig.wait_for(host(0), "host0.example");
    pause(server.process().pid()).unwrap();
    // Ten more questions are what shows that it is silent.
    for number in 1..11 {
        rig.asker.ask(host(number));
    }
    rig.wait_until(|counts| counts.servers_dead == 1);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(rig.name(host(0)), "host0.example");
        std::thread::sleep(Duration::from_millis(10));
    }
    let counts = rig.counts();
    assert!(counts.timeouts >= 8, "{counts:?}");
    // A silent server is not asked for what comes meanwhile.
    rig.asker.ask(host(15));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(rig.counts().queries, counts.queries);
    assert_eq!(rig.counts().waiting, 1);
    server.process().signal(Signal::CONT).unwrap();
    rig.wait_until(|counts| counts.servers_dead == 0);
    rig.wait_for(host(15), "host15.example");
    server.serve(&zones(20, "renamed")).unwrap();
    rig.wait_for(host(15), "host15.renamed");
}

/// A server with faults that a sane one cannot be made to have: a name full of control characters,
/// and, once told so, SERVFAIL for everything. Yields where it is.
fn faulty(is_failing: &Arc<AtomicBool>) -> std::net::SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let is_failing = Arc::clone(is_failing);
    // Ends with the test's process.
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..len];
            // The name, its end, type and class; not what EDNS adds.
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let failing = is_failing.load(Ordering::Relaxed);
            let (code, answers) = if failing { (0x82, 0) } else { (0x80, 1) };
            let mut answer = buffer[..2].to_vec();
            answer.extend([0x81, code, 0, 1, 0, answers, 0, 0, 0, 0]);
            answer.extend(&question[..end]);
            if !failing {
                let name = b"\x07a\t\n\x1b[2J\x05\xff\xc3\x28.\0\x07example\0";
                answer.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, name.len() as u8]);
                answer.extend(name);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    at
}

#[test]
fn a_hostile_name_is_harmless_and_outlives_servfail() {
    let is_failing = Arc::new(AtomicBool::new(false));
    let at = faulty(&is_failing);
    let mut rig = Rig::new(&config::Dns {
        names: DnsNames::Endpoints,
        servers: vec![at.to_string()],
        hit_lifetime: Duration::from_secs(1),
        timeout: Duration::from_millis(300),
        ..config::Dns::default()
    });
    let address = address("10.0.0.1");
    assert!(
        within(LONG, || !rig.name(address).is_empty()),
        "{:?}",
        rig.counts()
    );
    let name = rig.name(address);
    assert!(
        name.starts_with('a') && name.ends_with(".example"),
        "{name:?}"
    );
    assert!(!name.contains(char::is_control), "{name:?}");
    is_failing.store(true, Ordering::Relaxed);
    while rig.counts().failures < 3 {
        assert_eq!(rig.name(address), name);
        std::thread::sleep(Duration::from_millis(5));
    }
    // SERVFAIL is an answer: the server lives.
    assert_eq!(rig.counts().servers_dead, 0);
    let (rows, _) = rig.stop();
    assert!(rows.lines().count() >= 1 && !rows.contains("\\t"), "{rows}");
}

#[test]
fn a_name_that_nobody_uses_is_forgotten() {
    let Some(server) = server_for(2) else {
        return;
    };
    let config = config::Dns {
        hit_lifetime: Duration::from_secs(1),
        ..config(&server)
    };
    let mut rig = Rig::new(&config);
    rig.asker.ask(host(1));
    rig.wait_until(|counts| counts.names == 1);
    rig.wait_until(|counts| counts.names == 0);
    assert_eq!(rig.counts().queries, 1);
}

#[test]
fn another_server_is_asked_when_the_first_does_not_know_or_is_not_there() {
    let Some(server) = server_for(40) else {
        return;
    };
    let nobody = place::free_udp_port().unwrap();
    let config = config::Dns {
        servers: vec![
            format!("127.0.0.1:{nobody}"),
            config(&server).servers.remove(0),
        ],
        ..config(&server)
    };
    let mut rig = Rig::new(&config);
    rig.wait_for(host(0), "host0.example");
    for number in 1..40 {
        rig.asker.ask(host(number));
    }
    rig.wait_until(|counts| counts.names == 40 && counts.servers_dead == 1);
    let before = rig.counts();
    assert_eq!(
        before.failures + before.timeouts + before.hits,
        before.queries
    );
    // The dead one holds up nobody any more.
    rig.wait_for(address("10.0.0.1"), "router1.example");
    assert_eq!(rig.counts().queries, before.queries + 1);
}

#[test]
fn caches_queues_and_rate_keep_their_bounds() {
    let Some(server) = server_for(1000) else {
        return;
    };
    let config = config::Dns {
        hits_max: 50,
        misses_max: 30,
        rate_max: 200,
        queries_max: 4,
        ..config(&server)
    };
    let mut rig = Rig::new(&config);
    let begun = Instant::now();
    let mut longest = 0;
    for number in 0..60_000_u32 {
        rig.asker.ask(Address::from_v4(
            (0x0a01_0000 + number % 60_000).to_be_bytes(),
        ));
        longest = longest.max(rig.counts().under_way);
    }
    // Nobody waited for the 5 minutes that this many questions take.
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    rig.wait_until(|counts| counts.queries >= 600);
    let (counts, passed) = (rig.counts(), begun.elapsed());
    assert!(
        counts.queries as f64 <= 200.0 * passed.as_secs_f64() + 21.0,
        "{counts:?} {passed:?}"
    );
    assert!(counts.names <= 50 && counts.nameless <= 30, "{counts:?}");
    assert!(counts.evicted > 0 && longest <= 4, "{counts:?}");
    assert!(counts.not_asked > 30_000, "{counts:?}");
    // Those that found no room, and those that did.
    assert!(counts.waiting <= 16_384 + 1, "{counts:?}");
}

#[test]
fn without_names_to_ask_for_nobody_is_asked() {
    let Some(server) = server_for(1) else {
        return;
    };
    let config = config::Dns {
        names: DnsNames::None,
        ..config(&server)
    };
    let mut rig = Rig::new(&config);
    rig.name(host(0));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(rig.counts(), DnsCounts::default());
    assert!(!rig.dns.has_endpoints() && !rig.dns.has_exporters());
}

#[test]
fn exporters_do_not_stand_behind_addresses_of_flows() {
    let Some(server) = server_for(1) else {
        return;
    };
    let config = config::Dns {
        rate_max: 20,
        ..config(&server)
    };
    let mut rig = Rig::new(&config);
    for number in 0..20_000_u32 {
        rig.asker
            .ask(Address::from_v4((0x0a02_0000 + number).to_be_bytes()));
    }
    rig.asker.ask_exporter(address("10.0.0.1"));
    rig.wait_for(address("10.0.0.1"), "router1.example");
    // 16 minutes of others wait.
    assert!(rig.counts().queries < 500, "{:?}", rig.counts());
}

#[test]
fn the_dictionary_answers_whoever_may_read_and_shows_no_password() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = engine_config(library, home.path());
    let engine = started(&config);
    let (writer, reader) = (engine.endpoint(), engine.reader());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clickhouse = ClickHouse::new(&writer, &config);
    // As at a second start.
    for _ in 0..2 {
        runtime.block_on(clickhouse.prepare()).unwrap();
    }
    run(
        &writer,
        "INSERT INTO flowsluice.hosts VALUES ('::ffff:10.0.0.1', 'old.example', now() - 60), \
         ('fd00::1', 'six.example', now()), ('fd00::2', 'forgotten.example', now() - 864000)",
    );
    run(
        &writer,
        "INSERT INTO flowsluice.hosts VALUES ('::ffff:10.0.0.1', 'new.example', now())",
    );
    run(&writer, "SYSTEM RELOAD DICTIONARY flowsluice.host_names");
    let names = "SELECT dictGet('flowsluice.host_names', 'name', tuple(toIPv6(a))) \
                 FROM (SELECT arrayJoin(['10.0.0.1', 'fd00::1', 'fd00::2', '10.0.0.9']) AS a)";
    assert_eq!(run(&reader, names), "new.example\nsix.example\n\n\n");
    // As a table, too.
    let joined = "SELECT name FROM flowsluice.host_names WHERE addr = toIPv6('fd00::1')";
    assert_eq!(run(&reader, joined), "six.example\n");
    let password = writer.password.reveal();
    for sql in [
        "SHOW CREATE DICTIONARY flowsluice.host_names",
        "SELECT create_table_query FROM system.tables WHERE database = 'flowsluice'",
        "SELECT create_table_query FROM system.tables WHERE database = 'flowsluice' \
         SETTINGS format_display_secrets_in_show_and_select = 1",
        "SELECT * FROM system.dictionaries",
        "SELECT query FROM system.processes",
    ] {
        for user in [&writer, &reader] {
            let (_, answer) = engine::ask(user, sql);
            assert!(!answer.contains(password), "{sql}: {answer}");
        }
    }
    engine.stop();
    let log = std::fs::read_to_string(home.path().join("data/engine/clickhouse.log"));
    assert!(!log.unwrap_or_default().contains(password));
}
