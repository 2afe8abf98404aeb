//! The embedded ClickHouse, for real: needs `libchdb.so`.
#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flowsluice::config::Store;
use flowsluice::store::Endpoint;
use flowsluice::store::embedded::Engine;

/// The program that becomes ClickHouse.
pub const BINARY: &str = env!("CARGO_BIN_EXE_flowsluice");

/// Tables as a migration makes them.
pub const TABLES: [&str; 4] = [
    "CREATE DATABASE IF NOT EXISTS flowsluice",
    "CREATE TABLE flowsluice.flows (time DateTime, bytes UInt64 CODEC(Delta, ZSTD)) \
     ENGINE = MergeTree PARTITION BY toYYYYMMDD(time) ORDER BY time TTL time + INTERVAL 30 DAY",
    "CREATE TABLE flowsluice.by_minute (minute DateTime, bytes UInt64) \
     ENGINE = SummingMergeTree ORDER BY minute",
    "CREATE MATERIALIZED VIEW flowsluice.to_minute TO flowsluice.by_minute AS \
     SELECT toStartOfMinute(time) AS minute, sum(bytes) AS bytes FROM flowsluice.flows \
     GROUP BY minute",
];

/// The library, or nothing where there is none: then the test is skipped, which CI forbids.
pub fn library() -> Option<PathBuf> {
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

pub fn config(library: PathBuf, folder: &Path) -> Store {
    let mut config = Store::default();
    config.embedded.library = Some(library);
    config.embedded.data_dir = folder.join("data");
    config.embedded.http = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

/// Longest wait for an engine's first answer. The library is half a gigabyte: where the disk is
/// slow, nothing of it is in memory yet and five tests start engines at once, 20 s were too short.
pub const START_MAX: Duration = Duration::from_secs(120);

pub fn started(config: &Store) -> Engine {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let _ = log.with_test_writer().try_init();
    let engine = Engine::start_with(config, Path::new(BINARY)).unwrap();
    assert!(engine.wait_ready(START_MAX), "it never answered");
    engine
}

/// Status and body of one HTTP request.
pub fn http(url: &str, target: &str, headers: &[&str], sql: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
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

pub fn ask(endpoint: &Endpoint, sql: &str) -> (u16, String) {
    let user = format!("X-ClickHouse-User: {}", endpoint.user);
    let key = format!("X-ClickHouse-Key: {}", endpoint.password.reveal());
    http(&endpoint.url, "/", &[&user, &key], sql)
}

#[track_caller]
pub fn run(endpoint: &Endpoint, sql: &str) -> String {
    let (status, body) = ask(endpoint, sql);
    assert_eq!(status, 200, "{sql}: {body}");
    body
}

pub fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
