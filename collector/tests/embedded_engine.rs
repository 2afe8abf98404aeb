//! The embedded ClickHouse, for real: needs `libchdb.so`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flowsluice::config::Store;
use flowsluice::store::Endpoint;
use flowsluice::store::embedded::{self, Engine};

const BINARY: &str = env!("CARGO_BIN_EXE_flowsluice");

/// The library, or nothing where there is none: then the test is skipped, which CI forbids.
fn library() -> Option<PathBuf> {
    let named = std::env::var_os("FLOWSLUICE_LIBCHDB").map(PathBuf::from);
    let target = Path::new(BINARY).ancestors().nth(2).unwrap();
    let library = named.unwrap_or_else(|| target.join("engine/libchdb.so"));
    if library.is_file() {
        return Some(library);
    }
    let missing = format!(
        "{} is missing; fetch it with 'cargo xtask engine' or set FLOWSLUICE_LIBCHDB",
        library.display()
    );
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

fn config(library: PathBuf, folder: &Path) -> Store {
    let mut config = Store::default();
    config.embedded.library = Some(library);
    config.embedded.data_dir = folder.join("data");
    config.embedded.http = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

fn started(config: &Store) -> Engine {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let _ = log.with_test_writer().try_init();
    let engine = Engine::start_with(config, Path::new(BINARY)).unwrap();
    assert!(
        engine.wait_ready(Duration::from_secs(20)),
        "it never answered"
    );
    engine
}

/// Status and body of one HTTP request.
fn http(url: &str, target: &str, headers: &[&str], sql: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut request = format!(
        "POST {target} HTTP/1.0\r\nContent-Length: {}\r\n",
        sql.len()
    );
    for header in headers {
        request += &format!("{header}\r\n");
    }
    stream
        .write_all(format!("{request}\r\n{sql}").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn ask(endpoint: &Endpoint, sql: &str) -> (u16, String) {
    let user = format!("X-ClickHouse-User: {}", endpoint.user);
    let key = format!("X-ClickHouse-Key: {}", endpoint.password.reveal());
    http(&endpoint.url, "/", &[&user, &key], sql)
}

#[track_caller]
fn run(endpoint: &Endpoint, sql: &str) -> String {
    let (status, body) = ask(endpoint, sql);
    assert_eq!(status, 200, "{sql}: {body}");
    body
}

#[track_caller]
fn refused(endpoint: &Endpoint, sql: &str) {
    let (status, body) = ask(endpoint, sql);
    assert_ne!(status, 200, "{sql} was allowed: {body}");
    assert!(
        ["ACCESS_DENIED", "READONLY", "SETTING_CONSTRAINT"]
            .iter()
            .any(|reason| body.contains(reason)),
        "{sql} failed for another reason: {body}"
    );
}

fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{user}:{password}");
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(bytes);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            let padding = digit > chunk.len();
            encoded.push(if padding {
                '='
            } else {
                char::from(DIGITS[value])
            });
        }
    }
    format!("Authorization: Basic {encoded}")
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

const TABLES: [&str; 4] = [
    "CREATE DATABASE IF NOT EXISTS flowsluice",
    "CREATE TABLE flowsluice.flows (time DateTime, bytes UInt64 CODEC(Delta, ZSTD)) \
     ENGINE = MergeTree PARTITION BY toYYYYMMDD(time) ORDER BY time TTL time + INTERVAL 30 DAY",
    "CREATE TABLE flowsluice.by_minute (minute DateTime, bytes UInt64) \
     ENGINE = SummingMergeTree ORDER BY minute",
    "CREATE MATERIALIZED VIEW flowsluice.to_minute TO flowsluice.by_minute AS \
     SELECT toStartOfMinute(time) AS minute, sum(bytes) AS bytes FROM flowsluice.flows \
     GROUP BY minute",
];

#[test]
fn writer_migrates_and_inserts_and_reader_reads() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let (writer, reader) = (engine.endpoint(), engine.reader());
    for sql in TABLES {
        run(&writer, sql);
    }
    run(
        &writer,
        "ALTER TABLE flowsluice.flows ADD COLUMN packets UInt64",
    );
    run(
        &writer,
        "ALTER TABLE flowsluice.flows MODIFY TTL time + INTERVAL 1 DAY \
         SETTINGS materialize_ttl_after_modify = 0",
    );
    run(
        &writer,
        "INSERT INTO flowsluice.flows SELECT now(), number, 1 FROM numbers(1000)",
    );
    run(
        &writer,
        "CREATE VIEW flowsluice.v AS SELECT * FROM flowsluice.flows",
    );
    run(
        &writer,
        "CREATE DICTIONARY flowsluice.d (minute DateTime, bytes UInt64) PRIMARY KEY minute \
         SOURCE(CLICKHOUSE(TABLE 'by_minute' DB 'flowsluice')) LAYOUT(HASHED()) LIFETIME(60)",
    );
    assert_eq!(
        run(&reader, "SELECT sum(bytes) FROM flowsluice.flows"),
        "499500\n"
    );
    assert_eq!(
        run(&reader, "SELECT sum(bytes) FROM flowsluice.by_minute"),
        "499500\n"
    );
    assert_eq!(
        run(&reader, "SELECT sum(packets) FROM flowsluice.v"),
        "1000\n"
    );
    let parts = "SELECT count() > 0 FROM system.parts WHERE active AND table = 'flows'";
    assert_eq!(run(&reader, parts), "1\n");
    // What Grafana's data source and other clients send along.
    let limited = "SELECT 1 SETTINGS max_execution_time = 30, max_result_rows = 100";
    assert_eq!(run(&reader, limited), "1\n");
    run(
        &reader,
        "SELECT name FROM system.tables WHERE database = 'flowsluice'",
    );
    run(&reader, "SELECT version(), timezone()");
    engine.stop();
}

#[test]
fn clickhouse_crate_speaks_to_it() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let client = |endpoint: Endpoint| {
        clickhouse::Client::default()
            .with_url(endpoint.url)
            .with_user(endpoint.user)
            .with_password(endpoint.password.reveal())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let writer = client(engine.endpoint());
        for sql in TABLES {
            writer.query(sql).execute().await.unwrap();
        }
        let insert = "INSERT INTO flowsluice.flows (time, bytes) VALUES (now(), 7)";
        writer.query(insert).execute().await.unwrap();
        let sum = "SELECT sum(bytes) FROM flowsluice.flows";
        let sum: u64 = client(engine.reader())
            .query(sum)
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(sum, 7);
    });
}

