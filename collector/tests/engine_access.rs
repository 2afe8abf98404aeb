//! Who may do what in the embedded ClickHouse.

mod engine;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use engine::{START_MAX, TABLES, ask, config, http, library, run, started, within};
use flowsluice::store::Endpoint;

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
    assert!(within(START_MAX, || TcpStream::connect(tcp).is_ok()));
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