#[test]
fn passwordless_user_is_refused_in_every_way() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let pid = engine.pid();
    let Endpoint { url, password, .. } = engine.reader();
    let password = password.reveal();
    let ours = "X-ClickHouse-User: reader";
    let key = format!("X-ClickHouse-Key: {password}");
    let theirs = "X-ClickHouse-User: default";
    let query = format!("/?user=reader&password={password}&user=default");
    let hidden = format!("/?%75ser=default&user=reader&password={password}");
    let (as_default, as_reader) = (basic("default", ""), basic("reader", password));
    let attempts: &[(&str, &[&str])] = &[
        ("/", &[]),
        ("/?query=SELECT+1", &[]),
        ("/?user=default", &[]),
        (&query, &[]),
        (&hidden, &[]),
        ("/", &[theirs]),
        ("/", &["X-ClickHouse-User:"]),
        ("/", &[theirs, "X-ClickHouse-Key:"]),
        ("/", &[&as_default]),
        ("/", &["Authorization: Basic Og=="]),
        ("/", &["Authorization: Bearer cmVhZGVyOg=="]),
        // Ours to pass the handlers, the other to be taken for the user.
        ("/?user=default", &[ours]),
        ("/?user=default", &[&as_reader]),
        ("/", &[ours, theirs]),
        ("/", &[theirs, ours]),
        ("/", &[theirs, &as_reader]),
        ("/", &[ours, &as_default]),
        ("/?user=default&session_id=1", &[&as_reader]),
        ("/?user=default&max_sessions_for_user=0", &[&as_reader]),
        ("/?user=default&profile=reader", &[&as_reader]),
        ("/?user=default&password=", &[&as_reader]),
        ("/play", &[]),
        ("/dashboard", &[]),
        ("/replicas_status", &[]),
    ];
    for (target, headers) in attempts {
        let (status, body) = http(&url, target, headers, "SELECT currentUser()");
        let refused = matches!(status, 401 | 403 | 404)
            || (status == 500 && body.contains("USER_SESSION_LIMIT_EXCEEDED"));
        assert!(refused, "{target} {headers:?}: {status} {body}");
    }
    // The honest ways.
    for headers in [&[ours, key.as_str()][..], &[as_reader.as_str()]] {
        let (status, body) = http(&url, "/", headers, "SELECT currentUser()");
        assert_eq!((status, body.as_str()), (200, "reader\n"), "{headers:?}");
    }
    let (status, _) = http(&url, "/ping", &[], "");
    assert_eq!(status, 200);
    assert_eq!(engine.pid(), pid, "an attempt killed it");
}

/// Logs in over the native protocol as of an old client and runs `sql`; the raw answer.
fn native(address: SocketAddr, user: &str, password: &str, sql: &str) -> Vec<u8> {
    fn string(out: &mut Vec<u8>, text: &str) {
        out.push(u8::try_from(text.len()).unwrap());
        out.extend(text.as_bytes());
    }
    const REVISION: [u8; 3] = [0xf0, 0xa5, 0x03]; // 54000: before client info was sent
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut hello = vec![0];
    string(&mut hello, "test");
    hello.extend([1, 1]);
    hello.extend(REVISION);
    for text in ["", user, password] {
        string(&mut hello, text);
    }
    stream.write_all(&hello).unwrap();
    let mut answer = vec![0; 65_536];
    let read = stream.read(&mut answer).unwrap();
    if answer[0] != 0 {
        return answer[..read].to_vec();
    }
    let mut query = vec![1, 0, 0, 2, 0];
    string(&mut query, sql);
    query.extend([2, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
    stream.write_all(&query).unwrap();
    let mut all = Vec::new();
    // 5 is the end of the answer, 2 an exception.
    while all.last() != Some(&5) && all.first() != Some(&2) {
        let read = stream.read(&mut answer).unwrap_or(0);
        if read == 0 {
            break;
        }
        all.extend(&answer[..read]);
    }
    all
}

#[test]
fn native_listener_lets_the_passwordless_user_do_nothing() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut config = config(library, home.path());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = free.local_addr().unwrap();
    drop(free);
    config.embedded.tcp = Some(tcp);
    let engine = started(&config);
    let pid = engine.pid();
    assert!(within(Duration::from_secs(5), || TcpStream::connect(tcp).is_ok()));
    let reader = engine.reader();
    let works = native(tcp, "reader", reader.password.reveal(), "SELECT 1");
    assert_ne!(works[0], 2, "{}", String::from_utf8_lossy(&works));
    for sql in TABLES {
        run(&engine.endpoint(), sql);
    }
    for sql in [
        "SELECT number FROM system.numbers LIMIT 1",
        "SYSTEM STOP LISTEN HTTP",
        "SYSTEM STOP LISTEN TCP",
        "KILL QUERY WHERE 1",
        "SELECT * FROM flowsluice.flows",
        "SELECT * FROM file('/etc/passwd')",
        "SET max_memory_usage = 0",
        "SHOW TABLES FROM flowsluice",
        "CREATE TEMPORARY TABLE t (a UInt8)",
    ] {
        let answer = native(tcp, "default", "", sql);
        let text = String::from_utf8_lossy(&answer);
        assert_eq!(answer.first(), Some(&2), "{sql} was allowed: {text}");
    }
    assert_eq!(run(&reader, "SELECT 1"), "1\n");
    assert_eq!(engine.pid(), pid, "an attempt killed it");
}

#[test]
fn reader_cannot_write_nor_leave_the_database_nor_raise_its_limits() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let (writer, reader) = (engine.endpoint(), engine.reader());
    for sql in TABLES {
        run(&writer, sql);
    }
    for sql in [
        "INSERT INTO flowsluice.flows (bytes) VALUES (1)",
        "CREATE TABLE flowsluice.mine (a UInt8) ENGINE = Memory",
        "DROP TABLE flowsluice.flows",
        "ALTER TABLE flowsluice.flows DELETE WHERE 1",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/a', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM executable('id', 'LineAsString', 'a String')",
        "INSERT INTO FUNCTION file('/tmp/x', 'LineAsString') SELECT 'x'",
        "SELECT * FROM system.users",
        "SYSTEM STOP LISTEN HTTP",
        "SYSTEM SHUTDOWN",
        "KILL QUERY WHERE user = '' SYNC",
        "SELECT 1 SETTINGS max_execution_time = 3600",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS max_memory_usage_for_user = 0",
        "SELECT 1 SETTINGS readonly = 0",
    ] {
        refused(&reader, sql);
    }
    // The profile of another user must not lift a limit either.
    let target = "/?profile=writer&max_memory_usage=0";
    let headers = [basic("reader", reader.password.reveal())];
    let (status, body) = http(&reader.url, target, &[&headers[0]], "SELECT 1");
    assert_ne!(status, 200, "{body}");
    let (status, body) = http(
        &reader.url,
        "/?profile=writer",
        &[&headers[0]],
        "SELECT getSetting('max_memory_usage') > 0",
    );
    assert!(status != 200 || body == "1\n", "{status} {body}");
}

#[test]
fn writer_cannot_leave_the_database() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let writer = engine.endpoint();
    run(&writer, "CREATE DATABASE flowsluice");
    for sql in [
        "CREATE DATABASE other",
        "CREATE TABLE flowsluice.t (a String) ENGINE = File(LineAsString)",
        "CREATE TABLE flowsluice.t (a String) ENGINE = URL('http://127.0.0.1:1/', LineAsString)",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SYSTEM SHUTDOWN",
        "GRANT SELECT ON *.* TO reader",
        "CREATE USER somebody",
    ] {
        refused(&writer, sql);
    }
}

#[test]
fn killed_child_comes_back_on_the_same_port_with_its_data() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let writer = engine.endpoint();
    for sql in TABLES {
        run(&writer, sql);
    }
    run(
        &writer,
        "INSERT INTO flowsluice.flows SELECT now(), 1 FROM numbers(10)",
    );
    let first = engine.pid().unwrap();
    kill(first);
    assert!(within(Duration::from_secs(5), || !engine.is_ready()));
    assert!(engine.wait_ready(Duration::from_secs(30)));
    assert_eq!(engine.restarts(), 1);
    assert_ne!(engine.pid(), Some(first));
    assert_eq!(engine.endpoint().url, writer.url);
    assert_eq!(
        run(&writer, "SELECT sum(bytes) FROM flowsluice.flows"),
        "10\n"
    );
}

#[test]
fn stopped_engine_leaves_no_process_and_starts_again_with_its_data_and_passwords() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let engine = started(&config);
    let reader = engine.reader();
    for sql in TABLES {
        run(&engine.endpoint(), sql);
    }
    run(
        &engine.endpoint(),
        "INSERT INTO flowsluice.flows SELECT now(), 5",
    );
    let pid = engine.pid().unwrap();
    engine.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let engine = started(&config);
    assert_eq!(engine.reader().password, reader.password);
    let sum = "SELECT sum(bytes) FROM flowsluice.flows";
    assert_eq!(run(&engine.reader(), sum), "5\n");
}

#[test]
fn stopping_is_quick_while_a_client_asks_and_another_one_keeps_its_connection() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let engine = started(&config(library, home.path()));
    let writer = engine.endpoint();
    let mut idle = TcpStream::connect(writer.url.strip_prefix("http://").unwrap()).unwrap();
    idle.write_all(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let asking = std::thread::spawn(move || {
        let endless = "SELECT count() FROM system.numbers WHERE NOT ignore(number)";
        ask(&writer, endless).0
    });
    let running = "SELECT count() FROM system.processes WHERE user = 'writer'";
    assert!(within(Duration::from_secs(10), || run(
        &engine.reader(),
        running
    ) != "0\n"));
    let pid = engine.pid().unwrap();
    let began = Instant::now();
    engine.stop();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_ne!(asking.join().unwrap(), 200);
}

#[test]
fn engine_is_found_by_another_process_only_while_it_runs() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = config(library, home.path());
    let nothing = embedded::running(&config).unwrap_err().to_string();
    assert!(nothing.contains("no embedded ClickHouse runs"), "{nothing}");
    let engine = started(&config);
    let found = embedded::running(&config).unwrap();
    assert_eq!(
        (found.url.as_str(), found.user.as_str()),
        (engine.reader().url.as_str(), "reader")
    );
    assert_eq!(run(&found, "SELECT currentUser()"), "reader\n");
    engine.stop();
    let nothing = embedded::running(&config).unwrap_err().to_string();
    assert!(nothing.contains("no embedded ClickHouse runs"), "{nothing}");
}

#[test]
fn second_engine_in_the_same_folder_and_taken_port_are_refused_with_a_remedy() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut config = config(library, home.path());
    let engine = started(&config);
    let refused = |config: &Store| {
        let error = Engine::start_with(config, Path::new(BINARY)).unwrap_err();
        format!("{error:#}")
    };
    let error = refused(&config);
    assert!(error.contains("store.embedded.data_dir"), "{error}");
    assert!(error.contains("in use by another collector"), "{error}");
    config.embedded.data_dir = home.path().join("other");
    let url = engine.endpoint().url;
    config.embedded.http = url.strip_prefix("http://").unwrap().parse().unwrap();
    let error = refused(&config);
    assert!(error.contains("is taken by another program"), "{error}");
    assert!(error.contains(&config.embedded.http.to_string()), "{error}");
    assert!(engine.is_ready());
}

/// Another process that holds an engine; this test binary itself, see [`holds_an_engine`].
struct Holder {
    process: Child,
    engine: u32,
}

impl Holder {
    fn start(library: &Path, folder: &Path) -> Self {
        let noted = folder.join("pid");
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holds_an_engine", "--ignored"])
            .env("HOLD_ENGINE_IN", folder)
            .env("FLOWSLUICE_LIBCHDB", library)
            .env("FLOWSLUICE_STORE_PASSWORD", "secret")
            .env("NOTIFY_SOCKET", "/run/systemd/notify")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = None;
        let read = within(Duration::from_secs(60), || {
            let text = std::fs::read_to_string(&noted).unwrap_or_default();
            engine = text.strip_suffix('\n').map(|pid| pid.parse().unwrap());
            engine.is_some()
        });
        assert!(read, "the other process did not start its engine");
        Self {
            process,
            engine: engine.unwrap(),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test: what [`Holder`] runs.
#[test]
#[ignore = "the other process of other tests"]
fn holds_an_engine() {
    let Some(folder) = std::env::var_os("HOLD_ENGINE_IN").map(PathBuf::from) else {
        return;
    };
    core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    let engine = started(&config(library().unwrap(), &folder));
    let noted = format!("{}\n", engine.pid().unwrap());
    std::fs::write(folder.join("pid"), noted).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn child_does_not_outlive_a_killed_parent() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut holder = Holder::start(&library, home.path());
    assert!(is_alive(holder.engine));
    holder.process.kill().unwrap();
    holder.process.wait().unwrap();
    assert!(within(Duration::from_secs(2), || !is_alive(holder.engine)));
    // A collector that is started again at once gets the folder.
    let engine = started(&config(library, home.path()));
    engine.stop();
}

const ENDLESS: &str = "--query=SELECT sleepEachRow(1) FROM system.numbers \
                       SETTINGS max_block_size = 1 FORMAT Null";

#[test]
fn engine_child_ends_when_its_standard_input_does() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(BINARY)
        .args(["engine", "--library"])
        .arg(library)
        .args(["--", ENDLESS])
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    drop(child.stdin.take());
    let mut status = None;
    let ended = within(Duration::from_secs(2), || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let _ = child.kill();
    assert!(ended);
    assert_eq!(status.unwrap().code(), Some(3));
}

#[test]
fn child_inherits_neither_cpus_nor_environment_nor_privileges_nor_group() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let holder = Holder::start(&library, home.path());
    let of = |pid: u32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let text = |pid, file: &str| String::from_utf8_lossy(&of(pid, file)).into_owned();
    let field = |pid, name: &str| {
        let status = text(pid, "status");
        let mut lines = status.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let cpus = field(std::process::id(), "Cpus_allowed_list:");
    assert_eq!(field(holder.engine, "Cpus_allowed_list:"), cpus);
    assert_eq!(field(holder.engine, "NoNewPrivs:").as_deref(), Some("1"));
    assert_eq!(
        field(holder.engine, "CapAmb:").as_deref(),
        Some("0000000000000000")
    );
    assert_eq!(text(holder.engine, "oom_score_adj").trim(), "300");
    let environment = text(holder.engine, "environ");
    assert!(environment.contains("TZ=UTC"));
    for name in ["NOTIFY_SOCKET", "FLOWSLUICE_STORE_PASSWORD"] {
        assert!(!environment.contains(name), "{name} is inherited");
    }
    // Field 5 of stat(5), behind the name in parentheses, is the process group.
    let stat = text(holder.engine, "stat");
    let group = stat.rsplit(')').next().unwrap().split(' ').nth(3);
    assert_eq!(group, Some(holder.engine.to_string().as_str()));
}

#[test]
fn child_inherits_no_socket_even_when_it_lacks_cloexec() {
    use std::os::fd::AsFd;
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&socket.as_fd())
        .set_cloexec(false)
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    let engine = started(&config(library, home.path()));
    drop(socket);
    let bound = TcpListener::bind(("127.0.0.1", port));
    assert!(bound.is_ok(), "the child still holds the socket");
    drop(engine);
}

#[test]
fn child_that_cannot_start_is_tried_again_and_stopping_does_not_hang() {
    let Some(_) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let fake = home.path().join("libchdb.so");
    std::fs::write(&fake, "not a library").unwrap();
    let engine = Engine::start_with(&config(fake, home.path()), Path::new(BINARY)).unwrap();
    assert!(within(Duration::from_secs(10), || engine.restarts() >= 2));
    assert!(!engine.is_ready());
    let began = Instant::now();
    engine.stop();
    assert!(began.elapsed() < Duration::from_secs(3));
}
